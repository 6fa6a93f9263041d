//! Packet headers: fields by name over a length that was proved once, after which nothing can panic.

mod checksum;
mod ecn;
mod ethernet;
mod ipv4;
mod ipv6;
mod special;
mod vlan;

pub use checksum::{header_checksum_is_right, replace_word};
pub use ecn::mark_congestion_experienced;
pub use ethernet::{EtherType, Ethernet};
pub use ipv4::{Ipv4, Ipv4Mut, is_source_routed, options_ask};
pub use ipv6::{Ipv6, Ipv6Mut, Transport, Upper, upper_layer};
pub use special::{Usage, is_plain4, usage4, usage6};
pub use vlan::{TAG_BYTES, Tci};
pub use voicelane_types::IpVersion;
