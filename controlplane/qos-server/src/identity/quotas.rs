//! How much an agent may ask for: changes a second, and streams.
//!
//! An agent that asks for more is not refused: its change is held until it is its turn. The others do not
//! notice, since what is held takes no time. The arithmetic is the generic cell rate algorithm (ITU-T
//! I.371, annex A): an agent has one number, when its bucket will be full again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::model::error::Error;

/// Agents that are looked at before those are forgotten whose bucket is full.
const SWEEP: usize = 4_096;

/// What each agent may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Changes a second; 0: as many as it likes.
    pub changes_per_s: u32,
    /// Changes at once, of one that has been quiet.
    pub burst: u32,
    /// ChangeSessions, WatchSessions and KeepAgent streams at once, of one with a certificate.
    pub streams: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            changes_per_s: 2_000,
            burst: 4_000,
            streams: 64,
        }
    }
}

impl Quota {
    /// What a change takes of a bucket; absent: there is no limit.
    fn each(&self) -> Option<Duration> {
        Duration::from_secs(1).checked_div(self.changes_per_s)
    }
}

/// What the agents have asked for.
#[derive(Debug)]
pub struct Quotas(Mutex<Accounts>);

#[derive(Debug, Default)]
struct Accounts {
    quota: Quota,
    /// When each agent's bucket is full.
    full: HashMap<Box<str>, Instant>,
    /// So many agents, and it is swept.
    sweep_at: usize,
    streams: HashMap<Box<str>, usize>,
}

impl Default for Quotas {
    /// Without a limit of changes, as measurements want it.
    fn default() -> Self {
        Self::new(Quota {
            changes_per_s: 0,
            ..Quota::default()
        })
    }
}

impl Quotas {
    /// Nobody has asked for anything.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self(Mutex::new(Accounts {
            quota,
            ..Accounts::default()
        }))
    }

    /// What each agent may ask for from now on: its bucket is full. Streams that are open stay.
    pub fn set(&self, quota: Quota) {
        let mut accounts = self.accounts();
        if quota != accounts.quota {
            // Booked at another rate: at a higher one an agent would wait for far too long.
            accounts.full.clear();
        }
        accounts.quota = quota;
    }

    /// Waits until it is a change's turn. One that is given up meanwhile counts for nothing.
    pub(crate) async fn turn(&self, agent: &str) {
        let now = Instant::now();
        let turn = self.book(agent, now);
        if turn > now {
            let mut booking = Booking {
                quotas: self,
                agent,
                is_used: false,
            };
            sleep_until(turn).await;
            booking.is_used = true;
        }
    }

    /// Gives a booked change back.
    fn give_back(&self, agent: &str) {
        let mut accounts = self.accounts();
        let each = accounts.quota.each();
        // Absent: the bucket was full, and is forgotten.
        if let (Some(full), Some(each)) = (accounts.full.get_mut(agent), each) {
            *full = full.checked_sub(each).unwrap_or(*full);
        }
    }

    /// Books a change; tells when it is its turn.
    fn book(&self, agent: &str, now: Instant) -> Instant {
        let mut accounts = self.accounts();
        let accounts = &mut *accounts;
        let Some(each) = accounts.quota.each() else {
            return now;
        };
        let full = match accounts.full.get_mut(agent) {
            Some(full) => full,
            None => {
                if accounts.full.len() >= accounts.sweep_at {
                    accounts.full.retain(|_, full| *full > now);
                    accounts.sweep_at = SWEEP.max(2 * accounts.full.len());
                }
                accounts.full.entry(agent.into()).or_insert(now)
            }
        };
        *full = (*full).max(now) + each;
        let ahead = *full - now;
        now + ahead.saturating_sub(each * accounts.quota.burst.max(1))
    }

    /// Opens one more of an agent's streams.
    pub(crate) fn stream(self: &Arc<Self>, agent: &str) -> Result<StreamOf, Error> {
        let mut accounts = self.accounts();
        let limit = accounts.quota.streams;
        let count = accounts.streams.entry(agent.into()).or_default();
        if *count >= limit {
            return Err(Error::TooManyStreams {
                agent: agent.into(),
                limit,
            });
        }
        *count += 1;
        Ok(StreamOf {
            quotas: self.clone(),
            agent: agent.into(),
        })
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change that waits for its turn, given back if it drops before.
struct Booking<'a> {
    quotas: &'a Quotas,
    agent: &'a str,
    is_used: bool,
}

