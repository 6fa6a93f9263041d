//! Sources that latching entries of routers have learned.
//!
//! A router learns once, so the first report that can be installed counts. It is noted at the session,
//! which is then moved as if its source had always been known: so what is installed follows from it in
//! the way that all moves take, with admission, and is tried again where that fails.

use std::{net::SocketAddr, sync::Arc};

use tracing::debug;

use super::moves::Lane;
use crate::{
    engine::{Engine, Link, state::State},
    events::Kind,
    model::{
        course::Course,
        entries::FlowKind,
        ids::{RouterId, SessionKey},
        session::{Learned, SessionSpec},
    },
};

/// What a router says that it has learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latched {
    /// Session of the latching flow.
    pub key: SessionKey,
    /// Flow and source.
    pub learned: Learned,
    /// To where the packets go.
    pub destination: SocketAddr,
}

/// What a session is being changed to, while routers are told of it.
#[derive(Debug)]
pub(in crate::engine) struct Coming {
    /// What the session becomes if all routers take it.
    pub(in crate::engine) spec: Arc<SessionSpec>,
    /// The sources that its latching flows are installed with.
    pub(in crate::engine) learned: Box<[Learned]>,
    /// The sources that routers have reported for it.
    pub(in crate::engine) heard: Vec<Learned>,
    /// The routers that are told of it.
    pub(in crate::engine) routers: Box<[RouterId]>,
}

impl Coming {
    /// Whether a session only moves, with what it has learned.
    pub(super) fn is_move_of(&self, spec: &Arc<SessionSpec>) -> bool {
        Arc::ptr_eq(&self.spec, spec)
    }
}

impl Engine {
    /// A router has learned the source of a latching entry.
    pub fn latched(&self, link: &Link, latched: &Latched) {
        let (key, source) = (&latched.key, latched.learned.source);
        let mut state = self.lock();
        if !state.hear(link, latched) {
            drop(state);
            debug!(router = %link.router(), session = %key, %source, "learned, and not wanted");
            return;
        }
        if state.running.get(key).is_some() {
            state.moves.busy(key);
            drop(state);
        } else {
            state.moves.add(Lane::Ordinary, key.clone());
            drop(state);
            self.moves_due.ring();
        }
        debug!(router = %link.router(), session = %key, %source, "learned");
        self.note(Kind::SourceLearned, key, || {
            let flow = latched.learned.flow;
            format!(
                "router {} learned {source} as the source of flow {flow}",
                link.router()
            )
        });
    }
}

impl State {
    /// Notes what was learned, if the session, or what it is being changed to, waits for it from this
    /// router. A source that is not installed, mostly because no router reaches it, gives way to a
    /// later one.
    fn hear(&mut self, link: &Link, latched: &Latched) -> bool {
        let router = link.router();
        if self.registry.attachment(router) != Some(link.attachment()) {
            return false;
        }
        let Some(session) = self.store.get_mut(&latched.key) else {
            return false;
        };
        let mut is_heard = false;
        let mut moves = false;
        if let Some(coming) = self.coming.get_mut(&latched.key) {
            moves = coming.is_move_of(&session.spec);
            if coming.routers.contains(router) && awaits(&coming.spec, &coming.learned, latched) {
                is_heard = replace(&mut coming.heard, latched.learned);
            }
        }
        if !moves
            && session.installations.contains_key(router)
            && awaits(&session.spec, &session.learned, latched)
        {
            let mut heard = session.heard.to_vec();
            is_heard |= replace(&mut heard, latched.learned);
            session.heard = heard.into();
        }
        is_heard
    }
}

/// Puts a source in place of what was heard of its flow before. False if it is the same.
pub(in crate::engine) fn replace(heard: &mut Vec<Learned>, learned: Learned) -> bool {
    if heard.contains(&learned) {
        return false;
    }
    heard.retain(|it| (it.flow, it.kind) != (learned.flow, learned.kind));
    heard.push(learned);
    true
}

/// Whether a flow of the session latches to that destination, may learn that source, and is not
/// installed with one.
fn awaits(spec: &SessionSpec, installed: &[Learned], latched: &Latched) -> bool {
    let Learned { flow, kind, source } = latched.learned;
    let has_one = installed
        .iter()
        .any(|it| (it.flow, it.kind) == (flow, kind));
    let course = |kind: FlowKind| spec.flows.get(flow)?.course_of(kind);
    match course(kind) {
        Some(Course::Latching(latch)) => {
            !has_one && latch.destination == latched.destination && latch.path_from(source).is_ok()
        }
        _ => false,
    }
}
