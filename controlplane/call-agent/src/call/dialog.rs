//! One dialog: Call-ID and both tags.

use std::{net::SocketAddr, sync::Arc};

use super::{
    Micros,
    exchange::{Outcome, merge_flows},
    session::{FiveTuple, Flow, Lease, NotPlaced, SessionId, Source, Why},
};

/// How long a dialog that ended stays known, so that stragglers do not bring it back (rule 5).
pub(super) const TOMBSTONE: Micros = 64_000_000;
/// How long a BYE may go unanswered (rule 5).
const BYE_WAIT: Micros = 5_000_000;
/// What is added to Session-Expires (rule 8): RFC 4028 lets the refresher be that late.
const LEASE_MARGIN_S: u32 = 32;
/// The longest lease that the server takes, s.
const MAX_LEASE_S: u32 = 86_400;
/// The most BYEs of a dialog that are told apart.
const MAX_BYES: usize = 8;
/// The most five-tuples that a dialog can lose to newer calls and still be told about.
const MAX_LOST: usize = 64;

/// Where a dialog is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No 2xx as yet.
    Early,
    Confirmed,
    /// Over; forgotten at that time.
    Ended {
        why: Why,
        forget_at: Micros,
    },
}

#[derive(Debug)]
pub(super) struct Dialog {
    pub(super) id: SessionId,
    pub(super) tags: [Arc<[u8]>; 2],
    pub(super) state: State,
    /// What exchanges that are no longer kept came to, with the `m=` line of each flow.
    pub(super) base: Vec<(u8, Flow)>,
    /// What the server was told last.
    pub(super) installed: Arc<[Flow]>,
    /// The streams that could not be placed, as told last.
    pub(super) not_placed: Vec<NotPlaced>,
    byes: Vec<Bye>,
    refresh: Option<Refresh>,
    /// The lease changed since the server was told.
    pub(super) renewed: bool,
    /// The server's side was told that it is over.
    pub(super) told_end: bool,
    /// Five-tuples that newer calls have (rule 9).
    lost: Vec<FiveTuple>,
}

#[derive(Debug)]
struct Bye {
    requester: Box<[u8]>,
    cseq: u32,
    /// `None`: answered.
    deadline: Option<Micros>,
}

/// The last answer to an INVITE or UPDATE, which refreshed the session (RFC 4028).
#[derive(Clone, Copy, Debug)]
struct Refresh {
    /// The exchange's number and the time of its request.
    exchange: (u32, u64),
    expires_s: Option<u32>,
    until: Option<Micros>,
}

impl Dialog {
    pub(super) fn new(call_id: &[u8], tags: [&[u8]; 2]) -> Self {
        Self {
            id: SessionId::new(call_id, tags),
            tags: tags.map(Arc::from),
            state: State::Early,
            base: Vec::new(),
            installed: Arc::default(),
            not_placed: Vec::new(),
            byes: Vec::new(),
            refresh: None,
            renewed: false,
            told_end: false,
            lost: Vec::new(),
        }
    }

    pub(super) fn has_tags(&self, tags: [&[u8]; 2]) -> bool {
        let [a, b] = self.tags.each_ref().map(|tag| &**tag);
        [a, b] == tags || [b, a] == tags
    }

