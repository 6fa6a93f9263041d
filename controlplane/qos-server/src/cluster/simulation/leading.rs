//! What a leader does: its engine, and commits to etcd as [`EtcdStore`](crate::cluster::EtcdStore) makes
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock, atomic::AtomicI64},
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    sync::{Notify, oneshot},
};

use super::{
    Ms,
    agent::{Call, Operation, Result as CallResult},
    etcd::{Commit, Committed, Request},
    millis, router,
};
use crate::{
    cluster::{
        Leader,
        etcd::PATIENCE,
        lead::{AGAIN_AFTER, Lost, STEP_DOWN_AFTER},
        mirror::Mirror,
        store::MAX_CHANGES,
    },
    engine::{Clock, Engine, Link, Reply, Settings, ToRouter},
    journal::{Backend, Change, Each, Handed, Journal, StoreError, Totals},
    model::{error::Error, ids::SessionKey, registry::Identity, store::Reported},
};

/// What the server's tasks have said, until their turn is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox(Arc<Mutex<Vec<Out>>>);

#[derive(Debug)]
pub(super) enum Out {
    Said {
        stream: u64,
        message: ToRouter,
    },
    Ended {
        stream: u64,
    },
    Called {
        call: u64,
        term: u64,
        result: CallResult,
    },
    ToEtcd {
        sent: Ms,
        request: Request,
    },
}

impl Outbox {
    pub(super) fn push(&self, out: Out) {
        self.0.lock().unwrap().push(out);
    }

    /// In an order that does not hang on which task was woken first.
    pub(super) fn take(&self) -> Vec<Out> {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap());
        all.sort_by_key(|out| match out {
            Out::ToEtcd { .. } => (0, 0),
            Out::Said { stream, .. } | Out::Ended { stream } => (1, *stream),
            Out::Called { call, .. } => (2, *call),
        });
        all
    }
}

/// What a new leader has read.
struct Read {
    mirror: Option<Mirror>,
    leader: Leader,
}

impl Backend for Read {
    fn load(&mut self, each: &mut Each<'_>) -> Result<(), StoreError> {
        for (space, key, value) in self.mirror.take().unwrap().into_records() {
            each(space, &key, &value).map_err(|reason| StoreError::EtcdRecord { reason })?;
        }
        Ok(())
    }

    fn commit(&mut self, _: &[Change]) -> Result<(), StoreError> {
        unreachable!("commits are made by hand")
    }

    fn epoch(&self) -> u64 {
        1
    }

    fn leader(&self) -> Leader {
        self.leader.clone()
    }

    fn is_new(&self) -> bool {
        false
    }
}

/// A stream of a router, or the wish for one.
#[derive(Debug)]
struct Stream {
    link: Arc<OnceLock<Arc<Link>>>,
    cut: Arc<Notify>,
}

#[derive(Debug)]
struct Committing {
    commit: Commit,
    done: Vec<oneshot::Sender<()>>,
    began: Ms,
    sent: Ms,
}

#[derive(Debug)]
pub(super) struct Leading {
    pub(super) term: u64,
    pub(super) engine: Arc<Engine>,
    handed: Handed,
    head: Totals,
    /// One commit at a time.
    commit: Option<Committing>,
    streams: BTreeMap<u64, Stream>,
    /// Those that have no answer.
    calls: BTreeSet<u64>,
    out: Outbox,
}

impl Leading {
    pub(super) fn begin(
        runtime: &Runtime,
        leader: Leader,
        mirror: Mirror,
        wall: Arc<AtomicI64>,
        out: Outbox,
    ) -> Self {
        let (term, head) = (leader.term, mirror.head());
        let mirror = Some(mirror);
        let read = Read { mirror, leader };
        let mut handed = None;
        let engine = runtime.block_on(async {
            let settings = Settings {
                acknowledge_timeout: Duration::from_secs(1),
                adopt_for: Duration::ZERO,
                retry_every: Duration::from_secs(2),
                clock: Clock::with_wall(wall),
                ..Settings::default()
            };
            Engine::restore_with(settings, read, |_, next_id, _| {
                let (journal, rest) = Journal::by_hand(usize::MAX, next_id);
                handed = Some(rest);
                Ok(journal)
            })
        });
        Self {
            term,
            engine: engine.unwrap(),
            handed: handed.unwrap(),
            head,
            commit: None,
            streams: BTreeMap::new(),
            calls: BTreeSet::new(),
            out,
        }
    }

    /// Ends all streams; whoever has asked has no answer.
    pub(super) fn end(self) {
        self.engine.stop();
        for call in self.calls {
            self.out.push(Out::Called {
                call,
                term: self.term,
                result: CallResult::Unknown,
            });
        }
    }

    pub(super) fn calls(&self) -> Vec<u64> {
        self.calls.iter().copied().collect()
    }

