//! What callers see of a session, and what watchers are told.

use std::sync::Arc;

pub use voicelane_proto::v1::watch_sessions_response::Kind as EventKind;

use crate::{
    engine::{Engine, state::State},
    model::{
        ids::{Revision, RouterId, SessionKey, UnixMs},
        leases::Reaper,
        placement::Placement,
        registry::Presence,
        session::{Learned, SessionSpec, SessionState},
        store::{InstallationState, Session},
    },
};

/// A session at one moment.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// What was asked for.
    pub spec: Arc<SessionSpec>,
    /// How it stands.
    pub state: SessionState,
    /// The sources that its latching flows are installed with.
    pub learned: Box<[Learned]>,
    /// The same with those that were learned since.
    pub heard: Box<[Learned]>,
    /// Where its ends were found.
    pub placement: Arc<Placement>,
    /// How it stands on each of its routers.
    pub installations: Vec<InstallationView>,
    /// Why it cannot be placed as it should be any more.
    pub problem: Option<String>,
    /// When it was added.
    pub created: UnixMs,
    /// When it last changed.
    pub updated: UnixMs,
    /// When its lease runs out, if it has one.
    pub expires: Option<UnixMs>,
    /// Of one that was deleted: the routers that have not confirmed that they lack it.
    pub pending: Vec<RouterId>,
}

/// A session on a router at one moment.
#[derive(Clone, Debug)]
pub struct InstallationView {
    /// The router.
    pub router: RouterId,
    /// How the session stands there.
    pub state: InstallationState,
    /// Why, if not well.
    pub detail: String,
    /// The version that is to be there.
    pub revision: Revision,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// To which session.
    pub session: Arc<SessionView>,
    /// Of one that was deleted, if no agent has deleted it.
    pub reaper: Option<Reaper>,
}

impl State {
    pub(in crate::engine) fn view(&self, session: &Session) -> Arc<SessionView> {
        let now = self.clock.unix();
        let on = |router: &RouterId| {
            let state = session.installation_state(router, &self.registry);
            let detail = match (&state, self.registry.router(router).map(|r| &r.presence)) {
                (InstallationState::Failed(why), _) => why.clone(),
                (InstallationState::Away, Some(Presence::Away { since, reason })) => {
                    format!("lost {} s ago: {reason}", now.seconds_since(*since))
                }
                _ => String::new(),
            };
            InstallationView {
                router: router.clone(),
                state,
                detail,
                revision: session.spec.revision,
            }
        };
        Arc::new(SessionView {
            spec: session.spec.clone(),
            learned: session.learned.clone(),
            heard: session.heard.clone(),
            state: session.state(&self.registry),
            placement: session.placement.clone(),
            installations: session.installations.keys().map(on).collect(),
            problem: session.problem.clone(),
            created: session.created,
            updated: session.updated,
            expires: session
                .expires
                .map(|at| now.plus(at.since(self.clock.moment()))),
            pending: Vec::new(),
        })
    }
}

impl Engine {
    /// Tells watchers of a session that is in the store. Under the lock, so that events come in
    /// the order of what happened.
    pub(in crate::engine) fn tell(&self, state: &mut State, kind: EventKind, key: &SessionKey) {
        let Some(session) = state.store.get(key) else {
            return;
        };
        let stands = session.state(&state.registry);
        if self.events.receiver_count() > 0 {
            let session = state.view(session);
            // Fails only when the last watcher has just gone.
            let _ = self.events.send(Arc::new(Event {
                kind,
                session,
                reaper: None,
            }));
        }
        if let Some(session) = state.store.get_mut(key) {
            session.told = Some(stands);
        }
    }

    /// Tells watchers if the session stands otherwise than they know.
    pub(in crate::engine) fn tell_state(&self, state: &mut State, key: &SessionKey) {
        let Some(session) = state.store.get_mut(key) else {
            return;
        };
        let stands = session.state(&state.registry);
        if session.told.is_some_and(|told| told != stands) {
            session.updated = state.clock.unix();
            self.tell(state, EventKind::StateChanged, key);
        }
    }
}
