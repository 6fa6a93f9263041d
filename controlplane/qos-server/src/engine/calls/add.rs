//! AddSession.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::debug;

use super::{
    operation::{Outcome, Work},
    preempt::{Dismissed, Victims},
};
use crate::{
    engine::{
        Engine, EventKind, SessionView,
        routers::install::{Acknowledgements, Target},
        state::State,
    },
    journal::Committed,
    model::{
        entries::expand_distinct,
        error::Error,
        ids::SessionKey,
        links::Charges,
        placement::{place, shares},
        session::SessionSpec,
        store::{Installation, Phase, Session},
    },
};

impl Engine {
    /// Admits a session and installs it; answers when every router of it has acknowledged.
    pub async fn add(self: &Arc<Self>, spec: SessionSpec) -> Outcome {
        let spec = Arc::new(spec);
        let key = spec.key.clone();
        let work = Work::Add(spec.clone());
        self.operate(&key, work, move |engine| engine.add_now(spec.clone()))
            .await
    }

    async fn add_now(self: Arc<Self>, spec: Arc<SessionSpec>) -> Outcome {
        let key = &spec.key;
        let (targets, charges, mut victims, committed) = {
            let mut state = self.lock();
            if let Some(there) = state.store.get(key) {
                if *there.spec == *spec {
                    return state.renewed(&spec);
                }
                let revision = there.spec.revision.get();
                return Err(Error::Exists {
                    key: key.clone(),
                    revision,
                });
            }
            let (targets, charges, victims) = self.admit_new(&mut state, &spec)?;
            // With victims it is committed behind their ends: in the store, too, links are within their
            // budgets.
            let committed = if victims.is_empty() {
                self.keep(&mut state, key, &charges)
            } else {
                Committed::already()
            };
            (targets, charges, victims, committed)
        };
        committed.done().await;
        let deadline = self.clock().instant() + self.settings.acknowledge_timeout;
        match self
            .install_all(key, spec.revision, targets, deadline)
            .await
        {
            Ok(acknowledged) => {
                let settled = self.settle_added(key, &acknowledged, charges, &mut victims);
                if let Some((view, mut dismissed)) = settled {
                    debug!(session = %key, "added");
                    dismissed.committed().await;
                    drop(self.see_off(dismissed));
                    return Ok(view);
                }
                let lost = self.lost_of(&acknowledged);
                self.undo_add(key, &mut victims, deadline).await;
                Err(lost)
            }
            Err(error) => {
                self.undo_add(key, &mut victims, deadline).await;
                Err(error)
            }
        }
    }

    /// Reserves what a session needs, and installs nothing yet. Until it is settled it holds what its
    /// victims took of links beside what is its own.
    fn admit_new(
        self: &Arc<Self>,
        state: &mut State,
        spec: &Arc<SessionSpec>,
    ) -> Result<(Vec<Target>, Charges, Victims), Error> {
        let now = state.clock.unix();
        if state.store.len() >= self.settings.max_sessions {
            return Err(Error::ServerFull {
                limit: self.settings.max_sessions,
            });
        }
        let agent = spec.key.agent();
        let of_agent = state.store.len_of_agent(agent);
        let limit = self.limits.borrow().max_sessions_per_agent;
        if of_agent >= limit as u64 {
            return Err(Error::AgentFull {
                agent: agent.to_owned(),
                limit,
            });
        }
        let entries = expand_distinct(spec, &[])?;
        let placement = place(spec, &[], &state.registry, now)
            .map_err(|error| state.or_not_yet(error, &spec.key))?;
        let shares = shares(&placement, &entries);
        let charges = Charges::of(spec, &[], &placement, &state.registry);
        let make_way = state.admit(spec, &shares, &charges)?;
        let targets = state.targets(shares.clone())?;
        state.store.reserve(&spec.key, &entries)?;
        let victims = self.evict(state, make_way);
        state.grace.dig_up(&spec.key);
        state.store.put(Session {
            spec: spec.clone(),
            learned: Box::default(),
            heard: Box::default(),
            placement,
            charges: charges.or_more(&victims.charges()),
            expires: None,
            installations: shares
                .iter()
                .map(|(router, share)| (router.clone(), Installation::of(share)))
                .collect(),
            phase: Phase::Installing,
            problem: None,
            created: now,
            updated: now,
            told: None,
            record: self.new_record(),
            agent_has_lease: state.agents.has(spec.key.agent()),
        });
        Ok((targets, charges, victims))
    }

    /// The session is as it was to become, and its victims are dismissed. Absent if a router that said
    /// yes has gone since.
    fn settle_added(
        &self,
        key: &SessionKey,
        acknowledged: &Acknowledgements,
        charges: Charges,
        victims: &mut Victims,
    ) -> Option<(Arc<SessionView>, Dismissed)> {
        let mut state = self.lock();
        let state = &mut *state;
        if !state.still_attached(acknowledged) {
            return None;
        }
        state.store.charge(key, charges.clone());
        let session = state.store.get_mut(key)?;
        session.phase = Phase::Settled;
        session.updated = state.clock.unix();
        session.acknowledge(acknowledged);
        let spec = session.spec.clone();
        let expires = state.lease(&spec);
        state.store.renew(key, expires);
        self.tell(state, EventKind::Added, key);
        let view = state.view(state.store.get(key)?);
        let has_victims = !victims.is_empty();
        let mut dismissed = self.dismiss(state, std::mem::take(victims));
        if has_victims {
            dismissed.also(self.keep(state, key, &charges));
        }
        Some((view, dismissed))
    }

    async fn undo_add(
        self: &Arc<Self>,
        key: &SessionKey,
        victims: &mut Victims,
        deadline: Instant,
    ) {
        let (routers, committed) = {
            let mut state = self.lock();
            let Some(session) = state.store.get_mut(key) else {
                return;
            };
            session.phase = Phase::Removing;
            let routers = session.installations.keys().cloned().collect();
            (routers, self.strike(&mut state, key))
        };
        committed.done().await;
        self.withdraw(key, routers, self.undone_by(deadline)).await;
        let removed = {
            let mut state = self.lock();
            let removed = state.remove(key);
            state.reinstate(victims);
            removed
        };
        drop(removed);
    }
}

impl State {
    /// An address that nobody reaches may be behind a router that is not back yet, if another one
    /// still has the session from before the server's start.
    fn or_not_yet(&self, error: Error, key: &SessionKey) -> Error {
        match error {
            Error::UnknownAddress { field, address } if self.grace.is_stray(key) => {
                Error::NotReachedYet { field, address }
            }
            error => error,
        }
    }
}
