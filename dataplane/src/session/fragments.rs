use super::{AnyKey, FlowKey, FlowKey4, FlowKey6};
use crate::units::{TickRate, Ticks};

/// How many sets the table has; a power of two.
const SETS: usize = 256;
/// How many packets a set remembers.
const WAYS: usize = 4;
/// How long after the first fragment of a packet the others may come, in nanoseconds. They leave
/// their sender together; an identification is used again after 65,536 packets (RFC 791) at the
/// earliest, which at 10,000 packets a second are six seconds.
const TIMEOUT_NS: u64 = 2_000_000_000;

/// Source and destination, as they stand in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPair {
    /// IPv4's.
    V4([u8; 8]),
    /// IPv6's.
    V6([u8; 32]),
}

/// What the fragments of one packet have in common (RFC 791 section 3.2; RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentId {
    /// Source and destination address.
    pub addresses: AddressPair,
    /// IPv4's; 0 of IPv6, which has it in the first fragment only.
    pub protocol: u8,
    /// The sender's number for the packet.
    pub identification: u32,
}

impl FragmentId {
    /// The key of a flow that has the identification in place of ports: as good as any, where parts of
    /// one packet are to be told from those of others.
    pub(crate) fn as_flow(&self) -> AnyKey {
        let ports = self.identification.to_be_bytes();
        match self.addresses {
            AddressPair::V4(addresses) => {
                AnyKey::V4(FlowKey4::from_wire(&addresses, &ports, self.protocol))
            }
            AddressPair::V6(addresses) => {
                AnyKey::V6(FlowKey6::from_wire(&addresses, &ports, self.protocol))
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: FragmentId,
    flow: AnyKey,
    expires: Ticks,
}

/// Which flow the fragments of a packet belong to: only the first has ports, and what stands in
/// their place in the others is payload.
///
/// Remembers packets whose first fragment belonged to a session, in a table of fixed size: a newer
/// packet takes the place of the oldest of its set. Which set that is, nobody can choose who does
/// not know the seed.
#[derive(Debug)]
pub struct Fragments {
    entries: Box<[[Option<Entry>; WAYS]]>,
    seed: [u64; 4],
    timeout: Ticks,
}

impl Fragments {
    /// How many packets it remembers at most.
    pub const CAPACITY: usize = SETS * WAYS;

    /// A table that remembers no packet; the seed decides which packets share a set.
    #[must_use]
    pub fn new(clock: TickRate, seed: [u64; 4]) -> Self {
        Self {
            entries: vec![[None; WAYS]; SETS].into_boxed_slice(),
            seed,
            timeout: clock.ticks(TIMEOUT_NS),
        }
    }

    /// Remembers the flow of a packet by its first fragment.
    pub(crate) fn remember(&mut self, id: FragmentId, flow: AnyKey, now: Ticks) {
        let expires = now + self.timeout;
        let set = self.set(&id);
        let place = set
            .iter_mut()
            // The same packet's place, then an empty one, then the oldest.
            .min_by_key(|entry| match entry {
                Some(entry) if entry.id == id => (0, Ticks(0)),
                None => (1, Ticks(0)),
                Some(entry) => (2, entry.expires),
            });
        if let Some(place) = place {
            *place = Some(Entry { id, flow, expires });
        }
    }

    /// The flow of a packet whose first fragment came a short time ago.
    pub(crate) fn flow(&mut self, id: &FragmentId, now: Ticks) -> Option<AnyKey> {
        let known = self.set(id).iter().flatten();
        known
            .filter(|entry| entry.id == *id && now < entry.expires)
            .map(|entry| entry.flow)
            .next()
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "reduced to the number of sets"
    )]
    fn set(&mut self, id: &FragmentId) -> &mut [Option<Entry>; WAYS] {
        let hash = match id.as_flow() {
            AnyKey::V4(key) => key.hash(&self.seed),
            AnyKey::V6(key) => key.hash(&self.seed),
        };
        &mut self.entries[hash as usize % SETS]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u32) -> FragmentId {
        let [a, b, c, d] = (number / 7).to_be_bytes();
        FragmentId {
            addresses: AddressPair::V4([10, 1, a, b, 10, 2, c, d]),
            protocol: 17,
            identification: number,
        }
    }

    fn flow(number: u32) -> AnyKey {
        AnyKey::V4(FlowKey4::from_wire(&[1; 8], &number.to_be_bytes(), 17))
    }

    fn fragments() -> Fragments {
        Fragments::new(TickRate::from_hz(1_000_000_000), [3, 5, 7, 9])
    }

    proptest! {
        /// It never says a wrong flow, and knows the last packets as long as they are few.
        #[test]
        fn never_guesses(steps in prop::collection::vec((any::<bool>(), 0_u32..3_000, 0_u64..100_000_000), 1..2_000)) {
            let mut fragments = fragments();
            let mut model = std::collections::HashMap::new();
            let mut now = 0;
            for (first, number, step) in steps {
                now += step;
                if first {
                    fragments.remember(id(number), flow(number), Ticks(now));
                    model.insert(number, now);
                    prop_assert_eq!(fragments.flow(&id(number), Ticks(now)), Some(flow(number)));
                } else if let Some(found) = fragments.flow(&id(number), Ticks(now)) {
                    prop_assert_eq!(found, flow(number));
                    prop_assert!(now < model[&number] + TIMEOUT_NS);
                }
            }
        }
    }

    #[test]
    fn it_is_bounded_and_forgets() {
        let mut fragments = fragments();
        for number in 0..100_000 {
            fragments.remember(id(number), flow(number), Ticks(u64::from(number)));
        }
        let now = Ticks(100_000);
        let known = (0..100_000).filter(|&number| fragments.flow(&id(number), now).is_some());
        assert_eq!(known.count(), Fragments::CAPACITY);
        let later = Ticks(100_000 + TIMEOUT_NS);
        let known = (0..100_000).filter(|&number| fragments.flow(&id(number), later).is_some());
        assert_eq!(known.count(), 0);
    }

    #[test]
    fn every_field_tells_packets_apart() {
        let mut fragments = fragments();
        let known = id(77);
        fragments.remember(known, flow(1), Ticks(0));
        let AddressPair::V4(mut swapped) = known.addresses else {
            panic!("IPv4")
        };
        swapped.rotate_left(4);
        let mut mapped = [0; 32];
        mapped[..4].copy_from_slice(&swapped[..4]);
        for other in [
            FragmentId {
                identification: 78,
                ..known
            },
            FragmentId {
                protocol: 6,
                ..known
            },
            FragmentId {
                addresses: AddressPair::V4(swapped),
                ..known
            },
            FragmentId {
                addresses: AddressPair::V6(mapped),
                ..known
            },
        ] {
            assert_eq!(fragments.flow(&other, Ticks(1)), None, "{other:?}");
        }
        assert_eq!(fragments.flow(&known, Ticks(1)), Some(flow(1)));
    }
}
