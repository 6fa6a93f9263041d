//! All that the lock guards.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Settings,
    grace::{Grace, Rest},
    link::Link,
    moves::Moves,
    operation::Running,
};
use crate::model::{
    ids::{RouterId, SessionKey},
    registry::{Registry, Router},
    store::Store,
};

/// All that the lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) registry: Registry,
    pub(super) store: Store,
    pub(super) links: HashMap<RouterId, Arc<Link>>,
    /// Operations that run now, by session.
    pub(super) running: HashMap<SessionKey, Running>,
    /// Sessions whose place is to be looked at.
    pub(super) moves: Moves,
    /// Sessions of which something failed that is to be tried again.
    pub(super) unsettled: BTreeSet<SessionKey>,
    /// Removals that routers have refused and that are to be tried again.
    pub(super) refused: BTreeSet<(SessionKey, RouterId)>,
    /// What routers have that they are not to have.
    pub(super) grace: Grace,
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
            running: HashMap::new(),
            moves: Moves::default(),
            unsettled: BTreeSet::new(),
            refused: BTreeSet::new(),
            grace: Grace::new(has_grace),
        }
    }

    /// Forgets a router, so that its sessions belong to those who reach their addresses now. What
    /// is returned is to be dropped without the lock.
    pub(super) fn forget(&mut self, router: &RouterId) -> (Option<Router>, Rest) {
        (self.registry.forget(router), self.grace.forget(router))
    }
}
