//! What the simulated clock shows, on real ports: the shaper's rate, and that no garbage hurts.
//! Needs root.

use std::{os::fd::OwnedFd, thread, time::Duration};

use crate::network::{Network, port};
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use voicelane_testbed::{RouterOptions, Site, clock::Window, topology::addresses, traffic::Sink};

/// Ethernet header 14, FCS 4, preamble 8, gap 12.
const WIRE_BYTES: f64 = 38.0;

/// What bulk traffic of `load` times the core link's rate makes of it over ten seconds.
fn shaped_mbit_s(
    core_rate: &str,
    bits_per_second: f64,
    load: f64,
    ip_packet_bytes: u16,
    seconds: u64,
) -> f64 {
    let options = RouterOptions {
        core_rate: core_rate.to_owned(),
        ..RouterOptions::default()
    };
    let network = Network::new("shaper", &options);
    let sink = Sink::start(&network.sites.bulk_sink, addresses::bulk(Site::B)).unwrap();
    let ip_share = f64::from(ip_packet_bytes) / (f64::from(ip_packet_bytes) + WIRE_BYTES);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive rate"
    )]
    let offered = (load * bits_per_second * ip_share) as u64;
    let bulk = network.bulk(offered, ip_packet_bytes);
    thread::sleep(Duration::from_secs(1));
    let window = Window::pass(Duration::from_secs(seconds));
    let figures = sink.figures(window);
    let lapses = bulk.lapses();
    bulk.stop().unwrap();
    let wire = figures.mbit_s / ip_share;
    println!("{core_rate}, {ip_packet_bytes} bytes of IP: {wire:.4} Mbit/s, {lapses} lapses");
    assert_eq!(sink.kernel_drops(), 0, "the sink kept up");
    wire
}

/// On a quiet machine 99 % and more; a worker that is kept off its core for longer than the shaper's
/// burst of a millisecond sends less for no fault of its own.
const BUSY: f64 = 0.8;

/// Never over the rate, for frames of 64 and of 1,514 bytes. Two cores do not send, route twice, receive and count the
/// 142,000 packets a second that fill 100 Mbit/s with the short ones: that is for the virtual clock.
#[test]
fn the_shaper_keeps_its_rate_on_real_ports() {
    // For so long that a frame is less than a percent.
    for (text, rate, ip_packet_bytes, seconds) in [
        ("1Mbit/s", 1.0, 50, 4),
        ("1Mbit/s", 1.0, 1_500, 10),
        ("10Mbit/s", 10.0, 50, 4),
        ("10Mbit/s", 10.0, 1_500, 4),
        ("100Mbit/s", 100.0, 1_500, 4),
    ] {
        let wire = shaped_mbit_s(text, rate * 1e6, 1.5, ip_packet_bytes, seconds);
        assert!(wire <= rate * 1.01, "{wire} Mbit/s at {text}");
        assert!(wire >= rate * BUSY, "{wire} Mbit/s at {text}");
    }
}

/// A frame for the router that is wrong somewhere, or not at all; but no fragment: net_af_packet has
/// the kernel put those together, so that it is the kernel who counts them.
fn mutated(random: &mut SmallRng, router_mac: [u8; 6]) -> Vec<u8> {
    let mut frame = router_mac.to_vec();
    frame.extend([
        2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0xb8, 0, 100, 0, 1, 0, 0, 64, 17, 0, 0,
    ]);
    frame.extend([
        10, 1, 0, 10, 10, 2, 0, 10, 0x4e, 0x20, 0x4e, 0x20, 0, 80, 0, 0,
    ]);
    frame.resize(114, 0xa5);
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..frame.len());
        match random.random_range(0..4) {
            0 => frame[at] ^= 1 << random.random_range(0..8),
            1 => frame[at] = random.random(),
            2 => frame.truncate(at.max(14)), // the kernel sends nothing shorter
            _ => frame.insert(at, random.random()),
        }
    }
    if let Some(fragment) = frame.get_mut(20..22) {
        fragment.fill(0);
    }
    if random.random() && frame.len() >= 34 {
        frame[24..26].fill(0);
        let sum = frame[14..34]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum::<u32>();
        let folded = (sum & 0xffff) + (sum >> 16);
        let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    }
    frame
}

