use proptest::prelude::*;

use super::*;

/// The three RFCs' text in exact numbers: tokens are bits times the clock's frequency, in integers
/// of a range that nothing here reaches.
struct Model {
    spec: MeterSpec,
    hz: i128,
    tc: i128,
    t2: i128,
    last: u64,
}

impl Model {
    fn new(spec: MeterSpec, hz: u64, now: u64) -> Self {
        let hz = i128::from(hz);
        let mut model = Self {
            spec,
            hz,
            tc: 0,
            t2: 0,
            last: now,
        };
        (model.tc, model.t2) = (model.tokens(spec.cbs_bytes), model.tokens(model.second().1));
        model
    }

    fn tokens(&self, bytes: u32) -> i128 {
        i128::from(bytes) * 8 * self.hz
    }

    /// Rate of its own, and size.
    fn second(&self) -> (u64, u32) {
        match self.spec.kind {
            MeterKind::SrTcm { ebs_bytes } => (0, ebs_bytes),
            MeterKind::TrTcm { pir, pbs_bytes } => (pir.bps(), pbs_bytes),
            MeterKind::Rfc4115 { eir, ebs_bytes } => (eir.bps(), ebs_bytes),
        }
    }

    fn colour(&mut self, now: u64, bytes: u32, came_with: Colour) -> Colour {
        let elapsed = i128::from(now.saturating_sub(self.last));
        self.last = self.last.max(now);
        let (rate, size) = self.second();
        let (cbs, size) = (self.tokens(self.spec.cbs_bytes), self.tokens(size));
        let committed = self.tc + elapsed * i128::from(self.spec.cir.bps());
        let spilt = match self.spec.kind {
            MeterKind::SrTcm { .. } => (committed - cbs).max(0),
            _ => elapsed * i128::from(rate),
        };
        self.tc = committed.min(cbs);
        self.t2 = (self.t2 + spilt).min(size);

        let b = self.tokens(bytes);
        let came_with = match self.spec.mode {
            ColourMode::Blind => Colour::Green,
            ColourMode::Aware => came_with,
        };
        let (tc, t2) = (self.tc - b, self.t2 - b);
        let (colour, from_c, from_2) = match (self.spec.kind, came_with) {
            (_, Colour::Red) => (Colour::Red, 0, 0),

            (MeterKind::SrTcm { .. }, Colour::Green) if tc >= 0 => (Colour::Green, b, 0),
            (MeterKind::SrTcm { .. }, _) if t2 >= 0 => (Colour::Yellow, 0, b),
            (MeterKind::SrTcm { .. }, _) => (Colour::Red, 0, 0),

            (MeterKind::TrTcm { .. }, _) if t2 < 0 => (Colour::Red, 0, 0),
            (MeterKind::TrTcm { .. }, Colour::Yellow) => (Colour::Yellow, 0, b),
            (MeterKind::TrTcm { .. }, _) if tc < 0 => (Colour::Yellow, 0, b),
            (MeterKind::TrTcm { .. }, _) => (Colour::Green, b, b),

            (MeterKind::Rfc4115 { .. }, Colour::Green) if tc > 0 => (Colour::Green, b, 0),
            (MeterKind::Rfc4115 { .. }, _) if t2 > 0 => (Colour::Yellow, 0, b),
            (MeterKind::Rfc4115 { .. }, _) => (Colour::Red, 0, 0),
        };
        self.tc -= from_c;
        self.t2 -= from_2;
        colour
    }
}

fn rate(bps: u64) -> BitRate {
    BitRate::from_bps(bps).unwrap()
}

/// 8 kbit/s to 400 Gbit/s, evenly over the orders of magnitude.
fn rates() -> impl Strategy<Value = u64> {
    (13_u32..39, any::<u64>()).prop_map(|(bits, random)| {
        ((1 << bits) + random % (1 << bits)).clamp(8_000, 400_000_000_000)
    })
}

fn hertz() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1_000_000_000_u64), 1_000_000_000_u64..=5_000_000_000]
}

/// Whole packets of 1,500 bytes often, so that buckets run out exactly.
fn bursts() -> impl Strategy<Value = u32> {
    prop_oneof![
        (1_u32..30).prop_map(|packets| packets * 1_500),
        1_u32..100_000,
        1_u32..50_000_000,
    ]
}

