//! The sessions that are desired, with the indexes that keep each step independent of how many
//! there are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    ops::Bound,
    sync::Arc,
};

use super::{
    admission::Ledger,
    entries::{FiveTuple, FlowEntry, expand_learned},
    error::Error,
    ids::{AttachmentId, Fingerprint, Revision, RouterId, SessionKey, UnixMs},
    leases::{Leases, Moment},
    links::Charges,
    placement::{Placement, Share},
    preemption::Candidates,
    registry::Registry,
    session::{Learned, SessionSpec, SessionState},
    tuples::Tuples,
    work,
};

/// What is going on with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Routers are being told of it, or of a change to it.
    Installing,
    /// Nothing.
    Settled,
    /// Routers are being told to forget it.
    Removing,
}

/// A router's yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// On which of its streams.
    pub attachment: AttachmentId,
    /// To which version.
    pub revision: Revision,
    /// To which entries.
    pub fingerprint: Fingerprint,
}

/// What a router says it has of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Revision of the session that the router reports.
    pub revision: u64,
    /// Hash of the entries that the router reports.
    pub fingerprint: Fingerprint,
}

impl Reported {
    /// Whether it is this version with these entries.
    pub fn is(&self, revision: Revision, fingerprint: Fingerprint) -> bool {
        self.revision == revision.get() && self.fingerprint == fingerprint
    }
}

/// A session on one router: what is to be there, and what is known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// How many entries are to be there.
    pub entries: u64,
    /// Of the entries that are to be there.
    pub fingerprint: Fingerprint,
    /// What the router last said yes to; absent while something else may be there.
    pub acknowledged: Option<Acknowledged>,
    /// Why it said no.
    pub failure: Option<String>,
}

impl Installation {
    /// Of a share that no router has acknowledged yet.
    pub fn of(share: &Share) -> Self {
        Self {
            entries: share.entries.len() as u64,
            fingerprint: share.fingerprint,
            acknowledged: None,
            failure: None,
        }
    }

    /// Whether this very stream has acknowledged what is to be there.
    pub fn holds(&self, revision: Revision, attachment: AttachmentId) -> bool {
        let wanted = Acknowledged {
            attachment,
            revision,
            fingerprint: self.fingerprint,
        };
        self.acknowledged == Some(wanted)
    }
}

/// A session on its routers, in the order of their names. There are few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installations(Box<[(RouterId, Installation)]>);

impl Installations {
    /// Its routers.
    pub fn keys(&self) -> impl Iterator<Item = &RouterId> {
        self.0.iter().map(|(router, _)| router)
    }

    /// Its routers and how it stands there.
    pub fn iter(&self) -> impl Iterator<Item = &(RouterId, Installation)> {
        self.0.iter()
    }

    /// Whether a router is one of them.
    pub fn contains_key(&self, router: &RouterId) -> bool {
        self.get(router).is_some()
    }

    /// On one router.
    pub fn get(&self, router: &RouterId) -> Option<&Installation> {
        let found = self.0.iter().find(|(other, _)| other == router);
        found.map(|(_, installation)| installation)
    }

    /// On one router, to change it.
    pub fn get_mut(&mut self, router: &RouterId) -> Option<&mut Installation> {
        let found = self.0.iter_mut().find(|(other, _)| other == router);
        found.map(|(_, installation)| installation)
    }
}

impl FromIterator<(RouterId, Installation)> for Installations {
    fn from_iter<I: IntoIterator<Item = (RouterId, Installation)>>(all: I) -> Self {
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self(all.into())
    }
}

/// How an installation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallationState {
    /// The router has not acknowledged yet.
    Pending,
    /// It has.
    Installed,
    /// The router is away, and serves what it has.
    Away,
    /// The router said no.
    Failed(String),
}

/// A desired session.
#[derive(Clone, Debug)]
pub struct Session {
    /// What was asked for.
    pub spec: Arc<SessionSpec>,
    /// The sources that latching flows of it have learned and that it is installed with.
    pub learned: Box<[Learned]>,
    /// The same with what routers have reported since, with which it is to be installed.
    pub heard: Box<[Learned]>,
    /// Where its ends were found.
    pub placement: Arc<Placement>,
    /// What it takes of each link; while it changes, the greater of before and after.
    pub charges: Charges,
    /// When its lease runs out, if it has one.
    pub expires: Option<Moment>,
    /// What each router of it is to have.
    pub installations: Installations,
    /// What is going on with it.
    pub phase: Phase,
    /// Why it cannot be placed as it should be any more.
    pub problem: Option<String>,
    /// When it was added.
    pub created: UnixMs,
    /// When it last changed.
    pub updated: UnixMs,
    /// The state that watchers were told last.
    pub told: Option<SessionState>,
    /// Where it is kept.
    pub record: RecordId,
    /// Its agent has a lease, so that a server that starts anew with it expects the agent.
    pub agent_has_lease: bool,
}

