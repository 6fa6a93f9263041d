//! Which sessions the worker has, and who owns which five-tuple.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    ops::Bound,
};

use tokio::time::Instant;
use voicelane_dataplane::session::{FiveTuple, LatchSpec, Latched, SessionChange};
use voicelane_proto::v1::{self, command_result::Code};
use voicelane_types::SessionKey;

use super::{
    entries::{self, Entry, WaysIn, unlatched},
    sampling::Sampling,
};

/// A session that the worker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The revision that the call agent gave it.
    pub revision: u64,
    /// The server's fingerprint of its terms, not interpreted here.
    pub fingerprint: u64,
    /// What it consists of.
    pub entries: Vec<Entry>,
    /// When the server gave it last.
    pub since: Instant,
}

impl Installed {
    /// What its entries have learned, for the server.
    pub fn latched<'a>(&'a self, key: &'a SessionKey) -> impl Iterator<Item = v1::LatchedSource> {
        self.entries
            .iter()
            .filter_map(|entry| entry.latched_source(key))
    }

    fn waiting(&self) -> usize {
        self.entries.iter().filter_map(Entry::waits).count()
    }
}

/// A change that the worker is to make, and what is true when it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The session that changes.
    pub key: SessionKey,
    /// What the workers are asked to do.
    pub change: SessionChange,
    /// What takes it back, on workers that have made it and on others.
    pub undo: SessionChange,
    /// The session afterwards; `None` when it is gone.
    pub then: Option<Installed>,
}

impl Plan {
    /// Five-tuples that it touches, those of flows without a source among them.
    pub fn flows(&self) -> impl Iterator<Item = FiveTuple> {
        let change = &self.change;
        let installed = change.install.iter().map(|entry| entry.flow);
        let latching = change.latch.iter().map(|latch| latch.destination);
        let latching = latching.chain(change.unlatch.iter().copied());
        let flows = installed.chain(change.remove.iter().copied());
        flows.chain(latching.map(unlatched))
    }
}

/// A command that is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As [`v1::CommandResult`] has it.
    pub code: Code,
    /// What was wrong, and where.
    pub detail: String,
    /// Of a conflict: who has the five-tuple.
    pub owner: Option<SessionKey>,
}

impl From<entries::InvalidField> for Refusal {
    fn from(error: entries::InvalidField) -> Self {
        Self {
            code: Code::Invalid,
            detail: error.to_string(),
            owner: None,
        }
    }
}

/// All sessions that the workers have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    sessions: BTreeMap<SessionKey, Installed>,
    /// Of what entries claim.
    owners: HashMap<FiveTuple, SessionKey>,
    /// Entries in all, and those of them that wait for their source.
    entries: usize,
    waiting: usize,
}

impl Table {
    /// What installing a session takes: its new entries in, those that it no longer has out.
    pub fn plan_install(
        &self,
        install: &v1::InstallSession,
        ways_in: &WaysIn,
        sampling: Sampling,
    ) -> Result<Plan, Refusal> {
        let key = entries::key(install.key.as_ref())?;
        let mut entries = entries::entries(&install.entries, ways_in)?;
        if !sampling.takes(&key) {
            entries.iter_mut().for_each(|entry| entry.spec.media = None);
        }
        let before = self.entries_of(&key);
        keep_learned(before, &mut entries);
        for flow in entries.iter().flat_map(Entry::claims) {
            if let Some(owner) = self.owners.get(&flow).filter(|owner| **owner != key) {
                let name = format!("{}/{}", owner.agent(), owner.session());
                let detail = if flow.source.port() == 0 {
                    let to = flow.destination;
                    format!("session {name} learns who sends to {to} already")
                } else {
                    format!("session {name} has {flow} already")
                };
                return Err(Refusal {
                    code: Code::Conflict,
                    detail,
                    owner: Some(owner.clone()),
                });
            }
        }
        let (revision, fingerprint) = (install.revision, install.fingerprint);
        Ok(Plan {
            change: change(before, &entries),
            undo: change(&entries, before),
            key,
            then: Some(Installed {
                revision,
                fingerprint,
                entries,
                since: Instant::now(),
            }),
        })
    }

    /// What removing a session takes; `None` when it is not there.
    pub fn plan_remove(&self, remove: &v1::RemoveSession) -> Result<Option<Plan>, Refusal> {
        let key = entries::key(remove.key.as_ref())?;
        if !self.sessions.contains_key(&key) {
            return Ok(None);
        }
        let before = self.entries_of(&key);
        Ok(Some(Plan {
            change: change(before, &[]),
            undo: change(&[], before),
            key,
            then: None,
        }))
    }