/// A socket that sends whole frames out of a host's `eth0`, in whose namespace the thread is.
pub(crate) fn wire() -> OwnedFd {
    let wire = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::empty(),
        None,
    )
    .unwrap();
    let address = getifaddrs()
        .unwrap()
        .find(|a| a.interface_name == "eth0" && is_link(a))
        .and_then(|a| a.address)
        .unwrap();
    bind(std::os::fd::AsRawFd::as_raw_fd(&wire), &address).unwrap();
    wire
}

/// 100,000 mutated frames through a real port: each one counted, no buffer lost, and the routers
/// go on.
#[test]
fn garbage_is_counted_and_nothing_leaks() {
    const FRAMES: u64 = 100_000;
    let network = Network::new("garbage", &RouterOptions::default());
    let sites = &network.sites;
    let mac = sites.router_a.enter(|| interface_mac("lan")).unwrap();
    let (before, free_before) = settled(&network);
    let before = port(&before, "lan").rx_packets;

    let sent = sites
        .caller
        .enter(|| {
            let wire = wire();
            let mut random = SmallRng::seed_from_u64(11);
            let mut sent = 0;
            for number in 0..FRAMES {
                let frame = mutated(&mut random, mac);
                let fd = std::os::fd::AsRawFd::as_raw_fd(&wire);
                sent += u64::from(send(fd, &frame, MsgFlags::empty()).is_ok());
                if number % 50 == 0 {
                    thread::sleep(Duration::from_millis(2)); // what the port's ring holds
                }
            }
            sent
        })
        .unwrap();
    assert_eq!(sent, FRAMES);

    let (ports, free) = settled(&network);
    let lan = port(&ports, "lan");
    assert_eq!(lan.rx_packets - before, FRAMES, "each one received");
    let total =
        |f: &dyn Fn(&voicelane_proto::v1::PortStatus) -> u64| ports.iter().map(f).sum::<u64>();
    let received = total(&|port| port.rx_packets);
    let dropped = total(&|port| port.drops.iter().map(|count| count.packets).sum());
    let punted = total(&|port| port.punts.iter().map(|count| count.packets).sum());
    let twin = total(&|port| port.twin_packets);
    let enqueued = total(&|port| port.queues.iter().map(|queue| queue.enqueued_packets).sum());
    let refused = total(&|port| port.queues.iter().map(|queue| queue.dropped_packets).sum());
    let queue_full = total(&|port| {
        port.drops
            .iter()
            .filter(|c| c.name == "queue-full")
            .map(|c| c.packets)
            .sum()
    });
    println!("{received} received, {enqueued} queued, {dropped} dropped, {punted} punted");
    println!("{:?}", lan.drops);
    assert_eq!(
        received + twin,
        enqueued + refused + dropped - queue_full + punted
    );
    assert!(
        lan.drops.len() >= 6,
        "garbage of many kinds: {:?}",
        lan.drops
    );
    assert_eq!(free, free_before, "every buffer came back");

    // And calls go on as if nothing had been.
    let flows = sites.calls(1);
    network.add("call", &flows);
    let mut calls = voicelane_testbed::traffic::Calls::start(flows).unwrap();
    let window = Window::pass(Duration::from_secs(1));
    calls.stop(true).unwrap();
    assert_eq!(calls.figures(0, window).unwrap().loss.lost(), 0);
}

fn is_link(address: &nix::ifaddrs::InterfaceAddress) -> bool {
    address
        .address
        .as_ref()
        .is_some_and(|address| address.as_link_addr().is_some())
}

pub(crate) fn interface_mac(name: &str) -> [u8; 6] {
    getifaddrs()
        .unwrap()
        .find(|a| a.interface_name == name && is_link(a))
        .and_then(|a| a.address?.as_link_addr()?.addr())
        .unwrap()
}

/// Router A's ports and its free buffers, once nothing moves any more.
fn settled(network: &Network) -> (Vec<voicelane_proto::v1::PortStatus>, u64) {
    let mut last = network.agent.router_ports(Site::A).unwrap();
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(200));
        let now = network.agent.router_ports(Site::A).unwrap();
        let waiting = |ports: &[voicelane_proto::v1::PortStatus]| -> u64 {
            ports
                .iter()
                .flat_map(|port| &port.queues)
                .map(|queue| queue.depth_packets)
                .sum()
        };
        if now.1 == last.1 && waiting(&now.0) == 0 {
            return now;
        }
        last = now;
    }
    panic!("router A does not come to rest")
}
