//! Tries again what failed and nobody will ask for again: an installation that a router refused
//! when it was synchronised, a removal that it refused, a session that could not be moved or put
//! back. What was in the way is mostly another call, and goes with it.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::{Engine, add::Target};
use crate::model::{
    entries::expand,
    ids::{Revision, SessionKey},
    placement::shares,
};

/// Sessions tried at once.
const WINDOW: usize = 32;

/// Runs until the engine stops.
pub(super) async fn retry(engine: Arc<Engine>) {
    while !*engine.stopping.borrow() {
        sleep(engine.settings.retry_every).await;
        let (unsettled, refused) = {
            let mut state = engine.lock();
            let unsettled = std::mem::take(&mut state.unsettled);
            (unsettled, std::mem::take(&mut state.refused))
        };
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
        stream::iter(unsettled)
            .for_each_concurrent(WINDOW, |key| async move { engine.try_again(&key).await })
            .await;
    }
}

impl Engine {
    async fn try_again(self: &Arc<Self>, key: &SessionKey) {
        self.follow_one(key).await;
        let _claim = self.claim(key).await;
        let deadline = Instant::now() + self.settings.acknowledge_timeout;
        let Some((revision, lacking)) = self.lacking(key) else {
            return;
        };
        for target in lacking {
            let link = target.link.clone();
            let installed = self.install(key, revision, target, deadline).await;
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
