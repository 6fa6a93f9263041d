//! Sessions with a three-colour meter: what each packet of a video flow is marked with, against the
//! RFC's rules in exact numbers.

use crate::common::*;
use voicelane_dataplane::{
    control::{Answer, Request},
    diffserv::{Colour, ColourAction, ColourMode, Dscp, MeterKind, MeterSpec, Phb},
    session::{EntrySpec, FlowCounters, SessionChange, Terms},
    stats::{Count, DropReason},
};

const CIR: u64 = 1_000_000;
const CBS: u32 = 20_000;
const PIR: u64 = 2_000_000;
const PBS: u32 = 40_000;
/// IP packets of 1,000 bytes.
const PACKET: u32 = 1_000;
const PAYLOAD: usize = 972;

fn af4(precedence: u8) -> Dscp {
    Dscp::af(4, precedence).unwrap()
}

fn spec(mode: ColourMode) -> MeterSpec {
    MeterSpec {
        kind: MeterKind::TrTcm {
            pir: rate("2Mbit/s"),
            pbs_bytes: PBS,
        },
        cir: rate("1Mbit/s"),
        cbs_bytes: CBS,
        mode,
    }
}

/// AF41 for what is committed, AF42 up to the peak, and for the rest what is said.
fn video(packet: &Udp, mode: ColourMode, red: ColourAction) -> EntrySpec {
    EntrySpec {
        dscp: af4(1),
        terms: Terms::ThreeColour {
            spec: spec(mode),
            yellow: ColourAction::Mark(af4(2)),
            red,
        },
        ..packet.session("1Mbit/s", 1)
    }
}

/// RFC 2698 section 3, in bits times nanoseconds a second.
struct TrTcm {
    mode: ColourMode,
    tc: u128,
    tp: u128,
    last: u64,
}

impl TrTcm {
    const BYTE: u128 = 8 * CLOCK_HZ as u128;

    fn full(mode: ColourMode) -> Self {
        Self {
            mode,
            tc: u128::from(CBS) * Self::BYTE,
            tp: u128::from(PBS) * Self::BYTE,
            last: 0,
        }
    }

    fn colour(&mut self, now: u64, came_with: Colour) -> Colour {
        let elapsed = u128::from(now - self.last);
        self.last = now;
        self.tc = (self.tc + elapsed * u128::from(CIR)).min(u128::from(CBS) * Self::BYTE);
        self.tp = (self.tp + elapsed * u128::from(PIR)).min(u128::from(PBS) * Self::BYTE);
        let b = u128::from(PACKET) * Self::BYTE;
        let came_with = match self.mode {
            ColourMode::Blind => Colour::Green,
            ColourMode::Aware => came_with,
        };
        if came_with == Colour::Red || self.tp < b {
            return Colour::Red;
        }
        self.tp -= b;
        if came_with == Colour::Yellow || self.tc < b {
            return Colour::Yellow;
        }
        self.tc -= b;
        Colour::Green
    }
}

fn counters(rig: &mut Rig, packet: &Udp) -> FlowCounters {
    match rig.ask(Request::ReadFlows(vec![packet.flow()])) {
        Answer::Flows(flows) => flows[0].unwrap().counters,
        other => panic!("{other:?}"),
    }
}

fn of(packets: u64) -> Count {
    Count {
        packets,
        bytes: packets * u64::from(PACKET),
    }
}

