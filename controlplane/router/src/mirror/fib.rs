//! The worker's route tables, IPv4's and IPv6's, as they should be by the kernel's state, and as it was told.
//!
//! Many prefixes share a next hop, and what a next hop means changes in one place: a gateway that
//! gets another MAC address costs one request, whatever the number of routes through it.

mod lacking;
mod room;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use tracing::warn;
use voicelane_dataplane::{
    Adjacency, InterfaceSet, Paths,
    control::{NextHop, Request},
    units::{InterfaceIndex, MacAddress},
};

use self::lacking::Lacking;
use super::state::{Dirty, Path, State, Via, is_link_local};

/// The twins, by the kernel's number of the interface.
pub type Twins = BTreeMap<u32, TwinOf>;

/// Whose twin an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwinOf {
    /// The router's interface.
    pub interface: InterfaceIndex,
    /// Its address.
    pub mac: MacAddress,
    /// The largest MTU that its port's device was started for, in bytes.
    pub largest_mtu: u16,
}

/// The last next hop, by its 15 bits.
const LAST_NEXT_HOP: u16 = (1 << 15) - 1;
/// The first one that is no [`Target::fixed`] one.
const FIRST_NEXT_HOP: u16 = FIRST_LINK + 1 + u8::MAX as u16;
/// That of the first interface's link.
const FIRST_LINK: u16 = 5;

/// Where a prefix leads, before anybody asks whether the neighbour is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Target {
    /// The router itself.
    Kernel,
    /// An interface that only the kernel has.
    KernelInterface,
    Nowhere,
    Resolve,
    /// A network on an interface, whose hosts the kernel finds.
    Link {
        interface: InterfaceIndex,
    },
    Neighbour {
        interface: u32,
        address: IpAddr,
    },
    /// The same, with an MTU of its route's.
    Narrow {
        interface: u32,
        address: IpAddr,
        mtu: u16,
    },
    /// Several neighbours, each of which is a target of its own.
    Paths(Arc<[Path]>),
}

impl Target {
    fn neighbour(path: &Path) -> Self {
        let &Path {
            interface, address, ..
        } = path;
        Self::Neighbour { interface, address }
    }

    /// The number that is kept for a target, so that it can always be led to.
    fn fixed(&self) -> Option<NextHop> {
        match self {
            Self::Kernel => Some(NextHop(1)),
            Self::Nowhere => Some(NextHop(2)),
            Self::Resolve => Some(NextHop(3)),
            Self::KernelInterface => Some(NextHop(4)),
            Self::Link { interface } => Some(NextHop(FIRST_LINK + u16::from(interface.0))),
            Self::Neighbour { .. } | Self::Narrow { .. } | Self::Paths(_) => None,
        }
    }

    /// The same, for packets of at most so many bytes; longer ones are the kernel's, which shares the
    /// flows of several neighbours then.
    fn within(self, mtu: Option<u16>) -> Self {
        match (self, mtu) {
            (Self::Neighbour { interface, address }, Some(mtu)) => Self::Narrow {
                interface,
                address,
                mtu,
            },
            (Self::Paths(_), Some(_)) => Self::Resolve,
            (target, _) => target,
        }
    }

    /// The neighbours that flows are shared among.
    fn members(&self) -> &[Path] {
        match self {
            Self::Paths(paths) => paths.get(..Paths::MAX).unwrap_or(paths),
            _ => &[],
        }
    }
}

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
    /// An empty table.
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

    /// The twins.
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
        self.hops.keys().filter_map(|target| match *target {
            Target::Neighbour { interface, address }
            | Target::Narrow {
                interface, address, ..
            } => Some((interface, address)),
            _ => None,
        })
    }

    /// Neighbours that share a route with others and are not known: as no packet is sent to them,
    /// the kernel must be asked to find them.
    pub fn missing_neighbours(&self, state: &State) -> BTreeSet<(u32, IpAddr)> {
        let members = self.hops.keys().flat_map(Target::members);
        members
            .map(|path| (path.interface, path.address))
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
            let mut members = group.members().iter().map(Target::neighbour);
            members.any(|member| member == *target)
        });
        for group in groups.cloned().collect::<Vec<_>>() {
            self.refresh(state, &group, requests);
        }
    }

    /// What a target means now that meant something `before`: a group keeps as much of it as it can.
    fn meaning(&self, state: &State, target: &Target, before: &Meaning) -> Meaning {
        let resolved: Vec<_> = target
            .members()
            .iter()
            .filter(|path| {
                let adjacency = adjacency(state, &self.twins, &Target::neighbour(path));
                matches!(adjacency, Adjacency::Forward { .. })
            })
            .filter_map(|path| Some((self.hops.get(&Target::neighbour(path))?.number, path.weight)))
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
        if let Some(hop) = self.hops.get_mut(&target) {
            hop.users += 1;
            return (target, hop.number);
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
            .map(|path| {
                self.acquire(state, Target::neighbour(path), &UNKNOWN, requests)
                    .0
            })
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
            Target::Paths(paths) => interfaces(&mut paths.iter().map(|path| path.interface)),
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
            for path in target.members() {
                self.release(&Target::neighbour(path));
            }
        }
    }
}

