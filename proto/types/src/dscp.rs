//! Differentiated services code points and the octet that carries them.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A differentiated services code point (RFC 2474), 0 to 63.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dscp(u8);

/// A number over 63.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0} is no DSCP: it must be 0 to 63")]
pub struct InvalidDscp(pub u32);

/// A text that names no DSCP.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no code point: write a name (EF, VOICE-ADMIT, CS0 to CS7, AF11 to AF43, DF, LE) or a \
     number from 0 to 63"
)]
pub struct UnknownDscp(pub String);

impl Dscp {
    /// Default forwarding (RFC 2474).
    pub const DF: Self = Self(0);
    /// Lower effort (RFC 8622).
    pub const LE: Self = Self(1);
    /// Low priority before RFC 8622.
    pub const CS1: Self = Self(8);
    /// OAM (RFC 4594 section 3.3).
    pub const CS2: Self = Self(16);
    /// Broadcast video (RFC 4594 section 4.6).
    pub const CS3: Self = Self(24);
    /// Real-time interactive (RFC 4594 section 4.4).
    pub const CS4: Self = Self(32);
    /// Signalling (RFC 4594 section 4.2).
    pub const CS5: Self = Self(40);
    /// Network control (RFC 4594 section 3.2).
    pub const CS6: Self = Self(48);
    /// Network control, reserved for future use.
    pub const CS7: Self = Self(56);
    /// Expedited forwarding (RFC 3246): telephony.
    pub const EF: Self = Self(46);
    /// Capacity-admitted telephony (RFC 5865).
    pub const VOICE_ADMIT: Self = Self(44);
    /// Multimedia conferencing (RFC 4594 section 4.3).
    pub const AF41: Self = Self(34);

    /// All 64, by number.
    pub const ALL: [Self; 64] = {
        let mut all = [Self(0); 64];
        let mut number = 0_u8;
        while number < 64 {
            all[number as usize] = Self(number);
            number += 1;
        }
        all
    };

    /// Checks the range, 0 to 63.
    #[inline]
    pub fn new(number: u32) -> Result<Self, InvalidDscp> {
        u8::try_from(number)
            .ok()
            .filter(|&dscp| dscp < 64)
            .map(Self)
            .ok_or(InvalidDscp(number))
    }

    /// Assured forwarding (RFC 2597): class 1 to 4, drop precedence 1 to 3.
    #[inline]
    #[must_use]
    pub const fn af(class: u8, precedence: u8) -> Option<Self> {
        if class >= 1 && class <= 4 && precedence >= 1 && precedence <= 3 {
            Some(Self(class * 8 + precedence * 2))
        } else {
            None
        }
    }

    /// The drop precedence, 1 to 3, of an assured forwarding code point (RFC 2597 section 6).
    #[inline]
    #[must_use]
    pub const fn drop_precedence(self) -> Option<u8> {
        match (self.0 / 8, self.0 % 8) {
            (1..=4, low @ (2 | 4 | 6)) => Some(low / 2),
            _ => None,
        }
    }

    /// As a number from 0 to 63.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DF => f.write_str("DF"),
            Self::LE => f.write_str("LE"),
            Self::EF => f.write_str("EF"),
            Self::VOICE_ADMIT => f.write_str("VOICE-ADMIT"),
            Self(n) if n % 8 == 0 => write!(f, "CS{}", n / 8),
            Self(n) if (8..40).contains(&n) && n % 2 == 0 => write!(f, "AF{}{}", n / 8, n % 8 / 2),
            Self(n) => write!(f, "{n}"),
        }
    }
}

/// A name as [`Dscp`] is displayed, in either case, or a decimal number.
impl FromStr for Dscp {
    type Err = UnknownDscp;

