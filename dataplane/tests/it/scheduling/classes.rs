//! Each class's behaviour on the virtual clock: minima and maxima, lower effort, early drops by
//! precedence, controlled delay with ECN, and how well EF is served.

use crate::common::{
    overload::{Overload, Stream, wire_bytes},
    *,
};
use voicelane_dataplane::{
    diffserv::{CodelProfile, Dscp, Management, Phb, Service},
    settings::PortSettings,
};

const LINK: u64 = 10_000_000;

fn af(class: u8, precedence: u8) -> Dscp {
    Dscp::af(class, precedence).unwrap()
}

/// 1,514-byte frames at a rate on the wire.
fn at(dscp: Dscp, bits_per_second: u64) -> Stream {
    Stream::at(dscp, 1514, bits_per_second)
}

fn class(port: &mut PortSettings, phb: Phb) -> &mut voicelane_dataplane::diffserv::ClassSettings {
    &mut port.classes[phb.index()]
}

/// The rate at which a code point left over 10 s, in kbit/s.
fn kbps(overload: &Overload, dscp: Dscp) -> u64 {
    overload.bytes(dscp) * 8 / 10_000
}

/// A class with a guaranteed minimum gets that, and its weight's share of the rest besides.
#[test]
fn a_minimum_comes_before_the_weights() {
    let streams = [at(af(1, 1), LINK), at(af(2, 1), LINK), at(Dscp::DF, LINK)];
    let mut overload = Overload::with(&streams, |port| {
        class(port, Phb::HighThroughputData).minimum = Some(rate("3Mbit/s"));
        for phb in [Phb::HighThroughputData, Phb::LowLatencyData, Phb::Standard] {
            class(port, phb).service = Service::Weighted(10);
        }
    });
    overload.run(10);
    for (dscp, expected) in [
        (af(1, 1), 3_000 + 7_000 / 3),
        (af(2, 1), 7_000 / 3),
        (Dscp::DF, 7_000 / 3),
    ] {
        let got = kbps(&overload, dscp);
        assert!(
            got.abs_diff(expected) <= 50,
            "{dscp}: {got} of {expected} kbit/s"
        );
    }
}

/// Minima go first even where a weight is next to nothing.
#[test]
fn minima_hold_without_weight() {
    let streams = [at(af(1, 1), LINK), at(Dscp::DF, 2 * LINK)];
    let mut overload = Overload::with(&streams, |port| {
        class(port, Phb::HighThroughputData).minimum = Some(rate("2Mbit/s"));
        class(port, Phb::HighThroughputData).service = Service::Weighted(1);
        class(port, Phb::Standard).service = Service::Weighted(1000);
    });
    overload.run(10);
    let got = kbps(&overload, af(1, 1));
    assert!((1_990..2_060).contains(&got), "{got} kbit/s");
}

/// A class gets no more than its maximum, though the link is idle; strict ones, too; and the port
/// says when it can go on.
#[test]
fn a_maximum_holds_on_an_idle_link() {
    let streams = [at(Dscp::DF, LINK), Stream::at(Dscp::EF, 214, LINK)];
    let mut overload = Overload::with(&streams, |port| {
        class(port, Phb::Standard).maximum = Some(rate("2Mbit/s"));
        class(port, Phb::Telephony).maximum = Some(rate("1Mbit/s"));
    });
    overload.run(10);
    for (dscp, expected) in [(Dscp::DF, 2_000), (Dscp::EF, 1_000)] {
        let got = kbps(&overload, dscp);
        assert!(
            got.abs_diff(expected) <= 20,
            "{dscp}: {got} of {expected} kbit/s"
        );
    }
}

/// Lower effort (RFC 8622) gets what others leave; its minimum keeps it moving when they leave
/// nothing.
#[test]
fn lower_effort_yields_and_still_moves() {
    let le = at(Dscp::LE, LINK);
    for (other, expected) in [(4_000_000, 6_000), (9_000_000, 1_000), (2 * LINK, 100)] {
        let mut overload = Overload::with(&[le, at(Dscp::DF, other)], |_| {});
        overload.run(10);
        let got = kbps(&overload, Dscp::LE);
        assert!(
            got.abs_diff(expected) <= 250.min(expected / 5),
            "{got} of {expected} kbit/s"
        );
        let lost = overload.rig.report().ports[1].queues[Phb::Standard.index()].dropped_packets();
        assert!(
            other > LINK || lost * 500 < overload.of(Dscp::DF).packets,
            "{lost} packets lost to lower effort"
        );
    }
    // Against strict priority over its cap, too.
    let mut overload = Overload::with(&[le, Stream::at(Dscp::EF, 1514, 2 * LINK)], |_| {});
    overload.run(10);
    assert!(kbps(&overload, Dscp::LE).abs_diff(100) <= 20);
}

