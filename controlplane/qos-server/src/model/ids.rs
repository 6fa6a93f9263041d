//! Names and numbers, each of its own type. A value that exists is a valid one.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::error::Error;

/// The most characters of an agent's or a session's name.
pub const MAX_NAME: usize = 128;
/// The most characters of a router's id.
pub const MAX_ROUTER_ID: usize = 64;

/// Who calls it what: 1 to 128 printable ASCII characters each. Ordered by agent, then session.
///
/// One text, both names with a line feed between them, which sorts before all that a name may hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(Arc<str>);

const BETWEEN: char = '\n';

impl SessionKey {
    /// Checks both names; `field` is where they came from ("spec.key").
    pub fn parse(field: &str, agent: &str, session: &str) -> Result<Self, Error> {
        name(field, "agent_id", agent)?;
        name(field, "session_id", session)?;
        Ok(Self::of(agent, session))
    }

    /// Sorts before every session of an agent and after those of the agents before it. Not the
    /// key of any session. Absent if there can be no such agent.
    pub fn before_agent(agent: &str) -> Option<Self> {
        name("", "agent_id", agent).ok()?;
        Some(Self::of(agent, ""))
    }

    fn of(agent: &str, session: &str) -> Self {
        let mut text = String::with_capacity(agent.len() + 1 + session.len());
        text.push_str(agent);
        text.push(BETWEEN);
        text.push_str(session);
        Self(text.into())
    }

    fn names(&self) -> (&str, &str) {
        self.0.split_once(BETWEEN).unwrap_or((&self.0, ""))
    }

    /// The agent's name.
    pub fn agent(&self) -> &str {
        self.names().0
    }

    /// The session's name, chosen by the agent.
    pub fn session(&self) -> &str {
        self.names().1
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (agent, session) = self.names();
        write!(f, "{session:?} of agent {agent:?}")
    }
}

/// Checks the name that is in the field `name` of `field`.
fn name(field: &str, name: &str, value: &str) -> Result<(), Error> {
    let invalid = |reason| Err(Error::invalid(format!("{field}.{name}"), reason));
    if value.is_empty() || value.len() > MAX_NAME {
        return invalid(format!(
            "has {} characters; give 1 to {MAX_NAME}",
            value.len()
        ));
    }
    if let Some(bad) = value.bytes().find(|byte| !(0x20..=0x7e).contains(byte)) {
        return invalid(format!(
            "holds byte {bad:#04x}; only printable ASCII is allowed"
        ));
    }
    Ok(())
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

    /// So long before.
    #[must_use]
    pub fn less(self, time: Duration) -> Self {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis))
    }
}
