//! What the stages' own tests have in common: frames, bursts of them as the stages before leave them, and
//! what is around: two interfaces on two ports, 0 an edge and 1 a core, routes and sessions.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::parse;
use crate::{
    device::{HEAP, SimBuffer, SimPool},
    diffserv::Dscp,
    pipeline::{
        burst::{Burst, Verdict},
        interface::{Interface, Port, Vlans},
    },
    policy::{Policy, TopSenders},
    routing::{Adjacency, Fibs, NextHop, Routes},
    session::{EntrySpec, FiveTuple, Ingress, Origin, Policer, Protocol, SessionChange, Sessions},
    settings::{InterfaceState, Role, Trust},
    stats::{InterfaceCounters, PortCounters},
    units::{BitRate, InterfaceIndex, MacAddress, PortIndex, TickRate, Ticks, VlanId},
};

pub(super) const CLOCK_HZ: u64 = 1_000_000_000;
/// The router's address on each port.
pub(super) const MACS: [MacAddress; 2] = [
    MacAddress([2, 0, 0, 0, 0, 1]),
    MacAddress([2, 0, 0, 0, 0, 2]),
];
pub(super) const NEIGHBOUR: MacAddress = MacAddress([2, 0, 0, 0, 2, 2]);
/// A host behind port 0, and one behind port 1, in each family.
pub(super) const HERE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
pub(super) const THERE: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 7);
pub(super) const HERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5);
pub(super) const THERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 7);
pub(super) const OWN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// Next hops of [`routes`].
pub(super) const TO_NEIGHBOUR: u16 = 1;

/// A UDP packet from [`HERE`] to [`THERE`], port 4000 to 4000, 20 bytes of payload, TTL 64.
pub(super) fn ipv4(dscp: Dscp) -> Vec<u8> {
    ipv4_between(HERE, THERE, 64, dscp)
}

pub(super) fn ipv4_between(from: Ipv4Addr, to: Ipv4Addr, ttl: u8, dscp: Dscp) -> Vec<u8> {
    let mut frame = [&MACS[0].0[..], &[2, 0, 0, 0, 1, 1], &[8, 0]].concat();
    frame.extend([0x45, dscp.number() << 2, 0, 48, 0, 1, 0, 0, ttl, 17, 0, 0]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    fix_checksum(&mut frame);
    frame.extend([15, 160, 15, 160, 0, 28, 0, 0]);
    frame.resize(frame.len() + 20, 0xa5);
    frame
}

/// Writes the IPv4 header checksum (RFC 1071) of a header without options.
pub(super) fn fix_checksum(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let words = frame[14..34].chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) & 0xffff;
    frame[24..26].copy_from_slice(&sum.to_be_bytes()[2..]);
}

/// The same in IPv6.
pub(super) fn ipv6() -> Vec<u8> {
    let mut frame = [&MACS[0].0[..], &[2, 0, 0, 0, 1, 1], &[0x86, 0xdd]].concat();
    frame.extend([0x60, 0, 0, 0, 0, 28, 17, 64]);
    frame.extend(HERE6.octets());
    frame.extend(THERE6.octets());
    frame.extend([15, 160, 15, 160, 0, 28, 0, 0]);
    frame.resize(frame.len() + 20, 0xa5);
    frame
}

/// What is around the stages.
pub(super) struct Around {
    pub(super) pool: SimPool,
    pub(super) port: Port,
    pub(super) interfaces: Vec<Interface>,
    pub(super) sessions: Sessions,
    pub(super) routes: Routes,
}