/// RFC 2597: the higher the drop precedence, the more is dropped; what keeps to the class's share in
/// precedence 1 loses hardly anything; and nothing is reordered within the class.
#[test]
fn early_drops_go_by_precedence() {
    let streams = [
        at(af(4, 1), 1_000_000), // the class has 1.5 Mbit/s and more
        at(af(4, 2), 1_000_000),
        at(af(4, 3), 1_000_000),
        at(af(1, 1), LINK),
        at(Dscp::DF, LINK),
        at(Dscp::CS4, LINK),
        at(Dscp::CS3, LINK),
        at(Dscp::CS6, LINK),
        at(Dscp::CS5, LINK),
        at(Dscp::CS2, LINK),
        at(af(2, 1), LINK),
        at(af(3, 1), LINK),
    ];
    let mut overload = Overload::with(&streams, |_| {});
    overload.run(20);
    let early =
        overload.rig.report().ports[1].queues[Phb::MultimediaConferencing.index()].early_packets;
    let lost = [1, 2, 3].map(|precedence| {
        let dropped = early[usize::from(precedence) - 1];
        100 * dropped / (dropped + overload.of(af(4, precedence)).packets)
    });
    assert!(
        lost[0] <= 4 && (40..65).contains(&lost[1]) && lost[2] >= 85,
        "{lost:?} %"
    );
    assert_eq!(overload.reordered, 0);
    let report = overload.rig.report();
    let conferencing = &report.ports[1].queues[Phb::MultimediaConferencing.index()];
    assert_eq!(conferencing.full_packets, [0; 3], "early, not by the limit");
    assert!(conferencing.early_packets[2] > conferencing.early_packets[1]);
    assert!(conferencing.early_packets[1] > conferencing.early_packets[0]);
}

/// A sender that slows down when it is told: by controlled delay the queue stays short and the link
/// full, with ECN without a loss. Without it the queue stands at its limit.
#[test]
fn controlled_delay_keeps_a_responsive_queue_short() {
    let run = |management: Management, ecn: u8| {
        let stream = Stream {
            ecn,
            ..at(Dscp::DF, LINK / 2)
        };
        let mut overload = Overload::with(&[stream], |port| {
            class(port, Phb::Standard).management = management;
        });
        let mut known = 0;
        let mut halfway = 0;
        // Every round trip of 50 ms: half as much after a mark or a loss, a little more otherwise.
        for round in 1..=400 {
            overload.run_until(overload.rig.now + 50_000_000);
            let queue = overload.rig.report().ports[1].queues[Phb::Standard.index()].clone();
            let signals = queue.dropped_packets() + queue.ecn_marked_packets;
            let pace = &mut overload.streams[0].packets_per_second;
            *pace = if signals > known {
                *pace * 7 / 10
            } else {
                *pace + 10
            };
            known = signals;
            if round == 200 {
                halfway = overload.of(Dscp::DF).bytes;
                overload.sent.clear();
            }
        }
        overload.rig.invariants();
        assert!(halfway > 0);
        let sent = overload.of(Dscp::DF);
        let report = overload.rig.report();
        let queue = report.ports[1].queues[Phb::Standard.index()].clone();
        (sent, queue)
    };
    let codel = Management::Codel(CodelProfile::default());
    let full = 10 * LINK / 8; // ten seconds

    let (sent, queue) = run(codel, 0b10);
    assert_eq!(queue.dropped_packets(), 0, "an ECN sender loses nothing");
    assert!(queue.ecn_marked_packets > 5 && sent.marked > 0);
    assert!(
        sent.total_wait / sent.packets < 20_000_000,
        "{} ns",
        sent.total_wait / sent.packets
    );
    assert!(sent.bytes > full * 75 / 100, "{} of {full}", sent.bytes);

    let (sent, queue) = run(codel, 0);
    assert!(queue.delay_dropped_packets > 5);
    assert_eq!((queue.ecn_marked_packets, sent.marked), (0, 0));
    assert!(sent.total_wait / sent.packets < 20_000_000);

    let (sent, queue) = run(Management::TailDrop, 0b10);
    assert!(queue.full_packets[0] > 5 && queue.ecn_marked_packets == 0);
    assert!(sent.longest_wait > 90_000_000, "{} ns", sent.longest_wait);
}

/// The error terms that the port reports are those of RFC 3246's definition over what went in and
/// out; and under twofold overload no more than one packet of the largest size and the turn of the
/// loop.
#[test]
fn ef_is_late_by_one_packet_at_most() {
    let streams = [
        Stream::new(Dscp::EF, 214, 1_000),
        at(Dscp::DF, LINK),
        at(af(4, 1), LINK),
    ];
    let mut overload = Overload::with(&streams, |_| {});
    overload.run(10);
    let report = overload.rig.report();
    let ef = report.ports[1].ef.total;
    assert_eq!(ef.packets, overload.telephony.len() as u64);

    let (mut f, mut d, mut worst) = (0, 0, 0);
    for &(arrival, handed, bytes) in &overload.telephony {
        f = arrival.max(f.min(d)) + bytes * 8 * CLOCK_HZ / (LINK / 2);
        d = handed + bytes * 8 * CLOCK_HZ / LINK;
        worst = worst.max(d.saturating_sub(f));
    }
    assert_eq!((ef.aggregate.0, ef.packet.0), (worst, worst));
    let longest = wire_bytes(1514) * 8 * CLOCK_HZ / LINK;
    assert!(worst > longest / 2, "it had to wait");
    assert!(worst <= longest + 40_000, "{worst} ns");
    assert_eq!(report.ports[1].ef.last(11), ef);
}

/// EF and VOICE-ADMIT are one aggregate, in which telephony overtakes: E_p is worse than E_a.
#[test]
fn an_aggregate_of_two_queues_is_reordered() {
    let streams = [
        Stream::at(Dscp::EF, 1514, LINK * 4 / 10),
        Stream::at(Dscp::VOICE_ADMIT, 1514, LINK * 4 / 10),
        at(Dscp::DF, LINK),
    ];
    let mut overload = Overload::with(&streams, |port| port.strict_cap = rate("9Mbit/s"));
    overload.run(10);
    let ef = overload.rig.report().ports[1].ef.total;
    assert!(ef.packet > ef.aggregate, "{ef:?}");
}
