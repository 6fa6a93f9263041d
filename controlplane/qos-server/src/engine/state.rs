//! All that the lock guards.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Clock, Link, Settings,
    calls::{latch::Coming, moves::Moves, operation::Running},
    routers::grace::{Grace, Rest},
};
use crate::{
    journal::Contents,
    model::{
        admission::Policy,
        ids::{RouterId, SessionKey},
        leases::{Moment, agents::Agents, silence::Silences},
        registry::{Registry, Router},
        session::SessionSpec,
        shards::Shards,
        store::Store,
    },
};

/// Flows whose place is looked up under one hold of the lock.
const FLOWS: usize = 32;

/// All that the lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) registry: Registry,
    pub(super) store: Store,
    pub(super) links: HashMap<RouterId, Arc<Link>>,
    /// Operations that run now, by session.
    pub(super) running: Shards<SessionKey, Running>,
    /// What sessions are being changed to.
    pub(super) coming: Shards<SessionKey, Coming>,
    /// How many wait for one of these to end.
    pub(super) waiting: usize,
    /// Sessions whose place is to be looked at.
    pub(super) moves: Moves,
    /// Sessions of which something failed that is to be tried again.
    pub(super) unsettled: BTreeSet<SessionKey>,
    /// Removals that routers have refused and that are to be tried again.
    pub(super) refused: BTreeSet<(SessionKey, RouterId)>,
    /// What routers have that they are not to have.
    pub(super) grace: Grace,
    /// The leases of agents.
    pub(super) agents: Agents,
    /// Sessions without packets.
    pub(super) silences: Silences,
    /// Whether links refuse calls.
    pub(super) admission: Policy,
    /// The same as the engine's.
    pub(super) clock: Clock,
}

impl State {
    pub(super) fn new(settings: &Settings) -> Self {
        let has_grace = !settings.adopt_for.is_zero();
        let mut registry = Registry::new(settings.max_routers);
        registry.expect_more(has_grace);
        Self {
            registry,
            store: Store::default(),
            links: HashMap::new(),
            running: Shards::default(),
            coming: Shards::default(),
            waiting: 0,
            moves: Moves::default(),
            unsettled: BTreeSet::new(),
            refused: BTreeSet::new(),
            grace: Grace::new(has_grace),
            agents: Agents::default(),
            silences: Silences::default(),
            admission: settings.admission,
            clock: settings.clock.clone(),
        }
    }

    /// What a store holds. Routers that come back have a grace only if the store is new; otherwise it
    /// says what they are to have.
    pub(super) fn restored(settings: &Settings, contents: Contents, is_new: bool) -> Self {
        let mut state = Self::new(settings);
        let expects_more = state.registry.expects_more();
        state.registry = contents.registry;
        state.registry.expect_more(expects_more);
        state.store = contents.store;
        state.grace = Grace::new(is_new && expects_more);
        let until = state.clock.moment().plus(settings.agent_ttl);
        for agent in contents.agents {
            state.agents.renew(&agent, until);
        }
        // The agents could not renew them meanwhile.
        for key in contents.leased {
            let spec = state.store.get(&key).map(|session| session.spec.clone());
            let expires = spec.and_then(|spec| state.lease(&spec));
            state.store.renew(&key, expires);
        }
        state
    }

    /// When the lease of a session runs out that begins now, if it has one.
    pub(super) fn lease(&self, spec: &SessionSpec) -> Option<Moment> {
        spec.lease().map(|lease| self.clock.moment().plus(lease))
    }

    /// Forgets a router, so that its sessions belong to those who reach their addresses now. What
    /// is returned is to be dropped without the lock.
    pub(super) fn forget(&mut self, router: &RouterId) -> (Option<Router>, Rest) {
        (self.registry.forget(router), self.grace.forget(router))
    }

    /// The first of these sessions: so many that looking up the places of all their flows takes no
    /// long hold of the lock.
    pub(super) fn slice<'a>(&self, keys: impl Iterator<Item = &'a SessionKey>) -> Vec<SessionKey> {
        let mut flows = 0;
        let has_room = |key: &&SessionKey| {
            let has_room = flows < FLOWS;
            let session = self.store.get(key);
            flows += session.map_or(1, |session| session.spec.flows.len());
            has_room
        };
        keys.take_while(has_room).cloned().collect()
    }
}
