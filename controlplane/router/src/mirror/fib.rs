//! The worker's route tables, IPv4's and IPv6's, as they should be by the kernel's state, and as it was told.
//!
//! Many prefixes share a next hop, and what a next hop means changes in one place: a gateway that
//! gets another MAC address costs one request, whatever the number of routes through it.

mod lacking;
mod room;
mod target;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
};

use ipnet::IpNet;
use tracing::warn;
use voicelane_dataplane::{
    Adjacency, InterfaceSet, Paths,
    control::{NextHop, Request},
    units::{InterfaceIndex, MacAddress},
};

use self::{
    lacking::Lacking,
    target::{FIRST_NEXT_HOP, Target, adjacency, wanted},
};
use super::state::{Dirty, State};

/// The twins, by the kernel's number of the interface.
pub type Twins = BTreeMap<u32, TwinOf>;

/// Whose twin an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwinOf {
    /// The interface that it is the twin of.
    pub interface: InterfaceIndex,
    /// The MAC address that frames leave with.
    pub mac: MacAddress,
    /// The largest MTU that its port's device was started for, in bytes.
    pub largest_mtu: u16,
}

/// The last next hop, by its 15 bits.
const LAST_NEXT_HOP: u16 = (1 << 15) - 1;

/// A next hop that the worker knows.
#[derive(Debug)]
struct Hop {
    number: NextHop,
    /// How many routes and groups of next hops lead to it.
    users: usize,
    meaning: Meaning,
}

/// What the worker was told of a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    One(Adjacency),
    Several(Box<Paths>),
}

/// Of a next hop that meant nothing before.
const UNKNOWN: Meaning = Meaning::One(Adjacency::Resolve);

impl Meaning {
    fn request(&self, next_hop: NextHop) -> Request {
        match self {
            &Self::One(adjacency) => Request::SetAdjacency {
                next_hop,
                adjacency,
            },
            Self::Several(paths) => Request::SetPaths {
                next_hop,
                paths: paths.clone(),
            },
        }
    }
}

/// What the worker was told.
#[derive(Debug)]
pub struct Fib {
    twins: Twins,
    /// What it has, and what it is being asked to take.
    routes: BTreeMap<IpNet, Target>,
    /// IPv4 routes that it refused, and IPv6 routes.
    refused: [Lacking; 2],
    /// Routes that lead to the kernel, as no next hop was left for them.
    unnumbered: Lacking,
    hops: HashMap<Target, Hop>,
    free: Vec<NextHop>,
    unused: u16,
    /// The last number that there is.
    last: u16,
}

impl Fib {
    /// No routes, and these twins.
    #[must_use]
    pub fn new(twins: Twins) -> Self {
        Self {
            twins,
            routes: BTreeMap::new(),
            refused: Default::default(),
            unnumbered: Lacking::default(),
            hops: HashMap::new(),
            free: Vec::new(),
            unused: FIRST_NEXT_HOP,
            last: LAST_NEXT_HOP,
        }
    }

    /// By the kernel's number of the interface.
    #[must_use]
    pub fn twins(&self) -> &Twins {
        &self.twins
    }

    /// Takes other twins from the next update on; everything must be looked at then.
    pub fn set_twins(&mut self, twins: Twins) {
        self.twins = twins;
    }

    /// How many routes the worker has.
    #[must_use]
    pub fn routes(&self) -> usize {
        self.routes.len()
    }

    /// Neighbours that routes lead to.
    pub fn used_neighbours(&self) -> impl Iterator<Item = (u32, IpAddr)> {
        self.hops.keys().filter_map(Target::address)
    }

    /// Neighbours that share a route with others and are not known: as no packet is sent to them,
    /// the kernel must be asked to find them.
    pub fn missing_neighbours(&self, state: &State) -> BTreeSet<(u32, IpAddr)> {
        let members = self.hops.keys().flat_map(Target::members);
        members
            .filter_map(|(member, _)| member.address())
            .filter(|&(interface, address)| state.neighbour(interface, address).is_none())
            .collect()
    }

    /// What to tell the worker, in this order, after a change of the state.
    pub fn update(&mut self, state: &State, dirty: &Dirty) -> Vec<Request> {
        let mut requests = Vec::new();
        for &(interface, address) in &dirty.neighbours {
            self.refresh(
                state,
                &Target::Neighbour { interface, address },
                &mut requests,
            );
        }
        if !dirty.neighbours.is_empty() {
            let narrow = self.hops.keys().filter(|target| match target {
                Target::Narrow {
                    interface, address, ..
                } => dirty.neighbours.contains(&(*interface, *address)),
                _ => false,
            });
            for target in narrow.cloned().collect::<Vec<_>>() {
                self.refresh(state, &target, &mut requests);
            }
        }
        for &prefix in &dirty.prefixes {
            if wanted(state, &self.twins, prefix).is_none() {
                self.remove_route(state, prefix, &mut requests);
            } else if !self.lacks(prefix) {
                self.set_route(state, prefix, &mut requests);
            }
        }
        requests
    }

