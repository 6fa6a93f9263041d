//! What becomes of the kernel's interfaces under the ports: renamed, deleted, made again, left by a
//! router that was killed, wanted by two. Needs root.

use std::{
    fs,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::Path,
};

use nix::{
    ifaddrs::getifaddrs,
    sys::signal::Signal,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, socket},
};
use voicelane_testbed::{Capture, End, Namespace, Process};

use crate::support::{BOUND, OneRouter, eventually};

fn up(network: &OneRouter) -> f64 {
    network.metric("voicelane_interface_up{interface=\"core\"}")
}

fn sysctl(network: &OneRouter, key: &str) -> String {
    let path = format!("/proc/sys/net/{key}");
    let read = || fs::read_to_string(&path);
    network
        .router
        .enter(read)
        .unwrap()
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn a_renamed_underlay_serves_on() {
    let network = OneRouter::new("renamed");
    let mut router = network.start();
    network.reaches("10.9.0.2");
    network.router.ip("link set u-core name other").unwrap();
    router.wait_for_log("renamed", BOUND).unwrap();
    network.reaches("10.9.0.2");
    assert_eq!(up(&network), 1.0);
    assert_eq!(sysctl(&network, "ipv4/conf/other/rp_filter"), "1");
    // Another one of the old name is none of its business.
    network
        .router
        .ip("link add u-core type veth peer name nobody")
        .unwrap();
    network.reaches("10.9.0.2");
    assert_eq!(up(&network), 1.0);
    assert!(router.stop().unwrap().success());
    assert_eq!(sysctl(&network, "ipv4/conf/other/rp_filter"), "0");
}

#[test]
fn an_underlay_that_is_made_again_serves_again() {
    let network = OneRouter::new("again");
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let link = |name: &str| {
        let args = ["link", "show", name];
        network.router.run("ip", &args, BOUND).unwrap()
    };
    for _ in 0..2 {
        network.router.ip("link del u-core").unwrap();
        eventually("a port that is down", || up(&network) == 0.0);
        eventually("a twin without a carrier", || {
            link("core").contains("NO-CARRIER")
        });
        router.wait_for_log("was deleted", BOUND).unwrap();
        assert!(network.pings("10.1.0.1"), "the other port serves on");
        let end = |namespace, interface| End {
            namespace,
            interface,
        };
        let ends = (end(&network.router, "u-core"), end(&network.right, "eth0"));
        network.lab.link(ends.0, ends.1).unwrap();
        network
            .right
            .ip("addr add 10.9.0.2/30 dev eth0\nroute add default via 10.9.0.1")
            .unwrap();
        eventually("a port that is up", || up(&network) == 1.0);
        network.reaches("10.9.0.2");
        assert_eq!(sysctl(&network, "ipv4/conf/u-core/rp_filter"), "1");
    }
    assert!(router.stop().unwrap().success());
    assert!(!link("u-core").contains("PROMISC"), "{}", link("u-core"));
    assert_eq!(sysctl(&network, "ipv4/conf/u-core/rp_filter"), "0");
}

/// As [`crate::kernel`] has it of one that ends by itself.
#[test]
fn what_a_killed_router_left_is_set_back_by_the_next() {
    let network = OneRouter::new("killed");
    let config = fs::read_to_string(&network.config).unwrap();
    let config = config.replace("\"10.9.0.1/30\"", "\"10.9.0.1/30\", \"2001:db8:9::1/64\"");
    fs::write(&network.config, config).unwrap();
    network
        .router
        .sysctl("net.ipv6.conf.u-core.disable_ipv6", "0")
        .unwrap();
    let keys = [
        "ipv4/conf/u-lan/rp_filter",
        "ipv4/conf/u-lan/arp_ignore",
        "ipv4/conf/u-core/forwarding",
        "ipv6/conf/u-core/disable_ipv6",
        "ipv6/conf/all/forwarding",
        "ipv6/conf/lo/forwarding",
        "ipv6/conf/lo/accept_ra",
    ];
    let all = || {
        let mut all = keys.map(|key| sysctl(&network, key)).to_vec();
        let args = ["-br", "link", "show", "u-lan"];
        all.push(network.router.run("ip", &args, BOUND).unwrap());
        all
    };
    let before = all();
    for kills in 1..=2 {
        for _ in 0..kills {
            let mut router = network.start();
            network.reaches("10.9.0.2");
            assert_ne!(all(), before);
            router.kill().unwrap();
        }
        let mut router = network.start();
        network.reaches("10.9.0.2");
        let log = router.log();
        assert!(log.contains("an earlier run was killed"), "{log}");
        assert!(router.stop().unwrap().success());
        assert_eq!(all(), before);
    }
    // What somebody has set meanwhile stays his.
    let mut router = network.start();
    router.kill().unwrap();
    network
        .router
        .sysctl("net.ipv4.conf.u-lan.rp_filter", "2")
        .unwrap();
    let mut router = network.start();
    assert!(!router.log().contains("error"), "{}", router.log());
    assert!(router.stop().unwrap().success());
    assert_eq!(sysctl(&network, "ipv4/conf/u-lan/rp_filter"), "2");
}

/// The folder goes with the namespace in which there was something to set back.
#[test]
fn the_state_of_a_killed_router_goes_with_its_namespace() {
    let state = std::env::temp_dir().join(format!("voicelane-gone-{}", std::process::id()));
    let start = |name: &str| {
        let network = OneRouter::new(name);
        let config = fs::read_to_string(&network.config).unwrap();
        let line = format!("id = \"a\"\nstate_dir = \"{}\"", state.display());
        fs::write(&network.config, config.replace("id = \"a\"", &line)).unwrap();
        let router = network.start();
        (network, router)
    };
    let folders = || {
        let folders = fs::read_dir(&state).into_iter().flatten();
        folders.map(|one| one.unwrap().path()).collect::<Vec<_>>()
    };
    let (first, mut killed) = start("gone1");
    killed.kill().unwrap();
    let left = folders();
    assert_eq!(left.len(), 1, "{left:?}");
    let (_second, _router) = start("gone2");
    assert!(folders().contains(&left[0]), "its namespace is there");
    drop((killed, first));
    let (_third, _router) = start("gone3");
    assert!(!folders().contains(&left[0]), "{:?}", folders());
    assert_eq!(folders().len(), 2, "those that run have theirs");
    drop((_second, _third));
    fs::remove_dir_all(&state).unwrap();
}

/// Of drivers that make or open their interface once, at the start.
#[test]
fn a_port_whose_interface_is_deleted_is_down() {
    for (device, interface) in [("net_tap1", "dtap1"), ("net_pcap1,iface=u-core", "u-core")] {
        let network = OneRouter::new("once");
        let config = fs::read_to_string(&network.config).unwrap();
        let config = config.replace("net_af_packet1,iface=u-core", device);
        fs::write(&network.config, config).unwrap();
        let mut router = network.start();
        eventually("a port that is up", || up(&network) == 1.0);
        let key = format!("ipv4/conf/{interface}/rp_filter");
        assert_eq!(sysctl(&network, &key), "1", "{device}");
        let delete = format!("link del {interface}");
        network.router.ip(&delete).unwrap();
        eventually("a port that is down", || up(&network) == 0.0);
        router
            .wait_for_log("until the router is started again", BOUND)
            .unwrap();
        assert!(network.pings("10.1.0.1"), "the other port serves on");
    }
}

#[test]
fn two_routers_do_not_share_an_interface() {
    let network = OneRouter::new("shared");
    let router = network.start();
    network.reaches("10.9.0.2");
    let refused = |from: &[(&str, &str)], says: &str| {
        let mut config = fs::read_to_string(&network.config).unwrap();
        for (from, to) in from {
            config = config.replace(from, to);
        }
        let mut second = spawn(&network, &config);
        let status = second.wait(BOUND).unwrap();
        let log = second.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(says), "{says}: {log}");
        let pid = format!("(process {})", router.pid());
        assert!(log.contains(&pid), "{pid}: {log}");
    };
    let other = [
        ("7401", "7402"),
        ("id = \"a\"", "id = \"b\""),
        ("\"lan\"", "\"lan2\""),
        ("\"core\"\ndevice", "\"core2\"\ndevice"),
    ];
    refused(
        &other,
        "port lan2: interface u-lan is in use by another router",
    );
    // By whatever name.
    network.router.ip("link set u-lan name v-lan").unwrap();
    let renamed = [&other[..], &[("u-lan", "v-lan")]].concat();
    refused(
        &renamed,
        "port lan2: interface v-lan is in use by another router",
    );
    // Both would be one to the QoS server, and have one state.
    network
        .router
        .ip("link add x-lan type veth peer name y-lan\nlink add x-core type veth peer name y-core")
        .unwrap();
    let same_id = [
        ("7401", "7402"),
        ("\"lan\"", "\"lan2\""),
        ("\"core\"\ndevice", "\"core2\"\ndevice"),
        ("u-lan", "x-lan"),
        ("u-core", "x-core"),
    ];
    refused(&same_id, "is called \"a\" here");
    network.reaches("10.9.0.2");
}

