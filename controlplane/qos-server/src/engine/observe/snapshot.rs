//! How much there is of everything, for the metrics.

use std::time::Duration;

use crate::{
    engine::{Engine, Standing},
    model::session::SessionState,
};

/// Routers looked at under one hold of the lock.
const CHUNK: usize = 256;

/// How much there is of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Sessions, by state.
    pub sessions: [(&'static str, u64); 5],
    /// Routers, by how they answer.
    pub routers: [(&'static str, u64); 5],
    /// Commands that routers have not answered.
    pub outstanding: u64,
    /// Those of them whose answer somebody waits for.
    pub waiters: u64,
    /// How long a router has owed an answer without giving any, at most.
    pub longest_owed: Duration,
    /// Messages to routers that wait to be written.
    pub queued: u64,
    /// The same of the router that has most.
    pub longest_queue: u64,
    /// Sessions on which an operation runs.
    pub running: u64,
    /// Operations that wait for one of these.
    pub waiting: u64,
    /// Sessions of which something failed that is tried again.
    pub unsettled: u64,
    /// Sessions that no packet has come for lately.
    pub silent: u64,
    /// Sessions that sound bad, by what is.
    pub bad_calls: [(&'static str, u64); 3],
    /// Agents whose lease runs.
    pub agents: u64,
    /// Agents whose lease ran out.
    pub lost_agents: u64,
    /// WatchSessions, WatchEvents and WatchOverview streams.
    pub watchers: u64,
    /// Whether the server does not stand by and is not going down.
    pub serving: bool,
    /// Of several servers, how many have led, with this one.
    pub term: u64,
    /// When it started.
    pub started_unix_s: u64,
}

impl Engine {
    /// Counts, in slices, so that nobody waits long for the lock.
    pub async fn snapshot(&self) -> Snapshot {
        let mut now = Snapshot {
            sessions: self.count_by_state().await,
            routers: self.count_by_standing(),
            watchers: self.watchers() as u64,
            bad_calls: self.bad_calls(),
            serving: !*self.stopping.borrow() && !self.settings.stands_by,
            term: self.leader.term,
            started_unix_s: self.epoch >> 20,
            ..Snapshot::default()
        };
        now.started_unix_s /= 1_000;
        let links: Vec<_> = {
            let state = self.lock();
            now.running = state.running.len() as u64;
            now.waiting = state.waiting as u64;
            now.unsettled = state.unsettled.len() as u64;
            now.silent = state.silences.len() as u64;
            (now.agents, now.lost_agents) = state.agents.counts();
            state.links.values().cloned().collect()
        };
        for link in links {
            let (owed_for, outstanding) = link.owes(self.clock().instant());
            let queued = link.queued() as u64;
            now.outstanding += outstanding;
            now.waiters += link.waiters() as u64;
            now.longest_owed = now.longest_owed.max(owed_for.unwrap_or_default());
            now.queued += queued;
            now.longest_queue = now.longest_queue.max(queued);
        }
        now
    }

    async fn count_by_state(&self) -> [(&'static str, u64); 5] {
        const STATES: [(SessionState, &str); 5] = [
            (SessionState::Installing, "installing"),
            (SessionState::Active, "active"),
            (SessionState::Reserved, "reserved"),
            (SessionState::Degraded, "degraded"),
            (SessionState::Removing, "removing"),
        ];
        let mut counts = STATES.map(|(_, name)| (name, 0));
        self.each_session(|state, session| {
            let stands = session.state(&state.registry);
            if let Some(index) = STATES.iter().position(|(it, _)| *it == stands) {
                counts[index].1 += 1;
            }
        })
        .await;
        counts
    }

    fn count_by_standing(&self) -> [(&'static str, u64); 5] {
        const STANDINGS: [(Standing, &str); 5] = [
            (Standing::Away, "away"),
            (Standing::Synchronising, "synchronising"),
            (Standing::Synchronised, "synchronised"),
            (Standing::Slow, "slow"),
            (Standing::Mute, "mute"),
        ];
        let mut counts = STANDINGS.map(|(_, name)| (name, 0));
        let mut last = None;
        loop {
            let routers = self.routers(last.as_ref(), CHUNK);
            for router in &routers {
                if let Some(index) = STANDINGS.iter().position(|(it, _)| *it == router.standing) {
                    counts[index].1 += 1;
                }
            }
            match routers.last() {
                Some(router) => last = Some(router.router.identity.id.clone()),
                None => return counts,
            }
        }
    }
}
