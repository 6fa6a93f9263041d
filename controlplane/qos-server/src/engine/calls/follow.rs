//! Keeps sessions where their addresses are, and watchers told, when what routers reach changes.

use std::sync::Arc;

use super::{change::Fit, moves::Lane};
use crate::{
    engine::Engine,
    model::{ids::SessionKey, store::Phase},
};

/// Runs until the engine stops. Several changes during one walk make one further walk.
pub(in crate::engine) async fn follow(engine: Arc<Engine>) {
    while !*engine.stopping.borrow() {
        engine.reach_changed.notified().await;
        walk(&engine).await;
        engine.links_changed.notify_one();
    }
}

/// Looks at all sessions. It waits for none of them: who has to be moved, or looked at when an
/// operation on it has ended, is left to those who move sessions.
pub(in crate::engine) async fn walk(engine: &Arc<Engine>) {
    let mut last: Option<SessionKey> = None;
    loop {
        match look(engine, last.as_ref()) {
            Some(end) => last = Some(end),
            None => return,
        }
        tokio::task::yield_now().await;
    }
}

/// Looks at the next sessions; tells where it stopped.
fn look(engine: &Engine, after: Option<&SessionKey>) -> Option<SessionKey> {
    let mut state = engine.lock();
    let keys = state.slice(state.store.after(after).map(|it| &it.spec.key));
    let mut moves = false;
    for key in &keys {
        if state.running.get(key).is_some() {
            // It may have been placed by what was true before.
            state.moves.busy(key);
            continue;
        }
        let settled = state.store.get(key).map(|it| it.phase) == Some(Phase::Settled);
        if settled && matches!(state.fit(key), Fit::Moves) {
            state.moves.add(Lane::Ordinary, key.clone());
            moves = true;
        }
        engine.tell_state(&mut state, key);
    }
    drop(state);
    if moves {
        engine.moves_due.ring();
    }
    keys.last().cloned()
}