fn spawn(network: &OneRouter, config: &str) -> Process {
    let file = network.lab.dir().join("second.toml");
    fs::write(&file, config).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_voicelane-router"));
    let args = ["--config", file.to_str().unwrap()];
    let second = network.lab.spawn(&network.router, "second", program, &args);
    second.unwrap()
}

/// The kernel takes a service tag off as it does a customer's, and the driver does not say which it was.
#[test]
fn a_service_tag_is_no_vlan() {
    let network = OneRouter::new("stag");
    let config = fs::read_to_string(&network.config).unwrap();
    let vlan = "rate = \"1Gbit/s\"\nmac = \"02:00:00:00:98:01\"\n\
                [[port.vlan]]\nid = 100\naddresses = [\"10.1.100.1/24\"]\n";
    fs::write(
        &network.config,
        config.replacen("rate = \"1Gbit/s\"\n", vlan, 1),
    )
    .unwrap();
    let _router = network.start();
    network.reaches("10.9.0.2");
    let frame = |tpid: u16, inner: &[u8]| {
        let mut frame = vec![2, 0, 0, 0, 0x98, 1, 2, 0, 0, 0, 0x77, 1];
        frame.extend(tpid.to_be_bytes());
        frame.extend(100_u16.to_be_bytes());
        frame.extend(inner);
        frame.resize(64, 0);
        frame
    };
    let mut arp = vec![0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0x77, 1];
    arp.extend([10, 1, 100, 10, 0, 0, 0, 0, 0, 0, 10, 1, 100, 1]);
    let received = || network.metric("voicelane_interface_rx_packets_total{interface=\"lan.100\"}");
    let dropped = || {
        let drops = "voicelane_interface_drops_total{interface=\"lan\",reason=\"double-tagged\"}";
        network.metric(drops)
    };
    send(&network.left, &[frame(0x8100, &arp)]);
    eventually("a frame of VLAN 100", || received() == 1.0);
    let before = dropped();
    send(&network.left, &vec![frame(0x88a8, &arp); 10]);
    let customer_in_service = [&[0x81, 0, 0, 100][..], &arp].concat();
    send(
        &network.left,
        &vec![frame(0x88a8, &customer_in_service); 10],
    );
    eventually("twenty drops", || dropped() == before + 20.0);
    assert_eq!(received(), 1.0);
}

