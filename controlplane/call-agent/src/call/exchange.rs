//! One request, all its hops and all its responses.
//!
//! An exchange only collects. What follows from it is computed from the set of what it has seen, so
//! messages may come in any order and more than once (rule 3).

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

use super::{
    Micros,
    flows::{Pair, Side, ends, pair},
};
use crate::{rate::Configured, sdp};

/// How long the answers of other hops are waited for before what they replace goes (rule 1).
pub(super) const HOPS_WAIT: Micros = 1_000_000;
/// How long after its end an exchange can still see answers: 64 T1 (RFC 3261, section 13.2.2.4).
pub(super) const FINISHED_FOR: Micros = 32_000_000;
/// The most hops of an exchange.
const MAX_HOPS: usize = 32;
/// The most responders of an exchange.
const MAX_RESPONDERS: usize = 32;
/// The most ACKs and PRACKs with SDP of an exchange.
const MAX_ACKS: usize = 32;

/// What names an exchange within its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// From ng, where numbers are the model's own.
    pub(super) ng: bool,
    /// The From tag of the request.
    pub(super) requester: Box<[u8]>,
    pub(super) cseq: u32,
}

/// One side's SDP as one message carried it.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    pub(super) sdp: Arc<sdp::Session>,
    /// Of the SDP's text.
    pub(super) digest: u64,
    /// The public address that the message came from, if it is worth anything.
    pub(super) signalled_from: Option<IpAddr>,
}

/// A request with what it led to.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) key: Key,
    /// Exchanges of a call in the order of their requests.
    pub(super) order: u64,
    pub(super) last_seen: Micros,
    pub(super) finished: bool,
    hops: Vec<Hop>,
    responders: Vec<Responder>,
    /// SDP of ACKs and PRACKs: the answer to a delayed offer.
    acks: Vec<Ack>,
    /// Branches that got a final response that is no 2xx.
    refused: Vec<u64>,
}

/// Names a hop: its branches, topmost first, as hashes.
pub(super) type Path = Box<[u64]>;

#[derive(Debug)]
struct Hop {
    path: Path,
    request: Option<Offered>,
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Answer {
    to_tag: Box<[u8]>,
    /// Of a 2xx, which counts more than a provisional response; then the latest counts.
    rank: (bool, u64),
    offered: Offered,
}

#[derive(Debug)]
struct Ack {
    to_tag: Box<[u8]>,
    /// How many Vias: it has another branch than its INVITE.
    depth: usize,
    offered: Offered,
}

/// Who answers, by its tag.
#[derive(Debug)]
struct Responder {
    tag: Box<[u8]>,
    /// When the first 2xx came.
    confirmed: Option<Micros>,
    refused: bool,
}

/// What an exchange gives one dialog.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) pair: Pair,
    /// There is an offer with its answer, on one hop at least.
    pub(super) answered: bool,
    /// When it replaces what was before; `None` while it stands beside it.
    pub(super) replaces_at: Option<Micros>,
    /// Where those sides receive whose counterpart was not seen.
    pub(super) halves: Vec<SocketAddr>,
}

