//! Packets that came in together on one port, with what is known of each beside its bytes: a column for
//! each thing, a packet's in its place. So a question that is asked of all packets is asked of 16 or 32 at
//! a time.

use arrayvec::ArrayVec;
use voicelane_dpdk::{BURST, equal_bytes, equal_places};

use super::{fragments::Fragment, tag};
use crate::{
    counters::{DropReason, PuntReason},
    device::Buffer,
    diffserv::{Dscp, Phb, TrafficClass},
    fib::NO_ROUTE,
    places::{Places, first_places},
    policy::RuleIndex,
    session::{AnyKey, FlowId, FlowKey4, FlowKey6, Origin, Slot},
    units::{InterfaceIndex, PortIndex, VlanId},
    wire::{EtherType, Ethernet},
};

/// How many packets before its turn a packet's headers are asked for.
pub(super) const AHEAD: usize = 16;

/// A burst on its way. What stands behind the last buffer's place has no meaning, nor has what a stage
/// would say of a packet that does not go on.
#[derive(Debug)]
pub(super) struct Burst<B> {
    /// Where it came in.
    pub(super) port: PortIndex,
    pub(super) buffers: ArrayVec<B, BURST>,
    /// Each frame's length; `parse` takes tags off.
    pub(super) frame_bytes: [u16; BURST],
    pub(super) ingress: [InterfaceIndex; BURST],
    /// Those of `ingress`, as sessions compare them.
    pub(super) origins: [Origin; BURST],
    pub(super) fates: Fates,
    pub(super) headers: Headers,
    pub(super) lookups: Lookups,
    pub(super) sessions: Matches,
    /// The rule that decides, of those without a session.
    pub(super) rules: [Option<RuleIndex>; BURST],
    /// Those to a DHCP client, of those without a session.
    pub(super) to_dhcp_clients: Places,
    /// The code point that each goes with.
    pub(super) dscps: [Dscp; BURST],
    /// The traffic class that each goes with.
    pub(super) marked: [TrafficClass; BURST],
    pub(super) phbs: [Phb; BURST],
    /// Where each goes, or [`NO_ROUTE`].
    pub(super) next_hops: [u16; BURST],
    pub(super) exits: [Exit; BURST],
    /// Those whose headers are written when a queue has let them in.
    pub(super) unwritten: Places,
}

impl<B> Burst<B> {
    pub(super) fn new() -> Self {
        Self {
            port: PortIndex(0),
            buffers: ArrayVec::new(),
            frame_bytes: [0; BURST],
            ingress: [InterfaceIndex(0); BURST],
            origins: [Origin::default(); BURST],
            fates: Fates::new(),
            headers: Headers::new(),
            lookups: Lookups::new(),
            sessions: Matches::new(),
            rules: [None; BURST],
            to_dhcp_clients: 0,
            dscps: [Dscp::DF; BURST],
            marked: [TrafficClass(0); BURST],
            phbs: [Phb::Standard; BURST],
            next_hops: [NO_ROUTE; BURST],
            exits: [Exit::default(); BURST],
            unwritten: 0,
        }
    }

    /// All that came.
    #[inline]
    pub(super) fn all(&self) -> Places {
        first_places(self.buffers.len())
    }

    /// Those whose frames are longer than their IP packets and Ethernet's minimum ask for; of plain packets.
    #[inline]
    pub(super) fn with_trailers(&self) -> Places {
        let mut trailers = self.frame_bytes;
        for (bytes, ip_bytes) in trailers.iter_mut().zip(&self.headers.ip_bytes) {
            *bytes = bytes.saturating_sub(Ethernet::frame_bytes(*ip_bytes));
        }
        !equal_places(&trailers, 0)
    }

    /// Whether all go on, from one interface, with one code point, equally long, out of one port: as most
    /// bursts of calls' packets do.
    #[inline]
    pub(super) fn is_alike(&self) -> bool {
        let alike = equal_bytes(&self.ingress.map(|it| it.0), self.ingress[0].0)
            & equal_bytes(&self.dscps.map(Dscp::number), self.dscps[0].number())
            & equal_places(&self.frame_bytes, self.frame_bytes[0])
            & equal_places(&self.exits.map(|exit| exit.0), self.exits[0].0);
        let all = self.all();
        alike & self.fates.forwarded & all == all
    }
}

impl<B: Buffer> Burst<B> {
    /// Asks the CPU for the headers of a packet that a stage will come to: as the source, the sessions and
    /// other packets are in use meanwhile, the nearest cache has lost them again from stage to stage.
    #[inline]
    pub(super) fn prefetch_ahead(&self, place: usize) {
        if let Some(buffer) = self.buffers.get(place + AHEAD) {
            buffer.prefetch();
        }
    }

    /// Whether the first frame says that this is what it carries.
    #[inline]
    pub(super) fn starts_with(&self, kind: EtherType) -> bool {
        let first = self
            .buffers
            .first()
            .and_then(|buffer| Ethernet::split(buffer.bytes()));
        first.is_some_and(|(ethernet, _)| ethernet.ether_type() == kind)
    }
}

