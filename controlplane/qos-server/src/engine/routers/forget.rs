//! Routers that are gone for good: they are forgotten when an operator says so, when they have been
//! away for long, or when there is no room for others.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::info;

use crate::{
    engine::{Engine, state::State},
    events::Kind,
    model::{error::Error, ids::RouterId, registry::ClaimChange},
};

/// The longest between two looks for routers that have been away for too long.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Engine {
    /// Forgets a router that is away. Its sessions go to the routers that reach their addresses
    /// now, or wait for it to come back. Tells how many it has.
    ///
    /// Must be driven to its end: a caller who may go away gives it a task of its own.
    pub async fn forget_router(&self, id: &RouterId) -> Result<usize, Error> {
        let mut turn = self.reports.lock().await;
        let (sessions, forgotten) = {
            let mut state = self.lock();
            match state.registry.router(id) {
                None => return Err(Error::NoRouter(id.clone())),
                Some(router) if router.attachment().is_some() => {
                    return Err(Error::RouterAttached(id.clone()));
                }
                Some(_) => {}
            }
            (state.store.sessions_on(id), state.forget(id))
        };
        info!(router = %id, sessions, "forgotten");
        self.note(Kind::RouterForgotten, id, || {
            format!("forgotten, with {sessions} calls on it")
        });
        self.reach_changed.notify_one();
        if let (Some(router), _) = &forgotten {
            self.strike_router(&mut turn, id);
            self.sweep(ClaimChange::forgotten(router)).await;
        }
        Ok(sessions)
    }
}

impl State {
    /// The router that is missed least.
    pub(super) fn dispensable(&self) -> Option<RouterId> {
        let is_idle = |id: &RouterId| self.store.sessions_on(id) == 0;
        self.registry.least_missed(is_idle)
    }
}

/// Forgets routers that have been away for too long.
pub(in crate::engine) async fn expire(engine: Arc<Engine>) {
    let after = engine.settings.forget_routers_after;
    if after.is_zero() {
        return;
    }
    while !*engine.stopping.borrow() {
        sleep((after / 10).clamp(Duration::from_millis(1), LOOK_EVERY)).await;
        let then = engine.clock().unix().less(after);
        let lost = engine.lock().registry.lost_before(then);
        for router in lost {
            // One that has attached meanwhile stays.
            drop(engine.forget_router(&router).await);
        }
    }
}
