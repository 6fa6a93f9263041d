//! What is measured is what an exact model says, that keeps every number.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test ends at what it did not expect"
)]

mod model;

use proptest::{collection::vec, prelude::*};
use voicelane_machine::HEAP;

use self::model::{Arrival, Model};
use super::{FlowQuality, Measurements, Moment, Payload, PayloadTypes};
use crate::units::{TickRate, Ticks};

const NS: u64 = 1_000_000_000;
const SPACING_NS: u64 = 20_000_000;
const EVENT: u8 = 101;

fn measurements() -> Measurements {
    Measurements::new(1, TickRate::from_hz(NS), HEAP)
}

/// Says whether the number is a new one of the stream.
fn take(measured: &mut Measurements, packet: &[u8; 12], now: Ticks) -> bool {
    measured.take_next(0, packet, &mut Moment::new(now)) || measured.take_other(0, packet, now)
}

fn types(clock_hz: u32) -> PayloadTypes {
    let mut types = PayloadTypes::default();
    assert!(types.declare(96, Payload::media(clock_hz)));
    assert!(types.declare(EVENT, Payload::EVENT));
    types
}

fn packet(arrival: &Arrival) -> [u8; 12] {
    let payload_type = if arrival.event { EVENT } else { 96 };
    let mut packet = [0; 12];
    packet[0] = 0x80;
    packet[1] = u8::from(arrival.marker) << 7 | payload_type;
    packet[2..4].copy_from_slice(&arrival.number.to_be_bytes());
    packet[4..8].copy_from_slice(&arrival.timestamp.to_be_bytes());
    packet[8..].copy_from_slice(&arrival.ssrc.to_be_bytes());
    packet
}

/// Something that happens to a stream on its way.
#[derive(Clone, Debug)]
enum Step {
    /// Packets, each so many microseconds after its time.
    Packets(Vec<u16>),
    Marked,
    Event,
    /// Numbers that never come.
    Lost(u16),
    /// A number so far back comes, again or late.
    Back(u16),
    /// Numbers that come when so many others have.
    Late {
        numbers: u8,
        after: u8,
    },
    /// Nothing is sent; timestamps keep the time.
    Silence {
        ms: u16,
    },
    /// Timestamps do not keep it.
    Jump {
        seconds: u8,
    },
    /// Another number and timestamp.
    Restart(u16),
    NewSource {
        ssrc: u32,
        number: u16,
    },
    Stray {
        ssrc: u32,
        number: u16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec(0_u16..9_000, 1..200).prop_map(Step::Packets),
        1 => Just(Step::Marked),
        1 => Just(Step::Event),
        3 => (1_u16..30).prop_map(Step::Lost),
        1 => (1_u16..3_200).prop_map(Step::Lost),
        2 => (0_u16..12).prop_map(Step::Back),
        2 => (0_u16..140).prop_map(Step::Back),
        3 => (1_u8..4, 1_u8..90).prop_map(|(numbers, after)| Step::Late { numbers, after }),
        1 => (0_u16..3_000).prop_map(|ms| Step::Silence { ms }),
        1 => (2_u8..200).prop_map(|seconds| Step::Jump { seconds }),
        1 => any::<u16>().prop_map(Step::Restart),
        1 => (0_u32..4, any::<u16>()).prop_map(|(ssrc, number)| Step::NewSource { ssrc, number }),
        1 => (0_u32..4, any::<u16>()).prop_map(|(ssrc, number)| Step::Stray { ssrc, number }),
    ]
}

/// A sender, the way to us, and what came.
struct Sender {
    clock_hz: u32,
    at_ns: u64,
    number: u16,
    timestamp: u32,
    ssrc: u32,
    arrivals: Vec<Arrival>,
}

impl Sender {
    fn next(&mut self, delay_us: u64) -> Arrival {
        let arrival = Arrival {
            at_ns: self.at_ns + delay_us * 1_000,
            number: self.number,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            marker: false,
            event: false,
        };
        self.pass(SPACING_NS);
        self.number = self.number.wrapping_add(1);
        arrival
    }

