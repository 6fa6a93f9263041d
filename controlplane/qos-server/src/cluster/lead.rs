//! Who leads, as a pure model: time and what etcd has said go in, what is to be done comes out.
//!
//! ```text
//!              no leader in view                won
//!   Standby ───────────────────▶ Campaigning ─────────▶ Leading ──┐ a renewal every 1.5 s
//!      ▲                              │ lost, or unknown   │ ▲     │
//!      └──────────────────────────────┘                    │ └─────┘
//!      ▲   no renewal acknowledged in time, lease gone,    │
//!      └──────────── fenced, or resigned ──────────────────┘
//! ```
//!
//! A leader stops 3.5 s after it *sent* the last renewal that was acknowledged. etcd counts the lease's 5 s
//! from when the renewal arrived, which is later, so nobody else is elected before. That is a courtesy to
//! those who read from it; what keeps two from committing is that every commit compares the term.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long etcd keeps the leader's key without a renewal, seconds.
pub const TTL_S: i64 = 5;
/// How often a leader renews its lease.
pub const RENEW_EVERY: Duration = Duration::from_millis(1_500);
/// After the last renewal that was acknowledged, from when it was sent.
pub const STEP_DOWN_AFTER: Duration = Duration::from_millis(3_500);
/// After a renewal without an answer, and after a campaign that was not won.
pub const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A time by CLOCK_BOOTTIME, which goes on while the machine is suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boot(Duration);

impl Boot {
    /// So long after the boot.
    pub const fn after(time: Duration) -> Self {
        Self(time)
    }

    /// The time since the machine was started, suspension included.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Self(Duration::new(seconds, nanos))
    }

    /// The moment that is `time` later.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// From `earlier` to `self`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Nanoseconds since the machine was started.
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What a server sees of the leadership in its watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// How many leaders there have been.
    pub term: u64,
    /// Whether one is there.
    pub has_leader: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Become leader if there is none and the term is still this one; [`Lead::campaigned`] takes the answer.
    Campaign {
        /// The term that ends.
        after: u64,
    },
    /// Renew the lease; [`Lead::renewed`] takes the answer.
    Renew,
    /// Be leader no more.
    StepDown(Lost),
}

/// Why a leader is one no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No renewal was acknowledged for too long.
    #[error("no renewal of its lease was acknowledged in time")]
    Late,
    /// The lease ran out, or somebody took the leader's key away.
    #[error("its lease is gone")]
    LeaseGone,
    /// Nobody serves any more: the server is stopping, or a commit met a later term.
    #[error("it resigned")]
    Resigned,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// etcd has acknowledged it.
    Kept,
    /// There is no such lease.
    Gone,
    /// etcd gave no answer: the lease may be renewed or not.
    Unknown,
}

/// One server's part in the leadership.
#[derive(Clone, Debug, Default)]
pub struct Lead {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Standby {
        /// When it may campaign at the earliest.
        not_before: Boot,
    },
    Campaigning,
    Leading {
        until: Boot,
        renew_at: Boot,
        /// A renewal is on its way.
        renewing: bool,
        lost: Option<Lost>,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Standby {
            not_before: Boot::default(),
        }
    }
}

impl Lead {
    /// What is to be done now, as far as this server's watch has come. Each campaign and renewal is told
    /// once, and has its answer given before there is another one.
    pub fn next(&mut self, now: Boot, view: View) -> Option<Action> {
        match &mut self.state {
            State::Standby { not_before } if !view.has_leader && now >= *not_before => {
                self.state = State::Campaigning;
                Some(Action::Campaign { after: view.term })
            }
            State::Standby { .. } | State::Campaigning => None,
            State::Leading { until, lost, .. } if lost.is_some() || now >= *until => {
                let lost = lost.unwrap_or(Lost::Late);
                self.state = State::Standby { not_before: now };
                Some(Action::StepDown(lost))
            }
            State::Leading {
                renew_at, renewing, ..
            } if !*renewing && now >= *renew_at => {
                *renewing = true;
                Some(Action::Renew)
            }
            State::Leading { .. } => None,
        }
    }

    /// When [`next`](Self::next) may have something to do that it has not at `now`, if time alone makes
    /// the difference.
    pub fn wake(&self, now: Boot) -> Option<Boot> {
        match &self.state {
            State::Standby { not_before } => Some(*not_before).filter(|at| *at > now),
            State::Campaigning => None,
            State::Leading {
                until, renewing, ..
            } if *renewing => Some(*until),
            State::Leading {
                until, renew_at, ..
            } => Some(*until.min(renew_at)),
        }
    }

    /// The answer to a campaign. `sent` is when the lease was asked for.
    pub fn campaigned(&mut self, now: Boot, sent: Boot, is_won: bool) {
        self.state = if is_won {
            State::Leading {
                until: sent.plus(STEP_DOWN_AFTER),
                renew_at: sent.plus(RENEW_EVERY),
                renewing: false,
                lost: None,
            }
        } else {
            State::Standby {
                not_before: now.plus(AGAIN_AFTER),
            }
        };
    }

    /// The answer to a renewal that was sent then.
    pub fn renewed(&mut self, now: Boot, sent: Boot, renewal: Renewal) {
        let State::Leading {
            until,
            renew_at,
            renewing,
            lost,
            ..
        } = &mut self.state
        else {
            return;
        };
        *renewing = false;
        match renewal {
            Renewal::Kept => {
                *until = (*until).max(sent.plus(STEP_DOWN_AFTER));
                *renew_at = sent.plus(RENEW_EVERY);
            }
            Renewal::Gone => *lost = Some(Lost::LeaseGone),
            Renewal::Unknown => *renew_at = now.plus(AGAIN_AFTER),
        }
    }

    /// It is to lead no more, for another reason than time.
    pub fn lose(&mut self, reason: Lost) {
        if let State::Leading { lost, .. } = &mut self.state {
            lost.get_or_insert(reason);
        }
    }

    /// Until when it leads unless a renewal is acknowledged before; `None`: it does not, or steps down next.
    pub fn until(&self) -> Option<Boot> {
        match &self.state {
            State::Leading {
                until, lost: None, ..
            } => Some(*until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
