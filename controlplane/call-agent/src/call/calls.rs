//! One call: all exchanges and dialogs of a Call-ID.

use std::sync::Arc;

use super::{
    Micros,
    dialog::{Dialog, State, apply},
    exchange::{Exchange, FINISHED_FOR, Key, Offered, Path},
    seen::Journal,
    session::{FiveTuple, Flow, MAX_FLOWS, NotPlaced, Reason, Why},
};
use crate::{
    rate::Configured,
    sdp::{self, Kind},
};

/// The most exchanges of a call that are kept; the oldest is settled before its time.
const MAX_EXCHANGES: usize = 16;
/// The most dialogs of a call, ended ones included.
const MAX_DIALOGS: usize = 64;
/// How long an exchange may stay without a final response, after the last message of it.
const UNFINISHED_FOR: Micros = 300_000_000;

#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: Arc<[u8]>,
    /// Grows with each new call: the newer one wins a five-tuple (rule 9).
    pub(super) serial: u64,
    /// Never had a dialog that was confirmed.
    pub(super) half_open: bool,
    pub(super) dialogs: Vec<Dialog>,
    exchanges: Vec<Exchange>,
    /// Exchanges that are no longer kept: the highest number of each requester.
    settled: Vec<Key>,
    ng_offers: u32,
    pub(super) journal: Journal,
    /// The timer that is set.
    pub(super) timer: Option<Micros>,
}

/// What the server should have of a dialog.
pub(super) struct Wanted {
    pub(super) flows: Vec<Flow>,
    pub(super) not_placed: Vec<NotPlaced>,
}

impl Wanted {
    pub(super) fn has(&self, five_tuple: FiveTuple) -> bool {
        self.flows
            .iter()
            .any(|flow| flow.five_tuple() == five_tuple)
    }
}

/// What a response is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Invite,
    Update,
    Prack,
    /// An offer by ng: its answer may be early media, but it is all that will be said.
    Ng,
}

/// A response that brings a dialog further.
pub(super) struct Response<'a> {
    pub(super) to_tag: &'a [u8],
    pub(super) code: u16,
    pub(super) to: Asked,
    /// When it came, us by the sender's clock or the agent's.
    pub(super) at: u64,
    pub(super) expires_s: Option<u32>,
}

impl Call {
    pub(super) fn new(id: Arc<[u8]>, serial: u64) -> Self {
        Self {
            id,
            serial,
            half_open: true,
            dialogs: Vec::new(),
            exchanges: Vec::new(),
            settled: Vec::new(),
            ng_offers: 0,
            journal: Journal::default(),
            timer: None,
        }
    }

    /// The exchange with this key; `None` if it is settled. `at` is when its message was sent.
    pub(super) fn exchange(&mut self, key: Key, at: u64, now: Micros) -> Option<&mut Exchange> {
        let late = |settled: &Key| {
            settled.ng == key.ng && settled.requester == key.requester && settled.cseq >= key.cseq
        };
        if self.settled.iter().any(late) {
            return None;
        }
        let at = match self.exchanges.iter().position(|of| of.key == key) {
            Some(at) => at,
            None => {
                let order = self.order_of(&key, at);
                let place = self.exchanges.partition_point(|of| of.order <= order);
                self.exchanges.insert(place, Exchange::new(key, order, now));
                place
            }
        };
        let exchange = self.exchanges.get_mut(at)?;
        exchange.last_seen = now;
        Some(exchange)
    }

    /// Where a new exchange stands among the others: by time, but one requester's by their numbers.
    fn order_of(&self, key: &Key, at: u64) -> u64 {
        let own = || {
            let same = |of: &&Exchange| of.key.ng == key.ng && of.key.requester == key.requester;
            self.exchanges.iter().filter(same)
        };
        let after = own().filter(|of| of.key.cseq < key.cseq).map(|of| of.order);
        let before = own().filter(|of| of.key.cseq > key.cseq).map(|of| of.order);
        let at = after.max().map_or(at, |earlier| at.max(earlier));
        before
            .min()
            .map_or(at, |later| at.min(later.saturating_sub(1)))
    }

