//! An agent, and what it has been told: whatever was acknowledged holds, whatever becomes of servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use rand::{Rng as _, rngs::SmallRng};

use super::{Ms, SERVERS};
use crate::model::{
    course::Path,
    ids::{Revision, SessionKey},
    session::{MediaFlow, Priority, RateBps, Rtcp, ServiceClass, SessionSpec, Terms},
};

/// How many calls there may be at once.
const NAMES: u64 = 24;

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Add(SessionSpec),
    Modify(SessionSpec),
    Delete(SessionKey),
}

impl Operation {
    pub(super) fn key(&self) -> &SessionKey {
        match self {
            Self::Add(spec) | Self::Modify(spec) => &spec.key,
            Self::Delete(key) => key,
        }
    }
}

/// A request on its way. The same may be sent twice.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) operation: Operation,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub(super) enum Result {
    Done,
    NoSession,
    /// It is there otherwise.
    OtherRevision(String),
    /// Nothing was changed.
    Refused,
    /// The server does not lead: it has done nothing.
    NotLeading,
    /// The answer was lost, or says so: it may have been done.
    Unknown,
}

/// What may be of a session: 0 for none, else its revision.
type MayBe = BTreeSet<u64>;

#[derive(Debug)]
struct Attempt {
    operation: Operation,
    wanted: u64,
    /// Requests that have not ended.
    open: usize,
    is_done: bool,
    is_unknown: bool,
}

#[derive(Debug)]
struct Name {
    may_be: MayBe,
    attempt: Option<Attempt>,
    /// The last attempt, while nobody knows what became of it.
    last: Option<(Operation, u64)>,
    free_at: Ms,
}

#[derive(Debug)]
pub(super) struct Agent {
    names: BTreeMap<u64, Name>,
    /// Which name a request is of.
    calls: BTreeMap<u64, u64>,
    last_call: u64,
    /// The server that it takes for the leader.
    leader: usize,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    pub(super) preempted: u64,
}

pub(super) fn key(name: u64) -> SessionKey {
    SessionKey::new("agent", &name.to_string()).unwrap()
}

fn spec(name: u64, revision: u64, rng: &mut SmallRng) -> SessionSpec {
    let port = u16::try_from(4_000 + 2 * name).unwrap();
    let end = |net: u8| SocketAddr::from(([10, net, 0, 5], port));
    let rate = [24_000, 80_000, 80_000, 160_000][rng.random_range(0..4)];
    let terms = Terms::Policer {
        rate: RateBps::parse("rate", rate).unwrap(),
        burst: None,
    };
    let flow = |from, to| {
        let path = Path::parse("flow", end(from), end(to)).unwrap();
        MediaFlow::new(path, terms, Rtcp::NextPort)
    };
    let revision = Revision::parse("revision", revision).unwrap();
    let flows = vec![flow(1, 2), flow(2, 1)];
    SessionSpec {
        may_preempt: rng.random_bool(0.3),
        preemptable: rng.random_bool(0.5),
        priority: Priority::parse("priority", rng.random_range(1..16)).unwrap(),
        ..SessionSpec::new(key(name), revision, flows, ServiceClass::AdmittedTelephony)
    }
}

impl Agent {
    pub(super) fn new() -> Self {
        let name = || Name {
            may_be: [0].into(),
            attempt: None,
            last: None,
            free_at: 0,
        };
        Self {
            names: (0..NAMES).map(|it| (it, name())).collect(),
            calls: BTreeMap::new(),
            last_call: 0,
            leader: 0,
            acknowledged: 0,
            refused: 0,
            unknown: 0,
            preempted: 0,
        }
    }

    /// Asks for something, mostly: which server, when it is sent, and the request.
    pub(super) fn ask(&mut self, now: Ms, rng: &mut SmallRng) -> Vec<(usize, Ms, Call)> {
        let index = rng.random_range(0..NAMES);
        let name = self.names.get_mut(&index).unwrap();
        if name.attempt.is_some() || name.free_at > now {
            return Vec::new();
        }
        let known = (name.may_be.len() == 1)
            .then(|| name.may_be.first().copied())
            .flatten();
        let (operation, wanted) = match (known, name.last.take()) {
            (Some(0), _) => (Operation::Add(spec(index, 1, rng)), 1),
            (Some(_), _) if rng.random_bool(0.5) => (Operation::Delete(key(index)), 0),
            (Some(is), _) => (Operation::Modify(spec(index, is + 1, rng)), is + 1),
            // The same again, so that it is known.
            (None, Some(last)) => last,
            (None, None) => (Operation::Delete(key(index)), 0),
        };
        let copies = if rng.random_bool(0.1) { 2 } else { 1 };
        name.attempt = Some(Attempt {
            operation: operation.clone(),
            wanted,
            open: copies,
            is_done: false,
            is_unknown: false,
        });
        let copy = |copy: usize| {
            self.last_call += 1;
            self.calls.insert(self.last_call, index);
            let server = (self.leader + copy * usize::from(rng.random_bool(0.5))) % SERVERS;
            let delay = if copy > 0 {
                rng.random_range(0..2_000)
            } else {
                rng.random_range(0..20)
            };
            let call = Call {
                id: self.last_call,
                operation: operation.clone(),
            };
            (server, now + delay, call)
        };
        (0..copies).map(copy).collect()
    }

