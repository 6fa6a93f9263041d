//! What the kernel says of links, addresses, routes and neighbours.

use std::net::IpAddr;

use ipnet::IpNet;
use voicelane_dataplane::units::MacAddress;
use voicelane_types::IpVersion;

use super::routes::{Object, Place, Route};

/// A neighbour whose link-layer address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Where frames to it go.
    pub mac: MacAddress,
    /// The kernel has not heard of it for a while.
    pub stale: bool,
}

/// Something that the kernel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A route is there.
    RouteAdded(Route, Place),
    /// A route is gone.
    RouteRemoved(Route),
    /// A neighbour is known, or not any more.
    Neighbour {
        /// The kernel's number of the interface.
        interface: u32,
        /// The neighbour's IP address.
        address: IpAddr,
        /// `None`: the kernel has forgotten it.
        neighbour: Option<Neighbour>,
    },
    /// An interface has an address.
    AddressAdded {
        /// The kernel's index of the interface.
        interface: u32,
        /// The address with its prefix length.
        address: IpNet,
    },
    /// An interface has an address no more.
    AddressRemoved {
        /// The kernel's index of the interface.
        interface: u32,
        /// The address with its prefix length.
        address: IpNet,
    },
    /// A link is there, or has changed.
    Link {
        /// The kernel's index of the interface.
        interface: u32,
        /// As it is now.
        link: LinkState,
    },
    /// What is set of an interface's forwarding, or of all interfaces'.
    Forwarding {
        /// Which; `None` for all.
        interface: Option<u32>,
        /// The family that it holds for.
        family: IpVersion,
        /// What was said of it.
        forwarding: Forwarding,
    },
    /// A link is gone.
    LinkRemoved {
        /// The kernel's index of the interface.
        interface: u32,
    },
    /// A next hop object is there, is another, or is gone.
    Object {
        /// The kernel's number of the next-hop object.
        id: u32,
        /// What it is now.
        object: Option<Object>,
    },
    /// The kernel had more to say than it could keep.
    Overrun,
}

/// A network interface of the kernel, as netlink tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The interface's name, which can change.
    pub name: String,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// Its address, if that is one of Ethernet.
    pub mac: Option<MacAddress>,
    /// The link that it is on, where it is a macvlan: one more address of that link.
    pub macvlan_on: Option<u32>,
}

/// What is set of forwarding: `forwarding` and, of IPv6 since Linux 6.17, `force_forwarding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// `forwarding` of the interface; `None`: not told.
    pub on: Option<bool>,
    /// `force_forwarding` (Linux 6.17); `None`: not told.
    pub forced: Option<bool>,
}
