/// An address as the table takes it apart.
pub trait Key: Copy + Default {
    /// What it is called in errors.
    const FAMILY: &'static str;
    /// Bits of an address.
    const BITS: u8;

    /// The first 16 bits.
    fn first(&self) -> u16;

    /// The 8 bits behind the first `above` ones, a multiple of 8.
    fn byte(&self, above: u8) -> u8;

    /// All bits, the first the highest.
    fn bits(&self) -> u128;

    /// How many nodes a table for so many routes has: those of so many of the Internet's, and a fifth
    /// more.
    fn nodes(max_routes: u32) -> u32;
}

/// Room for few routes that are far apart.
const LEAST: u32 = 512;

impl Key for u32 {
    const FAMILY: &'static str = "IPv4";
    const BITS: u8 = 32;

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the high 16 bits")]
    fn first(&self) -> u16 {
        (self >> 16) as u16
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the high 8 bits")]
    fn byte(&self, above: u8) -> u8 {
        (self.wrapping_shl(above.into()) >> 24) as u8
    }

    #[inline]
    fn bits(&self) -> u128 {
        u128::from(*self) << 96
    }

    fn nodes(max_routes: u32) -> u32 {
        // One for each /16 with several longer routes, and for each /24 with several longer ones.
        LEAST + (max_routes / 3).min(1 << 16) + max_routes / 64
    }
}

impl Key for [u8; 16] {
    const FAMILY: &'static str = "IPv6";
    const BITS: u8 = 128;

    #[inline]
    fn first(&self) -> u16 {
        let [a, b, ..] = *self;
        u16::from_be_bytes([a, b])
    }

    #[inline]
    fn byte(&self, above: u8) -> u8 {
        self[usize::from(above >> 3) & 15]
    }

    #[inline]
    fn bits(&self) -> u128 {
        u128::from_be_bytes(*self)
    }

    fn nodes(max_routes: u32) -> u32 {
        // Mostly one for each /32 with several longer routes, and for each /40 with several.
        LEAST + max_routes / 9 * 2
    }
}