/// Sends packets at a rate, from now on, in turn with each of the code points. Each must come out
/// as the model says. Returns how many there were of each colour.
fn send(
    rig: &mut Rig,
    model: &mut TrTcm,
    packet: &Udp,
    (bps, packets): (u64, u64),
    came_with: &[Dscp],
    red: ColourAction,
) -> [u64; 3] {
    let start = rig.now;
    let mut packet = packet.clone();
    let mut colours = [0; 3];
    for (number, came_with) in (0..packets).zip(came_with.iter().cycle()) {
        rig.advance_to(start + number * u64::from(PACKET) * 8 * CLOCK_HZ / bps);
        let colour = model.colour(rig.now, Colour::of(*came_with));
        colours[colour.index()] += 1;
        let expected = match (colour, red) {
            (Colour::Green, _) => Some(af4(1)),
            (Colour::Yellow, _) => Some(af4(2)),
            (Colour::Red, ColourAction::Keep) => Some(*came_with),
            (Colour::Red, ColourAction::Mark(dscp)) => Some(dscp),
            (Colour::Red, ColourAction::Drop) => None,
        };
        // ECN stays as it came.
        packet.tos = came_with.number() << 2 | 1;
        let marked = rig.forward(&packet.frame()).map(|frame| frame[15]);
        let expected = expected.map(|dscp| dscp.number() << 2 | 1);
        assert_eq!(marked, expected, "packet {number} at {bps} bit/s");
    }
    colours
}

/// At 1.5 times the committed rate two of three packets are AF41; at three times the peak one of
/// six is AF41 and one of six AF42. To the packet, with the red marked or dropped; each queued as
/// conferencing.
#[test]
fn video_is_marked_by_its_rate() {
    for red in [ColourAction::Mark(af4(3)), ColourAction::Drop] {
        let mut rig = Rig::new(&settings("10Gbit/s"));
        let call = Udp::new(HOST, FAR, 4000, PAYLOAD);
        rig.install(vec![video(&call, ColourMode::Blind, red)]);
        let mut model = TrTcm::full(ColourMode::Blind);
        let mut total = [0; 3];
        for (bps, green, yellow) in [
            (CIR / 2, 1_000..=1_000, 0..=0),
            (CIR * 3 / 2, 660..=690, 310..=340),
            (PIR, 495..=520, 480..=505),
            (PIR * 3 / 2, 325..=345, 325..=375),
            (PIR * 3, 160..=175, 160..=180),
        ] {
            // Blind: it may come with any code point.
            let from = [af4(3), Dscp::DF];
            let seen = send(&mut rig, &mut model, &call, (bps, 1_000), &from, red);
            assert!(green.contains(&seen[0]), "green at {bps}: {seen:?}");
            assert!(yellow.contains(&seen[1]), "yellow at {bps}: {seen:?}");
            for (total, seen) in total.iter_mut().zip(seen) {
                *total += seen;
            }
        }
        let dropped = if red == ColourAction::Drop {
            total[2]
        } else {
            0
        };
        let counted = counters(&mut rig, &call);
        assert_eq!(counted.colours, Some(total.map(of)));
        assert_eq!(counted.policed_packets, dropped);
        assert_eq!(counted.packets, 5_000 - dropped);
        assert_eq!(counted.bytes, (5_000 - dropped) * 1_000);
        let report = rig.report();
        let drops = report.interfaces[0].drops;
        assert_eq!(drops[DropReason::SessionPoliced.index()], dropped);
        let queue = &report.ports[1].queues[Phb::MultimediaConferencing.index()];
        assert_eq!(
            queue.sent_packets,
            5_000 - dropped,
            "no colour leaves its class"
        );
    }
}

/// What the sender already gave up stays given up, and does not use the tokens of the rest.
#[test]
fn an_aware_meter_heeds_what_the_sender_marked() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let call = Udp::new(HOST, FAR, 4000, PAYLOAD);
    rig.install(vec![video(&call, ColourMode::Aware, ColourAction::Keep)]);
    let mut model = TrTcm::full(ColourMode::Aware);
    let layers = [af4(1), af4(2), af4(1), af4(3)];
    let seen = send(
        &mut rig,
        &mut model,
        &call,
        (PIR, 1_000),
        &layers,
        ColourAction::Keep,
    );
    assert!((500..=510).contains(&seen[0]), "half is green: {seen:?}");
    assert_eq!(seen[2], 250);
    let seen = send(
        &mut rig,
        &mut model,
        &call,
        (PIR, 100),
        &[Dscp::EF],
        ColourAction::Keep,
    );
    assert!(seen[0] > 50, "what codes no colour is green: {seen:?}");
}

