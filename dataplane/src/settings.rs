//! What a worker is told at its start, and of its interfaces later.

use std::{array, fmt, iter};

use arrayvec::ArrayVec;
use voicelane_machine::{Allocator, HEAP};

pub use crate::policy::Trust;
use crate::{
    diffserv::{ClassSettings, Phb},
    policy::ReversePath,
    stats::PuntClass,
    units::{BitRate, MacAddress, PortIndex, VlanId},
};

/// What a worker does while no packets arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: the lowest delay, a whole core.
    Poll,
    /// Sleeps, the longer the quieter it is, up to two milliseconds; shorter when a queue waits
    /// for its shaper.
    #[default]
    Adaptive,
}

/// What is behind an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Hosts: bleached and filtered by source by default.
    Edge,
    /// Other routers: trusted by default.
    Core,
}

impl Role {
    /// How far code points from there are believed by default.
    #[must_use]
    pub fn trust(self) -> Trust {
        match self {
            Self::Edge => Trust::Bleach,
            Self::Core => Trust::Keep,
        }
    }

    /// What the sources of packets from there must be by default.
    #[must_use]
    pub fn reverse_path(self) -> ReversePath {
        match self {
            Self::Edge => ReversePath::Strict,
            Self::Core => ReversePath::Off,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edge => "edge",
            Self::Core => "core",
        })
    }
}

/// How a worker serves a port: MAC address, trust, shaper, classes, VLANs.
#[derive(Clone, Debug)]
pub struct PortSettings {
    /// The address that frames for the router carry.
    pub mac: MacAddress,
    /// What is behind it without a tag.
    pub role: Role,
    /// Of what comes from it without a tag.
    pub trust: Trust,
    /// The shaper's rate, on the wire.
    pub rate: BitRate,
    /// What the wire adds to each frame: 24 on Ethernet (FCS 4, preamble 8, gap 12).
    pub overhead_bytes: u32,
    /// The most of the rate that strict-priority queues get while others wait.
    pub strict_cap: BitRate,
    /// The largest IP packet, with a tag or without.
    pub mtu: u16,
    /// Whether routers are behind it, so that routing protocols have more than [`PuntRates::edge_routing`].
    pub routing: bool,
    /// Its VLANs, each another one.
    pub vlans: Vec<VlanSettings>,
    /// The depth of the shaper, as time: how much may be sent at once to catch up after the loop
    /// was late.
    pub shaper_burst_ms: u32,
    /// Whether one of several workers receives all of it and hands the others theirs, as the device
    /// has one receive queue.
    pub one_receiver: bool,
    /// How each class is served, in the order of [`Phb::ALL`].
    pub classes: [ClassSettings; Phb::COUNT],
}

impl PortSettings {
    /// An Ethernet port with the defaults: a core port if what comes is trusted.
    #[must_use]
    pub fn new(mac: MacAddress, trust: Trust, rate: BitRate) -> Self {
        let role = if trust == Trust::Keep {
            Role::Core
        } else {
            Role::Edge
        };
        Self {
            mac,
            role,
            trust,
            rate,
            overhead_bytes: 24,
            strict_cap: rate.percent(50),
            mtu: 1500,
            routing: matches!(trust, Trust::Keep),
            vlans: Vec::new(),
            shaper_burst_ms: 1,
            one_receiver: false,
            classes: Phb::ALL.map(|phb| ClassSettings::of(phb, rate)),
        }
    }
}

/// One VLAN of a port.
#[derive(Clone, Debug)]
pub struct VlanSettings {
    /// The VLAN identifier of its tag (IEEE 802.1Q).
    pub id: VlanId,
    /// What is behind it.
    pub role: Role,
    /// Of what comes from it.
    pub trust: Trust,
    /// The largest IP packet, at most the port's.
    pub mtu: u16,
    /// Whether routers are behind it, as [`PortSettings::routing`].
    pub routing: bool,
}

/// One interface: a port without a tag, or one of its VLANs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// Which port it is on.
    pub port: PortIndex,
    /// Its VLAN, if it is one.
    pub vlan: Option<VlanId>,
    /// What is behind it.
    pub role: Role,
    /// Of what comes from it.
    pub trust: Trust,
    /// The largest IP packet.
    pub mtu: u16,
    /// Whether routers are behind it.
    pub routing: bool,
}

/// How many packets a second the kernel gets, of each interface and class of traffic. A higher rate has a
/// burst of a tenth of a second, a low one of 64 packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PuntRates {
    /// Each class's, in the order of [`PuntClass::ALL`].
    pub classes: [u32; PuntClass::COUNT],
    /// Of [`PuntClass::Routing`] where no routers are expected.
    pub edge_routing: u32,
    /// Of all interfaces together, but for control traffic ([`PuntClass::is_control`]).
    pub total: u32,
}

