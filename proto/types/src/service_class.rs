//! Service classes that a session can ask for.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::Dscp;

/// The RFC 4594 service classes that a session can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceClass {
    /// EF.
    Telephony,
    /// VOICE-ADMIT (RFC 5865).
    AdmittedTelephony,
    /// CS5.
    Signalling,
    /// AF41.
    MultimediaConferencing,
    /// CS4.
    RealtimeInteractive,
}

/// A text that names no service class.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no service class")]
pub struct UnknownClass(pub String);

impl ServiceClass {
    /// All, in the order of `voicelane.v1.ServiceClass`.
    pub const ALL: [Self; 5] = [
        Self::Telephony,
        Self::AdmittedTelephony,
        Self::Signalling,
        Self::MultimediaConferencing,
        Self::RealtimeInteractive,
    ];

    /// The code point that its packets get.
    #[must_use]
    pub const fn dscp(self) -> Dscp {
        match self {
            Self::Telephony => Dscp::EF,
            Self::AdmittedTelephony => Dscp::VOICE_ADMIT,
            Self::Signalling => Dscp::CS5,
            Self::MultimediaConferencing => Dscp::AF41,
            Self::RealtimeInteractive => Dscp::CS4,
        }
    }

    /// The name on command lines and in configuration files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Telephony => "telephony",
            Self::AdmittedTelephony => "admitted-telephony",
            Self::Signalling => "signalling",
            Self::MultimediaConferencing => "multimedia-conferencing",
            Self::RealtimeInteractive => "realtime-interactive",
        }
    }
}

impl fmt::Display for ServiceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ServiceClass {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        let mut all = Self::ALL.into_iter();
        all.find(|class| class.name() == text)
            .ok_or_else(|| UnknownClass(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_the_code_points_of_rfc_4594() {
        let dscps = ServiceClass::ALL.map(|class| class.dscp().number());
        assert_eq!(dscps, [46, 44, 40, 34, 32]);
        for class in ServiceClass::ALL {
            assert_eq!(class.name().parse(), Ok(class));
            assert_eq!(class.to_string(), class.name());
        }
        assert!("voice".parse::<ServiceClass>().is_err());
    }
}
