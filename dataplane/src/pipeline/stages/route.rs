use voicelane_machine::equal_places;

use crate::{
    device::{BURST, Buffer},
    packet_mask::{PacketMask, for_each_packet, packets_in},
    pipeline::{
        burst::{Burst, Lookups, SessionHits, Verdict},
        headers::{fields, rewrite},
    },
    routing::{Adjacency, Fib, Fibs, Hop, Key, NO_ROUTE, Neighbour, Routes},
    session::Sessions,
    stats::{DropReason, PuntReason},
    wire::IpVersion,
};

/// Finds each packet's neighbour: by the longest prefix, unless its session knows it. Writes its headers, too,
/// where nothing is in its way out (`open`).
#[inline(never)]
pub(crate) fn route<B: Buffer>(
    burst: &mut Burst<B>,
    routes: &Routes,
    sessions: &mut Sessions,
    open: bool,
) {
    let forwarded = burst.verdicts.forwarded;
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
        let Some(neighbour) = routes.neighbour(next_hop) else {
            others |= together;
            continue;
        };
        let fitting = together & burst.headers.within(neighbour.mtu);
        others |= together & !fitting;
        forward_to(burst, fitting, neighbour, open);
    }
    for place in packets_in(others) {
        forward_exception(burst, place, routes);
    }
    // What a DHCP server sends to a client (RFC 2131 section 4.1: "the server unicasts DHCPOFFER and DHCPACK
    // messages to the client's hardware address and 'yiaddr' address") may be to an address that the router
    // is yet to get: no route says so. The kernel's client takes it, and the kernel forwards what is others'.
    for place in packets_in(clients) {
        burst.verdicts.end(place, Verdict::Punt(PuntReason::Local));
    }
}

/// Packets that go to one neighbour.
#[inline]
fn forward_to<B: Buffer>(
    burst: &mut Burst<B>,
    which: PacketMask,
    neighbour: &Neighbour,
    open: bool,
) {
    for_each_packet(which, |place| burst.exits[place] = neighbour.exit);
    if !open {
        burst.unwritten |= which;
        return;
    }
    let ipv6 = burst.headers.ipv6;
    rewrite_all(burst, which & !ipv6, IpVersion::V4, *neighbour);
    rewrite_all(burst, which & ipv6, IpVersion::V6, *neighbour);
}

/// Packets of one family.
#[inline(always)]
fn rewrite_all<B: Buffer>(
    burst: &mut Burst<B>,
    which: PacketMask,
    family: IpVersion,
    neighbour: Neighbour,
) {
    for place in packets_in(which) {
        burst.prefetch_ahead(place);
        if let Some(buffer) = burst.buffers.get_mut(place)
            && let Err(reason) = rewrite::rewrite(buffer, family, burst.marked[place], &neighbour)
        {
            burst.verdicts.end(place, Verdict::Drop(reason));
        }
    }
}

/// Of a packet that does not simply go to a neighbour.
fn forward_exception<B: Buffer>(burst: &mut Burst<B>, place: usize, routes: &Routes) {
    let header = burst.headers.at(place);
    let Some(buffer) = burst.buffers.get_mut(place) else {
        return;
    };
    let is_in = |set: PacketMask| set >> place & 1 == 1;
    let (options, confined) = (is_in(burst.headers.options), is_in(burst.headers.confined));
    let next_hop = routes.choose(burst.next_hops[place], buffer.bytes(), header.family);
    match routes.hop(next_hop) {
        Hop::Forward(neighbour)
            if header.ttl > 1 && header.ip_bytes <= neighbour.mtu && !options && !confined =>
        {
            burst.next_hops[place] = next_hop;
            burst.unwritten |= 1 << place;
            burst.exits[place] = neighbour.exit;
        }
        exception => {
            let verdict = exceptional(exception, header.ttl, options, confined);
            burst.verdicts.end(place, verdict);
        }
    }
}

/// Looks next hops up, and stores those of sessions in them.
#[inline(never)]
fn look_up<B: Buffer>(
    burst: &mut Burst<B>,
    which: PacketMask,
    fibs: &Fibs,
    sessions: &mut Sessions,
) {
    let Burst {
        buffers,
        headers,
        next_hops,
        lookups: Lookups { flows4, flows6, .. },
        sessions: SessionHits {
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
            packets_in(rest)
                .filter(|place| headers.family(*place) == family)
                .fold(0, |set, place| set | 1 << place)
        };
        let frame = |place| buffers.get(place).map_or(&[][..], Buffer::bytes);
        let destination4 = |place| fields::destination4(frame(place));
        look_up_in(&fibs.ipv4, of(IpVersion::V4), destination4, next_hops);
        let destination6 = |place| fields::destination6(frame(place));
        look_up_in(&fibs.ipv6, of(IpVersion::V6), destination6, next_hops);
    }
    for place in packets_in(which & *ipv4) {
        sessions
            .ipv4
            .remember_next_hop(slots[place], next_hops[place]);
    }
    for place in packets_in(which & *ipv6) {
        sessions
            .ipv6
            .remember_next_hop(slots[place], next_hops[place]);
    }
}

/// Looks up which next hops the routes of these packets' sources have.
pub(crate) fn look_up_sources<B: Buffer>(
    burst: &Burst<B>,
    which: PacketMask,
    routes: &Routes,
) -> [u16; BURST] {
    let (ipv6, fibs) = (burst.headers.ipv6, &routes.fibs);
    let mut next_hops = [NO_ROUTE; BURST];
    let source4 = |place| fields::source4(burst.frame(place));
    look_up_in(&fibs.ipv4, which & !ipv6, source4, &mut next_hops);
    let source6 = |place| fields::source6(burst.frame(place));
    look_up_in(&fibs.ipv6, which & ipv6, source6, &mut next_hops);
    next_hops
}

/// Of packets of one family.
#[inline]
fn look_up_in<K: Key>(
    fib: &Fib<K>,
    which: PacketMask,
    address_of: impl Fn(usize) -> K,
    next_hops: &mut [u16; BURST],
) {
    if which == 0 {
        return;
    }
    let mut addresses = [K::default(); BURST];
    for (address, place) in addresses.iter_mut().zip(packets_in(which)) {
        *address = address_of(place);
    }
    let mut found = [NO_ROUTE; BURST];
    let addresses = addresses.get(..which.count_ones() as usize);
    fib.lookup(addresses.unwrap_or_default(), &mut found);
    for (place, found) in packets_in(which).zip(found) {
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

#[cfg(test)]
mod tests;
