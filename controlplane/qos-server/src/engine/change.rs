//! ModifySession, and moving a session when its addresses have moved to other routers: new
//! entries work before old ones go.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    Engine,
    add::{Acknowledgements, Target},
    events::EventKind,
    moves::Lane,
    operation::{Outcome, Work},
    state::State,
};
use crate::model::{
    admission::admit,
    entries::{FlowEntry, expand, expand_distinct},
    error::Error,
    ids::{RouterId, SessionKey, UnixMs},
    placement::{Placement, Share, place, shares},
    session::SessionSpec,
    store::{Installation, Phase, Session},
};

/// A change that has been checked, its five-tuples reserved.
struct Change {
    spec: Arc<SessionSpec>,
    entries: Vec<FlowEntry>,
    placement: Arc<Placement>,
    shares: BTreeMap<RouterId, Share>,
    /// The shares that a router lacks.
    targets: Vec<Target>,
}

/// How well the place of a session fits what routers reach now.
pub(super) enum Fit {
    /// It is right, or cannot be bettered now.
    Stays,
    /// An address of it is behind another router or interface.
    Moves,
}

impl Engine {
    /// Replaces a session by a later revision of it.
    pub async fn modify(self: &Arc<Self>, spec: SessionSpec) -> Outcome {
        let spec = Arc::new(spec);
        let key = spec.key.clone();
        let work = Work::Modify(spec.clone());
        self.operate(&key, work, move |engine| engine.modify_now(spec.clone()))
            .await
    }

    async fn modify_now(self: Arc<Self>, spec: Arc<SessionSpec>) -> Outcome {
        let key = spec.key.clone();
        let change = {
            let mut state = self.lock();
            let Some(there) = state.store.get(&key) else {
                return Err(Error::NoSession(key));
            };
            if *there.spec == *spec {
                return Ok(state.view(there, UnixMs::now()));
            }
            if spec.revision <= there.spec.revision {
                return Err(Error::RevisionNotLater {
                    key,
                    current: there.spec.revision.get(),
                    offered: spec.revision.get(),
                });
            }
            state.check_change(spec)?
        };
        self.carry_out(change, EventKind::Modified).await?;
        debug!(session = %key, "modified");
        let state = self.lock();
        let session = state
            .store
            .get(&key)
            .ok_or_else(|| Error::NoSession(key.clone()))?;
        Ok(state.view(session, UnixMs::now()))
    }

    /// Looks whether a session's addresses are where they were, and moves it if not. What fails
    /// leaves it where it is, to be tried again; what belongs to the lane of mute routers is left
    /// to that, and what an operation runs on is looked at when that has ended.
    pub(super) async fn follow_one(self: &Arc<Self>, key: &SessionKey, lane: Lane) {
        let Some(_claim) = self.claim_idle(key) else {
            return;
        };
        let change = {
            let mut state = self.lock();
            let moves = matches!(state.fit(key), Fit::Moves);
            self.tell_state(&mut state, key);
            if moves && lane == Lane::Ordinary && state.lane(key, self) == Lane::Mute {
                state.moves.add(Lane::Mute, key.clone());
                drop(state);
                self.moves_due.ring();
                return;
            }
            match state.store.get(key).map(|session| session.spec.clone()) {
                Some(spec) if moves => state.check_change(spec),
                _ => return,
            }
        };
        let moved = match change {
            Ok(change) => self.carry_out(change, EventKind::StateChanged).await,
            Err(error) => Err(error),
        };
        match moved {
            Ok(()) => info!(session = %key, "moved to the routers that reach it now"),
            Err(error) => {
                let new = {
                    let mut state = self.lock();
                    let state = &mut *state;
                    state.unsettled.insert(key.clone());
                    let problem = Some(format!("cannot be moved: {error}"));
                    let session = state.store.get_mut(key);
                    let new = session.is_some_and(|session| {
                        let former = std::mem::replace(&mut session.problem, problem.clone());
                        former != problem
                    });
                    self.tell_state(state, key);
                    new
                };
                if new {
                    warn!(session = %key, %error, "cannot be moved; will be tried again");
                }
            }
        }
    }

    async fn carry_out(self: &Arc<Self>, change: Change, kind: EventKind) -> Result<(), Error> {
        let Change {
            spec,
            entries,
            placement,
            shares,
            targets,
        } = change;
        let key = &spec.key;
        let deadline = Instant::now() + self.settings.acknowledge_timeout;
        let attempted: Vec<RouterId> = targets
            .iter()
            .map(|target| target.link.router().clone())
            .collect();
        let installed = self
            .install_all(key, spec.revision, targets, deadline)
            .await
            .and_then(|yes| {
                if self.lock().still_attached(&yes) {
                    Ok(yes)
                } else {
                    Err(self.lost_of(&yes))
                }
            });
        let acknowledged = match installed {
            Ok(acknowledged) => acknowledged,
            Err(error) => {
                self.revert(key, attempted, &entries, deadline).await;
                return Err(error);
            }
        };
        let leaving = {
            let state = self.lock();
            let old = state
                .store
                .get(key)
                .map(|old| old.installations.keys().cloned());
            old.into_iter()
                .flatten()
                .filter(|router| !shares.contains_key(router))
                .collect()
        };
        self.withdraw(key, leaving, self.undone_by(deadline)).await;
        let mut state = self.lock();
        state.commit(spec.clone(), placement, &shares, &acknowledged);
        self.tell(&mut state, kind, key);
        Ok(())
    }

