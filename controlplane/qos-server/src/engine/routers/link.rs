//! One router's stream, from this side: commands go out, answers come back by number.
//!
//! Only so many commands are with the router at a time (`window`). The others wait here, each
//! agent's in turn: an agent that sends many does not hold up those of others. A command that nobody
//! waits for any more is not sent.

mod messages;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, timeout_at},
};

pub use self::messages::{Command, Ended, Reply, Summary, ToRouter};
use super::{attach::Unread, turns::Turns};
use crate::{
    engine::{Clock, observe::strays::Strays},
    metrics::{self, Answer, Metrics},
    model::ids::{AttachmentId, RouterId, SessionKey},
};

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum NoReply {
    /// The stream ended.
    Lost,
    /// Not in time. If it was sent, the router will still read it, in its order, while the stream
    /// lasts.
    Late,
}

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum Patience {
    /// Until then: somebody waits for the outcome.
    Until(Instant),
    /// Until then: the server asks of its own accord, and concludes nothing from a router that is slow.
    AtMost(Instant),
    /// While the router answers anything at all within this time, but no longer than
    /// [`PATIENCE_FACTOR`] times as long.
    WhileItAnswers(Duration),
    /// As long as the stream lasts. A router that answers nothing for this time, though not all has
    /// been sent to it, has stopped.
    WhileTheStreamLasts(Duration),
}

impl Patience {
    /// When it ends, if the router answers nothing.
    pub(in crate::engine) fn deadline(self, now: Instant) -> Instant {
        match self {
            Self::Until(deadline) | Self::AtMost(deadline) => deadline,
            Self::WhileItAnswers(time) | Self::WhileTheStreamLasts(time) => now + time,
        }
    }
}

/// See [`Patience::WhileItAnswers`].
const PATIENCE_FACTOR: u32 = 12;

/// One router's stream.
#[derive(Debug)]
pub struct Link {
    router: RouterId,
    attachment: AttachmentId,
    /// How many commands the router may have that it has not answered.
    window: usize,
    queue: Mutex<Queue>,
    clock: Clock,
    pub(super) unread: Unread,
    /// What it has told of packets without a session.
    pub(in crate::engine) strays: Mutex<Strays>,
    /// There may be a message to send, or the end.
    news: Notify,
    closed: watch::Sender<bool>,
    ended: watch::Sender<Option<Ended>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Queue {
    closed: bool,
    last_id: u64,
    /// What goes before all commands.
    first: VecDeque<ToRouter>,
    turns: Turns,
    /// The commands for whose answers somebody waits.
    asked: BTreeMap<u64, Asked>,
    /// How many of them have been sent.
    sent: usize,
    /// When the router last answered, or attached.
    answered: Instant,
    /// Commands that the router has not answered, whether or not somebody still waits.
    owed: u64,
    /// Since when the router has owed an answer without giving any.
    owed_since: Option<Instant>,
    synchronised: bool,
    /// Until it is synchronised: the sessions that it has been told something of.
    commanded: BTreeSet<SessionKey>,
}

#[derive(Debug)]
struct Asked {
    /// Absent when it has been sent.
    command: Option<Command>,
    reply: oneshot::Sender<Reply>,
}

/// What goes to the router, in its order.
#[derive(Debug)]
pub struct Outgoing(Arc<Link>);

impl Outgoing {
    /// The next message; absent when the stream is to end.
    pub async fn recv(&mut self) -> Option<ToRouter> {
        loop {
            match self.0.next() {
                Next::Message(message) => return Some(message),
                Next::End => return None,
                Next::Nothing => self.0.news.notified().await,
            }
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.0.close();
    }
}

enum Next {
    Message(ToRouter),
    Nothing,
    End,
}

/// A command that somebody waits for. When it drops, nobody does.
struct Waiter<'a> {
    link: &'a Link,
    id: u64,
    since: Instant,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut queue = self.link.queue();
        match queue.asked.remove(&self.id).map(|asked| asked.command) {
            Some(Some(unsent)) => queue.turns.forget(unsent.owner(), self.id),
            Some(None) => {
                queue.sent -= 1;
                self.link.news.notify_one();
            }
            None => {}
        }
    }
}

