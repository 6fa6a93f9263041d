//! What the model is told: which exchange or dialog each message belongs to.

use std::{iter, mem, net::IpAddr, sync::Arc};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Feed, Micros, Model, NgMedia, Why,
    calls::{Asked, Call, Response},
    exchange::{Exchange, Key, Offered},
    input,
};
use crate::{
    ng, sdp,
    sip::{self, Method, Start},
};

/// An SDP, read once for all messages of its call that carry it.
pub(super) struct Read {
    /// A hash of its text, by which an equal one is found.
    pub(super) digest: u64,
    pub(super) sdp: Result<Arc<sdp::Session>, sdp::Refused>,
}

impl Read {
    /// As an exchange keeps it.
    fn offered(&self, signalled_from: Option<IpAddr>) -> Option<Offered> {
        Some(Offered {
            sdp: Arc::clone(self.sdp.as_ref().ok()?),
            digest: self.digest,
            signalled_from,
        })
    }
}

impl Model {
    /// Takes a SIP message.
    pub fn sip(&mut self, now: Micros, feed: &Feed, message: &sip::Message<'_>) {
        self.tick(now);
        self.counters.messages += 1;
        let interesting = match (message.start, message.method) {
            (Start::Request { .. }, Method::Invite | Method::Update | Method::Bye) => true,
            (Start::Request { .. }, Method::Ack | Method::Prack) => message.sdp.is_some(),
            (Start::Response { code }, Method::Invite | Method::Update) => code > 100,
            (Start::Response { code }, Method::Bye) => code >= 200,
            (Start::Response { .. }, Method::Prack) => message.sdp.is_some(),
            // Rule 6: CANCEL and its 200 end nothing; the INVITE's own final response does.
            (_, Method::Cancel | Method::Ack | Method::Other(_)) => false,
        };
        if !interesting {
            self.counters.of_no_interest += 1;
            if let Some(call) = self.calls.get_mut(message.call_id) {
                call.journal.sip(now, message, None);
            }
            return;
        }
        self.with_call(now, message.call_id, |model, call| {
            let sdp = message.sdp.map(|text| model.read(text, call));
            call.journal.sip(now, message, sdp.as_ref());
            let offered = sdp.and_then(|sdp| sdp.offered(feed.signalled_from(message)));
            match message.start {
                Start::Request { .. } => model.request(now, feed, message, offered, call),
                Start::Response { code } => {
                    model.response(now, feed, message, offered, code, call);
                }
            }
        });
    }

    /// Reads an SDP, unless a message of the call has carried the same.
    fn read(&mut self, text: &[u8], call: &Call) -> Read {
        let digest = xxh3_64_with_seed(text, self.seed);
        let sdp = match call.known_sdp(digest) {
            Some(sdp) => Ok(sdp),
            None => sdp::read(text).map(|mut sdp| {
                for stream in &mut sdp.streams {
                    self.formats.intern(&mut stream.formats);
                }
                Arc::new(sdp)
            }),
        };
        self.counters.bad_sdp += u64::from(sdp.is_err());
        Read { digest, sdp }
    }

    fn request(
        &mut self,
        now: Micros,
        feed: &Feed,
        message: &sip::Message<'_>,
        offered: Option<Offered>,
        call: &mut Call,
    ) {
        let at = feed.at(now);
        let key = |cseq| Key {
            ng: false,
            requester: message.from_tag.into(),
            cseq,
        };
        match message.method {
            Method::Bye => {
                if let Some(dialog) = call.dialog([message.from_tag, message.to_tag]) {
                    dialog.bye(message.from_tag, message.cseq, now);
                }
            }
            Method::Ack => {
                let exchange = call.exchange(key(message.cseq), at, now);
                self.acknowledge(message, offered, exchange);
            }
            method => {
                // Rule 1: SDP in a PRACK answers the offer of the response that it acknowledges, if
                // that made one; else it is an offer of its own.
                if let (Method::Prack, Some(cseq)) = (method, message.acknowledged_cseq) {
                    let exchange = call.exchange(key(cseq), at, now);
                    self.acknowledge(message, offered.clone(), exchange);
                }
                match call.exchange(key(message.cseq), at, now) {
                    Some(exchange) => exchange.request(input::path(message, self.seed), offered),
                    None => self.counters.late += 1,
                }
            }
        }
    }

    /// Rule 1: what an ACK or PRACK carries pairs with its INVITE by the number of Vias.
    fn acknowledge(
        &mut self,
        message: &sip::Message<'_>,
        offered: Option<Offered>,
        exchange: Option<&mut Exchange>,
    ) {
        match (exchange, offered) {
            (Some(exchange), Some(offered)) => {
                exchange.ack(message.to_tag, message.vias.len(), offered);
            }
            (Some(_), None) => {}
            (None, _) => self.counters.late += 1,
        }
    }