/// Sends frames from a host.
fn send(host: &Namespace, frames: &[Vec<u8>]) {
    let all = || {
        let (family, kind) = (AddressFamily::Packet, SockType::Raw);
        let socket = socket(family, kind, SockFlag::empty(), None).unwrap();
        let mut links = getifaddrs()
            .unwrap()
            .filter(|one| one.interface_name == "eth0");
        let link = links
            .find_map(|one| one.address?.as_link_addr().copied())
            .unwrap();
        bind(socket.as_raw_fd(), &link).unwrap();
        for frame in frames {
            nix::sys::socket::send(socket.as_raw_fd(), frame, MsgFlags::empty()).unwrap();
        }
    };
    host.enter(all).unwrap();
}

/// Another port has the default route; the twin has no such address yet.
#[test]
fn an_offer_is_for_the_twin() {
    let network = OneRouter::new("offer");
    let _router = network.start();
    network.reaches("10.9.0.2");
    network
        .router
        .ip("route add default via 10.1.0.10")
        .unwrap();
    let twin = Capture::start(&network.lab, &network.router, "core", "udp").unwrap();
    let mut offer = vec![2, 0, 0, 0, 0x99, 1, 2, 0, 0, 0, 0x77, 1, 8, 0];
    let ip = [
        0x45, 0, 0, 128, 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 2, 192, 0, 2, 77,
    ];
    let words = ip
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum = words.sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    offer.extend(&ip[..10]);
    offer.extend(sum.to_be_bytes());
    offer.extend(&ip[12..]);
    offer.extend([0, 67, 0, 68, 0, 108, 0, 0]);
    offer.resize(14 + 128, 1);
    send(&network.right, &vec![offer; 5]);
    let pcap = network.lab.dir().join("router-core.pcap");
    let offers = "udp.dstport == 68 && ip.dst == 192.0.2.77";
    let rows = || Capture::fields(&pcap, offers, &["frame.number"]).unwrap_or_default();
    eventually("five offers at the twin", || rows().len() >= 5);
    drop(twin);
}