    fn from_str(text: &str) -> Result<Self, UnknownDscp> {
        let named = |dscp: &Self| dscp.to_string().eq_ignore_ascii_case(text);
        let number = || text.parse().ok().and_then(|number| Self::new(number).ok());
        match text.to_ascii_uppercase().as_str() {
            "CS0" => Some(Self::DF),
            "VA" => Some(Self::VOICE_ADMIT),
            _ => Self::ALL.into_iter().find(named).or_else(number),
        }
        .ok_or_else(|| UnknownDscp(text.to_owned()))
    }
}

impl fmt::Debug for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dscp({self})")
    }
}

/// The explicit congestion notification field (RFC 3168), 0 to 3. Marking does not change it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ecn(u8);

impl Ecn {
    /// As a number from 0 to 3.
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// The octet that IPv4 calls type of service and IPv6 traffic class: DSCP and ECN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficClass(pub u8);

impl TrafficClass {
    /// The upper six bits.
    #[inline]
    #[must_use]
    pub const fn dscp(self) -> Dscp {
        Dscp(self.0 >> 2)
    }

    /// The lower two bits.
    #[inline]
    #[must_use]
    pub const fn ecn(self) -> Ecn {
        Ecn(self.0 & 3)
    }

    /// The same ECN with another code point.
    #[inline]
    #[must_use]
    pub const fn with_dscp(self, dscp: Dscp) -> Self {
        Self(dscp.0 << 2 | self.0 & 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree_with_rfc_4594() {
        for (dscp, number, name) in [
            (Dscp::EF, 46, "EF"),
            (Dscp::VOICE_ADMIT, 44, "VOICE-ADMIT"),
            (Dscp::CS5, 40, "CS5"),
            (Dscp::CS6, 48, "CS6"),
            (Dscp::AF41, 34, "AF41"),
            (Dscp::af(1, 3).unwrap(), 14, "AF13"),
            (Dscp::af(2, 2).unwrap(), 20, "AF22"),
            (Dscp::LE, 1, "LE"),
            (Dscp::DF, 0, "DF"),
            (Dscp::new(47).unwrap(), 47, "47"),
            (Dscp::new(42).unwrap(), 42, "42"),
        ] {
            assert_eq!((dscp.number(), dscp.to_string().as_str()), (number, name));
            assert_eq!(name.parse(), Ok(dscp));
            assert_eq!(name.to_lowercase().parse(), Ok(dscp));
            assert_eq!(number.to_string().parse(), Ok(dscp));
        }
        assert_eq!(
            ("CS0".parse(), "VA".parse()),
            (Ok(Dscp::DF), Ok(Dscp::VOICE_ADMIT))
        );
        for text in ["", "AF14", "CS8", "64", "-1", "EF "] {
            let error = text.parse::<Dscp>().unwrap_err().to_string();
            assert!(error.contains("AF11 to AF43"), "{error}");
        }
        assert_eq!(Dscp::new(64), Err(InvalidDscp(64)));
        assert_eq!((Dscp::af(5, 1), Dscp::af(1, 0)), (None, None));
    }

    #[test]
    fn assured_forwarding_has_a_drop_precedence() {
        for number in 0..64 {
            let dscp = Dscp::new(number).unwrap();
            let all = (1..=4).flat_map(|class| (1..=3).map(move |it| (class, it)));
            let mut of =
                all.filter(|&(class, precedence)| Dscp::af(class, precedence) == Some(dscp));
            let expected = of.next().map(|(_, precedence)| precedence);
            assert_eq!(dscp.drop_precedence(), expected, "{dscp:?}");
        }
        assert_eq!(format!("{:?}", Dscp::EF), "Dscp(EF)");
    }

    #[test]
    fn marking_keeps_ecn() {
        for octet in 0..=u8::MAX {
            assert_eq!(TrafficClass(octet).ecn().number(), octet % 4);
            let marked = TrafficClass(octet).with_dscp(Dscp::EF);
            assert_eq!(marked.dscp(), Dscp::EF);
            assert_eq!(marked.ecn(), TrafficClass(octet).ecn());
        }
    }
}
