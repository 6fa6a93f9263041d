//! Counters, their sums over cores, and reports of them.

mod counters;
mod history;
mod reasons;
mod report;
mod sum;

pub use counters::{Drops, InterfaceCounters, PortCounters, QueueCounters};
pub(crate) use history::History;
pub use history::SECONDS;
pub use reasons::{DropReason, PuntClass, PuntReason};
pub use report::{PortReport, Report, StallReport};
