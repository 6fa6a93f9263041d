mod paths;

use std::net::IpAddr;

use voicelane_dpdk::BURST;

use super::{Burst, Family, Interface, Lookups, Meta, Placed, Verdict, tag};
use crate::{
    control::{NextHop, RouteError},
    counters::{DropReason, PuntReason},
    device::Buffer,
    fib::{self, Fibs, NO_ROUTE},
    units::{InterfaceIndex, MacAddress, PortIndex, VlanId},
    wire::{Ethernet, Ipv4, Ipv4Mut, Ipv6, Ipv6Mut, Tci},
};

pub use paths::Paths;
pub(crate) use paths::flow_hash;

/// What a next hop means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjacency {
    /// Drop it.
    Blackhole,
    /// It is for the router itself, or for an interface that only the kernel has.
    Local,
    /// The kernel must find the neighbour first, or answer that there is none.
    Resolve,
    /// Out of this interface, to this neighbour.
    Forward {
        /// Which interface.
        interface: InterfaceIndex,
        /// The neighbour's address.
        destination: MacAddress,
        /// The port's own.
        source: MacAddress,
    },
}

/// What a next hop's number stands for.
#[derive(Clone, Copy, Debug)]
enum Hop {
    Unset,
    Forward(Way),
    /// Anything but forwarding.
    Exception(Adjacency),
    /// Several other next hops, in this place of the groups.
    Several(u16),
}

/// [`Adjacency::Forward`] with what is needed of its interface, so that a packet touches nothing else.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Destination and source, as a frame begins.
    addresses: [u8; 12],
    mtu: u16,
    vlan: Option<VlanId>,
    port: PortIndex,
}

impl Way {
    fn new(interface: &Interface, destination: MacAddress, source: MacAddress) -> Self {
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&destination.0);
        addresses[6..].copy_from_slice(&source.0);
        Self {
            addresses,
            mtu: interface.mtu,
            vlan: interface.vlan,
            port: interface.port,
        }
    }
}

/// The route tables, and their next hops.
#[derive(Debug)]
pub(crate) struct Routes {
    fibs: Fibs,
    hops: Vec<Hop>,
    groups: Vec<Paths>,
    /// Places of the groups that are nobody's.
    free: Vec<u16>,
    /// Random, so that flows spread here as they did not at the router before.
    seed: [u64; 4],
}

impl Routes {
    pub(super) fn new(fibs: Fibs) -> Self {
        Self {
            fibs,
            hops: Vec::new(),
            groups: Vec::new(),
            free: Vec::new(),
            seed: rand::random(),
        }
    }

