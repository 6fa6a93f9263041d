use std::{collections::HashSet, fmt};

use thiserror::Error;

use super::{KernelPolicy, MAX_RULES, Metering, Rule, Trust};
use crate::diffserv::{MeterError, Phb};

/// A policy as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySpec {
    /// The first one that matches counts. At most [`MAX_RULES`], each with another name.
    pub rules: Vec<Rule>,
    /// Each interface's, in the order of [`crate::units::InterfaceIndex`]. Interfaces past its end
    /// bleach, meter nothing, and ask for no source.
    pub interfaces: Vec<InterfacePolicy>,
    /// Of frames that the kernel sends.
    pub kernel: KernelPolicy,
}

/// Whether what comes in without a session must have a source that the routes lead back to
/// (reverse-path filtering, RFC 3704), as Linux's `rp_filter` asks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReversePath {
    /// Out of the interface where it came in, by the best route or one of its next hops (section 2.2).
    Strict,
    /// Out of any (section 2.4), or to an interface that only the kernel has; a default route counts.
    Loose,
    /// Any source is accepted.
    #[default]
    Off,
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Loose => "loose",
            Self::Off => "off",
        })
    }
}

/// What an interface's packets get where neither a session nor a rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePolicy {
    /// How far their own code points are believed.
    pub trust: Trust,
    /// What their sources must be.
    pub reverse_path: ReversePath,
    /// How much of a behaviour comes in here without sessions (RFC 4594: telephony is policed to one
    /// rate and burst). Metered behind rules and trust, by the code point that they gave. Of two
    /// for one behaviour the last one counts.
    pub police: Vec<(Phb, Metering)>,
}

impl From<Trust> for InterfacePolicy {
    fn from(trust: Trust) -> Self {
        Self {
            trust,
            reverse_path: ReversePath::Off,
            police: Vec::new(),
        }
    }
}

/// Why a policy cannot be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PolicyError {
    #[error("there are {0} rules: there may be at most {MAX_RULES}")]
    Rules(usize),
    /// Two rules with one name.
    #[error("there are two rules {0:?}: give each another name")]
    Name(String),
    #[error("the meter of rule {rule:?}: {reason}")]
    RuleMeter {
        rule: String,
        /// What is wrong with it.
        reason: MeterError,
    },
    #[error("the meter of {} on interface {interface}: {reason}", phb.name())]
    AggregateMeter {
        interface: usize,
        phb: Phb,
        /// What is wrong with it.
        reason: MeterError,
    },
}

impl PolicySpec {
    /// Checks what can be checked without a clock.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.rules.len() > MAX_RULES {
            return Err(PolicyError::Rules(self.rules.len()));
        }
        let mut names = HashSet::new();
        match self.rules.iter().find(|rule| !names.insert(&rule.name)) {
            Some(rule) => Err(PolicyError::Name(rule.name.clone())),
            None => Ok(()),
        }
    }
}