    /// Says anew what a next hop means, if it is in use and means something else now; and then what
    /// groups mean that it is in.
    fn refresh(&mut self, state: &State, target: &Target, requests: &mut Vec<Request>) {
        let Some(hop) = self.hops.get(target) else {
            return;
        };
        let meaning = self.meaning(state, target, &hop.meaning);
        if hop.meaning == meaning {
            return;
        }
        if let Some(hop) = self.hops.get_mut(target) {
            requests.push(meaning.request(hop.number));
            hop.meaning = meaning;
        }
        let groups = self.hops.keys().filter(|group| {
            let mut members = group.members().iter();
            members.any(|(member, _)| member == target)
        });
        for group in groups.cloned().collect::<Vec<_>>() {
            self.refresh(state, &group, requests);
        }
    }

    /// What a target means now that meant something `before`: a group keeps as much of it as it can.
    fn meaning(&self, state: &State, target: &Target, before: &Meaning) -> Meaning {
        let known = |member| {
            let adjacency = adjacency(state, &self.twins, member);
            matches!(
                adjacency,
                Adjacency::Forward { .. } | Adjacency::Narrow { .. }
            )
        };
        let members = target.members().iter();
        let resolved: Vec<_> = members
            .filter(|(member, _)| known(member))
            .filter_map(|(member, weight)| Some((self.hops.get(member)?.number, *weight)))
            .collect();
        let paths = match before {
            Meaning::Several(before) => before.change(&resolved),
            Meaning::One(_) => Paths::new(&resolved),
        };
        paths.map_or_else(
            || Meaning::One(adjacency(state, &self.twins, target)),
            |paths| Meaning::Several(Box::new(paths)),
        )
    }

    /// The next hop of a target, made if there is none, for a route that `meant` something before.
    /// With no number left it is the kernel that forwards: slow, but right.
    fn acquire(
        &mut self,
        state: &State,
        target: Target,
        meant: &Meaning,
        requests: &mut Vec<Request>,
    ) -> (Target, NextHop) {
        if let Entry::Occupied(mut hop) = self.hops.entry(target.clone()) {
            hop.get_mut().users += 1;
            // Routes that share a group of next hops have it once.
            return (hop.key().clone(), hop.get().number);
        }
        if let Target::Paths(paths) = &target
            && paths.len() > Paths::MAX
        {
            let (all, most) = (paths.len(), Paths::MAX);
            warn!(all, most, "a route has more next hops than share flows");
        }
        let members: Vec<_> = target
            .members()
            .iter()
            .map(|(member, _)| self.acquire(state, member.clone(), &UNKNOWN, requests).0)
            .collect();
        let complete = members.iter().all(|member| *member != Target::Resolve);
        let number = || complete.then(|| self.number()).flatten();
        let Some(number) = target.fixed().or_else(number) else {
            for member in &members {
                self.release(member);
            }
            return self.acquire(state, Target::Resolve, &UNKNOWN, requests);
        };
        let meaning = self.meaning(state, &target, meant);
        requests.push(meaning.request(number));
        requests.push(Request::SetWaysIn {
            next_hop: number,
            interfaces: self.ways_in(&target),
        });
        let hop = Hop {
            number,
            users: 1,
            meaning,
        };
        self.hops.insert(target.clone(), hop);
        (target, number)
    }

    /// From which interfaces packets may come whose source leads to a target: those that it leads out of,
    /// known neighbours or not. What leads to the kernel for want of room may come from any.
    fn ways_in(&self, target: &Target) -> InterfaceSet {
        let interfaces = |numbers: &mut dyn Iterator<Item = u32>| {
            let twins = numbers.filter_map(|number| self.twins.get(&number));
            twins.map(|twin| twin.interface).collect()
        };
        match target {
            Target::Kernel | Target::KernelInterface | Target::Nowhere => InterfaceSet::NONE,
            Target::Resolve => InterfaceSet::ALL,
            Target::Link { interface } => [*interface].into_iter().collect(),
            Target::Neighbour { interface, .. } | Target::Narrow { interface, .. } => {
                interfaces(&mut std::iter::once(*interface))
            }
            Target::Paths(members) => {
                let addresses = members.iter().filter_map(|(member, _)| member.address());
                interfaces(&mut addresses.map(|(interface, _)| interface))
            }
        }
    }

    /// A number that is free, up to the last.
    fn number(&mut self) -> Option<NextHop> {
        let unused = NextHop(self.unused);
        self.free.pop().or_else(|| {
            let left = unused.0 <= self.last;
            self.unused += u16::from(left);
            left.then_some(unused)
        })
    }

    /// A number can be used again at once, as the worker takes requests in order.
    fn release(&mut self, target: &Target) {
        let Some(hop) = self.hops.get_mut(target) else {
            return;
        };
        hop.users -= 1;
        if hop.users == 0 {
            if target.fixed().is_none() {
                self.free.push(hop.number);
            }
            self.hops.remove(target);
            for (member, _) in target.members() {
                self.release(member);
            }
        }
    }
}

#[cfg(test)]
mod tests;
