//! The table against a map, crowded on purpose, and under attack.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::{
    device::HEAP,
    diffserv::{ColourAction, ColourMode, MeterKind, MeterSpec},
    routing::fib::NO_ROUTE,
    session::{FlowKey4, Ingress, Policer},
    stats::Count,
    units::BitRate,
};

const CLOCK: u64 = 1_000_000_000;

fn table(capacity: usize) -> SessionTable<FlowKey4> {
    SessionTable::new(
        capacity,
        TickRate::from_hz(CLOCK),
        [1, 2, 3, 0x9e37_79b9_7f4a_7c15],
        HEAP,
    )
}

fn policer() -> Policer {
    Policer {
        rate: BitRate::from_bps(80_000).unwrap(),
        burst_bytes: 1_000,
    }
}

fn key(number: u32) -> FlowKey4 {
    let [a, b, c, d] = number.to_be_bytes();
    FlowKey4::from_wire(&[a, b, c, d, 10, 0, 0, 1], &[0x0f, 0xa0, 0x0f, 0xa0], 17)
}

/// A packet without a code point.
fn arrival(now: u64, ip_bytes: u32) -> Arrival {
    Arrival {
        now: Ticks(now),
        ip_bytes,
        came_with: Dscp::DF,
        routes_changed: Ticks(0),
    }
}

fn marked(table: &mut SessionTable<FlowKey4>, slot: Slot, packet: &Arrival) -> Option<Dscp> {
    table.meter(slot, packet).map(|passed| passed.dscp)
}

/// A burst of these keys finds what each finds by itself.
fn bursts_agree(table: &SessionTable<FlowKey4>, first: u32, which: u64) {
    let keys: [_; BURST] = std::array::from_fn(|place| key(first + u32::try_from(place).unwrap()));
    let mut slots = [Slot::default(); BURST];
    let [here, other] = [Origin::default(), Ingress::Core.into()];
    let Found {
        here: found,
        elsewhere,
    } = table.find_burst(&keys, which, &[here; BURST], &mut slots);
    assert_eq!(elsewhere, 0);
    let from_other = table.find_burst(&keys, which, &[other; BURST], &mut [Slot::default(); BURST]);
    assert_eq!((from_other.here, from_other.elsewhere), (0, found));
    for (place, slot) in slots.into_iter().enumerate() {
        let [asked, found] = [which, found].map(|set| set >> place & 1 == 1);
        let expected = table.find(&keys[place]).filter(|_| asked);
        assert_eq!(found.then_some(slot), expected);
    }
}

proptest! {
    #[test]
    fn agrees_with_a_map(
        capacity in 1_usize..200,
        steps in prop::collection::vec((any::<bool>(), 0_u32..300, 0_u32..64), 0..600),
    ) {
        let mut table = table(capacity);
        let mut model = HashMap::new();
        for (install, number, dscp) in steps {
            if install {
                let dscp = Dscp::new(dscp).unwrap();
                let installed = table.install(key(number), dscp, policer(), Ticks(0));
                if model.contains_key(&number) || model.len() < capacity {
                    prop_assert_eq!(installed.unwrap().1, model.insert(number, dscp).is_none());
                } else {
                    prop_assert_eq!(installed.unwrap_err(), TableFull { capacity }.into());
                }
            } else {
                prop_assert_eq!(
                    table.remove(&key(number)).is_some(),
                    model.remove(&number).is_some()
                );
            }
            prop_assert_eq!(table.len(), model.len());
        }
        table.invariants();
        for (first, which) in [(0, u64::MAX), (64, 1), (128, 0xf0f0_0000_0000_1234), (200, 0)] {
            bursts_agree(&table, first, which);
        }
        for number in 0..300 {
            let slot = table.find(&key(number));
            let dscp = slot.map(|slot| marked(&mut table, slot, &arrival(0, 1)).unwrap());
            prop_assert_eq!(dscp, model.get(&number).copied());
        }
    }
}

#[test]
fn where_packets_went_is_known_until_a_route_changes() {
    let mut table = table(2);
    let (slot, _) = table
        .install(key(1), Dscp::EF, policer(), Ticks(0))
        .unwrap();
    let hop = 9;
    let mut known = |now, routes_changed| {
        let packet = Arrival {
            routes_changed: Ticks(routes_changed),
            ..arrival(now, 100)
        };
        let passed = table.meter(slot, &packet).unwrap();
        if passed.next_hop == NO_ROUTE {
            table.remember_next_hop(slot, hop);
        }
        passed.next_hop
    };
    assert_eq!(known(10, 0), NO_ROUTE, "the first packet");
    assert_eq!(known(11, 0), hop);
    assert_eq!(known(12, 11), NO_ROUTE, "a change beside the packet before");
    assert_eq!(known(12, 11), hop);
    assert_eq!(known(30, 20), NO_ROUTE, "a change after it");
    // What exceeds goes nowhere, and the next one does not go where those before a change went.
    let exceeding = Arrival {
        routes_changed: Ticks(35),
        ..arrival(40, 5_000)
    };
    assert_eq!(table.meter(slot, &exceeding), None);
    let next = Arrival {
        routes_changed: Ticks(35),
        ..arrival(50, 100)
    };
    assert_eq!(table.meter(slot, &next).unwrap().next_hop, NO_ROUTE);
}