impl Exchange {
    pub(super) fn new(key: Key, order: u64, now: Micros) -> Self {
        Self {
            key,
            order,
            last_seen: now,
            finished: false,
            hops: Vec::new(),
            responders: Vec::new(),
            acks: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// The SDP with this digest, if it was read before.
    pub(super) fn known_sdp(&self, digest: u64) -> Option<Arc<sdp::Session>> {
        let offers = self.hops.iter().filter_map(|hop| hop.request.as_ref());
        let answers = self.hops.iter().flat_map(|hop| &hop.answers);
        offers
            .chain(answers.map(|answer| &answer.offered))
            .chain(self.acks.iter().map(|ack| &ack.offered))
            .find(|offered| offered.digest == digest)
            .map(|offered| Arc::clone(&offered.sdp))
    }

    pub(super) fn request(&mut self, path: Path, offered: Option<Offered>) {
        if let Some(hop) = self.hop(path)
            && hop.request.is_none()
        {
            hop.request = offered;
        }
    }

    /// A provisional response with a tag, or a 2xx.
    pub(super) fn response(
        &mut self,
        path: Path,
        to_tag: &[u8],
        is_final: bool,
        at: u64,
        offered: Option<Offered>,
        now: Micros,
    ) {
        if is_final {
            self.finished = true;
        }
        if let Some(responder) = self.responder(to_tag)
            && is_final
        {
            responder.confirmed.get_or_insert(now);
        }
        let (Some(offered), Some(hop)) = (offered, self.hop(path)) else {
            return;
        };
        let rank = (is_final, at);
        let answer = Answer {
            to_tag: to_tag.into(),
            rank,
            offered,
        };
        let room = hop.answers.len() < MAX_RESPONDERS;
        match hop.answers.iter_mut().find(|old| *old.to_tag == *to_tag) {
            Some(old) if old.rank < rank => *old = answer,
            Some(_) => {}
            None if room => hop.answers.push(answer),
            None => {}
        }
    }

    /// A final response that is no 2xx, or 199 (RFC 6228): nothing comes of this responder, nor of
    /// the hops behind the one that was refused. Returns the responders known before of which nothing
    /// can come any more.
    pub(super) fn refusal(
        &mut self,
        path: &[u64],
        to_tag: &[u8],
        is_final: bool,
    ) -> Vec<Box<[u8]>> {
        let known: Vec<Box<[u8]>> = self.responders().map(Box::from).collect();
        if let Some(responder) = self.responder(to_tag) {
            responder.refused = true;
        }
        let branch = path.first().copied().filter(|_| is_final);
        if let Some(branch) = branch
            && !self.refused.contains(&branch)
            && self.refused.len() < MAX_HOPS
        {
            self.refused.push(branch);
            self.finished |= self.hops.iter().all(|hop| self.is_refused(hop));
        }
        let all = is_final && self.finished && !self.has_confirmed();
        known
            .into_iter()
            .filter(|tag| all || **tag == *to_tag)
            .collect()
    }

    /// SDP in an ACK, or in a PRACK for an offer that a response made.
    pub(super) fn ack(&mut self, to_tag: &[u8], depth: usize, offered: Offered) {
        let known = |ack: &Ack| ack.depth == depth && *ack.to_tag == *to_tag;
        if !self.acks.iter().any(known) && self.acks.len() < MAX_ACKS {
            self.acks.push(Ack {
                to_tag: to_tag.into(),
                depth,
                offered,
            });
        }
    }

    /// When it may replace what was before, for each responder.
    pub(super) fn replaces(&self) -> impl Iterator<Item = Micros> {
        let confirmed = self.responders.iter().filter_map(|of| of.confirmed);
        confirmed.map(|at| at + HOPS_WAIT)
    }

    pub(super) fn is_confirmed(&self, tag: &[u8]) -> bool {
        self.responders
            .iter()
            .any(|responder| *responder.tag == *tag && responder.confirmed.is_some())
    }

    pub(super) fn has_confirmed(&self) -> bool {
        self.responders.iter().any(|of| of.confirmed.is_some())
    }

    pub(super) fn responders(&self) -> impl Iterator<Item = &[u8]> {
        self.responders.iter().map(|responder| &*responder.tag)
    }

    /// What this exchange gives the dialog of its requester and `responder`.
    pub(super) fn outcome(&self, responder: &[u8], configured: &Configured) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(state) = self.responders.iter().find(|of| *of.tag == *responder) else {
            return outcome;
        };
        let mut complete = true;
        for hop in &self.hops {
            if state.confirmed.is_none() && (state.refused || self.is_refused(hop)) {
                continue;
            }
            let answer = hop.answers.iter().find(|of| *of.to_tag == *responder);
            let response = answer.map(|answer| &answer.offered);
            let (offer, answer) = if hop.request.is_some() {
                (hop.request.as_ref(), response)
            } else {
                // A delayed offer: made in the response, answered by ACK or PRACK.
                let depth = hop.path.len();
                let is_its = |ack: &&Ack| ack.depth == depth && *ack.to_tag == *responder;
                let ack = self.acks.iter().find(is_its).map(|ack| &ack.offered);
                (response, ack)
            };
            match (offer, answer) {
                (Some(offer), Some(answer)) => {
                    outcome.answered = true;
                    let sides = [self.side(offer, responder), self.side(answer, responder)];
                    merge(&mut outcome.pair, pair(sides[0], sides[1], configured));
                }
                (Some(half), None) | (None, Some(half)) => {
                    complete = false;
                    outcome.halves.extend(ends(&half.sdp));
                }
                (None, None) => {}
            }
        }
        outcome.replaces_at = state
            .confirmed
            .map(|at| if complete { at } else { at + HOPS_WAIT });
        outcome
    }

    /// An SDP with what is known of a NAT before its sender (rule 16): what the message says that was
    /// nearest to it, of those that carried the same SDP.
    fn side<'a>(&self, offered: &'a Offered, responder: &[u8]) -> Side<'a> {
        let same = |other: &&Offered| other.digest == offered.digest;
        let requests = self.hops.iter().filter_map(|hop| {
            hop.request
                .as_ref()
                .map(|request| (hop.path.len(), request))
        });
        let responses = self.hops.iter().flat_map(|hop| {
            let its = hop.answers.iter().filter(|of| *of.to_tag == *responder);
            its.map(|answer| (hop.path.len(), &answer.offered))
        });
        let acks = self.acks.iter().map(|ack| (ack.depth, &ack.offered));
        let first = requests
            .chain(acks)
            .filter(|(_, other)| same(other))
            .min_by_key(|(depth, _)| *depth);
        let last = responses
            .filter(|(_, other)| same(other))
            .max_by_key(|(depth, _)| *depth);
        Side {
            sdp: &offered.sdp,
            signalled_from: first
                .or(last)
                .and_then(|(_, nearest)| nearest.signalled_from),
        }
    }

    /// This hop, or one before it, got a final response that is no 2xx.
    fn is_refused(&self, hop: &Hop) -> bool {
        hop.path.iter().any(|branch| self.refused.contains(branch))
    }

    fn hop(&mut self, path: Path) -> Option<&mut Hop> {
        // A hop is the topmost branch (rule 1).
        let at = self
            .hops
            .iter()
            .position(|hop| hop.path.first() == path.first());
        match at {
            Some(at) => self.hops.get_mut(at),
            None if self.hops.len() < MAX_HOPS => {
                self.hops.push(Hop {
                    path,
                    request: None,
                    answers: Vec::new(),
                });
                self.hops.last_mut()
            }
            None => None,
        }
    }

    fn responder(&mut self, tag: &[u8]) -> Option<&mut Responder> {
        let at = self.responders.iter().position(|of| *of.tag == *tag);
        match at {
            Some(at) => self.responders.get_mut(at),
            None if self.responders.len() < MAX_RESPONDERS => {
                self.responders.push(Responder {
                    tag: tag.into(),
                    confirmed: None,
                    refused: false,
                });
                self.responders.last_mut()
            }
            None => None,
        }
    }
}

/// Adds another hop's pair. Equal five-tuples are one flow with the higher rate (rule 1).
fn merge(into: &mut Pair, from: Pair) {
    merge_flows(&mut into.flows, from.flows);
    into.not_yet |= from.not_yet;
    for not_placed in from.not_placed {
        if !into.not_placed.contains(&not_placed) {
            into.not_placed.push(not_placed);
        }
    }
}

/// Adds flows that are not there, and raises the rate of those that are.
pub(super) fn merge_flows(
    into: &mut Vec<(u8, super::session::Flow)>,
    from: impl IntoIterator<Item = (u8, super::session::Flow)>,
) {
    for (stream, flow) in from {
        match into
            .iter_mut()
            .find(|(_, old)| old.five_tuple() == flow.five_tuple())
        {
            Some((_, old)) => old.rate_bps = old.rate_bps.max(flow.rate_bps),
            None => into.push((stream, flow)),
        }
    }
}
