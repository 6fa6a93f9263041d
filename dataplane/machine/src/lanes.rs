/// Which of eight numbers are equal to one: a bit for each, the first one's lowest.
#[cfg(target_arch = "x86_64")]
#[inline]
#[must_use]
pub fn equal_lanes(numbers: &[u16; 8], number: u16) -> u32 {
    use core::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
        _mm_setzero_si128,
    };
    // SAFETY: every x86_64 CPU has SSE2; the load is of 16 bytes that are there, however aligned.
    unsafe {
        let numbers = _mm_loadu_si128(numbers.as_ptr().cast());
        let equal = _mm_cmpeq_epi16(numbers, _mm_set1_epi16(number.cast_signed()));
        _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())).cast_unsigned()
    }
}

/// Which of eight numbers are equal to one: a bit for each, the first one's lowest.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "eight bits")]
pub fn equal_lanes(numbers: &[u16; 8], number: u16) -> u32 {
    equal_one_by_one(numbers, number) as u32
}

/// Which of 64 numbers are equal to one: a bit for each, the first one's lowest.
#[cfg(target_feature = "avx2")]
#[inline]
#[must_use]
pub fn equal_places(numbers: &[u16; 64], number: u16) -> u64 {
    use core::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi16, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_packs_epi16,
        _mm256_permute4x64_epi64, _mm256_set1_epi16,
    };
    let (halves, _) = numbers.as_chunks::<32>();
    halves.iter().rev().fold(0, |places, half| {
        // SAFETY: compiled for CPUs that have AVX2; the loads are of 32 bytes each that are there,
        // however aligned.
        let equal = unsafe {
            let start = half.as_ptr().cast::<__m256i>();
            let number = _mm256_set1_epi16(number.cast_signed());
            let equal =
                |quarter| _mm256_cmpeq_epi16(_mm256_loadu_si256(start.add(quarter)), number);
            let packed = _mm256_packs_epi16(equal(0), equal(1));
            _mm256_movemask_epi8(_mm256_permute4x64_epi64::<0b11_01_10_00>(packed))
        };
        places << 32 | u64::from(equal.cast_unsigned())
    })
}

/// Which of 64 numbers are equal to one: a bit for each, the first one's lowest.
#[cfg(not(target_feature = "avx2"))]
#[inline]
#[must_use]
pub fn equal_places(numbers: &[u16; 64], number: u16) -> u64 {
    let (eights, _) = numbers.as_chunks::<8>();
    eights.iter().rev().fold(0, |places, eight| {
        places << 8 | u64::from(equal_lanes(eight, number))
    })
}

/// Which of 64 bytes are equal to one: a bit for each, the first one's lowest.
#[cfg(target_arch = "x86_64")]
#[inline]
#[must_use]
pub fn equal_bytes(bytes: &[u8; 64], byte: u8) -> u64 {
    use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
    let (quarters, _) = bytes.as_chunks::<16>();
    quarters.iter().rev().fold(0, |places, quarter| {
        // SAFETY: every x86_64 CPU has SSE2; the load is of 16 bytes that are there, however aligned.
        let equal = unsafe {
            let quarter = _mm_loadu_si128(quarter.as_ptr().cast());
            _mm_movemask_epi8(_mm_cmpeq_epi8(quarter, _mm_set1_epi8(byte.cast_signed())))
        };
        places << 16 | u64::from(equal.cast_unsigned())
    })
}

/// Which of 64 bytes are equal to one: a bit for each, the first one's lowest.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
#[must_use]
pub fn equal_bytes(bytes: &[u8; 64], byte: u8) -> u64 {
    equal_one_by_one(bytes, byte)
}

/// The bits of a set, from the lowest, for each of which the next of `bits` is set.
#[cfg(target_feature = "bmi2")]
#[inline]
#[must_use]
pub fn scatter(bits: u64, set: u64) -> u64 {
    // SAFETY: compiled for CPUs that have BMI2.
    unsafe { core::arch::x86_64::_pdep_u64(bits, set) }
}

/// The bits of a set, from the lowest, for each of which the next of `bits` is set.
#[cfg(not(target_feature = "bmi2"))]
#[inline]
#[must_use]
pub fn scatter(bits: u64, set: u64) -> u64 {
    scatter_one_by_one(bits, set)
}

#[cfg(any(test, not(target_feature = "bmi2")))]
fn scatter_one_by_one(mut bits: u64, mut set: u64) -> u64 {
    let mut scattered = 0;
    while set != 0 && bits != 0 {
        let lowest = set & set.wrapping_neg();
        scattered |= lowest * (bits & 1);
        bits >>= 1;
        set ^= lowest;
    }
    scattered
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_one_by_one<T: PartialEq>(numbers: &[T], number: T) -> u64 {
    let places = numbers.iter().enumerate();
    places
        .map(|(place, other)| u64::from(*other == number) << place)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_compared_as_one_by_one() {
        let numbers = std::array::from_fn(|place| [7, 0, 0xffff, 8, 7][place % 5]);
        for number in [0, 7, 8, 9, 0xffff] {
            let expected = equal_one_by_one(&numbers, number);
            assert_eq!(equal_places(&numbers, number), expected);
        }
    }

    #[test]
    fn bytes_are_compared_as_one_by_one() {
        let bytes =
            std::array::from_fn(|place| [7, 0, 0xff, 8, 0x80, 7, 7][(place * 5 + place / 16) % 7]);
        for byte in [0, 7, 8, 9, 0x80, 0xff] {
            assert_eq!(equal_bytes(&bytes, byte), equal_one_by_one(&bytes, byte));
        }
    }

    #[test]
    fn bits_are_scattered_as_one_by_one() {
        assert_eq!(scatter(0b101, 0b1101_0000), 0b1001_0000);
        let numbers = [0, 1, 0xf0f0_1234_8000_0001, 0x5555_5555_5555_5555, u64::MAX];
        for bits in numbers {
            for set in numbers {
                assert_eq!(scatter(bits, set), scatter_one_by_one(bits, set));
            }
        }
    }

    #[test]
    fn lanes_are_compared_as_one_by_one() {
        let values = [0, 1, 0x7fff, 0x8000, 0x8001, 0xff00, 0x00ff, 0xffff];
        for rotation in 0..8 {
            for doubled in 0..8 {
                let mut numbers = values;
                numbers[doubled] = 0x8000;
                numbers.rotate_left(rotation);
                for number in values {
                    let expected = equal_one_by_one(&numbers, number);
                    assert_eq!(
                        u64::from(equal_lanes(&numbers, number)),
                        expected,
                        "{numbers:x?} {number:x}"
                    );
                }
            }
        }
    }
}