    /// The SDP with this digest, if a message of an exchange that is kept has carried it.
    pub(super) fn known_sdp(&self, digest: u64) -> Option<Arc<sdp::Session>> {
        self.exchanges.iter().find_map(|of| of.known_sdp(digest))
    }

    /// The latest exchange that ng made for this offerer.
    pub(super) fn last_ng(&mut self, requester: &[u8]) -> Option<&mut Exchange> {
        self.exchanges
            .iter_mut()
            .rev()
            .find(|of| of.key.ng && *of.key.requester == *requester)
    }

    /// A key for a new offer by ng, which has no numbers of its own.
    pub(super) fn new_ng_key(&mut self, requester: &[u8]) -> Key {
        self.ng_offers = self.ng_offers.saturating_add(1);
        Key {
            ng: true,
            requester: requester.into(),
            cseq: self.ng_offers,
        }
    }

    /// A response to INVITE, UPDATE or PRACK.
    pub(super) fn response(
        &mut self,
        key: Key,
        path: Path,
        response: &Response<'_>,
        offered: Option<Offered>,
        now: Micros,
    ) {
        let requester = key.requester.clone();
        let cseq = key.cseq;
        let Some(exchange) = self.exchange(key, response.at, now) else {
            return;
        };
        let is_final = response.code >= 200;
        if response.code == 199 || response.code >= 300 {
            let refused = exchange.refusal(&path, response.to_tag, is_final);
            self.refused(&requester, &refused, now);
            return;
        }
        exchange.response(path, response.to_tag, is_final, response.at, offered, now);
        let order = exchange.order;
        let others: Vec<Box<[u8]>> = if response.to == Asked::Invite && exchange.has_confirmed() {
            let unanswered = exchange
                .responders()
                .filter(|tag| !exchange.is_confirmed(tag));
            unanswered.map(Box::from).collect()
        } else {
            Vec::new()
        };
        let inviting = self.exchanges.iter().any(|of| !of.finished && !of.key.ng);
        if let Some(dialog) = self.dialog([&requester, response.to_tag])
            && is_final
        {
            let confirms = match response.to {
                Asked::Invite | Asked::Ng => true,
                // Within a call that is answered already.
                Asked::Update => !inviting,
                Asked::Prack => false,
            };
            if confirms {
                dialog.confirm();
            }
            if dialog.state == State::Confirmed && response.to != Asked::Ng {
                dialog.refreshed((cseq, order), response.expires_s, now);
            }
        }
        // Rule 7: a 2xx ends the other early dialogs, those that come later included.
        for tag in others {
            if let Some(dialog) = self.dialog([&requester, &tag])
                && dialog.state == State::Early
            {
                dialog.end(Why::OtherBranch, now);
            }
        }
    }

    /// Ends the early dialogs of these responders: nothing that they agreed on outlives the INVITE.
    fn refused(&mut self, requester: &[u8], responders: &[Box<[u8]>], now: Micros) {
        for tag in responders {
            let is_early =
                |of: &&mut Dialog| of.has_tags([requester, tag]) && of.state == State::Early;
            for dialog in self.dialogs.iter_mut().filter(is_early) {
                dialog.end(Why::Refused, now);
            }
        }
    }

    /// The dialog of both tags, made if there is none.
    pub(super) fn dialog(&mut self, tags: [&[u8]; 2]) -> Option<&mut Dialog> {
        let at = match self.dialogs.iter().position(|of| of.has_tags(tags)) {
            Some(at) => at,
            None if self.dialogs.len() >= MAX_DIALOGS => return None,
            None => {
                self.dialogs.push(Dialog::new(&self.id, tags));
                self.dialogs.len() - 1
            }
        };
        self.dialogs.get_mut(at)
    }

    /// Does what is due: ends dialogs, settles exchanges, forgets what is over.
    pub(super) fn advance(&mut self, now: Micros, configured: &Configured) {
        for dialog in &mut self.dialogs {
            dialog.advance(now);
        }
        while self
            .exchanges
            .first()
            .is_some_and(|first| first.settles_at() <= now || self.exchanges.len() > MAX_EXCHANGES)
        {
            let exchange = self.exchanges.remove(0);
            self.settle(exchange, now, configured);
            if self.exchanges.is_empty() {
                self.release_room();
            }
        }
        let exchanges = &self.exchanges;
        self.dialogs.retain(|dialog| match dialog.state {
            State::Ended { forget_at, .. } => now < forget_at || !dialog.installed.is_empty(),
            State::Early | State::Confirmed => {
                !dialog.base.is_empty()
                    || !dialog.installed.is_empty()
                    || dialog.deadline().is_some()
                    || exchanges
                        .iter()
                        .any(|of| dialog.peer_of(&of.key.requester).is_some())
            }
        });
        self.half_open &= self.dialogs.iter().all(|of| of.state != State::Confirmed);
    }