fn specs() -> impl Strategy<Value = MeterSpec> {
    let kinds = (rates(), bursts(), 0..3, 0..20);
    (rates(), bursts(), kinds, any::<bool>()).prop_map(
        |(cir, cbs_bytes, (second, size, kind, empty), aware)| {
            let ebs_bytes = if empty == 0 { 0 } else { size };
            let kind = match kind {
                0 => MeterKind::SrTcm { ebs_bytes },
                1 => MeterKind::TrTcm {
                    pir: rate(second.max(cir)),
                    pbs_bytes: size,
                },
                _ => MeterKind::Rfc4115 {
                    eir: rate(second),
                    ebs_bytes,
                },
            };
            let cbs_bytes = match kind {
                MeterKind::TrTcm { .. } => cbs_bytes,
                _ if empty == 1 => 0,
                _ => cbs_bytes,
            };
            MeterSpec {
                kind,
                cir: rate(cir),
                cbs_bytes,
                mode: if aware {
                    ColourMode::Aware
                } else {
                    ColourMode::Blind
                },
            }
        },
    )
}

/// How long a packet waits for the one before it.
#[derive(Clone, Copy, Debug)]
enum Gap {
    Ticks(u64),
    /// Eighths of the time that the packet takes at one of the two rates.
    AtCommitted(u64),
    AtSecond(u64),
}

fn steps() -> impl Strategy<Value = Vec<(Gap, u32, Colour)>> {
    let gaps = prop_oneof![
        2 => Just(Gap::Ticks(0)),
        4 => (0_u64..24).prop_map(Gap::AtCommitted),
        4 => (0_u64..24).prop_map(Gap::AtSecond),
        1 => (0_u64..1 << 20).prop_map(Gap::Ticks),
        1 => (0_u64..1 << 50).prop_map(Gap::Ticks),
    ];
    let sizes = prop_oneof![2 => Just(1_500_u32), 2 => 20_u32..9_000, 1 => 0_u32..100_000];
    let colours = prop_oneof![
        4 => Just(Colour::Green),
        1 => Just(Colour::Yellow),
        1 => Just(Colour::Red),
    ];
    prop::collection::vec((gaps, sizes, colours), 1..120)
}

fn elapsed(gap: Gap, bytes: u32, spec: &MeterSpec, hz: u64) -> u64 {
    let second = match spec.kind {
        MeterKind::SrTcm { .. } => spec.cir,
        MeterKind::TrTcm { pir, .. } => pir,
        MeterKind::Rfc4115 { eir, .. } => eir,
    };
    let wait = |eighths: u64, rate: BitRate| {
        let ticks =
            u128::from(bytes) * u128::from(eighths) * u128::from(hz) / u128::from(rate.bps());
        u64::try_from(ticks).unwrap()
    };
    match gap {
        Gap::Ticks(ticks) => ticks,
        Gap::AtCommitted(eighths) => wait(eighths, spec.cir),
        Gap::AtSecond(eighths) => wait(eighths, second),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 3 / 2, ..ProptestConfig::default() })]

    /// Each marker, blind and aware: to the packet what its RFC says in exact numbers, from
    /// 8 kbit/s to 400 Gbit/s, on clocks of 1 to 5 GHz, over seconds and days.
    #[test]
    fn agrees_with_the_rfcs_in_exact_numbers(
        spec in specs(),
        hz in hertz(),
        start in 0..1_u64 << 60,
        steps in steps(),
    ) {
        let profile = MeterProfile::new(&spec, TickRate::from_hz(hz)).unwrap();
        let mut meter = Meter::full(&profile, Ticks(start));
        let mut model = Model::new(spec, hz, start);
        let mut now = start;
        for (place, (gap, bytes, came_with)) in steps.into_iter().enumerate() {
            now += elapsed(gap, bytes, &spec, hz);
            let colour = meter.colour(&profile, Ticks(now), bytes, came_with);
            meter.invariants(&profile);
            prop_assert_eq!(colour, model.colour(now, bytes, came_with), "packet {}", place);
        }
    }

    /// What each colour may have at most, counted over the whole run and not by the meter's own
    /// numbers.
    #[test]
    fn no_colour_has_more_than_its_rate_and_burst(
        spec in specs(),
        hz in hertz(),
        steps in steps(),
    ) {
        let profile = MeterProfile::new(&spec, TickRate::from_hz(hz)).unwrap();
        let mut meter = Meter::full(&profile, Ticks(0));
        let mut now = 0;
        let mut bytes_of = [0_i128; 3];
        for (gap, bytes, came_with) in steps {
            now += elapsed(gap, bytes, &spec, hz);
            let colour = meter.colour(&profile, Ticks(now), bytes, came_with);
            bytes_of[colour.index()] += i128::from(bytes);
            let [green, yellow, _] = bytes_of.map(|bytes| bytes * 8 * i128::from(hz));
            let most = |rate: BitRate, burst: u32| {
                i128::from(rate.bps()) * i128::from(now) + i128::from(burst) * 8 * i128::from(hz)
            };
            prop_assert!(green <= most(spec.cir, spec.cbs_bytes), "green");
            match spec.kind {
                MeterKind::SrTcm { ebs_bytes } => {
                    prop_assert!(yellow <= most(spec.cir, ebs_bytes), "yellow");
                    let both = most(spec.cir, spec.cbs_bytes + ebs_bytes);
                    prop_assert!(green + yellow <= both, "green and yellow share one rate");
                }
                MeterKind::TrTcm { pir, pbs_bytes } => {
                    prop_assert!(green + yellow <= most(pir, pbs_bytes), "over the peak");
                }
                MeterKind::Rfc4115 { eir, ebs_bytes } => {
                    prop_assert!(yellow <= most(eir, ebs_bytes), "yellow");
                }
            }
        }
    }

    /// No colour is improved, and what no bucket gives is never charged: a greedy sender of green
    /// packets gets its committed rate to the packet.
    #[test]
    fn a_greedy_sender_gets_the_committed_rate(
        cir in rates(),
        bytes in 64_u32..9_000,
        hz in hertz(),
        kind in 0..3,
    ) {
        let kind = match kind {
            0 => MeterKind::SrTcm { ebs_bytes: 0 },
            1 => MeterKind::TrTcm { pir: rate(cir * 2), pbs_bytes: bytes * 4 },
            _ => MeterKind::Rfc4115 { eir: rate(cir), ebs_bytes: 0 },
        };
        let spec = MeterSpec { kind, cir: rate(cir), cbs_bytes: bytes * 2, mode: ColourMode::Aware };
        let profile = MeterProfile::new(&spec, TickRate::from_hz(hz)).unwrap();
        let mut meter = Meter::full(&profile, Ticks(0));
        // Three packets in the time of two.
        let packets = 3_000_u64;
        let at = |packet: u64| {
            let ticks = u128::from(packet) * u128::from(bytes) * 8 * u128::from(hz) * 2;
            u64::try_from(ticks / 3 / u128::from(cir)).unwrap()
        };
        let green = (0..packets)
            .filter(|&packet| {
                meter.colour(&profile, Ticks(at(packet)), bytes, Colour::Green) == Colour::Green
            })
            .count();
        // The two of the burst on top; one may be under way at the end.
        prop_assert!((2_000..=2_002).contains(&green), "{green}");
    }
}