    /// A request has ended at a server of this term. What was acknowledged is in `committed` then.
    pub(super) fn ended(
        &mut self,
        now: Ms,
        call: u64,
        result: Result,
        committed: &BTreeMap<SessionKey, u64>,
    ) {
        let Some(index) = self.calls.remove(&call) else {
            return;
        };
        let is = committed.get(&key(index)).copied().unwrap_or(0);
        let name = self.names.get_mut(&index).unwrap();
        let Some(attempt) = &mut name.attempt else {
            return;
        };
        attempt.open -= 1;
        let wanted = attempt.wanted;
        match result {
            Result::Done => {
                assert_eq!(
                    is, wanted,
                    "call {index} was acknowledged, and is not committed"
                );
                attempt.is_done = true;
                name.may_be = [wanted].into();
                self.acknowledged += 1;
            }
            Result::NoSession if wanted == 0 => {
                assert_eq!(is, 0, "call {index} is said not to be there");
                attempt.is_done = true;
                name.may_be = [0].into();
            }
            Result::NoSession if name.may_be.contains(&0) => name.may_be = [0].into(),
            Result::NoSession => panic!("call {index} is lost: it was {:?}", name.may_be),
            Result::OtherRevision(said) => panic!("call {index} was {:?}: {said}", name.may_be),
            Result::Refused => {
                self.refused += 1;
                if !attempt.is_done && name.may_be.len() > 1 {
                    name.may_be.remove(&wanted);
                }
            }
            Result::NotLeading => self.leader = (self.leader + 1) % SERVERS,
            Result::Unknown => attempt.is_unknown = true,
        }
        if attempt.open > 0 {
            return;
        }
        if attempt.is_unknown && !attempt.is_done {
            self.unknown += 1;
            name.may_be.insert(wanted);
            name.last = Some((attempt.operation.clone(), wanted));
        }
        name.attempt = None;
        name.free_at = now + 100;
    }

    /// A commit makes this of a session, which was `was`; `makes_way`: a more important one may take its
    /// place.
    pub(super) fn commits(&mut self, key: &SessionKey, was: u64, is: u64, makes_way: bool) {
        let name = key.session().parse().ok();
        let name = name
            .and_then(|name: u64| self.names.get_mut(&name))
            .unwrap();
        let wanted = name.attempt.as_ref().map(|it| it.wanted);
        // Without an attempt, a commit of a server that was killed may still be on its way.
        if name.may_be.contains(&is) {
            return;
        }
        let makes_way = is == 0 && makes_way;
        if wanted == Some(is) && !makes_way {
            return;
        }
        assert!(
            makes_way,
            "call {key} was {was} and becomes {is}; it may be {:?}, asked for {wanted:?}",
            name.may_be
        );
        self.preempted += u64::from(wanted != Some(0));
        if wanted.is_none() {
            name.may_be.clear();
        }
        name.may_be.insert(0);
    }

    /// Whether it is known how a session is, so that it has to stand as it is.
    pub(super) fn knows(&self, key: &SessionKey) -> bool {
        self.name(key)
            .is_some_and(|name| name.attempt.is_none() && name.may_be.len() == 1)
    }

    fn name(&self, key: &SessionKey) -> Option<&Name> {
        self.names.get(&key.session().parse().ok()?)
    }

    /// Which session a request is of, if it has not ended.
    pub(super) fn key_of(&self, call: u64) -> Option<SessionKey> {
        self.calls.get(&call).map(|name| key(*name))
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.names.values().all(|it| it.attempt.is_none())
    }

    /// What is committed is what was acknowledged.
    pub(super) fn check_all(&self, committed: &BTreeMap<SessionKey, u64>) {
        for (index, name) in &self.names {
            let is = committed.get(&key(*index)).copied().unwrap_or(0);
            assert!(
                name.attempt.is_some() || name.may_be.contains(&is),
                "call {index} is {is}, and may be {:?}",
                name.may_be
            );
        }
    }
}
