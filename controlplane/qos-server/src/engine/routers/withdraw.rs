//! Taking a session away from routers, and how long that is waited for.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::link::{Command, NoReply, Patience};
use crate::{
    engine::{Engine, state::State},
    model::ids::{RouterId, SessionKey},
};

/// The least that routers get to undo a change.
const LEAST_TO_UNDO: Duration = Duration::from_millis(100);

impl Engine {
    /// Until when an operation waits for what it undoes, or takes away in its wake: its own deadline
    /// or, when that has passed, a little more for those who answer.
    pub(in crate::engine) fn undone_by(&self, deadline: Instant) -> Instant {
        let least = (self.settings.acknowledge_timeout / 20).max(LEAST_TO_UNDO);
        deadline.max(self.clock().instant() + least)
    }

    /// Takes a session away from routers; tells which of them have not confirmed it by the
    /// deadline. Those remove it by the order of their stream when they answer again, are asked
    /// again if they refused, or learn of it by the differences when they come back.
    pub(in crate::engine) async fn withdraw(
        self: &Arc<Self>,
        key: &SessionKey,
        routers: Vec<RouterId>,
        deadline: Instant,
    ) -> Vec<RouterId> {
        let removals = routers.into_iter().map(|router| async move {
            let mut removal = Box::pin(self.clone().remove_from(router.clone(), key.clone()));
            match timeout_at(deadline, &mut removal).await {
                Ok(true) => None,
                Ok(false) => Some(router),
                Err(_) => {
                    warn!(%router, session = %key, "removal not confirmed yet");
                    self.lock().owes(&router, key);
                    let (engine, key, owing) = (self.clone(), key.clone(), router.clone());
                    tokio::spawn(async move {
                        if removal.await {
                            engine.lock().grace.settles(&owing, &key);
                        }
                    });
                    Some(router)
                }
            }
        });
        join_all(removals).await.into_iter().flatten().collect()
    }

    /// Whether the router has confirmed it. Waits for its answer as long as its stream lasts.
    async fn remove_from(self: Arc<Self>, router: RouterId, key: SessionKey) -> bool {
        let link = {
            let mut state = self.lock();
            state.grace.take_stray(&router, &key);
            state.links.get(&router).cloned()
        };
        let patience = Patience::WhileTheStreamLasts(self.settings.acknowledge_timeout);
        let reply = match link {
            Some(link) => link.ask(Command::Remove(key.clone()), patience).await,
            None => Err(NoReply::Lost),
        };
        match reply {
            Ok(Ok(_)) => true,
            Ok(Err(refusal)) => {
                warn!(%router, session = %key, %refusal, "removal refused; will be tried again");
                self.lock().refuses(&router, &key);
                false
            }
            Err(_) => {
                self.lock().owes(&router, &key);
                false
            }
        }
    }

    /// Removes a session from a router that is not to have it.
    pub(super) async fn take_back(self: &Arc<Self>, router: &RouterId, key: &SessionKey) {
        let _claim = self.claim(key).await;
        if self.lock().store.is_on(key, router) {
            return;
        }
        let deadline = self.clock().instant() + self.settings.acknowledge_timeout;
        let pending = self.withdraw(key, vec![router.clone()], deadline).await;
        if pending.is_empty() {
            self.lock().grace.settles(router, key);
        }
    }
}

impl State {
    /// A router may still have a session that it is not to have.
    fn owes(&mut self, router: &RouterId, key: &SessionKey) {
        if self.registry.router(router).is_some() {
            self.grace.owes(router, key);
        }
    }

    /// So may one that has refused to remove it, which is tried again.
    pub(in crate::engine) fn refuses(&mut self, router: &RouterId, key: &SessionKey) {
        self.owes(router, key);
        self.refused.insert((key.clone(), router.clone()));
    }
}