/// What a client on a twin does with the lease: the address, and a mark for the test.
const LEASED: &str = "#!/bin/sh
case \"$1$reason\" in
bound|renew) new_ip_address=$ip ;;
BOUND|RENEW) ;;
*) exit 0 ;;
esac
ip addr replace $new_ip_address/24 dev core valid_lft 120 preferred_lft 120
echo $1$reason $new_ip_address >>LEASES
";

/// A client runs on a twin while another port has the default route, takes an address that the router did
/// not have, and renews it.
#[test]
fn dhcp_clients_get_their_lease() {
    let network = OneRouter::new("dhcp");
    let config = fs::read_to_string(&network.config).unwrap();
    let config = config.replace("addresses = [\"10.9.0.1/30\"]\n", "");
    fs::write(&network.config, config).unwrap();
    network
        .right
        .ip("addr flush dev eth0\naddr add 10.9.0.2/24 dev eth0")
        .unwrap();
    let _router = network.start();
    network
        .router
        .ip("route add default via 10.1.0.10")
        .unwrap();
    let (leases, script) = (
        network.lab.dir().join("leases"),
        network.lab.dir().join("leased"),
    );
    fs::write(&script, LEASED.replace("LEASES", leases.to_str().unwrap())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    let server = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--pid-file=",
        "--port=0",
        "--interface=eth0",
        "--bind-interfaces",
        "--dhcp-range=10.9.0.100,10.9.0.110,255.255.255.0,2m",
        "--dhcp-authoritative",
        "--leasefile-ro",
        "--no-ping",
        "--log-facility=-",
    ];
    let dnsmasq = Path::new("/usr/sbin/dnsmasq");
    let _server = network
        .lab
        .spawn(&network.right, "dnsmasq", dnsmasq, &server)
        .unwrap();
    let dir = network.lab.dir().to_str().unwrap().to_owned();
    let files = [
        format!("{dir}/dhclient.leases"),
        format!("{dir}/dhclient.pid"),
    ];
    let clients: [(&str, Vec<&str>); 2] = [
        (
            "/sbin/udhcpc",
            vec!["-f", "-i", "core", "-s", script, "-t", "20", "-T", "1"],
        ),
        (
            "/sbin/dhclient",
            vec![
                "-d", "-sf", script, "-lf", &files[0], "-pf", &files[1], "core",
            ],
        ),
    ];
    for (program, args) in clients {
        let client = Path::new(program);
        let mut client = network
            .lab
            .spawn(&network.router, "client", client, &args)
            .unwrap();
        let got = || fs::read_to_string(&leases).unwrap_or_default();
        eventually(&format!("a lease for {program}"), || {
            got().to_lowercase().contains("bound")
        });
        let address = got().split_whitespace().nth(1).unwrap().to_owned();
        assert!(address.starts_with("10.9.0.1"), "{address}");
        network
            .right
            .ip(&format!("route replace default via {address}"))
            .unwrap();
        network.reaches("10.9.0.2");
        if program.ends_with("udhcpc") {
            // Asks to renew, from the address that it has.
            client.signal(Signal::SIGUSR1).unwrap();
            eventually("a renewed lease", || got().contains("renew"));
        }
        client.kill().unwrap();
        network
            .router
            .ip("addr flush dev core scope global")
            .unwrap();
        fs::remove_file(&leases).unwrap();
    }
}
