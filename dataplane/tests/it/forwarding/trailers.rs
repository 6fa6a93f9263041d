//! What follows an IP packet in its frame is cut off: no meter counts it, so it must not be carried.

use crate::common::*;
use voicelane_dataplane::{
    Adjacency,
    control::{Answer, Request},
    device::Buffer as _,
    policy::Trust,
    units::InterfaceIndex,
};

/// A frame of each kind that has a way out of the core port.
fn kinds() -> Vec<Vec<u8>> {
    let call = Udp::new(HOST, FAR, 4000, 100);
    let changed = |change: &dyn Fn(&mut Udp)| {
        let mut packet = call.clone();
        change(&mut packet);
        packet.frame()
    };
    let call6 = Udp6::new(HOST6, FAR6, 4000, 100);
    let mut fragment6 = call6.clone();
    fragment6.extensions = (44, vec![17, 0, 0, 1, 0, 0, 0, 9]);
    let mut options6 = call6.clone();
    options6.extensions = (60, vec![17, 0, 1, 4, 0, 0, 0, 0]);
    let mut empty6 = call6.frame();
    empty6[18..21].copy_from_slice(&[0, 0, 59]); // no payload, no next header (RFC 8200 section 4.7)
    empty6.truncate(54);
    // A jumbo payload (RFC 2675) that no frame has.
    let mut jumbo6 = call6.frame();
    jumbo6[18..21].copy_from_slice(&[0, 0, 0]);
    jumbo6.truncate(54);
    vec![
        call.frame(),
        changed(&|packet| packet.payload = 0),
        changed(&|packet| packet.payload = 1),
        changed(&|packet| packet.protocol = 6),
        changed(&|packet| packet.protocol = 50),
        changed(&|packet| packet.options = vec![1; 40]),
        changed(&|packet| packet.fragment = 0x2000),
        changed(&|packet| packet.fragment = 0x2001),
        call6.frame(),
        fragment6.frame(),
        options6.frame(),
        empty6,
        jumbo6,
    ]
}

fn rig() -> Rig {
    let mut settings = settings("1Gbit/s");
    settings.ports[0].vlans = vec![vlan(100, Trust::Keep)];
    settings.ports[1].vlans = vec![vlan(300, Trust::Keep)];
    let mut rig = Rig::new(&settings);
    let tagged = Adjacency::Forward {
        interface: InterfaceIndex(3),
        destination: PEER_MAC,
        source: CORE_MAC,
    };
    rig.route(6, tagged, "10.5.0.0", 16);
    rig.install(vec![
        Udp::new(HOST, FAR, 4000, 0).session("10Mbit/s", 100_000),
        Udp6::new(HOST6, FAR6, 4000, 0).session("10Mbit/s", 100_000),
    ]);
    rig
}

/// With a tag or without, taken off by the device or here: what leaves is as long as the packet, or as
/// Ethernet's minimum.
#[test]
fn what_follows_a_packet_is_not_sent() {
    for frame in kinds() {
        for trailer in [0, 1, 40, 900] {
            let filled = with_trailer(&frame, trailer);
            let expected = filled.len().min(frame.len().max(60));
            let of_device = |rig: &mut Rig| {
                let buffer = rig.pool.frame(filled.clone()).with_stripped_vlan(100);
                rig.deliver_buffer(EDGE, buffer);
            };
            let deliver: [&dyn Fn(&mut Rig); 4] = [
                &|rig| rig.deliver(EDGE, &filled),
                &|rig| rig.deliver(EDGE, &tagged(&filled, 100)),
                &|rig| rig.deliver(EDGE, &tagged(&filled, 0)),
                &of_device,
            ];
            for (way, deliver) in deliver.iter().enumerate() {
                let mut rig = rig();
                deliver(&mut rig);
                rig.turn();
                let report = rig.report();
                let received = filled.len() + if matches!(way, 1 | 2) { 4 } else { 0 };
                assert_eq!(report.ports[0].port.rx_bytes, received as u64);
                let (_, sent) = rig.sent(CORE).pop().unwrap();
                let what = format!("{trailer} bytes behind {frame:02x?}, way {way}");
                assert_eq!(sent.len(), expected, "{what}");
                assert_eq!(report.ports[1].port.tx_bytes, expected as u64, "{what}");
                let cut = |frame: &[u8]| frame[34..].to_vec();
                assert!(cut(&filled).starts_with(&cut(&sent)), "{what}");
            }
        }
    }
}

