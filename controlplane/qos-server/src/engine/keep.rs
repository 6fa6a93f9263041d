//! What is committed to the store, and when.
//!
//! A session is committed before routers are told of it, a later version of it when they have
//! acknowledged and before the former one is taken away, its end before they are told to remove it.
//! Each time the answer waits for the commit, and the engine's lock is not held meanwhile.

use prost::Message as _;
use tracing::warn;

use super::{Engine, state::State};
use crate::{
    journal::{
        Committed,
        record::{Parts, RouterRecords, StoredRouter, StoredSession},
    },
    model::{
        ids::{RouterId, SessionKey},
        links::Charges,
        registry::{Identity, Interface},
        store::RecordId,
    },
};

impl Engine {
    /// The record of a new session.
    pub(super) fn new_record(&self) -> RecordId {
        if self.journal.keeps() {
            RecordId {
                id: self.journal.next_id(),
                digest: None,
            }
        } else {
            RecordId::default()
        }
    }

    /// Commits a new session, with what it takes of links itself: for now it may hold more.
    pub(super) fn keep(&self, state: &mut State, key: &SessionKey, charges: &Charges) -> Committed {
        let session = state.store.get(key).filter(|_| self.journal.keeps());
        let Some(session) = session else {
            return Committed::already();
        };
        let stored = StoredSession::from(Parts {
            charges,
            ..Parts::from(session)
        });
        self.keep_as(state, key, stored)
    }

    /// Commits what a session is about to become.
    pub(super) fn keep_version(
        &self,
        state: &mut State,
        key: &SessionKey,
        version: Parts<'_>,
    ) -> Committed {
        if self.journal.keeps() {
            self.keep_as(state, key, StoredSession::from(version))
        } else {
            Committed::already()
        }
    }

    fn keep_as(&self, state: &mut State, key: &SessionKey, stored: StoredSession) -> Committed {
        match state.store.get_mut(key) {
            Some(session) => {
                let stored = StoredSession {
                    agent_has_lease: session.agent_has_lease,
                    ..stored
                };
                self.journal.submit(session.record.put(&stored))
            }
            None => Committed::already(),
        }
    }

    /// Commits that the agent of a session has a lease; no operation runs on it.
    pub(super) fn keep_lease(&self, key: &SessionKey) -> Committed {
        let mut state = self.lock();
        let Some(session) = state.store.get_mut(key).filter(|it| !it.agent_has_lease) else {
            return Committed::already();
        };
        session.agent_has_lease = true;
        if !self.journal.keeps() || session.record.digest.is_none() {
            return Committed::already();
        }
        let stored = StoredSession::from(Parts::from(&*session));
        self.keep_as(&mut state, key, stored)
    }

    /// Commits that a session is no more.
    pub(super) fn strike(&self, state: &mut State, key: &SessionKey) -> Committed {
        let session = state.store.get_mut(key);
        match session.and_then(|session| session.record.remove()) {
            Some(change) => self.journal.submit(change),
            None => Committed::already(),
        }
    }

    /// Commits a router's report before sessions are placed by it: those are committed after it, so
    /// only who may report again has to wait.
    pub(super) fn keep_router(
        &self,
        records: &mut RouterRecords,
        identity: &Identity,
        interfaces: &[Interface],
    ) -> Committed {
        if !self.journal.keeps() {
            return Committed::already();
        }
        let stored = StoredRouter::of(identity, interfaces);
        if !self.journal.takes(stored.encoded_len()) {
            // The next leader knows it when it attaches.
            warn!(router = %identity.id, bytes = stored.encoded_len(), "its report is too long for etcd");
            self.strike_router(records, &identity.id);
            return Committed::already();
        }
        match records.put(&identity.id, &stored) {
            Some(change) => self.journal.submit(change),
            None => Committed::already(),
        }
    }

    /// Commits that a router is forgotten.
    pub(super) fn strike_router(&self, records: &mut RouterRecords, id: &RouterId) {
        if let Some(change) = records.remove(id) {
            drop(self.journal.submit(change));
        }
    }
}
