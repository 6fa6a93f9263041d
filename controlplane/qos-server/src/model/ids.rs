//! Names and numbers, each of its own type. A value that exists is a valid one.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use voicelane_types::SessionKey;

use super::error::Error;

/// The most characters of a router's id.
pub const MAX_ROUTER_ID: usize = 64;

/// Checks the names of an agent and a session; `field` is where they came from ("spec.key").
pub fn session_key(field: &str, agent: &str, session: &str) -> Result<SessionKey, Error> {
    SessionKey::new(agent, session)
        .map_err(|wrong| Error::invalid(format!("{field}.{}", wrong.field), wrong.reason))
}

/// A router's name: 1 to 64 characters of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterId(Arc<str>);

impl RouterId {
    /// Checks the name; `field` is where it came from.
    pub fn parse(field: &str, value: &str) -> Result<Self, Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if value.is_empty() || value.len() > MAX_ROUTER_ID || !value.bytes().all(allowed) {
            return Err(Error::invalid(
                field,
                format!("{value:?} is no router id; give 1 to {MAX_ROUTER_ID} of [A-Za-z0-9._-]"),
            ));
        }
        Ok(Self(value.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A session's version, chosen by the agent: 1 and up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(u64);

impl Revision {
    /// The first.
    pub const FIRST: Self = Self(1);

    /// Checks that it is at least 1.
    pub fn parse(field: &str, value: u64) -> Result<Self, Error> {
        if value == 0 {
            return Err(Error::invalid(field, "is 0; revisions start at 1"));
        }
        Ok(Self(value))
    }

    /// As a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A stable hash of the entries that one router has of a session; see
/// [`fingerprint`](super::entries::fingerprint).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

/// One Attach stream. Unique in the life of the server process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttachmentId(pub u64);

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The wall clock.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// From `earlier` to `self`; zero if the clock was set back.
    pub fn since(self, earlier: Self) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// Whole seconds of that.
    pub fn seconds_since(self, earlier: Self) -> u64 {
        self.since(earlier).as_secs()
    }

    /// So long after.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// So long before.
    #[must_use]
    pub fn less(self, time: Duration) -> Self {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis))
    }
}

/// An epoch, which differs for each start of the process, or with a store for each store: ms since the Unix epoch
/// from bit 20 on, below them the process' number.
pub(crate) fn new_epoch(now: UnixMs) -> u64 {
    let now = u64::try_from(now.0).unwrap_or(0);
    now << 20 | u64::from(std::process::id() & 0xf_ffff)
}