    /// The other side's tag.
    pub(super) fn peer_of(&self, tag: &[u8]) -> Option<&[u8]> {
        match self.tags.each_ref().map(|tag| &**tag) {
            [a, b] if a == tag => Some(b),
            [a, b] if b == tag => Some(a),
            _ => None,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    pub(super) fn end(&mut self, why: Why, now: Micros) {
        if !self.is_ended() {
            let forget_at = now + TOMBSTONE;
            self.state = State::Ended { why, forget_at };
            self.base = Vec::new();
            self.byes = Vec::new();
        }
    }

    /// A 2xx to an INVITE. It brings back a dialog that ended only because another branch was answered
    /// before, as both stand until a BYE (RFC 3261, section 13.2.2.4); or because an INVITE before
    /// this one was refused.
    pub(super) fn confirm(&mut self) {
        match self.state {
            State::Early
            | State::Ended {
                why: Why::OtherBranch | Why::Refused,
                ..
            } => {
                self.state = State::Confirmed;
                self.told_end = false;
            }
            State::Confirmed | State::Ended { .. } => {}
        }
    }

    /// A BYE, which is over when somebody answers it, or nobody does for long.
    pub(super) fn bye(&mut self, requester: &[u8], cseq: u32, now: Micros) {
        self.bye_of(requester, cseq, Some(now + BYE_WAIT));
    }

    /// A final response to a BYE (rule 5). 401 and 407 ask for credentials, which come with another
    /// BYE; whoever refuses it otherwise has kept the call.
    pub(super) fn bye_answered(&mut self, requester: &[u8], cseq: u32, code: u16, now: Micros) {
        match code {
            200..300 | 408 | 481 => self.end(Why::Bye, now),
            _ => {
                self.bye_of(requester, cseq, None);
            }
        }
    }

    fn bye_of(&mut self, requester: &[u8], cseq: u32, deadline: Option<Micros>) {
        if self.is_ended() {
            return;
        }
        let known = |bye: &&mut Bye| bye.cseq == cseq && *bye.requester == *requester;
        let room = self.byes.len() < MAX_BYES;
        match self.byes.iter_mut().find(known) {
            Some(bye) if deadline.is_none() => bye.deadline = None,
            Some(_) => {}
            None if room => self.byes.push(Bye {
                requester: requester.into(),
                cseq,
                deadline,
            }),
            None => {}
        }
    }

    /// A 2xx to an INVITE or UPDATE, with SDP or without (rule 8). Hops may differ in Session-Expires:
    /// the longest counts.
    pub(super) fn refreshed(&mut self, exchange: (u32, u64), expires_s: Option<u32>, now: Micros) {
        if self.is_ended() {
            return;
        }
        let until = expires_s.map(|seconds| {
            let seconds = seconds.saturating_add(LEASE_MARGIN_S).min(MAX_LEASE_S);
            now + Micros::from(seconds) * 1_000_000
        });
        let is_news = match self.refresh {
            None => true,
            Some(last) if last.exchange == exchange => expires_s > last.expires_s,
            Some(last) => last.exchange.1 < exchange.1,
        };
        if is_news {
            self.renewed |=
                until.is_some() || self.refresh.is_some_and(|last| last.until.is_some());
            self.refresh = Some(Refresh {
                exchange,
                expires_s,
                until,
            });
        }
    }

    pub(super) fn lease(&self) -> Lease {
        match self.refresh.and_then(|refresh| refresh.until) {
            Some(until) => Lease::Until(until),
            None => Lease::WhileHeard {
                held: self.installed.iter().all(|flow| flow.held),
            },
        }
    }

    /// Whether it is over when its wire is silent.
    pub(super) fn ends_by_silence(&self) -> bool {
        self.state == State::Confirmed && self.lease() == Lease::WhileHeard { held: false }
    }

    /// Why it has the flows that it has.
    pub(super) fn why(&self, is_new: bool) -> Why {
        match (self.state, is_new) {
            (State::Early, _) => Why::EarlyMedia,
            (_, true) => Why::Answered,
            (_, false) => Why::Renegotiated,
        }
    }

    /// Why it has no flows any more.
    pub(super) fn why_nothing(&self) -> Why {
        match self.state {
            State::Ended { why, .. } => why,
            _ if !self.lost.is_empty() => Why::Superseded,
            State::Early => Why::Refused,
            State::Confirmed => Why::NoStreams,
        }
    }

    /// Ends what is due.
    pub(super) fn advance(&mut self, now: Micros) {
        if self
            .byes
            .iter()
            .any(|bye| bye.deadline.is_some_and(|at| at <= now))
        {
            self.end(Why::ByeUnanswered, now);
        }
        let expired = self.refresh.and_then(|refresh| refresh.until);
        if expired.is_some_and(|until| until <= now) {
            self.end(Why::Expired, now);
        }
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub(super) fn deadline(&self) -> Option<Micros> {
        match self.state {
            State::Ended { forget_at, .. } => Some(forget_at),
            State::Early | State::Confirmed => self
                .byes
                .iter()
                .filter_map(|bye| bye.deadline)
                .chain(self.refresh.and_then(|refresh| refresh.until))
                .min(),
        }
    }

    /// A newer call has this five-tuple now.
    pub(super) fn lose(&mut self, five_tuple: FiveTuple) {
        if self.lost.len() < MAX_LOST {
            self.lost.push(five_tuple);
        }
    }

    pub(super) fn has_lost(&self, flow: &Flow) -> bool {
        self.lost.contains(&flow.five_tuple())
    }
}

/// What a dialog's flows become by an exchange: beside those before it until the exchange is over,
/// then in their place (rules 1 and 4).
pub(super) fn apply(flows: &mut Vec<(u8, Flow)>, outcome: Outcome, now: Micros) {
    if !outcome.answered {
        return;
    }
    let replaces = outcome.replaces_at.is_some_and(|at| at <= now);
    if replaces {
        // What the new pairs cannot say stays: streams without a port as yet (rule 13), and those of
        // a hop of which one message was lost, if no other hop tells of the same end.
        let touches = |flow: &Flow, end: &SocketAddr| {
            flow.destination == *end || flow.source == Source::Fixed(*end)
        };
        let told = |end: &SocketAddr| {
            outcome
                .pair
                .flows
                .iter()
                .any(|(_, flow)| touches(flow, end))
        };
        let untold: Vec<_> = outcome.halves.iter().filter(|end| !told(end)).collect();
        flows.retain(|(stream, flow)| {
            let not_yet = outcome.pair.not_yet.checked_shr((*stream).into());
            not_yet.unwrap_or(0) & 1 == 1 || untold.iter().any(|end| touches(flow, end))
        });
        let kept = std::mem::replace(flows, outcome.pair.flows);
        merge_flows(flows, kept);
    } else {
        merge_flows(flows, outcome.pair.flows);
    }
}
