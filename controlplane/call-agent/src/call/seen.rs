//! What was seen of a call, for people.

use std::{collections::BTreeMap, fmt, sync::Arc};

use voicelane_proto::v1::SeenMessage;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Micros, Model, NotPlaced,
    calls::Call,
    dialog::{Dialog, State},
    intake::Read,
    session::{Flow, SessionId},
};
use crate::{
    sdp,
    sip::{self, Method, Start},
};

/// Messages of a call that are kept: the first half, and the latest.
const MAX_SEEN: usize = 32;
/// Different SDPs of a call whose summary is kept.
const MAX_SDPS: usize = 6;

/// What was seen of one call. Bounded.
#[derive(Debug, Default)]
pub(super) struct Journal {
    began: Micros,
    seen: Vec<Seen>,
    /// By the digest of their text.
    sdps: Vec<(u64, Box<str>)>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    after_ms: u32,
    what: What,
    cseq: u32,
    /// A hash of the topmost branch.
    hop: u32,
    /// Which of the SDPs; the number behind the last: none.
    sdp: u8,
}

/// A message, as far as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Request(Verb),
    Response(u16, Verb),
    NgOffer,
    NgAnswer,
    NgDelete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Invite,
    Ack,
    Bye,
    Cancel,
    Prack,
    Update,
    Other,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(verb) => write!(f, "{verb}"),
            Self::Response(code, verb) => write!(f, "{code} {verb}"),
            Self::NgOffer => f.write_str("ng offer"),
            Self::NgAnswer => f.write_str("ng answer"),
            Self::NgDelete => f.write_str("ng delete"),
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Other => "other",
        })
    }
}

impl Journal {
    pub(super) fn sip(&mut self, now: Micros, message: &sip::Message<'_>, sdp: Option<&Read>) {
        let verb = match message.method {
            Method::Invite => Verb::Invite,
            Method::Ack => Verb::Ack,
            Method::Bye => Verb::Bye,
            Method::Cancel => Verb::Cancel,
            Method::Prack => Verb::Prack,
            Method::Update => Verb::Update,
            Method::Other(_) => Verb::Other,
        };
        let what = match message.start {
            Start::Request { .. } => What::Request(verb),
            Start::Response { code } => What::Response(code, verb),
        };
        let branch = message
            .vias
            .first()
            .map(|via| via.branch)
            .unwrap_or_default();
        self.note(now, what, message.cseq, branch, sdp);
    }

    /// `sdp`: what came, or what a relay made of it.
    pub(super) fn ng_offer(&mut self, now: Micros, branch: &[u8], sdp: &Read) {
        self.note(now, What::NgOffer, 0, branch, Some(sdp));
    }

    /// See [`ng_offer`](Self::ng_offer).
    pub(super) fn ng_answer(&mut self, now: Micros, branch: &[u8], sdp: &Read) {
        self.note(now, What::NgAnswer, 0, branch, Some(sdp));
    }

    pub(super) fn ng_delete(&mut self, now: Micros) {
        self.note(now, What::NgDelete, 0, b"", None);
    }

    fn note(&mut self, now: Micros, what: What, cseq: u32, branch: &[u8], sdp: Option<&Read>) {
        if self.seen.is_empty() {
            self.began = now;
        }
        let after_ms = (now - self.began.min(now)) / 1_000;
        let sdp = sdp.map_or(MAX_SDPS, |sdp| self.sdp(sdp));
        if self.seen.len() >= MAX_SEEN {
            self.seen.remove(MAX_SEEN / 2);
        }
        let [a, b, c, d, ..] = xxh3_64(branch).to_be_bytes();
        self.seen.push(Seen {
            after_ms: u32::try_from(after_ms).unwrap_or(u32::MAX),
            what,
            cseq,
            hop: u32::from_be_bytes([a, b, c, d]),
            sdp: u8::try_from(sdp).unwrap_or(u8::MAX),
        });
    }

    fn sdp(&mut self, sdp: &Read) -> usize {
        let is_it = |(known, _): &(u64, _)| *known == sdp.digest;
        if let Some(at) = self.sdps.iter().position(is_it) {
            return at;
        }
        if self.sdps.len() < MAX_SDPS {
            self.sdps.push((sdp.digest, summary(sdp)));
            return self.sdps.len() - 1;
        }
        MAX_SDPS
    }

    pub(super) fn release_room(&mut self) {
        self.seen.shrink_to_fit();
        self.sdps.shrink_to_fit();
    }

    fn messages(&self) -> Vec<SeenMessage> {
        let mut hops = Vec::new();
        self.seen
            .iter()
            .map(|seen| {
                let hop = hops
                    .iter()
                    .position(|of| *of == seen.hop)
                    .unwrap_or_else(|| {
                        hops.push(seen.hop);
                        hops.len() - 1
                    });
                let sdp = self.sdps.get(usize::from(seen.sdp));
                SeenMessage {
                    after_ms: seen.after_ms.into(),
                    what: seen.what.to_string(),
                    cseq: seen.cseq,
                    hop: u32::try_from(hop + 1).unwrap_or(u32::MAX),
                    sdp: sdp.map(|(_, text)| text.to_string()).unwrap_or_default(),
                }
            })
            .collect()
    }

