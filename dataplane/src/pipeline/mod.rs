//! The packet's way, a stage a file, in the packet's order.
//!
//! ```text
//! rx → parse → classify → police → mark → route → queue ⇢ schedule → tx
//! ```
//!
//! The stages up to `queue` are the forwarding half ([`Forwarding`]), the others the scheduling half
//! ([`Scheduling`]).
//!
//! Each stage works over a whole burst. What a stage decides about a packet is its [`Verdict`];
//! later stages pass over packets that are not to be forwarded, and `queue` carries the verdicts
//! out. So each packet that comes in ends in exactly one place: a queue, a counted drop, or the
//! kernel twin.

mod rx;
mod parse;
mod classify;
mod police;
mod mark;
mod route;
mod queue;
mod schedule;
mod tx;

mod fields;
mod fragments;
mod handover;
mod punt;
mod rewrite;
mod scheduling;
mod tag;

use std::mem;

use arrayvec::ArrayVec;
use crossbeam_channel::Sender;
use voicelane_dpdk::BURST;

pub(crate) use handover::{Departing, HandOver, Outlet, RingWriter, Way, ring};
pub use route::{Adjacency, Paths};
pub(crate) use route::{Routes, flow_hash};
pub(crate) use scheduling::Scheduling;

use fragments::Fragment;

use crate::{
    control::{NextHop, RouteError},
    counters::{DropReason, InterfaceCounters, PortCounters, PuntReason, Report},
    device::{Buffer, Device},
    diffserv::{Dscp, Phb, PhbMap, TrafficClass},
    fib::{Fibs, NO_ROUTE},
    places::Places,
    policy::{Policy, RuleIndex, TopSenders},
    session::{FlowId, FlowKey4, FlowKey6, Fragments, Sessions, Slot},
    settings::{InterfaceSettings, PortSettings, Settings},
    units::{InterfaceIndex, MacAddress, PortIndex, TickRate, Ticks, VlanId},
};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Forward,
    Drop(DropReason),
    Punt(PuntReason),
}

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// What the stages know about a packet beside its bytes. What decides about its queue lies together.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Meta {
    verdict: Verdict,
    ingress: InterfaceIndex,
    phb: Phb,
    /// As it goes.
    dscp: Dscp,
    family: Family,
    /// As it came.
    class: TrafficClass,
    /// TTL or hop limit, as it came.
    ttl: u8,
    /// The rule that decides, where there is no session.
    rule: Option<RuleIndex>,
    /// The IP packet's length, as its header says.
    ip_bytes: u32,
}

impl Meta {
    fn of(verdict: Verdict) -> Self {
        Self {
            verdict,
            ingress: InterfaceIndex(0),
            ip_bytes: 0,
            family: Family::V4,
            ttl: 0,
            class: TrafficClass(0),
            dscp: Dscp::DF,
            phb: Phb::Standard,
            rule: None,
        }
    }

    /// The traffic class that it goes with: ECN stays as it is (RFC 3168).
    #[inline]
    fn marked(&self) -> TrafficClass {
        self.class.with_dscp(self.dscp)
    }

    #[inline]
    fn is_forwarded(&self) -> bool {
        self.verdict == Verdict::Forward
    }
}

/// Packets that came in together on one port, with what is known of each.
#[derive(Debug)]
struct Burst<B> {
    ingress: PortIndex,
    buffers: ArrayVec<B, BURST>,
    /// Of each buffer, in its place; those behind the last one's are of no meaning.
    metas: [Meta; BURST],
    lookups: Lookups,
    sessions: Matches,
    /// Where each goes, or [`NO_ROUTE`]; of those that go no further anything.
    next_hops: [u16; BURST],
    kinds: [Kind; BURST],
    /// Those whose headers are written when a queue has let them in.
    unwritten: Places,
}

/// What packets of a run have in common: the frame's length when it leaves, the way in, class, code
/// point, the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind(u64);

impl Kind {
    /// Of what goes no further: no other has all bits.
    const NONE: Self = Self(u64::MAX);

    #[inline]
    fn of(meta: &Meta, way: &route::Way, frame_bytes: usize) -> Self {
        let class = u16::from_le_bytes([meta.ingress.0, meta.phb as u8]);
        let class = u64::from(class) << 16 | u64::from(meta.dscp.number()) << 32;
        Self(way.kind + (class | frame_bytes as u64))
    }