/// Where the table should send exactly this prefix; `None` if it should not have it.
fn wanted(state: &State, twins: &Twins, prefix: IpNet) -> Option<Target> {
    // The dataplane hands what is not to leave its link to the kernel, whatever the table says.
    if is_link_local(prefix) {
        return None;
    }
    if let Some(via) = state.local_route(prefix) {
        return Some(target(state, twins, via));
    }
    // The kernel asks the local table first, whatever is more specific in the main one.
    if state.is_local(prefix) {
        return None;
    }
    let via = || {
        let via = target(state, twins, state.main_route(prefix)?);
        Some(via.within(state.main_mtu(prefix)))
    };
    if prefix.prefix_len() < prefix.max_prefix_len() {
        return via();
    }
    // A host is reached directly where the route that covers it says so.
    let address = prefix.addr();
    let covering = state.main_prefix(address);
    if let Some(covering) = covering
        && let Some(&Via::Link { interface }) = state.main_route(covering)
        && twins.contains_key(&interface)
        && state.neighbour(interface, address).is_some()
    {
        let neighbour = Target::Neighbour { interface, address };
        return Some(neighbour.within(state.main_mtu(covering)));
    }
    via()
}

fn target(state: &State, twins: &Twins, via: &Via) -> Target {
    match *via {
        Via::Kernel => Target::Kernel,
        Via::Nowhere => Target::Nowhere,
        Via::Refused | Via::Dead | Via::Object { .. } => Target::Resolve,
        // Over an interface that only the kernel has, if it is no twin.
        Via::Link { interface } => match twins.get(&interface) {
            Some(&TwinOf { interface, .. }) => Target::Link { interface },
            None => Target::KernelInterface,
        },
        Via::Gateway { interface, .. } if !twins.contains_key(&interface) => {
            Target::KernelInterface
        }
        Via::Gateway { interface, address } => Target::Neighbour { interface, address },
        Via::Paths(ref paths) => {
            if !paths.iter().all(|path| twins.contains_key(&path.interface)) {
                return Target::Resolve; // The kernel shares the flows.
            }
            if !paths.iter().any(|path| state.is_lost(path.interface)) {
                return Target::Paths(Arc::clone(paths));
            }
            let alive = paths.iter().filter(|path| !state.is_lost(path.interface));
            target(state, twins, &Via::paths(alive.copied().collect()))
        }
    }
}

fn adjacency(state: &State, twins: &Twins, target: &Target) -> Adjacency {
    match *target {
        Target::Kernel => Adjacency::Local,
        Target::KernelInterface => Adjacency::Kernel,
        Target::Nowhere => Adjacency::Blackhole,
        // Of several those that are known are asked for one by one.
        Target::Resolve | Target::Link { .. } | Target::Paths(_) => Adjacency::Resolve,
        Target::Narrow {
            interface,
            address,
            mtu,
        } => match adjacency(state, twins, &Target::Neighbour { interface, address }) {
            Adjacency::Forward {
                interface,
                destination,
                source,
            } => Adjacency::Narrow {
                interface,
                destination,
                source,
                mtu,
            },
            other => other,
        },
        Target::Neighbour { interface, address } => {
            match (twins.get(&interface), state.neighbour(interface, address)) {
                (Some(twin), Some(neighbour)) => Adjacency::Forward {
                    interface: twin.interface,
                    destination: neighbour.mac,
                    source: twin.mac,
                },
                _ => Adjacency::Resolve,
            }
        }
    }
}

#[cfg(test)]
mod tests;
