//! When leases run out. One entry for each session that has a lease; renewing replaces it. Beside it:
//! agents that have a lease, and sessions that are silent.

pub mod agents;
pub mod silence;

use std::{collections::BTreeSet, time::Duration};

use super::ids::SessionKey;

/// A moment, from the server's start on by a clock that nobody sets, to the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Later than all others.
    pub const NEVER: Self = Self(u64::MAX);

    /// So long after the start.
    pub fn after(start: Duration) -> Self {
        Self(u64::try_from(start.as_millis()).unwrap_or(u64::MAX))
    }

    /// So long after this.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// So long before this.
    #[must_use]
    pub fn less(self, time: Duration) -> Self {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// From `earlier` to `self`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What removes sessions that no agent deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Reaper {
    /// The session was good for so long, and nobody has renewed it.
    #[error("lease ran out")]
    Lease,
    /// A more important session took its place, or its link has become too small.
    #[error("preempted")]
    Preempted,
    /// It has not come back.
    #[error("its agent was lost")]
    AgentLost,
    /// Packets came, then none for long.
    #[error("no packets")]
    Silence,
    #[error("no packets while on hold")]
    Hold,
    #[error("no packet since it was installed")]
    Unused,
}

impl Reaper {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Lease,
        Self::Preempted,
        Self::AgentLost,
        Self::Silence,
        Self::Hold,
        Self::Unused,
    ];
}

/// The leases of all sessions, the one that runs out first in front. A tree, which grows without ever
/// being copied as a whole.
#[derive(Debug, Default)]
pub struct Leases(BTreeSet<(Moment, SessionKey)>);

impl Leases {
    /// A session's lease, which ended at `former` if it had one, ends at `next` if it has one.
    pub fn set(&mut self, key: &SessionKey, former: Option<Moment>, next: Option<Moment>) {
        if former == next {
            return;
        }
        if let Some(former) = former {
            self.0.remove(&(former, key.clone()));
        }
        if let Some(next) = next {
            self.0.insert((next, key.clone()));
        }
    }

    /// Takes out a session whose lease has run out.
    pub fn take_due(&mut self, now: Moment) -> Option<SessionKey> {
        let (ends, _) = self.0.first()?;
        if *ends > now {
            return None;
        }
        self.0.pop_first().map(|(_, key)| key)
    }

    /// How many sessions have one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
