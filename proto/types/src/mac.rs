//! Ethernet addresses.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A text that is no Ethernet address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no MAC address: write six bytes in hexadecimal, such as \"02:00:00:00:00:01\"")]
pub struct InvalidMac(pub String);

/// An Ethernet address (IEEE 802 EUI-48).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether it names a group: multicast or broadcast.
    #[inline]
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

impl FromStr for MacAddress {
    type Err = InvalidMac;

    /// Parses six pairs of hexadecimal digits with colons between them.
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2);
            *octet = part
                .filter(|part| part.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(invalid)?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let address = MacAddress([2, 0, 0xab, 0, 0, 0xff]);
        for text in ["02:00:ab:00:00:ff", "02:00:AB:00:00:FF"] {
            assert_eq!(text.parse(), Ok(address), "{text}");
        }
        assert_eq!(address.to_string(), "02:00:ab:00:00:ff");
        assert_eq!(format!("{address:?}"), address.to_string());
        assert!(!address.is_group() && MacAddress([1, 0, 0x5e, 0, 0, 5]).is_group());
        for text in [
            "",
            "02:00:ab:00:00",
            "02:00:ab:00:00:ff:00",
            "2:0:ab:0:0:ff",
            "02-00-ab-00-00-ff",
            "+2:00:00:00:00:00",
        ] {
            let error = text.parse::<MacAddress>().unwrap_err();
            assert_eq!(error, InvalidMac(text.to_owned()));
        }
    }
}
