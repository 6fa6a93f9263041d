//! Removes sessions whose lease has run out, or that are silent.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::sleep};
use tracing::info;

use crate::{
    engine::{Engine, Outcome, calls::operation::Claim, state::State},
    events::Kind,
    model::{error::Error, ids::SessionKey, leases::Reaper, session::SessionSpec},
};

/// How often it is looked for leases that have run out.
pub(in crate::engine) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Sessions that are removed at once.
const WINDOW: usize = 256;
/// How long a router is waited for that is to remove one. Nobody waits for the answer, and one that is
/// silent must not hold up the others: it removes the session when it answers again.
pub(in crate::engine) const PATIENCE: Duration = Duration::from_secs(1);

impl State {
    /// Begins the lease of a session anew that is asked for as it is; tells how it stands.
    pub(in crate::engine) fn renewed(&mut self, spec: &SessionSpec) -> Outcome {
        let expires = self.lease(spec);
        self.store.renew(&spec.key, expires);
        self.keep_renewed(&spec.key);
        let session = self.store.get(&spec.key);
        let session = session.ok_or_else(|| Error::NoSession(spec.key.clone()))?;
        Ok(self.view(session))
    }
}

/// Runs until the engine stops.
pub(in crate::engine) async fn reap(engine: Arc<Engine>) {
    let window = Arc::new(Semaphore::new(WINDOW));
    while !*engine.stopping.borrow() {
        sleep(LOOK_EVERY).await;
        loop {
            // Closed never.
            let Ok(place) = window.clone().acquire_owned().await else {
                return;
            };
            let Some((key, reaper)) = engine.take_due() else {
                break;
            };
            let engine = engine.clone();
            tokio::spawn(async move {
                match reaper {
                    Reaper::Lease => engine.expire(&key).await,
                    _ => engine.reap_silent(&key, reaper).await,
                }
                drop(place);
            });
        }
    }
}

impl Engine {
    /// The next session that goes by itself. Agents are asked for silent ones on the way.
    fn take_due(&self) -> Option<(SessionKey, Reaper)> {
        let expired = {
            let mut state = self.lock();
            let now = state.clock.moment();
            state.store.take_expired(now)
        };
        match expired {
            Some(key) => Some((key, Reaper::Lease)),
            None => self.take_silent(),
        }
    }

    async fn expire(self: &Arc<Self>, key: &SessionKey) {
        let claim = self.claim(key).await;
        // It may have been renewed while it was waited for, or be gone.
        let is_over = {
            let state = self.lock();
            let expires = state.store.get(key).and_then(|session| session.expires);
            expires.is_some_and(|at| at <= state.clock.moment())
        };
        if is_over {
            self.reap_claimed(key, Reaper::Lease, &claim).await;
        }
    }

    /// Removes a session that no agent deletes.
    pub(super) async fn reap_claimed(
        self: &Arc<Self>,
        key: &SessionKey,
        reaper: Reaper,
        _claim: &Claim,
    ) {
        let deadline = self.clock().instant() + self.settings.acknowledge_timeout.min(PATIENCE);
        let removed = self.take_away(key, deadline, Some(reaper)).await;
        if removed.is_some() {
            self.note_reaped(key, reaper);
        }
    }

    /// Tells operators which reaper has removed a session.
    pub(in crate::engine) fn note_reaped(&self, key: &SessionKey, reaper: Reaper) {
        self.metrics.reaped(reaper);
        self.note(Kind::CallRemoved, key, || format!("removed: {reaper}"));
        info!(session = %key, %reaper, "removed");
    }
}