    /// What is a way's own.
    fn of_way(port: PortIndex, vlan: Option<VlanId>) -> u64 {
        u64::from(port.0) << 40 | u64::from(tag::bytes(vlan))
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the low 16 bits")]
    fn frame_bytes(self) -> u16 {
        self.0 as u16
    }

    /// What is not the queue's: the way in, and the code point.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "16 of the bits")]
    fn origin(self) -> u16 {
        (self.0 >> 16 & 0xff | self.0 >> 24 & 0xff00) as u16
    }

    /// What says which queue it is: port and class.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "16 of the bits")]
    fn class(self) -> u16 {
        (self.0 >> 24 & 0xff | self.0 >> 32 & 0xff00) as u16
    }
}

/// What is looked up in bursts, each in its packet's place.
#[derive(Debug)]
struct Lookups {
    /// The five-tuples of the IPv4 packets that have ports.
    flows4: InPlace<FlowKey4>,
    /// The five-tuples of the IPv6 packets that have ports.
    flows6: InPlace<FlowKey6>,
    /// The packets that are parts of larger ones.
    fragments: Placed<Fragment>,
}

/// The session's flow of each packet that has one, in its place.
#[derive(Debug)]
struct Matches {
    slots: [Slot; BURST],
    /// Of the packets whose slot is in the table of IPv4's flows.
    ipv4: Places,
    /// Of those whose slot is in that of IPv6's.
    ipv6: Places,
}

impl Matches {
    fn new() -> Self {
        Self {
            slots: [Slot::default(); BURST],
            ipv4: 0,
            ipv6: 0,
        }
    }

    /// Those that have one.
    #[inline]
    fn all(&self) -> Places {
        self.ipv4 | self.ipv6
    }

    fn put(&mut self, place: usize, flow: FlowId) {
        let (family, slot) = match flow {
            FlowId::V4(slot) => (&mut self.ipv4, slot),
            FlowId::V6(slot) => (&mut self.ipv6, slot),
        };
        if let Some(at) = self.slots.get_mut(place) {
            *at = slot;
            *family |= 1 << place;
        }
    }
}

/// Items that some packets have, each in its packet's place.
#[derive(Debug)]
struct InPlace<T> {
    items: [T; BURST],
    present: Places,
}

impl<T: Copy + Default> InPlace<T> {
    fn new() -> Self {
        Self {
            items: [T::default(); BURST],
            present: 0,
        }
    }

    #[inline]
    fn put(&mut self, place: usize, item: T) {
        if let Some(at) = self.items.get_mut(place) {
            *at = item;
            self.present |= 1 << place;
        }
    }

    fn at(&self, place: usize) -> Option<T> {
        let item = self.items.get(place).copied();
        item.filter(|_| self.present >> place & 1 == 1)
    }
}

/// Items that few packets have, and the place in the burst of each one's packet.
#[derive(Debug)]
struct Placed<T> {
    items: ArrayVec<T, BURST>,
    places: ArrayVec<usize, BURST>,
}

impl<T> Default for Placed<T> {
    fn default() -> Self {
        Self {
            items: ArrayVec::new(),
            places: ArrayVec::new(),
        }
    }
}

impl<T> Placed<T> {
    #[inline]
    fn push(&mut self, place: usize, item: T) {
        self.items.push(item);
        self.places.push(place);
    }

    #[inline]
    fn clear(&mut self) {
        self.items.clear();
        self.places.clear();
    }
}

impl Lookups {
    fn new() -> Self {
        Self {
            flows4: InPlace::new(),
            flows6: InPlace::new(),
            fragments: Placed::default(),
        }
    }

    #[inline]
    fn clear(&mut self) {
        self.flows4.present = 0;
        self.flows6.present = 0;
        self.fragments.clear();
    }
}

/// A port, as the stages up to the hand-over see it.
#[derive(Debug)]
struct Port {
    mac: MacAddress,
    vlans: Vlans,
    /// Of what came in.
    counters: PortCounters,
}

/// The interface of each VLAN identifier on a port. 0 has the port's own: such a tag says a priority
/// only.
#[derive(Debug)]
struct Vlans(Vec<Option<InterfaceIndex>>);

impl Vlans {
    fn new(port: PortIndex, interfaces: &[Interface]) -> Self {
        let mut table = vec![None; 4096];
        let interfaces = (0..=u8::MAX).map(InterfaceIndex).zip(interfaces);
        for (index, interface) in interfaces.filter(|(_, interface)| interface.port == port) {
            let number = interface.vlan.map_or(0, VlanId::number);
            table[usize::from(number)] = Some(index);
        }
        Self(table)
    }

