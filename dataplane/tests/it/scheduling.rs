//! The shaper, strict priority, weights and limits, on the virtual clock.

mod bypass;
mod classes;

use crate::common::{
    overload::{Overload, wire_bytes},
    *,
};
use voicelane_dataplane::{
    diffserv::{ClassSettings, Dscp, Management, Phb, Service},
    stats::DropReason,
};

/// The shaper's rate is right within 1 % over 10 s, for short and long packets, and those that Ethernet
/// pads; and never over it by more than its burst in any shorter time.
#[test]
fn the_shaper_keeps_its_rate() {
    for rate_text in ["1Mbit/s", "10Mbit/s", "100Mbit/s"] {
        for frame_bytes in [42, 64, 1514] {
            let mut settings = settings(rate_text);
            settings.ports[1].mtu = 1500;
            let mut rig = Rig::new(&settings);
            let rate = rate(rate_text).bps();
            let frame = Udp::of_frame(FAR, 4000, frame_bytes).frame();
            // Offered: twice the rate, in small heaps; the loop turns every 10 microseconds.
            let interval = wire_bytes(frame_bytes) * 8 * CLOCK_HZ / rate / 2;
            let (mut next, mut sent, mut bits) = (0, 0_u64, 0);
            let start = rig.now;
            let end = 10 * CLOCK_HZ;
            while rig.now < end {
                while next <= rig.now {
                    rig.deliver(EDGE, &frame);
                    next += interval;
                }
                rig.turn();
                sent += rig.sent(CORE).len() as u64;
                bits = sent * wire_bytes(frame_bytes) * 8;
                let allowed = (rig.now - start) * (rate / 1_000) / (CLOCK_HZ / 1_000);
                let burst = rate / 1_000 + 8 * wire_bytes(frame_bytes);
                assert!(bits <= allowed + burst, "{bits} bits after {} ns", rig.now);
                rig.advance_to(rig.now + 10_000);
            }
            let ideal = rate * 10;
            assert!(
                bits.abs_diff(ideal) * 100 <= ideal,
                "{rate_text}, {frame_bytes} bytes: {bits} bits, {ideal} would be right"
            );
            rig.invariants();
        }
    }
}

/// Telephony waits for one packet of the largest size, the turn of the loop, and its own kind; and
/// loses nothing.
#[test]
fn strict_priority_waits_for_one_packet_at_most() {
    let mut overload = Overload::new(
        "5Mbit/s",
        &[
            (Dscp::EF, 214, 1_000),
            (Dscp::DF, 1514, 2_000),
            (Dscp::AF41, 1514, 1_000),
        ],
    );
    overload.run(10);
    let longest = wire_bytes(1514) * 8 * CLOCK_HZ / 10_000_000;
    let own = wire_bytes(214) * 8 * CLOCK_HZ / 10_000_000;
    // The shaper may be one packet in deficit when the next one comes.
    assert!(
        overload.wait(Dscp::EF) <= longest + 2 * own + 40_000,
        "{} ns",
        overload.wait(Dscp::EF)
    );
    assert!(overload.bytes(Dscp::EF).abs_diff(10_000 * wire_bytes(214)) <= wire_bytes(214));
    let report = overload.rig.report();
    let telephony = &report.ports[1].queues[Phb::Telephony.index()];
    assert_eq!(telephony.dropped_packets(), 0);
    assert!(telephony.delay_ns.max() <= longest + 2 * own + 40_000);
    assert!(report.interfaces[0].drops[DropReason::QueueFull.index()] > 0);
}

