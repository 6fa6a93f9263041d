//! Which sessions the worker has, and who owns which five-tuple.

use std::collections::{BTreeMap, HashMap};

use voicelane_dataplane::session::{EntrySpec, FiveTuple, SessionChange};
use voicelane_proto::v1::{self, command_result::Code};
use voicelane_types::SessionKey;

use super::entries::{self, Entry, WaysIn};

/// A session that the worker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The agent's revision.
    pub revision: u64,
    /// As it came.
    pub fingerprint: u64,
    /// What it consists of.
    pub entries: Vec<Entry>,
}

/// A change that the worker is to make, and what is true when it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whose.
    pub key: SessionKey,
    /// For the worker.
    pub change: SessionChange,
    /// What takes it back, on workers that have made it and on others.
    pub undo: SessionChange,
    /// The session afterwards; `None` when it is gone.
    pub then: Option<Installed>,
}

impl Plan {
    /// Five-tuples that it touches.
    pub fn flows(&self) -> impl Iterator<Item = FiveTuple> {
        let installed = self.change.install.iter().map(|entry| entry.flow);
        installed.chain(self.change.remove.iter().copied())
    }
}

/// A command that is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the server.
    pub code: Code,
    /// For a person.
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

/// All sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    sessions: BTreeMap<SessionKey, Installed>,
    owners: HashMap<FiveTuple, SessionKey>,
}

impl Table {
    /// What installing a session takes: its new entries in, those that it no longer has out.
    pub fn plan_install(
        &self,
        install: &v1::InstallSession,
        ways_in: &WaysIn,
    ) -> Result<Plan, Refusal> {
        let key = entries::key(install.key.as_ref())?;
        let entries = entries::entries(&install.entries, ways_in)?;
        for entry in &entries {
            let flow = entry.spec.flow;
            if let Some(owner) = self.owners.get(&flow).filter(|owner| **owner != key) {
                let (agent, session) = (owner.agent(), owner.session());
                let detail = format!("session {agent}/{session} has {flow} already");
                return Err(Refusal {
                    code: Code::Conflict,
                    detail,
                    owner: Some(owner.clone()),
                });
            }
        }
        let kept = |flow: &FiveTuple| entries.iter().any(|entry| entry.spec.flow == *flow);
        let before = self.specs(&key);
        let mut remove = self.flows(&key);
        remove.retain(|flow| !kept(flow));
        let new = |flow: &FiveTuple| before.iter().all(|spec| spec.flow != *flow);
        let flows = entries.iter().map(|entry| entry.spec.flow);
        let undo = SessionChange {
            remove: flows.filter(new).collect(),
            install: before,
        };
        let change = SessionChange {
            install: entries.iter().map(|entry| entry.spec).collect(),
            remove,
        };
        let (revision, fingerprint) = (install.revision, install.fingerprint);
        Ok(Plan {
            key,
            change,
            undo,
            then: Some(Installed {
                revision,
                fingerprint,
                entries,
            }),
        })
    }

    /// What removing a session takes; `None` when it is not there.
    pub fn plan_remove(&self, remove: &v1::RemoveSession) -> Result<Option<Plan>, Refusal> {
        let key = entries::key(remove.key.as_ref())?;
        if !self.sessions.contains_key(&key) {
            return Ok(None);
        }
        let change = SessionChange {
            install: Vec::new(),
            remove: self.flows(&key),
        };
        let undo = SessionChange {
            install: self.specs(&key),
            remove: Vec::new(),
        };
        Ok(Some(Plan {
            key,
            change,
            undo,
            then: None,
        }))
    }

    /// Takes over what the worker has done.
    pub fn commit(&mut self, plan: Plan) {
        let Plan {
            key, change, then, ..
        } = plan;
        for flow in &change.remove {
            self.owners.remove(flow);
        }
        match then {
            Some(installed) => {
                for entry in &installed.entries {
                    self.owners.insert(entry.spec.flow, key.clone());
                }
                self.sessions.insert(key, installed);
            }
            None => {
                self.sessions.remove(&key);
            }
        }
    }

    /// A session.
    #[must_use]
    pub fn session(&self, key: &SessionKey) -> Option<&Installed> {
        self.sessions.get(key)
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&SessionKey, &Installed)> {
        self.sessions.iter()
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
        self.owners.len()
    }

