//! The call model: from signalling to the sessions that the QoS server should have.
//!
//! ```text
//! SIP message ─┐            ┌ exchanges: what was seen ┐
//! ng command ──┼▶ call ─────┤                          ├─▶ wanted flows ─▶ Change
//! time ────────┘            └ dialogs: how they stand  ┘
//! ```
//!
//! Pure: time is an argument, and [`Model::changes`] is the only output. What a call's sessions should
//! be is computed anew, after each message, from the set of what was seen of it.
//!
//! The rules, and where each is kept:
//!
//! | | rule | where |
//! |---|---|---|
//! | 1 | exchanges, hops, pairs; a new exchange replaces the old pairs | `exchange`, `dialog::apply` |
//! | 2 | HEP's addresses identify nothing | `input` |
//! | 3 | any order, twice, or not at all | `exchange` |
//! | 4 | add at the first offer and answer; an offer alone changes nothing | `exchange::outcome` |
//! | 5 | BYE and tombstones | `dialog` |
//! | 6 | CANCEL ends nothing | `intake` |
//! | 7 | forks | `calls::response` |
//! | 8 | Session-Expires, silence | `dialog::refreshed`, `Model::silent` |
//! | 9 | the newer call wins a five-tuple | `reconcile` |
//! | 10 | session ids | `session::SessionId` |
//! | 11, 12, 14, 15 | RTCP, BUNDLE, hold, removed streams | `flows` |
//! | 13 | "not yet" | `flows`, `dialog::apply` |
//! | 16 | NAT | `input`, `exchange::side`, `flows` |

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
};

mod calls;
mod counters;
mod dialog;
mod exchange;
mod flows;
mod formats;
mod input;
mod intake;
mod reconcile;
mod seen;
mod session;

pub use counters::Counters;
pub use flows::halves;
pub use input::{Feed, NgMedia};
pub use seen::{CallReport, DialogReport, SeenMessages};
pub use session::{
    Change, FiveTuple, Flow, Half, Lease, MAX_FLOWS, NotPlaced, Reason, Rtcp, RtcpEnds, Session,
    SessionId, Source, Why,
};

use serde::Deserialize;

use crate::rate::Configured;
use calls::Call;
use dialog::Dialog;
use formats::Formats;

/// Microseconds of a clock that never goes back.
pub type Micros = u64;

/// How much the model keeps at most.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many calls there are in all states.
    pub calls: usize,
    /// Calls that nobody has answered. The oldest makes room for a new one.
    #[serde(rename = "half_open_calls")]
    pub half_open: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 200_000,
            half_open: 20_000,
        }
    }
}

/// The state of every call that the feeds tell of.
pub struct Model {
    configured: Configured,
    limits: Limits,
    /// Of the hashes of branches and bodies.
    seed: u64,
    calls: HashMap<Arc<[u8]>, Call>,
    /// Which dialog has a five-tuple.
    owners: HashMap<FiveTuple, Owner>,
    /// Timers; one that its call no longer has set is stale.
    timers: BinaryHeap<Reverse<(Micros, Arc<[u8]>)>>,
    /// Calls in the order in which they began; those that are answered or gone are stale.
    half_open: VecDeque<(u64, Arc<[u8]>)>,
    half_open_count: usize,
    serial: u64,
    counters: Counters,
    formats: Formats,
    changes: Vec<Change>,
}

/// Who has a five-tuple.
struct Owner {
    call: Arc<[u8]>,
    serial: u64,
    id: SessionId,
}

impl Model {
    /// `seed` should be random: it keeps senders from choosing hashes.
    pub fn new(configured: Configured, limits: Limits, seed: u64) -> Self {
        Self {
            configured,
            limits,
            seed,
            calls: HashMap::new(),
            owners: HashMap::new(),
            timers: BinaryHeap::new(),
            half_open: VecDeque::new(),
            half_open_count: 0,
            serial: 0,
            counters: Counters::default(),
            formats: Formats::default(),
            changes: Vec::new(),
        }
    }