/// Telephony that is more than the whole link gets its cap, not more, and the others the rest; when
/// the others are quiet, it gets everything.
#[test]
fn strict_priority_is_capped_while_others_wait() {
    let mut overload = Overload::new(
        "3Mbit/s",
        &[
            (Dscp::EF, 1514, 2_000),
            (Dscp::VOICE_ADMIT, 1514, 2_000),
            (Dscp::DF, 1514, 2_000),
        ],
    );
    overload.run(10);
    let total = 10_000_000 * 10 / 8;
    let strict = overload.bytes(Dscp::EF) + overload.bytes(Dscp::VOICE_ADMIT);
    assert!(
        strict.abs_diff(total * 3 / 10) < total / 100,
        "{strict} of {total}"
    );
    assert!(overload.bytes(Dscp::DF).abs_diff(total * 7 / 10) < total / 100);
    assert!(
        overload.bytes(Dscp::VOICE_ADMIT) <= wire_bytes(1514),
        "telephony goes first"
    );

    let mut alone = Overload::new("3Mbit/s", &[(Dscp::EF, 1514, 2_000)]);
    alone.run(10);
    assert!(
        alone.bytes(Dscp::EF).abs_diff(total) < total / 100,
        "nothing is left unused"
    );
}

/// What telephony was sent over its cap while nobody else waited is no debt when others come.
#[test]
fn strict_priority_owes_nothing_for_what_nobody_wanted() {
    let mut overload = Overload::new(
        "3Mbit/s",
        &[(Dscp::EF, 214, 4_000), (Dscp::DF, 1514, 2_000)],
    );
    overload.streams[1].packets_per_second = 20;
    overload.run(5);
    overload.streams[0].packets_per_second = 1_000;
    overload.streams[1].packets_per_second = 2_000;
    let before = overload.bytes(Dscp::EF);
    overload.sent.clear();
    overload.run(1);
    assert!(before > 5 * 3_000_000 / 8, "more than its cap");
    let sent = overload.of(Dscp::EF).packets;
    assert!(sent.abs_diff(1_000) <= 10, "{sent} packets");
    let longest = wire_bytes(1514) * 8 * CLOCK_HZ / 10_000_000;
    let wait = overload.wait(Dscp::EF);
    assert!(wait < 3 * longest, "{wait} ns");
}

/// With all weighted classes overloaded, each gets its weight within 0.5 % of the link, whatever
/// the sizes of its packets.
#[test]
fn weights_are_kept() {
    let codepoints = [48, 40, 34, 32, 26, 24, 18, 16, 10, 0, 1].map(|n| Dscp::new(n).unwrap());
    let flows: Vec<_> = codepoints
        .into_iter()
        .zip(
            [64, 1514, 300, 1000, 64, 1514, 700, 1514, 100, 1514, 1514]
                .into_iter()
                .cycle(),
        )
        .map(|(dscp, bytes)| {
            (
                dscp,
                bytes,
                500_000 / u32::try_from(wire_bytes(bytes)).unwrap(),
            )
        })
        .collect();
    let mut overload = Overload::new("5Mbit/s", &flows);
    overload.run(20);
    let total: u64 = overload.sent.values().map(|sent| sent.bytes).sum();
    assert!(total.abs_diff(10_000_000 * 20 / 8) < total / 100);
    for dscp in codepoints {
        // Of what lower effort's minimum of 1 % leaves.
        let expected = match ClassSettings::of(Phb::of(dscp), rate("10Mbit/s")).service {
            Service::Weighted(weight) => u64::from(weight) * 99,
            Service::LowerEffort => 100,
            Service::Strict => panic!("{dscp}"),
        };
        let share = overload.bytes(dscp) * 10_000 / total;
        assert!(share.abs_diff(expected) <= 50, "{dscp}: {share} of 10,000");
    }
}

/// What a quiet class leaves goes to the others by their weights; one alone gets everything.
#[test]
fn spare_capacity_goes_by_weight() {
    let (af41, af11) = (Dscp::AF41, Dscp::af(1, 1).unwrap()); // 15 and 9
    let mut two = Overload::new("5Mbit/s", &[(af41, 1514, 2_000), (af11, 1514, 2_000)]);
    two.run(10);
    let total = two.bytes(af41) + two.bytes(af11);
    assert!(
        two.bytes(af41).abs_diff(total * 15 / 24) < total / 200,
        "15 to 9"
    );
    let mut alone = Overload::new("5Mbit/s", &[(Dscp::LE, 1514, 2_000)]);
    alone.run(10);
    assert!(alone.bytes(Dscp::LE).abs_diff(10_000_000 * 10 / 8) < 125_000);
}