impl Around {
    /// Interfaces 0 and 1 without a tag, and 2 that is VLAN 100 of port 0. 10.2.0.0/16 and
    /// 2001:db8:2::/48 lead to a neighbour on port 1, 10.1.0.0/16 to one on port 0, 10.9.0.0/16 into a
    /// black hole, [`OWN`] to the router.
    pub(super) fn new() -> Self {
        let interface = |port: u8, vlan: Option<u64>, role| Interface {
            port: PortIndex(port),
            vlan: vlan.and_then(|id| VlanId::new(id).ok()),
            origin: Origin::of(InterfaceIndex(if vlan.is_some() { 2 } else { port }), role),
            state: InterfaceState::new(MACS[usize::from(port)], 1500),
            counters: InterfaceCounters::default(),
            senders: TopSenders::new(7),
        };
        let interfaces = vec![
            interface(0, None, Role::Edge),
            interface(1, None, Role::Core),
            interface(0, Some(100), Role::Edge),
        ];
        let mut routes = Routes::new(Fibs::create(100, 100, HEAP).unwrap());
        let forward = |port: u8| Adjacency::Forward {
            interface: InterfaceIndex(port),
            destination: NEIGHBOUR,
            source: MACS[usize::from(port)],
        };
        for (next_hop, adjacency, prefix, length) in [
            (TO_NEIGHBOUR, forward(1), "10.2.0.0", 16),
            (TO_NEIGHBOUR, forward(1), "2001:db8:2::", 48),
            (2, forward(0), "10.1.0.0", 16),
            (3, Adjacency::Blackhole, "10.9.0.0", 16),
            (4, Adjacency::Local, "10.1.0.1", 32),
        ] {
            let out = |index: InterfaceIndex| Some(interfaces[index.index()].out());
            routes
                .set_adjacency(NextHop(next_hop), adjacency, out)
                .unwrap();
            let prefix = prefix.parse().unwrap();
            routes
                .insert(prefix, length, NextHop(next_hop), Ticks(0))
                .unwrap();
        }
        routes
            .set_ways_in(NextHop(2), [InterfaceIndex(0)].into_iter().collect())
            .unwrap();
        routes
            .set_ways_in(
                NextHop(TO_NEIGHBOUR),
                [InterfaceIndex(1)].into_iter().collect(),
            )
            .unwrap();
        Self {
            pool: SimPool::default(),
            port: Port {
                mac: MACS[0],
                forwards: true,
                vlans: Vlans::new(PortIndex(0), &interfaces),
                counters: PortCounters::default(),
            },
            interfaces,
            sessions: Sessions::new(10, false, TickRate::from_hz(CLOCK_HZ), HEAP),
            routes,
        }
    }

    /// These frames, received on port 0.
    pub(super) fn burst(&self, frames: &[Vec<u8>]) -> Burst<SimBuffer> {
        let mut burst = Burst::new();
        burst
            .buffers
            .extend(frames.iter().map(|frame| self.pool.frame(frame.clone())));
        burst
    }

    pub(super) fn parsed(&mut self, frames: &[Vec<u8>]) -> Burst<SimBuffer> {
        let mut burst = self.burst(frames);
        parse::parse(&mut burst, &mut self.port, &mut self.interfaces);
        burst
    }

    /// Admits the flow of [`ipv4`] or [`ipv6`] as EF, with 80 kbit/s and a burst of 100 bytes.
    pub(super) fn admit(&mut self, flow: FiveTuple) {
        let policer = Policer {
            rate: BitRate::from_bps(80_000).unwrap(),
            burst_bytes: 100,
        };
        let entry = EntrySpec {
            flow,
            ingress: Ingress::Interface(InterfaceIndex(0)),
            dscp: Dscp::EF,
            terms: policer.into(),
            media: None,
        };
        let change = SessionChange {
            install: vec![entry],
            ..SessionChange::default()
        };
        self.sessions.apply(&change, Ticks(0)).unwrap();
    }

    /// The drops that an interface has counted, by their names.
    pub(super) fn drops(&self, interface: usize) -> Vec<&'static str> {
        use crate::stats::DropReason;
        let drops = &self.interfaces[interface].counters.drops;
        let reasons = DropReason::ALL.iter().zip(drops);
        let reasons = reasons.flat_map(|(reason, &count)| (0..count).map(|_| reason.name()));
        reasons.collect()
    }
}

pub(super) fn flow4() -> FiveTuple {
    FiveTuple {
        source: (HERE, 4000).into(),
        destination: (THERE, 4000).into(),
        protocol: Protocol::UDP,
    }
}

pub(super) fn flow6() -> FiveTuple {
    FiveTuple {
        source: (HERE6, 4000).into(),
        destination: (THERE6, 4000).into(),
        protocol: Protocol::UDP,
    }
}

/// The edge's code points are bleached, the core's kept.
pub(super) fn policy() -> Box<Policy> {
    let trusts = [Trust::Bleach, Trust::Keep, Trust::Bleach];
    Policy::of_trusts(trusts.iter().map(Trust::map))
}

/// What has become of each packet: `None` of those that are forwarded.
pub(super) fn ends<B>(burst: &Burst<B>) -> Vec<Option<Verdict>> {
    let forwarded = burst.verdicts.forwarded;
    let end = |place| (forwarded >> place & 1 == 0).then(|| burst.verdicts.verdict(place));
    (0..burst.buffers.len()).map(end).collect()
}
