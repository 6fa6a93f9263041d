//! The operator's rules for packets that no session covers.
//!
//! A packet's class is decided by the first of these that applies:
//!
//! 1. the **session** whose exact five-tuple it has ([`crate::session`]);
//! 2. the first operator's **rule** that matches, in the order of the file ([`Rule`]);
//! 3. the **trust** of the interface that it came in on ([`Trust`]).
//!
//! The order is in one function, `pipeline::stages::classify::classify`. Then `police` meters: a session's
//! packets by the session; what a rule with a meter matched by the rule's; and what has no session
//! also by the **aggregate** meter of its interface and behaviour, if there is one
//! ([`InterfacePolicy::police`]).
//!
//! Frames that the kernel sends are believed no more than an edge's: [`KernelPolicy`].
//!
//! All of it is one [`Policy`], compiled by the control side and swapped as a whole between two
//! bursts. A rule or aggregate that is in the old and the new one under the same name keeps its
//! counters, and its meter's state if the meter's terms are the same: a change of rules is no burst
//! for free.

mod classifier;
mod compiled;
mod kernel;
mod report;
mod rule;
mod senders;
mod spec;
mod trust;

pub use classifier::{Classifier, MAX_RULES, RuleIndex};
pub use compiled::Policy;
pub use kernel::{KernelPolicy, ROUTING_PROTOCOLS, Routing, Speaks};
pub use report::{InterfaceReport, PolicyReport, RuleCounters};
pub use rule::{Action, Addresses, Fields, Match, Metering, Prefix, Rule};
pub use senders::{Offence, SENDERS, Sender, TopSenders};
pub use spec::{InterfacePolicy, PolicyError, PolicySpec, ReversePath};
pub use trust::{DscpMap, Trust};
