//! DeleteSession.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::debug;

use super::operation::{Outcome, Work};
use crate::{
    engine::{Engine, Event, EventKind, SessionView, state::State},
    journal::Committed,
    model::{
        error::Error,
        ids::{RouterId, SessionKey},
        leases::Reaper,
        store::Phase,
    },
};

/// A session that is being removed.
#[derive(Debug)]
pub(super) struct Leaving {
    /// How it was.
    was: Arc<SessionView>,
    /// The routers that may have it.
    routers: Vec<RouterId>,
}

impl Engine {
    /// Removes a session from its routers and from here, and tells how it was and which routers
    /// have not confirmed.
    pub async fn delete(self: &Arc<Self>, key: SessionKey) -> Outcome {
        let owned = key.clone();
        self.operate(&key, Work::Delete, move |engine| {
            engine.delete_now(owned.clone())
        })
        .await
    }

    async fn delete_now(self: Arc<Self>, key: SessionKey) -> Outcome {
        let deadline = self.clock().instant() + self.settings.acknowledge_timeout;
        match self.take_away(&key, deadline, None).await {
            Some(was) => {
                debug!(session = %key, "deleted");
                Ok(was)
            }
            None => self.delete_unknown(key, deadline).await,
        }
    }

    /// Removes a session for an agent or, without being asked, for a reaper; waits for routers until
    /// the deadline. Absent if there is none.
    pub(in crate::engine) async fn take_away(
        self: &Arc<Self>,
        key: &SessionKey,
        deadline: Instant,
        reaper: Option<Reaper>,
    ) -> Option<Arc<SessionView>> {
        let (leaving, committed) = self.begin_delete(&mut self.lock(), key)?;
        committed.done().await;
        Some(self.end_delete(key, leaving, deadline, reaper).await)
    }

    /// Commits that a session is no more; absent if there is none.
    pub(super) fn begin_delete(
        &self,
        state: &mut State,
        key: &SessionKey,
    ) -> Option<(Leaving, Committed)> {
        let was = state.view(state.store.get(key)?);
        let session = state.store.get_mut(key)?;
        session.phase = Phase::Removing;
        let routers = session.installations.keys().cloned().collect();
        Some((Leaving { was, routers }, self.strike(state, key)))
    }

    /// Removes a session from its routers, for which it waits until the deadline, and from here.
    pub(super) async fn end_delete(
        self: &Arc<Self>,
        key: &SessionKey,
        Leaving { was, routers }: Leaving,
        deadline: Instant,
        reaper: Option<Reaper>,
    ) -> Arc<SessionView> {
        let counted = self.last_counters(&was, reaper).await;
        let deadline = self.undone_by(deadline);
        let pending = self.withdraw(key, routers, deadline).await;
        let was = if pending.is_empty() {
            was
        } else {
            let was = SessionView::clone(&was);
            Arc::new(SessionView { pending, ..was })
        };
        let mut state = self.lock();
        let removed = state.remove(key);
        state.silences.forget(key);
        let buried = state.registry.expects_more().then(|| state.grace.bury(key));
        if self.events.receiver_count() > 0 {
            // Fails only when the last watcher has just gone.
            let _ = self.events.send(Arc::new(Event {
                kind: EventKind::Deleted,
                session: was.clone(),
                reaper,
            }));
        }
        drop(state);
        drop((removed, buried));
        self.record(&was, reaper, counted);
        was
    }

    /// Routers may have it all the same, from before the server's start.
    async fn delete_unknown(self: &Arc<Self>, key: SessionKey, deadline: Instant) -> Outcome {
        let (strays, buried) = {
            let mut state = self.lock();
            (state.grace.strays_of(&key), state.grace.bury(&key))
        };
        drop(buried);
        self.withdraw(&key, strays, deadline).await;
        Err(Error::NoSession(key))
    }
}