/// Filled to the last entry, in a table whose buckets have been made too few on purpose.
#[test]
fn crowded_buckets_make_room_by_moving() {
    let mut table = table(800);
    table.buckets = Slab::filled("few", 128, Bucket::default(), HEAP); // 1,024 places, 78 % full in the end
    for number in 0..800 {
        table
            .install(key(number), Dscp::EF, policer(), Ticks(0))
            .unwrap();
    }
    table.invariants();
    assert!((0..800).all(|number| table.find(&key(number)).is_some()));
    assert!(table.buckets.iter().any(|bucket| bucket.displaced > 0));
    for first in (0..1_600).step_by(BURST) {
        bursts_agree(&table, first, u64::MAX);
        bursts_agree(&table, first, 0xf0f0_0000_0000_1234);
    }
    assert!(
        table
            .install(key(800), Dscp::EF, policer(), Ticks(0))
            .is_err()
    );
    table.invariants();
}

/// An attacker who had the seed: every key in one bucket and one of a few others. The search ends, nothing
/// that is there is lost, and the caller hears of it.
#[test]
fn colliding_keys_end_in_an_error() {
    let mut table = table(10_000);
    let colliding: Vec<u32> = (0..u32::MAX)
        .filter(|&number| {
            let hash = key(number).hash(&table.seed);
            table.first(hash) == 5 && table.other(5, tag(hash)) < 64
        })
        .take(1_000)
        .collect();
    let installed = colliding
        .iter()
        .take_while(|&&number| {
            table
                .install(key(number), Dscp::EF, policer(), Ticks(0))
                .is_ok()
        })
        .count();
    table.invariants();
    assert!((WAYS..1_000).contains(&installed), "{installed}");
    assert!(
        colliding[..installed]
            .iter()
            .all(|&n| table.find(&key(n)).is_some())
    );
}

#[test]
fn metering_counts_what_conforms_and_what_does_not() {
    let mut table = table(4);
    let (slot, _) = table
        .install(key(1), Dscp::EF, policer(), Ticks(0))
        .unwrap();
    assert_eq!(table.counters(slot), FlowCounters::default());
    // 1,000 bytes at once, then 10,000 bytes a second.
    for _ in 0..5 {
        let packet = arrival(10, 200);
        assert_eq!(marked(&mut table, slot, &packet), Some(Dscp::EF));
    }
    assert_eq!(marked(&mut table, slot, &arrival(10, 200)), None);
    let packet = arrival(10 + CLOCK / 50, 200);
    assert_eq!(marked(&mut table, slot, &packet), Some(Dscp::EF));
    let counters = FlowCounters {
        packets: 6,
        bytes: 1_200,
        policed_packets: 1,
        policed_bytes: 200,
        spoofed_packets: 0,
        spoofed_on: None,
        last_seen: Some(Ticks(10 + CLOCK / 50)),
        colours: None,
    };
    assert_eq!(table.counters(slot), counters);
    // New terms keep the counters.
    table
        .install(key(1), Dscp::CS5, policer(), Ticks(0))
        .unwrap();
    assert_eq!(table.counters(slot), counters);
    assert_eq!(table.remove(&key(1)), Some(counters));
    assert_eq!(table.remove(&key(1)), None);
    // The entry is used again, from zero.
    let (again, _) = table
        .install(key(2), Dscp::EF, policer(), Ticks(0))
        .unwrap();
    assert_eq!(
        (again, table.counters(again)),
        (slot, FlowCounters::default())
    );
}

#[test]
fn an_ipv4_flow_is_one_cache_line() {
    assert_eq!(size_of::<Entry<FlowKey4>>(), 64);
}

