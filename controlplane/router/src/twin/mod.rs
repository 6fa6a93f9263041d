//! Kernel twins: for each interface a TAP with its port's MAC and its addresses, so that the kernel
//! does what is not the fast path's: ARP, ND, ICMP, TTL expiry, unknown neighbours, local delivery.

pub mod carrier;
pub mod underlay;

mod forwarding;
mod frames;
mod ledger;
mod lock;
mod mtu;
mod quiet;
mod sysctl;
mod tap;

pub use forwarding::{forward_ipv6, forward_macvlan};
pub use frames::{Frames, TwinCounters};
pub use ledger::Ledger;
pub use lock::{InUse, Locks};
pub use mtu::{Narrow, check_mtu, ipv6_mtu};
pub use quiet::{QuietError, quiet, warn_of_overruling_parameters};
pub use sysctl::SysctlError;
pub use tap::{Twin, TwinError, create};
