//! One router's stream, from this side: commands go out in order, answers come back by number.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use super::counters::EntryCounters;
use crate::metrics::{Answer, Asked, Metrics};
use crate::model::{
    entries::FlowEntry,
    error::Refusal,
    ids::{AttachmentId, Fingerprint, Revision, RouterId, SessionKey},
};

/// What a router is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Put these entries in place of whatever the key has.
    Install {
        /// Whose.
        key: SessionKey,
        /// Which version.
        revision: Revision,
        /// Of the entries.
        fingerprint: Fingerprint,
        /// Which.
        entries: Vec<FlowEntry>,
    },
    /// Forget the session.
    Remove(SessionKey),
    /// Tell the session's counters.
    Read(SessionKey),
}

/// What goes to a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToRouter {
    /// First of all.
    Welcome {
        /// Differs for each start of the server.
        server_epoch: u64,
    },
    /// Do this, and answer with the number.
    Command {
        /// Unique within the stream.
        id: u64,
        /// What to do.
        command: Command,
    },
    /// The differences have been applied.
    Synchronised(Summary),
}

/// What it took to bring a router to the server's state, in sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lacked.
    pub installed: u64,
    /// Had otherwise.
    pub replaced: u64,
    /// Had and should not.
    pub removed: u64,
    /// Were right.
    pub unchanged: u64,
}

/// A router's answer to a command; counters come with the answer to a read only.
pub type Reply = Result<Vec<EntryCounters>, Refusal>;

/// Why the server ends a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The same router attached again.
    #[error("router {router} attached again from {peer}; this stream is replaced")]
    Replaced {
        /// The router.
        router: RouterId,
        /// Where the new stream comes from.
        peer: String,
    },
    /// The router does not take its commands off the stream.
    #[error("the router does not read its commands")]
    NotReading,
    /// The router could not be brought to the server's state.
    #[error("the router did not acknowledge in time while it was synchronised")]
    NotSynchronised,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// The stream ended.
    Lost,
    /// Not in time. What was sent will still be read, in its order, while the stream lasts.
    Late,
}

/// One router's stream.
#[derive(Debug)]
pub struct Link {
    router: RouterId,
    attachment: AttachmentId,
    outbound: mpsc::Sender<ToRouter>,
    waiting: Mutex<Waiting>,
    ended: watch::Sender<Option<Ended>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Waiting {
    closed: bool,
    last_id: u64,
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    /// Commands that the router has not answered, whether or not somebody still waits.
    owed: u64,
    /// Since when the router has owed an answer without giving any.
    owed_since: Option<Instant>,
    synchronised: bool,
    /// Until it is synchronised: the sessions that it has been told something of.
    commanded: HashSet<SessionKey>,
}

impl Waiting {
    /// One command less is owed.
    fn settle(&mut self) {
        self.owed = self.owed.saturating_sub(1);
        if self.owed == 0 {
            self.owed_since = None;
        }
    }
}

/// Somebody's place among those who wait for answers, given back however the waiting ends.
struct Place<'a> {
    link: &'a Link,
    id: u64,
    sent: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.link.waiting();
        waiting.replies.remove(&self.id);
        if !self.sent {
            waiting.settle();
        }
    }
}

