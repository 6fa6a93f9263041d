//! What next hops' numbers stand for.

use thiserror::Error;

use super::fib::FibError;
use crate::{
    diffserv::Phb,
    units::{InterfaceIndex, MacAddress, PortIndex, VlanId},
    wire::TAG_BYTES,
};

/// An index into the worker's table of adjacencies, 1 to 32,767. 0 stands for "no route".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop(pub u16);

/// Why a route was not changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RouteError {
    /// No such next hop, or 0.
    #[error("next hop {0} is not between 1 and 32767")]
    NextHop(u16),
    #[error("there is no interface {0}")]
    Interface(u8),
    /// The route table refused.
    #[error(transparent)]
    Table(#[from] FibError),
}

/// What a next hop means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjacency {
    /// Drops the packet and counts it ([`DropReason::Blackhole`](crate::stats::DropReason::Blackhole)).
    Blackhole,
    /// It is for the router itself.
    Local,
    /// It is for an interface that only the kernel has.
    Kernel,
    /// The kernel must find the neighbour first, or answer that there is none.
    Resolve,
    /// Out of this interface, to this neighbour.
    Forward {
        /// The interface that the packets leave by.
        interface: InterfaceIndex,
        /// The neighbour's MAC address.
        destination: MacAddress,
        /// The MAC address of the port itself.
        source: MacAddress,
    },
    /// The same, for packets that are not longer than a route's MTU.
    Narrow {
        /// The interface that the packets leave by.
        interface: InterfaceIndex,
        /// The neighbour's MAC address.
        destination: MacAddress,
        /// The MAC address of the port itself.
        source: MacAddress,
        /// The largest packet, in bytes.
        mtu: u16,
    },
}

/// What a next hop's number stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hop {
    Unset,
    Forward(Neighbour),
    Exception(Adjacency),
    /// Several other next hops, in this place of the groups.
    Several(u16),
}

/// An interface that packets leave by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutInterface {
    pub(crate) port: PortIndex,
    pub(crate) vlan: Option<VlanId>,
    pub(crate) mtu: u16,
}

/// [`Adjacency::Forward`] with what is needed of its interface, so that a packet touches nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    /// Destination and source, as a frame begins.
    pub(crate) addresses: [u8; 12],
    pub(crate) mtu: u16,
    /// The largest packet that the route lets through, whatever the interface's MTU.
    limit: u16,
    pub(crate) vlan: Option<VlanId>,
    pub(crate) exit: Exit,
}

impl Neighbour {
    pub(crate) fn new(
        out: OutInterface,
        destination: MacAddress,
        source: MacAddress,
        limit: u16,
    ) -> Self {
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&destination.0);
        addresses[6..].copy_from_slice(&source.0);
        Self {
            addresses,
            mtu: out.mtu.min(limit),
            limit,
            vlan: out.vlan,
            exit: Exit::new(out.port, out.vlan),
        }
    }

    pub(crate) fn destination(&self) -> MacAddress {
        let [a, b, c, d, e, f, ..] = self.addresses;
        MacAddress([a, b, c, d, e, f])
    }

    /// Takes over the MTU of an interface, if it is behind that.
    pub(crate) fn set_mtu(&mut self, out: OutInterface) {
        if (self.exit, self.vlan) == (Exit::new(out.port, out.vlan), out.vlan) {
            self.mtu = out.mtu.min(self.limit);
        }
    }
}

/// Which port a packet leaves by, and by how many bytes a tag makes it longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u16);

impl Exit {
    pub(crate) fn new(port: PortIndex, vlan: Option<VlanId>) -> Self {
        Self(u16::from(port.0) << 8 | if vlan.is_some() { TAG_BYTES } else { 0 })
    }

    #[inline]
    pub(crate) fn port(self) -> PortIndex {
        PortIndex(self.0.to_be_bytes()[0])
    }

    #[inline]
    pub(crate) fn tag_bytes(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// With the class: which queue it is.
    #[inline]
    pub(crate) fn queue(self, phb: Phb) -> u16 {
        self.0 & 0xff00 | phb as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_says_port_and_tag() {
        let exit = Exit::new(PortIndex(255), VlanId::new(7).ok());
        assert_eq!((exit.port(), exit.tag_bytes()), (PortIndex(255), 4));
        assert_eq!(exit.queue(Phb::LowerEffort), 0xff0c);
        assert_eq!(Exit::new(PortIndex(3), None).tag_bytes(), 0);
    }
}
