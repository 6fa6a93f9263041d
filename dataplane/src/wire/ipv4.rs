use std::mem;

use super::{header_checksum_is_right, replace_word};
use crate::diffserv::TrafficClass;

/// An IPv4 header without its options (RFC 791).
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a>(&'a [u8; 20]);

impl<'a> Ipv4<'a> {
    /// Its length, without options.
    pub const LENGTH: usize = 20;

    /// The header at the start of a packet; `None` of a packet that is too short.
    #[inline]
    #[must_use]
    pub fn new(packet: &'a [u8]) -> Option<Self> {
        packet.first_chunk().map(Self)
    }

    /// Version; 4 is right.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u8 {
        self.0[0] >> 4
    }

    /// Header length with options, in bytes: 20 to 60 are right.
    #[inline]
    #[must_use]
    pub fn header_length(&self) -> usize {
        usize::from(self.0[0] & 15) * 4
    }

    /// The second byte: code point (RFC 2474) and ECN (RFC 3168).
    #[inline]
    #[must_use]
    pub fn traffic_class(&self) -> TrafficClass {
        TrafficClass(self.0[1])
    }

    /// Length of the whole packet, in bytes.
    #[inline]
    #[must_use]
    pub fn total_length(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// The sender's number for the packet, which its fragments share.
    #[inline]
    #[must_use]
    pub fn identification(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// Fragment offset, in units of 8 bytes: not 0 in fragments other than the first.
    #[inline]
    #[must_use]
    pub fn fragment_offset(&self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]]) & 0x1fff
    }

    /// Whether it is only a part of a packet, the first one included.
    #[inline]
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        u16::from_be_bytes([self.0[6], self.0[7]]) & 0x3fff != 0
    }

    /// How many more routers it may pass.
    #[inline]
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.0[8]
    }

    /// The protocol number of the payload.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.0[9]
    }

    /// Source and destination, as they stand there.
    #[inline]
    #[must_use]
    pub fn addresses(&self) -> &'a [u8; 8] {
        // There are always that many: the compiler knows.
        self.0.last_chunk().unwrap_or(&[0; 8])
    }

    /// In host byte order.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> u32 {
        u32::from_be_bytes([self.0[16], self.0[17], self.0[18], self.0[19]])
    }

    /// Whether the checksum is right over the header and its options. `packet` starts with this
    /// header and is at least as long as it says.
    #[inline]
    #[must_use]
    pub fn checksum_is_right(&self, packet: &[u8]) -> bool {
        if self.header_length() == Self::LENGTH {
            header_checksum_is_right(self.0)
        } else {
            packet
                .get(..self.header_length())
                .is_some_and(header_checksum_is_right)
        }
    }
}

/// Whether options ask for anything: without, they fill space (RFC 791 section 3.1).
#[must_use]
pub fn options_ask(options: &[u8]) -> bool {
    let first = options.iter().find(|&&kind| kind != 1);
    first.is_some_and(|&kind| kind != 0)
}

/// Whether options name routers to be passed, loosely or strictly (RFC 791 section 3.1). Whatever is
/// broken before that ends them.
#[must_use]
pub fn is_source_routed(options: &[u8]) -> bool {
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    let mut rest = options;
    loop {
        rest = match rest {
            [LOOSE | STRICT, ..] => return true,
            [] | [0, ..] => return false,
            [1, after @ ..] => after,
            [_, length, ..] if *length >= 2 => rest.get(usize::from(*length)..).unwrap_or_default(),
            _ => return false,
        };
    }
}

/// The fields of an IPv4 header that a router writes, each with the checksum.
#[derive(Debug)]
pub struct Ipv4Mut<'a>(&'a mut [u8; Ipv4::LENGTH]);

impl<'a> Ipv4Mut<'a> {
    /// The header at the start of a packet; `None` of a packet that is too short.
    #[inline]
    #[must_use]
    pub fn new(packet: &'a mut [u8]) -> Option<Self> {
        packet.first_chunk_mut().map(Self)
    }

    /// Writes DSCP and ECN.
    #[inline]
    pub fn set_traffic_class(&mut self, class: TrafficClass) {
        let first = self.0[0];
        let old = u16::from_be_bytes([first, self.0[1]]);
        self.0[1] = class.0;
        self.fix_checksum(old, u16::from_be_bytes([first, class.0]));
    }

