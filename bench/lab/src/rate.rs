//! A link's rate as people write it.

use std::{fmt, str::FromStr};

use voicelane_types::{BitRate, RateError};

/// Bits a second on the wire; `10Mbit/s` in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

const UNITS: [(&str, u64); 4] = [
    ("Gbit/s", 1_000_000_000),
    ("Mbit/s", 1_000_000),
    ("kbit/s", 1_000),
    ("bit/s", 1),
];

impl Rate {
    /// This many bits a second.
    pub const fn new(bits_per_second: u64) -> Self {
        Self(bits_per_second)
    }

    /// Bits a second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }

    /// Megabits a second.
    #[allow(clippy::cast_precision_loss)] // rates of links are far below 2^52
    pub fn mbit_s(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(("bit/s", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate: BitRate = text.parse().map_err(|error: RateError| error.to_string())?;
        Ok(Self(rate.bps()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for (text, bits) in [
            ("10Mbit/s", 10_000_000),
            ("1500kbit/s", 1_500_000),
            ("1Gbit/s", 1_000_000_000),
            ("7bit/s", 7),
        ] {
            assert_eq!(text.parse(), Ok(Rate::new(bits)));
            assert_eq!(Rate::new(bits).to_string(), text);
        }
        assert_eq!("10 mbit".parse(), Ok(Rate::new(10_000_000)));
        assert!("10Mb".parse::<Rate>().is_err());
    }
}
