//! An etcd that compares what a real one would: the term and the head at each commit.

use std::{collections::BTreeMap, sync::Arc};

use super::{Ms, SERVERS};
use crate::{
    cluster::{Leader, keys, lead::TTL_S, mirror::FORMAT},
    journal::{Change, Space, Totals},
};

/// How long it keeps the leader's key without a renewal.
const TTL: Ms = TTL_S.unsigned_abs() * 1_000;

/// What a server asks.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Campaign {
        after: u64,
    },
    Renew {
        lease: u64,
    },
    Revoke {
        lease: u64,
    },
    Commit(Commit),
    /// All that there is, and from there on what changes.
    List,
}

/// A transaction: all of `batch`, if this server still leads and nobody has written since.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) term: u64,
    pub(super) before: Totals,
    pub(super) after: Totals,
    pub(super) batch: Arc<[Change]>,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Campaigned { lease: u64, won: Option<u64> },
    Renewed { kept: bool },
    Committed(Committed),
    Listed { watch: u64, all: News },
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    /// It was made, now or by an earlier attempt.
    Made,
    /// Another server leads.
    Fenced,
    /// Somebody else has written in this term.
    Foreign,
}

/// Keys with their values; absent: gone.
pub(super) type News = Arc<[(Vec<u8>, Option<Vec<u8>>)]>;

#[derive(Debug, Default)]
pub(super) struct Etcd {
    pub(super) away: bool,
    term: u64,
    /// Its lease, when that ends, and which server it is.
    leader: Option<(u64, Ms, usize)>,
    leases: u64,
    head: Totals,
    records: BTreeMap<(Space, Box<[u8]>), Vec<u8>>,
    watches: [Option<u64>; SERVERS],
    last_watch: u64,
    /// What the watches have not been told.
    news: Vec<News>,
}

impl Etcd {
    /// How many leaders there have been.
    pub(super) fn term(&self) -> u64 {
        self.term
    }

    /// Ends the lease that nobody has renewed.
    pub(super) fn expire(&mut self, now: Ms) {
        if self.leader.take_if(|(_, end, _)| *end <= now).is_some() {
            self.news.push([(keys::LEADER.into(), None)].into());
        }
    }

    /// It comes back, or goes away, and with it all watches. A new raft leader gives every lease its whole
    /// time again.
    pub(super) fn toggle(&mut self, now: Ms) {
        self.away ^= true;
        self.watches = [None; SERVERS];
        if let Some((_, end, _)) = &mut self.leader {
            *end = now + TTL;
        }
    }

    /// A server's watch breaks.
    pub(super) fn unwatch(&mut self, server: usize) {
        self.watches[server] = None;
    }

    /// What each server's watch is to be told, in order.
    pub(super) fn news(&mut self) -> Vec<(usize, u64, News)> {
        let news = std::mem::take(&mut self.news);
        let watches = self.watches.iter().enumerate();
        let watches = watches.filter_map(|(server, watch)| Some((server, (*watch)?)));
        watches
            .flat_map(|(server, watch)| news.iter().map(move |it| (server, watch, it.clone())))
            .collect()
    }

    /// Whether a commit would be made.
    pub(super) fn takes(&self, commit: &Commit) -> bool {
        self.term == commit.term && self.head == commit.before
    }

    pub(super) fn answer(&mut self, now: Ms, server: usize, request: Request) -> Option<Answer> {
        match request {
            Request::Campaign { after } => {
                self.leases += 1;
                let lease = self.leases;
                let won = self.leader.is_none() && self.term == after;
                if won {
                    self.term += 1;
                    self.leader = Some((lease, now + TTL, server));
                    let news = [self.term_key(), self.leader_key()];
                    self.news.push(news.into_iter().flatten().collect());
                }
                let won = won.then_some(self.term);
                Some(Answer::Campaigned { lease, won })
            }
            Request::Renew { lease } => {
                let leader = self.leader.as_mut().filter(|(of, ..)| *of == lease);
                let kept = leader.map(|(_, end, _)| *end = now + TTL).is_some();
                Some(Answer::Renewed { kept })
            }
            Request::Revoke { lease } => {
                if self.leader.take_if(|(of, ..)| *of == lease).is_some() {
                    self.news.push([(keys::LEADER.into(), None)].into());
                }
                None
            }
            Request::Commit(commit) => Some(Answer::Committed(self.commit(&commit))),
            Request::List => {
                self.last_watch += 1;
                self.watches[server] = Some(self.last_watch);
                Some(Answer::Listed {
                    watch: self.last_watch,
                    all: self.all(),
                })
            }
        }
    }

    fn commit(&mut self, commit: &Commit) -> Committed {
        if self.term != commit.term {
            return Committed::Fenced;
        }
        if self.head == commit.after {
            return Committed::Made;
        }
        if self.head != commit.before {
            return Committed::Foreign;
        }
        let mut news = Vec::with_capacity(commit.batch.len() + 1);
        for change in &*commit.batch {
            let key = (change.space(), change.key().into());
            let value = change.value().map(<[u8]>::to_vec);
            match value.clone() {
                Some(value) => drop(self.records.insert(key, value)),
                None => drop(self.records.remove(&key)),
            }
            news.push((keys::of_record(change.space(), change.key()), value));
        }
        self.head = commit.after;
        news.push((keys::HEAD.into(), Some(self.head.encode().into())));
        self.news.push(news.into());
        Committed::Made
    }

    fn all(&self) -> News {
        let format = (keys::FORMAT.into(), Some(FORMAT.to_string().into()));
        let epoch = (keys::EPOCH.into(), Some(b"1048576".to_vec()));
        let head = (keys::HEAD.into(), Some(self.head.encode().into()));
        let records = self.records.iter().map(|((space, key), value)| {
            let key = keys::of_record(*space, key);
            (key, Some(value.clone()))
        });
        let records = records.chain((self.head.commit > 0).then_some(head));
        let own = [
            Some(format),
            Some(epoch),
            self.term_key(),
            self.leader_key(),
        ];
        own.into_iter().flatten().chain(records).collect()
    }

    fn term_key(&self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        Some((keys::TERM.into(), Some(self.term.to_string().into())))
    }

    fn leader_key(&self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let (.., server) = self.leader?;
        let leader = Leader {
            term: self.term,
            url: super::url(server),
        };
        let value = serde_json::to_vec(&leader).unwrap();
        Some((keys::LEADER.into(), Some(value)))
    }
}