impl Default for PuntRates {
    fn default() -> Self {
        let rate = |class| match class {
            PuntClass::Routing => 5_000,
            PuntClass::Neighbour | PuntClass::Local | PuntClass::Glean => 1_000,
            PuntClass::Membership | PuntClass::Link | PuntClass::Group => 250,
            PuntClass::Exception => 500,
            PuntClass::Transit => 2_000,
        };
        Self {
            classes: array::from_fn(|class| rate(PuntClass::ALL[class])),
            edge_routing: 200,
            total: 10_000,
        }
    }
}

impl PuntRates {
    /// A class's, on an interface with routers behind it or without.
    pub(crate) fn of(&self, class: PuntClass, routing: bool) -> u32 {
        match class {
            PuntClass::Routing if !routing => self.edge_routing,
            class => self.classes[class.index()],
        }
    }

    /// The equal part of one of several workers.
    pub(crate) fn share(&self, workers: usize) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        // No rate that was given becomes none.
        let share = |rate: u32| (rate / workers).max(rate.min(1));
        Self {
            classes: self.classes.map(share),
            edge_routing: share(self.edge_routing),
            total: share(self.total),
        }
    }
}

/// What the kernel says of an interface while the router runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceState {
    /// Whether it is set up. What comes in on one that is not is dropped.
    pub up: bool,
    /// Whether IPv4 packets that come in on it are sent on.
    pub forwards_ipv4: bool,
    /// Whether IPv6 packets that come in on it are sent on.
    pub forwards_ipv6: bool,
    /// The largest IP packet that leaves by it.
    pub mtu: u16,
    /// The addresses that frames for the router carry, its own first.
    pub macs: ArrayVec<MacAddress, { InterfaceState::MACS }>,
}

impl InterfaceState {
    /// The most addresses of an interface.
    pub const MACS: usize = 16;

    /// Of an interface that forwards, with one address.
    #[must_use]
    pub fn new(mac: MacAddress, mtu: u16) -> Self {
        Self {
            up: true,
            forwards_ipv4: true,
            forwards_ipv6: true,
            mtu,
            macs: iter::once(mac).collect(),
        }
    }

    /// Whether nothing that comes in is held back.
    pub(crate) fn forwards(&self) -> bool {
        self.up && self.forwards_ipv4 && self.forwards_ipv6
    }

    pub(crate) fn mac(&self) -> MacAddress {
        self.macs.first().copied().unwrap_or_default()
    }
}

/// What a worker is started with. All workers of a router have the same.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its ports, in the order of [`crate::units::PortIndex`].
    pub ports: Vec<PortSettings>,
    /// How many session entries it holds.
    pub session_entries: usize,
    /// Whether flows can be measured, which takes memory; [`EntrySpec::media`] says which are.
    ///
    /// [`EntrySpec::media`]: crate::session::EntrySpec::media
    pub measures: bool,
    /// Where the session tables' memory comes from.
    pub memory: &'static dyn Allocator,
    /// How many packets a second the kernel gets.
    pub punt: PuntRates,
    /// How many commands and frames its queues hold.
    pub queue_capacity: usize,
    /// What it does while no packets arrive.
    pub idle: Idle,
    /// From which random early detection draws: with the same, the same packets are dropped.
    pub seed: u64,
}

impl Settings {
    /// The interfaces, in the order of [`crate::units::InterfaceIndex`].
    pub fn interfaces(&self) -> impl Iterator<Item = InterfaceSettings> {
        let ports = || (0..).map(PortIndex).zip(&self.ports);
        let untagged = ports().map(|(index, port)| InterfaceSettings {
            port: index,
            vlan: None,
            role: port.role,
            trust: port.trust,
            mtu: port.mtu,
            routing: port.routing,
        });
        let vlans = ports().flat_map(|(index, port)| {
            port.vlans.iter().map(move |vlan| InterfaceSettings {
                port: index,
                vlan: Some(vlan.id),
                role: vlan.role,
                trust: vlan.trust,
                mtu: vlan.mtu,
                routing: vlan.routing,
            })
        });
        untagged.chain(vlans)
    }

    /// These ports, a random seed, and the defaults for everything else.
    #[must_use]
    pub fn new(ports: Vec<PortSettings>) -> Self {
        Self {
            ports,
            session_entries: 65_536,
            measures: false,
            memory: HEAP,
            punt: PuntRates::default(),
            queue_capacity: 1_024,
            idle: Idle::default(),
            seed: rand::random(),
        }
    }
}
