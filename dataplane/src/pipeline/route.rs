mod paths;

use std::net::IpAddr;

use voicelane_dpdk::{BURST, equal_places};

use super::{
    Burst, Interface,
    burst::{Exit, Family, Lookups, Matches, Verdict},
    fields, rewrite,
};
use crate::{
    control::{NextHop, RouteError},
    counters::{DropReason, PuntReason},
    device::Buffer,
    fib::{self, Fib, Fibs, Key, NO_ROUTE},
    interfaces::InterfaceSet,
    places::{Places, each_place, places},
    policy::ReversePath,
    session::Sessions,
    units::{InterfaceIndex, MacAddress, Ticks, VlanId},
    wire::Ethernet,
};

pub use paths::Paths;
pub(crate) use paths::flow_hash;

/// What a next hop means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjacency {
    /// Drop it.
    Blackhole,
    /// It is for the router itself.
    Local,
    /// It is for an interface that only the kernel has.
    Kernel,
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
    /// The same, for packets that are not longer than a route's MTU.
    Narrow {
        /// Which interface.
        interface: InterfaceIndex,
        /// The neighbour's address.
        destination: MacAddress,
        /// The port's own.
        source: MacAddress,
        /// The largest packet, in bytes.
        mtu: u16,
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
pub(super) struct Way {
    /// Destination and source, as a frame begins.
    pub(super) addresses: [u8; 12],
    mtu: u16,
    /// The largest packet that the route lets through, whatever the interface's MTU.
    limit: u16,
    pub(super) vlan: Option<VlanId>,
    exit: Exit,
}

impl Way {
    fn new(interface: &Interface, destination: MacAddress, source: MacAddress, limit: u16) -> Self {
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&destination.0);
        addresses[6..].copy_from_slice(&source.0);
        Self {
            addresses,
            mtu: interface.state.mtu.min(limit),
            limit,
            vlan: interface.vlan,
            exit: Exit::new(interface.port, interface.vlan),
        }
    }
}

/// The last 12 bits of the router's own addresses, of those that it had, too: most others are told apart
/// without a look into the route table.
#[derive(Debug)]
struct OwnEnds([u64; 64]);

impl Default for OwnEnds {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl OwnEnds {
    fn add(&mut self, address: IpAddr) {
        let end = match address {
            IpAddr::V4(address) => address.octets().last_chunk().copied(),
            IpAddr::V6(address) => address.octets().last_chunk().copied(),
        };
        let [high, low] = end.unwrap_or_default();
        self.0[usize::from(low >> 2)] |= 1 << Self::bit(high, low);
    }

    #[inline]
    fn has(&self, [high, low]: [u8; 2]) -> bool {
        self.0[usize::from(low >> 2)] >> Self::bit(high, low) & 1 == 1
    }

