//! Reading: one session, pages of sessions, routers.

use std::{sync::Arc, time::Duration};

use tokio::task::yield_now;
pub use voicelane_proto::v1::RouterState as Standing;

use crate::{
    engine::{Engine, SessionView, state::State},
    model::{
        error::Error,
        ids::{RouterId, SessionKey},
        registry::{Presence, Router},
        store::Session,
    },
};

/// Sessions looked at under one hold of the lock.
const CHUNK: usize = 256;
/// A router that has owed an answer for longer than this is slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);

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
    /// How it answers.
    pub standing: Standing,
    /// How long it has owed an answer without giving any.
    pub owes_for: Option<Duration>,
    /// Commands that it has not answered.
    pub outstanding: u64,
}

impl Engine {
    /// How many sessions and routers there are.
    pub fn size(&self) -> (usize, usize) {
        let state = self.lock();
        (state.store.len(), state.registry.len())
    }

    /// One session.
    pub fn session(&self, key: &SessionKey) -> Result<Arc<SessionView>, Error> {
        let state = self.lock();
        let session = state
            .store
            .get(key)
            .ok_or_else(|| Error::NoSession(key.clone()))?;
        Ok(state.view(session))
    }

    /// At most `size` sessions after `after`, of one agent or of all.
    pub fn sessions(&self, agent: Option<&str>, after: Option<&SessionKey>, size: usize) -> Page {
        let state = self.lock();
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
            .map(|session| state.view(session))
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

    /// Looks at all sessions, in slices, so that nobody waits long for the lock.
    pub(super) async fn each_session(&self, mut look: impl FnMut(&State, &Session) + Send) {
        let mut last: Option<SessionKey> = None;
        loop {
            {
                let state = self.lock();
                let mut end = None;
                for session in state.store.after(last.as_ref()).take(CHUNK) {
                    look(&state, session);
                    end = Some(&session.spec.key);
                }
                match end {
                    Some(end) => last = Some(end.clone()),
                    None => return,
                }
            }
            yield_now().await;
        }
    }

    /// At most `size` routers that have attached since the start, after `after`.
    pub fn routers(&self, after: Option<&RouterId>, size: usize) -> Vec<RouterView> {
        let state = self.lock();
        let routers = state.registry.after(after).take(size);
        routers.map(|router| self.view(&state, router)).collect()
    }

    /// How many routers have attached since the start.
    pub fn count_routers(&self) -> usize {
        self.lock().registry.len()
    }

    /// One of them.
    pub fn router(&self, id: &RouterId) -> Result<RouterView, Error> {
        let state = self.lock();
        let router = state
            .registry
            .router(id)
            .ok_or_else(|| Error::NoRouter(id.clone()))?;
        Ok(self.view(&state, router))
    }

    fn view(&self, state: &State, router: &Router) -> RouterView {
        let id = &router.identity.id;
        let (owes_for, outstanding) = state
            .links
            .get(id)
            .map_or((None, 0), |link| link.owes(self.clock().instant()));
        let standing = match (&router.presence, owes_for) {
            (Presence::Away { .. }, _) => Standing::Away,
            (_, Some(owes)) if owes > self.settings.acknowledge_timeout => Standing::Mute,
            (_, Some(owes)) if owes > SLOW_AFTER => Standing::Slow,
            (Presence::Attached { synchronised, .. }, _) if *synchronised => Standing::Synchronised,
            (Presence::Attached { .. }, _) => Standing::Synchronising,
        };
        RouterView {
            router: router.clone(),
            sessions: state.store.sessions_on(id),
            standing,
            owes_for,
            outstanding,
        }
    }
}
