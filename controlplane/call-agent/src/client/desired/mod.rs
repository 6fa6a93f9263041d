//! What the server should have, and how far it is.
//!
//! Pure: time is an argument. At most one change of a session is on its way at a time; what the session
//! should be is compared with what the server has said when the outcome comes, so that changes of the
//! model meanwhile become one.
//!
//! ```text
//! model's Change ─┐                ┌─▶ SessionChange (stream) ─▶ outcome ─┐
//! reservation  ───┼─▶ Entry ─queue─┤                                      ├─▶ Entry, Event
//! ListSessions ───┘                └─▶ Question (unary) ────────▶ answer ─┘
//! ```
//!
//! Renewing waits for no answer: whether a session is heard is asked beside it, and only as often as the
//! server can say it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    iter,
    sync::Arc,
};

use tonic::Code;
use voicelane_proto::v1;

mod entry;
mod exchange;
#[cfg(test)]
mod tests;

pub use exchange::{Answer, Question};

use super::spec::{Content, Terms};
use crate::call::{Change, FiveTuple, Half, Micros, Session, SessionId};
use entry::{Entry, Kind, SECOND, There, Until, Want, five_tuple_of};

/// How long an offer's reservation stands if nobody answers, s.
const HALF_OPEN_S: Micros = 180;

/// What is the same for all sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// In whose name sessions are.
    pub agent_id: String,
    /// What they ask for.
    pub service_class: v1::ServiceClass,
    /// How long the server keeps one that is not renewed, s.
    pub lifetime_s: u32,
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Its routers have it.
    Installed {
        /// The session that its routers have.
        id: SessionId,
        /// The Call-ID, for the log.
        call_id: Arc<[u8]>,
        /// How long after the message that asked for it.
        after: Micros,
    },
    /// The server refused it, for the first time with this code. It is tried again.
    Refused {
        /// The session that was refused.
        id: SessionId,
        /// The Call-ID, for the log.
        call_id: Arc<[u8]>,
        /// The status that the server gave.
        code: Code,
        /// The server's own words.
        message: Box<str>,
    },
    /// No packet of this dialog's session has come for long. The model knows whether it may be silent.
    Silent(SessionId, Arc<[u8]>),
    /// No packet of an adopted session has come for long: it was given up.
    GivenUp(SessionId, Arc<[u8]>),
    /// The server's answer to a reservation.
    Verdict(SessionId, Verdict),
}

/// The server's answer to a reservation.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// There is room, and it is reserved.
    Reserved,
    /// There is no room, or no router has the address.
    Refused(Code, Box<str>),
    /// The server cannot be asked.
    Away,
}

/// How one session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The server and its routers have it as it should be.
    Installed,
    /// A change is on its way, or waits for the server.
    Pending,
    /// The server said no; it is asked again.
    Refused(Code, Box<str>),
    /// An earlier process left it.
    Adopted,
    /// It is an offer's, not answered yet.
    Reserved,
}

/// The sessions that the server should have, and what it has confirmed of them.
pub struct Desired {
    terms: Terms,
    lifetime_s: u32,
    entries: HashMap<SessionId, Entry>,
    /// Dialogs whose session has another name: that of their offer's reservation.
    aliases: HashMap<SessionId, SessionId>,
    /// Five-tuples of adopted sessions.
    adopted: HashMap<FiveTuple, SessionId>,
    /// What the model asked for.
    fresh: VecDeque<SessionId>,
    /// Renewals, and what is tried again.
    backlog: VecDeque<SessionId>,
    timers: BinaryHeap<Reverse<(Micros, SessionId)>>,
    in_flight: HashMap<u64, Sent>,
    next_tag: u64,
    /// Of the server that has the sessions.
    epoch: Option<u64>,
    /// Changes can be sent.
    connected: bool,
    questions: Vec<Question>,
    /// Silent sessions that are to stay, for the server.
    kept: Vec<String>,
    /// Questions whether a session is heard that have no answer yet.
    listening: usize,
    events: Vec<Event>,
}

/// A change that is on its way.
struct Sent {
    id: SessionId,
    kind: Kind,
    generation: u32,
}

