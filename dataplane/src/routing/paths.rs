//! Several next hops of one route, and which of them a flow takes.

use std::{cmp::Reverse, num::NonZeroU16};

use arrayvec::ArrayVec;

use crate::{
    control::NextHop,
    session::{FlowKey as _, FlowKey4, FlowKey6, Protocol},
    wire::{EtherType, Ipv4, Ipv6, Transport, Upper, upper_layer},
};

/// How finely shares are cut.
const BUCKETS: usize = 256;

/// The next hops of a route that has several, each with its share of the flows by weight.
///
/// A flow's hash names one of 256 buckets, and a bucket has one next hop, so a flow keeps its way.
/// [`Paths::change`] moves no bucket that can stay: a path that goes moves its own flows only, where
/// dividing the hash space anew would move up to half of them (RFC 2992 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths([NextHop; BUCKETS]);

impl Paths {
    /// The most next hops that share a route.
    pub const MAX: usize = 16;

    /// Shares flows among next hops, of which those after the first [`Paths::MAX`] get none.
    /// `None` if there are none.
    #[must_use]
    pub fn new(next_hops: &[(NextHop, NonZeroU16)]) -> Option<Self> {
        Self([NextHop::default(); BUCKETS]).change(next_hops)
    }

    /// Shares flows among other next hops, and moves as few as that needs.
    #[must_use]
    pub fn change(&self, next_hops: &[(NextHop, NonZeroU16)]) -> Option<Self> {
        let next_hops = next_hops.get(..Self::MAX).unwrap_or(next_hops);
        if next_hops.is_empty() {
            return None;
        }
        let mut left = self.shares(next_hops);
        let mut buckets = self.0;
        let mut homeless: ArrayVec<&mut NextHop, BUCKETS> = ArrayVec::new();
        for bucket in &mut buckets {
            let place = next_hops
                .iter()
                .position(|(next_hop, _)| next_hop == bucket);
            match place.and_then(|place| left.get_mut(place)) {
                Some(left) if *left > 0 => *left -= 1,
                _ => homeless.push(bucket),
            }
        }
        let room = next_hops
            .iter()
            .zip(left)
            .flat_map(|(&(next_hop, _), left)| std::iter::repeat_n(next_hop, left));
        for (bucket, next_hop) in homeless.into_iter().zip(room) {
            *bucket = next_hop;
        }
        Some(Self(buckets))
    }

    /// The next hop of each bucket.
    pub fn buckets(&self) -> impl Iterator<Item = NextHop> {
        self.0.iter().copied()
    }

    /// How many buckets each next hop is to have: by weight, rounded down, then one more to those
    /// that have it already and those that lost most by rounding. Each has at least one.
    fn shares(&self, next_hops: &[(NextHop, NonZeroU16)]) -> ArrayVec<usize, { Self::MAX }> {
        let total: usize = next_hops.iter().map(|(_, weight)| weight_of(*weight)).sum();
        let exact = |weight: NonZeroU16| BUCKETS * weight_of(weight);
        let mut shares: ArrayVec<usize, { Self::MAX }> = next_hops
            .iter()
            .map(|&(_, weight)| (exact(weight) / total).max(1))
            .collect();
        let mut order: ArrayVec<usize, { Self::MAX }> = (0..next_hops.len()).collect();
        order.sort_by_key(|&place| {
            let (next_hop, weight) = next_hops[place];
            let has = self.0.iter().filter(|bucket| **bucket == next_hop).count();
            Reverse((has > shares[place], exact(weight) % total))
        });
        let mut given: usize = shares.iter().sum();
        for &place in order.iter().cycle() {
            if given >= BUCKETS {
                break;
            }
            shares[place] += 1;
            given += 1;
        }
        // The least that each has may be more than its weight: the largest pay for it.
        while given > BUCKETS
            && let Some(largest) = shares.iter_mut().max()
        {
            *largest -= 1;
            given -= 1;
        }
        shares
    }

    /// The next hop of a flow, by its hash.
    #[inline]
    pub(crate) fn choose(&self, hash: u64) -> NextHop {
        let [bucket, ..] = hash.to_le_bytes();
        self.0[usize::from(bucket)]
    }
}

fn weight_of(weight: NonZeroU16) -> usize {
    usize::from(weight.get())
}

/// The hash of a frame's flow, with a VLAN tag or without; `None` where it is not IP.
pub(crate) fn flow_hash(frame: &[u8], seed: &[u64; 4]) -> Option<u64> {
    let (mut kind, mut packet) = frame.get(12..)?.split_first_chunk::<2>()?;
    if *kind == EtherType::VLAN.0.to_be_bytes() {
        (kind, packet) = packet.get(2..)?.split_first_chunk()?;
    }
    match EtherType(u16::from_be_bytes(*kind)) {
        EtherType::IPV4 => hash4(packet, seed),
        EtherType::IPV6 => hash6(packet, seed),
        _ => None,
    }
}

