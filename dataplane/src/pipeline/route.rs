use std::net::IpAddr;

use arrayvec::ArrayVec;
use voicelane_dpdk::{BURST, Fib4, Fib6};

use super::{Burst, Family, Placed, Port, Verdict};
use crate::{
    control::{NextHop, RouteError},
    counters::{DropReason, PuntReason},
    device::Buffer,
    units::{MacAddress, PortIndex},
    wire::{Ethernet, Ipv4Mut, Ipv6Mut},
};

/// What a next hop means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjacency {
    /// Drop it.
    Blackhole,
    /// It is for the router itself, or for an interface that only the kernel has.
    Local,
    /// The kernel must find the neighbour first, or answer that there is none.
    Resolve,
    /// Out of this port, to this neighbour.
    Forward {
        /// Which port.
        port: PortIndex,
        /// The neighbour's address.
        destination: MacAddress,
        /// The port's own.
        source: MacAddress,
    },
}

/// The empty route tables that a worker starts with.
#[derive(Debug)]
pub struct Fibs {
    /// IPv4's.
    pub ipv4: Fib4,
    /// IPv6's.
    pub ipv6: Fib6,
}

/// The route tables, and their next hops.
#[derive(Debug)]
pub(crate) struct Routes {
    fibs: Fibs,
    adjacencies: Vec<Option<Adjacency>>,
}

impl Routes {
    pub(super) fn new(fibs: Fibs) -> Self {
        Self {
            fibs,
            adjacencies: Vec::new(),
        }
    }

    pub(crate) fn set_adjacency(
        &mut self,
        next_hop: NextHop,
        adjacency: Adjacency,
        ports: usize,
    ) -> Result<(), RouteError> {
        let NextHop(number) = next_hop;
        if number == Fib4::NONE || number > Fib4::MAX_NEXT_HOP {
            return Err(RouteError::NextHop(number));
        }
        if let Adjacency::Forward { port, .. } = adjacency
            && port.index() >= ports
        {
            return Err(RouteError::Port(port.0));
        }
        let index = usize::from(number);
        if self.adjacencies.len() <= index {
            self.adjacencies.resize(index + 1, None);
        }
        self.adjacencies[index] = Some(adjacency);
        Ok(())
    }

    pub(crate) fn insert(
        &mut self,
        prefix: IpAddr,
        length: u8,
        next_hop: NextHop,
    ) -> Result<(), RouteError> {
        if self.adjacency(next_hop.0).is_none() {
            return Err(RouteError::NextHop(next_hop.0));
        }
        match prefix {
            IpAddr::V4(prefix) => self.fibs.ipv4.insert(prefix, length, next_hop.0),
            IpAddr::V6(prefix) => self.fibs.ipv6.insert(prefix, length, next_hop.0),
        }
        .map_err(|error| RouteError::Table(error.to_string()))
    }

    pub(crate) fn remove(&mut self, prefix: IpAddr, length: u8) -> Result<(), RouteError> {
        match prefix {
            IpAddr::V4(prefix) => self.fibs.ipv4.remove(prefix, length),
            IpAddr::V6(prefix) => self.fibs.ipv6.remove(prefix, length),
        }
        .map_err(|error| RouteError::Table(error.to_string()))
    }

    /// The next hop of every packet of a burst, each in its place.
    #[inline]
    fn lookup<B>(&self, burst: &Burst<B>) -> [u16; BURST] {
        let mut next_hops = [Fib4::NONE; BURST];
        // IPv4 is looked up for every packet, so that places agree; what comes of those that go no
        // further, or are IPv6, is not read.
        let destinations: ArrayVec<u32, BURST> =
            burst.metas.iter().map(|meta| meta.destination).collect();
        self.fibs.ipv4.lookup(&destinations, &mut next_hops);

        let Placed { items, places } = &burst.lookups.destinations6;
        if !items.is_empty() {
            let mut found = [Fib4::NONE; BURST];
            self.fibs.ipv6.lookup(items, &mut found);
            for (&place, found) in places.iter().zip(found) {
                if let Some(next_hop) = next_hops.get_mut(usize::from(place)) {
                    *next_hop = found;
                }
            }
        }
        next_hops
    }

    #[inline]
    fn adjacency(&self, next_hop: u16) -> Option<&Adjacency> {
        self.adjacencies.get(usize::from(next_hop))?.as_ref()
    }
}

/// Finds each packet's way, by the longest prefix, and addresses it to the next hop.
#[inline(never)]
pub(super) fn route<B: Buffer>(burst: &mut Burst<B>, routes: &Routes, ports: &[Port<B>]) {
    let next_hops = routes.lookup(burst);
    for ((buffer, meta), next_hop) in burst
        .buffers
        .iter_mut()
        .zip(&mut burst.metas)
        .zip(next_hops)
    {
        if !meta.is_forwarded() {
            continue;
        }
        meta.verdict = match routes.adjacency(next_hop) {
            Some(&Adjacency::Forward {
                port,
                destination,
                source,
            }) if meta.ttl > 1
                && ports
                    .get(port.index())
                    .is_some_and(|port| meta.ip_bytes <= u32::from(port.mtu)) =>
            {
                let frame = buffer.bytes_mut();
                Ethernet::readdress(frame, destination, source);
                let packet = frame.get_mut(Ethernet::LENGTH..).unwrap_or_default();
                match meta.family {
                    Family::V4 => {
                        if let Some(mut ip) = Ipv4Mut::new(packet) {
                            ip.decrement_ttl();
                        }
                    }
                    Family::V6 => {
                        if let Some(mut ip) = Ipv6Mut::new(packet) {
                            ip.decrement_hop_limit();
                        }
                    }
                }
                meta.egress = port;
                Verdict::Forward
            }
            exception => exceptional(exception, meta.ttl),
        };
    }
}

/// What becomes of a packet that is not simply sent to a neighbour.
#[cold]
fn exceptional(adjacency: Option<&Adjacency>, ttl: u8) -> Verdict {
    match adjacency {
        None => Verdict::Punt(PuntReason::NoRoute),
        Some(Adjacency::Blackhole) => Verdict::Drop(DropReason::Blackhole),
        Some(Adjacency::Local) => Verdict::Punt(PuntReason::Local),
        // The kernel takes the TTL off itself, where it forwards.
        Some(_) if ttl <= 1 => Verdict::Punt(PuntReason::TtlExpired),
        Some(Adjacency::Resolve) => Verdict::Punt(PuntReason::UnknownNeighbour),
        Some(Adjacency::Forward { .. }) => Verdict::Punt(PuntReason::Oversize),
    }
}