/// The record that keeps a session over a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordId {
    /// Key of its record in the store.
    pub id: u64,
    /// The hash of what is there, if anything is.
    pub digest: Option<u64>,
}

impl Session {
    /// Its entries, as it is installed.
    pub fn entries(&self) -> Vec<FlowEntry> {
        expand_learned(&self.spec, &self.learned)
    }

    /// How it stands on a router of it.
    pub fn installation_state(&self, router: &RouterId, registry: &Registry) -> InstallationState {
        let Some(installation) = self.installations.get(router) else {
            return InstallationState::Pending;
        };
        match (registry.attachment(router), &installation.failure) {
            (None, _) => InstallationState::Away,
            (Some(_), Some(failure)) => InstallationState::Failed(failure.clone()),
            (Some(at), None) if installation.holds(self.spec.revision, at) => {
                InstallationState::Installed
            }
            (Some(_), None) => InstallationState::Pending,
        }
    }

    /// How it stands as a whole.
    pub fn state(&self, registry: &Registry) -> SessionState {
        let installed =
            |router| self.installation_state(router, registry) == InstallationState::Installed;
        match self.phase {
            Phase::Installing => SessionState::Installing,
            Phase::Removing => SessionState::Removing,
            Phase::Settled
                if self.problem.is_none() && self.installations.keys().all(installed) =>
            {
                if self.spec.is_reserved() {
                    SessionState::Reserved
                } else {
                    SessionState::Active
                }
            }
            Phase::Settled => SessionState::Degraded,
        }
    }
}

#[derive(Debug, Default)]
struct Load {
    keys: BTreeSet<SessionKey>,
    entries: u64,
}

/// All desired sessions.
#[derive(Debug, Default)]
pub struct Store {
    sessions: BTreeMap<SessionKey, Box<Session>>,
    /// Every five-tuple of every session, and while a session changes, those that it is to have.
    tuples: Tuples,
    by_router: HashMap<RouterId, Load>,
    by_agent: BTreeMap<Box<str>, u64>,
    ledger: Ledger,
    candidates: Candidates,
    leases: Leases,
}

impl Store {
    /// How many.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many an agent has.
    pub fn len_of_agent(&self, agent: &str) -> u64 {
        self.by_agent.get(agent).copied().unwrap_or(0)
    }

    /// How many sessions a router is to have.
    pub fn sessions_on(&self, router: &RouterId) -> usize {
        self.by_router.get(router).map_or(0, |load| load.keys.len())
    }

    /// How many entries a router is to have.
    pub fn entries_on(&self, router: &RouterId) -> u64 {
        self.by_router.get(router).map_or(0, |load| load.entries)
    }

    /// One session.
    pub fn get(&self, key: &SessionKey) -> Option<&Session> {
        work::step();
        self.sessions.get(key).map(Box::as_ref)
    }

    /// Whether a router is to have a session.
    pub fn is_on(&self, key: &SessionKey, router: &RouterId) -> bool {
        self.get(key)
            .is_some_and(|session| session.installations.contains_key(router))
    }

    /// What all sessions take of links.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The sessions that may be pre-empted.
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// When the leases of sessions run out.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Takes out a session whose lease has run out; it stays in the store, with its lease, until it is
    /// removed or renewed.
    pub fn take_expired(&mut self, now: Moment) -> Option<SessionKey> {
        self.leases.take_due(now)
    }

    /// Sets when a session's lease runs out, if it has one.
    pub fn renew(&mut self, key: &SessionKey, expires: Option<Moment>) {
        if let Some(session) = self.sessions.get_mut(key) {
            self.leases.set(key, session.expires, expires);
            session.expires = expires;
        }
    }

    /// Replaces what a session takes of links; tells what it took.
    pub fn charge(&mut self, key: &SessionKey, charges: Charges) -> Charges {
        let Some(session) = self.sessions.get_mut(key) else {
            return Charges::default();
        };
        self.ledger.take(&charges);
        self.ledger.give_back(&session.charges);
        self.candidates.give_back(&session.spec, &session.charges);
        self.candidates.take(&session.spec, &charges);
        std::mem::replace(&mut session.charges, charges)
    }

