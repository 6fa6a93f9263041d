//! Sources that latching entries of routers have learned.
//!
//! The first report counts, as the router learns once. It is noted at the session, which is then moved
//! as if its source had always been known: so what is installed follows from it in the way that all
//! moves take, with admission, and is tried again where that fails.

use std::net::SocketAddr;

use tracing::debug;

use super::{Engine, link::Link, moves::Lane, state::State};
use crate::model::{
    course::Course,
    entries::FlowKind,
    ids::SessionKey,
    session::{Learned, SessionSpec},
};

/// What a router says that it has learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latched {
    /// For which session.
    pub key: SessionKey,
    /// What.
    pub learned: Learned,
    /// To where the packets go.
    pub destination: SocketAddr,
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
    }
}

impl State {
    /// Notes what was learned, if the session waits for just that from this router.
    fn hear(&mut self, link: &Link, latched: &Latched) -> bool {
        let is_current = self.registry.attachment(link.router()) == Some(link.attachment());
        let Some(session) = self.store.get_mut(&latched.key) else {
            return false;
        };
        let is_there = session.installations.contains_key(link.router());
        let Learned { flow, kind, .. } = latched.learned;
        let mut heard = session.heard.to_vec();
        let is_new = heard.iter().all(|it| (it.flow, it.kind) != (flow, kind));
        if !is_current || !is_there || !is_new || !awaits(&session.spec, latched) {
            return false;
        }
        heard.push(latched.learned);
        session.heard = heard.into();
        true
    }
}

/// Whether a flow of the session latches to that destination and may learn that source.
fn awaits(spec: &SessionSpec, latched: &Latched) -> bool {
    let Learned { flow, kind, source } = latched.learned;
    let course = |kind: FlowKind| spec.flows.get(flow)?.course_of(kind);
    match course(kind) {
        Some(Course::Latching(latch)) => {
            latch.destination == latched.destination && latch.path_from(source).is_ok()
        }
        _ => false,
    }
}
