//! What always holds, and what does at rest.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message as _;

use super::{BUDGET_BPS, World, etcd::Commit, router, server::Server};
use crate::{
    engine::{Command, Engine},
    journal::{Space, record::StoredSession},
    model::ids::SessionKey,
};

/// A session as it is committed.
#[derive(Debug)]
pub(super) struct Kept {
    key: SessionKey,
    revision: u64,
    preemptable: bool,
    /// Router, port, out of it, bit/s.
    charges: Vec<(String, String, bool, u64)>,
}

impl Kept {
    fn read(value: &[u8]) -> Self {
        let stored = StoredSession::decode(value).unwrap();
        let spec = stored.spec.unwrap();
        let key = spec.key.unwrap();
        let charges = stored.charges.into_iter();
        Self {
            key: SessionKey::new(&key.agent_id, &key.session_id).unwrap(),
            revision: spec.revision,
            preemptable: spec.preemptable,
            charges: charges
                .map(|it| (it.router, it.port, it.out, it.bps))
                .collect(),
        }
    }
}

impl World {
    /// A call that stands is not taken away from a router.
    pub(super) fn check_command(&self, router: usize, command: &Command) {
        if let Command::Remove(key) = command {
            assert!(
                !self.committed.contains_key(key) || !self.agent.knows(key),
                "router {} is told to remove {key}, which stands",
                router::NAMES[router]
            );
        }
    }

    /// Every change is one that was asked for, and what is kept then is within the links' budgets.
    pub(super) fn check_commit(&mut self, commit: &Commit) {
        self.commits += 1;
        for change in commit
            .batch
            .iter()
            .filter(|it| it.space() == Space::Sessions)
        {
            let was = self.kept.remove(change.key());
            let is = change.value().map(Kept::read);
            let Some(key) = was.as_ref().or(is.as_ref()).map(|it| it.key.clone()) else {
                continue;
            };
            let before = self.committed.remove(&key).unwrap_or(0);
            assert_eq!(
                before,
                was.as_ref().map_or(0, |it| it.revision),
                "{key} is there twice"
            );
            let after = is.as_ref().map_or(0, |it| it.revision);
            let term = commit.term;
            self.trace(&key, || {
                format!("commit of term {term}: {before} becomes {after}")
            });
            let makes_way = was.as_ref().is_some_and(|it| it.preemptable);
            self.agent.commits(&key, before, after, makes_way);
            for (router, port, out, bps) in was.into_iter().flat_map(|it| it.charges) {
                *self.loads.get_mut(&(router, port, out)).unwrap() -= bps;
            }
            if let Some(is) = is {
                for (router, port, out, bps) in is.charges.iter().cloned() {
                    *self.loads.entry((router, port, out)).or_default() += bps;
                }
                self.committed.insert(key, is.revision);
                self.kept.insert(change.key().into(), is);
            }
        }
        for (link, load) in &self.loads {
            let is_limited = link.1 == "wan0";
            assert!(
                !is_limited || *load <= BUDGET_BPS,
                "{load} bit/s are committed on {link:?}, over its budget of {BUDGET_BPS}"
            );
        }
        if self.commits.is_multiple_of(1_000) {
            self.recount();
        }
    }

    /// What was counted change by change is what is there.
    pub(super) fn recount(&self) {
        let mut sums: BTreeMap<(String, String, bool), u64> = BTreeMap::new();
        let mut committed = BTreeMap::new();
        for kept in self.kept.values() {
            committed.insert(kept.key.clone(), kept.revision);
            for (router, port, out, bps) in kept.charges.iter().cloned() {
                *sums.entry((router, port, out)).or_default() += bps;
            }
        }
        assert_eq!(committed, self.committed);
        let mut loads = self.loads.clone();
        loads.retain(|_, load| *load > 0);
        assert_eq!(sums, loads);
    }

    /// What is not as it is to be when nothing happens any more.
    pub(super) fn unrest(&self) -> Option<String> {
        if !self.agent.is_at_rest() {
            return Some("the agent waits for answers".to_owned());
        }
        let engines = self.servers.iter().filter_map(Server::engine);
        let engines: Vec<&Arc<Engine>> = engines.collect();
        let [engine] = engines[..] else {
            return Some(format!("{} servers lead", engines.len()));
        };
        let has = engine.revisions();
        if has != self.committed {
            return Some(format!(
                "the leader has {has:?}, committed is {:?}",
                self.committed
            ));
        }
        self.routers.iter().find_map(|router| {
            let table = router.table.iter();
            let table = table.map(|(key, it)| (key.clone(), (it.revision, it.fingerprint)));
            let (table, wanted) = (
                table.collect::<BTreeMap<_, _>>(),
                engine.wanted_on(&router.id()),
            );
            (!router.synchronised || table != wanted)
                .then(|| format!("router {} has {table:?}, wanted is {wanted:?}", router.id()))
        })
    }
}