impl Desired {
    /// A client that wants no session yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            terms: Terms {
                agent_id: settings.agent_id,
                service_class: settings.service_class,
            },
            lifetime_s: settings.lifetime_s,
            entries: HashMap::new(),
            aliases: HashMap::new(),
            adopted: HashMap::new(),
            fresh: VecDeque::new(),
            backlog: VecDeque::new(),
            timers: BinaryHeap::new(),
            in_flight: HashMap::new(),
            next_tag: 1,
            epoch: None,
            connected: false,
            questions: Vec::new(),
            kept: Vec::new(),
            listening: 0,
            events: Vec::new(),
        }
    }

    /// Takes a change of the model.
    pub fn apply(&mut self, now: Micros, change: Change) {
        match change {
            Change::Add(session) | Change::Modify(session) => self.want(now, session),
            Change::Renew { id, lease } => {
                let name = self.name_of(&id);
                if let Some(entry) = self.entries.get_mut(&name)
                    && let Want::Is(_, until) = &mut entry.want
                {
                    *until = Until::of(lease);
                    self.renew(&name);
                }
            }
            Change::Remove { id, .. } => {
                let name = self.aliases.remove(&id).unwrap_or(id);
                self.give_up(&name);
            }
            Change::Ended { id, call_id, tags } => {
                let offers = tags.map(|tag| SessionId::of_offer(&call_id, &tag));
                for name in iter::once(id).chain(offers) {
                    if self.entries.get(&name).is_some_and(Entry::is_adopted) {
                        self.give_up(&name);
                    }
                }
            }
            Change::NotPlaced { .. } => {}
        }
    }

    fn want(&mut self, now: Micros, session: Session) {
        let name = self.name_for(&session);
        let dialog = (name != session.id).then(|| session.id.clone());
        if let Some(dialog) = &dialog {
            self.aliases.insert(dialog.clone(), name.clone());
        }
        // A session of an earlier process that has one of the five-tuples is of a call that is over.
        for flow in session.flows.iter() {
            if let Some(other) = self.adopted.get(&flow.five_tuple()).cloned()
                && other != name
            {
                self.give_up(&other);
            }
        }
        let want = Want::Is(Content::Flows(session.flows), Until::of(session.lease));
        self.set(now, &name, &session.call_id, want);
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.dialog = dialog;
        }
    }

    /// Asks for room for a call that is offered. An [`Event::Verdict`] follows.
    pub fn reserve(&mut self, now: Micros, id: SessionId, call_id: &Arc<[u8]>, halves: Vec<Half>) {
        let content = Content::Halves(halves.into());
        if !self.connected {
            self.events.push(Event::Verdict(id, Verdict::Away));
            return;
        }
        let is_there = |entry: &Entry| entry.there == There::Yes && entry.want != Want::Gone;
        if self.entries.get(&id).is_some_and(is_there) {
            self.events.push(Event::Verdict(id, Verdict::Reserved));
            return;
        }
        let until = Until::Time(now + HALF_OPEN_S * SECOND);
        self.set(now, &id, call_id, Want::Is(content, until));
    }

    /// Gives up a reservation, unless somebody has answered.
    pub fn release(&mut self, id: &SessionId) {
        let is_open = |entry: &Entry| entry.is_half_open() || entry.is_adopted();
        if self.entries.get(id).is_some_and(is_open) {
            self.give_up(id);
        }
    }

    /// Gives up everything: the agent ends.
    pub fn give_up_all(&mut self) {
        let all: Vec<_> = self.entries.keys().cloned().collect();
        for id in all {
            self.give_up(&id);
        }
    }

    fn set(&mut self, now: Micros, id: &SessionId, call_id: &Arc<[u8]>, want: Want) {
        self.forget_adopted(id);
        let entry = self
            .entries
            .entry(id.clone())
            .or_insert_with(|| Entry::new(Arc::clone(call_id)));
        entry.want = want;
        entry.generation = entry.generation.wrapping_add(1);
        entry.failures = 0;
        entry.due = None;
        entry.quiet_since = None;
        if entry.there != There::Yes {
            entry.asked_at.get_or_insert(now);
        }
        self.queue(id, true);
    }

    fn give_up(&mut self, id: &SessionId) {
        self.forget_adopted(id);
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.want = Want::Gone;
        entry.generation = entry.generation.wrapping_add(1);
        entry.failures = 0;
        entry.due = None;
        entry.asked_at = None;
        self.queue(id, true);
    }

    fn forget_adopted(&mut self, id: &SessionId) {
        if let Some(Want::Adopted(spec)) = self.entries.get(id).map(|entry| &entry.want) {
            for five_tuple in spec.flows.iter().filter_map(five_tuple_of) {
                if self.adopted.get(&five_tuple) == Some(id) {
                    self.adopted.remove(&five_tuple);
                }
            }
        }
    }

    /// The name of a dialog's session.
    fn name_of(&self, id: &SessionId) -> SessionId {
        self.aliases.get(id).unwrap_or(id).clone()
    }

    /// The name that a dialog's session gets: its own, or that of what was reserved for its offer.
    fn name_for(&self, session: &Session) -> SessionId {
        if self.aliases.contains_key(&session.id) || self.entries.contains_key(&session.id) {
            return self.name_of(&session.id);
        }
        let is_open = |name: &SessionId| {
            let entry = self.entries.get(name);
            entry.is_some_and(|entry| entry.is_half_open() || entry.is_adopted())
        };
        session
            .tags
            .iter()
            .map(|tag| SessionId::of_offer(&session.call_id, tag))
            .find(is_open)
            .unwrap_or_else(|| session.id.clone())
    }

    fn queue(&mut self, id: &SessionId, is_fresh: bool) {
        if let Some(entry) = self.entries.get_mut(id)
            && !entry.queued
            && entry.in_flight.is_none()
        {
            entry.queued = true;
            let queue = if is_fresh {
                &mut self.fresh
            } else {
                &mut self.backlog
            };
            queue.push_back(id.clone());
        }
    }

    fn set_due(&mut self, id: &SessionId, at: Option<Micros>) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.due = at;
            if let Some(at) = at {
                self.timers.push(Reverse((at, id.clone())));
            }
        }
        // Timers of what changed since are stale.
        if self.timers.len() > 4 * self.entries.len() + 1_024 {
            let entries = &self.entries;
            self.timers.retain(|Reverse((at, id))| {
                entries.get(id).is_some_and(|entry| entry.due == Some(*at))
            });
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_deadline(&self) -> Option<Micros> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Queues what is due.
    pub fn tick(&mut self, now: Micros) {
        while let Some(Reverse((at, _))) = self.timers.peek()
            && *at <= now
        {
            let Some(Reverse((at, id))) = self.timers.pop() else {
                return;
            };
            let Some(entry) = self
                .entries
                .get_mut(&id)
                .filter(|entry| entry.due == Some(at))
            else {
                continue;
            };
            entry.due = None;
            let is_over = matches!(entry.want, Want::Is(_, Until::Time(until)) if until <= now);
            if is_over && entry.is_half_open() {
                self.give_up(&id);
            } else {
                if entry.there == There::Yes && entry.stays_while_heard() {
                    // Its call may be over though no message has told it.
                    self.ask_whether_heard(&id);
                }
                self.renew(&id);
            }
        }
    }

    fn renew(&mut self, id: &SessionId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.renew = true;
            self.queue(id, false);
        }
    }

    /// What happened since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// How a dialog's session, or an offer's reservation, stands; `None` if there is none.
    pub fn state(&self, id: &SessionId) -> Option<(SessionId, State)> {
        let name = self.name_of(id);
        let state = state(self.entries.get(&name)?);
        Some((name, state))
    }

    /// How all sessions stand.
    pub fn standing(&self) -> v1::AgentSessionCounts {
        let mut standing = v1::AgentSessionCounts::default();
        for entry in self.entries.values() {
            let count = match state(entry) {
                State::Installed => &mut standing.installed,
                State::Pending => &mut standing.pending,
                State::Refused(..) => &mut standing.refused,
                State::Adopted => &mut standing.adopted,
                State::Reserved => &mut standing.reserved,
            };
            *count += 1;
        }
        standing
    }

    /// Whether the server said no to a dialog's session.
    pub fn is_refused(&self, id: &SessionId) -> bool {
        let entry = self.entries.get(self.aliases.get(id).unwrap_or(id));
        entry.is_some_and(|entry| matches!(entry.want, Want::Is(..)) && entry.refusal.is_some())
    }

    /// Whether nothing is left at the server, or wanted there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn state(entry: &Entry) -> State {
    match (&entry.want, &entry.refusal) {
        (Want::Adopted(_), _) => State::Adopted,
        (Want::Is(..), Some((code, message))) => State::Refused(*code, message.clone()),
        (Want::Is(..), None) if entry.confirmed == Some(entry.generation) => {
            if entry.is_half_open() {
                State::Reserved
            } else {
                State::Installed
            }
        }
        (Want::Is(..) | Want::Gone, _) => State::Pending,
    }
}