#[test]
fn the_single_rate_fills_c_before_e() {
    // One byte a millisecond; 1 tick is 1 ns.
    let spec = MeterSpec {
        kind: MeterKind::SrTcm { ebs_bytes: 1_000 },
        cir: rate(8_000),
        cbs_bytes: 500,
        mode: ColourMode::Aware,
    };
    let profile = MeterProfile::new(&spec, TickRate::from_hz(1_000_000_000)).unwrap();
    let ms = |ms: u64| Ticks(ms * 1_000_000);
    let mut meter = Meter::full(&profile, ms(0));
    let mut colour = |at, bytes, came| meter.colour(&profile, at, bytes, came);
    assert_eq!(colour(ms(0), 500, Colour::Green), Colour::Green);
    assert_eq!(colour(ms(0), 1_000, Colour::Yellow), Colour::Yellow);
    assert_eq!(colour(ms(0), 1, Colour::Green), Colour::Red);
    // 500 ms for C, and only what is over goes to E.
    assert_eq!(colour(ms(499), 1, Colour::Yellow), Colour::Red);
    assert_eq!(colour(ms(501), 1, Colour::Yellow), Colour::Yellow);
    assert_eq!(colour(ms(501), 1, Colour::Yellow), Colour::Red);
    // A very long time fills both and no more.
    let later = Ticks(u64::MAX / 2);
    assert_eq!(colour(later, 1_001, Colour::Yellow), Colour::Red);
    assert_eq!(colour(later, 1_000, Colour::Yellow), Colour::Yellow);
    assert_eq!(colour(later, 500, Colour::Green), Colour::Green);
    assert_eq!(colour(later, 1, Colour::Green), Colour::Red);
}

#[test]
fn the_two_rate_marker_checks_the_peak_first() {
    let spec = MeterSpec {
        kind: MeterKind::TrTcm {
            pir: rate(16_000),
            pbs_bytes: 1_000,
        },
        cir: rate(8_000),
        cbs_bytes: 1_500,
        mode: ColourMode::Blind,
    };
    let profile = MeterProfile::new(&spec, TickRate::from_hz(1_000_000_000)).unwrap();
    let mut meter = Meter::full(&profile, Ticks(0));
    let mut colour = |ms: u64, bytes| {
        // Blind: what it comes with does not matter.
        meter.colour(&profile, Ticks(ms * 1_000_000), bytes, Colour::Red)
    };
    assert_eq!(colour(0, 1_001), Colour::Red, "C has 1,500, P only 1,000");
    assert_eq!(colour(0, 1_000), Colour::Green, "from both");
    assert_eq!(colour(0, 1), Colour::Red, "P is empty, C is not");
    assert_eq!(colour(500, 1_000), Colour::Green, "500 + 500 in C");
    assert_eq!(colour(500, 0), Colour::Green);
    assert_eq!(colour(501, 2), Colour::Yellow, "C has 1, P has 2");
}

