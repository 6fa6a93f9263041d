//! What the kernel gets and what it sends, on real interfaces: nobody gets priority by it, and nobody
//! takes its time from the others. Needs root.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, send, setsockopt,
        socket, sockopt,
    },
};
use voicelane_testbed::{Capture, Namespace};

use crate::support::{BOUND, OneRouter, eventually};

/// A socket for whole frames on a namespace's `eth0`.
fn frames(namespace: &Namespace) -> OwnedFd {
    let open = || {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        let mut interfaces = getifaddrs().unwrap();
        let address = interfaces
            .find(|it| {
                let family = it.address.as_ref().and_then(|address| address.family());
                it.interface_name == "eth0" && family == Some(AddressFamily::Packet)
            })
            .and_then(|it| it.address)
            .unwrap();
        bind(socket.as_raw_fd(), &address).unwrap();
        socket
    };
    namespace.enter(open).unwrap()
}

fn mac(namespace: &Namespace, interface: &str) -> [u8; 6] {
    let args = ["-o", "link", "show", "dev", interface];
    let said = namespace.run("ip", &args, BOUND).unwrap();
    let (_, text) = said.split_once("link/ether ").unwrap();
    let mut mac = [0; 6];
    for (byte, text) in mac.iter_mut().zip(text[..17].split(':')) {
        *byte = u8::from_str_radix(text, 16).unwrap();
    }
    mac
}

/// Sends a frame so often a second until told to stop.
fn flood(socket: &OwnedFd, frame: &[u8], a_second: u32, stop: &AtomicBool) -> u64 {
    let (start, mut sent) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let due = start.elapsed().as_secs_f64() * f64::from(a_second);
        while (sent as f64) < due {
            let _ = send(socket.as_raw_fd(), frame, MsgFlags::empty());
            sent += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    sent
}

fn udp(from: Ipv4Addr, to: Ipv4Addr, macs: ([u8; 6], [u8; 6]), bytes: usize) -> Vec<u8> {
    let mut frame = [&macs.0[..], &macs.1, &[8, 0, 0x45, 0]].concat();
    let total = u16::try_from(28 + bytes).unwrap();
    frame.extend(total.to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    let sum: u32 = frame[14..34]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(4000_u16.to_be_bytes());
    frame.extend(4000_u16.to_be_bytes());
    frame.extend((8 + u16::try_from(bytes).unwrap()).to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(42 + bytes, 0);
    frame
}

/// A network whose hosts speak IPv6 with their link-local addresses, too.
fn network(name: &str, change: impl Fn(String) -> String) -> OneRouter {
    let network = OneRouter::new(name);
    for host in [&network.left, &network.right] {
        host.enable_ipv6("eth0").unwrap();
    }
    let config = fs::read_to_string(&network.config).unwrap();
    let config = config.replace("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"2001:db8:1::1/64\"");
    fs::write(&network.config, change(config)).unwrap();
    network
}

/// The link-local address of the router's twin `lan`.
fn link_local(network: &OneRouter) -> String {
    let args = ["-6", "-o", "addr", "show", "dev", "lan", "scope", "link"];
    let said = network.router.run("ip", &args, BOUND).unwrap();
    let address = said.split_whitespace().nth(3).unwrap();
    address.split('/').next().unwrap().to_owned()
}

/// Echo requests with class 0xb8 to each of the router's addresses: no answer leaves as EF, and EF
/// that comes from the core loses nothing on that LAN, however many are asked for.
#[test]
fn answers_of_the_kernel_are_no_telephony() {
    let network = network("no-ef", |config| config.replace("1Gbit/s", "5Mbit/s"));
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let link_local = format!("{}%eth0", link_local(&network));
    eventually("an answer", || {
        let args = ["-n", "-c1", "-W1", &link_local];
        network.left.run("ping", &args, BOUND).is_ok()
    });
    let capture = Capture::start(
        &network.lab,
        &network.left,
        "eth0",
        "icmp or icmp6 or udp port 4000",
    )
    .unwrap();
    let stop = AtomicBool::new(false);
    let (honest, received) = thread::scope(|scope| {
        for address in [link_local.as_str(), "10.1.0.1"] {
            let (network, stop) = (&network, &stop);
            scope.spawn(move || {
                let args = [
                    "-n", "-q", "-Q", "0xb8", "-s", "800", "-i", "0.002", "-w", "6", address,
                ];
                let _ = network.left.run("ping", &args, BOUND);
                stop.store(true, Ordering::Relaxed);
            });
        }
        let receiver = scope.spawn(|| {
            let receive = || {
                let socket = UdpSocket::bind("10.1.0.10:4000").unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_secs(2)))
                    .unwrap();
                let mut count = 0;
                while socket.recv(&mut [0; 2000]).is_ok() {
                    count += 1;
                }
                count
            };
            network.left.enter(receive).unwrap()
        });
        let send = || {
            let socket = UdpSocket::bind("10.9.0.2:4000").unwrap();
            setsockopt(&socket, sockopt::Ipv4Tos, &0xb8).unwrap();
            thread::sleep(Duration::from_millis(500));
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                socket.send_to(&[0; 800], "10.1.0.10:4000").unwrap();
                sent += 1;
                thread::sleep(Duration::from_millis(4));
            }
            sent
        };
        let sent = network.right.enter(send).unwrap();
        (sent, receiver.join().unwrap())
    });
    let (pcap, _) = capture.stop().unwrap();
    let rows = |filter: &str, field: &str| Capture::fields(&pcap, filter, &[field]).unwrap();
    for (filter, field) in [
        ("icmpv6.type == 129", "ipv6.tclass.dscp"),
        ("icmp.type == 0", "ip.dsfield.dscp"),
    ] {
        let marks = rows(filter, field);
        assert!(marks.len() > 500, "{} answers", marks.len());
        assert!(marks.iter().all(|row| row[0] == "0"), "{:?}", marks[0]);
    }
    println!("EF from the core: {honest} sent, {received} received");
    assert_eq!(received, honest, "honest EF");
    assert!(router.stop().unwrap().success());
}

