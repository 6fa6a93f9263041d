//! Who claims what he has no right to, a code point without a session or an address of others: the
//! senders that do so most, in bounded memory.

use std::net::{IpAddr, Ipv6Addr};

use crate::{diffserv::Dscp, stats::labels, units::Ticks};

/// How many senders are told apart at a time.
pub const SENDERS: usize = 32;

labels! {
    /// What a sender has no right to.
    Offence as "offence" {
        /// The code point that its packets claim: it is taken away.
        Claim = "claim",
        /// A session's five-tuple: its packets come in elsewhere.
        Spoofed = "spoofed",
        /// Its address: reverse-path filtering drops its packets.
        ReversePath = "reverse-path",
    }
}

/// A sender of packets that claim what it has no right to, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its address, or the one that it uses.
    pub address: IpAddr,
    /// What it has no right to.
    pub offence: Offence,
    /// The code point of its packets.
    pub claims: Dscp,
    /// The most packets that it can have sent; `packets - error` it has sent at least.
    pub packets: u64,
    /// How many of them may be of senders that were here before it.
    pub error: u64,
    /// IP bytes of the `packets - error` packets.
    pub bytes: u64,
    /// When the last one came.
    pub last_seen: Ticks,
}

impl Sender {
    /// Whether two are one in the list.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        (self.address, self.offence, self.claims) == (other.address, other.offence, other.claims)
    }
}

/// Space-Saving (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements
/// in data streams", 2005): a sender that is not in the list takes the place of one with the least
/// count, and starts from that count. So of N packets, every sender of more than N / [`SENDERS`] is
/// in the list, and no count is over by more than its `error`.
///
/// It is fed by whoever sends most, so a packet costs the same whatever comes: all places are
/// compared at once by a tag, and the places with the least count are looked for only when the last
/// of them has gone.
#[derive(Debug)]
pub struct TopSenders {
    tags: [u8; SENDERS],
    keys: [Key; SENDERS],
    counts: [u64; SENDERS],
    rest: [Rest; SENDERS],
    /// The places with the least count, a bit each; 0: to be looked for.
    least: u32,
    /// The place of the last packet's sender: the next one is often of the same.
    recent: usize,
    packets: u64,
    seed: u64,
}

/// A sender and what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    address: u128,
    /// The code point, and the offence in the upper two bits; all ones: none.
    claims: u8,
}

/// What is kept of a sender that is not looked for.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    error: u64,
    bytes: u64,
    last_seen: Ticks,
}

const NOBODY: Key = Key {
    address: 0,
    claims: u8::MAX,
};

