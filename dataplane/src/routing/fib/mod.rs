//! The longest-prefix table: a trie whose root takes an address's first 16 bits, and each node below
//! 8 more.
//!
//! A node's entry says where the longest route that ends *in this node* leads, and which node has
//! longer ones; a lookup goes down and keeps the last answer. So a change of a route touches one node
//! only, whatever lies below: at most 256 entries, or the root's share for the shortest routes. A
//! route's place in its node is kept beside the entries, in a binary tree of the routes' own bits, so
//! that what it covered comes back when it goes.
//!
//! A node is there only where routes part or end: one with a single user is passed over, by comparing
//! the bits between with those that are kept for the node further below, and a route that is alone
//! below an entry is a leaf. So there are fewer nodes than routes, and the memory depends on the routes
//! that there are, not on those that were.

mod entry;
mod key;
mod leaves;
mod lookup;
mod nodes;
mod route;

use thiserror::Error;
use voicelane_machine::{Allocator, NoMemory};

use entry::{Below, Node};
pub use key::Key;
use leaves::{Leaf, Leaves};
use nodes::{Nodes, Only, ROOT};
use route::Route;

/// Why a route could not be changed. The table is as before.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FibError {
    /// 0, or over 15 bits.
    #[error("next hop {0} is not between 1 and 32767")]
    NextHop(u16),
    /// A prefix longer than the address.
    #[error("prefix length {0} is longer than the address")]
    PrefixLength(u8),
    /// As many routes as the table was made for.
    #[error("the {family} route table is full with {routes} routes")]
    Full {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// How many it takes.
        routes: u32,
    },
    /// The routes are so far apart that they take more nodes than the table has.
    #[error(
        "the {family} route table has no room with {routes} routes: all its {nodes} nodes are in use"
    )]
    Nodes {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// How many it has.
        routes: u32,
        /// How many nodes it has.
        nodes: u32,
    },
    /// There is no such route.
    #[error("there is no such route")]
    Missing,
}

/// IPv4's table: addresses are numbers.
pub type Fib4 = Fib<u32>;
/// IPv6's table: addresses are bytes in the network's order.
pub type Fib6 = Fib<[u8; 16]>;

/// The route tables that a worker starts with, empty.
#[derive(Debug)]
pub struct Fibs {
    /// For IPv4 destinations.
    pub ipv4: Fib4,
    /// For IPv6 destinations.
    pub ipv6: Fib6,
}

impl Fibs {
    /// Allocates tables for so many routes of each family.
    pub fn create(
        ipv4_routes: u32,
        ipv6_routes: u32,
        memory: &'static dyn Allocator,
    ) -> Result<Self, NoMemory> {
        Ok(Self {
            ipv4: Fib::create(ipv4_routes, memory)?,
            ipv6: Fib::create(ipv6_routes, memory)?,
        })
    }
}

/// A longest-prefix table, for one thread.
///
/// A lookup that matches nothing gives [`NO_ROUTE`].
#[derive(Debug)]
pub struct Fib<K> {
    nodes: Nodes,
    leaves: Leaves,
    default: u16,
    routes: u32,
    max_routes: u32,
    key: std::marker::PhantomData<K>,
}

/// What a lookup gives for an address that no route covers.
pub const NO_ROUTE: u16 = 0;
/// The largest next hop.
pub const MAX_NEXT_HOP: u16 = (1 << 15) - 1;

impl<K: Key> Fib<K> {
    /// Bytes of the allocator's memory that a table for so many routes takes.
    #[must_use]
    pub fn bytes(max_routes: u32) -> u64 {
        Nodes::bytes(K::nodes(max_routes)) + Leaves::bytes(max_routes)
    }

    /// Allocates an empty table for at most `max_routes`, the route to everything not counted.
    pub fn create(max_routes: u32, memory: &'static dyn Allocator) -> Result<Self, NoMemory> {
        Ok(Self {
            nodes: Nodes::create(K::FAMILY, K::nodes(max_routes), memory)?,
            leaves: Leaves::create(K::FAMILY, max_routes, memory)?,
            default: NO_ROUTE,
            routes: 0,
            max_routes,
            key: std::marker::PhantomData,
        })
    }

    /// How many routes there are, the route to everything not counted.
    #[must_use]
    pub fn routes(&self) -> u32 {
        self.routes
    }