#[test]
fn rfc_4115_wants_more_than_the_packet() {
    let spec = MeterSpec {
        kind: MeterKind::Rfc4115 {
            eir: rate(8_000),
            ebs_bytes: 500,
        },
        cir: rate(8_000),
        cbs_bytes: 500,
        mode: ColourMode::Aware,
    };
    let profile = MeterProfile::new(&spec, TickRate::from_hz(1_000_000_000)).unwrap();
    let mut meter = Meter::full(&profile, Ticks(0));
    let mut colour = |bytes, came| meter.colour(&profile, Ticks(0), bytes, came);
    assert_eq!(colour(500, Colour::Green), Colour::Red, "Tc - B is 0");
    assert_eq!(colour(499, Colour::Green), Colour::Green);
    assert_eq!(colour(100, Colour::Green), Colour::Yellow, "C is empty");
    assert_eq!(colour(100, Colour::Red), Colour::Red);
    assert_eq!(
        colour(399, Colour::Yellow),
        Colour::Yellow,
        "E was not tested"
    );
    assert_eq!(colour(1, Colour::Yellow), Colour::Red);
}

#[test]
fn precedence_is_the_colour() {
    for class in 1..=4 {
        for (precedence, colour) in [(1, Colour::Green), (2, Colour::Yellow), (3, Colour::Red)] {
            assert_eq!(Colour::of(Dscp::af(class, precedence).unwrap()), colour);
        }
    }
    let assured: Vec<u8> = (0..64)
        .filter(|&number| Dscp::new(number).unwrap().drop_precedence().is_some())
        .map(|number| Dscp::new(number).unwrap().number())
        .collect();
    assert_eq!(assured, [10, 12, 14, 18, 20, 22, 26, 28, 30, 34, 36, 38]);
    assert_eq!(Colour::of(Dscp::EF), Colour::Green);
}

#[test]
fn impossible_terms_are_refused_by_name() {
    let clock = TickRate::from_hz(5_000_000_000);
    let of = |kind, cbs_bytes| {
        let spec = MeterSpec {
            kind,
            cir: rate(1_000_000),
            cbs_bytes,
            mode: ColourMode::Blind,
        };
        MeterProfile::new(&spec, clock).map_err(|error| error.to_string())
    };
    let srtcm = |ebs_bytes| MeterKind::SrTcm { ebs_bytes };
    let trtcm = |pir, pbs_bytes| MeterKind::TrTcm {
        pir: rate(pir),
        pbs_bytes,
    };
    let rfc4115 = |ebs_bytes| MeterKind::Rfc4115 {
        eir: rate(1),
        ebs_bytes,
    };
    for (kind, cbs_bytes, said) in [
        (srtcm(0), 0, "CBS and EBS are both 0"),
        (rfc4115(0), 0, "CBS and EBS are both 0"),
        (
            trtcm(999_999, 1),
            1,
            "PIR 999.999kbit/s is under CIR 1Mbit/s",
        ),
        (trtcm(1_000_000, 0), 1, "PBS: a burst of 0 bytes"),
        (trtcm(1_000_000, 1), 0, "CBS: a burst of 0 bytes"),
        (
            srtcm(u32::MAX),
            1,
            "EBS: a burst of 4294967295 bytes is over",
        ),
        (
            rfc4115(1),
            u32::MAX,
            "CBS: a burst of 4294967295 bytes is over",
        ),
    ] {
        let error = of(kind, cbs_bytes).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    for (kind, cbs_bytes) in [
        (srtcm(0), 1),
        (srtcm(1), 0),
        (rfc4115(1), 0),
        (trtcm(1_000_000, 1), 1),
    ] {
        assert!(of(kind, cbs_bytes).is_ok(), "{kind:?} {cbs_bytes}");
    }
}

#[test]
fn another_profile_keeps_the_credit() {
    let clock = TickRate::from_hz(1_000_000_000);
    let spec = |cbs_bytes| MeterSpec {
        kind: MeterKind::SrTcm { ebs_bytes: 100 },
        cir: rate(8_000),
        cbs_bytes,
        mode: ColourMode::Blind,
    };
    let large = MeterProfile::new(&spec(1_000), clock).unwrap();
    let small = MeterProfile::new(&spec(10), clock).unwrap();
    let mut meter = Meter::full(&large, Ticks(0));
    assert_eq!(
        meter.colour(&small, Ticks(0), 11, Colour::Green),
        Colour::Yellow
    );
    meter.invariants(&small);
    assert_eq!(
        meter.colour(&large, Ticks(0), 11, Colour::Green),
        Colour::Yellow
    );
    assert_eq!(
        meter.colour(&large, Ticks(0), 10, Colour::Green),
        Colour::Green
    );
}
