//! Route tables, and what their next hops stand for.

pub mod fib;
mod interfaces;
mod next_hop;
mod own_addresses;
mod paths;

use std::net::IpAddr;

pub use fib::Fibs;
use fib::MAX_NEXT_HOP;
pub(crate) use fib::{Fib, Key, NO_ROUTE};
pub use interfaces::InterfaceSet;
pub use next_hop::{Adjacency, NextHop, RouteError};
pub(crate) use next_hop::{Exit, Hop, Neighbour, OutInterface};
pub use paths::Paths;
pub(crate) use paths::flow_hash;

use own_addresses::OwnEnds;

use crate::{
    policy::ReversePath,
    units::{InterfaceIndex, Ticks},
    wire::{Ethernet, IpVersion},
};

/// The route tables, and their next hops.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) fibs: Fibs,
    hops: Vec<Hop>,
    /// Of each next hop, in the order of `hops`.
    ways_in: Vec<InterfaceSet>,
    groups: Vec<Paths>,
    /// Places of the groups that are nobody's.
    free: Vec<u16>,
    /// When any route last changed.
    changed: Ticks,
    /// What the router's own addresses end with.
    own: OwnEnds,
    /// Random, so that flows spread here as they did not at the router before.
    seed: [u64; 4],
}

impl Routes {
    pub(crate) fn new(fibs: Fibs) -> Self {
        Self {
            fibs,
            hops: Vec::new(),
            ways_in: Vec::new(),
            groups: Vec::new(),
            free: Vec::new(),
            changed: Ticks(0),
            own: OwnEnds::default(),
            seed: rand::random(),
        }
    }

    pub(crate) fn set_adjacency(
        &mut self,
        next_hop: NextHop,
        adjacency: Adjacency,
        interface: impl Fn(InterfaceIndex) -> Option<OutInterface>,
    ) -> Result<(), RouteError> {
        let forward = |index: InterfaceIndex, destination, source, limit| {
            let out = interface(index).ok_or(RouteError::Interface(index.0))?;
            let neighbour = Neighbour::new(out, destination, source, limit);
            Ok::<_, RouteError>(Hop::Forward(neighbour))
        };
        let new = match adjacency {
            Adjacency::Forward {
                interface,
                destination,
                source,
            } => forward(interface, destination, source, u16::MAX)?,
            Adjacency::Narrow {
                interface,
                destination,
                source,
                mtu,
            } => forward(interface, destination, source, mtu)?,
            exception => Hop::Exception(exception),
        };
        let hop = self.hop_mut(next_hop)?;
        if let Hop::Several(group) = std::mem::replace(hop, new) {
            self.free.push(group);
        }
        Ok(())
    }

    /// Takes over the MTU of an interface.
    pub(crate) fn set_mtu(&mut self, interface: OutInterface) {
        for hop in &mut self.hops {
            if let Hop::Forward(neighbour) = hop {
                neighbour.set_mtu(interface);
            }
        }
    }

    /// Makes a next hop stand for several others, which must have been set, and be no such ones.
    pub(crate) fn set_paths(&mut self, next_hop: NextHop, paths: Paths) -> Result<(), RouteError> {
        for path in paths.buckets() {
            if path == next_hop || matches!(self.hop(path.0), Hop::Unset | Hop::Several(_)) {
                return Err(RouteError::NextHop(path.0));
            }
        }
        if let Hop::Several(group) = *self.hop_mut(next_hop)? {
            self.groups[usize::from(group)] = paths;
            return Ok(());
        }
        let group = if let Some(group) = self.free.pop() {
            self.groups[usize::from(group)] = paths;
            group
        } else {
            let group =
                u16::try_from(self.groups.len()).map_err(|_| RouteError::NextHop(next_hop.0))?;
            self.groups.push(paths);
            group
        };
        *self.hop_mut(next_hop)? = Hop::Several(group);
        Ok(())
    }

    /// From where packets may come whose source's route has this next hop.
    pub(crate) fn set_ways_in(
        &mut self,
        next_hop: NextHop,
        interfaces: InterfaceSet,
    ) -> Result<(), RouteError> {
        self.hop_mut(next_hop)?;
        if let Some(ways_in) = self.ways_in.get_mut(usize::from(next_hop.0)) {
            *ways_in = interfaces;
        }
        Ok(())
    }

