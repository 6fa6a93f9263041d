/// An address as the table takes it apart.
pub trait Key: Copy {
    /// What it is called in errors.
    const FAMILY: &'static str;
    /// Bits of an address.
    const BITS: u8;

    /// The next bits at a level: 16 at the root (level 0), 8 below.
    fn step(self, level: u32) -> usize;

    /// All bits, the first the highest.
    fn bits(self) -> u128;

    /// How many nodes a table for so many routes has: those of so many of the Internet's, and a fifth
    /// more.
    fn nodes(max_routes: u32) -> u32;
}

/// Room for few routes that are far apart.
const LEAST: u32 = 1_024;

impl Key for u32 {
    const FAMILY: &'static str = "IPv4";
    const BITS: u8 = 32;

    #[inline]
    fn step(self, level: u32) -> usize {
        let [a, b, c, d] = self.to_be_bytes();
        match level {
            0 => usize::from(u16::from_be_bytes([a, b])),
            1 => c.into(),
            _ => d.into(),
        }
    }

    #[inline]
    fn bits(self) -> u128 {
        u128::from(self) << 96
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
    fn step(self, level: u32) -> usize {
        let byte = |index: usize| self.get(index).copied().unwrap_or(0);
        match level {
            0 => usize::from(u16::from_be_bytes([byte(0), byte(1)])),
            _ => byte(level as usize + 1).into(),
        }
    }

    #[inline]
    fn bits(self) -> u128 {
        u128::from_be_bytes(self)
    }

    fn nodes(max_routes: u32) -> u32 {
        LEAST + max_routes / 4
    }
}
