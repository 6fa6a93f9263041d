//! Everything that can be wrong with what an agent, an operator or a router asks.

use std::{net::IpAddr, sync::Arc};

use super::{
    entries::FiveTuple,
    ids::{RouterId, SessionKey},
    links::LinkId,
};

/// Why something was not done, in words that say what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("{field}: {reason}")]
    Invalid {
        /// The path of the field in the request.
        field: String,
        reason: String,
    },
    #[error(
        "session {key} exists with revision {revision} and other content or revision; \
         use ModifySession with a revision above {revision}, or delete it first"
    )]
    Exists { key: SessionKey, revision: u64 },
    #[error(
        "session {0} does not exist, or has ended; `voicelane call list` shows those that there are"
    )]
    NoSession(SessionKey),
    #[error(
        "router {0} has never attached to this server, or was forgotten; ListRouters shows those \
         that are known"
    )]
    NoRouter(RouterId),
    #[error("router {0} is attached; stop it first, for it would only come back")]
    RouterAttached(RouterId),
    #[error(
        "no router has a link {0}, and no session takes anything of it; ListLinks shows those that there \
         are"
    )]
    NoLink(Arc<LinkId>),
    #[error("router {router} reports no interface {interface:?}; GetRouter shows those it has")]
    NoInterface { router: RouterId, interface: String },
    #[error(
        "session {key} is at revision {current}; revision {offered} is not later, so nothing was \
         changed; read it with GetSession and use a revision above {current}"
    )]
    RevisionNotLater {
        key: SessionKey,
        current: u64,
        offered: u64,
    },
    #[error(
        "{field}: no attached router reaches {address} through an edge interface; \
         check `voicelane router list`, the interface's role and its prefixes"
    )]
    UnknownAddress { field: String, address: IpAddr },
    #[error(
        "{field}: no router has reported a prefix for {address} yet; the server was started not \
         long ago, and routers are still coming back to it; try again"
    )]
    NotReachedYet { field: String, address: IpAddr },
    #[error(
        "{field}: {address} is behind router {router}, which was lost {seconds} s ago; \
         try again when it is attached, or if it is gone for good: voicelane router forget {router}"
    )]
    RouterAway {
        field: String,
        address: IpAddr,
        router: RouterId,
        seconds: u64,
    },
    #[error(
        "{field}: {address} matches {prefix}, which routers {} all claim; \
         give the prefix to one router only", names(.routers)
    )]
    PrefixConflict {
        field: String,
        address: IpAddr,
        prefix: ipnet::IpNet,
        routers: Vec<RouterId>,
    },
    #[error("{field}: {tuple} belongs to session {holder} already; delete that one first")]
    TupleTaken {
        field: String,
        tuple: FiveTuple,
        holder: SessionKey,
    },
    #[error("the server holds {limit} sessions, its limit; raise max_sessions or delete some")]
    ServerFull { limit: usize },
    #[error(
        "router {router} has room for {capacity} entries, holds {held} and would need {wanted} \
         more; delete sessions or enlarge its table"
    )]
    RouterFull {
        router: RouterId,
        capacity: u64,
        held: u64,
        wanted: u64,
    },
    #[error(
        "the link {link} has no room: its budget for telephony is {budget} bit/s, {load} of it are \
         taken{}, and this session wants {wanted} more; end other calls, or raise the port's \
         ef_budget (see `voicelane link list`)", reserve(*.kept)
    )]
    LinkFull {
        link: Arc<LinkId>,
        budget: u64,
        /// What of the budget is kept for more important calls.
        kept: u64,
        load: u128,
        wanted: u64,
    },
    #[error("router {router} refused: {refusal}; nothing was left installed")]
    Refused { router: RouterId, refusal: Refusal },
    #[error(
        "router {0} was lost before the change was complete; the change was undone; try again \
         when the router is attached"
    )]
    RouterLost(RouterId),
    #[error(
        "router {router} did not acknowledge within {millis} ms; the change was undone, there as soon \
         as it answers or comes back; look at its load and its log"
    )]
    NotAcknowledged { router: RouterId, millis: u64 },
    #[error("{limit} watchers are connected, the limit; end one or raise max_watchers")]
    TooManyWatchers { limit: usize },
    #[error(
        "{limit} routers are attached or have sessions, the limit; raise max_routers, or end those \
         that are gone for good (voicelane router forget)"
    )]
    TooManyRouters { limit: usize },
    #[error("{who} {what}")]
    Denied { who: String, what: String },
    #[error(
        "agent {agent:?} has {limit} sessions, its limit; delete some, or raise \
         max_sessions_per_agent"
    )]
    AgentFull { agent: String, limit: usize },
    #[error(
        "agent {agent:?} has {limit} streams, its limit; close some, or raise streams_per_agent"
    )]
    TooManyStreams { agent: String, limit: usize },
    #[error("the server is shutting down; connect again")]
    ShuttingDown,
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
#[expect(missing_docs, reason = "the messages say it")]
pub enum RefusalKind {
    #[error("its session table is full")]
    TableFull,
    #[error("another session on it has one of the five-tuples")]
    Conflict,
    #[error("it cannot take these entries")]
    Invalid,
    #[error("it has no such session")]
    NotFound,
    #[error("it has an internal fault")]
    Internal,
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
