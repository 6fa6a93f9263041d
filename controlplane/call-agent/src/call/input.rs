//! What the model is told, brought into one form.

use std::net::{IpAddr, SocketAddr};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Micros, exchange::Path, flows::is_private};
use crate::{ng, sip};

/// How a SIP message came to the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    /// When whoever mirrored it saw it, by its own clock, us. Orders the messages of one call; absent:
    /// by when they came.
    pub captured_us: Option<u64>,
    /// Where the message is said to come from and to go to. Identifies nothing (rule 2).
    pub source: Option<SocketAddr>,
    /// The address that the message was sent to, as far as the sender says; see `source`.
    pub destination: Option<SocketAddr>,
}

impl Feed {
    /// The time that orders messages.
    pub(super) fn at(&self, now: Micros) -> u64 {
        self.captured_us.unwrap_or(now)
    }

    /// The public address that the message came from. Senders that do not know it write the
    /// destination's, or none.
    fn public_source(&self) -> Option<IpAddr> {
        let source = self.source?.ip();
        let same = self.destination.map(|to| to.ip()) == Some(source);
        (!same && !source.is_unspecified() && !is_private(source)).then_some(source)
    }

    /// The public address of who wrote the SDP, as far as this message can tell (rule 16).
    pub(super) fn signalled_from(&self, message: &sip::Message<'_>) -> Option<IpAddr> {
        let is_request = matches!(message.start, sip::Start::Request { .. });
        match (is_request, message.vias.len()) {
            (true, 1) => message
                .received()
                .filter(|&ip| !is_private(ip))
                .or(self.public_source()),
            (true, _) => message.received().filter(|&ip| !is_private(ip)),
            (false, _) => self.public_source(),
        }
    }
}

/// The branches of a message's Vias. A branch that is no RFC 3261 one is told by who added it, too.
pub(super) fn path(message: &sip::Message<'_>, seed: u64) -> Path {
    let branch = |via: &sip::Via<'_>| {
        if via.branch.len() > 7 && via.branch.starts_with(b"z9hG4bK") {
            xxh3_64_with_seed(via.branch, seed)
        } else {
            xxh3_64_with_seed(via.branch, xxh3_64_with_seed(via.sent_by, seed))
        }
    };
    message.vias.iter().map(branch).collect()
}

/// An SDP that ng carried, and what a relay made of it.
#[derive(Clone, Copy, Debug)]
pub struct NgMedia<'a> {
    /// An `offer` or `answer`, as it came from the SIP server.
    pub command: &'a ng::Media<'a>,
    /// The SDP that a real rtpengine answered with, if this agent stands before one: what the other
    /// side gets.
    pub relayed: Option<&'a [u8]>,
}

/// An SDP of an ng command on its hop.
pub(super) struct NgHop<'a> {
    pub(super) path: Path,
    pub(super) sdp: &'a [u8],
    /// Public, and of who wrote the SDP: a relay's own is not behind anybody's NAT.
    pub(super) signalled_from: Option<IpAddr>,
}

impl<'a> NgMedia<'a> {
    /// The hop of what the side itself wrote, and the hop of what the relay made of it.
    pub(super) fn hops(&self, seed: u64) -> (NgHop<'a>, Option<NgHop<'a>>) {
        let branch = self
            .command
            .dialog
            .via_branch
            .as_deref()
            .unwrap_or_default();
        let branch = xxh3_64_with_seed(branch, seed);
        let own = NgHop {
            path: [branch].into(),
            sdp: &self.command.sdp,
            signalled_from: self.command.received_from.filter(|&ip| !is_private(ip)),
        };
        let relayed = self.relayed.map(|sdp| NgHop {
            path: [!branch, branch].into(),
            sdp,
            signalled_from: None,
        });
        (own, relayed)
    }
}
