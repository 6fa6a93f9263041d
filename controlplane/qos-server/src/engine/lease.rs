//! Removes sessions whose lease has run out.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::sleep};
use tracing::info;

use super::{Engine, Outcome, events::Reaper, state::State};
use crate::{
    events::Kind,
    model::{error::Error, ids::SessionKey, session::SessionSpec},
};

/// How often it is looked for leases that have run out.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Sessions that are removed at once.
const WINDOW: usize = 256;
/// How long a router is waited for that is to remove one. Nobody waits for the answer, and one that is
/// silent must not hold up the others: it removes the session when it answers again.
const PATIENCE: Duration = Duration::from_secs(1);

impl State {
    /// Begins the lease of a session anew that is asked for as it is; tells how it stands.
    pub(super) fn renewed(&mut self, spec: &SessionSpec) -> Outcome {
        let expires = self.lease(spec);
        self.store.renew(&spec.key, expires);
        let session = self.store.get(&spec.key);
        let session = session.ok_or_else(|| Error::NoSession(spec.key.clone()))?;
        Ok(self.view(session))
    }
}

/// Runs until the engine stops.
pub(super) async fn reap(engine: Arc<Engine>) {
    let window = Arc::new(Semaphore::new(WINDOW));
    while !*engine.stopping.borrow() {
        sleep(LOOK_EVERY).await;
        loop {
            // Closed never.
            let Ok(place) = window.clone().acquire_owned().await else {
                return;
            };
            let Some(key) = engine.take_expired() else {
                break;
            };
            let engine = engine.clone();
            tokio::spawn(async move {
                engine.expire(&key).await;
                drop(place);
            });
        }
    }
}

impl Engine {
    fn take_expired(&self) -> Option<SessionKey> {
        let mut state = self.lock();
        let now = state.clock.moment();
        state.store.take_expired(now)
    }

    async fn expire(self: &Arc<Self>, key: &SessionKey) {
        let _claim = self.claim(key).await;
        // It may have been renewed while it was waited for, or be gone.
        let is_over = {
            let state = self.lock();
            let expires = state.store.get(key).and_then(|session| session.expires);
            expires.is_some_and(|at| at <= state.clock.moment())
        };
        if !is_over {
            return;
        }
        let deadline = self.clock().instant() + self.settings.acknowledge_timeout.min(PATIENCE);
        let removed = self.take_away(key, deadline, Some(Reaper::Lease)).await;
        if removed.is_some() {
            self.metrics.reaped(Reaper::Lease);
            self.note(Kind::CallRemoved, key, || {
                format!("removed: {}", Reaper::Lease)
            });
            info!(session = %key, reason = %Reaper::Lease, "removed");
        }
    }
}
