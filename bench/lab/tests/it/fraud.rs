//! Who has no call gets no priority, whatever he makes of his frames and addresses: twenty calls beside
//! him lose nothing. Needs root.

use std::{
    net::IpAddr,
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{
    network::{Network, port},
    real_ports::{interface_mac, wire},
};
use nix::sys::socket::{MsgFlags, send};
use voicelane_testbed::{
    Namespace, RouterOptions, Site,
    clock::{Moment, Pacer, Window},
    quality::LossPattern,
    traffic::{Calls, Flow},
};

/// How many honest calls there are.
const HONEST: u16 = 20;
/// What they send together: frames of 214 bytes, and 24 that the wire adds, 50 a second.
const HONEST_MBIT_S: f64 = 20.0 * 50.0 * 238.0 * 8.0 / 1e6;
const SECONDS: u64 = 5;

/// A frame for the router's port with a UDP packet of a flow, and so many bytes that are not of it.
fn frame(flow: &Flow, router: [u8; 6], payload: u16, trailer: usize) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (flow.source.ip(), flow.destination.ip())
    else {
        panic!("IPv4");
    };
    let mut frame = [&router[..], &[2, 0, 0, 0, 9, 9, 8, 0, 0x45, 46 << 2]].concat();
    frame.extend((28 + payload).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend([source.octets(), destination.octets()].concat());
    let words = frame[14..34].chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    for number in [flow.source.port(), flow.destination.port(), 8 + payload, 0] {
        frame.extend(number.to_be_bytes());
    }
    frame.resize(frame.len() + usize::from(payload) + trailer, 0x5a);
    frame
}

/// Sends a frame so many times a second until told to stop.
fn flood(from: &Namespace, frame: &[u8], packets_per_second: u64, stop: &AtomicBool) {
    let send_all = || {
        let wire = wire();
        let pacer = Pacer::new(Moment::now(), 1, packets_per_second * 8).unwrap();
        for packet in 0.. {
            pacer.due(packet).sleep();
            if stop.load(Ordering::Relaxed) {
                break;
            }
            send(wire.as_raw_fd(), frame, MsgFlags::empty()).ok();
        }
    };
    from.enter(send_all).unwrap();
}

/// What a router's core port has sent of EF, in bytes of the wire.
fn ef_bytes(network: &Network) -> u64 {
    let (ports, _) = network.agent.router_ports(Site::A).unwrap();
    let queues = &port(&ports, "core").queues;
    let telephony = queues.iter().find(|queue| queue.phb == "telephony");
    telephony.unwrap().sent_bytes
}

/// What twenty honest calls and the router's EF come to while somebody floods.
struct Outcome {
    lost_percent: f64,
    lost: u64,
    /// Of the first call's alone.
    lost_of_first: u64,
    ef_mbit_s: f64,
}

/// With bulk traffic of twice the core link's rate beside them.
fn beside(network: &Network, from: &Namespace, frame: &[u8], packets_per_second: u64) -> Outcome {
    let flows = network.sites.calls(HONEST);
    let bulk = network.bulk(20_000_000, 1_200);
    let mut calls = Calls::start(flows).unwrap();
    let stop = AtomicBool::new(false);
    let (window, bytes) = thread::scope(|scope| {
        scope.spawn(|| flood(from, frame, packets_per_second, &stop));
        thread::sleep(Duration::from_secs(1));
        let before = ef_bytes(network);
        let window = Window::pass(Duration::from_secs(SECONDS));
        let bytes = ef_bytes(network) - before;
        // What was sent in the window arrives while all goes on.
        thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        (window, bytes)
    });
    calls.stop(true).unwrap();
    bulk.stop().unwrap();
    assert_eq!((calls.send_failures(), calls.kernel_drops()), (0, 0));
    let to_callee = (0..usize::from(HONEST)).map(|call| calls.figures(2 * call, window).unwrap());
    let losses: Vec<_> = to_callee.map(|figures| figures.loss).collect();
    let sent: u64 = losses.iter().map(LossPattern::sent).sum();
    let lost: u64 = losses.iter().map(LossPattern::lost).sum();
    #[allow(clippy::cast_precision_loss, reason = "some thousand packets")]
    let outcome = Outcome {
        lost_percent: lost as f64 * 100.0 / sent as f64,
        lost,
        lost_of_first: losses[0].lost(),
        ef_mbit_s: bytes as f64 * 8.0 / 1e6 / window.seconds(),
    };
    println!(
        "honest calls lost {lost} of {sent} ({:.1} %); EF {:.2} Mbit/s, of which {HONEST_MBIT_S:.2} are theirs",
        outcome.lost_percent, outcome.ef_mbit_s
    );
    println!("the first call lost {:.1} %", losses[0].percent());
    outcome
}

fn network(lab: &str) -> Network {
    let network = Network::new(lab, &RouterOptions::default());
    for (call, flows) in network.sites.calls(HONEST + 1).chunks(2).enumerate() {
        network.add(&format!("call-{call}"), flows);
    }
    network
}

/// A call of 80 kbit/s whose sender puts packets of 29 bytes into full frames, 340 a second.
#[test]
fn a_call_in_full_frames_gets_no_more_than_it_was_admitted_with() {
    let network = network("trailer");
    let mac = network
        .sites
        .router_a
        .enter(|| interface_mac("lan"))
        .unwrap();
    let abuser = network.sites.calls(HONEST + 1)[2 * usize::from(HONEST)].clone();
    let frame = frame(&abuser, mac, 1, 1_514 - 43);
    assert_eq!(frame.len(), 1_514);
    let outcome = beside(&network, &network.sites.caller, &frame, 340);
    // 340 packets a second of the shortest frames: 84 bytes on the wire each.
    let own = 340.0 * 84.0 * 8.0 / 1e6;
    assert_eq!(
        outcome.lost, 0,
        "{:.1} % of the honest calls' packets",
        outcome.lost_percent
    );
    assert!(
        outcome.ef_mbit_s < (HONEST_MBIT_S + own) * 1.1,
        "{:.2} Mbit/s of EF",
        outcome.ef_mbit_s
    );
}

/// A spoofer on another edge port sends a call's five-tuple four times as fast as the call, with EF.
#[test]
fn a_calls_five_tuple_from_another_port_takes_nothing_from_it() {
    let network = network("spoof");
    let mac = network
        .sites
        .router_a
        .enter(|| interface_mac("bulk"))
        .unwrap();
    let victim = network.sites.calls(1)[0].clone();
    let frame = frame(&victim, mac, 172, 0);
    let outcome = beside(&network, &network.sites.bulk_src, &frame, 200);
    assert_eq!(
        outcome.lost_of_first, 0,
        "of the call whose five-tuple is spoofed"
    );
    assert_eq!(outcome.lost, 0);
    assert!(
        outcome.ef_mbit_s < HONEST_MBIT_S * 1.1,
        "{:.2} Mbit/s of EF",
        outcome.ef_mbit_s
    );
    let (ports, _) = network.agent.router_ports(Site::A).unwrap();
    let bulk = port(&ports, "bulk");
    assert!(bulk.spoofed_packets > 1_000, "{}", bulk.spoofed_packets);
    let spoofer = victim.source.ip().to_string();
    let seen = |offence: &str| {
        let mut senders = bulk.senders.iter();
        senders.any(|it| it.offence == offence && it.address == spoofer)
    };
    assert!(
        seen("spoofed") && seen("reverse-path"),
        "{:?}",
        bulk.senders
    );
    assert_eq!(port(&ports, "lan").spoofed_packets, 0);
}
