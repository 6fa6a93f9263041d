//! What a certificate says of its holder.

use std::fmt;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer as _, ParsedExtension},
};

use crate::name::{Name, NameError};

/// A holder's certificate. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Role and id of the holder.
    pub name: Name,
    /// Its serial number, hexadecimal.
    pub serial: Box<str>,
    /// Start of its validity.
    pub not_before: i64,
    /// End of its validity.
    pub not_after: i64,
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LeafError {
    #[error("it is no X.509 certificate")]
    Certificate,
    #[error("it has {0} URIs among its names; exactly one is wanted")]
    Uris(usize),
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Leaf {
    /// Reads a certificate (RFC 5280, section 4.1): DER. Nothing is verified here.
    ///
    /// # Errors
    ///
    /// If it is no certificate, or has not exactly one URI among its names, or that is no [`Name`].
    pub fn read(der: &[u8]) -> Result<Self, LeafError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| LeafError::Certificate)?;
        let uris = uris(&certificate);
        let [uri] = uris[..] else {
            return Err(LeafError::Uris(uris.len()));
        };
        let validity = certificate.validity();
        Ok(Self {
            name: uri.parse()?,
            serial: hexadecimal(certificate.raw_serial()).into(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// When it should be renewed: at two thirds of its time.
    #[must_use]
    pub fn renewal(&self) -> i64 {
        self.not_before + (self.not_after - self.not_before) / 3 * 2
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (serial {})", self.name, self.serial)
    }
}

/// The URIs among a certificate's names.
fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let mut uris = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
            uris.extend(names.general_names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            }));
        }
    }
    uris
}

/// A certificate's names, or its subject, and its serial number: for a log, whatever it is.
pub(crate) fn describe(der: &[u8]) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return "what is no certificate".into();
    };
    let mut who = uris(&certificate).join(", ");
    if who.is_empty() {
        who = certificate.subject().to_string();
    }
    let who: String = who.chars().take(300).collect();
    format!("{who} (serial {})", hexadecimal(certificate.raw_serial()))
}

/// Of a serial number: without the zeros that it begins with.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|byte| *byte != 0);
    let digits = bytes.iter().skip(start.unwrap_or(bytes.len()));
    digits.map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds since the Unix epoch as RFC 3339 has them.
#[must_use]
pub fn utc(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}
