//! Call agents that have a lease, and when what is left of those that were lost goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Moment;

/// Whether a session's agent can be asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has never taken a lease.
    WithoutLease,
    /// Its lease runs.
    Here,
    /// Its lease ran out.
    Lost,
}

/// What a lease that is renewed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The agent had none before.
    First,
    /// It was not lost.
    InTime,
    /// It was lost.
    Back,
}

/// What is due for an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its lease ran out.
    Lost(Box<str>),
    /// It has been lost for so long that its sessions go.
    Over(Box<str>),
}

#[derive(Clone, Copy, Debug)]
enum Lease {
    Until(Moment),
    LostUntil(Moment),
    /// Its sessions are being removed.
    Over,
}

/// The leases of agents. One that never took a lease is not in it.
#[derive(Debug, Default)]
pub struct Agents {
    leases: BTreeMap<Box<str>, Lease>,
    due: BTreeSet<(Moment, Box<str>)>,
}

impl Agents {
    /// An agent's lease begins anew, and lasts until then.
    pub fn renew(&mut self, agent: &str, until: Moment) -> Renewed {
        match self.set(agent, Lease::Until(until)) {
            None => Renewed::First,
            Some(Lease::Until(_)) => Renewed::InTime,
            Some(Lease::LostUntil(_) | Lease::Over) => Renewed::Back,
        }
    }

    /// Takes out what is due. Sessions of an agent that is lost stay for `keep`; zero: for ever.
    pub fn take_due(&mut self, now: Moment, keep: Duration) -> Option<Due> {
        loop {
            let (at, agent) = self.due.first()?;
            if *at > now {
                return None;
            }
            let agent = agent.clone();
            match self.leases.get(&agent).copied() {
                Some(Lease::Until(_)) => {
                    let until = if keep.is_zero() {
                        Moment::NEVER
                    } else {
                        now.plus(keep)
                    };
                    self.set(&agent, Lease::LostUntil(until));
                    return Some(Due::Lost(agent));
                }
                Some(Lease::LostUntil(_)) => {
                    self.set(&agent, Lease::Over);
                    return Some(Due::Over(agent));
                }
                Some(Lease::Over) | None => drop(self.due.pop_first()),
            }
        }
    }

    /// How an agent stands.
    pub fn presence(&self, agent: &str) -> Presence {
        match self.leases.get(agent) {
            None => Presence::WithoutLease,
            Some(Lease::Until(_)) => Presence::Here,
            Some(Lease::LostUntil(_) | Lease::Over) => Presence::Lost,
        }
    }

    /// Whether an agent has taken a lease, lost or not.
    pub fn has(&self, agent: &str) -> bool {
        self.leases.contains_key(agent)
    }

    /// Whether the sessions of an agent are to go.
    pub fn is_over(&self, agent: &str) -> bool {
        matches!(self.leases.get(agent), Some(Lease::Over))
    }

    /// An agent has no sessions any more, and is not back.
    pub fn forget(&mut self, agent: &str) {
        if let Some(Lease::Until(at) | Lease::LostUntil(at)) = self.leases.remove(agent) {
            self.due.remove(&(at, agent.into()));
        }
    }

    /// How many have a lease that runs, and how many are lost.
    pub fn counts(&self) -> (u64, u64) {
        let all = self.leases.len() as u64;
        let is_here = |lease: &&Lease| matches!(lease, Lease::Until(_));
        let here = self.leases.values().filter(is_here).count() as u64;
        (here, all - here)
    }

    fn set(&mut self, agent: &str, lease: Lease) -> Option<Lease> {
        let former = self.leases.insert(agent.into(), lease);
        if let Some(Lease::Until(at) | Lease::LostUntil(at)) = former {
            self.due.remove(&(at, agent.into()));
        }
        if let Lease::Until(at) | Lease::LostUntil(at) = lease {
            self.due.insert((at, agent.into()));
        }
        former
    }
}