    /// Gives back what was made for more: from here on most calls only last.
    fn release_room(&mut self) {
        self.exchanges.shrink_to_fit();
        self.settled.shrink_to_fit();
        self.dialogs.shrink_to_fit();
        for dialog in &mut self.dialogs {
            dialog.base.shrink_to_fit();
        }
        self.journal.release_room();
    }

    /// Keeps what an exchange came to, and forgets it.
    fn settle(&mut self, exchange: Exchange, now: Micros, configured: &Configured) {
        for dialog in &mut self.dialogs {
            let Some(peer) = dialog.peer_of(&exchange.key.requester) else {
                continue;
            };
            match dialog.state {
                State::Confirmed if exchange.finished => {
                    let mut outcome = exchange.outcome(peer, configured);
                    outcome.replaces_at = outcome.replaces_at.map(|at| at.min(now));
                    apply(&mut dialog.base, outcome, now);
                }
                State::Early if exchange.responders().any(|tag| tag == peer) => {
                    dialog.end(Why::NeverAnswered, now);
                }
                State::Early | State::Confirmed | State::Ended { .. } => {}
            }
        }
        let key = exchange.key;
        let of_requester = |of: &&mut Key| of.ng == key.ng && of.requester == key.requester;
        let room = self.settled.len() < MAX_DIALOGS;
        match self.settled.iter_mut().find(of_requester) {
            Some(settled) => settled.cseq = settled.cseq.max(key.cseq),
            None if room => self.settled.push(key),
            None => {}
        }
    }

    /// What the server should have of a dialog, whatever other calls have.
    pub(super) fn wanted(&self, dialog: &Dialog, now: Micros, configured: &Configured) -> Wanted {
        let mut flows = Vec::new();
        let mut not_placed = Vec::new();
        if !dialog.is_ended() {
            flows.clone_from(&dialog.base);
            for exchange in &self.exchanges {
                let Some(peer) = dialog.peer_of(&exchange.key.requester) else {
                    continue;
                };
                let mut outcome = exchange.outcome(peer, configured);
                if outcome.answered {
                    not_placed = std::mem::take(&mut outcome.pair.not_placed);
                }
                apply(&mut flows, outcome, now);
            }
        }
        if flows.len() > MAX_FLOWS {
            flows.sort_by_key(|(_, flow)| flow.kind != Kind::Audio);
            not_placed.extend(flows.drain(MAX_FLOWS..).map(|(stream, _)| NotPlaced {
                stream,
                reason: Reason::TooMany,
            }));
            not_placed.dedup();
        }
        let mut flows: Vec<Flow> = flows.into_iter().map(|(_, flow)| flow).collect();
        flows.sort_unstable_by_key(Flow::five_tuple);
        Wanted { flows, not_placed }
    }

    /// When [`advance`](Self::advance) or [`wanted`](Self::wanted) have something new next. `None`
    /// and no dialogs: the call is over.
    pub(super) fn deadline(&self, now: Micros) -> Option<Micros> {
        let settles = self.exchanges.first().map(Exchange::settles_at);
        let replaces = self
            .exchanges
            .iter()
            .flat_map(Exchange::replaces)
            .filter(|&at| at > now);
        let dialogs = self.dialogs.iter().filter_map(Dialog::deadline);
        settles.into_iter().chain(replaces).chain(dialogs).min()
    }

    pub(super) fn is_over(&self) -> bool {
        self.dialogs.is_empty() && self.exchanges.is_empty()
    }
}

impl Exchange {
    fn settles_at(&self) -> Micros {
        self.last_seen
            + if self.finished {
                FINISHED_FOR
            } else {
                UNFINISHED_FOR
            }
    }
}
