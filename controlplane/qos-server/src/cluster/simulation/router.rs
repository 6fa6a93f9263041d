//! A router that does what the server of the latest term says, and may be mute, killed or cut off.

use std::collections::BTreeMap;

use super::{BUDGET_BPS, Ms, SERVERS};
use crate::{
    engine::{Command, Reply, ToRouter},
    model::{
        entries::FiveTuple,
        error::{Refusal, RefusalKind},
        ids::{Fingerprint, Revision, RouterId, SessionKey},
        registry::{Identity, Interface, Role},
        store::Reported,
    },
};

pub(super) const NAMES: [&str; 2] = ["a", "b"];

/// What a router reports: its hosts, and the way to the other's.
pub(super) fn interfaces(name: &str) -> Vec<Interface> {
    let (own, other) = if name == NAMES[0] { (1, 2) } else { (2, 1) };
    let interface = |name: &str, role, net: u8, budget| Interface {
        name: name.into(),
        role,
        up: true,
        addresses: Vec::new(),
        prefixes: vec![format!("10.{net}.0.0/24").parse().unwrap()],
        refused: Vec::new(),
        rate_bps: 0,
        ef_budget_bps: budget,
        ef_ingress_budget_bps: 0,
        mtu_bytes: 1_500,
        overhead_bytes: 0,
        vlan_id: 0,
        port: name.into(),
    };
    vec![
        interface("lan0", Role::Edge, own, 0),
        interface("wan0", Role::Core, other, BUDGET_BPS),
    ]
}

/// What a router has of a session.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    pub(super) revision: Revision,
    pub(super) fingerprint: Fingerprint,
    tuples: Vec<FiveTuple>,
}

#[derive(Debug)]
pub(super) struct Router {
    index: usize,
    epoch: u64,
    pub(super) table: BTreeMap<SessionKey, Installed>,
    /// The latest that it has heard of.
    term: u64,
    /// The server that it has a stream to.
    pub(super) stream: Option<(usize, u64)>,
    pub(super) synchronised: bool,
    next_server: usize,
    pub(super) again_at: Ms,
    /// Until then it reads nothing.
    pub(super) mute_until: Ms,
    unread: Vec<ToRouter>,
}

/// What came of a message.
pub(super) enum Done {
    /// An answer to a command.
    Answer(u64, Reply),
    /// The server is one of an earlier term: the stream ends.
    Fenced,
    Nothing,
}

impl Router {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            epoch: 0,
            table: BTreeMap::new(),
            term: 0,
            stream: None,
            synchronised: false,
            next_server: index % SERVERS,
            again_at: 0,
            mute_until: 0,
            unread: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> RouterId {
        RouterId::parse("id", NAMES[self.index]).unwrap()
    }

    pub(super) fn identity(&self) -> Identity {
        Identity {
            id: self.id(),
            epoch: self.epoch,
            software_version: "simulated".to_owned(),
            entry_capacity: 10_000,
        }
    }

    /// The process is killed, with all that it has.
    pub(super) fn kill(&mut self) -> Option<(usize, u64)> {
        let stream = self.stream;
        *self = Self {
            epoch: self.epoch + 1,
            next_server: self.next_server,
            ..Self::new(self.index)
        };
        stream
    }

    pub(super) fn reported(&self) -> BTreeMap<SessionKey, Reported> {
        let table = self.table.iter();
        let reported = |it: &Installed| Reported {
            revision: it.revision.get(),
            fingerprint: it.fingerprint,
        };
        table.map(|(key, it)| (key.clone(), reported(it))).collect()
    }

    /// The server to try next.
    pub(super) fn open(&mut self, stream: u64) -> usize {
        let server = self.next_server;
        self.next_server = (server + 1) % SERVERS;
        (self.stream, self.synchronised) = (Some((server, stream)), false);
        server
    }

    /// Its stream has ended.
    pub(super) fn ended(&mut self, again_at: Ms) {
        (self.stream, self.again_at, self.synchronised) = (None, again_at, false);
        self.unread.clear();
    }

    pub(super) fn put(&mut self, message: ToRouter) {
        self.unread.push(message);
    }

    pub(super) fn next(&mut self, now: Ms) -> Option<ToRouter> {
        (now >= self.mute_until && !self.unread.is_empty()).then(|| self.unread.remove(0))
    }

    /// Does what it is told; `refuses`: its table is said to be full.
    pub(super) fn take(&mut self, message: ToRouter, refuses: bool) -> Done {
        let (id, command) = match message {
            ToRouter::Welcome { leader, .. } if leader.term < self.term => return Done::Fenced,
            ToRouter::Welcome { leader, .. } => {
                self.term = leader.term;
                return Done::Nothing;
            }
            ToRouter::Synchronised(_) => {
                self.synchronised = true;
                return Done::Nothing;
            }
            ToRouter::Command { id, command } => (id, command),
        };
        let reply = match command {
            Command::Install {
                key,
                revision,
                fingerprint,
                entries,
            } => {
                let tuples: Vec<FiveTuple> = entries.iter().map(|it| it.tuple).collect();
                let mut others = self.table.iter().filter(|(other, _)| **other != key);
                let owner = others.find(|(_, it)| it.tuples.iter().any(|it| tuples.contains(it)));
                if let Some((owner, _)) = owner {
                    Err(refusal(RefusalKind::Conflict, Some(owner.clone())))
                } else if refuses {
                    Err(refusal(RefusalKind::TableFull, None))
                } else {
                    let installed = Installed {
                        revision,
                        fingerprint,
                        tuples,
                    };
                    self.table.insert(key, installed);
                    Ok(Vec::new())
                }
            }
            Command::Remove(key) => {
                self.table.remove(&key);
                Ok(Vec::new())
            }
            Command::Read(_) => Ok(Vec::new()),
        };
        Done::Answer(id, reply)
    }
}

fn refusal(kind: RefusalKind, owner: Option<SessionKey>) -> Refusal {
    Refusal {
        kind,
        detail: String::new(),
        owner,
    }
}