    /// One session, to change what no index depends on: not its spec, not which routers it is on, not
    /// what it takes of links, not its lease.
    pub fn get_mut(&mut self, key: &SessionKey) -> Option<&mut Session> {
        work::step();
        self.sessions.get_mut(key).map(Box::as_mut)
    }

    /// Sessions in the order of their keys, after `after`.
    pub fn after(&self, after: Option<&SessionKey>) -> impl Iterator<Item = &Session> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.sessions
            .range::<SessionKey, _>((start, Bound::Unbounded))
            .inspect(|_| work::step())
            .map(|(_, session)| session.as_ref())
    }

    /// Keys of the sessions that a router is to have, in order, after `after`.
    pub fn keys_on(
        &self,
        router: &RouterId,
        after: Option<&SessionKey>,
    ) -> impl Iterator<Item = &SessionKey> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let load = self.by_router.get(router);
        load.into_iter()
            .flat_map(move |load| load.keys.range::<SessionKey, _>((start, Bound::Unbounded)))
            .inspect(|_| work::step())
    }

    /// Every five-tuple that is taken.
    pub fn tuples(&self) -> impl Iterator<Item = FiveTuple> {
        self.tuples.iter()
    }

    /// Takes the five-tuples of all entries for a session, or none if another has one of them.
    pub fn reserve(&mut self, key: &SessionKey, entries: &[FlowEntry]) -> Result<(), Error> {
        for (index, entry) in entries.iter().enumerate() {
            if let Err(holder) = self.tuples.give(entry.tuple, key) {
                self.release(key, &entries[..index]);
                return Err(Error::TupleTaken {
                    field: entry.field(),
                    tuple: entry.tuple,
                    holder,
                });
            }
        }
        Ok(())
    }

    /// Gives back the five-tuples of these entries that the session as it stands does not have.
    pub fn release(&mut self, key: &SessionKey, entries: &[FlowEntry]) {
        let kept: Vec<FlowEntry> = self
            .sessions
            .get(key)
            .map(|session| session.entries())
            .unwrap_or_default();
        for entry in entries
            .iter()
            .filter(|entry| kept.iter().all(|own| own.tuple != entry.tuple))
        {
            self.tuples.take(entry.tuple, key);
        }
    }

    /// Puts a session in place of whatever its key has; its five-tuples are reserved already.
    /// Those of its former self that it lacks are given back.
    pub fn put(&mut self, session: Session) {
        let key = session.spec.key.clone();
        for (router, installation) in session.installations.iter() {
            let load = self.by_router.entry(router.clone()).or_default();
            load.keys.insert(key.clone());
            load.entries += installation.entries;
        }
        match self.by_agent.get_mut(key.agent()) {
            Some(count) => *count += 1,
            None => drop(self.by_agent.insert(key.agent().into(), 1)),
        }
        self.ledger.take(&session.charges);
        if let Some(old) = self.sessions.get(&key) {
            self.candidates.give_back(&old.spec, &old.charges);
        }
        self.candidates.take(&session.spec, &session.charges);
        let expires = session.expires;
        let old = self.sessions.insert(key.clone(), Box::new(session));
        let former = old.as_ref().and_then(|old| old.expires);
        self.leases.set(&key, former, expires);
        if let Some(old) = old {
            self.forget_indexes(&key, &old);
            self.release(&key, &old.entries());
        }
    }

    /// Takes a session out, with its five-tuples.
    pub fn remove(&mut self, key: &SessionKey) -> Option<Box<Session>> {
        let old = self.sessions.remove(key)?;
        self.leases.set(key, old.expires, None);
        self.candidates.give_back(&old.spec, &old.charges);
        self.candidates.forget(key);
        self.forget_indexes(key, &old);
        self.release(key, &old.entries());
        Some(old)
    }

    /// Takes what `old` added to the indexes out of them, but for what its successor has too.
    fn forget_indexes(&mut self, key: &SessionKey, old: &Session) {
        self.ledger.give_back(&old.charges);
        let successor = self.sessions.get(key);
        for (router, installation) in old.installations.iter() {
            if let Entry::Occupied(mut slot) = self.by_router.entry(router.clone()) {
                let load = slot.get_mut();
                load.entries = load.entries.saturating_sub(installation.entries);
                if successor.is_none_or(|session| !session.installations.contains_key(router)) {
                    load.keys.remove(key);
                }
                if load.keys.is_empty() {
                    slot.remove();
                }
            }
        }
        if let Some(count) = self.by_agent.get_mut(key.agent()) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_agent.remove(key.agent());
            }
        }
    }
}
