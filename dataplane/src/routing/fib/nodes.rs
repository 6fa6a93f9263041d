use std::{fmt, iter};

use voicelane_machine::{Allocator, Memory, NoMemory};

use super::{
    entry::{Below, Entry, Node},
    route::Route,
};

const WIDTH: usize = Entry::WIDTH;
/// Places for routes of a node: a binary tree above the entries.
const PLACES: usize = 2 * WIDTH;
/// Its entries, and places, are as many as those of [`ROOT_WIDTH`] nodes, which it takes the place of.
pub(super) const ROOT: Node = Node {
    number: 1,
    above: 0,
};
const ROOT_WIDTH: u32 = 256;
const ROOT_ENTRIES: usize = WIDTH * ROOT_WIDTH as usize;
/// The first node that is none of these, and not 0, the node in which there is nothing.
const FIRST: u32 = ROOT.number + ROOT_WIDTH;

/// The first bits of an address, by how many bytes they are.
const MASKS: [u128; 16] = {
    let (mut masks, mut bytes) = ([0; 16], 1);
    while bytes < 16 {
        masks[bytes] = u128::MAX << (128 - 8 * bytes);
        bytes += 1;
    }
    masks
};

/// The trie's nodes, in an allocator's memory.
pub(super) struct Nodes {
    /// [`Entry`]s, [`WIDTH`] a node.
    entries: Memory<u64>,
    /// Next hops of the routes that end in a node, [`PLACES`] a node: the route of `n` bits in the
    /// node, which are `v`, is in the place `2^n + v`.
    routes: Memory<u16>,
    /// The bits above a node, the first the highest, then zeroes.
    ways: Memory<[u64; 2]>,
    /// How many routes end in a node, and how many entries have something below.
    users: Vec<u32>,
    /// Nodes that were used before.
    free: Vec<u32>,
    /// The first that never was.
    unused: u32,
}

impl Nodes {
    /// Bytes of the allocator's memory for so many nodes beside the root.
    pub(super) fn bytes(count: u32) -> u64 {
        let node = size_of::<u64>() * WIDTH + size_of::<u16>() * PLACES + size_of::<[u64; 2]>();
        u64::from(count + FIRST) * u64::try_from(node).unwrap_or(u64::MAX)
    }

