//! The one task that owns the call model and what the QoS server should have: everything else sends it
//! messages.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tonic::Code;
use tracing::{debug, info, warn};
use voicelane_proto::v1;

mod figures;
mod input;

pub use figures::{Figures, Snapshot};
pub use input::{CallView, Described, Explained, Input, NgInput, Query};

use crate::{
    call::{Change, Micros, Model, NgMedia, SessionId},
    client::{Answer, Desired, Event, Question, Verdict, connection::FromServer},
    config::AtEnd,
    sip,
    text::Printable,
};

/// How long the end may take to delete all sessions.
const LAST_DELETIONS: Duration = Duration::from_secs(5);
/// The longest sleep: nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

/// What the agent reads from.
pub struct Sources {
    /// Mirrored signalling, as the sockets have read it.
    pub batches: mpsc::Receiver<Vec<Input>>,
    /// What somebody waits for.
    pub urgent: mpsc::Receiver<Input>,
    /// From the QoS server.
    pub server: mpsc::Receiver<FromServer>,
    /// Resolves when the agent is to end.
    pub stop: oneshot::Receiver<()>,
}

/// The state of the one task that owns the call model.
pub struct Agent {
    model: Model,
    desired: Desired,
    figures: Arc<Figures>,
    /// The open stream of changes.
    requests: Option<mpsc::Sender<v1::ChangeSessionsRequest>>,
    questions: mpsc::Sender<Vec<Question>>,
    kept: mpsc::Sender<Vec<String>>,
    /// Who waits for the verdict on a reservation.
    waiters: HashMap<SessionId, Vec<oneshot::Sender<Verdict>>>,
    began: Instant,
}

impl Agent {
    /// Without calls or sessions.
    pub fn new(
        model: Model,
        desired: Desired,
        figures: Arc<Figures>,
        questions: mpsc::Sender<Vec<Question>>,
        kept: mpsc::Sender<Vec<String>>,
    ) -> Self {
        Self {
            model,
            desired,
            figures,
            requests: None,
            questions,
            kept,
            waiters: HashMap::new(),
            began: Instant::now(),
        }
    }

    /// Runs until it is stopped.
    pub async fn run(mut self, mut from: Sources, at_end: AtEnd) {
        loop {
            tokio::select! {
                biased;
                _ = &mut from.stop => break,
                Some(input) = from.urgent.recv() => self.take(input),
                Some(event) = from.server.recv() => self.heard(event),
                Some(batch) = from.batches.recv() => {
                    for input in batch {
                        self.take(input);
                    }
                }
                () = sleep(self.until_due()) => {}
            }
            self.settle();
        }
        // Whoever sends now waits in vain.
        from.batches.close();
        if at_end == AtEnd::Delete {
            self.delete_all(&mut from.server).await;
        }
    }

    async fn delete_all(&mut self, server: &mut mpsc::Receiver<FromServer>) {
        self.desired.give_up_all();
        self.settle();
        let deadline = tokio::time::Instant::now() + LAST_DELETIONS;
        while !self.desired.is_empty() {
            match tokio::time::timeout_at(deadline, server.recv()).await {
                Ok(Some(event)) => self.heard(event),
                Ok(None) | Err(_) => {
                    let left = self.desired.standing();
                    warn!(
                        ?left,
                        "not all sessions were deleted: they run out by themselves"
                    );
                    return;
                }
            }
            self.settle();
        }
        info!("all sessions are deleted");
    }

    /// Microseconds since a second before the start: no time is 0.
    fn now(&self) -> Micros {
        let passed = self.began.elapsed() + Duration::from_secs(1);
        Micros::try_from(passed.as_micros()).unwrap_or(Micros::MAX)
    }

    fn until_due(&self) -> Duration {
        let deadlines = [self.model.next_deadline(), self.desired.next_deadline()];
        let due = deadlines.into_iter().flatten().min();
        due.map_or(IDLE, |at| {
            Duration::from_micros(at.saturating_sub(self.now())).min(IDLE)
        })
    }