/// Terms of every sort: policers and each marker, with small buckets, marking and dropping.
fn terms() -> impl Strategy<Value = (Dscp, Terms)> {
    let actions = prop_oneof![
        Just(ColourAction::Keep),
        Just(ColourAction::Drop),
        (0_u32..64).prop_map(|dscp| ColourAction::Mark(Dscp::new(dscp).unwrap())),
    ];
    let rate = |bps| BitRate::from_bps(bps).unwrap();
    let sizes = (8_000_u64..10_000_000, 1_u32..5_000, 1_u32..5_000);
    (
        sizes,
        0..4,
        any::<bool>(),
        actions.clone(),
        actions,
        0_u32..64,
    )
        .prop_map(
            move |((bps, first, second), kind, aware, yellow, red, dscp)| {
                let kind = match kind {
                    0 => Some(MeterKind::SrTcm { ebs_bytes: second }),
                    1 => Some(MeterKind::TrTcm {
                        pir: rate(bps * 2),
                        pbs_bytes: second,
                    }),
                    2 => Some(MeterKind::Rfc4115 {
                        eir: rate(bps),
                        ebs_bytes: second,
                    }),
                    _ => None,
                };
                let mode = if aware {
                    ColourMode::Aware
                } else {
                    ColourMode::Blind
                };
                let terms = kind.map_or(
                    Terms::Policer(Policer {
                        rate: rate(bps),
                        burst_bytes: first,
                    }),
                    |kind| Terms::ThreeColour {
                        spec: MeterSpec {
                            kind,
                            cir: rate(bps),
                            cbs_bytes: first,
                            mode,
                        },
                        yellow,
                        red,
                    },
                );
                (Dscp::new(dscp).unwrap(), terms)
            },
        )
}

proptest! {
    /// Flows come, get other terms, carry packets and go, in any order: each packet is counted once
    /// as gone on or dropped, and once by its colour; new terms lose no count; no meter is lost or
    /// shared.
    #[test]
    fn counters_outlive_any_change_of_terms(
        steps in prop::collection::vec(
            (0_u32..6, 0..8, terms(), 0_u64..50_000_000, 20_u32..3_000, 0_u32..64),
            1..120,
        ),
    ) {
        let mut table = table(4);
        let mut model: HashMap<u32, (Count, Count, bool)> = HashMap::new();
        let mut now = 0;
        for (number, what, (dscp, terms), elapsed, bytes, came_with) in steps {
            now += elapsed;
            let key = key(number);
            match what {
                0 => {
                    let there = model.remove(&number);
                    prop_assert_eq!(table.remove(&key).is_some(), there.is_some());
                }
                1 | 2 => {
                    let Ok((_, new)) = table.install(key, dscp, terms, Ticks(now)) else {
                        prop_assert!(model.len() == 4 && !model.contains_key(&number));
                        continue;
                    };
                    let (_, _, metered) = model.entry(number).or_insert_with(|| {
                        assert!(new);
                        Default::default()
                    });
                    *metered |= matches!(terms, Terms::ThreeColour { .. });
                }
                _ => {
                    let Some(slot) = table.find(&key) else { continue };
                    let came_with = Dscp::new(came_with).unwrap();
                    let packet = Arrival { came_with, ..arrival(now, bytes) };
                    let (on, dropped, _) = model.get_mut(&number).unwrap();
                    match table.meter(slot, &packet) {
                        Some(_) => on.add(bytes),
                        None => dropped.add(bytes),
                    }
                }
            }
            table.invariants();
            for (number, (on, dropped, metered)) in &model {
                let counted = table.counters(table.find(&self::key(*number)).unwrap());
                prop_assert_eq!((counted.packets, counted.bytes), (on.packets, on.bytes));
                prop_assert_eq!(counted.policed_packets, dropped.packets);
                prop_assert_eq!(counted.policed_bytes, dropped.bytes);
                prop_assert_eq!(counted.colours.is_some(), *metered);
                if let Some(colours) = counted.colours {
                    let packets: u64 = colours.iter().map(|colour| colour.packets).sum();
                    let bytes: u64 = colours.iter().map(|colour| colour.bytes).sum();
                    prop_assert_eq!(packets, on.packets + dropped.packets);
                    prop_assert_eq!(bytes, on.bytes + dropped.bytes);
                }
            }
        }
    }

    /// A policer that was a meter once is the same policer, to the packet.
    #[test]
    fn a_policer_in_a_meters_place_is_the_same(
        policer in (8_000_u64..10_000_000, 1_500_u32..10_000).prop_map(|(bps, burst_bytes)| {
            Policer { rate: BitRate::from_bps(bps).unwrap(), burst_bytes }
        }),
        (dscp, other) in terms(),
        packets in prop::collection::vec((0_u64..50_000_000, 20_u32..3_000, 0_u32..64), 1..200),
    ) {
        let mut table = table(2);
        let (plain, _) = table.install(key(1), Dscp::EF, policer, Ticks(0)).unwrap();
        table.install(key(2), Dscp::EF, policer, Ticks(0)).unwrap();
        table.install(key(2), dscp, other, Ticks(0)).unwrap();
        let (once, new) = table.install(key(2), Dscp::EF, policer, Ticks(0)).unwrap();
        prop_assert!(!new);
        let mut now = 0;
        for (elapsed, bytes, came_with) in packets {
            now += elapsed;
            let came_with = Dscp::new(came_with).unwrap();
            let packet = Arrival { came_with, ..arrival(now, bytes) };
            let once = marked(&mut table, once, &packet);
            prop_assert_eq!(marked(&mut table, plain, &packet), once);
        }
    }
}