    /// The server says that nothing was heard of a session for long. Returns whether its dialog is over by
    /// that: not while it is on hold, or not answered yet (rule 8).
    pub fn silent(&mut self, now: Micros, call_id: &[u8], id: &SessionId) -> bool {
        self.tick(now);
        let mut ended = false;
        if self.calls.contains_key(call_id) {
            self.with_call(now, call_id, |_, call| {
                let is_it = |of: &&mut Dialog| of.id == *id && of.ends_by_silence();
                if let Some(dialog) = call.dialogs.iter_mut().find(is_it) {
                    dialog.end(Why::Silent, now);
                    ended = true;
                }
            });
        }
        ended
    }

    /// Does what is due by now. Every other function does so, too.
    pub fn tick(&mut self, now: Micros) {
        while let Some(Reverse((at, _))) = self.timers.peek()
            && *at <= now
        {
            let Some(Reverse((at, call_id))) = self.timers.pop() else {
                return;
            };
            let is_set = |call: &Call| call.timer == Some(at);
            if self.calls.get(&call_id).is_some_and(is_set) {
                self.with_call(now, &call_id, |_, call| call.timer = None);
            }
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_deadline(&self) -> Option<Micros> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// What the server should be told, in order. Empties it.
    pub fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// What became of messages.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many calls are known, ended ones included until their tombstones are gone.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Changes one call, made if there is none, and then what the server should have of it.
    fn with_call(
        &mut self,
        now: Micros,
        call_id: &[u8],
        change: impl FnOnce(&mut Self, &mut Call),
    ) {
        // Taken out, so that other calls can be changed meanwhile.
        let mut call = match self.calls.remove(call_id) {
            Some(call) => call,
            None => match self.new_call(now, call_id) {
                Some(call) => call,
                None => return,
            },
        };
        let was_half_open = call.half_open;
        change(self, &mut call);
        self.reconcile(now, &mut call);
        if was_half_open && !call.half_open {
            self.half_open_count -= 1;
        }
        if call.is_over() {
            if call.half_open {
                self.half_open_count -= 1;
            }
            return;
        }
        self.set_timer(now, &mut call);
        self.calls.insert(Arc::clone(&call.id), call);
    }

    fn new_call(&mut self, now: Micros, call_id: &[u8]) -> Option<Call> {
        if self.half_open_count >= self.limits.half_open || self.calls.len() >= self.limits.calls {
            self.evict(now);
        }
        if self.calls.len() >= self.limits.calls {
            self.counters.calls_full += 1;
            return None;
        }
        self.serial += 1;
        self.half_open_count += 1;
        let id: Arc<[u8]> = call_id.into();
        self.half_open.push_back((self.serial, Arc::clone(&id)));
        if self.half_open.len() > 2 * self.half_open_count + 1_024 {
            let calls = &self.calls;
            let serial = self.serial;
            self.half_open.retain(|(of, id)| {
                *of == serial
                    || calls
                        .get(id)
                        .is_some_and(|call| call.serial == *of && call.half_open)
            });
        }
        Some(Call::new(id, self.serial))
    }

    /// Gives up the oldest call that nobody answered.
    fn evict(&mut self, now: Micros) {
        while let Some((serial, id)) = self.half_open.pop_front() {
            let is_it = |call: &Call| call.serial == serial && call.half_open;
            if !self.calls.get(&id).is_some_and(is_it) {
                continue;
            }
            if let Some(mut call) = self.calls.remove(&id) {
                for dialog in &mut call.dialogs {
                    dialog.end(Why::Evicted, now);
                }
                self.reconcile(now, &mut call);
                self.half_open_count -= 1;
                self.counters.evicted += 1;
            }
            return;
        }
    }

    fn set_timer(&mut self, now: Micros, call: &mut Call) {
        let deadline = call.deadline(now);
        if let Some(at) = deadline
            && call.timer.is_none_or(|set| at < set || set <= now)
        {
            call.timer = Some(at);
            self.timers.push(Reverse((at, Arc::clone(&call.id))));
        }
        // In a flood, timers of calls that are gone would outnumber those that are set.
        if self.timers.len() > 4 * self.calls.len() + 1_024 {
            let calls = &self.calls;
            self.timers.retain(|Reverse((at, id))| {
                *id == call.id || calls.get(id).is_some_and(|of| of.timer == Some(*at))
            });
        }
    }
}