    pub(super) fn set_adjacency(
        &mut self,
        next_hop: NextHop,
        adjacency: Adjacency,
        interfaces: &[Interface],
    ) -> Result<(), RouteError> {
        let new = match adjacency {
            Adjacency::Forward {
                interface: index,
                destination,
                source,
            } => {
                let interface = interfaces
                    .get(index.index())
                    .ok_or(RouteError::Interface(index.0))?;
                Hop::Forward(Way::new(interface, destination, source))
            }
            exception => Hop::Exception(exception),
        };
        let hop = self.hop_mut(next_hop)?;
        if let Hop::Several(group) = std::mem::replace(hop, new) {
            self.free.push(group);
        }
        Ok(())
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

    pub(crate) fn insert(
        &mut self,
        prefix: IpAddr,
        length: u8,
        next_hop: NextHop,
    ) -> Result<(), RouteError> {
        if matches!(self.hop(next_hop.0), Hop::Unset) {
            return Err(RouteError::NextHop(next_hop.0));
        }
        match prefix {
            IpAddr::V4(prefix) => self.fibs.ipv4.insert(prefix.into(), length, next_hop.0),
            IpAddr::V6(prefix) => self.fibs.ipv6.insert(prefix.octets(), length, next_hop.0),
        }
        .map_err(RouteError::Table)
    }

    pub(crate) fn remove(&mut self, prefix: IpAddr, length: u8) -> Result<(), RouteError> {
        match prefix {
            IpAddr::V4(prefix) => self.fibs.ipv4.remove(prefix.into(), length),
            IpAddr::V6(prefix) => self.fibs.ipv6.remove(prefix.octets(), length),
        }
        .map_err(RouteError::Table)
    }

    /// The next hop of every packet of a burst, each in its place; behind the last one, and of those
    /// that go no further, anything.
    #[inline]
    fn lookup<B>(&self, burst: &Burst<B>) -> [u16; BURST] {
        let Lookups {
            destinations4,
            destinations6: Placed { items, places },
            ..
        } = &burst.lookups;
        let mut next_hops = [NO_ROUTE; BURST];
        let packets = burst.buffers.len();
        if items.len() == packets {
            // Each is in its packet's place.
            self.fibs.ipv6.lookup(items, &mut next_hops);
            return next_hops;
        }
        // IPv4 is looked up for every packet, so that places agree.
        if let Some(destinations) = destinations4.get(..packets) {
            self.fibs.ipv4.lookup(destinations, &mut next_hops);
        }
        if !items.is_empty() {
            let mut found = [NO_ROUTE; BURST];
            self.fibs.ipv6.lookup(items, &mut found);
            for (&place, found) in places.iter().zip(found) {
                if let Some(next_hop) = next_hops.get_mut(place) {
                    *next_hop = found;
                }
            }
        }
        next_hops
    }

    #[inline]
    fn hop(&self, next_hop: u16) -> &Hop {
        self.hops.get(usize::from(next_hop)).unwrap_or(&Hop::Unset)
    }

    fn hop_mut(&mut self, NextHop(number): NextHop) -> Result<&mut Hop, RouteError> {
        if number == NO_ROUTE || number > fib::MAX_NEXT_HOP {
            return Err(RouteError::NextHop(number));
        }
        let index = usize::from(number);
        if self.hops.len() <= index {
            self.hops.resize(index + 1, Hop::Unset);
        }
        Ok(&mut self.hops[index])
    }

    /// What a next hop stands for that is not simply one neighbour: of several ways, the one that a
    /// packet takes.
    #[inline(never)]
    fn choose<'a>(&'a self, hop: &'a Hop, frame: &[u8], family: Family) -> &'a Hop {
        let Hop::Several(group) = *hop else {
            return hop;
        };
        let packet = frame.get(Ethernet::LENGTH..).unwrap_or_default();
        let hash = match family {
            Family::V4 => paths::hash4(packet, &self.seed),
            Family::V6 => paths::hash6(packet, &self.seed),
        };
        match (self.groups.get(usize::from(group)), hash) {
            (Some(paths), Some(hash)) => self.hop(paths.choose(hash).0),
            _ => &Hop::Unset,
        }
    }
}

/// Finds each packet's way, by the longest prefix, and makes its headers those that it goes on with:
/// code point and hop limit, the next hop's address, its VLAN.
#[inline(never)]
pub(super) fn route<B: Buffer>(burst: &mut Burst<B>, routes: &Routes) {
    let next_hops = routes.lookup(burst);
    for ((buffer, meta), next_hop) in burst
        .buffers
        .iter_mut()
        .zip(&mut burst.metas)
        .zip(&next_hops)
    {
        if !meta.is_forwarded() {
            continue;
        }
        let mut hop = routes.hop(*next_hop);
        if !matches!(hop, Hop::Forward(_)) {
            hop = routes.choose(hop, buffer.bytes(), meta.family);
        }
        match hop {
            Hop::Forward(way) if meta.ttl > 1 && meta.ip_bytes <= u32::from(way.mtu) => {
                write_headers(buffer.bytes_mut(), meta, way);
                meta.egress = way.port;
                if let Some(vlan) = way.vlan
                    && let Err(reason) = tag::put(buffer, Tci::new(vlan, meta.dscp))
                {
                    meta.verdict = Verdict::Drop(reason);
                }
            }
            exception => {
                // The kernel sends on what it gets, marked.
                write_class(buffer.bytes_mut(), meta);
                meta.verdict = exceptional(exception, meta.ttl);
            }
        }
    }
}

/// Makes a frame's headers those that it goes on with. All of a header is there: `parse` has seen it.
#[inline]
fn write_headers(frame: &mut [u8], meta: &Meta, way: &Way) {
    const FRAME4: usize = Ethernet::LENGTH + Ipv4::LENGTH;
    const FRAME6: usize = Ethernet::LENGTH + Ipv6::LENGTH;
    match meta.family {
        Family::V4 => {
            let headers = frame.first_chunk_mut::<FRAME4>();
            let packet = headers.map(|headers| Ethernet::readdress(headers, &way.addresses));
            if let Some(mut ip) = packet.and_then(Ipv4Mut::new) {
                ip.forward(meta.marked);
            }
        }
        Family::V6 => {
            let headers = frame.first_chunk_mut::<FRAME6>();
            let packet = headers.map(|headers| Ethernet::readdress(headers, &way.addresses));
            if let Some(mut ip) = packet.and_then(Ipv6Mut::new) {
                ip.forward(meta.marked);
            }
        }
    }
}

/// Writes the code point alone.
#[cold]
fn write_class(frame: &mut [u8], meta: &Meta) {
    let packet = frame.get_mut(Ethernet::LENGTH..).unwrap_or_default();
    match meta.family {
        Family::V4 => {
            if let Some(mut ip) = Ipv4Mut::new(packet) {
                ip.set_traffic_class(meta.marked);
            }
        }
        Family::V6 => {
            if let Some(mut ip) = Ipv6Mut::new(packet) {
                ip.set_traffic_class(meta.marked);
            }
        }
    }
}

/// What becomes of a packet that is not simply sent to a neighbour.
#[cold]
fn exceptional(hop: &Hop, ttl: u8) -> Verdict {
    match hop {
        // A group of groups cannot be set; it would be the kernel's.
        Hop::Unset | Hop::Several(_) => Verdict::Punt(PuntReason::NoRoute),
        Hop::Exception(Adjacency::Blackhole) => Verdict::Drop(DropReason::Blackhole),
        Hop::Exception(Adjacency::Local) => Verdict::Punt(PuntReason::Local),
        // The kernel takes the TTL off itself, where it forwards.
        _ if ttl <= 1 => Verdict::Punt(PuntReason::TtlExpired),
        Hop::Exception(_) => Verdict::Punt(PuntReason::UnknownNeighbour),
        Hop::Forward(_) => Verdict::Punt(PuntReason::Oversize),
    }
}