    fn response(
        &mut self,
        now: Micros,
        feed: &Feed,
        message: &sip::Message<'_>,
        offered: Option<Offered>,
        code: u16,
        call: &mut Call,
    ) {
        let to = match message.method {
            Method::Bye => {
                if let Some(dialog) = call.dialog([message.from_tag, message.to_tag]) {
                    dialog.bye_answered(message.from_tag, message.cseq, code, now);
                }
                return;
            }
            Method::Update => Asked::Update,
            Method::Prack => Asked::Prack,
            _ => Asked::Invite,
        };
        let key = Key {
            ng: false,
            requester: message.from_tag.into(),
            cseq: message.cseq,
        };
        let at = feed.at(now);
        if call.exchange(key.clone(), at, now).is_none() {
            self.counters.late += 1;
            return;
        }
        let response = Response {
            to_tag: message.to_tag,
            code,
            to,
            at,
            expires_s: message.session_expires,
        };
        let path = input::path(message, self.seed);
        call.response(key, path, &response, offered, now);
    }

    /// Takes ng's `offer`. The offerer is `from-tag`.
    pub fn ng_offer(&mut self, now: Micros, media: &NgMedia<'_>) {
        self.tick(now);
        self.counters.messages += 1;
        let dialog = &media.command.dialog;
        self.with_call(now, &dialog.call_id, |model, call| {
            let branch = dialog.via_branch.as_deref().unwrap_or_default();
            let digest = xxh3_64_with_seed(&media.command.sdp, model.seed);
            // The branches of a fork are offers alike.
            let again = call
                .last_ng(&dialog.from_tag)
                .filter(|last| !last.finished && last.known_sdp(digest).is_some())
                .map(|last| last.key.clone());
            let key = again.unwrap_or_else(|| call.new_ng_key(&dialog.from_tag));
            let (own, relayed) = media.hops(model.seed);
            for hop in iter::once(own).chain(relayed) {
                let sdp = model.read(hop.sdp, call);
                call.journal.ng_offer(now, branch, &sdp);
                if let Some(exchange) = call.exchange(key.clone(), now, now) {
                    exchange.request(hop.path, sdp.offered(hop.signalled_from));
                }
            }
        });
    }

    /// Takes ng's `answer` to the offer of `from-tag`.
    pub fn ng_answer(&mut self, now: Micros, media: &NgMedia<'_>) {
        self.tick(now);
        self.counters.messages += 1;
        let dialog = &media.command.dialog;
        let Some(to_tag) = dialog.to_tag.as_deref() else {
            return;
        };
        self.with_call(now, &dialog.call_id, |model, call| {
            let branch = dialog.via_branch.as_deref().unwrap_or_default();
            let key = call.last_ng(&dialog.from_tag).map(|last| last.key.clone());
            // The answerer's SDP is on the hop of what it was offered, and the relay's on the
            // offerer's.
            let (mut own, mut relayed) = media.hops(model.seed);
            if let Some(relayed) = &mut relayed {
                mem::swap(&mut own.path, &mut relayed.path);
            }
            for hop in iter::once(own).chain(relayed) {
                let sdp = model.read(hop.sdp, call);
                call.journal.ng_answer(now, branch, &sdp);
                let Some(key) = &key else {
                    continue;
                };
                let response = Response {
                    to_tag,
                    code: 200,
                    to: Asked::Ng,
                    at: now,
                    expires_s: None,
                };
                let offered = sdp.offered(hop.signalled_from);
                call.response(key.clone(), hop.path, &response, offered, now);
            }
        });
    }

    /// Takes ng's `delete`. Returns whether there was anything to delete.
    pub fn ng_delete(&mut self, now: Micros, dialog: &ng::Dialog<'_>) -> bool {
        self.tick(now);
        self.counters.messages += 1;
        if !self.calls.contains_key(&*dialog.call_id) {
            return false;
        }
        let mut known = false;
        self.with_call(now, &dialog.call_id, |_, call| {
            call.journal.ng_delete(now);
            for of in &mut call.dialogs {
                let from = dialog.from_tag.is_empty() || of.peer_of(&dialog.from_tag).is_some();
                let to_tag = dialog.to_tag.as_deref();
                if from && to_tag.is_none_or(|tag| of.peer_of(tag).is_some()) && !of.is_ended() {
                    of.end(Why::Deleted, now);
                    known = true;
                }
            }
        });
        known
    }
}
