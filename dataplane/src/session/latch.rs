//! Flows whose source is not known: it is that of the first packet that comes to their destination.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use thiserror::Error;

use super::{AnyKey, FiveTuple, Ingress, Origin, Protocol};
use crate::units::InterfaceIndex;

/// A flow over UDP whose source is to be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LatchSpec {
    /// Where its packets go. No two flows that wait have the same.
    pub destination: SocketAddr,
    /// Where they come in; `None`: on any interface.
    pub ingress: Option<Ingress>,
    /// The address that they alone come from; `None`: from any.
    pub from: Option<IpAddr>,
}

/// What a flow has learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latched {
    /// The flow, with its source.
    pub flow: FiveTuple,
    /// On which interface the packet came in.
    pub on: InterfaceIndex,
}

/// A flow that waits, and what it has learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    spec: LatchSpec,
    learned: Option<Learned>,
}

#[derive(Clone, Copy, Debug)]
struct Learned {
    latched: Latched,
    /// Where [`Latches::learned`] has the flow.
    place: usize,
}

/// The flows that wait for their source. Each learns from one packet and never again. It has no lane by
/// that alone: the control side reads what was learned, and installs the flow. With several workers each
/// may learn another source; the control side takes one.
#[derive(Debug)]
pub(crate) struct Latches {
    waiting: HashMap<SocketAddr, Waiting>,
    /// How many wait at each port, by which most packets are told from theirs.
    ports: Vec<u32>,
    /// The destinations of those that have learned, in no order.
    learned: Vec<SocketAddr>,
    capacity: usize,
    refused_packets: u64,
}

/// The most flows that wait for their source at once: their memory (less than 60 MB of address space a worker)
/// is taken at the start, as the worker's core may not wait for a table to grow.
const MAX_WAITING: usize = 1 << 16;

/// As many flows wait for their source as may.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{capacity} flows wait for their source already, as many as may")]
pub struct WaitingFull {
    /// How many may wait.
    pub capacity: usize,
}

impl Latches {
    /// For as many as there may be flows, but [`MAX_WAITING`].
    pub(super) fn new(flows: usize) -> Self {
        let capacity = flows.min(MAX_WAITING);
        Self {
            // Removed flows leave marks behind in some places. When no place is free of them, the map clears
            // them where it is as long as it is half full at most, which the worker waits for; else it grows.
            waiting: HashMap::with_capacity(2 * capacity),
            ports: vec![0; 1 << 16],
            learned: Vec::with_capacity(capacity),
            capacity,
            refused_packets: 0,
        }
    }

    /// An error, if no further flow may wait.
    pub(super) fn check_room(&self) -> Result<(), WaitingFull> {
        let capacity = self.capacity;
        if self.waiting.len() < capacity {
            Ok(())
        } else {
            Err(WaitingFull { capacity })
        }
    }

    /// How many flows wait for their source or have learned it.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Packets to a flow that waited, which came in elsewhere or were from another address.
    pub(crate) fn refused_packets(&self) -> u64 {
        self.refused_packets
    }

    /// The terms of the flow that waits for packets to a destination.
    pub(super) fn spec(&self, destination: SocketAddr) -> Option<LatchSpec> {
        self.waiting.get(&destination).map(|waiting| waiting.spec)
    }

    /// Has a flow wait, in place of whichever waits for packets to its destination; else there must be room.
    pub(super) fn wait(&mut self, spec: LatchSpec) {
        self.stop(spec.destination);
        self.put_back(Waiting {
            spec,
            learned: None,
        });
    }

    /// Has a flow wait no longer; gives what it was.
    pub(super) fn stop(&mut self, destination: SocketAddr) -> Option<Waiting> {
        let stopped = self.waiting.remove(&destination)?;
        if let Some(count) = self.ports.get_mut(usize::from(destination.port())) {
            *count -= 1;
        }
        if let Some(Learned { place, .. }) = stopped.learned {
            self.learned.swap_remove(place);
            let moved = self.learned.get(place);
            let moved = moved.and_then(|moved| self.waiting.get_mut(moved)?.learned.as_mut());
            if let Some(moved) = moved {
                moved.place = place;
            }
        }
        Some(stopped)
    }