    /// Puts back what the session was on the routers where a change was attempted.
    async fn revert(
        self: &Arc<Self>,
        key: &SessionKey,
        attempted: Vec<RouterId>,
        entries: &[FlowEntry],
        deadline: Instant,
    ) {
        let (revision, targets, added) = {
            let mut state = self.lock();
            let Some(session) = state.store.get(key) else {
                return;
            };
            let mut old = shares(&session.placement, &expand(&session.spec));
            let revision = session.spec.revision;
            let added = attempted
                .iter()
                .filter(|router| !old.contains_key(*router))
                .cloned();
            let added: Vec<RouterId> = added.collect();
            old.retain(|router, _| attempted.contains(router));
            // A router that is away is synchronised when it returns.
            let targets = old.into_iter().filter_map(|(router, share)| {
                state.links.get(&router).map(|link| Target {
                    link: link.clone(),
                    share,
                })
            });
            let targets = targets.collect();
            state.store.release(key, entries);
            (revision, targets, added)
        };
        self.withdraw(key, added, self.undone_by(deadline)).await;
        let undone_by = self.undone_by(deadline);
        let reverted = self.install_all(key, revision, targets, undone_by).await;
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(session) = state.store.get_mut(key) {
            session.phase = Phase::Settled;
            match reverted {
                Ok(acknowledged) => session.acknowledge(&acknowledged),
                Err(error) => {
                    warn!(session = %key, %error, "a failed change could not be undone yet");
                    state.unsettled.insert(key.clone());
                    session.problem = Some(format!("a failed change could not be undone: {error}"));
                }
            }
        }
        self.tell_state(state, key);
    }
}

impl State {
    /// How well a session's place fits; notes why it cannot be placed any more.
    pub(super) fn fit(&mut self, key: &SessionKey) -> Fit {
        let Some(session) = self.store.get_mut(key) else {
            return Fit::Stays;
        };
        match place(&session.spec, &self.registry, UnixMs::now()) {
            Ok(placement) if placement == session.placement => session.problem = None,
            Ok(_) => return Fit::Moves,
            // The router serves it, or will be synchronised when it is back.
            Err(Error::RouterAway { .. }) => {}
            Err(error) => session.problem = Some(error.to_string()),
        }
        Fit::Stays
    }

    fn check_change(&mut self, spec: Arc<SessionSpec>) -> Result<Change, Error> {
        let key = &spec.key;
        let entries = expand_distinct(&spec)?;
        let placement = place(&spec, &self.registry, UnixMs::now())?;
        let shares = shares(&placement, &entries);
        admit(&spec, &shares, &self.registry, &self.store)?;
        let mut lacking = shares.clone();
        if let Some(session) = self.store.get(key) {
            lacking.retain(|router, share| {
                let there = session.installations.get(router);
                let current = self.registry.attachment(router);
                !there.zip(current).is_some_and(|(there, current)| {
                    there.fingerprint == share.fingerprint && there.holds(spec.revision, current)
                })
            });
        }
        let targets = self.targets(lacking)?;
        self.store.reserve(key, &entries)?;
        if let Some(session) = self.store.get_mut(key) {
            session.phase = Phase::Installing;
            // Until they answer, they may have the old or the new.
            for target in &targets {
                if let Some(there) = session.installations.get_mut(target.link.router()) {
                    there.acknowledged = None;
                }
            }
        }
        Ok(Change {
            spec,
            entries,
            placement,
            shares,
            targets,
        })
    }

    /// The session is as it was to become.
    fn commit(
        &mut self,
        spec: Arc<SessionSpec>,
        placement: Arc<Placement>,
        shares: &BTreeMap<RouterId, Share>,
        acknowledged: &Acknowledgements,
    ) {
        let Some(old) = self.store.get(&spec.key) else {
            return;
        };
        let installation = |(router, share): (&RouterId, &Share)| {
            let mut installation = Installation::of(share);
            // Those that were not asked have it already.
            if let Some(old) = old.installations.get(router) {
                installation.acknowledged = old.acknowledged;
            }
            (router.clone(), installation)
        };
        let mut session = Session {
            placement,
            installations: shares.iter().map(installation).collect(),
            phase: Phase::Settled,
            problem: None,
            created: old.created,
            updated: UnixMs::now(),
            told: old.told,
            spec,
        };
        session.acknowledge(acknowledged);
        self.store.put(session);
    }
}
