//! The worker's route tables, IPv4's and IPv6's, as they should be by the kernel's state, and as it was told.
//!
//! Many prefixes share a next hop, and what a next hop means changes in one place: a gateway that
//! gets another MAC address costs one request, whatever the number of routes through it.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use voicelane_dataplane::{
    Adjacency,
    control::{NextHop, Request},
    units::{InterfaceIndex, MacAddress},
};

use super::state::{Dirty, State, Via, is_link_local};

/// The twins, by the kernel's number of the interface.
pub type Twins = BTreeMap<u32, TwinOf>;

/// Whose twin an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwinOf {
    /// The router's interface.
    pub interface: InterfaceIndex,
    /// Its address.
    pub mac: MacAddress,
}

/// The last next hop, by its 15 bits.
const LAST_NEXT_HOP: u16 = (1 << 15) - 1;

/// Where a prefix leads, before anybody asks whether the neighbour is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Target {
    Kernel,
    Nowhere,
    Resolve,
    Neighbour { interface: u32, address: IpAddr },
}

/// A next hop that the worker knows.
#[derive(Debug)]
struct Hop {
    number: NextHop,
    routes: usize,
    adjacency: Adjacency,
}

/// What the worker was told.
#[derive(Debug)]
pub struct Fib {
    twins: Twins,
    routes: BTreeMap<IpNet, Target>,
    hops: HashMap<Target, Hop>,
    free: Vec<NextHop>,
    unused: u16,
}

impl Fib {
    /// An empty table.
    #[must_use]
    pub fn new(twins: Twins) -> Self {
        Self {
            twins,
            routes: BTreeMap::new(),
            hops: HashMap::new(),
            free: Vec::new(),
            unused: 1,
        }
    }

    /// The twins.
    #[must_use]
    pub fn twins(&self) -> &Twins {
        &self.twins
    }

    /// How many routes the worker has.
    #[must_use]
    pub fn routes(&self) -> usize {
        self.routes.len()
    }

    /// Neighbours that routes lead to.
    pub fn used_neighbours(&self) -> impl Iterator<Item = (u32, IpAddr)> {
        self.hops.keys().filter_map(|target| match *target {
            Target::Neighbour { interface, address } => Some((interface, address)),
            _ => None,
        })
    }

    /// What to tell the worker, in this order, after a change of the state.
    pub fn update(&mut self, state: &State, dirty: &Dirty) -> Vec<Request> {
        let mut requests = Vec::new();
        for &(interface, address) in &dirty.neighbours {
            self.refresh(
                state,
                Target::Neighbour { interface, address },
                &mut requests,
            );
        }
        for &prefix in &dirty.prefixes {
            match wanted(state, &self.twins, prefix) {
                Some(target) => self.set_route(state, prefix, target, &mut requests),
                None => self.remove_route(prefix, &mut requests),
            }
        }
        requests
    }

    /// Says anew what a next hop means, if it is in use and means something else now.
    fn refresh(&mut self, state: &State, target: Target, requests: &mut Vec<Request>) {
        let adjacency = adjacency(state, &self.twins, target);
        if let Some(hop) = self.hops.get_mut(&target)
            && hop.adjacency != adjacency
        {
            hop.adjacency = adjacency;
            requests.push(Request::SetAdjacency {
                next_hop: hop.number,
                adjacency,
            });
        }
    }

    fn set_route(
        &mut self,
        state: &State,
        prefix: IpNet,
        target: Target,
        requests: &mut Vec<Request>,
    ) {
        if self.routes.get(&prefix) == Some(&target) {
            return;
        }
        let (target, next_hop) = self.acquire(state, target, requests);
        let before = self.routes.insert(prefix, target);
        let (address, length) = (prefix.network(), prefix.prefix_len());
        requests.push(Request::SetRoute {
            prefix: address,
            length,
            next_hop,
        });
        if let Some(before) = before {
            self.release(before);
        }
    }