    /// Has a flow wait as it did when it was stopped.
    pub(super) fn put_back(&mut self, mut waiting: Waiting) {
        let destination = waiting.spec.destination;
        if let Some(count) = self.ports.get_mut(usize::from(destination.port())) {
            *count += 1;
        }
        if let Some(learned) = &mut waiting.learned {
            learned.place = self.learned.len();
            self.learned.push(destination);
        }
        self.waiting.insert(destination, waiting);
    }

    /// Shows a packet that no session has to the flow that waits for it, if one does.
    pub(crate) fn show(&mut self, packet: &AnyKey, origin: Origin, on: InterfaceIndex) {
        let flow = packet.five_tuple();
        let port = usize::from(flow.destination.port());
        let waits = self.ports.get(port).is_some_and(|count| *count > 0);
        if !waits || flow.protocol != Protocol::UDP || flow.source.port() == 0 {
            return;
        }
        let Some(waiting) = self.waiting.get_mut(&flow.destination) else {
            return;
        };
        if waiting.learned.is_some() {
            return;
        }
        let LatchSpec { ingress, from, .. } = waiting.spec;
        let comes_in = ingress.is_none_or(|ingress| Origin::from(ingress).covers(origin));
        if comes_in && from.is_none_or(|from| from == flow.source.ip()) {
            waiting.learned = Some(Learned {
                latched: Latched { flow, on },
                place: self.learned.len(),
            });
            self.learned.push(flow.destination);
        } else {
            self.refused_packets += 1;
        }
    }

    /// What flows have learned that have not been stopped since, `most` of them at most.
    pub(crate) fn learned(&self, most: usize) -> impl Iterator<Item = Latched> {
        let learned = self.learned.iter().take(most);
        learned.filter_map(|destination| Some(self.waiting.get(destination)?.learned?.latched))
    }