impl Link {
    pub(super) fn new(
        router: RouterId,
        attachment: AttachmentId,
        outbound: mpsc::Sender<ToRouter>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            router,
            attachment,
            outbound,
            waiting: Mutex::default(),
            ended: watch::Sender::new(None),
            metrics,
        }
    }

    /// Whose stream it is.
    pub fn router(&self) -> &RouterId {
        &self.router
    }

    /// Which stream it is.
    pub fn attachment(&self) -> AttachmentId {
        self.attachment
    }

    /// Waits until the server wants the stream to end.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.subscribe();
        match ended
            .wait_for(Option::is_some)
            .await
            .map(|ended| ended.clone())
        {
            Ok(Some(ended)) => ended,
            // The sender lives in `self`.
            Ok(None) | Err(_) => Ended::NotReading,
        }
    }

    /// Asks the stream to end; the first reason stays.
    pub(super) fn end(&self, why: Ended) {
        self.close();
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(why);
            }
            first
        });
    }

    /// No answer will come any more: everyone who waits for one is told.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.replies.clear();
    }

    /// An answer came. False if nobody waits for it.
    pub fn answer(&self, id: u64, reply: Reply) -> bool {
        let waiter = {
            let mut waiting = self.waiting();
            if id <= waiting.last_id {
                waiting.settle();
                // It gives answers, so what it still owes is not late yet.
                waiting.owed_since = waiting.owed_since.map(|_| Instant::now());
            }
            waiting.replies.remove(&id)
        };
        waiter.is_some_and(|waiter| waiter.send(reply).is_ok())
    }

    /// How long the router has owed an answer without giving any, and how many it owes.
    pub(super) fn owes(&self, now: Instant) -> (Option<Duration>, u64) {
        let waiting = self.waiting();
        let since = waiting.owed_since;
        (since.map(|since| now.duration_since(since)), waiting.owed)
    }

    /// How many answers somebody waits for.
    pub(super) fn waiters(&self) -> usize {
        self.waiting().replies.len()
    }

    /// Messages that wait to be written.
    pub(super) fn queued(&self) -> usize {
        self.outbound.max_capacity() - self.outbound.capacity()
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn ask(&self, command: Command, deadline: Instant) -> Result<Reply, NoReply> {
        let (asked, began) = (Asked::of(&command), Instant::now());
        let reply = match self.post(command, deadline).await {
            Ok((_place, reply)) => match timeout_at(deadline, reply).await {
                Ok(reply) => reply.map_err(|_| NoReply::Lost),
                Err(_) => Err(NoReply::Late),
            },
            Err(lost) => Err(lost),
        };
        self.count(asked, &reply, began);
        reply
    }

    /// Sends a command and waits for its answer for as long as the stream lasts.
    pub(super) async fn ask_patiently(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Reply, NoReply> {
        let (asked, began) = (Asked::of(&command), Instant::now());
        let reply = match self.post(command, deadline).await {
            Ok((_place, reply)) => reply.await.map_err(|_| NoReply::Lost),
            Err(lost) => Err(lost),
        };
        self.count(asked, &reply, began);
        reply
    }

    fn count(&self, asked: Asked, reply: &Result<Reply, NoReply>, began: Instant) {
        let answer = match reply {
            Ok(Ok(_)) => Answer::Done,
            Ok(Err(_)) => Answer::Refused,
            Err(NoReply::Late) => Answer::Late,
            Err(NoReply::Lost) => Answer::Lost,
        };
        self.metrics.answered(asked, answer, began.elapsed());
    }

    /// Sends a command, until the deadline; its answer comes out of the receiver.
    async fn post(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<(Place<'_>, oneshot::Receiver<Reply>), NoReply> {
        let (waiter, reply) = oneshot::channel();
        let id = {
            let mut waiting = self.waiting();
            if waiting.closed {
                return Err(NoReply::Lost);
            }
            waiting.owed += 1;
            waiting.owed_since.get_or_insert_with(Instant::now);
            waiting.last_id += 1;
            let id = waiting.last_id;
            waiting.replies.insert(id, waiter);
            if let (false, Command::Install { key, .. } | Command::Remove(key)) =
                (waiting.synchronised, &command)
            {
                waiting.commanded.insert(key.clone());
            }
            id
        };
        let mut place = Place {
            link: self,
            id,
            sent: false,
        };
        self.send(ToRouter::Command { id, command }, deadline)
            .await?;
        place.sent = true;
        Ok((place, reply))
    }

    /// Waits until what is sent goes nowhere any more.
    pub(super) async fn closed(&self) {
        self.outbound.closed().await;
    }

    /// Queues a message. A router that leaves the queue full until the deadline has stopped
    /// reading: its stream ends, so that it is synchronised when it comes back.
    pub(super) async fn send(&self, message: ToRouter, deadline: Instant) -> Result<(), NoReply> {
        match timeout_at(deadline, self.outbound.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(NoReply::Lost),
            Err(_) => {
                self.end(Ended::NotReading);
                Err(NoReply::Lost)
            }
        }
    }

    /// Whether the router has been told something of a session on this stream, so that what it
    /// said of it when it attached is out of date. Only while it is synchronised.
    pub(super) fn has_commanded(&self, key: &SessionKey) -> bool {
        self.waiting().commanded.contains(key)
    }

    /// The differences have been applied.
    pub(super) fn synchronised(&self) {
        let mut waiting = self.waiting();
        waiting.synchronised = true;
        waiting.commanded = HashSet::new();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