impl Link {
    /// A stream on which nothing has been sent yet but `welcome`.
    pub(in crate::engine) fn new(
        router: RouterId,
        attachment: AttachmentId,
        window: usize,
        welcome: ToRouter,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            router,
            attachment,
            window: window.max(1),
            queue: Mutex::new(Queue {
                closed: false,
                last_id: 0,
                first: VecDeque::from([welcome]),
                turns: Turns::default(),
                asked: BTreeMap::new(),
                sent: 0,
                answered: clock.instant(),
                owed: 0,
                owed_since: None,
                synchronised: false,
                commanded: BTreeSet::new(),
            }),
            clock,
            unread: Unread::default(),
            strays: Mutex::default(),
            news: Notify::new(),
            closed: watch::Sender::new(false),
            ended: watch::Sender::new(None),
            metrics,
        }
    }

    /// What goes to the router. To be taken once.
    pub(super) fn outgoing(self: &Arc<Self>) -> Outgoing {
        Outgoing(self.clone())
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
            Ok(None) | Err(_) => Ended::NotSynchronised,
        }
    }

    /// Asks the stream to end; the first reason stays.
    pub(in crate::engine) fn end(&self, why: Ended) {
        self.close();
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(why);
            }
            first
        });
    }

    /// Waits until no answer will come any more.
    pub(super) async fn closed(&self) {
        // The sender lives in `self`.
        drop(self.closed.subscribe().wait_for(|closed| *closed).await);
    }

    /// No answer will come any more: everyone who waits for one is told.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
        let asked = {
            let mut queue = self.queue();
            queue.closed = true;
            queue.sent = 0;
            std::mem::take(&mut queue.asked)
        };
        drop(asked);
        self.news.notify_one();
    }

    /// An answer came. False if nobody waits for it.
    pub fn answer(&self, id: u64, reply: Reply) -> bool {
        let asked = {
            let mut queue = self.queue();
            let now = self.clock.instant();
            queue.answered = now;
            // An answer to what was not sent is none.
            let sent = queue.asked.get(&id).is_some_and(|it| it.command.is_none());
            let asked = if sent { queue.asked.remove(&id) } else { None };
            queue.sent -= usize::from(asked.is_some());
            if id <= queue.last_id {
                queue.owed = queue.owed.saturating_sub(1);
            }
            // It gives answers, so what it still owes is not late yet.
            queue.owed_since = (queue.owed > 0).then_some(now);
            asked
        };
        self.news.notify_one();
        asked.is_some_and(|asked| asked.reply.send(reply).is_ok())
    }

    /// Whether the router has had commands for so long and answered none.
    pub(in crate::engine) fn is_mute(&self, timeout: Duration) -> bool {
        let silent = self.owes(self.clock.instant()).0;
        silent.is_some_and(|silent| silent > timeout)
    }

    /// How long the router has owed an answer without giving any, and how many it owes.
    pub(in crate::engine) fn owes(&self, now: Instant) -> (Option<Duration>, u64) {
        let queue = self.queue();
        let since = queue.owed_since;
        (since.map(|since| now.duration_since(since)), queue.owed)
    }

    /// Whether the router owes nothing, and has answered nothing for so long.
    pub(super) fn is_quiet(&self, time: Duration) -> bool {
        let queue = self.queue();
        queue.owed == 0 && queue.asked.is_empty() && self.clock.instant() - queue.answered >= time
    }

    /// How many answers somebody waits for.
    pub(in crate::engine) fn waiters(&self) -> usize {
        self.queue().asked.len()
    }

    /// Messages that wait to be sent.
    pub(in crate::engine) fn queued(&self) -> usize {
        let queue = self.queue();
        queue.first.len() + queue.asked.len() - queue.sent
    }

    /// Sends a command and waits for its answer.
    pub(in crate::engine) async fn ask(
        &self,
        command: Command,
        patience: Patience,
    ) -> Result<Reply, NoReply> {
        let (kind, began) = (metrics::Asked::of(&command), self.clock.instant());
        let reply = self.reply_to(command, patience).await;
        let answer = match &reply {
            Ok(Ok(_)) => Answer::Done,
            Ok(Err(_)) => Answer::Refused,
            Err(NoReply::Late) => Answer::Late,
            Err(NoReply::Lost) => Answer::Lost,
        };
        self.metrics
            .answered(kind, answer, self.clock.instant() - began);
        reply
    }

    /// Waits until the router answers something, or its stream ends.
    pub(in crate::engine) async fn probe(&self, key: &SessionKey, timeout: Duration) {
        let patience = Patience::WhileTheStreamLasts(timeout);
        drop(self.reply_to(Command::Read(key.clone()), patience).await);
    }

    async fn reply_to(&self, command: Command, patience: Patience) -> Result<Reply, NoReply> {
        let (waiter, mut reply) = self.enqueue(command)?;
        loop {
            let deadline = waiter.deadline(patience);
            match timeout_at(deadline, &mut reply).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(_)) => return Err(NoReply::Lost),
                Err(_) if waiter.deadline(patience) > deadline => {}
                Err(_) if waiter.finds_it_stopped(patience) => {
                    self.end(Ended::NoProgress(self.clock.instant() - waiter.since));
                    return Err(NoReply::Lost);
                }
                Err(_) => return Err(NoReply::Late),
            }
        }
    }

    fn enqueue(&self, command: Command) -> Result<(Waiter<'_>, oneshot::Receiver<Reply>), NoReply> {
        let (reply, answer) = oneshot::channel();
        let mut queue = self.queue();
        if queue.closed {
            return Err(NoReply::Lost);
        }
        queue.last_id += 1;
        let id = queue.last_id;
        if let (false, Command::Install { key, .. } | Command::Remove(key)) =
            (queue.synchronised, &command)
        {
            queue.commanded.insert(key.clone());
        }
        queue.turns.push(command.owner(), id);
        let command = Some(command);
        queue.asked.insert(id, Asked { command, reply });
        drop(queue);
        self.news.notify_one();
        let waiter = Waiter {
            link: self,
            id,
            since: self.clock.instant(),
        };
        Ok((waiter, answer))
    }

    fn next(&self) -> Next {
        let mut queue = self.queue();
        let queue = &mut *queue;
        if queue.closed {
            return Next::End;
        }
        if let Some(message) = queue.first.pop_front() {
            return Next::Message(message);
        }
        while queue.sent < self.window
            && let Some(id) = queue.turns.pop()
        {
            // Nobody may wait for it any more.
            let command = queue.asked.get_mut(&id).and_then(|it| it.command.take());
            if let Some(command) = command {
                queue.sent += 1;
                queue.owed += 1;
                queue.owed_since.get_or_insert_with(|| self.clock.instant());
                return Next::Message(ToRouter::Command { id, command });
            }
        }
        Next::Nothing
    }

    /// Sends what is no command.
    pub(in crate::engine) fn say(&self, message: ToRouter) {
        self.queue().first.push_back(message);
        self.news.notify_one();
    }

    /// Whether the router has been told something of a session on this stream, so that what it
    /// said of it when it attached is out of date. Only while it is synchronised.
    pub(super) fn has_commanded(&self, key: &SessionKey) -> bool {
        self.queue().commanded.contains(key)
    }

    /// The differences have been applied.
    pub(in crate::engine) fn synchronised(&self) {
        let mut queue = self.queue();
        queue.synchronised = true;
        let commanded = std::mem::take(&mut queue.commanded);
        drop(queue);
        drop(commanded);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// When to give up, as things stand.
    fn deadline(&self, patience: Patience) -> Instant {
        let (answered, unsent) = self.standing();
        let progress = answered.max(self.since);
        match patience {
            Patience::Until(deadline) | Patience::AtMost(deadline) => deadline,
            Patience::WhileItAnswers(time) => {
                (progress + time).min(self.since + PATIENCE_FACTOR * time)
            }
            Patience::WhileTheStreamLasts(time) if unsent => progress + time,
            Patience::WhileTheStreamLasts(time) => self.link.clock.instant() + time,
        }
    }

    /// At the deadline: whether the router has answered nothing for so long though the command has
    /// not even been sent to it. Its stream is to end then, so that it is synchronised when it comes
    /// back.
    fn finds_it_stopped(&self, patience: Patience) -> bool {
        let (answered, unsent) = self.standing();
        let has_stopped = match patience {
            Patience::Until(_) | Patience::WhileItAnswers(_) => answered < self.since,
            Patience::WhileTheStreamLasts(_) => true,
            Patience::AtMost(_) => false,
        };
        unsent && has_stopped
    }

    /// When the router last answered, and whether the command still has to be sent.
    fn standing(&self) -> (Instant, bool) {
        let queue = self.link.queue();
        let asked = queue.asked.get(&self.id);
        let unsent = asked.is_some_and(|asked| asked.command.is_some());
        (queue.answered, unsent)
    }
}
