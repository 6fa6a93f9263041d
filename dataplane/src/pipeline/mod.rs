//! The packet's way, a stage a file, in the packet's order.
//!
//! ```text
//! rx → parse → classify → verify → measure → police → mark → route → queue ⇢ schedule → tx
//! ```
//!
//! The stages up to `queue` are the forwarding half ([`Ingress`]), the others the scheduling half
//! ([`Egress`]).
//!
//! Each stage works over a whole burst. A stage that ends a packet's way says so with a verdict; later
//! stages pass over it, and `queue` carries the verdicts out. So each packet that comes in ends in
//! exactly one place: a queue, a counted drop, or the kernel twin.

mod burst;
mod egress;
mod fragments;
mod headers;
mod ingress;
mod inject;
mod interface;
mod latch;
mod outlet;
mod punt;
mod stages;
mod trace;

pub(crate) use egress::Egress;
pub(crate) use headers::is_control;
pub(crate) use ingress::Ingress;
pub(crate) use outlet::{Admission, Departing, Outlet, RunKey};