/// What the kernel forwards from an interface that only it has is believed as far as the operator says.
#[test]
fn a_vpn_gives_no_telephony_without_a_call() {
    let network = OneRouter::new("vpn");
    let vpn = network.lab.namespace("vpn").unwrap();
    network
        .router
        .ip("link add tun type veth peer name other")
        .unwrap();
    let args = ["link", "set", "other", "netns", vpn.full_name()];
    network.router.run("ip", &args, BOUND).unwrap();
    network
        .router
        .ip("addr add 10.8.0.1/24 dev tun\nlink set tun up")
        .unwrap();
    network
        .router
        .sysctl("net.ipv4.conf.tun.forwarding", "1")
        .unwrap();
    vpn.ip("addr add 10.8.0.9/24 dev other\nlink set other up\nroute add default via 10.8.0.1")
        .unwrap();
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let ping = |tos: &str| {
        let args = ["-n", "-c3", "-i0.1", "-W1", "-Q", tos, "10.9.0.2"];
        vpn.run("ping", &args, BOUND).is_ok()
    };
    let seen = |tos: &str| {
        let capture = Capture::start(&network.lab, &network.right, "eth0", "icmp").unwrap();
        eventually("a way from the VPN", || ping(tos));
        thread::sleep(Duration::from_secs(1)); // what is captured is written once a second
        let (pcap, _) = capture.stop().unwrap();
        let marks = Capture::fields(&pcap, "icmp.type == 8", &["ip.dsfield.dscp"]).unwrap();
        assert!(!marks.is_empty());
        marks
            .into_iter()
            .map(|mut row| row.remove(0))
            .collect::<Vec<_>>()
    };
    assert!(seen("0xb8").iter().all(|mark| mark == "0"));
    assert!(seen("0xc0").iter().all(|mark| mark == "0"));
    let bleached = "voicelane_interface_twin_bleached_packets_total{interface=\"core\"}";
    eventually("counted", || network.metric(bleached) >= 6.0);
    // Unless the operator says so.
    let config = fs::read_to_string(&network.config).unwrap();
    fs::write(
        &network.config,
        format!("{config}\n[kernel]\ntrust = \"keep\"\n"),
    )
    .unwrap();
    router.signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    router
        .wait_for_log("kernel: trust was bleach, is keep", BOUND)
        .unwrap();
    assert!(seen("0xb8").iter().all(|mark| mark == "46"));
}

/// Floods from one host of the LAN, of each kind that is the kernel's: what routers say to each other
/// over the core, and on that LAN itself, goes on, and neighbours are found.
#[test]
fn floods_of_one_lan_stop_nobody_else() {
    let network = OneRouter::new("floods");
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let (own, lan) = (mac(&network.left, "eth0"), mac(&network.router, "lan"));
    let left: Ipv4Addr = "10.1.0.10".parse().unwrap();
    let mut arp = [&[0xff; 6][..], &own, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &own].concat();
    arp.extend(left.octets());
    arp.extend([0; 6]);
    arp.extend([10, 1, 0, 1]);
    let group = ([1, 0, 0x5e, 1, 1, 1], own);
    let floods = [
        (
            "UDP to the router",
            udp(left, [10, 1, 0, 1].into(), (lan, own), 58),
            "local",
        ),
        (
            "multicast",
            udp(left, [239, 1, 1, 1].into(), group, 58),
            "group",
        ),
        ("ARP", arp, "neighbour"),
        (
            "no route",
            udp(left, [172, 31, 9, 9].into(), (lan, own), 58),
            "exception",
        ),
    ];
    for (what, frame, class) in floods {
        let refused = format!(
            "voicelane_interface_refused_punts_total{{interface=\"lan\",class=\"{class}\"}}"
        );
        let core_drops =
            "voicelane_interface_drops_total{interface=\"core\",reason=\"punt-policed\"}";
        let before = network.metric(&refused);
        let socket = frames(&network.left);
        let stop = AtomicBool::new(false);
        let (longest_core, longest_lan) = thread::scope(|scope| {
            // 4,250 of 100 bytes: 3.4 Mbit/s.
            let flooding = scope.spawn(|| flood(&socket, &frame, 4_250, &stop));
            // What BGP is to a router: TCP to port 179, over the core and on the LAN.
            let core = scope.spawn(|| longest_silence(&network.router, &network.right, "10.9.0.1"));
            let lan = scope.spawn(|| longest_silence(&network.router, &network.left, "10.1.0.1"));
            // The neighbour on the core is asked for, and answered.
            thread::sleep(Duration::from_secs(1));
            for _ in 0..10 {
                network.right.ip("neigh flush dev eth0").unwrap();
                let args = ["-n", "-c1", "-W1", "10.9.0.1"];
                network.right.run("ping", &args, BOUND).unwrap();
            }
            let longest = (core.join().unwrap(), lan.join().unwrap());
            stop.store(true, Ordering::Relaxed);
            println!("{what}: {} sent", flooding.join().unwrap());
            longest
        });
        thread::sleep(Duration::from_millis(150)); // the API keeps its figures so long
        let refused = network.metric(&refused) - before;
        println!(
            "{what}: {refused} refused, longest silence {longest_core:?} on the core, \
             {longest_lan:?} on the LAN"
        );
        assert!(refused > 5_000.0, "{what}: {refused} refused");
        assert_eq!(network.metric(core_drops), 0.0, "{what}");
        let bound = Duration::from_secs(1);
        assert!(longest_core < bound && longest_lan < bound, "{what}");
    }
    assert!(router.stop().unwrap().success());
}

