//! VLANs on real interfaces, as a second pair of eyes sees them. Needs root.
//!
//!     left v100 10.1.100.10 ── trunk ── phones 10.1.100.1 [router] core 10.9.0.1 ── right 10.9.0.2
//!                              (lan)     lan.200 10.1.200.1
//!
//! The host on the left has no VLAN interfaces of the kernel's: a second router is its network card.

use std::{
    fs,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use crate::support::{BOUND, OneRouter, eventually};
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket},
};
use voicelane_proto::v1::{
    ListPortsRequest, PortStatus, router_operator_client::RouterOperatorClient,
};
use voicelane_testbed::{Capture, Process};

const LAN_MAC: [u8; 6] = [2, 0, 0, 0, 0x98, 1];
/// Of hosts that nobody has started.
const SILENT_MAC: &str = "02:00:00:00:77:01";

/// VLANs of the router's port to the left.
const VLANS: &str = r#"
mac = "02:00:00:00:98:01"

[[port.vlan]]
id = 100
name = "phones"
addresses = ["10.1.100.1/24", "2001:db8:64::1/64"]

[[port.vlan]]
id = 200
trust = "keep"
addresses = ["10.1.200.1/24"]
mtu = 1400
"#;

const HOST: &str = r#"
[router]
id = "host"
cores = [0]

[[port]]
name = "trunk"
device = "net_af_packet0,iface=eth0"
role = "core"
rate = "1Gbit/s"

[[port.vlan]]
id = 100
name = "v100"
addresses = ["10.1.100.10/24", "2001:db8:64::10/64"]
"#;

/// The network, with a trunk to the left; the router is not started yet.
fn network(name: &str) -> OneRouter {
    let network = OneRouter::new(name);
    let config = fs::read_to_string(&network.config).unwrap();
    let rate = "rate = \"1Gbit/s\"\n";
    let config = config
        .replace(rate, &format!("{rate}{VLANS}"))
        .replace("\"10.9.0.1/30\"", "\"10.9.0.1/30\", \"2001:db8:9::1/64\"");
    fs::write(&network.config, config).unwrap();
    network.left.ip("addr flush dev eth0").unwrap();
    network.right.enable_ipv6("eth0").unwrap();
    network
        .right
        .ip("addr add 2001:db8:9::2/64 dev eth0\nroute add default via 2001:db8:9::1")
        .unwrap();
    network
}

/// Starts the left's network card.
fn start_host(network: &OneRouter) -> Process {
    let config = network.lab.dir().join("host.toml");
    fs::write(&config, HOST).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_voicelane-router"));
    let args = ["--config", config.to_str().unwrap()];
    let host = network.lab.spawn(&network.left, "host", program, &args);
    let mut host = host.unwrap();
    host.wait_for_log("router ready", BOUND).unwrap();
    let routes = "route add default via 10.1.100.1\nroute add default via 2001:db8:64::1";
    network.left.ip(routes).unwrap();
    host
}

/// Waits until the capture at a host has a packet: tcpdump gets them in blocks, and ends without
/// those of the last one.
fn has_seen(network: &OneRouter, host: &str, filter: &str) {
    let pcap = network.lab.dir().join(format!("{host}-eth0.pcap"));
    let rows = || Capture::fields(&pcap, filter, &["frame.number"]).unwrap_or_default();
    eventually(filter, || !rows().is_empty());
}

/// What the router itself says of its ports.
fn ports(network: &OneRouter) -> Vec<PortStatus> {
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut client = RouterOperatorClient::connect("http://127.0.0.1:7401")
                .await
                .unwrap();
            client.list_ports(ListPortsRequest {}).await.unwrap()
        })
    };
    network.router.enter(ask).unwrap().into_inner().ports
}

