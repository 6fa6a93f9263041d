//! Tries again what failed and nobody will ask for again: an installation that a router refused
//! when it was synchronised, a removal that it refused, a session that could not be moved or put
//! back. What was in the way is mostly another call, and goes with it.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;

use super::{
    Engine,
    add::Target,
    moves::{Lane, WINDOW},
};
use crate::model::{
    entries::expand,
    ids::{Revision, RouterId, SessionKey},
    placement::shares,
};

/// Sessions looked at under one hold of the lock.
const CHUNK: usize = 64;

/// Tries the sessions of a lane. Runs until the engine stops.
pub(super) async fn retry(engine: Arc<Engine>, lane: Lane) {
    while !*engine.stopping.borrow() {
        sleep(engine.settings.retry_every).await;
        let mut last: Option<SessionKey> = None;
        let mut due = Vec::new();
        while let Some(end) = engine.take_unsettled(lane, last.as_ref(), &mut due) {
            last = Some(end);
            tokio::task::yield_now().await;
        }
        let refused = engine.take_refused(lane);
        let engine = &engine;
        stream::iter(refused)
            .for_each_concurrent(WINDOW, |(key, router)| async move {
                // One that is away learns of it when it comes back.
                let attached = engine.lock().registry.attachment(&router).is_some();
                if attached {
                    engine.take_back(&router, &key).await;
                }
            })
            .await;
        stream::iter(due)
            .for_each_concurrent(
                WINDOW,
                |key| async move { engine.try_again(&key, lane).await },
            )
            .await;
    }
}

impl Engine {
    /// Takes those of a lane out of the next unsettled sessions; tells where it stopped.
    fn take_unsettled(
        &self,
        lane: Lane,
        after: Option<&SessionKey>,
        due: &mut Vec<SessionKey>,
    ) -> Option<SessionKey> {
        let mut state = self.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let following = state.unsettled.range((start, Bound::Unbounded));
        let keys: Vec<SessionKey> = following.take(CHUNK).cloned().collect();
        for key in &keys {
            if state.lane(key, self) == lane {
                state.unsettled.remove(key);
                due.push(key.clone());
            }
        }
        keys.last().cloned()
    }

    /// Takes the refused removals of a lane.
    fn take_refused(&self, lane: Lane) -> BTreeSet<(SessionKey, RouterId)> {
        let mut state = self.lock();
        let state = &mut *state;
        let timeout = self.settings.acknowledge_timeout;
        let mute = |router: &RouterId| {
            state
                .links
                .get(router)
                .is_some_and(|it| it.is_mute(timeout))
        };
        let refused = std::mem::take(&mut state.refused);
        let (due, later) = refused
            .into_iter()
            .partition(|(_, router)| mute(router) == (lane == Lane::Mute));
        state.refused = later;
        due
    }

    async fn try_again(self: &Arc<Self>, key: &SessionKey, lane: Lane) {
        self.follow_one(key, lane).await;
        let Some(_claim) = self.claim_idle(key) else {
            self.lock().unsettled.insert(key.clone());
            return;
        };
        let patience = self.until_timeout();
        let Some((revision, lacking)) = self.lacking(key) else {
            return;
        };
        for target in lacking {
            let link = target.link.clone();
            let installed = self.install(key, revision, target, patience).await;
            self.note(&link, key, installed, false);
        }
    }

    /// The shares that attached routers of a session have not acknowledged.
    fn lacking(&self, key: &SessionKey) -> Option<(Revision, Vec<Target>)> {
        let state = self.lock();
        let session = state.store.get(key)?;
        let revision = session.spec.revision;
        let shares = shares(&session.placement, &expand(&session.spec)).into_iter();
        let lacking = shares.filter_map(|(router, share)| {
            let link = state.links.get(&router)?;
            let there = session.installations.get(&router)?;
            (!there.holds(revision, link.attachment())).then(|| Target {
                link: link.clone(),
                share,
            })
        });
        Some((revision, lacking.collect()))
    }
}
