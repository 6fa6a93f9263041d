//! Names: `spiffe://DOMAIN/voicelane/ROLE/ID`.

use std::{fmt, str::FromStr, sync::Arc};

/// What a holder of a certificate may do at a QoS server that asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Attaches, in its own name.
    Router,
    /// Adds, changes and deletes the sessions of its own `agent_id`.
    Agent,
    /// Reads all, and deletes any session.
    Operator,
    /// Serves; its certificate is for both ends.
    Server,
}

impl Role {
    /// In the order in which people are told of them.
    pub const ALL: [Self; 4] = [Self::Router, Self::Agent, Self::Operator, Self::Server];

    /// As names have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| NameError::Role(text.into()))
    }
}

/// A name (SPIFFE-ID, sections 2.1 to 2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    domain: Arc<str>,
    role: Role,
    id: Arc<str>,
}

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NameError {
    #[error("{0:?} is not spiffe://DOMAIN/voicelane/ROLE/ID")]
    Shape(String),
    #[error("the domain {0:?} is not 1 to 255 of a-z, 0-9, \".\", \"-\" and \"_\"")]
    Domain(String),
    #[error("the role {0:?} is none of router, agent, operator and server")]
    Role(String),
    #[error(
        "the id {0:?} is not 1 to 128 of A-Z, a-z, 0-9, \".\", \"-\" and \"_\", or is \".\" or \"..\""
    )]
    Id(String),
}

impl Name {
    /// Checks the parts.
    ///
    /// # Errors
    ///
    /// If a part has other characters than SPIFFE IDs may have, or too many.
    pub fn new(domain: &str, role: Role, id: &str) -> Result<Self, NameError> {
        let in_domain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
        if !(1..=255).contains(&domain.len()) || !domain.bytes().all(in_domain) {
            return Err(NameError::Domain(domain.chars().take(300).collect()));
        }
        let in_id = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
        let only_dots = matches!(id, "." | "..");
        if !(1..=128).contains(&id.len()) || !id.bytes().all(in_id) || only_dots {
            return Err(NameError::Id(id.chars().take(300).collect()));
        }
        Ok(Self {
            domain: domain.into(),
            role,
            id: id.into(),
        })
    }

    /// The trust domain: of all that one authority names.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// What it may do.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its id: a router's, an agent's.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, role, id } = self;
        write!(f, "spiffe://{domain}/voicelane/{role}/{id}")
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let shape = || NameError::Shape(text.chars().take(300).collect());
        let path = text.strip_prefix("spiffe://").ok_or_else(shape)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [domain, "voicelane", role, id] = parts[..] else {
            return Err(shape());
        };
        Self::new(domain, role.parse()?, id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe://a/voicelane/router",
            "spiffe://a/voicelane/router/",
            "spiffe://a/voicelane/router/r1/",
            "spiffe://a/voicelane/router/r1?x",
            "spiffe://a/voicelane/router/r1#x",
            "spiffe://a/voicelane/router/..",
            "spiffe://a/voicelane/Router/r1",
            "spiffe://a/voicelane/root/r1",
            "spiffe://a/other/router/r1",
            "spiffe://A/voicelane/router/r1",
            "spiffe://a:1/voicelane/router/r1",
            "spiffe:///voicelane/router/r1",
            "SPIFFE://a/voicelane/router/r1",
            "https://a/voicelane/router/r1",
            "spiffe://a/voicelane/router/r%31",
            "spiffe://a/voicelane/router/r\u{e9}",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
        let long = format!("spiffe://a/voicelane/router/{}", "x".repeat(129));
        assert!(long.parse::<Name>().is_err());
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_is_written(
            domain in "[a-z0-9._-]{1,60}",
            role in prop::sample::select(Role::ALL.to_vec()),
            id in "[A-Za-z0-9_-]{1,128}",
        ) {
            let name = Name::new(&domain, role, &id)?;
            prop_assert_eq!(name.to_string().parse::<Name>()?, name);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            drop(text.parse::<Name>());
            drop(format!("spiffe://{text}").parse::<Name>());
        }
    }
}
