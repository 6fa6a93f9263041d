//! What has happened, for operators: the last of each kind are kept in memory.
//!
//! Whoever follows reads from what is kept and is told how much of it has gone meanwhile: nobody is
//! waited for, and nothing is queued for anybody.

pub mod webhook;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use tokio::{sync::watch, time::Instant};
use voicelane_proto::v1;
pub use voicelane_proto::v1::{Event, EventKind as Kind};

use crate::model::ids::{RouterId, SessionKey, UnixMs};

/// How many are kept of a kind, so that a flood of one leaves the others.
const KEPT: usize = 512;
/// How many of a kind may come at once; more are left out and counted.
const BURST: u32 = 20;
/// A kind gets back room for one in so long.
const REFILL: Duration = Duration::from_millis(100);
/// The longest text, bytes.
const MAX_TEXT: usize = 512;

/// How bad it is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No call suffers by it.
    Info = v1::Severity::Info as isize,
    /// A call suffers by it, or may.
    Warning = v1::Severity::Warning as isize,
    /// Many calls suffer by it, or may.
    Error = v1::Severity::Error as isize,
}

/// How bad such an event is, unless it says otherwise.
fn severity_of(kind: Kind) -> Severity {
    match kind {
        Kind::Unspecified
        | Kind::ServerStarted
        | Kind::SourceLearned
        | Kind::RouterAttached
        | Kind::RouterSynchronised
        | Kind::RouterAnswers
        | Kind::RouterForgotten
        | Kind::InterfaceUp
        | Kind::AgentBack
        | Kind::QualityGood => Severity::Info,
        Kind::CallRefused
        | Kind::CallRemoved
        | Kind::CallSilent
        | Kind::CallMissed
        | Kind::EfClaimed
        | Kind::InterfaceDown
        | Kind::QualityBad
        | Kind::OneWayAudio => Severity::Warning,
        Kind::RouterLost | Kind::RouterMute | Kind::AgentLost => Severity::Error,
    }
}

/// To what it happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// The server itself, or an agent whose request names no call.
    #[default]
    Server,
    /// A call, by its session.
    Call(SessionKey),
    /// A router, or one of its interfaces, which the text names.
    Router(RouterId),
}

impl From<&SessionKey> for Subject {
    fn from(key: &SessionKey) -> Self {
        Self::Call(key.clone())
    }
}

impl From<&RouterId> for Subject {
    fn from(id: &RouterId) -> Self {
        Self::Router(id.clone())
    }
}

/// What a reader gets.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Oldest first.
    pub events: Vec<Arc<Event>>,
    /// How many have gone that came after the last one read.
    pub missed: u64,
    /// The last one that was looked at.
    pub up_to: u64,
}

/// The last events of each kind, and what readers wait on.
#[derive(Debug, Default)]
pub struct Events {
    kept: Mutex<Kept>,
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    all: BTreeMap<u64, Arc<Event>>,
    kinds: BTreeMap<Kind, OfKind>,
    last: u64,
}

#[derive(Debug)]
struct OfKind {
    sequences: VecDeque<u64>,
    room: u32,
    refilled: Instant,
    left_out: u64,
}

impl Events {
    /// Notes what happened. `text` is made only if it is kept.
    pub fn note(
        &self,
        at: UnixMs,
        kind: Kind,
        subject: impl Into<Subject>,
        text: impl FnOnce() -> String,
    ) {
        self.note_as(at, kind, severity_of(kind), subject, text);
    }

    /// The same, with a severity other than the kind's.
    pub fn note_as(
        &self,
        at: UnixMs,
        kind: Kind,
        severity: Severity,
        subject: impl Into<Subject>,
        text: impl FnOnce() -> String,
    ) {
        let mut kept = self.kept();
        let kept = &mut *kept;
        let now = Instant::now();
        let of_kind = kept.kinds.entry(kind).or_insert_with(|| OfKind {
            sequences: VecDeque::new(),
            room: BURST,
            refilled: now,
            left_out: 0,
        });
        if !of_kind.takes_one(now) {
            of_kind.left_out += 1;
            return;
        }
        let mut text = text();
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        kept.last += 1;
        let (session, router_id) = match subject.into() {
            Subject::Server => (None, String::new()),
            Subject::Call(key) => (Some((&key).into()), String::new()),
            Subject::Router(id) => (None, id.to_string()),
        };
        let event = Event {
            sequence: kept.last,
            at_unix_ms: at.0,
            severity: severity as i32,
            kind: kind.into(),
            session,
            router_id,
            text,
            left_out: std::mem::take(&mut of_kind.left_out),
        };
        kept.all.insert(event.sequence, Arc::new(event));
        of_kind.sequences.push_back(kept.last);
        if of_kind.sequences.len() > KEPT
            && let Some(oldest) = of_kind.sequences.pop_front()
        {
            kept.all.remove(&oldest);
        }
        self.last.send_replace(kept.last);
    }

