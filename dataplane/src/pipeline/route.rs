use std::net::Ipv4Addr;

use arrayvec::ArrayVec;
use voicelane_dpdk::{BURST, Fib4};

use super::{Burst, Port, Verdict};
use crate::{
    control::{NextHop, RouteError},
    counters::{DropReason, PuntReason},
    device::Buffer,
    units::{MacAddress, PortIndex},
    wire::{Ethernet, Ipv4Mut},
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

/// The route table and its next hops.
#[derive(Debug)]
pub(crate) struct Routes {
    fib: Fib4,
    adjacencies: Vec<Option<Adjacency>>,
}

impl Routes {
    pub(super) fn new(fib: Fib4) -> Self {
        Self {
            fib,
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
        prefix: Ipv4Addr,
        length: u8,
        next_hop: NextHop,
    ) -> Result<(), RouteError> {
        if self.adjacency(next_hop.0).is_none() {
            return Err(RouteError::NextHop(next_hop.0));
        }
        self.fib
            .insert(prefix, length, next_hop.0)
            .map_err(|error| RouteError::Table(error.to_string()))
    }

    pub(crate) fn remove(&mut self, prefix: Ipv4Addr, length: u8) -> Result<(), RouteError> {
        self.fib
            .remove(prefix, length)
            .map_err(|error| RouteError::Table(error.to_string()))
    }

    #[inline]
    fn adjacency(&self, next_hop: u16) -> Option<&Adjacency> {
        self.adjacencies.get(usize::from(next_hop))?.as_ref()
    }
}

/// Finds each packet's way, by the longest prefix, and addresses it to the next hop.
#[inline(never)]
pub(super) fn route<B: Buffer>(burst: &mut Burst<B>, routes: &Routes, ports: &[Port<B>]) {
    // Of every packet, so that places agree; what comes of those that go no further is not read.
    let destinations: ArrayVec<u32, BURST> =
        burst.metas.iter().map(|meta| meta.destination).collect();
    let mut next_hops = [Fib4::NONE; BURST];
    routes.fib.lookup(&destinations, &mut next_hops);

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
                    .is_some_and(|port| meta.ip_bytes <= port.mtu) =>
            {
                let frame = buffer.bytes_mut();
                Ethernet::readdress(frame, destination, source);
                if let Some(packet) = frame.get_mut(Ethernet::LENGTH..)
                    && let Some(mut ip) = Ipv4Mut::new(packet)
                {
                    ip.decrement_ttl();
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