    /// How many nodes they take, without the root.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.nodes.in_use()
    }

    /// Adds a route, or changes its next hop. Bits of the address past the prefix are ignored.
    pub fn insert(&mut self, prefix: K, length: u8, next_hop: u16) -> Result<(), FibError> {
        if next_hop == NO_ROUTE || next_hop > MAX_NEXT_HOP {
            return Err(FibError::NextHop(next_hop));
        }
        if length == 0 {
            self.default = next_hop;
            return Ok(());
        }
        let route = Self::route(prefix, length)?;
        let (path, found) = self.find(&route);
        let known = match found {
            Found::End => self.nodes.route(path.last, route.place()) != NO_ROUTE,
            Found::Itself(_) => true,
            Found::Nothing | Found::Other(_) => false,
        };
        if !known && self.routes == self.max_routes {
            return Err(FibError::Full {
                family: K::FAMILY,
                routes: self.max_routes,
            });
        }
        let leaf = Leaf { route, next_hop };
        match found {
            Found::End => self.nodes.set(path.last, route.place(), next_hop),
            Found::Itself(number) => self.leaves.set(number, leaf),
            Found::Nothing => {
                let below = Below::Leaf(self.leaves.add(leaf));
                let step = route.step(path.last.above);
                self.nodes.put(path.last, step, Some(below));
            }
            Found::Other(below) => self.part(path.last, below, leaf)?,
        }
        self.routes += u32::from(!known);
        Ok(())
    }

    /// Makes a node where what is below an entry and another route part.
    fn part(&mut self, node: Node, old: Below, new: Leaf) -> Result<(), FibError> {
        if self.nodes.left() == 0 {
            return Err(FibError::Nodes {
                family: K::FAMILY,
                routes: self.routes,
                nodes: self.nodes.in_use(),
            });
        }
        let way = match old {
            Below::Leaf(number) => self.leaves.leaf(number).route,
            Below::Node(below) => self.nodes.way(below),
        };
        let between = self.nodes.take(&way, way.parting(&new.route));
        let step = way.step(node.above);
        self.nodes.put(node, step, Some(Below::Node(between)));
        match old {
            Below::Leaf(number) if way.end() == between.above => {
                let next_hop = self.leaves.leaf(number).next_hop;
                self.nodes.set(between, way.place(), next_hop);
                self.leaves.remove(number);
            }
            _ => self.nodes.put(between, way.step(between.above), Some(old)),
        }
        if new.route.end() == between.above {
            self.nodes.set(between, new.route.place(), new.next_hop);
        } else {
            let below = Below::Leaf(self.leaves.add(new));
            let step = new.route.step(between.above);
            self.nodes.put(between, step, Some(below));
        }
        Ok(())
    }

    /// Removes the route to exactly this prefix; the next shorter one takes over.
    pub fn remove(&mut self, prefix: K, length: u8) -> Result<(), FibError> {
        if length == 0 {
            self.default = NO_ROUTE;
            return Ok(());
        }
        let route = Self::route(prefix, length)?;
        let (Path { last, over }, found) = self.find(&route);
        match found {
            Found::End if self.nodes.route(last, route.place()) != NO_ROUTE => {
                self.nodes.clear(last, route.place());
            }
            Found::Itself(number) => {
                self.nodes.put(last, route.step(last.above), None);
                self.leaves.remove(number);
            }
            _ => return Err(FibError::Missing),
        }
        self.routes -= 1;
        if let Some(over) = over {
            self.pass(over, last, &route);
        }
        Ok(())
    }

    /// Has a node no longer be on a route's way, if it is there for one other only.
    fn pass(&mut self, over: Node, node: Node, route: &Route) {
        let below = match self.nodes.only_user(node) {
            None => return,
            Some(Only::Ending(place)) => {
                let next_hop = self.nodes.route(node, place);
                self.nodes.clear(node, place);
                let route = route.beside(node.above, place);
                Below::Leaf(self.leaves.add(Leaf { route, next_hop }))
            }
            Some(Only::Below(step, below)) => {
                self.nodes.put(node, step, None);
                below
            }
        };
        self.nodes.give(node);
        self.nodes.put(over, route.step(over.above), Some(below));
    }

    fn route(prefix: K, length: u8) -> Result<Route, FibError> {
        if length > K::BITS {
            return Err(FibError::PrefixLength(length));
        }
        Ok(Route::new(prefix.bits(), length))
    }

    /// The nodes at the end of the way to a route, and what is there.
    fn find(&self, route: &Route) -> (Path, Found) {
        let mut path = Path {
            last: ROOT,
            over: None,
        };
        while path.last.above < route.end() {
            let step = route.step(path.last.above);
            let below = match self.nodes.entry(path.last, step).below() {
                None => return (path, Found::Nothing),
                Some(below) => below,
            };
            match below {
                Below::Leaf(number) if self.leaves.leaf(number).route == *route => {
                    return (path, Found::Itself(number));
                }
                Below::Node(node) if self.nodes.way(node).leads_to(route) => {
                    path = Path {
                        last: node,
                        over: Some(path.last),
                    };
                }
                other => return (path, Found::Other(other)),
            }
        }
        (path, Found::End)
    }

    /// Checks what must hold between changes. Walks the whole table.
    pub fn invariants(&self) {
        let (ending, leaves) = self.nodes.invariants();
        let routes = ending as usize + leaves.len();
        assert_eq!(routes, self.routes as usize, "routes are counted");
        assert_eq!(leaves.len(), self.leaves.in_use(), "leaves are counted");
        assert!(self.routes <= self.max_routes);
        for number in leaves {
            let route = self.leaves.leaf(number).route;
            let (_, found) = self.find(&route);
            assert_eq!(found, Found::Itself(number), "a leaf is on its way");
        }
    }
}

/// What is where a route is, or should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The node that it ends in.
    End,
    Itself(u32),
    /// Another route's leaf, or a node that is not on its way.
    Other(Below),
    /// An entry with nothing below.
    Nothing,
}

/// The end of the way down to a route.
#[derive(Clone, Copy, Debug)]
struct Path {
    last: Node,
    /// The node above that one.
    over: Option<Node>,
}