    /// Whether packets may come in on an interface whose source's route has this next hop.
    #[inline]
    pub(crate) fn admits(
        &self,
        next_hop: u16,
        reverse_path: ReversePath,
        on: InterfaceIndex,
    ) -> bool {
        match reverse_path {
            ReversePath::Off => true,
            ReversePath::Strict => {
                let ways_in = self.ways_in.get(usize::from(next_hop));
                ways_in.is_some_and(|ways_in| ways_in.contains(on))
            }
            ReversePath::Loose => !matches!(
                self.hop(next_hop),
                Hop::Unset | Hop::Exception(Adjacency::Blackhole | Adjacency::Local)
            ),
        }
    }

    pub(crate) fn insert(
        &mut self,
        prefix: IpAddr,
        length: u8,
        next_hop: NextHop,
        now: Ticks,
    ) -> Result<(), RouteError> {
        if matches!(self.hop(next_hop.0), Hop::Unset) {
            return Err(RouteError::NextHop(next_hop.0));
        }
        self.changed = now;
        if matches!(self.hop(next_hop.0), Hop::Exception(Adjacency::Local)) {
            self.own.add(prefix);
        }
        match prefix {
            IpAddr::V4(prefix) => self.fibs.ipv4.insert(prefix.into(), length, next_hop.0),
            IpAddr::V6(prefix) => self.fibs.ipv6.insert(prefix.octets(), length, next_hop.0),
        }
        .map_err(RouteError::Table)
    }

    pub(crate) fn remove(
        &mut self,
        prefix: IpAddr,
        length: u8,
        now: Ticks,
    ) -> Result<(), RouteError> {
        self.changed = now;
        match prefix {
            IpAddr::V4(prefix) => self.fibs.ipv4.remove(prefix.into(), length),
            IpAddr::V6(prefix) => self.fibs.ipv6.remove(prefix.octets(), length),
        }
        .map_err(RouteError::Table)
    }

    /// When any route last changed.
    #[inline]
    pub(crate) fn changed(&self) -> Ticks {
        self.changed
    }

    #[inline]
    pub(crate) fn hop(&self, next_hop: u16) -> &Hop {
        self.hops.get(usize::from(next_hop)).unwrap_or(&Hop::Unset)
    }

    fn hop_mut(&mut self, NextHop(number): NextHop) -> Result<&mut Hop, RouteError> {
        if number == NO_ROUTE || number > MAX_NEXT_HOP {
            return Err(RouteError::NextHop(number));
        }
        let index = usize::from(number);
        if self.hops.len() <= index {
            self.hops.resize(index + 1, Hop::Unset);
            self.ways_in.resize(index + 1, InterfaceSet::NONE);
        }
        Ok(&mut self.hops[index])
    }

    /// Which next hop a packet takes, where its own stands for several.
    pub(crate) fn choose(&self, next_hop: u16, frame: &[u8], family: IpVersion) -> u16 {
        let Hop::Several(group) = *self.hop(next_hop) else {
            return next_hop;
        };
        let packet = frame.get(Ethernet::LENGTH..).unwrap_or_default();
        let hash = match family {
            IpVersion::V4 => paths::hash4(packet, &self.seed),
            IpVersion::V6 => paths::hash6(packet, &self.seed),
        };
        match (self.groups.get(usize::from(group)), hash) {
            (Some(paths), Some(hash)) => paths.choose(hash).0,
            _ => NO_ROUTE,
        }
    }

    /// Whether an address that ends with these two bytes may be one of the router's own.
    #[inline]
    pub(crate) fn may_be_own(&self, end: [u8; 2]) -> bool {
        self.own.has(end)
    }

    /// Whether an address is one of the router's own.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        let mut next_hop = [NO_ROUTE];
        match address {
            IpAddr::V4(address) => self.fibs.ipv4.lookup(&[address.into()], &mut next_hop),
            IpAddr::V6(address) => self.fibs.ipv6.lookup(&[address.octets()], &mut next_hop),
        }
        matches!(self.hop(next_hop[0]), Hop::Exception(Adjacency::Local))
    }

    /// The neighbour that a next hop stands for, if it stands for one.
    #[inline]
    pub(crate) fn neighbour(&self, next_hop: u16) -> Option<&Neighbour> {
        match self.hop(next_hop) {
            Hop::Forward(neighbour) => Some(neighbour),
            _ => None,
        }
    }
}
