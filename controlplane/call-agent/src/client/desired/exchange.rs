//! What is sent to the server, and what its answers mean.

use std::sync::Arc;

use tonic::Code;
use voicelane_proto::v1::{self, session_change};

use super::{
    Desired, Event, Sent, Verdict,
    entry::{Entry, Kind, SECOND, There, Until, Want, five_tuple_of, look_at},
};
use crate::{
    call::{Micros, SessionId},
    client::spec::Content,
};

/// Changes that are on their way at a time. The server reads up to 4,096 of a stream; with as many, each
/// would wait for all before it.
const WINDOW: usize = 1_024;
/// The server takes as many changes in one request.
const MAX_CHANGES: usize = 256;

/// What the server says of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has it, with this revision.
    Revision(u64),
    /// When its last packet came, by its routers; `None`: none has come.
    Heard {
        /// So many milliseconds ago.
        last_ms: Option<u64>,
    },
    /// It does not have it.
    NoSession,
    /// It could not be asked.
    None,
}

/// What the server is asked of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Its revision: it cannot be changed without.
    Revision(v1::SessionKey),
    /// When its last packet came.
    Heard(v1::SessionKey),
}

impl Question {
    /// The key of the session that the change is for.
    pub fn key(&self) -> &v1::SessionKey {
        match self {
            Self::Revision(key) | Self::Heard(key) => key,
        }
    }
}

/// Questions whether a session is heard that have no answer at a time; others are asked at their next
/// renewal. The server explains 16 sessions of a connection at a time, and takes a second for each. Fewer than
/// the connection asks at a time: a question for a revision never waits for these.
pub(super) const LISTENING: usize = 48;
/// How long a session may be silent, RTCP included, until its call is taken to be over.
const SILENCE: Micros = 30 * SECOND;
/// A session that has been silent for so long is asked about again soon.
const PAUSE: Micros = 5 * SECOND;

impl Desired {
    /// The changes to be sent now, in one request; empty: none.
    pub fn next_changes(&mut self, now: Micros) -> Vec<v1::SessionChange> {
        let mut changes = Vec::new();
        while self.connected && changes.len() < MAX_CHANGES && self.in_flight.len() < WINDOW {
            let Some(id) = self.fresh.pop_front().or_else(|| self.backlog.pop_front()) else {
                break;
            };
            changes.extend(self.next_change(now, id));
        }
        changes
    }

    fn next_change(&mut self, now: Micros, id: SessionId) -> Option<v1::SessionChange> {
        let entry = self.entries.get_mut(&id)?;
        entry.queued = false;
        if entry.in_flight.is_some() {
            return None;
        }
        let Some(kind) = entry.next() else {
            if entry.want == Want::Gone {
                self.entries.remove(&id);
            }
            return None;
        };
        if kind != Kind::Delete && !entry.only_renews(kind) {
            entry.revision += 1;
        }
        entry.renew = false;
        let tag = self.next_tag;
        self.next_tag += 1;
        entry.in_flight = Some(tag);
        let spec = match &entry.want {
            Want::Is(content, _) => {
                let lifetime_s = entry.lifetime_s(now, self.lifetime_s);
                let call_id = &entry.call_id;
                Some(
                    self.terms
                        .spec(&id, entry.revision, call_id, content, lifetime_s),
                )
            }
            Want::Adopted(spec) => Some(v1::SessionSpec {
                revision: entry.revision,
                ..(**spec).clone()
            }),
            Want::Gone => None,
        };
        let change = match kind {
            Kind::Add => session_change::Change::Add(v1::AddSessionRequest { spec }),
            Kind::Modify => session_change::Change::Modify(v1::ModifySessionRequest { spec }),
            Kind::Delete => session_change::Change::Delete(v1::DeleteSessionRequest {
                key: Some(self.terms.key(&id)),
            }),
        };
        let generation = entry.generation;
        let sent = Sent {
            id,
            kind,
            generation,
        };
        self.in_flight.insert(tag, sent);
        Some(v1::SessionChange {
            tag,
            change: Some(change),
            with_session: false,
        })
    }

    /// The server's outcome of a change.
    pub fn outcome(&mut self, now: Micros, outcome: &v1::ChangeOutcome) {
        let Some(sent) = self.in_flight.remove(&outcome.tag) else {
            return;
        };
        let Sent {
            id,
            kind,
            generation,
        } = sent;
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.in_flight = None;
        let code = Code::from_i32(outcome.code);
        match (kind, code) {
            (Kind::Add | Kind::Modify, Code::Ok) => self.done(now, &id, generation),
            (Kind::Delete, Code::Ok | Code::NotFound) => {
                entry.there = There::No;
                entry.confirmed = None;
                self.queue(&id, true);
            }
            // Its revision must be known to change it.
            (Kind::Add, Code::AlreadyExists) | (Kind::Modify, Code::Aborted) => {
                entry.there = There::Unknown;
                let key = self.terms.key(&id);
                self.questions.push(Question::Revision(key));
            }
            // Of an earlier process, and deleted by somebody else.
            (Kind::Modify, Code::NotFound) if entry.is_adopted() && entry.there == There::Yes => {
                entry.there = There::No;
                self.give_up(&id);
            }
            // Either the session is not there, or no router has an address.
            (Kind::Modify, Code::NotFound)
                if entry.there == There::Unknown || entry.failures == 0 =>
            {
                entry.there = There::No;
                entry.confirmed = None;
                entry.failures += 1;
                self.queue(&id, true);
            }
            // The model has changed its mind meanwhile.
            _ if entry.generation != generation && code != Code::Ok => {
                entry.there = match kind {
                    Kind::Add if !is_unknown(code) => There::No,
                    _ => There::Unknown,
                };
                self.queue(&id, true);
            }
            _ => self.failed(now, &id, kind, code, &outcome.message),
        }
    }

