/// Whether a header sums to all ones, its checksum included (RFC 1071). `header` is a whole number
/// of 16-bit words, as IPv4's is.
#[inline]
#[must_use]
pub fn header_checksum_is_right(header: &[u8]) -> bool {
    // 2^64, 2^32 and 2^16 are 1 modulo 0xffff, so a carry is added at the other end, and what remains is
    // the ones' complement sum: all ones, which is 0. A header is never all zeros: its first byte is the
    // version. The sum does not depend on the order of bytes (RFC 1071 section 2 (B)).
    let add = |sum: u64, word: u64| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u64::from(carry)
    };
    let (words, rest) = header.as_chunks::<8>();
    let mut sum = words
        .iter()
        .fold(0, |sum, word| add(sum, u64::from_ne_bytes(*word)));
    let (halves, rest) = rest.as_chunks::<4>();
    for half in halves {
        sum = add(sum, u32::from_ne_bytes(*half).into());
    }
    for word in rest.as_chunks::<2>().0 {
        sum = add(sum, u16::from_ne_bytes(*word).into());
    }
    // What an odd number divides is small when it is multiplied by that number's inverse modulo 2^64.
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    const { assert!(INVERSE.wrapping_mul(0xffff) == 1) };
    sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// The checksum after one of the words that it covers has changed (RFC 1624 equation 3).
#[inline]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
pub fn replace_word(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 section 4.1, as written.
    fn sum(header: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for pair in header.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    proptest! {
        #[test]
        fn incremental_update_equals_a_new_sum(
            mut header in prop::collection::vec(any::<u8>(), 20..=20),
            word in 0_usize..9,
            new: u16,
        ) {
            let at = if word >= 5 { 2 * word + 2 } else { 2 * word }; // not the checksum itself
            header[10..12].fill(0);
            let checksum = !sum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            prop_assert!(header_checksum_is_right(&header));
            let old = u16::from_be_bytes([header[at], header[at + 1]]);
            header[at..at + 2].copy_from_slice(&new.to_be_bytes());
            let updated = replace_word(checksum, old, new);
            header[10..12].copy_from_slice(&updated.to_be_bytes());
            prop_assert!(header_checksum_is_right(&header));
        }

        /// With options, too, and sums that carry.
        #[test]
        fn only_a_right_sum_is_right(
            mut header in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff)], 20..=60),
            right: bool,
        ) {
            header.truncate(header.len() / 2 * 2);
            header[0] |= 0x40;
            if right {
                header[10..12].fill(0);
                let checksum = !sum(&header);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            prop_assert_eq!(header_checksum_is_right(&header), sum(&header) == 0xffff);
        }

        #[test]
        fn a_flipped_bit_is_noticed(
            mut header in prop::collection::vec(any::<u8>(), 20..=20),
            bit in 0_usize..160,
        ) {
            header[10..12].fill(0);
            let checksum = !sum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            header[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!header_checksum_is_right(&header));
        }
    }
}
