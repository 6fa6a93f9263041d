//! All that the lock guards.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{Settings, link::Link, operation::Running, synchronise::Reported};
use crate::model::{
    ids::{RouterId, SessionKey},
    registry::Registry,
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
    /// Sessions of which something failed that is to be tried again.
    pub(super) unsettled: BTreeSet<SessionKey>,
    /// Whether unknown sessions on routers are left in place, because this process is young.
    pub(super) adopting: bool,
    /// While adopting: what attached routers have and nobody has added here.
    pub(super) strays: HashMap<RouterId, HashMap<SessionKey, Reported>>,
    /// While adopting: what a router may still have though this process took it away.
    pub(super) disowned: HashSet<(RouterId, SessionKey)>,
}

impl State {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            registry: Registry::new(settings.max_routers),
            store: Store::default(),
            links: HashMap::new(),
            running: HashMap::new(),
            unsettled: BTreeSet::new(),
            adopting: !settings.adopt_for.is_zero(),
            strays: HashMap::new(),
            disowned: HashSet::new(),
        }
    }

    /// Remembers that a session which the router may still have is not to be adopted from it.
    pub(super) fn disown(&mut self, router: &RouterId, key: &SessionKey) {
        if self.adopting {
            self.disowned.insert((router.clone(), key.clone()));
        }
    }

    /// A stray of this key is no stray any more; tells what it was.
    pub(super) fn take_stray(&mut self, router: &RouterId, key: &SessionKey) -> Option<Reported> {
        self.strays.get_mut(router)?.remove(key)
    }
}
