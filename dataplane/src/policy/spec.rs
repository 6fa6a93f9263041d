use std::collections::HashSet;

use thiserror::Error;

use super::{KernelPolicy, MAX_RULES, Metering, Rule, Trust};
use crate::diffserv::{MeterError, Phb};

/// A policy as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySpec {
    /// The first one that matches counts. At most [`MAX_RULES`], each with another name.
    pub rules: Vec<Rule>,
    /// Each interface's, in the order of [`crate::units::InterfaceIndex`]. Interfaces past its end
    /// bleach, and meter nothing.
    pub interfaces: Vec<InterfacePolicy>,
    /// Of frames that the kernel sends.
    pub kernel: KernelPolicy,
}

/// What an interface's packets get where neither a session nor a rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePolicy {
    /// How far their own code points are believed.
    pub trust: Trust,
    /// How much of a behaviour comes in here without sessions (RFC 4594: telephony is policed to one
    /// rate and burst). Metered behind rules and trust, by the code point that they gave. Of two
    /// for one behaviour the last one counts.
    pub police: Vec<(Phb, Metering)>,
}

impl From<Trust> for InterfacePolicy {
    /// Trust alone.
    fn from(trust: Trust) -> Self {
        Self {
            trust,
            police: Vec::new(),
        }
    }
}

/// Why a policy cannot be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// Too many.
    #[error("there are {0} rules: there may be at most {MAX_RULES}")]
    Rules(usize),
    /// Two rules with one name.
    #[error("there are two rules {0:?}: give each another name")]
    Name(String),
    /// A rule's meter.
    #[error("the meter of rule {rule:?}: {reason}")]
    RuleMeter {
        /// Which rule.
        rule: String,
        /// What is wrong with it.
        reason: MeterError,
    },
    /// An aggregate's meter.
    #[error("the meter of {} on interface {interface}: {reason}", phb.name())]
    AggregateMeter {
        /// Which interface.
        interface: usize,
        /// Which behaviour.
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