    fn pass(&mut self, ns: u64) {
        self.at_ns += ns;
        let ticks = ns * u64::from(self.clock_hz) / NS;
        self.timestamp = self.timestamp.wrapping_add(ticks as u32);
    }

    fn send(&mut self, change: impl FnOnce(&mut Arrival)) {
        let mut arrival = self.next(0);
        change(&mut arrival);
        self.arrivals.push(arrival);
    }

    fn happens(&mut self, step: &Step) {
        match *step {
            Step::Packets(ref delays) => {
                for &delay in delays {
                    let arrival = self.next(delay.into());
                    self.arrivals.push(arrival);
                }
            }
            Step::Marked => self.send(|it| it.marker = true),
            Step::Event => self.send(|it| it.event = true),
            Step::Lost(numbers) => {
                for _ in 0..numbers {
                    self.next(0);
                }
            }
            Step::Back(by) => {
                let number = self.number.wrapping_sub(by);
                self.arrivals.push(Arrival {
                    at_ns: self.at_ns,
                    number,
                    timestamp: self.timestamp,
                    ssrc: self.ssrc,
                    marker: false,
                    event: false,
                });
            }
            Step::Late { numbers, after } => {
                let late: Vec<_> = (0..numbers).map(|_| self.next(0)).collect();
                for _ in 0..after {
                    self.send(|_| {});
                }
                let at_ns = self.at_ns;
                self.arrivals
                    .extend(late.into_iter().map(|it| Arrival { at_ns, ..it }));
            }
            Step::Silence { ms } => self.pass(u64::from(ms) * 1_000_000),
            Step::Jump { seconds } => {
                let ticks = self.clock_hz * u32::from(seconds);
                self.timestamp = self.timestamp.wrapping_add(ticks);
            }
            Step::Restart(number) => {
                (self.number, self.timestamp) = (number, self.timestamp.wrapping_mul(7));
            }
            Step::NewSource { ssrc, number } => (self.ssrc, self.number) = (ssrc, number),
            Step::Stray { ssrc, number } => self.arrivals.push(Arrival {
                at_ns: self.at_ns,
                number,
                timestamp: 1,
                ssrc,
                marker: false,
                event: false,
            }),
        }
    }
}

fn assert_same(quality: &FlowQuality, model: &Model, clock_hz: u32) {
    let expected = model.result();
    let counts = |q: &FlowQuality| {
        [
            ("expected", q.expected),
            ("received", q.received),
            ("lost", q.lost),
            ("runs", q.runs),
            ("bursts", q.bursts),
            ("burst packets", q.burst_packets),
            ("burst lost", q.burst_lost),
            ("duplicates", q.duplicates),
            ("reordered", q.reordered),
            ("talk spurts", q.talk_spurts),
            ("events", q.event_packets),
            ("foreign", q.foreign),
            ("restarts", q.restarts),
            ("SSRC changes", q.ssrc_changes),
            ("timestamp jumps", q.timestamp_jumps),
        ]
    };
    assert_eq!(counts(quality), counts(&expected));
    for it in quality.checkpoints.iter().flatten() {
        let first = quality.first_number().unwrap();
        assert_eq!(
            u64::from(it.lost),
            model.lost_in_first(it.number - first),
            "{it:?}"
        );
    }
    let [jitter, most] = model.jitter_ticks();
    let ns = |ticks: f64| ticks * 1e9 / f64::from(clock_hz);
    if quality.clock_hz.is_some() {
        for (ours, exact) in [(quality.jitter_ns, jitter), (quality.jitter_max_ns, most)] {
            let difference = ours.unwrap() as f64 - ns(exact);
            assert!(difference.abs() < 1_000.0, "{ours:?} for {}", ns(exact));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 5 / 2, ..ProptestConfig::default() })]

    #[test]
    fn what_is_measured_is_what_the_model_says(
        first in prop_oneof![any::<u16>(), 65_400_u16..=u16::MAX],
        timestamp in any::<u32>(),
        clock_hz in prop_oneof![Just(8_000_u32), Just(48_000), Just(90_000)],
        steps in vec(step(), 1..40),
    ) {
        let mut sender = Sender {
            clock_hz, at_ns: NS, number: first, timestamp, ssrc: 1, arrivals: vec![],
        };
        steps.iter().for_each(|step| sender.happens(step));
        sender.arrivals.sort_by_key(|it| it.at_ns);

        let mut measured = measurements();
        measured.install(0, true, Some(types(clock_hz)));
        let mut model = Model::new(clock_hz);
        let mut new = 0;
        for arrival in &sender.arrivals {
            let is_new = take(&mut measured, &packet(arrival), Ticks(arrival.at_ns));
            new += u64::from(is_new);
            model.packet(arrival);
        }
        let quality = measured.reading(0).unwrap();
        assert_same(&quality, &model, clock_hz);
        // The first packet of another stream was held, and became known as such with the second.
        let held = quality.restarts + quality.ssrc_changes;
        assert_eq!(new, quality.received - held);
    }
}

