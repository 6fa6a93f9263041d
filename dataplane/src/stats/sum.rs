//! Several cores' counters as one.

use std::cmp::Reverse;

use crate::{
    control::FlowReading,
    diffserv::EfReport,
    policy::{InterfaceReport, PolicyReport, RuleCounters, SENDERS, Sender},
    session::FlowCounters,
    stats::{
        Count, InterfaceCounters, PortCounters, PortReport, QueueCounters, Report, StallReport,
        Table as _,
    },
    units::Ticks,
};

impl Report {
    /// As it was made, but for what it has allocated.
    pub(crate) fn clear(&mut self) {
        let empty = QueueCounters::default();
        self.now = Ticks(0);
        for PortReport { port, queues, ef } in &mut self.ports {
            *port = PortCounters::default();
            queues.iter_mut().for_each(|queue| queue.copy_from(&empty));
            *ef = EfReport::default();
        }
        self.interfaces.fill(InterfaceCounters::default());
        self.policy.generation = 0;
        self.policy.rules.clear();
        for InterfaceReport {
            aggregates,
            senders,
        } in &mut self.policy.interfaces
        {
            *aggregates = Default::default();
            senders.clear();
        }
        self.stalls = StallReport::default();
        (self.entries, self.entry_capacity) = (0, 0);
        (self.latches, self.latch_refused_packets) = (0, 0);
    }

    /// Adds another core's: what both count is summed, the longest stall is both's, and sessions are
    /// the same ones everywhere.
    pub(crate) fn add(&mut self, other: &Self) {
        self.now = self.now.max(other.now);
        self.clock = other.clock;
        for (to, from) in self.ports.iter_mut().zip(&other.ports) {
            to.add(from);
        }
        for (to, from) in self.interfaces.iter_mut().zip(&other.interfaces) {
            to.add_counts(from);
        }
        self.policy.add(&other.policy);
        self.stalls.longest = self.stalls.longest.max(other.stalls.longest);
        let seconds = self.stalls.seconds.iter_mut();
        for (to, from) in seconds.zip(other.stalls.seconds.iter()) {
            *to = (*to).max(*from);
        }
        self.entries = self.entries.max(other.entries);
        self.entry_capacity = self.entry_capacity.max(other.entry_capacity);
        self.latches = self.latches.max(other.latches);
        self.latch_refused_packets += other.latch_refused_packets;
    }
}

impl PortReport {
    fn add(&mut self, other: &Self) {
        self.port.add_counts(&other.port);
        for (to, from) in self.queues.iter_mut().zip(&other.queues) {
            to.add(from);
        }
        self.ef.total = self.ef.total.with(other.ef.total);
        for (to, from) in self.ef.seconds.iter_mut().zip(other.ef.seconds.iter()) {
            *to = to.with(*from);
        }
    }
}

impl PolicyReport {
    /// Adds what another core has counted under the same policy, or under none.
    fn add(&mut self, other: &Self) {
        self.generation = self.generation.max(other.generation);
        if self.rules.len() < other.rules.len() {
            self.rules
                .resize(other.rules.len(), RuleCounters::default());
        }
        for (to, from) in self.rules.iter_mut().zip(&other.rules) {
            to.matched.add_count(&from.matched);
            for (to, from) in to.colours.iter_mut().zip(&from.colours) {
                to.add_count(from);
            }
        }
        for (to, from) in self.interfaces.iter_mut().zip(&other.interfaces) {
            let colours = to.aggregates.iter_mut().flatten();
            for (to, from) in colours.zip(from.aggregates.iter().flatten()) {
                to.add_count(from);
            }
            add_senders(&mut to.senders, &from.senders);
        }
    }
}

/// Adds two lists of Space-Saving: whoever is in one list only may have been in the other, with no
/// more packets than the least there, if that is full.
fn add_senders(to: &mut Vec<Sender>, from: &[Sender]) {
    let missed = |list: &[Sender]| {
        let least = list.iter().map(|sender| sender.packets).min();
        least.filter(|_| list.len() >= SENDERS).unwrap_or(0)
    };
    let (missed_here, missed_there) = (missed(to), missed(from));
    let same = |one: &Sender, other: &Sender| one.is_as(other);
    let here = to.len();
    for sender in from {
        match to[..here].iter_mut().find(|known| same(known, sender)) {
            Some(known) => {
                known.packets += sender.packets;
                known.error += sender.error;
                known.bytes += sender.bytes;
                known.last_seen = known.last_seen.max(sender.last_seen);
            }
            None => to.push(Sender {
                packets: sender.packets + missed_here,
                error: sender.error + missed_here,
                ..*sender
            }),
        }
    }
    for known in &mut to[..here] {
        if !from.iter().any(|sender| same(known, sender)) {
            known.packets += missed_there;
            known.error += missed_there;
        }
    }
    to.sort_unstable_by_key(|sender| Reverse(sender.packets));
    to.truncate(SENDERS);
}

impl FlowReading {
    /// Adds what another core has seen of the flow.
    pub(crate) fn add(&mut self, other: &Self) {
        let FlowCounters {
            spoofed_on,
            last_seen,
            colours,
            ..
        } = other.counters;
        let counters = &mut self.counters;
        counters.add_counts(&other.counters);
        counters.spoofed_on = counters.spoofed_on.or(spoofed_on);
        counters.last_seen = counters.last_seen.max(last_seen);
        if let Some(colours) = colours {
            let sums = counters.colours.get_or_insert([Count::default(); 3]);
            for (to, from) in sums.iter_mut().zip(colours) {
                to.add_count(&from);
            }
        }
        self.idle_ns = match (self.idle_ns, other.idle_ns) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        match (&mut self.quality, &other.quality) {
            (Some(quality), Some(part)) => quality.add(part),
            (none, part) => *none = none.or(*part),
        }
    }
}