#[test]
fn a_frame_that_leaves_with_a_tag_is_cut_too() {
    let mut rig = rig();
    let call = Udp::new(HOST, FAR_VLAN, 4000, 0).frame();
    let sent = rig.forward(&with_trailer(&call, 900)).unwrap();
    assert_eq!((sent.len(), &sent[12..14]), (64, &[0x81, 0][..]));
}

#[test]
fn the_kernel_gets_packets_without_what_follows_them() {
    let mut expired = Udp::new(HOST, FAR, 5000, 100);
    expired.ttl = 1;
    let mut fragment = Udp::new(HOST, OWN, 5000, 100);
    fragment.fragment = 0x2001;
    let group: std::net::Ipv6Addr = "ff02::1".parse().unwrap();
    for frame in [
        Udp::new(HOST, OWN, 5000, 100).frame(),
        Udp::new(HOST, "224.0.0.5".parse().unwrap(), 5000, 100).frame(),
        fragment.frame(),
        expired.frame(),
        Udp6::new(HOST6, OWN6, 5000, 100).frame(),
        Udp6::new("fe80::5".parse().unwrap(), OWN6, 5000, 100).frame(),
        Udp6::new(HOST6, group, 5000, 100).frame(),
    ] {
        for tag in [false, true] {
            let mut rig = rig();
            let filled = with_trailer(&frame, 900);
            let filled = if tag { tagged(&filled, 100) } else { filled };
            rig.deliver(EDGE, &filled);
            rig.turn();
            let (_, punted) = rig.twins.from_worker.try_recv().unwrap();
            assert_eq!(punted.bytes(), frame, "tagged: {tag}");
        }
    }
}

/// The report that led to this: 340 packets a second of 29 bytes, admitted with 80 kbit/s, in frames of
/// 1,514, let 3.8 Mbit/s of EF out, and nothing was policed.
#[test]
fn a_full_frame_carries_no_more_than_its_session_was_admitted_with() {
    let call = Udp::new(HOST, FAR, 4000, 1);
    let call6 = Udp6::new(HOST6, FAR6, 4000, 1);
    let filled = [
        (call.flow(), with_trailer(&call.frame(), 1_514 - 43)),
        (
            call.flow(),
            tagged(&with_trailer(&call.frame(), 1_514 - 43), 0),
        ),
        (call6.flow(), with_trailer(&call6.frame(), 1_514 - 63)),
    ];
    for (flow, frame) in filled {
        let mut rig = Rig::new(&settings("1Gbit/s"));
        rig.install(vec![
            call.session("80kbit/s", 3_000),
            call6.session("80kbit/s", 3_000),
        ]);
        let mut bytes = 0;
        for _ in 0..340 {
            rig.deliver(EDGE, &frame);
            rig.advance_to(rig.now + CLOCK_HZ / 340);
            rig.turn();
            let sent = rig.sent(CORE);
            assert!(sent.iter().all(|(_, frame)| frame.len() <= 63));
            bytes += sent.iter().map(|(_, frame)| frame.len()).sum::<usize>();
        }
        // 80 kbit/s of such packets are 345 a second.
        assert!(bytes * 8 <= 345 * 63 * 8, "{} bit/s of EF", bytes * 8);
        let Answer::Flows(flows) = rig.ask(Request::ReadFlows(vec![flow])) else {
            panic!("no counters");
        };
        let counters = flows[0].unwrap().counters;
        assert_eq!(counters.packets + counters.policed_packets, 340);
        assert!(counters.bytes <= 80_000 / 8 + 3_000, "{counters:?}");
    }
}

/// A meter of an interface or rule counts as the session's does, and so does the largest packet of the
/// way out.
#[test]
fn a_trailer_does_not_pass_a_smaller_mtu() {
    let mut settings = settings("1Gbit/s");
    settings.ports[1].mtu = 1_280;
    let mut rig = Rig::new(&settings);
    let small = Udp::new(HOST, FAR, 5000, 1);
    let sent = rig.forward(&with_trailer(&small.frame(), 1_400)).unwrap();
    assert_eq!(sent.len(), 60);
}