#[test]
fn a_host_on_a_vlan_reaches_and_is_reached() {
    let network = network("vlanhost");
    let mut router = network.start();
    let _host = start_host(&network);
    // ARP and ND over the VLAN, the kernel's answers, and the way through.
    for address in ["10.1.100.1", "2001:db8:64::1", "10.9.0.2", "2001:db8:9::2"] {
        network.reaches(address);
    }
    let trunk = Capture::start(&network.lab, &network.left, "eth0", "").unwrap();
    let core = Capture::start(&network.lab, &network.right, "eth0", "").unwrap();
    // Full-sized packets fit beside their tag.
    let ping = |args: &[&str]| {
        let args = [&["-n", "-W2"], args].concat();
        network.left.run("ping", &args, BOUND)
    };
    let answers = ping(&["-c5", "-i0.1", "-s1472", "-Mdo", "10.9.0.2"]).unwrap();
    assert!(
        answers.contains("5 received") && answers.contains("ttl=63"),
        "{answers}"
    );
    ping(&["-c2", "-i0.1", "-s1452", "-Mdo", "2001:db8:9::2"]).unwrap();
    let back = ["-n", "-c1", "-W2", "-Q0xb8", "10.1.100.10"];
    network.right.run("ping", &back, BOUND).unwrap();

    let marked = "icmp.type == 8 && ip.src == 10.9.0.2";
    has_seen(&network, "left", marked);
    has_seen(&network, "right", "icmp.type == 0 && ip.dst == 10.9.0.2");
    let (trunk, _) = trunk.stop().unwrap();
    let (core, _) = core.stop().unwrap();
    let rows =
        |pcap: &Path, filter: &str, fields: &[&str]| Capture::fields(pcap, filter, fields).unwrap();
    // The untagged interfaces are up, and their kernels join IPv6 groups on them when they please.
    let untagged = "(ip || arp || ipv6 && !(ipv6.dst == ff00::/8)) && !vlan";
    let untagged = rows(&trunk, untagged, &["frame.number", "_ws.col.Info"]);
    assert!(untagged.is_empty(), "without a tag: {untagged:?}");
    assert!(rows(&core, "vlan", &["frame.number"]).is_empty());
    let full = rows(&trunk, "icmp && frame.len == 1518", &["vlan.id"]);
    // What the left sends passes tcpdump by there.
    assert_eq!(full.len(), 5, "the answers");
    assert!(full.iter().all(|row| row == &["100"]));
    let fields = ["vlan.id", "vlan.priority", "ip.dsfield.dscp"];
    assert_eq!(rows(&trunk, marked, &fields), [["100", "6", "46"]]);

    // What came in is told by interface.
    let ports = ports(&network);
    let lan = ports.first().unwrap();
    let [phones, second] = lan.vlans.as_slice() else {
        panic!("two VLANs in {lan:?}")
    };
    let interface = phones.interface.as_ref().unwrap();
    assert_eq!(
        (
            interface.name.as_str(),
            interface.vlan_id,
            interface.port.as_str()
        ),
        ("phones", 100, "lan")
    );
    assert!(interface.up && interface.addresses.contains(&"10.1.100.1/24".to_owned()));
    assert_eq!(interface.prefixes, ["10.1.100.0/24", "2001:db8:64::/64"]);
    assert_eq!(
        (interface.rate_bps, interface.mtu_bytes),
        (1_000_000_000, 1500)
    );
    assert_eq!(second.interface.as_ref().unwrap().name, "lan.200");
    assert!(phones.rx_packets > 10 && phones.twin_packets > 0);
    assert!(!phones.punts.is_empty() && second.rx_packets == 0);
    assert!(lan.rx_packets >= phones.rx_packets);
    let metric = network.metric("voicelane_interface_up{interface=\"phones\"}");
    assert!(metric > 0.5);

    // A VLAN's twin that is set down takes its routes away, and no other's.
    network.router.ip("link set phones down").unwrap();
    eventually("no way over the VLAN", || !network.pings("10.9.0.2"));
    assert!(network.metric("voicelane_interface_up{interface=\"phones\"}") < 0.5);
    assert!(network.metric("voicelane_interface_up{interface=\"lan\"}") > 0.5);
    network.router.ip("link set phones up").unwrap();
    network.reaches("10.9.0.2");
    assert!(router.stop().unwrap().success());
}

/// A way to send frames as they are.
fn wire(network: &OneRouter) -> OwnedFd {
    let open = || {
        let wire = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        let is_link = |it: &nix::ifaddrs::InterfaceAddress| {
            let address = it.address.as_ref();
            it.interface_name == "eth0" && address.is_some_and(|it| it.as_link_addr().is_some())
        };
        let address = getifaddrs()
            .unwrap()
            .find(is_link)
            .and_then(|it| it.address);
        bind(wire.as_raw_fd(), &address.unwrap()).unwrap();
        wire
    };
    network.left.enter(open).unwrap()
}

