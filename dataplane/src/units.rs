//! Quantities with their units.

use std::{fmt, ops, str::FromStr};

use thiserror::Error;

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
    /// The span from `earlier` to here; nothing when `earlier` is later.
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

    /// In Hz.
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

/// A rate in bit/s, at most 2^40 (1.1 Tbit/s).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(u64);

/// A text or number that is no rate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no rate between 1 bit/s and 1 Tbit/s; write for example \"10Mbit/s\"")]
pub struct RateError(String);

impl BitRate {
    const MAX: u64 = 1 << 40;

    /// From a number of bit/s.
    pub fn from_bps(bps: u64) -> Result<Self, RateError> {
        if (1..=Self::MAX).contains(&bps) {
            Ok(Self(bps))
        } else {
            Err(RateError(bps.to_string()))
        }
    }

    /// In bit/s.
    #[must_use]
    pub fn bps(self) -> u64 {
        self.0
    }

    /// This rate times `parts` / 100, rounded down, at least 1 bit/s.
    #[must_use]
    pub fn percent(self, parts: u8) -> Self {
        Self((self.0 * u64::from(parts) / 100).max(1))
    }

    /// This rate divided by `parts`, rounded down, at least 1 bit/s.
    #[must_use]
    pub fn share(self, parts: u64) -> Self {
        Self((self.0 / parts.max(1)).max(1))
    }

    /// How many whole bytes the rate carries in a span of milliseconds.
    #[must_use]
    pub fn bytes_in_ms(self, milliseconds: u64) -> u64 {
        let bytes = u128::from(self.0) * u128::from(milliseconds) / 8_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl FromStr for BitRate {
    type Err = RateError;

    /// Parses `64000`, `64kbit/s`, `10Mbit/s`, `2.5Gbit/s`, `1Tbit/s`.
    fn from_str(text: &str) -> Result<Self, RateError> {
        let error = || RateError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (number, unit) = trimmed.split_at(digits.unwrap_or(trimmed.len()));
        let scale: u64 = match unit.trim() {
            "" | "bit/s" | "bps" => 1,
            "kbit/s" | "kbps" | "k" => 1_000,
            "Mbit/s" | "Mbps" | "M" => 1_000_000,
            "Gbit/s" | "Gbps" | "G" => 1_000_000_000,
            "Tbit/s" | "Tbps" | "T" => 1_000_000_000_000,
            _ => return Err(error()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| error())?;
        let mut bps = whole.checked_mul(scale).ok_or_else(error)?;
        let mut place = scale;
        for digit in fraction.chars() {
            place /= 10;
            bps += u64::from(digit.to_digit(10).ok_or_else(error)?) * place;
        }
        Self::from_bps(bps).map_err(|_| error())
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (scale, unit) in [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")] {
            if self.0 >= scale && self.0.is_multiple_of((scale / 1000).max(1)) {
                let (whole, rest) = (self.0 / scale, self.0 % scale * 1000 / scale);
                let fraction = format!(".{rest:03}");
                return write!(
                    f,
                    "{whole}{}{unit}bit/s",
                    match fraction.trim_end_matches('0') {
                        "." => "",
                        kept => kept,
                    }
                );
            }
        }
        write!(f, "{}bit/s", self.0)
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

/// An IEEE 802.1Q VLAN identifier that names a VLAN: 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

/// A number that names no VLAN.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0} is no VLAN identifier: it must be 1 to 4094")]
pub struct InvalidVlan(pub u64);

impl VlanId {
    /// From a number.
    pub fn new(number: u64) -> Result<Self, InvalidVlan> {
        u16::try_from(number)
            .ok()
            .filter(|number| (1..=4094).contains(number))
            .map(Self)
            .ok_or(InvalidVlan(number))
    }

    /// As a number from 1 to 4094.
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

/// An Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether it names a group: multicast or broadcast.
    #[must_use]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for (text, bps, written) in [
            ("64000", 64_000, "64kbit/s"),
            ("10Mbit/s", 10_000_000, "10Mbit/s"),
            ("2.5Gbit/s", 2_500_000_000, "2.5Gbit/s"),
            (" 1.544 Mbps", 1_544_000, "1.544Mbit/s"),
            ("1bit/s", 1, "1bit/s"),
            ("1000001", 1_000_001, "1000.001kbit/s"),
        ] {
            let rate: BitRate = text.parse().unwrap();
            assert_eq!(rate.bps(), bps, "{text}");
            assert_eq!(rate.to_string(), written, "{text}");
        }
        for text in [
            "",
            "fast",
            "0",
            "-1",
            "10 MB/s",
            "1.2.3k",
            "9999999999999999999999",
            "2T",
        ] {
            assert!(text.parse::<BitRate>().is_err(), "{text}");
        }
    }

    #[test]
    fn vlans_have_numbers_from_1_to_4094() {
        for number in [1, 100, 4094] {
            let id = VlanId::new(number).unwrap();
            assert_eq!(id.to_string(), number.to_string());
        }
        for number in [0, 4095, 4096, 65_537, u64::MAX] {
            assert_eq!(VlanId::new(number), Err(InvalidVlan(number)));
        }
    }

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
