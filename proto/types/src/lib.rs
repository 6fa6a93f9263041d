//! The vocabulary of all programs: code points, rates, flows, meters, service classes, names, codecs, the E-model.
//! Without DPDK, tokio or tonic.

#![forbid(unsafe_code)]

mod bit_rate;
mod causes;
pub mod codec;
mod dscp;
pub mod emodel;
mod five_tuple;
mod ip_version;
mod mac;
mod meter;
mod service_class;
mod session_key;
mod vlan;

pub use bit_rate::{BitRate, RateError};
pub use causes::with_causes;
pub use codec::Codec;
pub use dscp::{Dscp, Ecn, InvalidDscp, TrafficClass, UnknownDscp};
pub use five_tuple::{FiveTuple, Protocol};
pub use ip_version::{IpVersion, UnknownIpVersion};
pub use mac::{InvalidMac, MacAddress};
pub use meter::{Colour, ColourMode, MeterKind, MeterSpec};
pub use service_class::{ServiceClass, UnknownClass};
pub use session_key::{InvalidName, SessionKey};
pub use vlan::{InvalidVlan, VlanId};
