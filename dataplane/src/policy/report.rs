use super::{MAX_RULES, SENDERS, Sender};
use crate::{
    diffserv::{Colour, Phb},
    stats::Count,
};

/// What a rule has counted, since it is there under its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounters {
    /// Packets that the rule was the first to match.
    pub matched: Count,
    /// Of that, by [`Colour`], what its meter saw.
    pub colours: [Count; Colour::ALL.len()],
}

/// What a policy has counted.
#[derive(Clone, Debug, Default)]
pub struct PolicyReport {
    /// Which policy: as it was compiled with.
    pub generation: u64,
    /// Of each rule, in order.
    pub rules: Vec<RuleCounters>,
    /// Of each interface, in order.
    pub interfaces: Vec<InterfaceReport>,
}

/// What an interface has counted of packets without sessions.
#[derive(Clone, Debug)]
pub struct InterfaceReport {
    /// What each aggregate meter saw, by [`Phb`] and [`Colour`].
    pub aggregates: [[Count; Colour::ALL.len()]; Phb::COUNT],
    /// Who claimed code points that were taken away, in no order.
    pub senders: Vec<Sender>,
}

impl PolicyReport {
    /// Of so many interfaces, with room for all that there can be.
    pub(crate) fn new(interfaces: usize) -> Self {
        let interface = || InterfaceReport {
            aggregates: Default::default(),
            senders: Vec::with_capacity(SENDERS),
        };
        Self {
            generation: 0,
            rules: Vec::with_capacity(MAX_RULES),
            interfaces: (0..interfaces).map(|_| interface()).collect(),
        }
    }
}
