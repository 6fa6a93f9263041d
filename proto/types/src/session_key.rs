//! The name of a session.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// An agent and its name for a session: 1 to 128 printable ASCII characters each. Ordered by agent,
/// then session.
///
/// One text, both names with a line feed between them, which sorts before every character of a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(Arc<str>);

/// A name that no agent or session can have.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field} {reason}")]
pub struct InvalidName {
    /// The field of `voicelane.v1.SessionKey`: `agent_id` or `session_id`.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

const BETWEEN: char = '\n';

impl SessionKey {
    /// The most characters of an agent's or a session's name.
    pub const MAX_NAME: usize = 128;

    /// Fails when a name is empty, too long or has a character that is not allowed.
    pub fn new(agent: &str, session: &str) -> Result<Self, InvalidName> {
        name("agent_id", agent)?;
        name("session_id", session)?;
        Ok(Self::of(agent, session))
    }

    /// A key that sorts before every session of an agent and after those of the agents before it; it
    /// is the key of no session. `None` if no agent can have this name.
    #[must_use]
    pub fn before_agent(agent: &str) -> Option<Self> {
        name("agent_id", agent).ok()?;
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

    /// Name of the call agent that owns the session.
    #[must_use]
    pub fn agent(&self) -> &str {
        self.names().0
    }

    /// The session's name, chosen by the agent.
    #[must_use]
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

fn name(field: &'static str, value: &str) -> Result<(), InvalidName> {
    let invalid = |reason| Err(InvalidName { field, reason });
    if value.is_empty() || value.len() > SessionKey::MAX_NAME {
        return invalid(format!(
            "has {} characters; give 1 to {}",
            value.len(),
            SessionKey::MAX_NAME
        ));
    }
    if let Some(bad) = value.bytes().find(|byte| !(0x20..=0x7e).contains(byte)) {
        return invalid(format!(
            "holds byte {bad:#04x}; only printable ASCII is allowed"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_kept_in_order() {
        let key = |agent, session| SessionKey::new(agent, session).unwrap();
        assert_eq!((key("a", "b").agent(), key("a", "b").session()), ("a", "b"));
        assert!(key("a", "z") < key("a ", "a") && key("a ", "z") < key("b", "a"));
        assert!(SessionKey::before_agent("a").unwrap() < key("a", " "));
        assert_eq!(key("a", "b").to_string(), r#""b" of agent "a""#);
        assert_eq!(key(&"x".repeat(128), "b").agent().len(), 128);
        let long = "x".repeat(129);
        for (agent, session, field) in [
            ("", "b", "agent_id"),
            ("a", "", "session_id"),
            ("a", "line\nfeed", "session_id"),
            (long.as_str(), "b", "agent_id"),
        ] {
            assert_eq!(SessionKey::new(agent, session).unwrap_err().field, field);
        }
    }
}
