//! IEEE 802.1Q VLANs.

use std::fmt;

use thiserror::Error;

/// An IEEE 802.1Q VLAN identifier that names a VLAN: 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

/// A number that names no VLAN.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0} is no VLAN identifier: it must be 1 to 4094")]
pub struct InvalidVlan(pub u64);

impl VlanId {
    /// Checks the range, 1 to 4094.
    pub fn new(number: u64) -> Result<Self, InvalidVlan> {
        u16::try_from(number)
            .ok()
            .filter(|number| (1..=4094).contains(number))
            .map(Self)
            .ok_or(InvalidVlan(number))
    }

    /// As a number from 1 to 4094.
    #[inline]
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_have_numbers_from_1_to_4094() {
        for number in [1, 100, 4094] {
            let id = VlanId::new(number).unwrap();
            assert_eq!(id.to_string(), number.to_string());
            assert_eq!(u64::from(id.number()), number);
        }
        for number in [0, 4095, 4096, 65_537, u64::MAX] {
            assert_eq!(VlanId::new(number), Err(InvalidVlan(number)));
        }
    }
}
