//! Route tables of the Internet's shape: as many routes of each length, in proportion, as BGP's
//! table had in 2024, under the registries' address blocks. Seeded: the same seed gives the same
//! table.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use rand::{Rng, SeedableRng as _, rngs::SmallRng};

/// A network and its length.
pub type Prefix<A> = (A, u8);

/// Shares of IPv4's prefix lengths, in routes of a million. What is longer than /24 stands for a
/// network's own.
const IPV4_LENGTHS: [(u8, u32); 25] = [
    (8, 16),
    (9, 13),
    (10, 40),
    (11, 100),
    (12, 300),
    (13, 600),
    (14, 1_200),
    (15, 2_100),
    (16, 13_500),
    (17, 8_200),
    (18, 14_000),
    (19, 25_000),
    (20, 45_000),
    (21, 52_000),
    (22, 113_000),
    (23, 103_000),
    (24, 606_931),
    (25, 1_500),
    (26, 1_500),
    (27, 1_500),
    (28, 1_500),
    (29, 2_000),
    (30, 2_000),
    (31, 1_000),
    (32, 3_000),
];

/// The same of IPv6's.
const IPV6_LENGTHS: [(u8, u32); 24] = [
    (20, 100),
    (24, 300),
    (28, 1_600),
    (29, 35_000),
    (30, 3_000),
    (31, 2_000),
    (32, 120_000),
    (33, 15_000),
    (34, 10_000),
    (35, 8_000),
    (36, 50_000),
    (37, 2_000),
    (38, 10_000),
    (39, 3_000),
    (40, 100_000),
    (41, 3_000),
    (42, 15_000),
    (43, 3_000),
    (44, 110_000),
    (45, 9_000),
    (46, 25_000),
    (47, 25_000),
    (48, 444_000),
    (64, 6_000),
];

/// The registries' IPv6 blocks: the first 12 bits.
const IPV6_BLOCKS: [u16; 6] = [0x200, 0x240, 0x260, 0x280, 0x2a0, 0x2c0];
/// How many networks share a thousand IPv6 routes.
const NETWORKS_IN_A_THOUSAND: usize = 130;

/// `count` distinct IPv4 routes in a random order.
#[must_use]
pub fn ipv4(count: usize, seed: u64) -> Vec<Prefix<Ipv4Addr>> {
    let mut random = SmallRng::seed_from_u64(seed);
    distinct(count, || {
        let length = pick(&IPV4_LENGTHS, &mut random);
        // Unicast, without the blocks that nobody announces.
        let first = loop {
            let first = random.random_range(1..224_u32);
            if first != 10 && first != 127 {
                break first;
            }
        };
        let address = first << 24 | random.random::<u32>() >> 8;
        let mask = u32::MAX << (32 - length);
        (Ipv4Addr::from(address & mask), length)
    })
}

/// `count` distinct IPv6 routes in a random order.
#[must_use]
pub fn ipv6(count: usize, seed: u64) -> Vec<Prefix<Ipv6Addr>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let networks: Vec<u32> = (0..(count * NETWORKS_IN_A_THOUSAND / 1_000).max(1))
        .map(|_| {
            let block = IPV6_BLOCKS[random.random_range(0..IPV6_BLOCKS.len())];
            // A network has a /29, and uses its first /32.
            u32::from(block) << 20 | random.random_range(0..1 << 17) << 3
        })
        .collect();
    distinct(count, || {
        let length = pick(&IPV6_LENGTHS, &mut random);
        // Few networks have most of the routes, and use the beginning of what they have most.
        let network = if length > 32 {
            networks[skewed(networks.len(), &mut random)]
        } else if length == 32 {
            networks[random.random_range(0..networks.len())] | random.random_range(0..2)
        } else {
            networks[random.random_range(0..networks.len())]
        };
        let byte = u128::try_from(skewed(256, &mut random)).unwrap_or(0);
        let address = u128::from(network) << 96 | byte << 88 | random.random::<u128>() >> 40;
        let mask = u128::MAX << (128 - u32::from(length));
        (Ipv6Addr::from(address & mask), length)
    })
}

fn pick(lengths: &[(u8, u32)], random: &mut SmallRng) -> u8 {
    let all: u32 = lengths.iter().map(|(_, share)| share).sum();
    let mut at = random.random_range(0..all);
    for &(length, share) in lengths {
        if at < share {
            return length;
        }
        at -= share;
    }
    lengths.last().map_or(0, |&(length, _)| length)
}

/// A number under `end`, low ones more often: half of all are in the first three tenths.
fn skewed(end: usize, random: &mut SmallRng) -> usize {
    random
        .random_range(0..end.max(1))
        .min(random.random_range(0..end.max(1)))
}

fn distinct<A: Copy + Eq + std::hash::Hash>(
    count: usize,
    mut next: impl FnMut() -> Prefix<A>,
) -> Vec<Prefix<A>> {
    let mut seen = HashSet::with_capacity(count);
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let prefix = next();
        if seen.insert(prefix) {
            all.push(prefix);
        }
    }
    all
}