impl Drop for Booking<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            self.quotas.give_back(self.agent);
        }
    }
}

/// A stream of an agent, counted until it drops.
#[derive(Debug)]
pub(crate) struct StreamOf {
    quotas: Arc<Quotas>,
    agent: Box<str>,
}

impl Drop for StreamOf {
    fn drop(&mut self) {
        let mut accounts = self.quotas.accounts();
        if let Some(count) = accounts.streams.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                accounts.streams.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const QUOTA: Quota = Quota {
        changes_per_s: 1_000,
        burst: 50,
        streams: 2,
    };

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let quotas = Quotas::new(QUOTA);
        let now = Instant::now();
        let waits: Vec<_> = (0..1_050).map(|_| quotas.book("a", now) - now).collect();
        assert!(waits.iter().take(50).all(Duration::is_zero));
        assert_eq!(waits.last(), Some(&Duration::from_secs(1)));
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(quotas.book("b", now), now, "another one does not wait");
        let later = now + Duration::from_secs(2);
        assert_eq!(quotas.book("a", later), later, "its bucket is full again");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_are_given_up_while_they_wait_cost_nothing() {
        let quotas = Quotas::new(QUOTA);
        let now = Instant::now();
        for _ in 0..QUOTA.burst {
            assert!(quotas.turn("a").now_or_never().is_some(), "the burst");
        }
        for _ in 0..10_000 {
            assert!(quotas.turn("a").now_or_never().is_none(), "it waits");
        }
        let many: Vec<_> = (0..10_000)
            .map(|_| {
                let mut turn = Box::pin(quotas.turn("a"));
                assert!((&mut turn).now_or_never().is_none(), "it waits");
                turn
            })
            .collect();
        drop(many);
        let each = Duration::from_millis(1);
        quotas.turn("a").await;
        assert!(now.elapsed() <= 2 * each, "{:?}", now.elapsed());
        // What was waited for is not given back.
        assert_eq!(quotas.book("a", now) - now, 2 * each);
    }

    #[test]
    fn names_that_come_and_go_are_forgotten() {
        let quotas = Quotas::new(QUOTA);
        let now = Instant::now();
        for index in 0..100_000_u32 {
            quotas.book(
                &index.to_string(),
                now + Duration::from_millis(index.into()),
            );
        }
        assert!(quotas.accounts().full.len() <= SWEEP);
    }

    #[test]
    fn none_is_no_limit() {
        let quotas = Quotas::new(Quota {
            changes_per_s: 0,
            ..QUOTA
        });
        let now = Instant::now();
        assert!((0..100_000).all(|_| quotas.book("a", now) == now));
    }

    #[test]
    fn another_quota_counts_from_the_next_change_on() -> Result<(), Error> {
        let quotas = Arc::new(Quotas::new(QUOTA));
        let now = Instant::now();
        let wait = |quotas: &Quotas| quotas.book("a", now) - now;
        assert_eq!(
            (0..60).map(|_| wait(&quotas)).max(),
            Some(Duration::from_millis(10))
        );
        let streams = [quotas.stream("a")?, quotas.stream("a")?];
        quotas.set(Quota {
            changes_per_s: 10,
            burst: 1,
            streams: 3,
        });
        assert_eq!(wait(&quotas), Duration::ZERO);
        assert_eq!(wait(&quotas), Duration::from_millis(100));
        assert_eq!(
            (0..100).map(|_| wait(&quotas)).max(),
            Some(Duration::from_millis(10_100))
        );
        let third = quotas.stream("a")?;
        quotas.set(QUOTA);
        assert_eq!(wait(&quotas), Duration::ZERO, "a higher one");
        drop(streams);
        let fourth = quotas.stream("a")?;
        assert!(quotas.stream("a").is_err());
        drop((third, fourth));
        quotas.set(Quota {
            changes_per_s: 0,
            ..QUOTA
        });
        assert_eq!(wait(&quotas), Duration::ZERO);
        Ok(())
    }

    #[test]
    fn streams_are_counted_while_they_are_open() -> Result<(), Error> {
        let quotas = Arc::new(Quotas::new(QUOTA));
        let (one, _two) = (quotas.stream("a")?, quotas.stream("a")?);
        assert!(matches!(
            quotas.stream("a"),
            Err(Error::TooManyStreams { limit: 2, .. })
        ));
        let _other = quotas.stream("b")?;
        drop(one);
        quotas.stream("a").map(drop)
    }
}