    /// What should have come with what came: of each request on each hop, its other half.
    fn missing(&self) -> Vec<String> {
        #[derive(Default)]
        struct Half {
            request: bool,
            last: Option<u16>,
        }
        let mut halves: BTreeMap<(u32, Verb, u32), Half> = BTreeMap::new();
        let mut acked = false;
        let mut confirmed = false;
        for seen in &self.seen {
            match seen.what {
                What::Request(Verb::Ack) => acked = true,
                What::Request(verb) => {
                    halves
                        .entry((seen.cseq, verb, seen.hop))
                        .or_default()
                        .request = true;
                }
                What::Response(code, verb) => {
                    let half = halves.entry((seen.cseq, verb, seen.hop)).or_default();
                    half.last = half.last.max(Some(code));
                    confirmed |= verb == Verb::Invite && (200..300).contains(&code);
                }
                What::NgOffer | What::NgAnswer | What::NgDelete => {}
            }
        }
        let mut missing = Vec::new();
        for ((cseq, verb, hop), half) in &halves {
            let number = self.hop_number(*hop);
            match half {
                Half { request: false, .. } => {
                    missing.push(format!(
                        "{verb} {cseq} on hop {number}: its response came alone"
                    ));
                }
                Half { last: None, .. } => {
                    missing.push(format!("any response to {verb} {cseq} on hop {number}"));
                }
                Half {
                    last: Some(..200), ..
                } => missing.push(format!("a final response to {verb} {cseq} on hop {number}")),
                Half { .. } => {}
            }
        }
        if confirmed && !acked {
            missing.push("ACK (needed only if it has SDP)".into());
        }
        missing
    }

    fn hop_number(&self, hop: u32) -> usize {
        let mut hops: Vec<u32> = Vec::new();
        for seen in &self.seen {
            if !hops.contains(&seen.hop) {
                hops.push(seen.hop);
            }
        }
        hops.iter().position(|of| *of == hop).map_or(0, |at| at + 1)
    }
}

/// What an SDP says of media, in a line.
fn summary(read: &Read) -> Box<str> {
    let sdp = match &read.sdp {
        Ok(sdp) => sdp,
        Err(reason) => return format!("not read: {reason}").into(),
    };
    let stream = |stream: &sdp::Stream| {
        let address = match stream.connection {
            Some(sdp::Connection::Address(ip)) => ip.to_string(),
            Some(sdp::Connection::Name) => "a name".into(),
            None => "no address".into(),
        };
        let codecs: Vec<_> = stream
            .formats
            .iter()
            .take(6)
            .map(|format| match &format.encoding {
                Some(encoding) => encoding.name.escape_default().to_string(),
                None => format.payload_type.to_string(),
            })
            .collect();
        let kind = format!("{:?}", stream.kind).to_lowercase();
        let hold = if stream.direction.is_hold() {
            " held"
        } else {
            ""
        };
        format!(
            "{kind} {address} port {} {}{hold}",
            stream.port,
            codecs.join("/")
        )
    };
    let streams: Vec<_> = sdp.streams.iter().take(4).map(stream).collect();
    streams.join("; ").into()
}

/// A call as the model has it.
#[derive(Clone, Debug, PartialEq)]
pub struct CallReport {
    /// The SIP Call-ID header, as it came.
    pub call_id: Arc<[u8]>,
    /// Those that go on, and those that ended lately.
    pub dialogs: Vec<DialogReport>,
}

/// What was seen of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenMessages {
    /// In the order in which they came.
    pub messages: Vec<SeenMessage>,
    /// What should have been seen.
    pub missing: Vec<String>,
}

/// One dialog of a call, as an operator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct DialogReport {
    /// The id of its session.
    pub id: SessionId,
    /// The tags of caller and callee.
    pub tags: [Arc<[u8]>; 2],
    /// `early`, `confirmed`, or `ended` with the reason.
    pub state: String,
    /// What the server was asked for last.
    pub flows: Arc<[Flow]>,
    /// Streams that could not be placed.
    pub not_placed: Vec<NotPlaced>,
}

impl Model {
    /// How a call stands.
    pub fn report(&self, call_id: &[u8]) -> Option<CallReport> {
        self.calls.get(call_id).map(Call::report)
    }

    /// What was seen of a call.
    pub fn seen(&self, call_id: &[u8]) -> Option<SeenMessages> {
        let journal = &self.calls.get(call_id)?.journal;
        Some(SeenMessages {
            messages: journal.messages(),
            missing: journal.missing(),
        })
    }

    /// Whether a call has streams that could not be placed.
    pub fn has_not_placed(&self, call_id: &[u8]) -> bool {
        let has = |of: &Dialog| !of.not_placed.is_empty();
        self.calls
            .get(call_id)
            .is_some_and(|call| call.dialogs.iter().any(has))
    }

    /// The sessions of a call's dialogs.
    pub fn sessions(&self, call_id: &[u8]) -> impl Iterator<Item = &SessionId> {
        let dialogs = self.calls.get(call_id).map(|call| &call.dialogs);
        dialogs.into_iter().flatten().map(|dialog| &dialog.id)
    }

    /// All Call-IDs, in no order.
    pub fn call_ids(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.calls.keys()
    }
}

impl Call {
    fn report(&self) -> CallReport {
        CallReport {
            call_id: Arc::clone(&self.id),
            dialogs: self.dialogs.iter().map(Dialog::report).collect(),
        }
    }
}

impl Dialog {
    fn report(&self) -> DialogReport {
        DialogReport {
            id: self.id.clone(),
            tags: self.tags.clone(),
            state: match self.state {
                State::Early => "early".into(),
                State::Confirmed => "confirmed".into(),
                State::Ended { why, .. } => format!("ended: {why}"),
            },
            flows: Arc::clone(&self.installed),
            not_placed: self.not_placed.clone(),
        }
    }
}
