//! DeleteSession.

use std::sync::Arc;

use tracing::debug;

use super::{
    Engine,
    events::{Event, EventKind},
    operation::{Outcome, Work},
};
use crate::model::{
    error::Error,
    ids::{SessionKey, UnixMs},
    store::Phase,
};

impl Engine {
    /// Removes a session from its routers and from here, and tells how it was.
    pub async fn delete(self: &Arc<Self>, key: SessionKey) -> Outcome {
        let owned = key.clone();
        self.operate(&key, Work::Delete, move |engine| {
            engine.delete_now(owned.clone())
        })
        .await
    }

    async fn delete_now(self: Arc<Self>, key: SessionKey) -> Outcome {
        let (was, routers) = {
            let mut state = self.lock();
            let Some(session) = state.store.get(&key) else {
                return Err(Error::NoSession(key));
            };
            let was = state.view(session, UnixMs::now());
            let routers = session.installations.keys().cloned().collect();
            if let Some(session) = state.store.get_mut(&key) {
                session.phase = Phase::Removing;
            }
            (was, routers)
        };
        self.withdraw(&key, routers).await;
        let mut state = self.lock();
        state.store.remove(&key);
        if self.events.receiver_count() > 0 {
            // Fails only when the last watcher has just gone.
            let _ = self.events.send(Arc::new(Event {
                kind: EventKind::Deleted,
                session: was.clone(),
            }));
        }
        debug!(session = %key, "deleted");
        Ok(was)
    }
}