/// Bytes each 20 ms over a TCP connection to the router's port 179, for four seconds, each echoed; gives
/// the longest time that one took. BGP's hold time is some seconds.
fn longest_silence(router: &Namespace, host: &Namespace, address: &str) -> Duration {
    let listen = || TcpListener::bind((address, 179)).unwrap();
    let listener = router.enter(listen).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() {
                let _ = stream.write_all(&byte);
            }
        });
        let talk = || {
            let mut stream = TcpStream::connect((address, 179)).unwrap();
            stream.set_nodelay(true).unwrap();
            let (start, mut longest) = (Instant::now(), Duration::ZERO);
            while start.elapsed() < Duration::from_secs(4) {
                let sent = Instant::now();
                stream.write_all(&[1]).unwrap();
                stream.read_exact(&mut [0]).unwrap();
                longest = longest.max(sent.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
            longest
        };
        host.enter(talk).unwrap()
    })
}

/// Options by the kernel, as on any Linux router; addresses that are not to leave their link, and the
/// router's own as a source, not at all. Linux forwards the link-local ones; RFC 3927 section 7 is
/// stricter.
#[test]
fn what_is_unusual_is_heeded_or_goes_nowhere() {
    let network = OneRouter::new("unusual");
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let args = ["-n", "-R", "-c1", "-W2", "10.9.0.2"];
    let recorded = network.left.run("ping", &args, BOUND).unwrap();
    assert!(
        recorded.contains("RR:") && recorded.contains("10.9.0.1") && recorded.contains("10.1.0.1"),
        "{recorded}"
    );
    let args = ["-n", "-T", "tsandaddr", "-c1", "-W2", "10.9.0.2"];
    let stamped = network.left.run("ping", &args, BOUND).unwrap();
    assert!(stamped.contains("\t10.1.0.1\t"), "{stamped}");
    let punts = |reason: &str| {
        let series = "voicelane_interface_punts_total{interface=\"lan\",reason=";
        network.metric(&format!("{series}\"{reason}\"}}"))
    };
    eventually("counted options", || punts("options") >= 2.0);

    let macs = (mac(&network.router, "lan"), mac(&network.left, "eth0"));
    let far: Ipv4Addr = [10, 9, 0, 2].into();
    let socket = frames(&network.left);
    let capture = Capture::start(&network.lab, &network.right, "eth0", "udp").unwrap();
    for (source, destination, reason) in [
        ([10, 9, 0, 1].into(), far, "martian-source"),
        ([10, 1, 0, 1].into(), far, "martian-source"),
        // No route leads back to it.
        ([169, 254, 7, 7].into(), far, "reverse-path"),
        (
            [10, 1, 0, 10].into(),
            [169, 254, 7, 7].into(),
            "not-forwardable",
        ),
    ] {
        let series = "voicelane_interface_drops_total{interface=\"lan\",reason=";
        let series = format!("{series}\"{reason}\"}}");
        let before = network.metric(&series);
        let frame = udp(source, destination, macs, 20);
        send(socket.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
        eventually(reason, || network.metric(&series) > before);
    }
    let frame = udp([10, 1, 0, 10].into(), far, macs, 20);
    send(socket.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
    thread::sleep(Duration::from_secs(1)); // what is captured is written once a second
    let (pcap, _) = capture.stop().unwrap();
    let rows = Capture::fields(&pcap, "udp", &["ip.src"]).unwrap();
    assert_eq!(rows, [["10.1.0.10"]]);
    assert!(router.stop().unwrap().success());
}
