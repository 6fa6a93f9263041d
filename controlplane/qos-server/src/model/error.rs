//! Everything that can be wrong with what an agent, an operator or a router asks.

use std::{net::IpAddr, sync::Arc};

use super::{
    entries::FiveTuple,
    ids::{RouterId, SessionKey},
    links::LinkId,
};

/// Why something was not done, in words that say what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field does not hold what it must.
    #[error("{field}: {reason}")]
    Invalid {
        /// The path of the field in the request.
        field: String,
        /// What is wrong, and what is right.
        reason: String,
    },
    /// The key is there with another revision or content.
    #[error(
        "session {key} exists with revision {revision} and other content or revision; \
         use ModifySession with a revision above {revision}, or delete it first"
    )]
    Exists {
        /// The key.
        key: SessionKey,
        /// The revision that is there.
        revision: u64,
    },
    /// No such session.
    #[error("session {0} does not exist; ListSessions shows those that do")]
    NoSession(SessionKey),
    /// No such router.
    #[error(
        "router {0} has never attached to this server, or was forgotten; ListRouters shows those \
         that are known"
    )]
    NoRouter(RouterId),
    /// It cannot be forgotten.
    #[error("router {0} is attached; stop it first, for it would only come back")]
    RouterAttached(RouterId),
    /// No such link.
    #[error(
        "no router has a link {0}, and no session takes anything of it; ListLinks shows those that there \
         are"
    )]
    NoLink(Arc<LinkId>),
    /// No such interface.
    #[error("router {router} reports no interface {interface:?}; GetRouter shows those it has")]
    NoInterface {
        /// The router.
        router: RouterId,
        /// The name asked for.
        interface: String,
    },
    /// The revision is not later than the one that is there.
    #[error(
        "session {key} is at revision {current}; revision {offered} is not later, so nothing was \
         changed; read it with GetSession and use a revision above {current}"
    )]
    RevisionNotLater {
        /// The key.
        key: SessionKey,
        /// What is there.
        current: u64,
        /// What came.
        offered: u64,
    },
    /// No router reaches an address.
    #[error(
        "{field}: no attached router reaches {address} through an edge interface; \
         check `voicelane router list`, the interface's role and its prefixes"
    )]
    UnknownAddress {
        /// The path of the field in the request.
        field: String,
        /// The address.
        address: IpAddr,
    },
    /// No router reaches an address, but not all need be back since the server's start.
    #[error(
        "{field}: no router has reported a prefix for {address} yet; the server was started not \
         long ago, and routers are still coming back to it; try again"
    )]
    NotReachedYet {
        /// The path of the field in the request.
        field: String,
        /// The address.
        address: IpAddr,
    },
    /// The router that reaches an address is away.
    #[error(
        "{field}: {address} is behind router {router}, which was lost {seconds} s ago; \
         try again when it is attached, or if it is gone for good: voicelane router forget {router}"
    )]
    RouterAway {
        /// The path of the field in the request.
        field: String,
        /// The address.
        address: IpAddr,
        /// The router.
        router: RouterId,
        /// Since when.
        seconds: u64,
    },
    /// Several attached routers claim the best prefix.
    #[error(
        "{field}: {address} matches {prefix}, which routers {} all claim; \
         give the prefix to one router only", names(.routers)
    )]
    PrefixConflict {
        /// The path of the field in the request.
        field: String,
        /// The address.
        address: IpAddr,
        /// The prefix claimed more than once.
        prefix: ipnet::IpNet,
        /// Who claims it.
        routers: Vec<RouterId>,
    },
    /// Another session has one of the five-tuples.
    #[error("{field}: {tuple} belongs to session {holder} already; delete that one first")]
    TupleTaken {
        /// The path of the field in the request.
        field: String,
        /// The five-tuple.
        tuple: FiveTuple,
        /// Who has it.
        holder: SessionKey,
    },
    /// The server holds as many sessions as it may.
    #[error("the server holds {limit} sessions, its limit; raise max_sessions or delete some")]
    ServerFull {
        /// How many there may be.
        limit: usize,
    },
    /// A router's table cannot take the session's entries.
    #[error(
        "router {router} has room for {capacity} entries, holds {held} and would need {wanted} \
         more; delete sessions or enlarge its table"
    )]
    RouterFull {
        /// The router.
        router: RouterId,
        /// Its table's size.
        capacity: u64,
        /// Entries that it is to hold already.
        held: u64,
        /// Entries of this session.
        wanted: u64,
    },
    /// A link cannot take the session.
    #[error(
        "the link {link} has no room: its budget for telephony is {budget} bit/s, {load} of it are \
         taken{}, and this session wants {wanted} more; end other calls, or raise the port's \
         ef_budget (see `voicelane link list`)", reserve(*.kept)
    )]
    LinkFull {
        /// The link that has no room.
        link: Arc<LinkId>,
        /// How much telephony it may have, bit/s on the wire.
        budget: u64,
        /// What of that is kept for more important calls.
        kept: u64,
        /// What is taken.
        load: u128,
        /// What the session would take beside what it has.
        wanted: u64,
    },
    /// A router answered no.
    #[error("router {router} refused: {refusal}; nothing was left installed")]
    Refused {
        /// The router.
        router: RouterId,
        /// Its answer.
        refusal: Refusal,
    },
    /// A router's stream ended in the middle.
    #[error(
        "router {0} was lost before the change was complete; the change was undone; try again \
         when the router is attached"
    )]
    RouterLost(RouterId),
    /// A router did not acknowledge in time.
    #[error(
        "router {router} did not acknowledge within {millis} ms; the change was undone, there as soon \
         as it answers or comes back; look at its load and its log"
    )]
    NotAcknowledged {
        /// The router.
        router: RouterId,
        /// How long it had.
        millis: u64,
    },
    /// As many watchers as there may be.
    #[error("{limit} watchers are connected, the limit; end one or raise max_watchers")]
    TooManyWatchers {
        /// How many there may be.
        limit: usize,
    },
    /// As many routers as there may be.
    #[error(
        "{limit} routers are attached or have sessions, the limit; raise max_routers, or end those \
         that are gone for good (voicelane router forget)"
    )]
    TooManyRouters {
        /// How many there may be.
        limit: usize,
    },
    /// Who asks may not.
    #[error("{who} {what}")]
    Denied {
        /// Who.
        who: String,
        /// What it may not.
        what: String,
    },
    /// As many sessions of an agent as there may be.
    #[error(
        "agent {agent:?} has {limit} sessions, its limit; delete some, or raise \
         max_sessions_per_agent"
    )]
    AgentFull {
        /// The agent's id.
        agent: String,
        /// How many there may be.
        limit: usize,
    },
    /// As many streams of an agent as there may be.
    #[error(
        "agent {agent:?} has {limit} streams, its limit; close some, or raise streams_per_agent"
    )]
    TooManyStreams {
        /// The agent's id.
        agent: String,
        /// How many there may be.
        limit: usize,
    },
    /// The server is going down.
    #[error("the server is shutting down; connect again")]
    ShuttingDown,
    /// A fault of ours.
    #[error("internal fault: {0}; please report it with the server's log")]
    Internal(String),
}

