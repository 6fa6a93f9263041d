use proptest::prelude::*;

use super::*;

const HZ: u64 = 1_000_000_000;

fn one(number: u32, arrival: u64, wire_bytes: u32) -> Departure {
    Departure {
        number,
        packets: 1,
        wire_bytes,
        arrival: Ticks(arrival),
    }
}

fn total(meter: &mut EfMeter) -> EfError {
    let mut report = EfReport::default();
    meter.report(&mut report, Ticks(0));
    report.total
}

/// Both recursions over all packets at once, in 2^-20 ticks: what the definition says.
/// Packets are (arrival, departure, bytes).
fn model(packets: &[(u64, u64, u32)], rate: u64) -> (u64, u64) {
    let worst = |rows: Vec<(u64, u64, u32)>| {
        let (mut f, mut d, mut worst) = (0_u128, 0_u128, 0_u128);
        for (arrival, departure, bytes) in rows {
            let length = ((u128::from(bytes) * 8 * u128::from(HZ)) << 20) / u128::from(rate);
            f = (u128::from(arrival) << 20).max(d.min(f)) + length;
            d = u128::from(departure) << 20;
            worst = worst.max(d.saturating_sub(f));
        }
        u64::try_from(worst >> 20).unwrap()
    };
    let mut by_departure = packets.to_vec();
    by_departure.sort_by_key(|&(_, departure, _)| departure);
    let mut arrivals: Vec<_> = packets.iter().map(|&(arrival, ..)| arrival).collect();
    arrivals.sort_unstable();
    let aggregate = arrivals
        .into_iter()
        .zip(by_departure)
        .map(|(arrival, (_, departure, bytes))| (arrival, departure, bytes))
        .collect();
    let mut by_arrival = packets.to_vec();
    by_arrival.sort_by_key(|&(arrival, ..)| arrival);
    (worst(aggregate), worst(by_arrival))
}