/// The same in IPv6.
#[test]
fn ipv6_video_is_marked_too() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let call = Udp6::new(HOST6, FAR6, 4000, 952);
    let terms = Terms::ThreeColour {
        spec: spec(ColourMode::Blind),
        yellow: ColourAction::Mark(af4(2)),
        red: ColourAction::Mark(af4(3)),
    };
    rig.install(vec![EntrySpec {
        dscp: af4(1),
        terms,
        ..call.session("1Mbit/s", 1)
    }]);
    let class = |frame: Vec<u8>| (frame[14] << 4 | frame[15] >> 4) >> 2;
    let marks: Vec<u8> = (0..41)
        .map(|_| class(rig.forward(&call.frame()).unwrap()))
        .collect();
    assert!(marks[..20].iter().all(|&mark| mark == 34), "CBS: {marks:?}");
    assert!(
        marks[20..40].iter().all(|&mark| mark == 36),
        "PBS: {marks:?}"
    );
    assert_eq!(marks[40], 38);
}

/// Changed in the middle, from a policer to a meter and back: the counters go on, and so does the
/// committed credit.
#[test]
fn a_policer_becomes_a_meter_and_back() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let call = Udp::new(HOST, FAR, 4000, PAYLOAD);
    let policed = EntrySpec {
        dscp: af4(1),
        ..call.session("1Mbit/s", CBS)
    };
    rig.install(vec![policed]);
    let forwarded = |rig: &mut Rig, packets: u32| {
        (0..packets)
            .filter_map(|_| rig.forward(&call.frame()).map(|frame| frame[15] >> 2))
            .fold([0_u32; 3], |mut marks, dscp| {
                marks[usize::from((dscp - 34) / 2)] += 1;
                marks
            })
    };
    assert_eq!(forwarded(&mut rig, 25), [20, 0, 0], "five policed");
    assert_eq!(counters(&mut rig, &call).colours, None);
    rig.install(vec![video(
        &call,
        ColourMode::Blind,
        ColourAction::Mark(af4(3)),
    )]);
    // C is as empty as the policer was; P is full.
    assert_eq!(forwarded(&mut rig, 50), [0, 40, 10]);
    let counted = counters(&mut rig, &call);
    assert_eq!(counted.colours, Some([of(20), of(40), of(15)]));
    assert_eq!((counted.packets, counted.policed_packets), (70, 5));
    rig.install(vec![policed]);
    rig.advance_to(80_000_000);
    assert_eq!(
        forwarded(&mut rig, 12),
        [10, 0, 0],
        "80 ms are 10,000 bytes"
    );
    let counted = counters(&mut rig, &call);
    assert_eq!(counted.colours, Some([of(30), of(40), of(17)]));
    assert_eq!((counted.packets, counted.policed_packets), (80, 7));
}

#[test]
fn terms_that_no_meter_can_have_change_nothing() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let call = Udp::new(HOST, FAR, 4000, PAYLOAD);
    let mut wrong = video(&call, ColourMode::Blind, ColourAction::Drop);
    wrong.terms = Terms::ThreeColour {
        spec: MeterSpec {
            cir: rate("3Mbit/s"),
            ..spec(ColourMode::Blind)
        },
        yellow: ColourAction::Drop,
        red: ColourAction::Drop,
    };
    let change = SessionChange {
        install: vec![call.session("80kbit/s", 1_000), wrong],
        remove: vec![],
        ..SessionChange::default()
    };
    let Answer::Session(Err(error)) = rig.ask(Request::Session(change)) else {
        panic!("it was taken")
    };
    assert!(
        error
            .to_string()
            .contains("PIR 2Mbit/s is under CIR 3Mbit/s"),
        "{error}"
    );
    assert_eq!(rig.report().entries, 0);
}
