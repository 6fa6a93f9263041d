//! What the model wants of the QoS server, in plain types.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use xxhash_rust::xxh3::Xxh3;

use super::Micros;
use crate::sdp::{Format, Kind};

/// The most flows that the server takes in one session.
pub const MAX_FLOWS: usize = 32;

/// A change of what the server should have, in the order in which it should be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A session that was not there.
    Add(Session),
    /// Other flows, or another lease. Renews the lease.
    Modify(Session),
    /// Nothing but the lease begins anew.
    Renew {
        /// As it was given when the session was added.
        id: SessionId,
        /// How long it is good for now.
        lease: Lease,
    },
    /// The session is over.
    Remove {
        /// As it was given when the session was added.
        id: SessionId,
        /// The event that ended it.
        why: Why,
    },
    /// A dialog is over that had no session of this model. A process before this one may have left one.
    Ended {
        /// As it would have been given.
        id: SessionId,
        /// The SIP Call-ID header, as it came.
        call_id: Arc<[u8]>,
        /// The tags of caller and callee.
        tags: [Arc<[u8]>; 2],
    },
    /// A dialog has streams that no flow can be made of. Said once for each set of reasons.
    NotPlaced {
        /// The session that has them, or would.
        id: SessionId,
        /// The SIP Call-ID header, as it came.
        call_id: Arc<[u8]>,
        /// Why each of its streams has no flow.
        streams: Vec<NotPlaced>,
    },
}

/// One dialog's flows: what becomes `AddSession`.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The same for the same dialog, in another process too.
    pub id: SessionId,
    /// The Call-ID, the session's `correlation_id` at the server.
    pub call_id: Arc<[u8]>,
    /// The tags of caller and callee.
    pub tags: [Arc<[u8]>; 2],
    /// Never empty. Sorted by five-tuple.
    pub flows: Arc<[Flow]>,
    /// How long it is good without a word.
    pub lease: Lease,
    /// What made it, or changed it last.
    pub why: Why,
}

/// One direction of one medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where packets come from.
    pub source: Source,
    /// The address and port that receives the packets.
    pub destination: SocketAddr,
    /// The most that it may send, bit/s of IP packets.
    pub rate_bps: u64,
    /// Its packet time, us; 0: not told.
    pub packet_us: u32,
    /// The packet time that the receiver asks for, ms; 0: not told.
    pub ptime_ms: u32,
    /// What its payload types mean.
    pub codecs: Arc<[Format]>,
    /// Where its RTCP goes.
    pub rtcp: Rtcp,
    /// The first medium on it.
    pub kind: Kind,
    /// At least one side does not send at present. It keeps its capacity.
    pub held: bool,
}

/// One side of a stream that nobody has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// Where the side receives, and sends from.
    pub end: SocketAddr,
    /// What it may be sent, and may send, bit/s of IP packets.
    pub rate_bps: u64,
}

/// Where a flow's packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Packets come from this address and port.
    Fixed(SocketAddr),
    /// From behind a NAT: the router learns it once, from the first packets to the destination.
    Learned {
        /// The address that signalling came from, which media mostly come from, too.
        hint: Option<IpAddr>,
    },
}

/// Where a flow's RTCP goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rtcp {
    /// One port above RTP's, on both sides.
    NextPort,
    /// RTCP shares RTP's ports (`a=rtcp-mux`, RFC 5761).
    Mux,
    /// On ports of its own (RFC 3605).
    Explicit(Box<RtcpEnds>),
    /// There is none: it is no RTP.
    None,
}

/// Where RTCP comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RtcpEnds {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// A stream that no flow can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPlaced {
    /// Which `m=` line, from 0.
    pub stream: u8,
    /// Why the stream has no flows in a session.
    pub reason: Reason,
}

