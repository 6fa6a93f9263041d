//! All counters of a worker at one moment.

use super::{
    counters::{InterfaceCounters, PortCounters, QueueCounters},
    history::SECONDS,
};
use crate::{
    diffserv::{EfReport, Phb},
    policy::PolicyReport,
    units::{TickRate, Ticks},
};

/// For how long the worker's loop stood still: from the start of a turn to that of the next, without
/// the time that it meant to sleep. Nothing can be more punctual than that.
#[derive(Clone, Debug)]
pub struct StallReport {
    /// The longest since the start.
    pub longest: Ticks,
    /// The longest of each second, from the one that has begun backwards.
    pub seconds: Box<[Ticks; SECONDS]>,
}

impl Default for StallReport {
    fn default() -> Self {
        Self {
            longest: Ticks(0),
            seconds: Box::new([Ticks(0); SECONDS]),
        }
    }
}

impl StallReport {
    /// Over this many seconds, with the one that has begun.
    #[must_use]
    pub fn last(&self, seconds: usize) -> Ticks {
        let last = self.seconds.iter().take(seconds);
        last.copied().max().unwrap_or_default()
    }
}

/// Counters of one port and its queues.
#[derive(Clone, Debug)]
pub struct PortReport {
    /// What its device took and gave.
    pub port: PortCounters,
    /// Of each queue, in the order of [`Phb::ALL`].
    pub queues: Vec<QueueCounters>,
    /// Of the EF aggregate: the strict-priority queues.
    pub ef: EfReport,
}

impl Default for PortReport {
    fn default() -> Self {
        Self {
            port: PortCounters::default(),
            queues: (0..Phb::COUNT).map(|_| QueueCounters::default()).collect(),
            ef: EfReport::default(),
        }
    }
}

/// All counters of a worker at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// When, by the worker's clock.
    pub now: Ticks,
    /// Ticks a second of `now`.
    pub clock: TickRate,
    /// Each port's, in order.
    pub ports: Vec<PortReport>,
    /// Each interface's, in the order of [`crate::units::InterfaceIndex`].
    pub interfaces: Vec<InterfaceCounters>,
    /// What rules and meters counted.
    pub policy: PolicyReport,
    /// How long turns of the loop took that took too long.
    pub stalls: StallReport,
    /// Session entries in use, with those that wait for their source.
    pub entries: usize,
    /// Session entries in all.
    pub entry_capacity: usize,
    /// Session entries that wait for their source.
    pub latches: usize,
    /// Packets to such an entry that it has not learned from: they came in elsewhere, or were from another
    /// address.
    pub latch_refused_packets: u64,
}

impl Report {
    /// One to be filled in by a worker with as many ports and interfaces (ports and VLANs). Can be
    /// used again and again.
    #[must_use]
    pub fn new(ports: usize, interfaces: usize) -> Box<Self> {
        Box::new(Self {
            now: Ticks(0),
            clock: TickRate::from_hz(1),
            ports: (0..ports).map(|_| PortReport::default()).collect(),
            interfaces: vec![InterfaceCounters::default(); interfaces],
            policy: PolicyReport::new(interfaces),
            stalls: StallReport::default(),
            entries: 0,
            entry_capacity: 0,
            latches: 0,
            latch_refused_packets: 0,
        })
    }
}