    fn remove_route(&mut self, prefix: IpNet, requests: &mut Vec<Request>) {
        if let Some(target) = self.routes.remove(&prefix) {
            let (prefix, length) = (prefix.network(), prefix.prefix_len());
            requests.push(Request::RemoveRoute { prefix, length });
            self.release(target);
        }
    }

    /// The next hop of a target, made if there is none. With no number left it is the kernel that
    /// forwards: slow, but right.
    fn acquire(
        &mut self,
        state: &State,
        target: Target,
        requests: &mut Vec<Request>,
    ) -> (Target, NextHop) {
        if let Some(hop) = self.hops.get_mut(&target) {
            hop.routes += 1;
            return (target, hop.number);
        }
        // Three numbers are kept for the targets that are no neighbours.
        let neighbour = matches!(target, Target::Neighbour { .. });
        let last = if neighbour {
            LAST_NEXT_HOP - 3
        } else {
            LAST_NEXT_HOP
        };
        let number = self.free.pop().or_else(|| {
            (self.unused <= last).then(|| {
                let number = NextHop(self.unused);
                self.unused += 1;
                number
            })
        });
        let Some(number) = number else {
            if neighbour {
                return self.acquire(state, Target::Resolve, requests);
            }
            return (target, NextHop::default()); // "no route" goes to the kernel, too
        };
        let adjacency = adjacency(state, &self.twins, target);
        requests.push(Request::SetAdjacency {
            next_hop: number,
            adjacency,
        });
        self.hops.insert(
            target,
            Hop {
                number,
                routes: 1,
                adjacency,
            },
        );
        (target, number)
    }

    /// A number can be used again at once, as the worker takes requests in order.
    fn release(&mut self, target: Target) {
        if let Some(hop) = self.hops.get_mut(&target) {
            hop.routes -= 1;
            if hop.routes == 0 {
                self.free.push(hop.number);
                self.hops.remove(&target);
            }
        }
    }

    /// Checks what must hold between updates.
    pub fn invariants(&self) {
        let counted: usize = self.hops.values().map(|hop| hop.routes).sum();
        assert_eq!(
            counted,
            self.routes.len(),
            "each route counts for one next hop"
        );
        let numbers = self.hops.len() + self.free.len() + 1;
        assert_eq!(
            numbers,
            usize::from(self.unused),
            "each number is in use or free"
        );
    }
}

/// Where the table should send exactly this prefix; `None` if it should not have it.
fn wanted(state: &State, twins: &Twins, prefix: IpNet) -> Option<Target> {
    // The dataplane hands what is not to leave its link to the kernel, whatever the table says.
    if is_link_local(prefix) {
        return None;
    }
    if let Some(via) = state.local_route(prefix) {
        return Some(target(twins, via));
    }
    // The kernel asks the local table first, whatever is more specific in the main one.
    if state.is_local(prefix) {
        return None;
    }
    let via = state.main_route(prefix);
    if prefix.prefix_len() < prefix.max_prefix_len() {
        return via.map(|via| target(twins, via));
    }
    // A host is reached directly where the route that covers it says so.
    let address = prefix.addr();
    let covering = via.or_else(|| state.main_lookup(address));
    if let Some(Via::Link { interface }) = covering
        && twins.contains_key(&interface)
        && state.neighbour(interface, address).is_some()
    {
        return Some(Target::Neighbour { interface, address });
    }
    via.map(|via| target(twins, via))
}

fn target(twins: &Twins, via: Via) -> Target {
    match via {
        Via::Kernel => Target::Kernel,
        Via::Nowhere => Target::Nowhere,
        Via::Refused => Target::Resolve,
        // Over an interface that only the kernel has.
        Via::Link { interface } | Via::Gateway { interface, .. }
            if !twins.contains_key(&interface) =>
        {
            Target::Kernel
        }
        Via::Link { .. } => Target::Resolve,
        Via::Gateway { interface, address } => Target::Neighbour { interface, address },
    }
}

fn adjacency(state: &State, twins: &Twins, target: Target) -> Adjacency {
    match target {
        Target::Kernel => Adjacency::Local,
        Target::Nowhere => Adjacency::Blackhole,
        Target::Resolve => Adjacency::Resolve,
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