impl TopSenders {
    /// Nobody yet. The seed must not be known to senders.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            tags: [0; SENDERS],
            keys: [NOBODY; SENDERS],
            counts: [0; SENDERS],
            rest: [Rest::default(); SENDERS],
            least: u32::MAX,
            recent: 0,
            packets: 0,
            seed,
        }
    }

    /// Counts a packet of `bytes` (IP) from an address, with its code point and what is wrong with it.
    /// IPv4 addresses are mapped into IPv6.
    #[inline]
    pub fn count(
        &mut self,
        address: u128,
        (offence, claims): (Offence, Dscp),
        bytes: u32,
        now: Ticks,
    ) {
        self.packets += 1;
        let key = Key {
            address,
            claims: (offence as u8) << 6 | claims.number(),
        };
        let place = if self.keys[self.recent % SENDERS] == key {
            self.recent % SENDERS
        } else {
            self.place(key)
        };
        self.recent = place;
        self.counts[place] += 1;
        self.least &= !(1 << place);
        let rest = &mut self.rest[place];
        rest.bytes += u64::from(bytes);
        rest.last_seen = now;
    }

    /// The place of a sender; of one with the least count, which leaves, if it has none yet.
    #[inline]
    fn place(&mut self, key: Key) -> usize {
        let tag = self.tag(key);
        let mut candidates = self.tagged(tag);
        while candidates != 0 {
            let place = candidates.trailing_zeros() as usize % SENDERS;
            if self.keys[place] == key {
                return place;
            }
            candidates &= candidates - 1;
        }
        if self.least == 0 {
            self.find_least();
        }
        let place = self.least.trailing_zeros() as usize % SENDERS;
        self.tags[place] = tag;
        self.keys[place] = key;
        self.rest[place] = Rest {
            error: self.counts[place],
            ..Rest::default()
        };
        place
    }

    /// The places with a tag, a bit each.
    #[inline]
    fn tagged(&self, tag: u8) -> u32 {
        let places = self.tags.map(|other| u8::from(other == tag));
        let (eights, _) = places.as_chunks::<8>();
        eights.iter().rev().fold(0, |bits, &eight| {
            // Byte n of the word is 0 or 1; the product has it as bit n of its last byte.
            let eight = u64::from_le_bytes(eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            #[allow(clippy::cast_possible_truncation, reason = "at most 255")]
            let eight = eight as u32;
            bits << 8 | eight
        })
    }

    /// Between two calls each of the places goes on by at least one.
    #[cold]
    fn find_least(&mut self) {
        let least = self.counts.iter().copied().min().unwrap_or(0);
        for (place, &count) in self.counts.iter().enumerate() {
            self.least |= u32::from(count == least) << place;
        }
    }

    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a few bits in the middle depend on all"
    )]
    fn tag(&self, Key { address, claims }: Key) -> u8 {
        let (high, low) = ((address >> 64) as u64, address as u64);
        let product = u128::from(high.rotate_left(17) ^ low ^ u64::from(claims) << 56 ^ self.seed)
            * u128::from(self.seed.rotate_left(32) | 1);
        (product >> 60) as u8
    }

    /// How many packets were counted.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Those in the list, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Sender> {
        let places = self.keys.iter().zip(&self.counts).zip(&self.rest);
        places.filter_map(|((key, &packets), rest)| {
            let address = Ipv6Addr::from(key.address).to_canonical();
            Some(Sender {
                address,
                offence: *Offence::ALL.get(usize::from(key.claims >> 6))?,
                claims: Dscp::new((key.claims & 63).into()).ok()?,
                packets,
                error: rest.error,
                bytes: rest.bytes,
                last_seen: rest.last_seen,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, net::Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn mapped(address: u32) -> u128 {
        u128::from(Ipv4Addr::from(address).to_ipv6_mapped())
    }

    /// Senders of few, many and single packets, with another claim now and then.
    fn packets() -> impl Strategy<Value = Vec<(u32, Dscp)>> {
        let sender = prop_oneof![
            3 => 0..4_u32,
            3 => 10..60_u32,
            2 => 1_000..1_000_000_u32,
        ];
        let claims = prop_oneof![5 => Just(Dscp::EF), 1 => Just(Dscp::CS6)];
        prop::collection::vec((sender, claims), 0..3_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(5), ..ProptestConfig::default() })]

        /// The paper's theorems: who has sent more than one packet in 32 is there, and no count is
        /// further from the truth than its error.
        #[test]
        fn the_greatest_are_there_within_the_bound(packets in packets(), seed in any::<u64>()) {
            let mut senders = TopSenders::new(seed);
            let mut truth: HashMap<(IpAddr, Dscp), u64> = HashMap::new();
            for (at, &(sender, claims)) in (0..).zip(&packets) {
                senders.count(mapped(sender), (Offence::Claim, claims), 100, Ticks(at));
                *truth.entry((Ipv4Addr::from(sender).into(), claims)).or_default() += 1;
            }
            let total = packets.len() as u64;
            prop_assert_eq!(senders.packets(), total);
            let listed: HashMap<_, _> = senders.iter().map(|s| ((s.address, s.claims), s)).collect();
            prop_assert_eq!(listed.len(), truth.len().min(SENDERS), "each is listed once");
            for (key, &sent) in &truth {
                if sent > total / SENDERS as u64 {
                    prop_assert!(listed.contains_key(key), "{key:?} sent {sent} of {total}");
                }
            }
            let mut sum = 0;
            for (key, sender) in listed {
                let sent = truth[&key];
                prop_assert!(sender.packets - sender.error <= sent && sent <= sender.packets);
                prop_assert!(sender.error <= total / SENDERS as u64);
                prop_assert_eq!(sender.bytes, (sender.packets - sender.error) * 100);
                sum += sender.packets;
            }
            prop_assert_eq!(sum, total, "each packet is counted in one place");
        }
    }

    #[test]
    fn senders_are_told_apart_by_address_and_claim() {
        let mut senders = TopSenders::new(7);
        let six: Ipv6Addr = "2001:db8::5".parse().unwrap();
        for (address, claims, at) in [
            (mapped(0x0a01_0005), Dscp::EF, 1),
            (u128::from(six), Dscp::EF, 2),
            (mapped(0x0a01_0005), Dscp::CS6, 3),
            (mapped(0x0a01_0005), Dscp::EF, 4),
        ] {
            senders.count(address, (Offence::Claim, claims), 60, Ticks(at));
        }
        let mut listed: Vec<_> = senders
            .iter()
            .map(|s| {
                (
                    s.last_seen.0,
                    s.address.to_string(),
                    s.claims,
                    s.packets,
                    s.bytes,
                )
            })
            .collect();
        listed.sort_unstable();
        let expected = [
            (2, "2001:db8::5".to_owned(), Dscp::EF, 1, 60),
            (3, "10.1.0.5".to_owned(), Dscp::CS6, 1, 60),
            (4, "10.1.0.5".to_owned(), Dscp::EF, 2, 120),
        ];
        assert_eq!(listed, expected);
    }
}
