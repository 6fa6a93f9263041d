//! Bit rates as people write them.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A rate in bit/s, at most 2^40 (1.1 Tbit/s).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(u64);

/// A text or number that is no rate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RateError {
    /// No number, no known unit, or out of range.
    #[error(
        "{0:?} is no rate between 1 bit/s and 1 Tbit/s; write for example \"10Mbit/s\" or \"10mbit\""
    )]
    Invalid(String),
    /// tc's spelling of bytes a second.
    #[error(
        "{0:?} is ambiguous: tc(8) means bytes a second by it, others bits; write for example \
         \"10mbit\""
    )]
    Ambiguous(String),
}

impl BitRate {
    const MAX: u64 = 1 << 40;

    /// From a number of bit/s.
    pub fn from_bps(bps: u64) -> Result<Self, RateError> {
        if (1..=Self::MAX).contains(&bps) {
            Ok(Self(bps))
        } else {
            Err(RateError::Invalid(bps.to_string()))
        }
    }

    /// From a number of Mbit/s, at least 1 bit/s and at most the greatest rate.
    #[must_use]
    pub const fn from_mbit(mbit: u32) -> Self {
        let bps = mbit as u64 * 1_000_000;
        match bps {
            0 => Self(1),
            1..Self::MAX => Self(bps),
            _ => Self(Self::MAX),
        }
    }