    pub(super) fn streams(&self) -> Vec<u64> {
        self.streams.keys().copied().collect()
    }

    pub(super) fn note(&mut self, out: &Out) {
        match out {
            Out::Called { call, .. } => drop(self.calls.remove(call)),
            Out::Ended { stream } => drop(self.streams.remove(stream)),
            Out::Said { .. } | Out::ToEtcd { .. } => {}
        }
    }

    /// Sends what is to be committed, and again what has no answer; tells why it cannot lead any more.
    pub(super) fn commit(&mut self, now: Ms) -> Result<(), Lost> {
        if self.commit.is_none() {
            let (batch, done) = self.handed.take(MAX_CHANGES);
            self.commit = (!batch.is_empty()).then(|| Committing {
                commit: Commit {
                    term: self.term,
                    before: self.head,
                    after: self.head.after(&batch),
                    batch: batch.into(),
                },
                done,
                began: now,
                sent: 0,
            });
        }
        let Some(of) = &mut self.commit else {
            return Ok(());
        };
        if now - of.began >= millis(STEP_DOWN_AFTER) {
            // By then it leads no more, or etcd takes no writes.
            return Err(Lost::Late);
        }
        if of.sent == 0 || now - of.sent >= millis(PATIENCE + AGAIN_AFTER) {
            of.sent = now;
            let request = Request::Commit(of.commit.clone());
            self.out.push(Out::ToEtcd { sent: now, request });
        }
        Ok(())
    }

    /// The answer to a commit that was sent then.
    pub(super) fn committed(&mut self, committed: Committed, sent: Ms) -> Result<(), Lost> {
        let Some(of) = self.commit.take_if(|it| it.began <= sent) else {
            return Ok(());
        };
        match committed {
            Committed::Made => {
                self.head = of.commit.after;
                for done in of.done {
                    // Fails when nobody waits.
                    let _: Result<(), ()> = done.send(());
                }
                Ok(())
            }
            Committed::Fenced => Err(Lost::Resigned),
            Committed::Foreign => panic!("somebody else has written in this term"),
        }
    }

    pub(super) fn call(&mut self, runtime: &Runtime, Call { id, operation }: Call) {
        self.calls.insert(id);
        let (engine, term, out) = (self.engine.clone(), self.term, self.out.clone());
        runtime.spawn(async move {
            let outcome = match operation {
                Operation::Add(spec) => engine.add(spec).await,
                Operation::Modify(spec) => engine.modify(spec).await,
                Operation::Delete(key) => engine.delete(key).await,
            };
            let result = match outcome {
                Ok(_) => CallResult::Done,
                Err(Error::NoSession(_)) => CallResult::NoSession,
                Err(Error::ShuttingDown | Error::Internal(_)) => CallResult::Unknown,
                Err(error @ (Error::Exists { .. } | Error::RevisionNotLater { .. })) => {
                    CallResult::OtherRevision(error.to_string())
                }
                Err(_) => CallResult::Refused,
            };
            let call = id;
            out.push(Out::Called { call, term, result });
        });
    }

    /// A router opens a stream.
    pub(super) fn attach(
        &mut self,
        runtime: &Runtime,
        stream: u64,
        identity: Identity,
        has: BTreeMap<SessionKey, Reported>,
    ) {
        let (link, cut) = (Arc::new(OnceLock::new()), Arc::new(Notify::new()));
        let (engine, out) = (self.engine.clone(), self.out.clone());
        let interfaces = router::interfaces(identity.id.as_str());
        let wish = Stream {
            link: link.clone(),
            cut: cut.clone(),
        };
        self.streams.insert(stream, wish);
        runtime.spawn(async move {
            let peer = "simulated".to_owned();
            let attached = engine.attach(identity, peer, interfaces, has).await;
            if let Ok((its, mut messages)) = attached {
                link.set(its.clone()).unwrap();
                let mut ends = std::pin::pin!(async {
                    tokio::select! {
                        biased;
                        () = cut.notified() => {}
                        () = engine.stopped() => {}
                    }
                });
                loop {
                    let message = tokio::select! {
                        biased;
                        () = &mut ends => None,
                        message = messages.recv() => message,
                    };
                    match message {
                        Some(message) => out.push(Out::Said { stream, message }),
                        None => break,
                    }
                }
                engine.detach(&its, "cut");
            }
            out.push(Out::Ended { stream });
        });
    }

    pub(super) fn cut(&self, stream: u64) {
        if let Some(stream) = self.streams.get(&stream) {
            stream.cut.notify_one();
        }
    }

    pub(super) fn answer(&self, stream: u64, id: u64, reply: Reply) {
        if let Some(link) = self.streams.get(&stream).and_then(|it| it.link.get()) {
            link.answer(id, reply);
        }
    }
}