/// The hash of an IPv4 packet's flow: of its five-tuple; of its addresses where it has no ports or is
/// a fragment, of which only the first has them, so that all of a packet take one way.
#[inline]
pub(crate) fn hash4(packet: &[u8], seed: &[u64; 4]) -> Option<u64> {
    let ip = Ipv4::new(packet)?;
    let ports = match Protocol(ip.protocol()) {
        Protocol::UDP | Protocol::TCP if !ip.is_fragment() => packet
            .get(ip.header_length()..)
            .and_then(|rest| rest.first_chunk()),
        _ => None,
    };
    let (ports, protocol) = ports.map_or((&[0; 4], 0), |ports| (ports, ip.protocol()));
    Some(FlowKey4::from_wire(ip.addresses(), ports, protocol).hash(seed))
}

/// As [`hash4`], of an IPv6 packet.
#[inline]
pub(crate) fn hash6(packet: &[u8], seed: &[u64; 4]) -> Option<u64> {
    let ip = Ipv6::new(packet)?;
    let whole = packet
        .get(..Ipv6::LENGTH + usize::from(ip.payload_length()))
        .unwrap_or(packet);
    let transport = match upper_layer(whole, ip.next_header()) {
        Upper::Transport(Transport {
            protocol,
            offset,
            fragment: None,
        }) => match Protocol(protocol) {
            Protocol::UDP | Protocol::TCP => whole
                .get(offset..)
                .and_then(|rest| Some((rest.first_chunk()?, protocol))),
            _ => None,
        },
        Upper::Transport(_) | Upper::Fragment { .. } | Upper::Opaque => None,
    };
    let (ports, protocol) = transport.unwrap_or((&[0; 4], 0));
    Some(FlowKey6::from_wire(ip.addresses(), ports, protocol).hash(seed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Weighted = Vec<(NextHop, NonZeroU16)>;

    fn weighted() -> impl Strategy<Value = Weighted> {
        let weight = prop_oneof![3 => 1..4_u16, 1 => 1..300_u16];
        prop::collection::btree_map(1..20_u16, weight, 1..=Paths::MAX).prop_map(|weights| {
            let weighted = |(number, weight)| (NextHop(number), NonZeroU16::new(weight).unwrap());
            weights.into_iter().map(weighted).collect()
        })
    }

    fn counts(paths: &Paths) -> BTreeMap<NextHop, usize> {
        let mut counts = BTreeMap::new();
        for next_hop in paths.buckets() {
            *counts.entry(next_hop).or_default() += 1;
        }
        counts
    }

    /// Each next hop within one bucket of its share, but for those that one bucket is too much for.
    fn shares_are_right(paths: &Paths, weighted: &Weighted) -> Result<(), TestCaseError> {
        let counts = counts(paths);
        prop_assert_eq!(counts.len(), weighted.len());
        let total: u32 = weighted.iter().map(|(_, w)| u32::from(w.get())).sum();
        let shares = weighted
            .iter()
            .map(|(_, w)| 256.0 * f64::from(w.get()) / f64::from(total));
        let lacking = shares.clone().filter(|share| *share < 1.0).count();
        for ((next_hop, _), share) in weighted.iter().zip(shares) {
            let count = f64::from(u16::try_from(counts[next_hop]).unwrap());
            let least = (share - 1.0 - f64::from(u16::try_from(lacking).unwrap())).max(1.0);
            prop_assert!(
                count >= least.floor() && count <= share.max(1.0) + 1.0,
                "{:?} of {}",
                counts,
                share
            );
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn shares_go_by_weight_and_only_what_must_move_moves(
            changes in prop::collection::vec(weighted(), 1..6),
        ) {
            let mut paths: Option<Paths> = None;
            for weighted in changes {
                let next = match &paths {
                    Some(paths) => paths.change(&weighted),
                    None => Paths::new(&weighted),
                }
                .unwrap();
                shares_are_right(&next, &weighted)?;
                if let Some(before) = &paths {
                    let moved = before.buckets().zip(next.buckets()).filter(|(a, b)| a != b);
                    let (before, after) = (counts(before), counts(&next));
                    let surplus = before.iter().map(|(next_hop, count)| {
                        count.saturating_sub(after.get(next_hop).copied().unwrap_or_default())
                    });
                    prop_assert_eq!(moved.count(), surplus.sum::<usize>());
                }
                paths = Some(next);
            }
        }

        /// Of equal paths any one can go, and come back, without moving flows between the others.
        #[test]
        fn a_path_that_goes_takes_only_its_own_flows_along(count in 2..=16_u16, gone in 0..16_u16) {
            let gone = NextHop(gone % count + 1);
            let one = NonZeroU16::MIN;
            let all: Weighted = (1..=count).map(|number| (NextHop(number), one)).collect();
            let others: Weighted = all.iter().copied().filter(|(n, _)| *n != gone).collect();
            let before = Paths::new(&all).unwrap();
            let without = before.change(&others).unwrap();
            for (was, is) in before.buckets().zip(without.buckets()) {
                prop_assert!(was == is || was == gone);
            }
            for (was, is) in without.buckets().zip(without.change(&all).unwrap().buckets()) {
                prop_assert!(was == is || is == gone);
            }
        }
    }

    #[test]
    fn what_there_is_too_much_of_is_left_out() {
        let one = NonZeroU16::MIN;
        let many: Weighted = (1..=20).map(|number| (NextHop(number), one)).collect();
        let paths = Paths::new(&many).unwrap();
        assert_eq!(counts(&paths).len(), Paths::MAX);
        assert_eq!(Paths::new(&[]), None);
        assert_eq!(paths.change(&[]), None);
    }
}
