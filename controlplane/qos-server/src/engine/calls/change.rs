//! ModifySession, and moving a session when its addresses have moved to other routers: new
//! entries work before old ones go.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    latch::{Coming, replace},
    moves::Lane,
    operation::{Outcome, Work},
    preempt::Victims,
};
use crate::{
    engine::{
        Engine, EventKind,
        routers::install::{Acknowledgements, Target},
        state::State,
    },
    journal::{Committed, record::Parts},
    model::{
        entries::{FlowEntry, expand_distinct},
        error::Error,
        ids::{RouterId, SessionKey},
        links::Charges,
        placement::{Placement, Share, place, shares},
        session::{Learned, SessionSpec},
        store::{Installation, Phase, Session},
    },
};

/// A change that has been checked, its five-tuples and its room on links reserved.
struct Change {
    spec: Arc<SessionSpec>,
    learned: Box<[Learned]>,
    entries: Vec<FlowEntry>,
    placement: Arc<Placement>,
    charges: Charges,
    /// What the session took of links before.
    former: Charges,
    shares: BTreeMap<RouterId, Share>,
    /// The shares that a router lacks.
    targets: Vec<Target>,
    /// The sessions that make way for it.
    victims: Victims,
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
                return state.renewed(&spec);
            }
            if spec.revision <= there.spec.revision {
                return Err(Error::RevisionNotLater {
                    key,
                    current: there.spec.revision.get(),
                    offered: spec.revision.get(),
                });
            }
            let learned = state.placeable(there, &spec);
            state.check_change(&self, spec, learned)?
        };
        self.carry_out(change, EventKind::Modified).await?;
        debug!(session = %key, "modified");
        let state = self.lock();
        let session = state
            .store
            .get(&key)
            .ok_or_else(|| Error::NoSession(key.clone()))?;
        Ok(state.view(session))
    }

    /// Looks whether a session's addresses are where they were, and moves it if not. What fails
    /// leaves it where it is, to be tried again; what belongs to the lane of mute routers is left
    /// to that, and what an operation runs on is looked at when that has ended.
    pub(in crate::engine) async fn follow_one(self: &Arc<Self>, key: &SessionKey, lane: Lane) {
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
            match state.store.get(key) {
                Some(session) if moves => {
                    let spec = session.spec.clone();
                    let learned = state.placeable(session, &spec);
                    state.check_change(self, spec, learned)
                }
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

    async fn carry_out(self: &Arc<Self>, mut change: Change, kind: EventKind) -> Result<(), Error> {
        let targets = std::mem::take(&mut change.targets);
        let (spec, shares) = (change.spec.clone(), &change.shares);
        let key = &spec.key;
        let deadline = self.clock().instant() + self.settings.acknowledge_timeout;
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
                self.revert(change, attempted, deadline).await;
                return Err(error);
            }
        };
        let (leaving, committed, mut dismissed) = {
            let mut state = self.lock();
            let old = state
                .store
                .get(key)
                .map(|old| old.installations.keys().cloned());
            let leaving = old
                .into_iter()
                .flatten()
                .filter(|router| !shares.contains_key(router))
                .collect();
            // Mostly one commit has all of this. If not, the victims go first: in the store, too, links are
            // within their budgets.
            let victims = std::mem::take(&mut change.victims);
            let dismissed = self.dismiss(&mut state, victims);
            let committed = self.keep_change(&mut state, &change);
            (leaving, committed, dismissed)
        };
        committed.done().await;
        dismissed.committed().await;
        drop(self.see_off(dismissed));
        self.withdraw(key, leaving, self.undone_by(deadline)).await;
        {
            let mut state = self.lock();
            state.commit(change, kind, &acknowledged);
            self.tell(&mut state, kind, key);
        }
        Ok(())
    }

    /// Commits what a session is about to become.
    fn keep_change(&self, state: &mut State, change: &Change) -> Committed {
        let key = &change.spec.key;
        let Some(old) = state.store.get(key) else {
            return Committed::already();
        };
        let heard = old.spec.still_learned(&change.spec, &old.heard);
        let version = Parts {
            spec: &change.spec,
            placement: &change.placement,
            charges: &change.charges,
            learned: &change.learned,
            heard: &heard,
            created: old.created,
            updated: state.clock.unix(),
        };
        self.keep_version(state, key, version)
    }

    /// Puts back what the session was on the routers where a change was attempted.
    async fn revert(
        self: &Arc<Self>,
        mut change: Change,
        attempted: Vec<RouterId>,
        deadline: Instant,
    ) {
        let key = &change.spec.key;
        let (revision, targets, added) = {
            let mut state = self.lock();
            let Some(session) = state.store.get(key) else {
                return;
            };
            let mut old = shares(&session.placement, &session.entries());
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
            state.store.release(key, &change.entries);
            state.store.charge(key, change.former);
            state.reinstate(&mut change.victims);
            let coming = state.coming.take(key);
            if let Some(coming) = coming
                && let Some(session) = state.store.get_mut(key)
                && coming.is_move_of(&session.spec)
            {
                let mut heard = session.heard.to_vec();
                for learned in coming.heard {
                    replace(&mut heard, learned);
                }
                session.heard = heard.into();
            }
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
        let Some(session) = self.store.get(key) else {
            return Fit::Stays;
        };
        let spec = session.spec.clone();
        let learned = self.placeable(session, &spec);
        let problem = match place(&spec, &learned, &self.registry, self.clock.unix()) {
            Ok(placement) if placement == session.placement && learned == session.learned => {
                // Its packets take these links, whether they have room or not.
                let charges = Charges::of(&spec, &learned, &placement, &self.registry);
                let unplaced = session.heard.iter().find(|it| !learned.contains(it));
                let problem = unplaced.map(|it| {
                    format!(
                        "spec.flows[{}].latch: the source {} was learned, but no attached router \
                         reaches it through an edge interface; its packets are served where they were \
                         learned, and from there on",
                        it.flow, it.source
                    )
                });
                if charges != session.charges {
                    self.store.charge(key, charges);
                }
                problem
            }
            Ok(_) => return Fit::Moves,
            // The router serves it, or will be synchronised when it is back.
            Err(Error::RouterAway { .. }) => return Fit::Stays,
            Err(error) => Some(error.to_string()),
        };
        if let Some(session) = self.store.get_mut(key) {
            session.problem = problem;
        }
        Fit::Stays
    }

    /// What a version of a session can be installed with of what its latching flows have learned: what
    /// it is installed with already, and what comes from where a router reaches it.
    pub(super) fn placeable(&self, session: &Session, version: &SessionSpec) -> Box<[Learned]> {
        let of = |learned| session.spec.still_learned(version, learned);
        let (heard, installed) = (of(&session.heard), of(&session.learned));
        let now = self.clock.unix();
        let heard = heard.iter().filter(|it| {
            let located = || self.registry.locate(it.source.ip(), now);
            installed.contains(it) || located().is_ok()
        });
        heard.copied().collect()
    }

    fn check_change(
        &mut self,
        engine: &Arc<Engine>,
        spec: Arc<SessionSpec>,
        learned: Box<[Learned]>,
    ) -> Result<Change, Error> {
        let key = &spec.key;
        let entries = expand_distinct(&spec, &learned)?;
        let placement = place(&spec, &learned, &self.registry, self.clock.unix())?;
        let shares = shares(&placement, &entries);
        let charges = Charges::of(&spec, &learned, &placement, &self.registry);
        let make_way = self.admit(&spec, &shares, &charges)?;
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
        let victims = engine.evict(self, make_way);
        // Until it is done, packets of before and after may come, and victims have their place beside what the
        // session was.
        let before = |it: &Session| Charges::sum([&it.charges, &victims.charges()].into_iter());
        let held = self.store.get(key).map(|it| before(it).or_more(&charges));
        let former = self.store.charge(key, held.unwrap_or_default());
        self.coming.take(key);
        let coming = Coming {
            spec: spec.clone(),
            learned: learned.clone(),
            heard: Vec::new(),
            routers: shares.keys().cloned().collect(),
        };
        self.coming.add(key.clone(), coming);
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
            learned,
            entries,
            placement,
            charges,
            former,
            shares,
            targets,
            victims,
        })
    }

    /// The session is as it was to become.
    fn commit(&mut self, change: Change, kind: EventKind, acknowledged: &Acknowledgements) {
        let spec = change.spec;
        let coming = self.coming.take(&spec.key);
        let Some(old) = self.store.get(&spec.key) else {
            return;
        };
        // Routers may have told more meanwhile, of either version.
        let mut heard = old.spec.still_learned(&spec, &old.heard).into_vec();
        for learned in coming.into_iter().flat_map(|it| it.heard) {
            replace(&mut heard, learned);
        }
        let expires = match kind {
            EventKind::Modified => self.lease(&spec),
            _ => old.expires,
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
            learned: change.learned,
            heard: heard.into(),
            placement: change.placement,
            charges: change.charges,
            expires,
            installations: change.shares.iter().map(installation).collect(),
            phase: Phase::Settled,
            problem: None,
            created: old.created,
            updated: self.clock.unix(),
            told: old.told,
            record: old.record,
            agent_has_lease: old.agent_has_lease,
            spec,
        };
        session.acknowledge(acknowledged);
        let key = session.spec.key.clone();
        self.store.put(session);
        if kind == EventKind::Modified {
            self.keep_renewed(&key);
        }
    }
}
