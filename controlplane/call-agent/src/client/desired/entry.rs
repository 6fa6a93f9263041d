//! One session as it is wanted, and as the server has it.

use std::{net::SocketAddr, sync::Arc};

use tonic::Code;
use voicelane_proto::v1;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    call::{FiveTuple, Lease, Micros, SessionId, Source},
    client::spec::Content,
};

pub(super) const SECOND: Micros = 1_000_000;

/// Whether the server has a session, as last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    No,
    Yes,
    /// Its answer was lost.
    Unknown,
}

/// What a session should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Want {
    Gone,
    Is(Content, Until),
    /// An earlier process left it, and no message has told of its call as yet.
    Adopted(Box<v1::SessionSpec>),
}

/// How long a session is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// As long as it is renewed.
    Renewed,
    /// Until then at most.
    Time(Micros),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) want: Want,
    pub(super) call_id: Arc<[u8]>,
    /// The dialog that has it, if that has another name.
    pub(super) dialog: Option<SessionId>,
    /// Grows when `want` changes.
    pub(super) generation: u32,
    /// The generation that the server has.
    pub(super) confirmed: Option<u32>,
    pub(super) there: There,
    /// The highest that was sent.
    pub(super) revision: u64,
    /// The tag of the change that is on its way.
    pub(super) in_flight: Option<u64>,
    /// It is in one of the queues.
    pub(super) queued: bool,
    /// When it is looked at again: to renew it, or to try again.
    pub(super) due: Option<Micros>,
    /// It is to be renewed although the server has it as it should be.
    pub(super) renew: bool,
    pub(super) failures: u32,
    /// When the message came that asked for it, `None` once the server has it.
    pub(super) asked_at: Option<Micros>,
    pub(super) refusal: Option<(Code, Box<str>)>,
    /// Since when no packet has come, if the server said so when it was last asked; or when it was adopted.
    pub(super) quiet_since: Option<Micros>,
}

/// A change of a session at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Add,
    Modify,
    Delete,
}

impl Entry {
    pub(super) fn new(call_id: Arc<[u8]>) -> Self {
        Self {
            want: Want::Gone,
            call_id,
            dialog: None,
            generation: 0,
            confirmed: None,
            there: There::No,
            revision: 0,
            in_flight: None,
            queued: false,
            due: None,
            renew: false,
            failures: 0,
            asked_at: None,
            refusal: None,
            quiet_since: None,
        }
    }

    pub(super) fn is_adopted(&self) -> bool {
        matches!(self.want, Want::Adopted(_))
    }

    /// It stays as long as its packets come, and the server has it as it should be.
    pub(super) fn stays_while_heard(&self) -> bool {
        match &self.want {
            Want::Adopted(_) | Want::Is(Content::Flows(_), Until::Renewed) => {
                self.there == There::Yes && self.confirmed == Some(self.generation)
            }
            Want::Is(..) | Want::Gone => false,
        }
    }

    /// A reservation that nobody has answered.
    pub(super) fn is_half_open(&self) -> bool {
        matches!(self.want, Want::Is(Content::Halves(_), _))
    }

    /// The change that brings the server nearer to what is wanted, if there is any.
    pub(super) fn next(&self) -> Option<Kind> {
        let is_current = self.confirmed == Some(self.generation);
        match (&self.want, self.there) {
            (Want::Gone, There::No) => None,
            (Want::Gone, There::Yes | There::Unknown) => Some(Kind::Delete),
            (Want::Is(..) | Want::Adopted(_), There::No) => Some(Kind::Add),
            (Want::Is(..) | Want::Adopted(_), There::Yes) if is_current && !self.renew => None,
            (Want::Is(..) | Want::Adopted(_), There::Yes | There::Unknown) => Some(Kind::Modify),
        }
    }

    /// How long the server is to keep the session, s.
    pub(super) fn lifetime_s(&self, now: Micros, configured_s: u32) -> u32 {
        match &self.want {
            Want::Is(_, Until::Time(until)) => {
                let left = until.saturating_sub(now).div_ceil(SECOND);
                let left = u32::try_from(left).unwrap_or(u32::MAX);
                // A reservation is not renewed.
                let most = if self.is_half_open() {
                    u32::MAX
                } else {
                    configured_s
                };
                left.clamp(1, most)
            }
            Want::Adopted(spec) if spec.lifetime_s > 0 => spec.lifetime_s,
            _ => configured_s,
        }
    }

    /// When the session is renewed: between 4 and 6 tenths of its lifetime, so that sessions that were
    /// added together are not renewed together. `None`: it ends before it has to be renewed.
    pub(super) fn renew_at(
        &self,
        id: &SessionId,
        now: Micros,
        configured_s: u32,
    ) -> Option<Micros> {
        let lifetime = Micros::from(self.lifetime_s(now, configured_s)) * SECOND;
        if let Want::Is(_, Until::Time(until)) = self.want
            && until <= now + lifetime
        {
            return None;
        }
        Some(now + lifetime * 2 / 5 + spread(id, now, lifetime / 5))
    }

    /// Whether a change would only renew what the server has.
    pub(super) fn only_renews(&self, kind: Kind) -> bool {
        let has_no_end = match &self.want {
            Want::Is(_, until) => *until == Until::Renewed,
            Want::Adopted(_) => true,
            Want::Gone => false,
        };
        let is_same = self.there == There::Yes && self.confirmed == Some(self.generation);
        kind == Kind::Modify && has_no_end && is_same
    }

    /// When to try again after a failure: later each time, to a limit that depends on what would have to
    /// change; with a spread, as many sessions fail together.
    pub(super) fn back_off(&self, id: &SessionId, code: Code, now: Micros) -> Micros {
        let (first, limit) = match code {
            // Another session has a five-tuple: mostly the call before this one, for some milliseconds.
            Code::FailedPrecondition => (20_000, 10 * SECOND),
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => (100_000, 5 * SECOND),
            // Another call must end.
            Code::ResourceExhausted => (SECOND, 10 * SECOND),
            // A router must come, or report other prefixes.
            Code::NotFound => (SECOND, 60 * SECOND),
            _ => (SECOND, 300 * SECOND),
        };
        let wait = (first << self.failures.min(16)).min(limit);
        now + wait * 3 / 4 + spread(id, now, wait / 2)
    }
}

/// When the server is asked again whether a session is heard.
pub(super) fn look_at(id: &SessionId, now: Micros) -> Micros {
    now + 10 * SECOND + spread(id, now, 5 * SECOND)
}

fn spread(id: &SessionId, now: Micros, most: Micros) -> Micros {
    xxh3_64_with_seed(id.as_str().as_bytes(), now) % (most + 1)
}

impl Until {
    pub(super) fn of(lease: Lease) -> Self {
        match lease {
            Lease::Until(at) => Self::Time(at),
            Lease::WhileHeard { .. } => Self::Renewed,
        }
    }
}

/// Of a flow at the server.
pub(super) fn five_tuple_of(flow: &v1::MediaFlow) -> Option<FiveTuple> {
    let socket = |end: Option<&v1::Endpoint>| {
        let end = end?;
        let port = u16::try_from(end.port).ok()?;
        Some(SocketAddr::new(end.address.parse().ok()?, port))
    };
    let source = match &flow.latch {
        Some(latch) => Source::Learned {
            hint: latch.address.parse().ok(),
        },
        None => Source::Fixed(socket(flow.source.as_ref())?),
    };
    Some((source, socket(flow.destination.as_ref())?))
}