/// Packets of payload type 0, 20 ms apart, but for those that `delay_us` gives no time.
fn steady(packets: u16, delay_us: impl Fn(u16) -> Option<u64>) -> FlowQuality {
    let mut measured = measurements();
    measured.install(0, true, Some(PayloadTypes::default()));
    for i in 0..packets {
        if let Some(delay_us) = delay_us(i) {
            let mut packet = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            packet[2..4].copy_from_slice(&i.to_be_bytes());
            packet[4..8].copy_from_slice(&(160 * u32::from(i)).to_be_bytes());
            let now = NS + u64::from(i) * SPACING_NS + delay_us * 1_000;
            take(&mut measured, &packet, Ticks(now));
        }
    }
    measured.reading(0).unwrap()
}

#[test]
fn late_is_more_than_60_ms_over_the_shortest_transit() {
    let every_tenth = |us: u64| move |i: u16| Some(if i % 10 == 5 { us } else { 0 });
    assert_eq!(steady(400, every_tenth(60_000)).late, 0);
    assert_eq!(steady(400, every_tenth(60_200)).late, 40);
    // A shorter way is the shortest at once.
    let shorter = |at: u16| move |i: u16| Some(if i < at { 100_000 } else { 0 });
    for at in [1_000, 1_023, 1_024, 1_025, 1_500] {
        assert_eq!(steady(6_000, shorter(at)).late, 0, "{at}");
    }
    // A longer way is another way after a while: the shortest transit is that of 1,024 to 2,048 numbers.
    let longer = steady(6_000, |i| Some(if i < 300 { 0 } else { 100_000 }));
    assert!(
        (1_024 - 300..2_048).contains(&longer.late),
        "{}",
        longer.late
    );
}

/// Two routers, 40 ms from each other.
#[test]
fn marks_and_checkpoints_of_two_routers_are_of_the_same_packets() {
    let near = steady(1_000, |i| (i % 100 != 7).then_some(0));
    let far = steady(1_000, |i| (i % 100 != 7 && i % 50 != 9).then_some(40_000));
    for (near, far) in near.marks.iter().zip(&far.marks) {
        let (near, far) = (near.unwrap(), far.unwrap());
        assert_eq!(near.number % 65_536, far.number % 65_536);
        assert_eq!(far.at_ns - near.at_ns, 40_000_000);
    }
    for (near, far) in near.checkpoints.iter().zip(&far.checkpoints) {
        let (near, far) = (near.unwrap(), far.unwrap());
        let number = near.number % 65_536;
        assert_eq!(number, far.number % 65_536);
        assert_eq!((number + 92) / 100, near.lost);
        assert_eq!((number + 40) / 50, far.lost - near.lost);
    }
}

#[test]
fn what_is_missing_may_come_or_is_lost() {
    let gap = |of: std::ops::Range<u16>| move |i| (!of.contains(&i)).then_some(0);
    let new = steady(100, gap(90..95));
    assert_eq!((new.lost, new.missing, new.runs), (5, 5, 1));
    let old = steady(300, gap(90..95));
    assert_eq!((old.lost, old.missing, old.runs), (5, 0, 1));
    assert_eq!((old.bursts, old.burst_packets, old.burst_lost), (1, 5, 5));
}

