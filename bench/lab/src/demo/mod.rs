//! The demo: what a congested core link does to calls, without and with their sessions.

pub(crate) mod course;

mod chart;
mod checks;
mod page;
mod report;
mod run;
mod servers;
mod sip;

pub use self::{
    chart::draw,
    checks::{Check, check},
    page::{Page, PageError},
    report::{DelayMs, DirectionFigures, Mos, Phase, Report},
    run::{Options, Ports, run},
    servers::{Failover, run_servers},
    sip::run_sip,
};

/// The core link's rate on the wire.
pub(crate) const CORE_BITS_PER_SECOND: u64 = 10_000_000;
/// What the bulk host sends at the IP layer: twice the core link.
pub(crate) const BULK_BITS_PER_SECOND: u64 = 2 * CORE_BITS_PER_SECOND;
/// IP packets of the bulk host.
pub(crate) const BULK_PACKET_BYTES: u16 = 1_200;
/// Ethernet header 14, FCS 4, preamble and start 8, gap 12: IP packet to wire.
pub(crate) const WIRE_BYTES: u64 = 38;
/// A G.711 packet of 20 ms below IP and UDP, and how many a second.
pub(crate) const CALL_PAYLOAD_BYTES: u64 = 172;
pub(crate) const CALL_PACKETS_PER_SECOND: u64 = 50;
/// Expedited Forwarding (RFC 3246).
pub(crate) const EF: u8 = 46;

/// The phases' names, in their order.
pub(crate) const IDLE: &str = "idle";
pub(crate) const OVERLOAD: &str = "overload";
pub(crate) const SESSIONS: &str = "sessions";
pub(crate) const EF_MARKED_BULK: &str = "ef-marked-bulk";
pub(crate) const DELETED: &str = "deleted";