    pub(super) fn create(
        name: &str,
        count: u32,
        memory: &'static dyn Allocator,
    ) -> Result<Self, NoMemory> {
        let total = (count + FIRST) as usize;
        Ok(Self {
            entries: Memory::zeroed(name, total * WIDTH, memory)?,
            routes: Memory::zeroed(name, total * PLACES, memory)?,
            ways: Memory::zeroed(name, total, memory)?,
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

    /// All entries: those of a node are together.
    #[inline]
    pub(super) fn entries(&self) -> &[u64] {
        &self.entries
    }

    /// The root's entries. There always are.
    #[inline]
    pub(super) fn root(&self) -> Option<&[u64; ROOT_ENTRIES]> {
        self.entries
            .get(ROOT.number as usize * WIDTH..)?
            .first_chunk()
    }

    /// Whether the node below an entry is on an address's way.
    #[inline]
    pub(super) fn is_on_way(&self, entry: Entry, address: u128) -> bool {
        let way = self.ways.get(entry.first() / WIDTH);
        let mask = MASKS[usize::from(entry.above() / 8) % MASKS.len()];
        way.is_some_and(|&[high, low]| {
            (address ^ (u128::from(high) << 64 | u128::from(low))) & mask == 0
        })
    }

    /// The bits above a node.
    pub(super) fn way(&self, node: Node) -> Route {
        let [high, low] = self.ways[node.number as usize];
        Route::unpack([high, low, node.above.into()])
    }

    pub(super) fn entry(&self, node: Node, step: usize) -> Entry {
        Entry(self.entries[node.number as usize * WIDTH + step])
    }

    /// Where the route in this place of a node leads; 0: there is none.
    pub(super) fn route(&self, node: Node, place: usize) -> u16 {
        self.routes[node.number as usize * PLACES + place]
    }

    /// An empty node with so many of a route's bits above. There must be one left.
    pub(super) fn take(&mut self, route: &Route, above: u8) -> Node {
        let number = self.free.pop().unwrap_or_else(|| {
            self.unused += 1;
            self.unused - 1
        });
        let [high, low, _] = route.cut(above).pack();
        self.ways[number as usize] = [high, low];
        Node { number, above }
    }

    /// Gives back a node that nothing uses and no entry leads to.
    pub(super) fn give(&mut self, node: Node) {
        self.free.push(node.number);
    }

    /// Says what is below an entry.
    pub(super) fn put(&mut self, node: Node, step: usize, below: Option<Below>) {
        let users = &mut self.users[node.number as usize];
        let word = &mut self.entries[node.number as usize * WIDTH + step];
        let entry = Entry(*word);
        *users -= u32::from(entry.has_below());
        *users += u32::from(below.is_some());
        *word = entry.with_below(node.above, below).0;
    }

    /// Adds a route to a node, or changes it.
    pub(super) fn set(&mut self, node: Node, place: usize, next_hop: u16) {
        let route = &mut self.routes[node.number as usize * PLACES + place];
        self.users[node.number as usize] += u32::from(*route == 0);
        *route = next_hop;
        self.paint(node, place, next_hop);
    }

    /// Takes a route out of a node; what it covered falls to the next shorter one in the node.
    pub(super) fn clear(&mut self, node: Node, place: usize) {
        self.routes[node.number as usize * PLACES + place] = 0;
        self.users[node.number as usize] -= 1;
        self.paint(node, place, self.covering(node, place));
    }

    /// Where the longest route in a node leads that covers a place.
    fn covering(&self, node: Node, place: usize) -> u16 {
        iter::successors(Some(place), |place| Some(place / 2))
            .take_while(|&place| place > 0)
            .map(|place| self.route(node, place))
            .find(|&route| route != 0)
            .unwrap_or(0)
    }

    /// Writes the entries under a place that no longer route covers.
    fn paint(&mut self, node: Node, place: usize, next_hop: u16) {
        let width = Self::width(node);
        if place >= width {
            let word = &mut self.entries[node.number as usize * WIDTH + place - width];
            *word = Entry(*word).with_hop(next_hop).0;
            return;
        }
        for below in [2 * place, 2 * place + 1] {
            if self.route(node, below) == 0 {
                self.paint(node, below, next_hop);
            }
        }
    }

    fn width(node: Node) -> usize {
        if node == ROOT { ROOT_ENTRIES } else { WIDTH }
    }

    /// What alone uses a node, if it has one user.
    pub(super) fn only_user(&self, node: Node) -> Option<Only> {
        if self.users[node.number as usize] != 1 {
            return None;
        }
        let width = Self::width(node);
        let ending = (1..2 * width).find(|&place| self.route(node, place) != 0);
        ending.map(Only::Ending).or_else(|| {
            (0..width).find_map(|step| Some(Only::Below(step, self.entry(node, step).below()?)))
        })
    }

    /// Checks that entries, routes and counts agree. Returns how many routes end in nodes, and the
    /// leaves.
    pub(super) fn invariants(&self) -> (u32, Vec<u32>) {
        let (mut routes, mut leaves) = (0, Vec::new());
        let mut seen = vec![false; self.users.len()];
        let mut open = vec![ROOT];
        while let Some(node) = open.pop() {
            let number = node.number as usize;
            assert!(!seen[number], "a node is below one entry");
            seen[number] = true;
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
                match entry.below() {
                    None => continue,
                    Some(Below::Leaf(leaf)) => leaves.push(leaf),
                    Some(Below::Node(below)) => {
                        let way = self.way(below);
                        assert!(below.above > node.above, "it goes down");
                        assert_eq!(way.step(node.above), step, "bits above a node are its own");
                        assert_eq!(way.cut(below.above), way, "and no more");
                        let nodes = node == ROOT || way.cut(node.above) == self.way(node);
                        assert!(nodes, "and those of the node above");
                        open.push(below);
                    }
                }
                let again = Entry(entry.hop().into()).with_below(node.above, entry.below());
                assert_eq!(entry, again, "an entry says what to compare");
                users += 1;
            }
            assert_eq!(users, self.users[number], "users are counted");
            assert!(node == ROOT || users > 1, "a node has several users");
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
    /// This below this entry.
    Below(usize, Below),
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes")
            .field("in_use", &self.in_use())
            .field("left", &self.left())
            .finish_non_exhaustive()
    }
}