    /// In Mbit/s.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "rates are below 2^52 bit/s")]
    pub fn mbit_s(self) -> f64 {
        self.0 as f64 / 1e6
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

    /// This rate and `bps` more, at most the greatest.
    #[must_use]
    pub fn plus(self, bps: u64) -> Self {
        Self(self.0.saturating_add(bps).min(Self::MAX))
    }

    /// How many whole bytes the rate carries in a span of milliseconds.
    #[must_use]
    pub fn bytes_in_ms(self, milliseconds: u64) -> u64 {
        let bytes = u128::from(self.0) * u128::from(milliseconds) / 8_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// Bit/s in one of a unit. `bps` is bits a second, as on other routers; tc(8) means bytes by it, so
/// its own lower-case `mbps` is refused.
fn scale(unit: &str) -> Option<u64> {
    const KIBI: u64 = 1 << 10;
    let scale = match unit {
        "" | "bps" => 1,
        "k" | "K" | "kbps" | "Kbps" => 1_000,
        "M" | "Mbps" => 1_000_000,
        "G" | "Gbps" => 1_000_000_000,
        "T" | "Tbps" => 1_000_000_000_000,
        // `Mbit/s`, and tc's `mbit` and `Mibit`.
        _ => match unit
            .strip_suffix("/s")
            .unwrap_or(unit)
            .to_lowercase()
            .as_str()
        {
            "bit" => 1,
            "kbit" => 1_000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            "tbit" => 1_000_000_000_000,
            "kibit" => KIBI,
            "mibit" => KIBI.pow(2),
            "gibit" => KIBI.pow(3),
            "tibit" => KIBI.pow(4),
            _ => return None,
        },
    };
    Some(scale)
}

impl FromStr for BitRate {
    type Err = RateError;

    /// Parses `64000`, `64kbit/s`, `10Mbit/s`, `2.5Gbit/s`, `1Tbit/s`, and tc's `64kbit`, `1gbit`.
    fn from_str(text: &str) -> Result<Self, RateError> {
        let error = || RateError::Invalid(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (number, unit) = trimmed.split_at(digits.unwrap_or(trimmed.len()));
        let unit = unit.trim();
        let scale = scale(unit).ok_or_else(|| match unit {
            "mbps" | "gbps" | "tbps" => RateError::Ambiguous(text.to_owned()),
            _ => error(),
        })?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| error())?;
        let mut bps = whole.checked_mul(scale).ok_or_else(error)?;
        let mut place = scale;
        for digit in fraction.chars() {
            let digit = digit.to_digit(10).ok_or_else(error)?;
            place /= 10;
            bps = bps.saturating_add(u64::from(digit) * place);
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
            ("40.4k", 40_400, "40.4kbit/s"),
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
            ".",
            "1e3",
            "10 MB/s",
            "10Mb",
            "1m",
            "1.2.3k",
            "10/s",
            "9999999999999999999999",
            "18446744.9T",
            "2T",
        ] {
            let error = text.parse::<BitRate>().unwrap_err();
            assert_eq!(error, RateError::Invalid(text.to_owned()));
        }
        for text in ["10mbps", "1 gbps", "2tbps"] {
            let error = text.parse::<BitRate>().unwrap_err();
            assert_eq!(error, RateError::Ambiguous(text.to_owned()));
        }
    }

    #[test]
    fn rates_are_computed_with() {
        let rate = |bps| BitRate::from_bps(bps).unwrap();
        for (mbit, bps) in [
            (0, 1),
            (1, 1_000_000),
            (40, 40_000_000),
            (u32::MAX, BitRate::MAX),
        ] {
            assert_eq!(BitRate::from_mbit(mbit).bps(), bps, "{mbit}");
        }
        assert!((rate(2_500_000).mbit_s() - 2.5).abs() < 1e-9);
        for (parts, bps) in [(0, 1), (1, 10), (50, 500), (99, 990), (200, 2_000)] {
            assert_eq!(rate(1_000).percent(parts).bps(), bps, "{parts}");
        }
        for (parts, bps) in [(0, 1_000), (1, 1_000), (3, 333), (2_000, 1)] {
            assert_eq!(rate(1_000).share(parts).bps(), bps, "{parts}");
        }
        assert_eq!(rate(1_000).plus(24).bps(), 1_024);
        assert_eq!(rate(1_000).plus(u64::MAX).bps(), BitRate::MAX);
        for (milliseconds, bytes) in [(0, 0), (1, 2), (8, 16), (1_000, 2_000), (1_001, 2_002)] {
            assert_eq!(
                rate(16_000).bytes_in_ms(milliseconds),
                bytes,
                "{milliseconds}"
            );
        }
    }

    #[test]
    fn every_unit_is_known() {
        for (units, bps) in [
            (&["", "bps", "bit", "bit/s"][..], 1),
            (&["k", "K", "kbps", "Kbps", "kbit", "kbit/s"], 1_000),
            (&["M", "Mbps", "mbit", "Mbit/s"], 1_000_000),
            (&["G", "Gbps", "gbit", "Gbit/s"], 1_000_000_000),
            (&["T", "Tbps", "tbit", "Tbit/s"], 1_000_000_000_000),
            (&["kibit", "Kibit/s"], 1 << 10),
            (&["mibit", "Mibit"], 1 << 20),
            (&["gibit", "Gibit"], 1 << 30),
        ] {
            for unit in units {
                let rate: BitRate = format!("1{unit}").parse().unwrap();
                assert_eq!(rate.bps(), bps, "{unit}");
            }
        }
    }

    /// As `tc qdisc show` prints them and tc(8) spells them.
    #[test]
    fn rates_of_tc_are_read() {
        for (text, bps) in [
            ("8bit", 8),
            ("8bps", 8),
            ("10kbit", 10_000),
            ("10Kbit", 10_000),
            ("100mbit", 100_000_000),
            ("100 MBIT", 100_000_000),
            ("1gbit", 1_000_000_000),
            ("1.5Gbit", 1_500_000_000),
            ("1tbit", 1_000_000_000_000),
            ("1kibit", 1_024),
            ("1Mibit/s", 1 << 20),
            ("1tibit", 1 << 40),
        ] {
            assert_eq!(text.parse::<BitRate>().map(BitRate::bps), Ok(bps), "{text}");
        }
        // Bytes a second to tc: eight times as much as `Mbps` is to everybody else.
        for text in ["10mbps", "1gbps"] {
            let error = text.parse::<BitRate>().unwrap_err();
            assert!(error.to_string().contains("10mbit"), "{error}");
        }
    }
}