/// Why no flow can be made of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Reason {
    /// The SDP has a private address and signalling a public one: the port cannot be known.
    #[error("not placed: behind NAT (signalling comes from {signalled_from})")]
    BehindNat { signalled_from: IpAddr },
    #[error("not placed: a name in place of an address")]
    Name,
    #[error("not placed: no address")]
    NoAddress,
    #[error("not placed: multicast")]
    Multicast,
    #[error("not placed: IPv4 on one side, IPv6 on the other")]
    Families,
    /// Audio comes first.
    #[error("not placed: more than {MAX_FLOWS} flows in one session")]
    TooMany,
}

/// How long a session is good without a word from the agent (rule 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Session-Expires and some: nobody refreshed it.
    Until(Micros),
    /// Until its wire is silent; but it may be while held.
    WhileHeard {
        /// All its flows are held.
        held: bool,
    },
}

/// What made, changed or ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Why {
    /// An answer before the call was answered.
    #[error("early media")]
    EarlyMedia,
    #[error("answered")]
    Answered,
    /// A later offer was answered.
    #[error("renegotiated")]
    Renegotiated,
    /// A BYE was answered, or found no call (2xx, 481, 408).
    #[error("BYE")]
    Bye,
    #[error("BYE that nobody answered")]
    ByeUnanswered,
    /// The INVITE was refused.
    #[error("refused")]
    Refused,
    #[error("another branch was answered")]
    OtherBranch,
    #[error("all streams were removed")]
    NoStreams,
    #[error("nobody refreshed it within Session-Expires")]
    Expired,
    /// An early dialog that nobody answered or refused for long.
    #[error("nobody answered")]
    NeverAnswered,
    #[error("ng delete")]
    Deleted,
    /// No packets; the server said so.
    #[error("silence")]
    Silent,
    #[error("a newer call has its five-tuples")]
    Superseded,
    #[error("room was needed for other calls")]
    Evicted,
}

/// A session's name: a readable prefix and a hash, as Call-IDs can be longer than names (rule 10).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// How many characters of the Call-ID are kept.
    const PREFIX: usize = 40;

    /// Of what an offer reserves before anybody has answered it.
    pub fn of_offer(call_id: &[u8], from_tag: &[u8]) -> Self {
        Self::new(call_id, [from_tag, b""])
    }

    /// As a process before this one has given it.
    pub fn known(name: &str) -> Self {
        Self(name.into())
    }

    /// Of a dialog; the order of its tags does not matter.
    pub(crate) fn new(call_id: &[u8], tags: [&[u8]; 2]) -> Self {
        let mut tags = tags;
        tags.sort_unstable();
        let mut hash = Xxh3::new();
        for part in [call_id, tags[0], tags[1]] {
            hash.update(&part.len().to_be_bytes());
            hash.update(part);
        }
        let readable = call_id.iter().take(Self::PREFIX).map(|&byte| {
            if byte.is_ascii_alphanumeric() || b"-._@".contains(&byte) {
                char::from(byte)
            } else {
                '_'
            }
        });
        let name: String = readable.chain("~".chars()).collect();
        Self(format!("{name}{:032x}", hash.digest128()).into())
    }

    /// At most 73 printable ASCII characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a flow is found by.
pub type FiveTuple = (Source, SocketAddr);

impl Flow {
    /// What it is found by.
    pub fn five_tuple(&self) -> FiveTuple {
        (self.source, self.destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_10_ids_are_short_and_the_same_everywhere() {
        let call_id = "é\"".repeat(200);
        let one = SessionId::new(call_id.as_bytes(), [b"a", b"b"]);
        assert_eq!(one, SessionId::new(call_id.as_bytes(), [b"b", b"a"]));
        assert_ne!(one, SessionId::new(call_id.as_bytes(), [b"ab", b""]));
        assert!(
            one.as_str().len() <= 128 && one.as_str().bytes().all(|byte| byte.is_ascii_graphic())
        );
        assert!(
            SessionId::new(b"3848276298220188511@atlanta.example.com", [b"a", b"b"])
                .as_str()
                .starts_with("3848276298220188511@atlanta")
        );
    }
}