    #[inline]
    fn bit(high: u8, low: u8) -> u8 {
        (high & 15) << 2 | low & 3
    }
}

/// The route tables, and their next hops.
#[derive(Debug)]
pub(crate) struct Routes {
    fibs: Fibs,
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
    pub(super) fn new(fibs: Fibs) -> Self {
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

    pub(super) fn set_adjacency(
        &mut self,
        next_hop: NextHop,
        adjacency: Adjacency,
        interfaces: &[Interface],
    ) -> Result<(), RouteError> {
        let forward = |interface: InterfaceIndex, destination, source, limit| {
            let found = interfaces.get(interface.index());
            let interface = found.ok_or(RouteError::Interface(interface.0))?;
            let way = Way::new(interface, destination, source, limit);
            Ok::<_, RouteError>(Hop::Forward(way))
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
    pub(super) fn set_mtu(&mut self, interface: &Interface) {
        let exit = Exit::new(interface.port, interface.vlan);
        for hop in &mut self.hops {
            if let Hop::Forward(way) = hop
                && (way.exit, way.vlan) == (exit, interface.vlan)
            {
                way.mtu = interface.state.mtu.min(way.limit);
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
    pub(super) fn admits(
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
    pub(super) fn changed(&self) -> Ticks {
        self.changed
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
            self.ways_in.resize(index + 1, InterfaceSet::NONE);
        }
        Ok(&mut self.hops[index])
    }

    /// Which next hop a packet takes, where its own stands for several.
    fn choose(&self, next_hop: u16, frame: &[u8], family: Family) -> u16 {
        let Hop::Several(group) = *self.hop(next_hop) else {
            return next_hop;
        };
        let packet = frame.get(Ethernet::LENGTH..).unwrap_or_default();
        let hash = match family {
            Family::V4 => paths::hash4(packet, &self.seed),
            Family::V6 => paths::hash6(packet, &self.seed),
        };
        match (self.groups.get(usize::from(group)), hash) {
            (Some(paths), Some(hash)) => paths.choose(hash).0,
            _ => NO_ROUTE,
        }
    }

    /// Whether an address that ends with these two bytes may be one of the router's own.
    #[inline]
    pub(super) fn may_be_own(&self, end: [u8; 2]) -> bool {
        self.own.has(end)
    }

    /// Whether an address is one of the router's own.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        let mut next_hop = [NO_ROUTE];
        match address {
            IpAddr::V4(address) => self.fibs.ipv4.lookup(&[address.into()], &mut next_hop),
            IpAddr::V6(address) => self.fibs.ipv6.lookup(&[address.octets()], &mut next_hop),
        }
        matches!(self.hop(next_hop[0]), Hop::Exception(Adjacency::Local))
    }

    /// The way to a next hop that is one neighbour.
    #[inline]
    pub(super) fn way(&self, next_hop: u16) -> Option<&Way> {
        match self.hop(next_hop) {
            Hop::Forward(way) => Some(way),
            _ => None,
        }
    }
}

/// Finds each packet's way: by the longest prefix, unless its session knows it. Writes its headers, too,
/// where nothing is in its way out (`open`).
#[inline(never)]
pub(super) fn route<B: Buffer>(
    burst: &mut Burst<B>,
    routes: &Routes,
    sessions: &mut Sessions,
    open: bool,
) {
    let forwarded = burst.fates.forwarded;
    let unknown = equal_places(&burst.next_hops, NO_ROUTE) & forwarded;
    if unknown != 0 {
        look_up(burst, unknown, &routes.fibs, sessions);
    }
    burst.unwritten = 0;
    let usual = burst.headers.with_hops_left() & !burst.headers.unusual();
    // What is in these places of others is of another burst.
    let clients = forwarded & burst.to_dhcp_clients & burst.lookups.flows4.present;
    let mut simple = forwarded & usual & !clients;
    let mut others = forwarded & !simple & !clients;
    while simple != 0 {
        let next_hop = burst.next_hops[simple.trailing_zeros() as usize];
        let together = simple & equal_places(&burst.next_hops, next_hop);
        simple &= !together;
        let Some(way) = routes.way(next_hop) else {
            others |= together;
            continue;
        };
        let fitting = together & burst.headers.within(way.mtu);
        others |= together & !fitting;
        lead(burst, fitting, way, open);
    }
    for place in places(others) {
        lead_otherwise(burst, place, routes);
    }
    for place in places(clients) {
        give_to_client(burst, place);
    }
}

/// What a DHCP server sends to a client (RFC 2131 section 4.1: "the server unicasts DHCPOFFER and DHCPACK
/// messages to the client's hardware address and 'yiaddr' address") may be to an address that the router
/// is yet to get: no route says so. The kernel's client takes it, and the kernel forwards what is others'.
fn give_to_client<B: Buffer>(burst: &mut Burst<B>, place: usize) {
    if let Some(buffer) = burst.buffers.get_mut(place) {
        let family = burst.headers.family(place);
        rewrite::write_class(buffer.bytes_mut(), family, burst.marked[place]);
    }
    burst.fates.end(place, Verdict::Punt(PuntReason::Local));
}

/// Packets that go to one neighbour.
#[inline]
fn lead<B: Buffer>(burst: &mut Burst<B>, which: Places, way: &Way, open: bool) {
    each_place(which, |place| burst.exits[place] = way.exit);
    if !open {
        burst.unwritten |= which;
        return;
    }
    let ipv6 = burst.headers.ipv6;
    rewrite_all(burst, which & !ipv6, Family::V4, *way);
    rewrite_all(burst, which & ipv6, Family::V6, *way);
}

/// Packets of one family.
#[inline(always)]
fn rewrite_all<B: Buffer>(burst: &mut Burst<B>, which: Places, family: Family, way: Way) {
    for place in places(which) {
        burst.prefetch_ahead(place);
        if let Some(buffer) = burst.buffers.get_mut(place)
            && let Err(reason) = rewrite::rewrite(buffer, family, burst.marked[place], &way)
        {
            burst.fates.end(place, Verdict::Drop(reason));
        }
    }
}

/// Of a packet that does not simply go to a neighbour.
fn lead_otherwise<B: Buffer>(burst: &mut Burst<B>, place: usize, routes: &Routes) {
    let header = burst.headers.at(place);
    let Some(buffer) = burst.buffers.get_mut(place) else {
        return;
    };
    let is_in = |set: Places| set >> place & 1 == 1;
    let (options, confined) = (is_in(burst.headers.options), is_in(burst.headers.confined));
    let next_hop = routes.choose(burst.next_hops[place], buffer.bytes(), header.family);
    match routes.hop(next_hop) {
        Hop::Forward(way)
            if header.ttl > 1 && header.ip_bytes <= way.mtu && !options && !confined =>
        {
            burst.next_hops[place] = next_hop;
            burst.unwritten |= 1 << place;
            burst.exits[place] = way.exit;
        }
        exception => {
            let verdict = exceptional(exception, header.ttl, options, confined);
            burst.fates.end(place, verdict);
        }
    }
}

/// Looks next hops up; sessions hear where theirs went.
#[inline(never)]
fn look_up<B: Buffer>(burst: &mut Burst<B>, which: Places, fibs: &Fibs, sessions: &mut Sessions) {
    let Burst {
        buffers,
        headers,
        next_hops,
        lookups: Lookups { flows4, flows6, .. },
        sessions: Matches {
            slots, ipv4, ipv6, ..
        },
        ..
    } = burst;
    let destination4 = |place: usize| flows4.items[place].destination();
    look_up_in(&fibs.ipv4, which & flows4.present, destination4, next_hops);
    let destination6 = |place: usize| flows6.items[place].destination();
    look_up_in(&fibs.ipv6, which & flows6.present, destination6, next_hops);

    let rest = which & !(flows4.present | flows6.present);
    if rest != 0 {
        let of = |family| {
            places(rest)
                .filter(|place| headers.family(*place) == family)
                .fold(0, |set, place| set | 1 << place)
        };
        let frame = |place| buffers.get(place).map_or(&[][..], Buffer::bytes);
        let destination4 = |place| fields::destination4(frame(place));
        look_up_in(&fibs.ipv4, of(Family::V4), destination4, next_hops);
        let destination6 = |place| fields::destination6(frame(place));
        look_up_in(&fibs.ipv6, of(Family::V6), destination6, next_hops);
    }
    for place in places(which & *ipv4) {
        sessions.ipv4.went(slots[place], next_hops[place]);
    }
    for place in places(which & *ipv6) {
        sessions.ipv6.went(slots[place], next_hops[place]);
    }
}

/// Looks up which next hops the routes of these packets' sources have.
pub(super) fn look_up_sources<B: Buffer>(
    burst: &Burst<B>,
    which: Places,
    routes: &Routes,
) -> [u16; BURST] {
    let frame = |place| burst.buffers.get(place).map_or(&[][..], Buffer::bytes);
    let (ipv6, fibs) = (burst.headers.ipv6, &routes.fibs);
    let mut next_hops = [NO_ROUTE; BURST];
    let source4 = |place| fields::source4(frame(place));
    look_up_in(&fibs.ipv4, which & !ipv6, source4, &mut next_hops);
    let source6 = |place| fields::source6(frame(place));
    look_up_in(&fibs.ipv6, which & ipv6, source6, &mut next_hops);
    next_hops
}

/// Of packets of one family.
#[inline]
fn look_up_in<K: Key>(
    fib: &Fib<K>,
    which: Places,
    address_of: impl Fn(usize) -> K,
    next_hops: &mut [u16; BURST],
) {
    if which == 0 {
        return;
    }
    let mut addresses = [K::default(); BURST];
    for (address, place) in addresses.iter_mut().zip(places(which)) {
        *address = address_of(place);
    }
    let mut found = [NO_ROUTE; BURST];
    let addresses = addresses.get(..which.count_ones() as usize);
    fib.lookup(addresses.unwrap_or_default(), &mut found);
    for (place, found) in places(which).zip(found) {
        next_hops[place] = found;
    }
}

/// What becomes of a packet that is not simply sent to a neighbour.
fn exceptional(hop: &Hop, ttl: u8, options: bool, confined: bool) -> Verdict {
    match hop {
        Hop::Exception(Adjacency::Local) => Verdict::Punt(PuntReason::Local),
        _ if confined => Verdict::Drop(DropReason::NotForwardable),
        // A group of groups cannot be set; it would be the kernel's.
        Hop::Unset | Hop::Several(_) => Verdict::Punt(PuntReason::NoRoute),
        Hop::Exception(Adjacency::Blackhole) => Verdict::Drop(DropReason::Blackhole),
        // The kernel takes the TTL off itself, where it forwards.
        _ if ttl <= 1 => Verdict::Punt(PuntReason::TtlExpired),
        Hop::Exception(Adjacency::Kernel) => Verdict::Punt(PuntReason::KernelInterface),
        Hop::Exception(_) => Verdict::Punt(PuntReason::UnknownNeighbour),
        Hop::Forward(_) if options => Verdict::Punt(PuntReason::Options),
        Hop::Forward(_) => Verdict::Punt(PuntReason::Oversize),
    }
}