    fn done(&mut self, now: Micros, id: &SessionId, generation: u32) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.there = There::Yes;
        entry.confirmed = Some(generation);
        if entry.generation != generation {
            self.queue(id, true);
            return;
        }
        entry.failures = 0;
        entry.refusal = None;
        if entry.is_adopted() {
            // What was heard of it may say that it is looked at sooner.
            if entry.due.is_none() {
                let at = entry.renew_at(id, now, self.lifetime_s);
                self.set_due(id, at);
            }
            return;
        }
        if entry.is_half_open() {
            let verdict = Verdict::Reserved;
            self.events.push(Event::Verdict(id.clone(), verdict));
        } else if let Some(asked_at) = entry.asked_at.take() {
            self.events.push(Event::Installed {
                id: id.clone(),
                call_id: Arc::clone(&entry.call_id),
                after: now.saturating_sub(asked_at),
            });
        }
        let renews = entry.renew;
        let at = match entry.want {
            Want::Is(Content::Halves(_), Until::Time(until)) => Some(until),
            _ if entry.quiet_since.is_some() => Some(look_at(id, now)),
            _ => entry.renew_at(id, now, self.lifetime_s),
        };
        self.set_due(id, at);
        if renews {
            self.queue(id, false);
        }
    }

    fn failed(&mut self, now: Micros, id: &SessionId, kind: Kind, code: Code, message: &str) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        if is_unknown(code) {
            entry.there = There::Unknown;
        }
        if entry.is_half_open() && kind == Kind::Add {
            let verdict = match code {
                Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => Verdict::Away,
                _ => Verdict::Refused(code, message.into()),
            };
            self.events.push(Event::Verdict(id.clone(), verdict));
            // Whoever offered has been refused, or goes on without it.
            self.give_up(id);
            return;
        }
        let known = entry
            .refusal
            .as_ref()
            .is_some_and(|(last, _)| *last == code);
        if kind != Kind::Delete && entry.want != Want::Gone {
            if !known {
                self.events.push(Event::Refused {
                    id: id.clone(),
                    call_id: Arc::clone(&entry.call_id),
                    code,
                    message: message.into(),
                });
            }
            entry.refusal = Some((code, message.into()));
        }
        let at = entry.back_off(id, code, now);
        entry.failures += 1;
        self.set_due(id, Some(at));
    }

    /// What the server is to be asked; [`answered`](Self::answered) takes the answers.
    pub fn questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// Asks when the last packet of a session came, unless too many questions wait for their answers.
    pub(super) fn ask_whether_heard(&mut self, id: &SessionId) {
        if self.listening < LISTENING {
            self.listening += 1;
            self.questions.push(Question::Heard(self.terms.key(id)));
        }
    }

    /// The server's answer to a question. Each question has one.
    pub fn answered(&mut self, now: Micros, question: &Question, answer: Answer) {
        let is_heard = matches!(question, Question::Heard(_));
        if is_heard {
            self.listening = self.listening.saturating_sub(1);
        }
        let id = SessionId::known(&question.key().session_id);
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        match answer {
            Answer::Heard { last_ms } if entry.stays_while_heard() => {
                self.heard(now, &id, last_ms);
            }
            Answer::None if is_heard && entry.is_adopted() => self.look_soon(now, &id),
            Answer::NoSession if entry.is_adopted() => {
                entry.there = There::No;
                self.give_up(&id);
            }
            // Whoever cannot say that it is silent must not end it; what becomes of its renewal says the rest.
            Answer::None | Answer::NoSession if is_heard => {}
            Answer::Revision(revision) => {
                entry.there = There::Yes;
                entry.confirmed = None;
                entry.revision = entry.revision.max(revision);
                self.queue(&id, true);
            }
            Answer::NoSession => {
                entry.there = There::No;
                entry.confirmed = None;
                self.queue(&id, true);
            }
            Answer::Heard { .. } => {}
            Answer::None => {
                let at = entry.back_off(&id, Code::Unavailable, now);
                entry.failures += 1;
                self.set_due(&id, Some(at));
            }
        }
    }

    /// When the last packet of a session came.
    fn heard(&mut self, now: Micros, id: &SessionId, last_ms: Option<u64>) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let quiet_since = match last_ms.map(|ms| now.saturating_sub(ms.saturating_mul(1_000))) {
            Some(last) => Some(last).filter(|last| now - last >= PAUSE),
            // A router that began anew has not seen the packets before.
            None => entry.quiet_since.or(Some(now)),
        };
        entry.quiet_since = quiet_since;
        if quiet_since.is_some_and(|since| now - since >= SILENCE) {
            let call_id = Arc::clone(&entry.call_id);
            if entry.is_adopted() {
                self.events.push(Event::GivenUp(id.clone(), call_id));
                self.give_up(id);
            } else {
                let dialog = entry.dialog.as_ref().unwrap_or(id).clone();
                self.events.push(Event::Silent(dialog, call_id));
            }
            return;
        }
        if quiet_since.is_some() || entry.is_adopted() {
            self.look_soon(now, id);
        }
    }

    /// Renews a session in some seconds, and asks then whether it is heard.
    fn look_soon(&mut self, now: Micros, id: &SessionId) {
        let at = look_at(id, now);
        let due = self.entries.get(id).and_then(|entry| entry.due);
        if due.is_none_or(|due| due > at) {
            self.set_due(id, Some(at));
        }
    }

    /// The server asks about sessions that its routers have heard nothing of for long: it removes those that
    /// are not kept.
    pub fn asked(&mut self, names: &[String]) {
        for name in names {
            let id = SessionId::known(name);
            let Some(entry) = self.entries.get(&id) else {
                continue;
            };
            let call_id = Arc::clone(&entry.call_id);
            match &entry.want {
                Want::Gone => {}
                Want::Adopted(_) => {
                    self.events.push(Event::GivenUp(id.clone(), call_id));
                    self.give_up(&id);
                }
                // What the model says of it comes by `may_be_silent`, or as a change.
                Want::Is(Content::Flows(_), Until::Renewed) => {
                    let dialog = entry.dialog.as_ref().unwrap_or(&id).clone();
                    self.events.push(Event::Silent(dialog, call_id));
                }
                // It ends when its time is over.
                Want::Is(..) => self.kept.push(name.clone()),
            }
        }
    }

    /// Silent sessions that are to stay.
    pub fn kept(&mut self) -> Vec<String> {
        std::mem::take(&mut self.kept)
    }

    /// These could not be told yet. Of one that is no more, the server is not told.
    pub fn keep_later(&mut self, mut names: Vec<String>) {
        names.sort_unstable();
        names.dedup();
        names.retain(|name| self.entries.contains_key(&SessionId::known(name)));
        self.kept = names;
    }

    /// A session may be silent: its call is on hold, or not answered yet.
    pub fn may_be_silent(&mut self, dialog: &SessionId) {
        let id = self.name_of(dialog);
        self.kept.push(id.as_str().to_owned());
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.quiet_since = None;
        }
        self.renew(&id);
    }

    /// A session that the server had when this process began.
    pub fn listed(&mut self, now: Micros, spec: v1::SessionSpec) {
        let Some(key) = &spec.key else {
            return;
        };
        let id = SessionId::known(&key.session_id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.there = There::Yes;
            entry.revision = entry.revision.max(spec.revision);
            return;
        }
        for five_tuple in spec.flows.iter().filter_map(five_tuple_of) {
            self.adopted.insert(five_tuple, id.clone());
        }
        let mut entry = Entry::new(Arc::from([]));
        entry.there = There::Yes;
        entry.confirmed = Some(entry.generation);
        entry.revision = spec.revision;
        entry.call_id = spec.correlation_id.as_bytes().into();
        entry.want = Want::Adopted(Box::new(spec));
        entry.quiet_since = Some(now);
        let at = look_at(&id, now);
        self.entries.insert(id.clone(), entry);
        self.set_due(&id, Some(at));
    }

    /// A stream of changes is open to the server of this epoch. One that began anew has no sessions.
    pub fn connected(&mut self, epoch: u64) {
        let is_new = self.epoch.replace(epoch).is_some_and(|last| last != epoch);
        self.connected = true;
        if !is_new {
            return;
        }
        let all: Vec<_> = self.entries.keys().cloned().collect();
        for id in all {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.there = There::No;
                entry.confirmed = None;
                entry.due = None;
            }
            self.queue(&id, false);
        }
    }

    /// The stream of changes has ended; what became of those on their way is unknown.
    pub fn disconnected(&mut self) {
        self.connected = false;
        for (_, sent) in std::mem::take(&mut self.in_flight) {
            if let Some(entry) = self.entries.get_mut(&sent.id) {
                entry.in_flight = None;
                entry.there = There::Unknown;
                if entry.is_half_open() {
                    let verdict = Event::Verdict(sent.id.clone(), Verdict::Away);
                    self.events.push(verdict);
                    self.give_up(&sent.id);
                } else {
                    self.queue(&sent.id, false);
                }
            }
        }
    }
}

/// Whether a change with this outcome may have been made.
fn is_unknown(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled | Code::Unknown | Code::DeadlineExceeded
    )
}