proptest! {
    /// Two queues, served in any order that keeps each queue's own: what a strict aggregate of
    /// EF and VOICE-ADMIT is.
    #[test]
    fn agrees_with_the_definition(
        rate in 64_000_u64..100_000_000_000,
        steps in prop::collection::vec(
            (
                any::<bool>(),
                any::<bool>(),
                prop_oneof![40_u32..9_000, Just(238_u32)],
                prop_oneof![1_u64..3_000_000, Just(0_u64)],
            ),
            1..300,
        ),
    ) {
        let ef_rate = BitRate::from_bps(rate).unwrap();
        let port_rate = BitRate::from_bps(rate * 2).unwrap();
        let mut meter = EfMeter::new(ef_rate, port_rate, TickRate::from_hz(HZ), Ticks(0));
        let mut queues = [VecDeque::new(), VecDeque::new()];
        let mut done = Vec::new();
        let (mut now, mut free) = (0, 0);
        let mut depart = |queues: &mut [VecDeque<(u32, u64, u32)>; 2], which: usize, meter: &mut EfMeter, now: &mut u64| {
            let Some((number, arrival, bytes)) = queues[which].pop_front() else {
                return;
            };
            // What came together goes together; else one packet after the other on the wire.
            let mut packets = 1;
            while queues[which].front() == Some(&(number + packets, arrival, bytes)) {
                queues[which].pop_front();
                packets += 1;
            }
            *now = free.max(*now);
            let waiting = |number| {
                let mut waiting = queues.iter().flatten();
                waiting.find(|packet| packet.0 == number).map(|packet| Ticks(packet.1))
            };
            let departure = Departure { packets, ..one(number, arrival, bytes) };
            meter.depart(departure, Ticks(*now), waiting);
            let on_the_wire = u128::from(bytes) * 8 * u128::from(HZ) / u128::from(rate * 2);
            free = *now + u64::try_from(on_the_wire).unwrap() + 1;
            done.extend((number..number + packets).map(|number| (number, (arrival, free - 1, bytes))));
        };
        for (departs, which, bytes, step) in steps {
            now += step;
            let which = usize::from(which);
            if departs {
                depart(&mut queues, which, &mut meter, &mut now);
            } else {
                queues[which].push_back((meter.arrive(1), now, bytes));
            }
            meter.invariants(queues.iter().map(VecDeque::len).sum());
        }
        for which in 0..2 {
            while !queues[which].is_empty() {
                depart(&mut queues, which, &mut meter, &mut now);
            }
        }
        meter.invariants(0);
        let total = total(&mut meter);
        prop_assert_eq!(total.packets, done.len() as u64);
        // What came at once is in the order of its numbers.
        done.sort_by_key(|&(number, _)| number);
        let done: Vec<_> = done.into_iter().map(|(_, packet)| packet).collect();
        let (aggregate, packet) = model(&done, rate);
        // Lengths are rounded down to ticks, packet by packet.
        let rounding = done.len() as u64 + 1;
        prop_assert!(total.aggregate.0.abs_diff(aggregate) <= rounding, "{:?} {}", total, aggregate);
        prop_assert!(total.packet.0.abs_diff(packet) <= rounding, "{:?} {}", total, packet);
    }

    /// Packets that depart together are what the same ones are that depart one by one.
    #[test]
    fn together_is_as_one_by_one(
        runs in prop::collection::vec((1_u32..70, 40_u32..9_000, 0_u64..300_000, 0_u64..300_000), 1..60),
    ) {
        let rate = BitRate::from_bps(1_000_000_000).unwrap();
        let meter = || EfMeter::new(rate, rate.percent(150), TickRate::from_hz(HZ), Ticks(0));
        let (mut together, mut single, mut now) = (meter(), meter(), 0);
        let none = |_| None;
        for (packets, bytes, gap, wait) in runs {
            let arrival = now + gap;
            now = arrival + wait;
            let first = one(together.arrive(packets), arrival, bytes);
            single.arrive(packets);
            together.depart(Departure { packets, ..first }, Ticks(now), none);
            for place in 0..packets {
                single.depart(one(first.number + place, arrival, bytes), Ticks(now), none);
            }
            prop_assert_eq!(together.aggregate, single.aggregate);
            prop_assert_eq!(together.current, single.current);
        }
        together.invariants(0);
    }

    /// A server at the EF rate, without rests, has no error but the wire time that it saves.
    #[test]
    fn an_ideal_server_has_no_error(
        gaps in prop::collection::vec(0_u64..2_000_000, 1..200),
    ) {
        let rate = BitRate::from_bps(10_000_000).unwrap();
        let mut meter = EfMeter::new(rate, rate, TickRate::from_hz(HZ), Ticks(0));
        let (mut now, mut free) = (0, 0);
        for gap in gaps {
            now += gap;
            let number = meter.arrive(1);
            let start = now.max(free);
            meter.depart(one(number, now, 238), Ticks(start), |_| None);
            free = start + 238 * 800;
        }
        let total = total(&mut meter);
        prop_assert_eq!((total.aggregate, total.packet), (Ticks(0), Ticks(0)));
    }
}

/// RFC 3246 section 2.2, by hand: 1,000 bits at 1 Mbit/s take 1 ms; the second packet is late.
#[test]
fn a_late_packet_is_an_error_of_its_lateness() {
    let rate = BitRate::from_bps(1_000_000).unwrap();
    let mut meter = EfMeter::new(rate, rate, TickRate::from_hz(HZ), Ticks(0));
    let ms = |ms: u64| Ticks(ms * 1_000_000);
    let [first, second] =
        [meter.arrive(1), meter.arrive(1)].map(|number| one(number, 10_000_000, 125));
    meter.depart(first, ms(10), |_| None); // f = 11, d = 11
    meter.depart(second, ms(14), |_| None); // f = 12, d = 15
    let total = total(&mut meter);
    assert_eq!(
        (total.packets, total.aggregate, total.packet),
        (2, ms(3), ms(3))
    );
    let mut report = EfReport::default();
    for (now, last, expected) in [
        (20, 1, total),
        (60_000, 59, EfError::default()),
        (60_000, 61, total),
        (62_999, 64, total),
        (64_000, 64, EfError::default()),
    ] {
        meter.report(&mut report, ms(now));
        assert_eq!(
            (report.total, report.last(last)),
            (total, expected),
            "{now}"
        );
    }
}