/// What becomes of a packet that goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Drop(DropReason),
    Punt(PuntReason),
}

/// What becomes of each packet.
#[derive(Debug)]
pub(super) struct Fates {
    /// Those that go on, as far as it has been decided.
    pub(super) forwarded: Places,
    /// Those that `parse` has found to be for the kernel, and that get a code point nevertheless.
    pub(super) heard: Places,
    /// Of the others.
    verdicts: [Verdict; BURST],
}

impl Fates {
    fn new() -> Self {
        Self {
            forwarded: 0,
            heard: 0,
            verdicts: [Verdict::Drop(DropReason::Runt); BURST],
        }
    }

    /// A packet goes no further.
    #[inline]
    pub(super) fn end(&mut self, place: usize, verdict: Verdict) {
        if let Some(at) = self.verdicts.get_mut(place) {
            *at = verdict;
            self.forwarded &= !(1 << place);
        }
    }

    /// Those whose code point is decided.
    #[inline]
    pub(super) fn judged(&self) -> Places {
        self.forwarded | self.heard
    }

    /// Of a packet that goes no further.
    #[inline]
    pub(super) fn verdict(&self, place: usize) -> Verdict {
        self.verdicts[place]
    }
}

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What a packet's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) family: Family,
    /// As it came.
    pub(super) class: TrafficClass,
    /// TTL or hop limit, as it came.
    pub(super) ttl: u8,
    /// The IP packet's length.
    pub(super) ip_bytes: u16,
}

/// What the packets' headers say.
#[derive(Debug)]
pub(super) struct Headers {
    /// Those that are IPv6; the others are IPv4.
    pub(super) ipv6: Places,
    /// Those with IPv4 options that ask for something.
    pub(super) options: Places,
    /// Those that may be for the router itself, but not be forwarded.
    pub(super) confined: Places,
    pub(super) class: [TrafficClass; BURST],
    ttl: [u8; BURST],
    pub(super) ip_bytes: [u16; BURST],
}

impl Headers {
    fn new() -> Self {
        Self {
            ipv6: 0,
            options: 0,
            confined: 0,
            class: [TrafficClass(0); BURST],
            ttl: [0; BURST],
            ip_bytes: [0; BURST],
        }
    }

    /// All but the family, which `ipv6` says.
    #[inline]
    pub(super) fn put(&mut self, place: usize, header: Header) {
        self.class[place] = header.class;
        self.ttl[place] = header.ttl;
        self.ip_bytes[place] = header.ip_bytes;
    }

    #[inline]
    pub(super) fn at(&self, place: usize) -> Header {
        Header {
            family: self.family(place),
            class: self.class[place],
            ttl: self.ttl[place],
            ip_bytes: self.ip_bytes[place],
        }
    }

    #[inline]
    pub(super) fn family(&self, place: usize) -> Family {
        match self.ipv6 >> place & 1 {
            0 => Family::V4,
            _ => Family::V6,
        }
    }

    /// Those that can be sent on: RFC 1812 section 5.3.1 and RFC 8200 section 3 end the others.
    #[inline]
    pub(super) fn with_hops_left(&self) -> Places {
        !(equal_bytes(&self.ttl, 0) | equal_bytes(&self.ttl, 1))
    }

    /// Those that are for the kernel even where a neighbour is known, or for nobody.
    #[inline]
    pub(super) fn unusual(&self) -> Places {
        self.options | self.confined
    }

    /// Those whose packet is not longer.
    #[inline]
    pub(super) fn within(&self, mtu: u16) -> Places {
        equal_places(&self.ip_bytes.map(|bytes| bytes.saturating_sub(mtu)), 0)
    }
}

/// Which port a packet leaves by, and by how many bytes a tag makes it longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exit(u16);

impl Exit {
    pub(super) fn new(port: PortIndex, vlan: Option<VlanId>) -> Self {
        Self(u16::from(port.0) << 8 | tag::bytes(vlan))
    }

    #[inline]
    pub(super) fn port(self) -> PortIndex {
        PortIndex(self.0.to_be_bytes()[0])
    }

    #[inline]
    pub(super) fn tag_bytes(self) -> u16 {
        self.0 & 0xff
    }

    /// With the class: which queue it is.
    #[inline]
    pub(super) fn queue(self, phb: Phb) -> u16 {
        self.0 & 0xff00 | phb as u16
    }
}

/// What is looked up in bursts, each in its packet's place.
#[derive(Debug)]
pub(super) struct Lookups {
    /// The five-tuples of the IPv4 packets that have ports.
    pub(super) flows4: InPlace<FlowKey4>,
    /// The five-tuples of the IPv6 packets that have ports.
    pub(super) flows6: InPlace<FlowKey6>,
    /// The packets that are parts of larger ones.
    pub(super) fragments: Placed<Fragment>,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self {
            flows4: InPlace::new(),
            flows6: InPlace::new(),
            fragments: Placed::default(),
        }
    }

    /// A packet's five-tuple, of either family.
    pub(super) fn flow(&self, place: usize) -> Option<AnyKey> {
        let ipv4 = self.flows4.at(place).map(AnyKey::V4);
        ipv4.or_else(|| self.flows6.at(place).map(AnyKey::V6))
    }

    /// What a packet is known by when it comes back from the kernel: its five-tuple, or if it is a part of
    /// a larger one, that one's identification.
    pub(super) fn detour(&self, place: usize) -> Option<AnyKey> {
        let parts = &self.fragments;
        let part = parts.places.iter().position(|&at| at == place);
        match part.and_then(|part| parts.items.get(part)) {
            Some(Fragment { id, .. }) => Some(id.as_flow()),
            None => self.flow(place),
        }
    }
}

