//! The shared vocabulary as messages.

use std::net::SocketAddr;

use voicelane_types::{ServiceClass, SessionKey};

use crate::v1;

impl From<SocketAddr> for v1::Endpoint {
    fn from(end: SocketAddr) -> Self {
        Self {
            address: end.ip().to_string(),
            port: end.port().into(),
        }
    }
}

impl From<&SessionKey> for v1::SessionKey {
    fn from(key: &SessionKey) -> Self {
        Self {
            agent_id: key.agent().to_owned(),
            session_id: key.session().to_owned(),
        }
    }
}

impl From<ServiceClass> for v1::ServiceClass {
    fn from(class: ServiceClass) -> Self {
        match class {
            ServiceClass::Telephony => Self::Telephony,
            ServiceClass::AdmittedTelephony => Self::AdmittedTelephony,
            ServiceClass::Signalling => Self::Signalling,
            ServiceClass::MultimediaConferencing => Self::MultimediaConferencing,
            ServiceClass::RealtimeInteractive => Self::RealtimeInteractive,
        }
    }
}

impl From<v1::ServiceClass> for ServiceClass {
    /// Unspecified is telephony.
    fn from(class: v1::ServiceClass) -> Self {
        match class {
            v1::ServiceClass::Unspecified | v1::ServiceClass::Telephony => Self::Telephony,
            v1::ServiceClass::AdmittedTelephony => Self::AdmittedTelephony,
            v1::ServiceClass::Signalling => Self::Signalling,
            v1::ServiceClass::MultimediaConferencing => Self::MultimediaConferencing,
            v1::ServiceClass::RealtimeInteractive => Self::RealtimeInteractive,
        }
    }
}