    /// What giving an entry the source takes that a worker has learned; `None` when none waits for it. Where
    /// the five-tuple is another entry's, or the worker has refused it and so it is to learn `again`, it
    /// waits on.
    #[must_use]
    pub fn plan_learned(&self, latched: &Latched, ways_in: &WaysIn, again: bool) -> Option<Plan> {
        let destination = latched.flow.destination;
        let key = self.owners.get(&unlatched(destination))?;
        let session = self.sessions.get(key)?;
        let before = &session.entries;
        let waits = |entry: &Entry| {
            entry
                .waits()
                .is_some_and(|it| it.destination == destination)
        };
        let place = before.iter().position(waits)?;
        let mut after = before.clone();
        let entry = after.get_mut(place)?;
        let change = if again || self.owners.contains_key(&latched.flow) {
            SessionChange {
                latch: entry.waits().into_iter().collect(),
                unlatch: vec![destination],
                ..SessionChange::default()
            }
        } else {
            *entry = entry.learned(latched, ways_in);
            change(before, &after)
        };
        Some(Plan {
            undo: self::change(&after, before),
            key: key.clone(),
            change,
            then: Some(Installed {
                revision: session.revision,
                fingerprint: session.fingerprint,
                entries: after,
                since: session.since,
            }),
        })
    }

    /// Takes over what the worker has done.
    pub fn commit(&mut self, plan: Plan) {
        let Plan { key, then, .. } = plan;
        if let Some(before) = self.sessions.remove(&key) {
            for flow in before.entries.iter().flat_map(Entry::claims) {
                self.owners.remove(&flow);
            }
            self.entries -= before.entries.len();
            self.waiting -= before.waiting();
        }
        if let Some(installed) = then {
            for flow in installed.entries.iter().flat_map(Entry::claims) {
                self.owners.insert(flow, key.clone());
            }
            self.entries += installed.entries.len();
            self.waiting += installed.waiting();
            self.sessions.insert(key, installed);
        }
    }

    /// `None` when it is not installed.
    #[must_use]
    pub fn session(&self, key: &SessionKey) -> Option<&Installed> {
        self.sessions.get(key)
    }

    /// Whose a flow is.
    #[must_use]
    pub fn owner(&self, flow: &FiveTuple) -> Option<&SessionKey> {
        self.owners.get(flow)
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&SessionKey, &Installed)> {
        self.sessions.iter()
    }

    /// Those after `after`, in the order of their keys.
    pub fn after(
        &self,
        after: Option<&SessionKey>,
    ) -> impl Iterator<Item = (&SessionKey, &Installed)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.sessions
            .range::<SessionKey, _>((start, Bound::Unbounded))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many entries they have.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// How many of them wait for their source.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn entries_of(&self, key: &SessionKey) -> &[Entry] {
        let session = self.sessions.get(key);
        session.map_or(&[], |session| session.entries.as_slice())
    }

    /// Checks what must hold between commands.
    pub fn invariants(&self) {
        let all = || self.sessions.values().flat_map(|session| &session.entries);
        assert_eq!(all().count(), self.entries);
        assert_eq!(all().filter_map(Entry::waits).count(), self.waiting);
        let claims = all().flat_map(Entry::claims).count();
        assert_eq!(claims, self.owners.len(), "each claim has one owner");
        for (key, session) in &self.sessions {
            for flow in session.entries.iter().flat_map(Entry::claims) {
                assert_eq!(self.owners.get(&flow), Some(key), "and that is its session");
            }
        }
    }
}

/// What leads from entries of a session to others.
fn change(from: &[Entry], to: &[Entry]) -> SessionChange {
    let flows = |entries: &[Entry]| -> Vec<FiveTuple> {
        let known = entries.iter().filter(|entry| entry.waits().is_none());
        known.map(|entry| entry.spec.flow).collect()
    };
    let waiting =
        |entries: &[Entry]| -> Vec<LatchSpec> { entries.iter().filter_map(Entry::waits).collect() };
    let (kept, waits) = (flows(to), waiting(to));
    let mut remove = flows(from);
    remove.retain(|flow| !kept.contains(flow));
    let stopped = waiting(from).into_iter().map(|latch| latch.destination);
    let goes_on = |to: &SocketAddr| waits.iter().any(|latch| latch.destination == *to);
    let install = to.iter().filter(|entry| entry.waits().is_none());
    SessionChange {
        install: install.map(|entry| entry.spec).collect(),
        remove,
        unlatch: stopped.filter(|to| !goes_on(to)).collect(),
        latch: waits,
    }
}

/// Entries with the terms of ones that have learned their source keep that.
fn keep_learned(before: &[Entry], entries: &mut [Entry]) {
    let given: HashSet<_> = entries.iter().map(|entry| entry.spec.flow).collect();
    for entry in entries.iter_mut().filter(|entry| entry.latch.is_some()) {
        let learned = |other: &&Entry| other.latch == entry.latch && other.waits().is_none();
        let learned = before.iter().find(learned);
        if let Some(learned) = learned.filter(|it| !given.contains(&it.spec.flow)) {
            entry.spec.flow = learned.spec.flow;
            entry.spec.ingress = learned.spec.ingress;
        }
    }
}

#[cfg(test)]
mod tests;