/// The session's flow of each packet that has one, in its place.
#[derive(Debug)]
pub(super) struct Matches {
    pub(super) slots: [Slot; BURST],
    /// Of the packets whose slot is in the table of IPv4's flows.
    pub(super) ipv4: Places,
    /// Of those whose slot is in that of IPv6's.
    pub(super) ipv6: Places,
    /// Packets with a session's five-tuple that came in elsewhere, and so have none; each one's slot is
    /// that session's, in its family's table.
    pub(super) spoofed: Places,
}

impl Matches {
    fn new() -> Self {
        Self {
            slots: [Slot::default(); BURST],
            ipv4: 0,
            ipv6: 0,
            spoofed: 0,
        }
    }

    /// Those that have one.
    #[inline]
    pub(super) fn all(&self) -> Places {
        self.ipv4 | self.ipv6
    }

    /// A packet has the five-tuple of a flow that comes in elsewhere.
    pub(super) fn put_spoofed(&mut self, place: usize, flow: FlowId) {
        let (FlowId::V4(slot) | FlowId::V6(slot)) = flow;
        if let Some(at) = self.slots.get_mut(place) {
            *at = slot;
            self.spoofed |= 1 << place;
        }
    }

    pub(super) fn put(&mut self, place: usize, flow: FlowId) {
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
pub(super) struct InPlace<T> {
    pub(super) items: [T; BURST],
    pub(super) present: Places,
}

impl<T: Copy + Default> InPlace<T> {
    fn new() -> Self {
        Self {
            items: [T::default(); BURST],
            present: 0,
        }
    }

    #[inline]
    pub(super) fn put(&mut self, place: usize, item: T) {
        if let Some(at) = self.items.get_mut(place) {
            *at = item;
            self.present |= 1 << place;
        }
    }

    pub(super) fn at(&self, place: usize) -> Option<T> {
        let item = self.items.get(place).copied();
        item.filter(|_| self.present >> place & 1 == 1)
    }
}

/// Items that few packets have, and the place in the burst of each one's packet.
#[derive(Debug)]
pub(super) struct Placed<T> {
    pub(super) items: ArrayVec<T, BURST>,
    pub(super) places: ArrayVec<usize, BURST>,
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
    pub(super) fn push(&mut self, place: usize, item: T) {
        self.items.push(item);
        self.places.push(place);
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.places.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_asked_all_at_once() {
        let mut headers = Headers::new();
        let header = |ttl, ip_bytes| Header {
            family: Family::V4,
            class: TrafficClass(0),
            ttl,
            ip_bytes,
        };
        let some = [(0, 1_499), (1, 1_500), (2, 1_501), (255, u16::MAX)];
        for place in 0..BURST {
            let (ttl, ip_bytes) = some[place % 4];
            headers.put(place, header(ttl, ip_bytes));
            assert_eq!(headers.at(place), header(ttl, ip_bytes));
        }
        let each = |of_four: u64| of_four * 0x1111_1111_1111_1111;
        assert_eq!(headers.with_hops_left(), each(0b1100));
        assert_eq!(headers.within(1_500), each(0b0011));
        assert_eq!(headers.within(u16::MAX), Places::MAX);
    }

    #[test]
    fn an_exit_says_port_and_tag() {
        let exit = Exit::new(PortIndex(255), VlanId::new(7).ok());
        assert_eq!((exit.port(), exit.tag_bytes()), (PortIndex(255), 4));
        assert_eq!(exit.queue(Phb::LowerEffort), 0xff0c);
        assert_eq!(Exit::new(PortIndex(3), None).tag_bytes(), 0);
    }

    #[test]
    fn bursts_are_alike_as_far_as_they_go() {
        let burst = || {
            let mut burst = Burst::new();
            burst.buffers.extend([(); 3]);
            burst.fates.forwarded = 0b111;
            // Of another time.
            burst.dscps[3] = Dscp::EF;
            burst
        };
        assert!(burst().is_alike());
        let changes: [fn(&mut Burst<()>); 5] = [
            |burst| burst.frame_bytes[1] = 9,
            |burst| burst.ingress[2] = InterfaceIndex(1),
            |burst| burst.dscps[0] = Dscp::EF,
            |burst| burst.exits[2] = Exit(1),
            |burst| burst.fates.end(1, Verdict::Drop(DropReason::Runt)),
        ];
        for change in changes {
            let mut burst = burst();
            change(&mut burst);
            assert!(!burst.is_alike());
        }
    }
}