    /// The last `most` that are kept after `sequence` and are at least so severe.
    pub fn latest(&self, sequence: u64, most: usize, severity: Severity) -> Part {
        let kept = self.kept();
        let after = kept.all.range(sequence.saturating_add(1)..).rev();
        let mut events: Vec<_> = after
            .filter(|(_, event)| event.severity >= severity as i32)
            .map(|(_, event)| event.clone())
            .take(most)
            .collect();
        events.reverse();
        Part {
            events,
            missed: 0,
            up_to: kept.last,
        }
    }

    /// The first `most` after `sequence`, of those that are at least so severe.
    pub fn after(&self, sequence: u64, most: usize, severity: Severity) -> Part {
        let kept = self.kept();
        let mut part = Part {
            up_to: sequence,
            ..Part::default()
        };
        for (sequence, event) in kept.all.range(sequence.saturating_add(1)..) {
            part.missed += sequence - part.up_to - 1;
            part.up_to = *sequence;
            if event.severity >= severity as i32 {
                part.events.push(event.clone());
                if part.events.len() >= most {
                    break;
                }
            }
        }
        part
    }

    /// Changes to the sequence of each event that comes.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfKind {
    fn takes_one(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled);
        let more = passed.as_nanos() / REFILL.as_nanos();
        if more > 0 {
            self.room = u32::try_from(more)
                .unwrap_or(BURST)
                .saturating_add(self.room)
                .min(BURST);
            // The rest of a refill counts for the next one.
            let rest = passed.as_nanos() % REFILL.as_nanos();
            self.refilled = now - Duration::from_nanos(u64::try_from(rest).unwrap_or(0));
        }
        let takes = self.room > 0;
        self.room -= u32::from(takes);
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(events: &Events, kind: Kind, text: &str) {
        events.note(UnixMs(0), kind, Subject::Server, || text.to_owned());
    }

    fn texts(part: &Part) -> Vec<&str> {
        part.events.iter().map(|event| &*event.text).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_a_kind_is_counted_and_leaves_the_others() {
        let events = Events::default();
        note(&events, Kind::RouterLost, "lost");
        for index in 0..10_000 {
            note(&events, Kind::CallRefused, &format!("refused {index}"));
        }
        let part = events.latest(0, 1_000, Severity::Info);
        assert_eq!(part.events.len(), 21, "twenty at once, and the router");
        assert_eq!(texts(&part)[0], "lost");
        tokio::time::advance(Duration::from_millis(150)).await;
        note(&events, Kind::CallRefused, "another");
        note(&events, Kind::CallRefused, "too early");
        let part = events.after(part.up_to, 10, Severity::Info);
        assert_eq!(texts(&part), ["another"]);
        assert_eq!(part.events[0].left_out, 10_000 - 20);
        // The half of a refill that was left is not lost.
        tokio::time::advance(Duration::from_millis(50)).await;
        note(&events, Kind::CallRefused, "in time");
        let part = events.after(part.up_to, 10, Severity::Info);
        assert_eq!(texts(&part), ["in time"]);
        assert_eq!(part.events[0].left_out, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_and_a_reader_is_told_what_it_missed() {
        let events = Events::default();
        note(&events, Kind::RouterLost, "the only one");
        for index in 0..3 * KEPT {
            tokio::time::advance(REFILL).await;
            note(&events, Kind::SourceLearned, &index.to_string());
        }
        assert_eq!(events.kept().all.len(), KEPT + 1);
        let first = events.after(0, 2, Severity::Info);
        assert_eq!(texts(&first), ["the only one", "1024"]);
        assert_eq!(first.missed, 2 * KEPT as u64);
        let second = events.after(first.up_to, 2, Severity::Info);
        assert_eq!((texts(&second), second.missed), (vec!["1025", "1026"], 0));
        let bad = events.after(0, 10, Severity::Error);
        assert_eq!(texts(&bad), ["the only one"]);
        assert_eq!(bad.up_to, 3 * KEPT as u64 + 1);
        let last = events.latest(0, 2, Severity::Info);
        assert_eq!(texts(&last), ["1534", "1535"]);
    }

    #[test]
    fn a_text_has_an_end() {
        let events = Events::default();
        note(&events, Kind::CallRefused, &"ü".repeat(MAX_TEXT));
        let part = events.latest(0, 1, Severity::Info);
        assert_eq!(part.events[0].text.len(), MAX_TEXT);
    }
}