/// A UDP packet of expedited forwarding from the left, with these tags.
fn frame(tags: &[u16], source: Ipv4Addr, destination: Ipv4Addr, ip_bytes: u16) -> Vec<u8> {
    let mut frame = [&LAN_MAC[..], &[2, 0, 0, 0, 0x77, 1]].concat();
    for tci in tags {
        frame.extend([0x81, 0]);
        frame.extend(tci.to_be_bytes());
    }
    let [length_high, length_low] = ip_bytes.to_be_bytes();
    let mut header = vec![
        0x45,
        0xb8,
        length_high,
        length_low,
        0,
        1,
        0,
        0,
        64,
        17,
        0,
        0,
    ];
    header.extend(source.octets());
    header.extend(destination.octets());
    let words = header.chunks(2);
    let sum: u32 = words
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend([8, 0]);
    frame.extend(header);
    frame.extend(4000_u16.to_be_bytes());
    frame.extend(4000_u16.to_be_bytes());
    frame.extend((ip_bytes - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(frame.len() + usize::from(ip_bytes) - 28, 0xa5);
    frame
}

#[test]
fn each_vlan_is_an_interface_of_its_own() {
    let network = network("vlans");
    // The same sources come in on all of them.
    let off = "reverse_path = \"off\"\n";
    let config = fs::read_to_string(&network.config).unwrap();
    let config = ["role = \"edge\"\n", "[[port.vlan]]\n"]
        .iter()
        .fold(config, |config, line| {
            config.replace(line, &format!("{line}{off}"))
        });
    fs::write(&network.config, config).unwrap();
    let _router = network.start();
    let neighbours = format!(
        "neigh add 10.1.100.10 lladdr {SILENT_MAC} dev phones\n\
         neigh add 10.1.200.10 lladdr {SILENT_MAC} dev lan.200"
    );
    network.router.ip(&neighbours).unwrap();
    let args = ["-n", "-c1", "-W2", "10.9.0.2"];
    network.router.run("ping", &args, BOUND).unwrap(); // now its MAC address is known
    let wire = wire(&network);
    let deliver = |tags: &[u16], host: u8, destination: [u8; 4], ip_bytes: u16| {
        let source = Ipv4Addr::new(10, 1, 100, host);
        let frame = frame(tags, source, destination.into(), ip_bytes);
        let sent = send(wire.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
        assert_eq!(sent, frame.len());
    };
    let right = [10, 9, 0, 2];
    let received = "voicelane_interface_rx_packets_total{interface=\"lan\"}";
    eventually("the first frame", || {
        deliver(&[], 99, right, 100);
        network.metric(received) > 0.0
    });
    let trunk = Capture::start(&network.lab, &network.left, "eth0", "ip").unwrap();
    let core = Capture::start(&network.lab, &network.right, "eth0", "ip").unwrap();

    deliver(&[], 11, right, 100);
    deliver(&[100], 2, right, 100);
    deliver(&[200], 3, right, 1500);
    deliver(&[0xe000], 4, right, 100);
    deliver(&[999], 5, right, 100);
    deliver(&[100, 200], 6, right, 100);
    deliver(&[100], 7, [10, 1, 200, 10], 100);
    deliver(&[200], 8, [10, 1, 100, 10], 1500);
    deliver(&[200], 9, right, 100); // the last one

    let pcap = network.lab.dir().join("right-eth0.pcap");
    let seen = |filter: &str| Capture::fields(&pcap, filter, &["frame.number"]).unwrap_or_default();
    eventually("the last frame", || {
        !seen("ip.src == 10.1.100.9").is_empty()
    });
    let (core, _) = core.stop().unwrap();
    let (trunk, _) = trunk.stop().unwrap();
    let fields = [
        "ip.src",
        "vlan.id",
        "vlan.priority",
        "ip.dsfield.dscp",
        "frame.len",
    ];
    let sort = |mut rows: Vec<Vec<String>>| {
        rows.sort();
        rows
    };
    // Trust is each VLAN's own; no tag goes out of a port without VLANs.
    let at_right = sort(Capture::fields(&core, "udp.port == 4000 && !icmp", &fields).unwrap());
    assert_eq!(
        at_right,
        [
            ["10.1.100.11", "", "", "0", "114"],
            ["10.1.100.2", "", "", "0", "114"],
            ["10.1.100.3", "", "", "46", "1514"],
            ["10.1.100.4", "", "", "0", "114"],
            ["10.1.100.9", "", "", "46", "114"],
        ]
    );
    // From VLAN to VLAN over one port: another tag, with the priority of what is left of the class.
    let back = "udp.port == 4000 && !icmp && eth.dst == 02:00:00:00:77:01";
    let at_left = sort(Capture::fields(&trunk, back, &fields).unwrap());
    assert_eq!(
        at_left,
        [
            ["10.1.100.7", "200", "0", "0", "118"],
            ["10.1.100.8", "100", "6", "46", "1518"],
        ]
    );
    let drops = |interface: &str, reason: &str| {
        let labels = format!("{{interface=\"{interface}\",reason=\"{reason}\"}}");
        network.metric(&format!("voicelane_interface_drops_total{labels}"))
    };
    eventually("all drops", || drops("lan", "unknown-vlan") >= 1.0);
    assert!((drops("phones", "double-tagged") - 1.0).abs() < 0.5);
    let bleached = |interface: &str| {
        let labels = format!("{{interface=\"{interface}\"}}");
        network.metric(&format!(
            "voicelane_interface_bleached_packets_total{labels}"
        ))
    };
    assert!((bleached("phones") - 2.0).abs() < 0.5 && bleached("lan.200") < 0.5);

    // A VLAN's MTU is its own: the kernel says so to who sends more.
    let too_large = ["-n", "-c1", "-W2", "-s1472", "-Mdo", "10.1.200.10"];
    let refused = network.right.run("ping", &too_large, BOUND);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("mtu = 1400"), "{refused}");
}