#[test]
fn a_queue_holds_what_its_limits_say() {
    let mut settings = settings("10Mbit/s");
    let standard = &mut settings.ports[1].classes[Phb::Standard.index()];
    standard.limit_ms = 100; // 125,000 bytes
    standard.limit_packets = 50;
    let mut rig = Rig::new(&settings);
    for _ in 0..200 {
        rig.deliver(EDGE, &Udp::of_frame(FAR, 4000, 1514).frame());
        rig.turn();
    }
    let report = rig.report();
    let standard = &report.ports[1].queues[Phb::Standard.index()];
    assert_eq!(standard.depth_packets, 50);
    let sent = rig.sent(CORE).len() as u64;
    assert_eq!(standard.dropped_packets(), 150 - sent);
    assert_eq!(
        report.interfaces[0].drops[DropReason::QueueFull.index()],
        150 - sent
    );
    assert_eq!(rig.pool.in_use(), 50);
    rig.invariants();
}

/// In an overloaded queue short packets lose as many as long ones.
#[test]
fn a_full_queue_does_not_ask_for_the_length() {
    let flows = [(Dscp::DF, 1514, 1_600), (Dscp::DF, 214, 1_000)];
    let mut overload = Overload::new("5Mbit/s", &flows);
    overload.run(10);
    let [long, short] = [(1514, 16_000), (214, 10_000)]
        .map(|(bytes, offered)| overload.packets_by_length[&bytes] * 100 / offered);
    assert!(
        long.abs_diff(short) <= 10,
        "{long} % of the long, {short} % of the short"
    );
}

/// A device that takes nothing holds up its own port only, and nothing is lost but by the limits.
#[test]
fn a_blocked_port_loses_nothing_before_its_limit() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    rig.block(CORE, true);
    for _ in 0..100 {
        rig.deliver(EDGE, &Udp::of_frame(FAR, 4000, 1514).frame());
        let mut back = Udp::new(FAR, HOST, 4000, 100);
        back.mac = CORE_MAC;
        rig.deliver(CORE, &back.frame());
        rig.turn();
    }
    assert!(rig.sent(CORE).is_empty());
    assert_eq!(rig.sent(EDGE).len(), 100);
    rig.block(CORE, false);
    for turn in 1..100 {
        rig.advance_to(turn * 10_000);
        rig.turn();
    }
    assert_eq!(rig.sent(CORE).len(), 100);
    assert_eq!(rig.pool.in_use(), 0);
}

/// Queues that are full share what there is for them: each has as much as any other, and a quarter of it
/// is left for who comes next. One that is alone has all that its limit allows. Strict priority takes no
/// part in it.
#[test]
fn full_queues_share_their_room() {
    let mut settings = settings("10Gbit/s");
    for (phb, class) in Phb::ALL.into_iter().zip(&mut settings.ports[1].classes) {
        class.management = Management::TailDrop;
        class.limit_packets = if phb == Phb::Oam { 100 } else { 600 };
    }
    let depths = |dscps: &[Dscp]| {
        let mut rig = Rig::new(&settings);
        rig.block(CORE, true);
        for _ in 0..1_000 {
            for dscp in dscps {
                let mut packet = Udp::of_frame(FAR, 4000, 214);
                packet.tos = dscp.number() << 2;
                packet.mac = CORE_MAC;
                rig.deliver(CORE, &packet.frame());
            }
            rig.turn();
        }
        let report = rig.report();
        rig.invariants();
        report.ports[1]
            .queues
            .iter()
            .map(|queue| queue.depth_packets)
            .collect::<Vec<_>>()
    };
    let of = |depths: &[u64], phb: Phb| depths[phb.index()];

    // What is on its way when the port blocks is in no queue: hence a burst more or less.
    let close = |depth: u64, expected: u64| depth.abs_diff(expected) <= 1;
    let alone = depths(&[Dscp::DF]);
    assert!(close(of(&alone, Phb::Standard), 600), "{alone:?}");
    let (af41, af11) = (Dscp::AF41, Dscp::af(1, 1).unwrap());
    let three = depths(&[Dscp::DF, af41, af11]);
    for phb in [
        Phb::Standard,
        Phb::MultimediaConferencing,
        Phb::HighThroughputData,
    ] {
        assert!(close(of(&three, phb), 4 * 750 / 13), "{three:?}");
    }
    // Beside one with a limit of its own below its part.
    let limited = depths(&[Dscp::DF, Dscp::CS2]);
    assert!(close(of(&limited, Phb::Oam), 100), "{limited:?}");
    assert!(
        close(of(&limited, Phb::Standard), 4 * (750 - 100) / 5),
        "{limited:?}"
    );
    let strict = depths(&[Dscp::DF, Dscp::EF]);
    assert!(close(of(&strict, Phb::Telephony), 600), "{strict:?}");
    assert!(close(of(&strict, Phb::Standard), 600), "{strict:?}");
}