    fn interface(&self, vlan: u16) -> Option<InterfaceIndex> {
        self.0.get(usize::from(vlan)).copied().flatten()
    }
}

/// An interface, as the stages see it.
#[derive(Debug)]
struct Interface {
    port: PortIndex,
    vlan: Option<VlanId>,
    mtu: u16,
    counters: InterfaceCounters,
    /// Who claims what is taken away here.
    senders: TopSenders,
}

/// The forwarding half of the packet's way, up to the queues.
pub(crate) struct Forwarding<B> {
    ports: Vec<Port>,
    interfaces: Vec<Interface>,
    pub(crate) sessions: Sessions,
    fragments: Fragments,
    pub(crate) policy: Box<Policy>,
    pub(crate) routes: Routes,
    phbs: PhbMap,
    punts: punt::Punts<B>,
    burst: Burst<B>,
}

impl<B: Buffer> Forwarding<B> {
    pub(crate) fn new(
        settings: &Settings,
        fibs: Fibs,
        twins: Sender<(InterfaceIndex, B)>,
        clock: TickRate,
        now: Ticks,
    ) -> Self {
        let interface = |interface: InterfaceSettings| Interface {
            port: interface.port,
            vlan: interface.vlan,
            mtu: interface.mtu,
            counters: InterfaceCounters::default(),
            senders: TopSenders::new(rand::random()),
        };
        let interfaces: Vec<_> = settings.interfaces().map(interface).collect();
        let port = |(index, port): (PortIndex, &PortSettings)| Port {
            mac: port.mac,
            vlans: Vlans::new(index, &interfaces),
            counters: PortCounters::default(),
        };
        Self {
            ports: (0..)
                .map(PortIndex)
                .zip(&settings.ports)
                .map(port)
                .collect(),
            interfaces,
            sessions: Sessions::new(settings.session_entries, clock),
            fragments: Fragments::new(clock, rand::random()),
            policy: Policy::of_trusts(settings.interfaces().map(|interface| interface.trust.map())),
            routes: Routes::new(fibs),
            phbs: PhbMap::default(),
            punts: punt::Punts::new(twins, settings.punt_packets_per_second, clock, now),
            burst: Burst {
                ingress: PortIndex(0),
                buffers: ArrayVec::new(),
                metas: [Meta::of(Verdict::Forward); BURST],
                lookups: Lookups::new(),
                sessions: Matches::new(),
                next_hops: [NO_ROUTE; BURST],
                kinds: [Kind::NONE; BURST],
                unwritten: 0,
            },
        }
    }

    /// Receives one burst on a port and takes it to its queues; returns how many packets came.
    pub(crate) fn ingress<D: Device<Buffer = B>, O: Outlet<B>>(
        &mut self,
        device: &mut D,
        ingress: PortIndex,
        queues: &mut O,
        now: Ticks,
    ) -> usize {
        let (burst, interfaces) = (&mut self.burst, &mut self.interfaces);
        let port = &mut self.ports[ingress.index()];
        let count = rx::receive(burst, device, ingress, &mut port.counters, interfaces);
        if count == 0 {
            return 0;
        }
        parse::parse(burst, port.mac, &port.vlans, interfaces);
        let sessions = (&self.sessions, &mut self.fragments);
        classify::classify(burst, sessions, &self.policy, interfaces, now);
        let (metered, phbs) = ((&mut self.sessions, &mut *self.policy), &self.phbs);
        police::police(
            burst,
            metered,
            phbs,
            |meta, dscp| mark::mark(meta, dscp, phbs),
            (now, self.routes.changed()),
        );
        let sessions = &mut self.sessions;
        route::route(burst, &self.routes, sessions, queues.is_open());
        queue::queue(
            burst,
            &self.routes,
            queues,
            interfaces,
            &mut self.punts,
            now,
        );
        count
    }

    /// Obeys another policy from the next burst on; gives the old one back.
    pub(crate) fn set_policy(&mut self, mut policy: Box<Policy>) -> Box<Policy> {
        policy.take_over(&self.policy);
        mem::replace(&mut self.policy, policy)
    }

    /// Takes in a frame that the kernel sends out of an interface.
    pub(crate) fn inject<O: Outlet<B>>(
        &mut self,
        egress: InterfaceIndex,
        frame: B,
        queues: &mut O,
        now: Ticks,
    ) {
        if let Some(interface) = self.interfaces.get_mut(egress.index()) {
            queue::queue_from_twin(interface, queues, &self.phbs, frame, now);
        }
    }

    /// Says what a next hop means.
    pub(crate) fn set_adjacency(
        &mut self,
        next_hop: NextHop,
        adjacency: Adjacency,
    ) -> Result<(), RouteError> {
        self.routes
            .set_adjacency(next_hop, adjacency, &self.interfaces)
    }

    /// Writes down what came in, what the policy has counted, and who claims what is taken away.
    pub(crate) fn fill(&self, report: &mut Report) {
        report.entries = self.sessions.len();
        report.entry_capacity = self.sessions.capacity();
        for (to, port) in report.ports.iter_mut().zip(&self.ports) {
            to.port = port.counters;
        }
        for (to, interface) in report.interfaces.iter_mut().zip(&self.interfaces) {
            to.clone_from(&interface.counters);
        }
        self.policy.fill(&mut report.policy);
        for (to, from) in report.policy.interfaces.iter_mut().zip(&self.interfaces) {
            to.senders.clear();
            let room = to.senders.capacity();
            to.senders.extend(from.senders.iter().take(room));
        }
    }
}
