//! Who may say what: who is at the other end of a connection, and what that one may call.

mod audit;
mod claims;
mod keeper;
mod methods;
mod quotas;

use std::{fmt, sync::Arc};

use voicelane_identity::{Leaf, Role};

pub use self::{
    audit::Audit,
    claims::{ClaimError, Claims},
    keeper::Keeper,
    methods::{Access, METHODS, Method},
    quotas::{Quota, Quotas},
};
pub(crate) use self::{audit::Changed, quotas::StreamOf};
use crate::{metrics::Change, model::error::Error};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Plain text: anybody who reaches the address, which is loopback unless the operator wants it
    /// otherwise. May do all.
    Plain,
    /// The Unix socket: root, or the server's own user or group. An operator.
    Local {
        /// As the kernel tells it of the socket.
        uid: u32,
    },
    /// TLS, by the certificate that was shown.
    Certified(Arc<Leaf>),
}

impl Caller {
    /// Whether it may call a method at all, by its path: `/voicelane.v1.Sessions/AddSession`.
    pub(crate) fn may_call(&self, path: &str) -> Result<(), Error> {
        let Some(role) = self.role() else {
            return Ok(());
        };
        match methods::access(role, path) {
            Access::No => Err(self.denied(format!("must not call {}", name(path)))),
            Access::Own | Access::All => Ok(()),
        }
    }

    /// What it may do; absent: all.
    fn role(&self) -> Option<Role> {
        match self {
            Self::Plain => None,
            Self::Local { .. } => Some(Role::Operator),
            Self::Certified(leaf) => Some(leaf.name.role()),
        }
    }

    /// The agent whose sessions alone it may have to do with; absent: all.
    pub(crate) fn agent(&self) -> Option<&str> {
        match self {
            Self::Certified(leaf) if leaf.name.role() == Role::Agent => Some(leaf.name.id()),
            _ => None,
        }
    }

    /// Whether it may look at the operators' page.
    pub(crate) fn may_look(&self) -> Result<(), Error> {
        match self.role() {
            None | Some(Role::Operator) => Ok(()),
            Some(_) => Err(self.denied("must not look at the operators' page".into())),
        }
    }

    /// Whether it may look at an agent's sessions.
    pub(crate) fn may_see(&self, agent: &str) -> Result<(), Error> {
        match self.agent() {
            Some(own) if own != agent => {
                Err(self.denied(format!("has no sessions but those of agent_id {own:?}")))
            }
            _ => Ok(()),
        }
    }

    /// Of whom sessions are asked for, or kept: an agent that names nobody means its own.
    pub(crate) fn own(&self, agent_id: &mut String) -> Result<(), Error> {
        match self.agent() {
            Some(own) if agent_id.is_empty() => own.clone_into(agent_id),
            _ => self.may_see(agent_id)?,
        }
        Ok(())
    }

    /// Whether it may change one of an agent's sessions.
    pub(crate) fn may_change(&self, change: Change, agent: &str) -> Result<(), Error> {
        self.may_see(agent)?;
        match (self.role(), change) {
            (None | Some(Role::Agent), _) | (Some(Role::Operator), Change::Delete) => Ok(()),
            _ => Err(self.denied("must only delete sessions; add them as an agent".into())),
        }
    }

    /// Whether it may attach as this router.
    pub(crate) fn may_attach(&self, router: &str) -> Result<(), Error> {
        match self {
            Self::Certified(leaf) if leaf.name.id() != router => {
                Err(self.denied(format!("must not attach as router {router:?}")))
            }
            _ => Ok(()),
        }
    }

    fn denied(&self, what: String) -> Error {
        Error::Denied {
            who: self.to_string(),
            what,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain text"),
            Self::Local { uid } => write!(f, "local user {uid}"),
            Self::Certified(leaf) => leaf.name.fmt(f),
        }
    }
}

/// The part of a method's path that people know: `AddSession`.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What bounds and notes the changes of those who may call.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// How much an agent may ask for.
    pub quotas: Arc<Quotas>,
    /// Where changes are noted.
    pub audit: Audit,
}