    fn flows(&self, key: &SessionKey) -> Vec<FiveTuple> {
        let specs = self.specs(key);
        specs.iter().map(|spec| spec.flow).collect()
    }

    fn specs(&self, key: &SessionKey) -> Vec<EntrySpec> {
        let session = self.sessions.get(key).into_iter();
        let entries = session.flat_map(|session| &session.entries);
        entries.map(|entry| entry.spec).collect()
    }

    /// Checks what must hold between commands.
    pub fn invariants(&self) {
        let entries: usize = self
            .sessions
            .values()
            .map(|session| session.entries.len())
            .sum();
        assert_eq!(entries, self.owners.len(), "each five-tuple has one owner");
        for (key, session) in &self.sessions {
            for entry in &session.entries {
                assert_eq!(
                    self.owners.get(&entry.spec.flow),
                    Some(key),
                    "and that is its session"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sessions::entries::tests::{flow_entry, ways_in};

    fn key(number: u8) -> Option<v1::SessionKey> {
        Some(v1::SessionKey {
            agent_id: "agent".into(),
            session_id: number.to_string(),
        })
    }

    fn install(number: u8, ports: &[u32]) -> v1::InstallSession {
        v1::InstallSession {
            key: key(number),
            revision: 1,
            fingerprint: 2,
            entries: ports.iter().map(|&port| flow_entry(port)).collect(),
        }
    }

    #[test]
    fn a_conflict_names_the_owner_and_changes_nothing() {
        let mut table = Table::default();
        table.commit(
            table
                .plan_install(&install(1, &[10, 11]), &ways_in())
                .unwrap(),
        );
        let refusal = table
            .plan_install(&install(2, &[12, 11]), &ways_in())
            .unwrap_err();
        assert_eq!(refusal.code, Code::Conflict);
        let owner = refusal.owner.as_ref().unwrap();
        assert_eq!((owner.agent(), owner.session()), ("agent", "1"));
        assert!(
            refusal.detail.contains("session agent/1 has 10.1.0.10:11"),
            "{refusal:?}"
        );
        assert_eq!((table.len(), table.entries()), (1, 2));
        assert_eq!(
            table.plan_remove(&v1::RemoveSession { key: key(2) }),
            Ok(None)
        );
    }

    /// A worker that does as it is told.
    fn make(worker: &mut HashMap<FiveTuple, EntrySpec>, change: &SessionChange) {
        worker.extend(change.install.iter().map(|spec| (spec.flow, *spec)));
        for flow in &change.remove {
            worker.remove(flow);
        }
    }

    proptest! {
        /// A worker that does as it is told has exactly the flows of the sessions that there are,
        /// also when it refuses some changes.
        #[test]
        fn worker_and_table_agree(
            steps in prop::collection::vec(
                (0..4_u8, prop::collection::btree_set(1..12_u32, 0..5), any::<bool>()),
                1..80,
            ),
        ) {
            let mut table = Table::default();
            let mut worker = HashMap::new();
            for (number, ports, accepted) in steps {
                let ports: Vec<_> = ports.into_iter().collect();
                let plan = if ports.is_empty() {
                    table.plan_remove(&v1::RemoveSession { key: key(number) }).unwrap()
                } else {
                    match table.plan_install(&install(number, &ports), &ways_in()) {
                        Ok(plan) => Some(plan),
                        Err(refusal) => {
                            prop_assert_eq!(refusal.code, Code::Conflict);
                            None
                        }
                    }
                };
                if let Some(plan) = plan.as_ref().filter(|_| !accepted) {
                    // Whoever has made it takes it back; whoever has not loses nothing by that.
                    let mut other = worker.clone();
                    make(&mut other, &plan.change);
                    for worker in [&mut worker, &mut other] {
                        make(worker, &plan.undo);
                    }
                    prop_assert_eq!(&worker, &other);
                }
                if let Some(plan) = plan.filter(|_| accepted) {
                    make(&mut worker, &plan.change);
                    table.commit(plan);
                }
                table.invariants();
                let sessions = table.sessions.values().flat_map(|session| &session.entries);
                let owned = sessions.map(|entry| (entry.spec.flow, entry.spec)).collect();
                prop_assert_eq!(&worker, &owned);
            }
        }
    }
}