    /// Writes DSCP and ECN and takes one off the TTL (RFC 1812 section 5.3.1), with one update of the
    /// checksum. Only for packets whose TTL is over 1.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    pub fn forward(&mut self, class: TrafficClass) {
        debug_assert!(self.0[8] > 1, "expired packets go to the kernel");
        let old_class = mem::replace(&mut self.0[1], class.0);
        self.0[8] = self.0[8].wrapping_sub(1);
        // RFC 1624 equation 3 for both words: ~(~HC + ~m + m'), with what does not change left out.
        // The sum does not depend on the order of bytes (RFC 1071 section 2 (B)); in this one the
        // TTL's word is 1 less, which is 0xfffe more.
        let upper = |class: u8| u32::from(class) << 8;
        let checksum = u16::from_le_bytes([self.0[10], self.0[11]]);
        let sum =
            0xffff + 0xffff + 0xfffe - u32::from(checksum) - upper(old_class) + upper(class.0);
        // The upper half of a number and itself with its halves exchanged has both, and their carry.
        let folded = (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
        [self.0[10], self.0[11]] = (!folded).to_le_bytes();
    }

    #[inline]
    fn fix_checksum(&mut self, old: u16, new: u16) {
        let checksum = replace_word(u16::from_be_bytes([self.0[10], self.0[11]]), old, new);
        [self.0[10], self.0[11]] = checksum.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As word by word, whatever the checksum was.
        #[test]
        fn forwarding_updates_the_checksum(
            mut header: [u8; 20],
            checksum in prop_oneof![Just(0_u16), Just(0xffff), Just(0xfffe), any::<u16>()],
            ttl in 2_u8..=255,
            class: u8,
        ) {
            header[8] = ttl;
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            let word = |header: &[u8; 20], at| u16::from_be_bytes([header[at], header[at + 1]]);
            let (classes, ttls) = (word(&header, 0), word(&header, 8));
            let mut forwarded = header;
            Ipv4Mut::new(&mut forwarded).unwrap().forward(TrafficClass(class));
            header[1] = class;
            header[8] -= 1;
            let checksum = replace_word(checksum, classes, word(&header, 0));
            let checksum = replace_word(checksum, ttls, word(&header, 8));
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            prop_assert_eq!(forwarded, header);
        }
    }

    /// Ones' complement is arithmetic modulo 65,535: no header sums to 0, so of its two values for that a
    /// computed checksum is 0, never 0xffff.
    fn modulo(value: i64) -> u16 {
        u16::try_from(value.rem_euclid(0xffff)).unwrap()
    }

    /// Each of the 65,536 checksums with each pair of code points, not congested and congested.
    #[test]
    fn every_checksum_is_updated_for_every_pair_of_code_points() {
        for (old, new, ecn) in (0..64_u8)
            .flat_map(|old| (0..64_u8).flat_map(move |new| [(old, new, 0), (old, new, 3)]))
        {
            let (old, new) = (old << 2 | ecn, new << 2 | ecn);
            for checksum in 0..=u16::MAX {
                let mut header = [0_u8; 20];
                (header[0], header[1], header[8]) = (0x45, old, 64);
                [header[10], header[11]] = checksum.to_be_bytes();
                let mut forwarded = header;
                Ipv4Mut::new(&mut forwarded)
                    .unwrap()
                    .forward(TrafficClass(new));
                Ipv4Mut::new(&mut header)
                    .unwrap()
                    .set_traffic_class(TrafficClass(new));
                // What a word is less the checksum is more.
                let marked = i64::from(checksum) + i64::from(old) - i64::from(new);
                for (header, expected) in [(forwarded, marked + 0x100), (header, marked)] {
                    let updated = u16::from_be_bytes([header[10], header[11]]);
                    let right = updated == modulo(expected)
                        || (checksum == u16::MAX && updated == u16::MAX);
                    assert!(
                        right,
                        "{checksum:#x}, class {old:#x} to {new:#x}: {updated:#x}"
                    );
                }
            }
        }
    }

    /// Congestion marks change the class alone; all classes, with checksums at which sums carry.
    #[test]
    fn every_class_becomes_every_other() {
        let borders = [
            0, 1, 2, 0xfe, 0xff, 0x100, 0x7fff, 0x8000, 0xfeff, 0xff00, 0xfffd, 0xfffe,
        ];
        for (old, new) in (0..=u8::MAX).flat_map(|old| (0..=u8::MAX).map(move |new| (old, new))) {
            for checksum in borders {
                let mut header = [0_u8; 20];
                (header[0], header[1], header[8]) = (0x45, old, 64);
                [header[10], header[11]] = u16::to_be_bytes(checksum);
                Ipv4Mut::new(&mut header)
                    .unwrap()
                    .set_traffic_class(TrafficClass(new));
                let expected = modulo(i64::from(checksum) + i64::from(old) - i64::from(new));
                assert_eq!(
                    u16::from_be_bytes([header[10], header[11]]),
                    expected,
                    "{old} {new}"
                );
                assert_eq!(header[1], new);
            }
        }
    }
}
