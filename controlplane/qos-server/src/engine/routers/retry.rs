//! Tries again what failed and nobody will ask for again: an installation that a router refused
//! when it was synchronised, a removal that it refused, a session that could not be moved or put
//! back. What was in the way is mostly another call, and goes with it.

use std::{ops::Bound, sync::Arc};

use futures_util::{StreamExt as _, stream};
use tokio::{task::yield_now, time::sleep};

use super::install::Target;
use crate::{
    engine::{
        Engine,
        calls::moves::{Lane, WINDOW},
    },
    model::{
        ids::{Revision, RouterId, SessionKey},
        placement::shares,
    },
};

/// Refused removals looked at under one hold of the lock.
const CHUNK: usize = 64;

/// A removal that a router has refused.
type Refused = (SessionKey, RouterId);

/// Tries the sessions of a lane. Runs until the engine stops.
pub(in crate::engine) async fn retry(engine: Arc<Engine>, lane: Lane) {
    while !*engine.stopping.borrow() {
        sleep(engine.settings.retry_every).await;
        let (due, refused) = due(&engine, lane).await;
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

/// Takes what is to be tried again in a lane: sessions, and removals that were refused.
pub(in crate::engine) async fn due(engine: &Engine, lane: Lane) -> (Vec<SessionKey>, Vec<Refused>) {
    let mut last: Option<SessionKey> = None;
    let mut due = Vec::new();
    while let Some(end) = engine.take_unsettled(lane, last.as_ref(), &mut due) {
        last = Some(end);
        yield_now().await;
    }
    let (mut last, mut refused) = (None, Vec::new());
    while let Some(end) = engine.take_refused(lane, last.as_ref(), &mut refused) {
        last = Some(end);
        yield_now().await;
    }
    (due, refused)
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
        let keys = state.slice(following);
        for key in &keys {
            if state.lane(key, self) == lane {
                state.unsettled.remove(key);
                due.push(key.clone());
            }
        }
        keys.last().cloned()
    }

    /// Takes those of a lane out of the next refused removals; tells where it stopped.
    fn take_refused(
        &self,
        lane: Lane,
        after: Option<&Refused>,
        due: &mut Vec<Refused>,
    ) -> Option<Refused> {
        let mut state = self.lock();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let following = state.refused.range((start, Bound::Unbounded));
        let removals: Vec<Refused> = following.take(CHUNK).cloned().collect();
        let timeout = self.settings.acknowledge_timeout;
        for removal in &removals {
            let link = state.links.get(&removal.1);
            let is_mute = link.is_some_and(|it| it.is_mute(timeout));
            if is_mute == (lane == Lane::Mute) {
                state.refused.remove(removal);
                due.push(removal.clone());
            }
        }
        removals.last().cloned()
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
            // A failure is noted at the session, and tried again in the next round.
            drop(self.install_noted(key, revision, target, patience).await);
        }
    }

    /// The shares that attached routers of a session have not acknowledged.
    fn lacking(&self, key: &SessionKey) -> Option<(Revision, Vec<Target>)> {
        let state = self.lock();
        let session = state.store.get(key)?;
        let revision = session.spec.revision;
        let shares = shares(&session.placement, &session.entries()).into_iter();
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