    /// Checks what must hold between calls.
    pub(super) fn invariants(&self) {
        let ports: BTreeSet<_> = self.waiting.keys().map(SocketAddr::port).collect();
        let counts = ports
            .iter()
            .filter_map(|port| self.ports.get(usize::from(*port)));
        let counted: u64 = counts.map(|count| u64::from(*count)).sum();
        assert_eq!(counted, self.waiting.len() as u64, "each waits at one port");
        let learned = self.waiting.values().filter(|it| it.learned.is_some());
        assert_eq!(learned.count(), self.learned.len(), "each learns once");
        for (place, destination) in self.learned.iter().enumerate() {
            let learned = self.waiting.get(destination).and_then(|it| it.learned);
            assert_eq!(learned.map(|it| it.place), Some(place), "{destination}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Of few addresses and ports, so that everything meets everything.
    fn endpoint(address: u8, port: u16, ipv6: bool) -> SocketAddr {
        if ipv6 {
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, address.into()], port).into()
        } else {
            ([10, 0, 0, address], port).into()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(LatchSpec),
        Stop(SocketAddr),
        Packet(FiveTuple, InterfaceIndex),
    }

    fn steps() -> impl Strategy<Value = Step> {
        let ends = (1..4_u8, 1..4_u8, 1..4_u16, any::<bool>());
        let ingress = prop_oneof![
            Just(None),
            Just(Some(Ingress::Interface(InterfaceIndex(0)))),
            Just(Some(Ingress::Edge)),
            Just(Some(Ingress::Core)),
        ];
        let rest = (any::<bool>(), ingress, 0..3_u8, 0..8_u8);
        (ends, rest, 0..3_u8).prop_map(
            |((source, destination, port, ipv6), (any, ingress, on, tcp), kind)| {
                let destination = endpoint(destination, port, ipv6);
                match kind {
                    0 => Step::Wait(LatchSpec {
                        destination,
                        ingress,
                        from: (!any).then_some(endpoint(source, 1, ipv6).ip()),
                    }),
                    1 => Step::Stop(destination),
                    _ => {
                        let flow = FiveTuple {
                            source: endpoint(source, 7 + port, ipv6),
                            destination,
                            protocol: if tcp == 0 {
                                Protocol::TCP
                            } else {
                                Protocol::UDP
                            },
                        };
                        Step::Packet(flow, InterfaceIndex(on))
                    }
                }
            },
        )
    }

    /// Interfaces 0 and 1 are edges, 2 is a core.
    fn role(on: InterfaceIndex) -> crate::settings::Role {
        if on.0 == 2 {
            crate::settings::Role::Core
        } else {
            crate::settings::Role::Edge
        }
    }

    /// A flow of this number waits, and learns its source.
    fn learn(latches: &mut Latches, number: u32) {
        let destination = (std::net::Ipv4Addr::from(number), 9).into();
        latches.wait(LatchSpec {
            destination,
            ingress: None,
            from: None,
        });
        let flow = FiveTuple {
            source: ([10, 0, 0, 1], 7).into(),
            destination,
            protocol: Protocol::UDP,
        };
        let packet = AnyKey::of(&flow).unwrap();
        latches.show(&packet, Ingress::Edge.into(), InterfaceIndex(0));
    }

    /// Neither when it is full, nor when others take the place of its flows for long. Of the capacities, one
    /// fills a map's places as far as it lets them be filled.
    #[test]
    fn no_table_grows_while_the_worker_runs() {
        for (flows, capacity) in [(1 << 20, MAX_WAITING), (57_344, 57_344)] {
            let mut latches = Latches::new(flows);
            let room = (latches.waiting.capacity(), latches.learned.capacity());
            let count = u32::try_from(capacity).unwrap();
            for number in 0..count {
                assert_eq!(latches.check_room(), Ok(()));
                learn(&mut latches, number);
            }
            assert_eq!(latches.check_room(), Err(WaitingFull { capacity }));
            assert_eq!(latches.learned.len(), capacity);
            for number in count..count + 200_000 {
                let oldest = std::net::Ipv4Addr::from(number - count);
                assert!(latches.stop((oldest, 9).into()).is_some());
                learn(&mut latches, number);
                // Places with marks do not count, so it may be less.
                assert!(latches.waiting.capacity() <= room.0, "after {number}");
            }
            assert_eq!(latches.learned.capacity(), room.1);
            latches.invariants();
        }
    }

    proptest! {
        /// Each flow has the source of the first packet that meets its terms, whatever comes then.
        #[test]
        fn the_first_packet_decides(steps in prop::collection::vec(steps(), 1..200)) {
            let mut latches = Latches::new(100);
            let mut model: BTreeMap<SocketAddr, (LatchSpec, Option<Latched>)> = BTreeMap::new();
            let mut refused = 0;
            for step in steps {
                match step {
                    Step::Wait(spec) => {
                        latches.wait(spec);
                        model.insert(spec.destination, (spec, None));
                    }
                    Step::Stop(destination) => {
                        let stopped = latches.stop(destination);
                        prop_assert_eq!(stopped.is_some(), model.contains_key(&destination));
                        // As when a change is not made.
                        if let Some(stopped) = stopped.filter(|_| destination.port() == 1) {
                            latches.put_back(stopped);
                        } else {
                            model.remove(&destination);
                        }
                    }
                    Step::Packet(flow, on) => {
                        let key = AnyKey::of(&flow).unwrap();
                        prop_assert_eq!(key.five_tuple(), flow);
                        latches.show(&key, Origin::of(on, role(on)), on);
                        if let Some((spec, learned @ None)) = model.get_mut(&flow.destination)
                            && flow.protocol == Protocol::UDP
                        {
                            let comes_in = match spec.ingress {
                                None => true,
                                Some(Ingress::Interface(of)) => of == on,
                                Some(Ingress::Edge) => on.0 < 2,
                                Some(Ingress::Core) => on.0 == 2,
                            };
                            if comes_in && spec.from.is_none_or(|from| from == flow.source.ip()) {
                                *learned = Some(Latched { flow, on });
                            } else {
                                refused += 1;
                            }
                        }
                    }
                }
                latches.invariants();
                prop_assert_eq!(latches.len(), model.len());
                prop_assert_eq!(latches.refused_packets(), refused);
                let learned = latches.learned(usize::MAX);
                let learned: BTreeMap<_, _> = learned.map(|it| (it.flow.destination, it)).collect();
                let expected = model.iter().filter_map(|(to, (_, learned))| Some((*to, (*learned)?)));
                prop_assert_eq!(learned, expected.collect::<BTreeMap<_, _>>());
            }
        }
    }
}
