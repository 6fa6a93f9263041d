//! The grace of a router that comes back to a server which has been started anew, and what routers
//! may still have though they are not to.
//!
//! A server without a store, or with one to which nothing was ever committed, knows no session when it
//! has started, while the routers serve the calls of before. For a while after a router's first attach
//! (`adopt_for`) it therefore leaves in place what it has never known; a call agent that adds its calls again
//! in that time finds them unchanged. What nobody has added by the end is removed, and before the
//! end what a new call is in conflict with. A router that is lost before its grace is over gets
//! another one. What was deleted here is not left in place.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;
use tracing::info;

use super::link::Link;
use crate::{
    engine::Engine,
    model::{
        ids::{RouterId, SessionKey},
        store::Reported,
    },
};

/// How many deleted sessions are remembered at most. When it is reached they are all forgotten: one
/// that a router still brings stays for its grace.
const MAX_BURIED: usize = 65_536;

/// What is known of routers besides what they are to have.
#[derive(Debug, Default)]
pub(in crate::engine) struct Grace {
    /// Whether routers get one at all.
    given: bool,
    /// Those whose grace is over.
    over: HashSet<RouterId>,
    /// In their grace: what attached routers have and nobody has added here.
    strays: HashMap<RouterId, Strays>,
    /// What routers may still have though this process took it away.
    owed: HashMap<RouterId, Owed>,
    /// What agents deleted that routers which are not back yet may bring.
    buried: BTreeSet<SessionKey>,
}

/// Trees, which grow without ever being copied as a whole.
pub(in crate::engine) type Strays = BTreeMap<SessionKey, Reported>;

/// The last set is of the stream that is or was last, those before it of the streams before.
type Owed = Vec<BTreeSet<SessionKey>>;

/// What is to be dropped when the lock is not held.
pub(in crate::engine) type Rest = (Option<Strays>, Owed);

impl Grace {
    pub(in crate::engine) fn new(given: bool) -> Self {
        Self {
            given,
            ..Self::default()
        }
    }

    /// Whether what this router has and nobody has added is left in place.
    pub(super) fn covers(&self, router: &RouterId, key: &SessionKey) -> bool {
        let owed = || self.owed.get(router).into_iter().flatten();
        self.given
            && !self.over.contains(router)
            && !self.buried.contains(key)
            && !owed().any(|keys| keys.contains(key))
    }

    /// A router's stream begins. What it is said to have on an earlier one is out of date.
    pub(in crate::engine) fn attached(&mut self, router: &RouterId) -> Rest {
        if let Some(owed) = self.owed.get_mut(router)
            && owed.last().is_some_and(|keys| !keys.is_empty())
        {
            owed.push(BTreeSet::new());
        }
        (self.strays.remove(router), Vec::new())
    }

    /// A router's stream ended.
    pub(super) fn detached(&mut self, router: &RouterId) -> Rest {
        (self.strays.remove(router), Vec::new())
    }

    /// What a router had when it attached has been compared with what it is to have.
    pub(in crate::engine) fn synchronised(&mut self, router: &RouterId) -> Rest {
        let before = self.owed.get_mut(router).map(|owed| {
            let last = owed.pop().unwrap_or_default();
            std::mem::replace(owed, vec![last])
        });
        (None, before.unwrap_or_default())
    }

    /// A router is not known any more.
    pub(in crate::engine) fn forget(&mut self, router: &RouterId) -> Rest {
        self.over.remove(router);
        let owed = self.owed.remove(router).unwrap_or_default();
        (self.strays.remove(router), owed)
    }

    /// A router has what nobody has added.
    pub(in crate::engine) fn leave(&mut self, router: &RouterId, key: &SessionKey, has: Reported) {
        let strays = self.strays.entry(router.clone()).or_default();
        strays.insert(key.clone(), has);
    }

    /// A stray of this key is no stray any more; tells what it was.
    pub(super) fn take_stray(&mut self, router: &RouterId, key: &SessionKey) -> Option<Reported> {
        self.strays.get_mut(router)?.remove(key)
    }

    /// Whether a router has a stray of this key.
    pub(in crate::engine) fn is_stray(&self, key: &SessionKey) -> bool {
        self.strays.values().any(|keys| keys.contains_key(key))
    }

    /// The routers that have one.
    pub(in crate::engine) fn strays_of(&self, key: &SessionKey) -> Vec<RouterId> {
        let with = self
            .strays
            .iter()
            .filter(|(_, keys)| keys.contains_key(key));
        with.map(|(router, _)| router.clone()).collect()
    }

    /// A router may still have this though it is not to.
    pub(in crate::engine) fn owes(&mut self, router: &RouterId, key: &SessionKey) {
        let owed = self.owed.entry(router.clone()).or_default();
        match owed.last_mut() {
            Some(keys) => drop(keys.insert(key.clone())),
            None => owed.push([key.clone()].into()),
        }
    }

    /// It has it no more, or is to have it again.
    pub(super) fn settles(&mut self, router: &RouterId, key: &SessionKey) {
        for keys in self.owed.get_mut(router).into_iter().flatten() {
            keys.remove(key);
        }
    }

    /// An agent deleted this, so no router that comes back keeps it.
    pub(in crate::engine) fn bury(&mut self, key: &SessionKey) -> BTreeSet<SessionKey> {
        let full = self.buried.len() >= MAX_BURIED;
        let old = if full {
            std::mem::take(&mut self.buried)
        } else {
            BTreeSet::new()
        };
        if self.given {
            self.buried.insert(key.clone());
        }
        old
    }

    /// An agent adds this.
    pub(in crate::engine) fn dig_up(&mut self, key: &SessionKey) {
        self.buried.remove(key);
    }

    fn end(&mut self, router: &RouterId) -> Strays {
        self.over.insert(router.clone());
        self.strays.remove(router).unwrap_or_default()
    }

    fn is_over(&self, router: &RouterId) -> bool {
        !self.given || self.over.contains(router)
    }
}

impl Engine {
    /// When a router's grace is over, removes from it what nobody has added.
    pub(super) async fn end_grace(self: Arc<Self>, link: Arc<Link>) {
        let router = link.router();
        if self.lock().grace.is_over(router) {
            return;
        }
        tokio::select! {
            biased;
            () = sleep(self.settings.adopt_for) => {}
            () = link.closed() => return,
        }
        let strays = {
            let mut state = self.lock();
            if state.registry.attachment(router) != Some(link.attachment()) {
                return;
            }
            state.grace.end(router)
        };
        if strays.is_empty() {
            return;
        }
        let sessions = strays.len();
        info!(%router, sessions, "nobody has added these since the start: removing them");
        let engine = &self;
        stream::iter(strays.into_keys())
            .for_each_concurrent(self.settings.synchronise_window.max(1), |key| async move {
                engine.take_back(router, &key).await;
            })
            .await;
    }
}

/// While the server is young, routers that it does not know may still come back to it.
pub(in crate::engine) async fn grow_up(engine: Arc<Engine>) {
    sleep(engine.settings.adopt_for).await;
    engine.lock().registry.expect_more(false);
}
