//! Quantities with their units.

use std::ops;

pub use voicelane_types::{BitRate, InvalidVlan, MacAddress, RateError, VlanId};

/// A point in time, or a span of it, in ticks of the data plane's clock (the TSC, or the virtual
/// clock of the simulated device).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

impl ops::Add for Ticks {
    type Output = Self;
    fn add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Ticks {
    /// The span from `earlier` to here; `None` when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// The clock's frequency: ticks in a second. Between 1 and 2^33.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickRate(u64);

impl TickRate {
    /// A frequency in Hz, bounded to 1 to 2^33.
    #[must_use]
    pub fn from_hz(hz: u64) -> Self {
        Self(hz.clamp(1, 1 << 33))
    }

    /// How many ticks a second has.
    #[must_use]
    pub fn hz(self) -> u64 {
        self.0
    }

    /// How many ticks a span takes, rounded down.
    #[must_use]
    pub fn ticks(self, nanoseconds: u64) -> Ticks {
        let ticks = u128::from(nanoseconds) * u128::from(self.0) / 1_000_000_000;
        Ticks(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// How long a span of ticks is, rounded down.
    #[must_use]
    pub fn nanoseconds(self, span: Ticks) -> u64 {
        // Most spans are short, and dividing 128 bits takes five times as long.
        if let Some(nanoseconds) = span.0.checked_mul(1_000_000_000) {
            return nanoseconds / self.0;
        }
        let nanoseconds = u128::from(span.0) * 1_000_000_000 / u128::from(self.0);
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }
}

/// Which of the router's ports, counted from 0 in the order of its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortIndex(pub u8);

impl PortIndex {
    /// As an index into per-port arrays.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Which of the router's interfaces: what a packet comes in on at layer 3. The first ones are the
/// ports without a tag, and have their port's number; behind them come the VLANs, port by port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceIndex(pub u8);

impl InterfaceIndex {
    /// As an index into per-interface arrays.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl From<PortIndex> for InterfaceIndex {
    /// The port's interface for what has no tag.
    fn from(port: PortIndex) -> Self {
        Self(port.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_convert_without_overflow() {
        let rate = TickRate::from_hz(2_300_000_000);
        assert_eq!(rate.ticks(1_000_000), Ticks(2_300_000));
        assert_eq!(rate.nanoseconds(Ticks(2_300_000)), 1_000_000);
        let longest = u64::MAX / 1_000_000_000;
        for ticks in [0, 1, 2, 3, longest - 1, longest, longest + 1, u64::MAX] {
            let exact = u128::from(ticks) * 1_000_000_000 / 2_300_000_000;
            assert_eq!(u128::from(rate.nanoseconds(Ticks(ticks))), exact, "{ticks}");
        }
        assert_eq!(rate.ticks(u64::MAX), Ticks(u64::MAX));
        assert_eq!(Ticks(1).since(Ticks(5)), Ticks(0));
    }
}
