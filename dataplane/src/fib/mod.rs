//! The longest-prefix table: a trie whose root takes an address's first 16 bits, and each node below
//! the next 8.
//!
//! A node's entry says where the longest route that ends *in this node* leads, and which node has
//! longer ones; a lookup goes down and keeps the last answer. So a change of a route touches one node
//! only, whatever lies below: at most 256 entries, or the root's share for the shortest routes. A
//! route's place in its node is kept beside the entries, in a binary tree of the routes' own bits, so
//! that what it covered comes back when it goes. A route that is alone below an entry is a leaf, and
//! takes no nodes; so the memory depends on the routes that there are, not on those that were.

mod key;
mod leaves;
mod lookup;
mod nodes;
mod route;

use thiserror::Error;
use voicelane_dpdk::NoMemory;

pub use key::Key;
use leaves::{Leaf, Leaves};
use nodes::{Child, Nodes, Only, ROOT};
use route::Route;

/// Why a route could not be changed. Nothing has changed then.
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
    /// IPv4's.
    pub ipv4: Fib4,
    /// IPv6's.
    pub ipv6: Fib6,
}

impl Fibs {
    /// Makes them for so many routes of each family. Call after [`voicelane_dpdk::Eal::init`].
    pub fn create(ipv4_routes: u32, ipv6_routes: u32) -> Result<Self, NoMemory> {
        Ok(Self {
            ipv4: Fib::create(ipv4_routes)?,
            ipv6: Fib::create(ipv6_routes)?,
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
    /// Bytes of DPDK's memory that a table for so many routes takes.
    #[must_use]
    pub fn bytes(max_routes: u32) -> u64 {
        Nodes::bytes(K::nodes(max_routes)) + Leaves::bytes(max_routes)
    }

    /// Makes an empty table for at most `max_routes`, the route to everything not counted. Call after
    /// [`voicelane_dpdk::Eal::init`].
    pub fn create(max_routes: u32) -> Result<Self, NoMemory> {
        Ok(Self {
            nodes: Nodes::create(K::FAMILY, K::nodes(max_routes))?,
            leaves: Leaves::create(K::FAMILY, max_routes)?,
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
            Found::End => self.nodes.route(path.last(), route.place()) != NO_ROUTE,
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
            Found::End => self.nodes.set(path.last(), route.place(), next_hop),
            Found::Itself(number) => self.leaves.set(number, leaf),
            Found::Nothing => {
                let child = Child::Leaf(self.leaves.add(leaf));
                self.nodes.put(path.last(), route.step(path.level()), child);
            }
            Found::Other(number) => self.split(&path, number, leaf)?,
        }
        self.routes += u32::from(!known);
        Ok(())
    }

    /// Makes nodes where there was a leaf, down to the one where it and another route part.
    fn split(&mut self, path: &Path, number: u32, new: Leaf) -> Result<(), FibError> {
        let old = self.leaves.leaf(number);
        let first = path.level() + 1;
        let mut last = first;
        while old.route.level() > last
            && new.route.level() > last
            && old.route.step(last) == new.route.step(last)
        {
            last += 1;
        }
        if last - path.level() > self.nodes.left() {
            return Err(FibError::Nodes {
                family: K::FAMILY,
                routes: self.routes,
                nodes: self.nodes.in_use() + self.nodes.left(),
            });
        }
        let mut node = path.last();
        for level in first..=last {
            let below = self.nodes.take();
            self.nodes
                .put(node, new.route.step(level - 1), Child::Node(below));
            node = below;
        }
        if old.route.level() == last {
            self.nodes.set(node, old.route.place(), old.next_hop);
            self.leaves.remove(number);
        } else {
            self.nodes
                .put(node, old.route.step(last), Child::Leaf(number));
        }
        if new.route.level() == last {
            self.nodes.set(node, new.route.place(), new.next_hop);
        } else {
            let child = Child::Leaf(self.leaves.add(new));
            self.nodes.put(node, new.route.step(last), child);
        }
        Ok(())
    }

    /// Removes a route.
    pub fn remove(&mut self, prefix: K, length: u8) -> Result<(), FibError> {
        if length == 0 {
            self.default = NO_ROUTE;
            return Ok(());
        }
        let route = Self::route(prefix, length)?;
        let (mut path, found) = self.find(&route);
        match found {
            Found::End if self.nodes.route(path.last(), route.place()) != NO_ROUTE => {
                self.nodes.clear(path.last(), route.place());
            }
            Found::Itself(number) => {
                let step = route.step(path.level());
                self.nodes.put(path.last(), step, Child::None);
                self.leaves.remove(number);
            }
            _ => return Err(FibError::Missing),
        }
        self.routes -= 1;
        // A node that is there for one route only becomes a leaf, and so may the one above.
        while path.level() > 0 {
            let node = path.last();
            let leaf = match self.nodes.only_route(node) {
                None => break,
                Some(Only::Ending(place)) => {
                    let next_hop = self.nodes.route(node, place);
                    self.nodes.clear(node, place);
                    let route = route.beside(path.level(), place);
                    self.leaves.add(Leaf { route, next_hop })
                }
                Some(Only::Below(step, leaf)) => {
                    self.nodes.put(node, step, Child::None);
                    leaf
                }
            };
            self.nodes.give(node);
            path.pop();
            let step = route.step(path.level());
            self.nodes.put(path.last(), step, Child::Leaf(leaf));
        }
        Ok(())
    }

    fn route(prefix: K, length: u8) -> Result<Route, FibError> {
        if length > K::BITS {
            return Err(FibError::PrefixLength(length));
        }
        Ok(Route::new(prefix.bits(), length))
    }

    /// The nodes on the way to a route, and what is there.
    fn find(&self, route: &Route) -> (Path, Found) {
        let mut path = Path::new();
        while path.level() < route.level() {
            let step = route.step(path.level());
            match self.nodes.entry(path.last(), step).child() {
                Child::None => return (path, Found::Nothing),
                Child::Leaf(number) if self.leaves.leaf(number).route == *route => {
                    return (path, Found::Itself(number));
                }
                Child::Leaf(number) => return (path, Found::Other(number)),
                Child::Node(node) => path.push(node),
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
    /// Its leaf.
    Itself(u32),
    /// Another route's leaf.
    Other(u32),
    /// An entry with nothing below.
    Nothing,
}

/// The nodes on the way down to a route: as many levels as IPv6 has.
#[derive(Clone, Copy, Debug)]
struct Path {
    nodes: [u32; 15],
    level: u32,
}

impl Path {
    fn new() -> Self {
        Self {
            nodes: [ROOT; 15],
            level: 0,
        }
    }

    fn level(&self) -> u32 {
        self.level
    }

    fn last(&self) -> u32 {
        self.nodes[self.level as usize]
    }

    fn push(&mut self, node: u32) {
        self.level += 1;
        self.nodes[self.level as usize] = node;
    }

    fn pop(&mut self) {
        self.level -= 1;
    }
}
