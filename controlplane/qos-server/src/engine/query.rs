//! Reading: one session, pages of sessions, routers.

use std::sync::Arc;

use super::{Engine, SessionView};
use crate::model::{
    error::Error,
    ids::{RouterId, SessionKey, UnixMs},
    registry::Router,
};

/// A page of sessions.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order of their keys.
    pub sessions: Vec<Arc<SessionView>>,
    /// Whether more follow.
    pub more: bool,
    /// How many there are in all.
    pub total: u64,
}

/// A router at one moment.
#[derive(Clone, Debug)]
pub struct RouterView {
    /// As the registry has it.
    pub router: Router,
    /// How many sessions it is to have.
    pub sessions: usize,
}

impl Engine {
    /// One session.
    pub fn session(&self, key: &SessionKey) -> Result<Arc<SessionView>, Error> {
        let state = self.lock();
        let session = state
            .store
            .get(key)
            .ok_or_else(|| Error::NoSession(key.clone()))?;
        Ok(state.view(session, UnixMs::now()))
    }

    /// At most `size` sessions after `after`, of one agent or of all.
    pub fn sessions(&self, agent: Option<&str>, after: Option<&SessionKey>, size: usize) -> Page {
        let state = self.lock();
        let now = UnixMs::now();
        // An agent's sessions are neighbours: start at the first, stop behind the last.
        let first = agent.and_then(SessionKey::before_agent);
        let start = after.max(first.as_ref());
        let mut following = state
            .store
            .after(start)
            .take_while(|session| agent.is_none_or(|agent| session.spec.key.agent() == agent));
        let sessions = following
            .by_ref()
            .take(size)
            .map(|session| state.view(session, now))
            .collect();
        let total = agent.map_or(state.store.len() as u64, |agent| {
            state.store.len_of_agent(agent)
        });
        Page {
            sessions,
            more: following.next().is_some(),
            total,
        }
    }

    /// All routers that have attached since the start.
    pub fn routers(&self) -> Vec<RouterView> {
        let state = self.lock();
        let view = |router: &Router| RouterView {
            router: router.clone(),
            sessions: state.store.sessions_on(&router.identity.id),
        };
        state.registry.routers().map(view).collect()
    }

    /// One of them.
    pub fn router(&self, id: &RouterId) -> Result<RouterView, Error> {
        let state = self.lock();
        let router = state
            .registry
            .router(id)
            .ok_or_else(|| Error::NoRouter(id.clone()))?;
        Ok(RouterView {
            router: router.clone(),
            sessions: state.store.sessions_on(id),
        })
    }
}
