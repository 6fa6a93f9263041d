use std::{fmt, iter};

use voicelane_dpdk::{Memory, NoMemory};

/// Entries of a node.
const WIDTH: usize = 256;
/// Places for routes of a node: a binary tree above the entries.
const PLACES: usize = 2 * WIDTH;
/// Its entries, and places, are as many as those of [`ROOT_WIDTH`] nodes, which it takes the place of.
pub(super) const ROOT: u32 = 1;
const ROOT_WIDTH: u32 = 256;
/// The first node that is none of these, and not 0, the node in which there is nothing.
const FIRST: u32 = ROOT + ROOT_WIDTH;

/// What is below an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    None,
    Node(u32),
    /// One route, and no other.
    Leaf(u32),
}

/// Where the longest route in a node leads, and where longer ones are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    const HOP: u64 = 0xffff;
    const CHILD_SHIFT: u32 = 32;
    const LEAF: u32 = 1 << 31;

    /// Where it leads, or where a shorter route does.
    #[inline]
    pub(super) fn hop_or(self, shorter: u16) -> u16 {
        if self.hop() == 0 { shorter } else { self.hop() }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the low 16 bits")]
    fn hop(self) -> u16 {
        self.0 as u16
    }

    #[inline]
    pub(super) fn has_child(self) -> bool {
        self.0 >> Self::CHILD_SHIFT != 0
    }

    /// The leaf below, or else the node: one in which there is nothing, if there is none.
    #[inline]
    pub(super) fn below(self) -> Result<u32, u32> {
        match self.child() {
            Child::None => Err(0),
            Child::Node(node) => Err(node),
            Child::Leaf(leaf) => Ok(leaf),
        }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the high 32 bits")]
    pub(super) fn child(self) -> Child {
        match (self.0 >> Self::CHILD_SHIFT) as u32 {
            0 => Child::None,
            leaf if leaf & Self::LEAF != 0 => Child::Leaf(leaf & !Self::LEAF),
            node => Child::Node(node),
        }
    }
}

/// The trie's nodes, in DPDK's memory.
pub(super) struct Nodes {
    /// [`Entry`]s, [`WIDTH`] a node.
    entries: Memory<u64>,
    /// Next hops of the routes that end in a node, [`PLACES`] a node: the route of `n` bits in the
    /// node, which are `v`, is in the place `2^n + v`.
    routes: Memory<u16>,
    /// How many routes end in a node, and how many entries have something below.
    users: Vec<u32>,
    /// Nodes that were used before.
    free: Vec<u32>,
    /// The first that never was.
    unused: u32,
}

impl Nodes {
    /// Bytes of DPDK's memory for so many nodes beside the root.
    pub(super) fn bytes(count: u32) -> u64 {
        let node = size_of::<u64>() * WIDTH + size_of::<u16>() * PLACES;
        u64::from(count + FIRST) * u64::try_from(node).unwrap_or(u64::MAX)
    }

    pub(super) fn create(name: &str, count: u32) -> Result<Self, NoMemory> {
        let total = (count + FIRST) as usize;
        Ok(Self {
            entries: Memory::zeroed(name, total * WIDTH)?,
            routes: Memory::zeroed(name, total * PLACES)?,
            users: vec![0; total],
            free: Vec::with_capacity(total),
            unused: FIRST,
        })
    }

    pub(super) fn in_use(&self) -> u32 {
        self.unused - FIRST - self.reusable()
    }

    pub(super) fn left(&self) -> u32 {
        u32::try_from(self.users.len()).unwrap_or(u32::MAX) - self.unused + self.reusable()
    }

    fn reusable(&self) -> u32 {
        u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }

    #[inline]
    pub(super) fn entry(&self, node: u32, step: usize) -> Entry {
        let index = node as usize * WIDTH + step;
        Entry(self.entries.get(index).copied().unwrap_or(0))
    }

    /// The root's entries.
    #[inline]
    pub(super) fn root(&self) -> &[u64] {
        self.entries
            .get(ROOT as usize * WIDTH..FIRST as usize * WIDTH)
            .unwrap_or_default()
    }

    /// Where the route in this place of a node leads; 0: there is none.
    pub(super) fn route(&self, node: u32, place: usize) -> u16 {
        self.routes[node as usize * PLACES + place]
    }

    /// An empty node. There must be one left.
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.unused += 1;
            self.unused - 1
        })
    }

    /// Gives back a node that nothing uses and no entry leads to.
    pub(super) fn give(&mut self, node: u32) {
        self.free.push(node);
    }

    /// Says what is below an entry.
    pub(super) fn put(&mut self, node: u32, step: usize, child: Child) {
        let users = &mut self.users[node as usize];
        let entry = &mut self.entries[node as usize * WIDTH + step];
        *users -= u32::from(Entry(*entry).has_child());
        let number = match child {
            Child::None => 0,
            Child::Node(node) => node,
            Child::Leaf(leaf) => leaf | Entry::LEAF,
        };
        *users += u32::from(number != 0);
        *entry = *entry & Entry::HOP | u64::from(number) << Entry::CHILD_SHIFT;
    }

    /// Adds a route to a node, or changes it.
    pub(super) fn set(&mut self, node: u32, place: usize, next_hop: u16) {
        let route = &mut self.routes[node as usize * PLACES + place];
        self.users[node as usize] += u32::from(*route == 0);
        *route = next_hop;
        self.paint(node, place, next_hop);
    }

    /// Takes a route out of a node; what it covered falls to the next shorter one in the node.
    pub(super) fn clear(&mut self, node: u32, place: usize) {
        self.routes[node as usize * PLACES + place] = 0;
        self.users[node as usize] -= 1;
        self.paint(node, place, self.covering(node, place));
    }

    /// Where the longest route in a node leads that covers a place.
    fn covering(&self, node: u32, place: usize) -> u16 {
        iter::successors(Some(place), |place| Some(place / 2))
            .take_while(|&place| place > 0)
            .map(|place| self.route(node, place))
            .find(|&route| route != 0)
            .unwrap_or(0)
    }

    /// Writes the entries under a place that no longer route covers.
    fn paint(&mut self, node: u32, place: usize, next_hop: u16) {
        let width = Self::width(node);
        if place >= width {
            let entry = &mut self.entries[node as usize * WIDTH + place - width];
            *entry = *entry & !Entry::HOP | u64::from(next_hop);
            return;
        }
        for below in [2 * place, 2 * place + 1] {
            if self.route(node, below) == 0 {
                self.paint(node, below, next_hop);
            }
        }
    }

    fn width(node: u32) -> usize {
        if node == ROOT {
            WIDTH * ROOT_WIDTH as usize
        } else {
            WIDTH
        }
    }

    /// What alone uses a node, if it has one user and that is a route.
    pub(super) fn only_route(&self, node: u32) -> Option<Only> {
        if self.users[node as usize] != 1 {
            return None;
        }
        let width = Self::width(node);
        let ending = (1..2 * width).find(|&place| self.route(node, place) != 0);
        ending.map(Only::Ending).or_else(|| {
            (0..width).find_map(|step| match self.entry(node, step).child() {
                Child::Leaf(leaf) => Some(Only::Below(step, leaf)),
                _ => None,
            })
        })
    }

    /// Checks that entries, routes and counts agree. Returns how many routes end in nodes, and the
    /// leaves.
    pub(super) fn invariants(&self) -> (u32, Vec<u32>) {
        let (mut routes, mut leaves) = (0, Vec::new());
        let mut seen = vec![false; self.users.len()];
        let mut open = vec![ROOT];
        while let Some(node) = open.pop() {
            assert!(!seen[node as usize], "a node is below one entry");
            seen[node as usize] = true;
            let width = Self::width(node);
            let mut users = 0;
            for place in 1..2 * width {
                users += u32::from(self.route(node, place) != 0);
            }
            routes += users;
            for step in 0..width {
                let entry = self.entry(node, step);
                let covering = self.covering(node, width + step);
                assert_eq!(entry.hop(), covering, "the longest in the node");
                match entry.child() {
                    Child::None => continue,
                    Child::Node(node) => open.push(node),
                    Child::Leaf(leaf) => leaves.push(leaf),
                }
                users += 1;
            }
            assert_eq!(users, self.users[node as usize], "users are counted");
            let needed = node == ROOT || users > 0 && self.only_route(node).is_none();
            assert!(needed, "a node is there for several routes");
        }
        assert_eq!(self.users[0], 0, "in node 0 there is nothing");
        for &free in &self.free {
            assert!(!seen[free as usize], "a free node is nowhere");
        }
        let found = seen.iter().filter(|seen| **seen).count();
        assert_eq!(found, self.in_use() as usize + 1, "nodes are counted");
        (routes, leaves)
    }
}

/// A node's only user.
#[derive(Clone, Copy, Debug)]
pub(super) enum Only {
    /// A route that ends in this place.
    Ending(usize),
    /// A leaf below this entry.
    Below(usize, u32),
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes")
            .field("in_use", &self.in_use())
            .field("left", &self.left())
            .finish_non_exhaustive()
    }
}
