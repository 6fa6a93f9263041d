//! Keeps sessions where their addresses are, and watchers told, when what routers reach changes.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::{Engine, change::Fit};
use crate::model::{ids::SessionKey, store::Phase};

/// Sessions looked at under one hold of the lock.
const CHUNK: usize = 256;
/// Sessions moved at once.
const WINDOW: usize = 32;

/// Runs until the engine stops. Several changes during one walk make one further walk.
pub(super) async fn follow(engine: Arc<Engine>) {
    while !*engine.stopping.borrow() {
        engine.reach_changed.notified().await;
        walk(&engine).await;
    }
}

async fn walk(engine: &Arc<Engine>) {
    let mut last: Option<SessionKey> = None;
    loop {
        let (moving, end) = look(engine, last.as_ref());
        stream::iter(moving)
            .for_each_concurrent(WINDOW, |key| async move { engine.follow_one(&key).await })
            .await;
        match end {
            Some(end) => last = Some(end),
            None => return,
        }
        tokio::task::yield_now().await;
    }
}

/// Looks at the next sessions: which have to be moved, and where it stopped.
fn look(engine: &Engine, after: Option<&SessionKey>) -> (Vec<SessionKey>, Option<SessionKey>) {
    let mut state = engine.lock();
    let keys: Vec<SessionKey> = state
        .store
        .after(after)
        .take(CHUNK)
        .map(|session| session.spec.key.clone())
        .collect();
    let end = keys.last().cloned();
    let moving = keys.into_iter().filter(|key| {
        let settled = state
            .store
            .get(key)
            .is_some_and(|it| it.phase == Phase::Settled);
        if !settled || state.running.contains_key(key) {
            // It may have been placed by what was true before: look again after the operation.
            return true;
        }
        let moves = matches!(state.fit(key), Fit::Moves);
        engine.tell_state(&mut state, key);
        moves
    });
    (moving.collect(), end)
}