impl Error {
    /// A field that does not hold what it must.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The same of a field that is in another one. Names are put together here, not on the way down,
    /// since mostly nothing is wrong.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        match self {
            Self::Invalid { field, reason } => Self::Invalid {
                field: format!("{outer}.{field}"),
                reason,
            },
            other => other,
        }
    }

    /// The same of an address that this field names.
    #[must_use]
    pub fn of_field(mut self, name: impl FnOnce() -> String) -> Self {
        if let Self::Invalid { field, .. }
        | Self::UnknownAddress { field, .. }
        | Self::NotReachedYet { field, .. }
        | Self::RouterAway { field, .. }
        | Self::PrefixConflict { field, .. } = &mut self
        {
            *field = name();
        }
        self
    }
}

/// A router's no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}{detail}", if .detail.is_empty() { "" } else { ": " })]
pub struct Refusal {
    /// The kind of no.
    pub kind: RefusalKind,
    /// The router's own words.
    pub detail: String,
    /// Of a conflict: the session that has the five-tuple there, if the router says which.
    pub owner: Option<SessionKey>,
}

/// The kinds of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusalKind {
    /// No room.
    #[error("its session table is full")]
    TableFull,
    /// Another session has one of the five-tuples.
    #[error("another session on it has one of the five-tuples")]
    Conflict,
    /// The entries make no sense to it.
    #[error("it cannot take these entries")]
    Invalid,
    /// It has no such session.
    #[error("it has no such session")]
    NotFound,
    /// A fault of its own.
    #[error("it has an internal fault")]
    Internal,
    /// Its answer to a read cannot be true.
    #[error("its answer cannot be true, so its software is at fault")]
    Implausible,
}

fn reserve(bps: u64) -> String {
    match bps {
        0 => String::new(),
        bps => format!(", {bps} are kept for priority 1 and 2"),
    }
}

fn names(routers: &[RouterId]) -> String {
    routers
        .iter()
        .map(|router| format!("{:?}", router.as_str()))
        .collect::<Vec<_>>()
        .join(", ")
}
