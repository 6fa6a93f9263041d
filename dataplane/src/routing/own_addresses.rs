use std::net::IpAddr;

/// The last 12 bits of the router's own addresses, of those that it had, too: most others are told apart
/// without a look into the route table.
#[derive(Debug)]
pub(crate) struct OwnEnds([u64; 64]);

impl Default for OwnEnds {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl OwnEnds {
    pub(crate) fn add(&mut self, address: IpAddr) {
        let end = match address {
            IpAddr::V4(address) => address.octets().last_chunk().copied(),
            IpAddr::V6(address) => address.octets().last_chunk().copied(),
        };
        let [high, low] = end.unwrap_or_default();
        self.0[usize::from(low >> 2)] |= 1 << Self::bit(high, low);
    }

    #[inline]
    pub(crate) fn has(&self, [high, low]: [u8; 2]) -> bool {
        self.0[usize::from(low >> 2)] >> Self::bit(high, low) & 1 == 1
    }

    #[inline]
    fn bit(high: u8, low: u8) -> u8 {
        (high & 15) << 2 | low & 3
    }
}