    fn take(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Sip {
                sender,
                feed,
                payload,
            } => match sip::read(&payload) {
                Ok(message) => self.model.sip(now, &feed, &message),
                Err(sip::Refused::KeepAlive) => {
                    sender.counters.other.inc();
                }
                Err(reason) => {
                    sender.counters.bad_message.inc();
                    debug!(sender = sender.name, %reason, "a SIP message was not read");
                }
            },
            Input::Ng(input) => self.take_ng(now, input),
            Input::Reserve {
                id,
                call_id,
                halves,
                verdict,
            } => {
                self.waiters.entry(id.clone()).or_default().push(verdict);
                self.desired.reserve(now, id, &call_id, halves);
            }
            Input::Release(id) => self.release(&id),
            Input::Ask(query) => self.answer(query),
        }
    }

    /// Gives up a reservation or an adopted session; who waits for a verdict on it waits no longer.
    fn release(&mut self, id: &SessionId) {
        self.waiters.remove(id);
        self.desired.release(id);
    }

    fn take_ng(&mut self, now: Micros, input: NgInput) {
        fn media(it: &Described) -> NgMedia<'_> {
            NgMedia {
                command: &it.command,
                relayed: it.relayed.as_deref(),
            }
        }
        match input {
            NgInput::Offer(it) => self.model.ng_offer(now, &media(&it)),
            NgInput::Answer(it) => self.model.ng_answer(now, &media(&it)),
            NgInput::Delete { dialog, known } => {
                let is_known = self.model.ng_delete(now, &dialog);
                let tags = [Some(&dialog.from_tag), dialog.to_tag.as_ref()];
                for tag in tags.into_iter().flatten() {
                    self.release(&SessionId::of_offer(&dialog.call_id, tag));
                }
                // What an earlier process has left of the call.
                if let Some(to) = &dialog.to_tag {
                    let tags: [&[u8]; 2] = [&dialog.from_tag, to];
                    self.release(&SessionId::new(&dialog.call_id, tags));
                }
                // Who asked may have been answered by its deadline.
                let _ = known.send(is_known);
            }
        }
    }

    fn answer(&self, query: Query) {
        // Whoever asked may have gone.
        match query {
            Query::Snapshot(reply) => {
                let _ = reply.send(self.snapshot());
            }
            Query::Calls {
                limit,
                contains,
                only_troubled,
                reply,
            } => {
                let is_wanted = |call_id: &&Arc<[u8]>| {
                    Printable(call_id).contains(&contains)
                        && (!only_troubled || self.is_troubled(call_id))
                };
                let wanted = self.model.call_ids().filter(is_wanted).take(limit);
                let calls = wanted.filter_map(|of| self.view(of)).collect();
                let _ = reply.send((calls, self.model.calls() as u64));
            }
            Query::Explain { call_id, reply } => {
                let is_it = |of: &&Arc<[u8]>| Printable(of).to_string() == call_id;
                let plain = self.explained(call_id.as_bytes());
                // Only what is escaped is printed otherwise than it came.
                let escaped = || {
                    let has_escapes = call_id.contains('\\');
                    has_escapes.then(|| self.model.call_ids().find(is_it))?
                };
                let found = plain.or_else(|| self.explained(escaped()?));
                let _ = reply.send(found);
            }
        }
    }

    fn view(&self, call_id: &[u8]) -> Option<CallView> {
        let report = self.model.report(call_id)?;
        let states = report
            .dialogs
            .iter()
            .map(|of| self.desired.state(&of.id))
            .collect();
        Some(CallView { report, states })
    }

    fn explained(&self, call_id: &[u8]) -> Option<Explained> {
        Some(Explained {
            call: self.view(call_id)?,
            seen: self.model.seen(call_id)?,
        })
    }

    /// It has a session that was refused, or a stream that cannot be placed.
    fn is_troubled(&self, call_id: &[u8]) -> bool {
        self.model.has_not_placed(call_id)
            || self
                .model
                .sessions(call_id)
                .any(|id| self.desired.is_refused(id))
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            model: *self.model.counters(),
            calls: self.model.calls(),
            sessions: self.desired.standing(),
            connected: *self.figures.connected.borrow(),
        }
    }

    fn heard(&mut self, event: FromServer) {
        let now = self.now();
        match event {
            FromServer::Listed(specs) => {
                for spec in specs {
                    self.desired.listed(now, spec);
                }
            }
            FromServer::Connected { epoch, requests } => {
                self.requests = Some(requests);
                self.desired.connected(epoch);
                self.figures.connected.send_replace(true);
            }
            FromServer::Outcomes(outcomes) => {
                for outcome in &outcomes {
                    self.desired.outcome(now, outcome);
                }
            }
            FromServer::Silent(names) => self.desired.asked(&names),
            FromServer::Answered(question, answer) => self.desired.answered(now, &question, answer),
            FromServer::Disconnected => {
                self.requests = None;
                self.desired.disconnected();
                self.figures.connected.send_replace(false);
            }
        }
    }

    /// Does what is due, and carries what changed to the server.
    fn settle(&mut self) {
        let now = self.now();
        for event in self.desired.events() {
            self.happened(event);
        }
        self.model.tick(now);
        for change in self.model.changes() {
            log(&change);
            self.desired.apply(now, change);
        }
        self.desired.tick(now);
        while let Some(requests) = &self.requests {
            let changes = self.desired.next_changes(now);
            if changes.is_empty() {
                break;
            }
            // Fails only when the stream has ended, which the server's side tells next.
            let _ = requests.try_send(v1::ChangeSessionsRequest { changes });
        }
        let kept = self.desired.kept();
        if !kept.is_empty()
            && let Err(error) = self.kept.try_send(kept)
        {
            // The server does not ask about it again on this stream.
            self.desired.keep_later(error.into_inner());
        }
        let questions = self.desired.questions();
        if !questions.is_empty()
            && let Err(error) = self.questions.try_send(questions)
        {
            for question in error.into_inner() {
                self.desired.answered(now, &question, Answer::None);
            }
        }
    }

    /// No packet of a session has come for long.
    fn silent(&mut self, id: &SessionId, call_id: &[u8]) {
        if self.model.silent(self.now(), call_id, id) {
            info!(
                call_id = %Printable(call_id), session = %id,
                "no packet of a call has come for long: its session is deleted"
            );
        } else {
            self.desired.may_be_silent(id);
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Installed { id, call_id, after } => {
                self.figures.installed(after);
                debug!(call_id = %Printable(&call_id), session = %id, after_us = after, "installed");
            }
            Event::Refused {
                id,
                call_id,
                code,
                message,
            } => {
                self.figures.refused(code);
                warn!(
                    call_id = %Printable(&call_id), session = %id, ?code, reason = %message,
                    "the QoS server refuses a session; it is asked again"
                );
            }
            Event::Silent(id, call_id) => self.silent(&id, &call_id),
            Event::GivenUp(id, call_id) => info!(
                call_id = %Printable(&call_id), session = %id,
                "no packet has come for long of a call that began before this process: its session is deleted"
            ),
            Event::Verdict(id, verdict) => {
                if let Verdict::Refused(code, _) = &verdict {
                    self.figures.refused(*code);
                }
                for waiter in self.waiters.remove(&id).unwrap_or_default() {
                    // Who asked may have been answered by its deadline.
                    let _ = waiter.send(verdict.clone());
                }
            }
        }
    }
}

/// What the model decided, with its Call-ID.
fn log(change: &Change) {
    match change {
        Change::Add(session) | Change::Modify(session) => debug!(
            call_id = %Printable(&session.call_id), session = %session.id,
            flows = session.flows.len(), why = ?session.why, "wanted"
        ),
        Change::Remove { id, why } => debug!(session = %id, ?why, "over"),
        Change::NotPlaced {
            id,
            call_id,
            streams,
        } => {
            for stream in streams {
                info!(
                    call_id = %Printable(call_id), session = %id, stream = stream.stream,
                    "{}", stream.reason
                );
            }
        }
        Change::Renew { .. } | Change::Ended { .. } => {}
    }
}

/// gRPC's name of a code, as metrics and people have it.
pub fn code_name(code: Code) -> String {
    format!("{code:?}")
}
