//! Counters, their sums over cores, and reports of them.

mod counters;
mod history;
mod reasons;
mod report;
mod sum;
mod table;

pub use counters::{Count, Drops, InterfaceCounters, PortCounters, QueueCounters};
pub(crate) use history::History;
pub use history::SECONDS;
pub(crate) use reasons::labels;
pub use reasons::{DropPrecedence, DropReason, PuntClass, PuntReason};
pub use report::{PortReport, Report, StallReport};
pub use table::{Definition, Kind, Table, Unit};
pub(crate) use table::{counters, sentence};
