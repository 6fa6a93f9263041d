//! Agents that have a lease: they are lost when it runs out, and their sessions go if they do not come
//! back.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;
use tracing::{info, warn};

use super::lease::LOOK_EVERY;
use crate::{
    engine::{Engine, state::State},
    events::{Kind, Subject},
    model::{
        ids::SessionKey,
        leases::{
            Reaper,
            agents::{Due, Presence, Renewed},
        },
        store::Session,
    },
};

/// Sessions of an agent that are removed at once.
const WINDOW: usize = 256;
/// Sessions looked at under one hold of the lock.
const CHUNK: usize = 64;

impl Engine {
    /// An agent is there; tells for how long its lease is good. `agent` can be the agent of a session.
    pub fn keep_agent(self: &Arc<Self>, agent: &str) -> Duration {
        let ttl = self.settings.agent_ttl;
        let (renewed, sessions) = {
            let mut state = self.lock();
            let until = state.clock.moment().plus(ttl);
            let renewed = state.agents.renew(agent, until);
            (renewed, state.store.len_of_agent(agent))
        };
        match renewed {
            Renewed::InTime => {}
            Renewed::First => {
                info!(agent, "has a lease");
                if sessions > 0 {
                    tokio::spawn(self.clone().keep_leases(agent.to_owned()));
                }
            }
            Renewed::Back => {
                info!(agent, sessions, "is back");
                self.note(Kind::AgentBack, Subject::Server, || {
                    format!("agent {agent} is back, with {sessions} calls")
                });
            }
        }
        ttl
    }

    /// Commits with sessions that were there before that their agent has a lease.
    async fn keep_leases(self: Arc<Self>, agent: String) {
        let mut last = None;
        loop {
            let keys = self.keys_of(&agent, last.as_ref());
            for key in &keys {
                let _claim = self.claim(key).await;
                drop(self.keep_lease(key));
            }
            match keys.into_iter().next_back() {
                Some(end) => last = Some(end),
                None => return,
            }
        }
    }

    /// The next sessions of an agent.
    fn keys_of(&self, agent: &str, after: Option<&SessionKey>) -> Vec<SessionKey> {
        let state = self.lock();
        let first = SessionKey::before_agent(agent);
        let sessions = state.store.after(after.max(first.as_ref()));
        let keys = sessions.map(|session| &session.spec.key);
        let own = keys.take_while(|key| key.agent() == agent);
        own.take(CHUNK).cloned().collect()
    }

    fn take_due_agent(&self) -> Option<Due> {
        let mut state = self.lock();
        let now = state.clock.moment();
        state.agents.take_due(now, self.settings.agent_lost)
    }

    /// An agent's lease ran out.
    async fn lose_agent(&self, agent: &str) {
        let sessions = {
            let mut state = self.lock();
            // It may be back already.
            if state.agents.presence(agent) != Presence::Lost {
                return;
            }
            let sessions = state.store.len_of_agent(agent);
            if sessions == 0 {
                state.agents.forget(agent);
                return;
            }
            sessions
        };
        let stay = self.settings.agent_lost;
        warn!(agent, sessions, ?stay, "lost: its lease ran out");
        self.note(Kind::AgentLost, Subject::Server, || {
            format!("agent {agent} is lost, with {sessions} calls: they go in {stay:?} if it does not come back")
        });
        // Nobody can be asked for its silent sessions any more.
        let mut last: Option<SessionKey> = None;
        loop {
            {
                let mut state = self.lock();
                let now = state.clock.moment();
                let silent = state.silences.of_agent(agent, last.as_ref(), CHUNK);
                for (key, _) in &silent {
                    state.silences.hurry(key, now);
                }
                match silent.into_iter().next_back() {
                    Some((key, _)) => last = Some(key),
                    None => return,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Removes the sessions of an agent that has been lost for too long, while it does not come back. Those
    /// that are added under its name meanwhile are of one that has no lease.
    async fn reap_agent(self: Arc<Self>, agent: Box<str>) {
        let mut last = None;
        loop {
            let keys = self.keys_of(&agent, last.as_ref());
            {
                let mut state = self.lock();
                if !state.agents.is_over(&agent) {
                    return;
                }
                if keys.is_empty() {
                    state.agents.forget(&agent);
                    return;
                }
            }
            let engine = &self;
            stream::iter(&keys)
                .for_each_concurrent(WINDOW, |key| async move {
                    let claim = engine.claim(key).await;
                    let is_over = engine.lock().agents.is_over(key.agent());
                    if is_over {
                        engine.reap_claimed(key, Reaper::AgentLost, &claim).await;
                    }
                })
                .await;
            last = keys.into_iter().next_back();
        }
    }
}

impl State {
    /// Takes a session out. A lost agent that has no other one is forgotten.
    pub(in crate::engine) fn remove(&mut self, key: &SessionKey) -> Option<Box<Session>> {
        let (removed, agent) = (self.store.remove(key), key.agent());
        if self.agents.presence(agent) == Presence::Lost && self.store.len_of_agent(agent) == 0 {
            self.agents.forget(agent);
        }
        removed
    }
}

/// Runs until the engine stops.
pub(in crate::engine) async fn reap(engine: Arc<Engine>) {
    while !*engine.stopping.borrow() {
        sleep(LOOK_EVERY).await;
        while let Some(due) = engine.take_due_agent() {
            match due {
                Due::Lost(agent) => engine.lose_agent(&agent).await,
                Due::Over(agent) => drop(tokio::spawn(engine.clone().reap_agent(agent))),
            }
        }
    }
}
