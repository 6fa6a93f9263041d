use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// IPv4 or IPv6.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum IpVersion {
    /// RFC 791.
    #[default]
    V4,
    /// RFC 8200.
    V6,
}

/// A text that is neither 4 nor 6.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is neither 4 nor 6")]
pub struct UnknownIpVersion(String);

impl IpVersion {
    /// The version of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The version field of its header: 4 or 6.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// Bytes of its header without options, and of UDP's.
    #[must_use]
    pub const fn udp_headers_bytes(self) -> u16 {
        match self {
            Self::V4 => 28,
            Self::V6 => 48,
        }
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv{}", self.number())
    }
}

/// `4` or `6`, as in command lines.
impl FromStr for IpVersion {
    type Err = UnknownIpVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "4" => Ok(Self::V4),
            "6" => Ok(Self::V6),
            _ => Err(UnknownIpVersion(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn versions_have_their_numbers_and_headers() {
        let of = [
            IpVersion::of(Ipv4Addr::LOCALHOST.into()),
            IpVersion::of(Ipv6Addr::LOCALHOST.into()),
        ];
        for (version, number, text, bytes) in
            [(of[0], 4, "IPv4", 20 + 8), (of[1], 6, "IPv6", 40 + 8)]
        {
            assert_eq!(version.number(), number);
            assert_eq!(number.to_string().parse(), Ok(version));
            assert_eq!(version.to_string(), text);
            assert_eq!(version.udp_headers_bytes(), bytes);
        }
        let error = "5".parse::<IpVersion>().unwrap_err();
        assert_eq!(error.to_string(), "\"5\" is neither 4 nor 6");
    }
}
