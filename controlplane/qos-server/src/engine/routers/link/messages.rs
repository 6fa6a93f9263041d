//! What goes over a router's stream, and how it ends.

use std::time::Duration;

use crate::{
    cluster::Leader,
    engine::{EntryCounters, routers::turns::Owner},
    model::{
        entries::FlowEntry,
        error::Refusal,
        ids::{Fingerprint, Revision, RouterId, SessionKey},
        report::{MAX_ADDRESSES, MAX_INTERFACES, MAX_PREFIXES},
    },
};

/// What a router is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Put these entries in place of whatever the key has.
    Install {
        /// Whose.
        key: SessionKey,
        /// Which version.
        revision: Revision,
        /// Of the entries.
        fingerprint: Fingerprint,
        /// What it takes the place of the former ones with.
        entries: Vec<FlowEntry>,
    },
    /// Forget the session.
    Remove(SessionKey),
    /// Tell the session's counters.
    Read(SessionKey),
}

impl Command {
    pub(super) fn owner(&self) -> Owner {
        match self {
            Self::Install { key, .. } | Self::Remove(key) => Some(key.agent().into()),
            Self::Read(_) => None,
        }
    }
}

/// What goes to a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToRouter {
    /// First of all.
    Welcome {
        /// Differs for each start of the server.
        server_epoch: u64,
        /// Who this server is among several.
        leader: Leader,
    },
    /// Do this, and answer with the number.
    Command {
        /// Unique within the stream.
        id: u64,
        /// What to do.
        command: Command,
    },
    /// The differences have been applied.
    Synchronised(Summary),
}

/// What it took to bring a router to the server's state, in sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lacked.
    pub installed: u64,
    /// Had otherwise.
    pub replaced: u64,
    /// Had and should not.
    pub removed: u64,
    /// Were right.
    pub unchanged: u64,
}

/// A router's answer to a command; counters come with the answer to a read only.
pub type Reply = Result<Vec<EntryCounters>, Refusal>;

/// Why the server ends a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Ended {
    #[error("router {router} attached again from {peer}; this stream is replaced")]
    Replaced { router: RouterId, peer: String },
    #[error("the router acknowledged no command for {} ms while others waited", .0.as_millis())]
    NoProgress(Duration),
    #[error("the router did not acknowledge in time while it was synchronised")]
    NotSynchronised,
    #[error(
        "the router has too much with its changes; it may have at most {MAX_INTERFACES} interfaces, \
         {MAX_ADDRESSES} addresses and {MAX_PREFIXES} prefixes"
    )]
    TooLarge,
}