/// Ten packets of speech, then five of noise, by turns.
#[test]
fn all_comfort_noise_is_counted() {
    let mut measured = measurements();
    measured.install(0, true, Some(PayloadTypes::default()));
    for i in 0..u8::MAX {
        let payload_type = if i % 15 < 10 { 8 } else { 13 };
        let timestamp = (160 * u32::from(i)).to_be_bytes();
        let [a, b, c, d] = timestamp;
        let packet = [0x80, payload_type, 0, i, a, b, c, d, 0, 0, 0, 1];
        take(&mut measured, &packet, Ticks(u64::from(i) * SPACING_NS));
    }
    let quality = measured.reading(0).unwrap();
    assert_eq!((quality.received, quality.comfort_noise_packets), (255, 85));
    assert_eq!(quality.payload_type, Some(8));
    assert!(quality.jitter_max_ns.unwrap() < 1_000, "{quality:?}");
}

#[test]
fn jitter_is_not_known_without_a_clock() {
    let mut measured = measurements();
    measured.install(0, true, Some(PayloadTypes::default()));
    let mut packet = [0x80, 97, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for i in 0..u8::MAX {
        packet[3] = i;
        take(&mut measured, &packet, Ticks(NS * u64::from(i)));
    }
    let quality = measured.reading(0).unwrap();
    assert_eq!((quality.received, quality.lost, quality.late), (255, 0, 0));
    assert_eq!((quality.clock_hz, quality.jitter_ns), (None, None));
    assert_eq!(quality.timestamp_jumps, 0);
}

#[test]
fn only_new_numbers_of_the_stream_are_told_as_such() {
    let mut measured = measurements();
    measured.install(0, true, Some(PayloadTypes::default()));
    let mut is_new = |kind, number, ssrc| {
        let packet = [0x80, kind, 0, number, 0, 0, 0, 0, 0, 0, 0, ssrc];
        take(&mut measured, &packet, Ticks(0))
    };
    assert!(is_new(0, 1, 1), "the first one");
    assert!(is_new(0, 3, 1) && is_new(0, 2, 1), "late");
    assert!(!is_new(0, 2, 1), "a duplicate");
    assert!(!is_new(200, 4, 1), "RTCP");
    assert!(!is_new(0, 9, 2), "foreign");
    assert!(is_new(0, 4, 1));
}

/// What was dropped before the stream began is not of its numbers.
#[test]
fn a_former_streams_drops_are_left_out() {
    let mut measured = measurements();
    measured.install(0, true, Some(PayloadTypes::default()));
    for number in 0..250 {
        let packet = [0x80, 0, 0, number, 0, 0, 0, 0, 0, 0, 0, 1];
        take(&mut measured, &packet, Ticks(0));
        measured.count_dropped(0, u32::from(number) + 1);
    }
    measured.count_dropped(0, 249);
    let quality = measured.reading(0).unwrap();
    let dropped = quality.checkpoints[0].unwrap().dropped;
    assert_eq!(dropped, Some(1));
}

#[test]
fn a_place_is_measured_from_when_it_is_to_be() {
    let mut measured = measurements();
    let packet = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    measured.install(0, true, None);
    assert_eq!(measured.reading(0), None);
    measured.install(0, false, Some(PayloadTypes::default()));
    take(&mut measured, &packet, Ticks(0));
    measured.install(0, false, Some(types(8_000)));
    assert_eq!(measured.reading(0).unwrap().received, 1, "it goes on");
    measured.install(0, true, Some(types(8_000)));
    assert_eq!(measured.reading(0).unwrap().received, 0, "another flow");
    measured.remove(0);
    assert_eq!(measured.reading(0), None);
    let mut off = Measurements::new(0, TickRate::from_hz(NS), HEAP);
    off.install(0, true, Some(types(8_000)));
    assert!(off.is_off() && off.reading(0).is_none());
}