/// Every class offered three times its share of 100 Mbit/s at once, with queues that are long for any share:
/// none holds its packets for much longer than its limit in time. By bytes and packets alone the
/// slowest would wait for seconds.
#[test]
fn no_class_waits_longer_than_its_limit_in_time() {
    let mut settings = settings("100Mbit/s");
    for class in &mut settings.ports[1].classes {
        class.limit_packets = 4_096;
    }
    let mut rig = Rig::new(&settings);
    let offered = [
        (Dscp::CS6, 30, Phb::NetworkControl),
        (Dscp::CS5, 15, Phb::Signalling),
        (Dscp::AF41, 45, Phb::MultimediaConferencing),
        (Dscp::CS4, 27, Phb::RealtimeInteractive),
        (Dscp::af(3, 1).unwrap(), 27, Phb::MultimediaStreaming),
        (Dscp::CS3, 27, Phb::BroadcastVideo),
        (Dscp::af(2, 1).unwrap(), 27, Phb::LowLatencyData),
        (Dscp::CS2, 15, Phb::Oam),
        (Dscp::af(1, 1).unwrap(), 27, Phb::HighThroughputData),
        (Dscp::DF, 60, Phb::Standard),
        (Dscp::LE, 3, Phb::LowerEffort),
    ];
    let frames = offered.map(|(dscp, _, _)| {
        let mut udp = Udp::of_frame(FAR, 9, 1_000);
        (udp.tos, udp.mac) = (dscp.number() << 2, CORE_MAC);
        udp.frame()
    });
    // A percent of the link is a packet in so long.
    let one_percent = 1_024 * 8 * 1_000;
    let mut next = [0; 11];
    while rig.now < 4 * CLOCK_HZ {
        for (next, (frame, (_, percent, _))) in next.iter_mut().zip(frames.iter().zip(offered)) {
            while *next <= rig.now {
                rig.deliver(CORE, frame);
                *next += one_percent / percent;
            }
        }
        rig.turn();
        rig.advance_to(rig.now + 50_000);
    }
    let report = rig.report();
    let longest = offered.map(|(_, _, phb)| {
        let queue = &report.ports[1].queues[phb.index()];
        assert!(queue.sent_packets > 100, "{phb:?}: {}", queue.sent_packets);
        (phb, queue.delay_ns.max() / 1_000_000)
    });
    // Random early detection goes by an average of the time.
    let early = |phb: Phb| {
        let class = &settings.ports[1].classes[phb.index()];
        matches!(class.management, Management::Wred(_))
    };
    let ceiling = |phb| if early(phb) { 650 } else { 350 };
    let kept = longest.iter().all(|&(phb, ms)| ms <= ceiling(phb));
    assert!(kept, "{longest:?}");
}
