//! A worker, or several cores, on the simulated device, between an edge port (0) and a core port (1).

#![allow(unreachable_pub, reason = "what tests share is public in its module")]

pub mod conserved;
mod frames;
pub mod overload;
pub mod policy;
pub mod reference;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use frames::{Udp, Udp6};
use reference::canonical;
use voicelane_dataplane::{
    Adjacency, Fibs,
    control::{Answer, Command, Control, NextHop, Request, Twins},
    device::{HEAP, SimBuffer, SimDevice, SimPool},
    diffserv::Dscp,
    policy::Policy,
    session::{EntrySpec, FiveTuple, Ingress, Policer, Protocol, SessionChange},
    settings::{PortSettings, Role, Settings, Trust, VlanSettings},
    stats::{DropReason, PuntReason, Report},
    units::{BitRate, InterfaceIndex, MacAddress, PortIndex, TickRate, Ticks, VlanId},
    workers::FanOut,
    workers::Worker,
    workers::{Layout, Workers},
};

pub const CLOCK_HZ: u64 = 1_000_000_000;
pub const EDGE: PortIndex = PortIndex(0);
pub const CORE: PortIndex = PortIndex(1);
pub const EDGE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
pub const CORE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
pub const HOST_MAC: MacAddress = MacAddress([2, 0, 0, 0, 1, 1]);
pub const PEER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 2, 2]);

/// An address behind the edge port.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
/// An address behind the core port.
pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 7);
/// The router's own.
pub const OWN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

pub fn rate(text: &str) -> BitRate {
    text.parse().unwrap()
}

pub fn fibs() -> Fibs {
    Fibs::create(1_000, 1_000, HEAP).unwrap()
}

/// Ports with the two ends' usual rates; tests change what they are about.
pub fn settings(core_rate: &str) -> Settings {
    let mut settings = Settings::new(vec![
        PortSettings::new(EDGE_MAC, Trust::Bleach, rate("100Gbit/s")),
        PortSettings::new(CORE_MAC, Trust::Keep, rate(core_rate)),
    ]);
    settings.seed = 7;
    settings
}

pub struct Rig {
    pub members: Vec<Worker<SimDevice>>,
    pub layout: Layout,
    fan_out: Option<FanOut>,
    /// The worker that receives next.
    receiver: usize,
    pub control: Control,
    pub twins: Twins<SimBuffer>,
    pub pool: SimPool,
    pub now: u64,
    ports: usize,
    interfaces: usize,
}

impl Rig {
    /// Routes: 10.1.0.0/16 to a host at the edge, 10.2.0.0/16 to a peer in the core, 10.3.0.0/16 to
    /// an unknown neighbour, 10.4.0.0/16 into the black hole, 10.1.0.1 to the router itself; and in
    /// IPv6 alike from 2001:db8:1::/48 on.
    pub fn new(settings: &Settings) -> Self {
        Self::with(settings, Layout::FUSED)
    }

    /// The same on several cores, each with a device of its own.
    pub fn with(settings: &Settings, layout: Layout) -> Self {
        let ports = settings.ports.len();
        let device = || SimDevice::new(ports, TickRate::from_hz(CLOCK_HZ));
        let workers = (0..layout.workers).map(|_| (device(), fibs()));
        let schedulers = (0..layout.schedulers).map(|_| device());
        let workers = Workers::new(settings, workers.collect(), schedulers.collect());
        let mut rig = Self {
            members: workers.cores,
            layout,
            fan_out: workers.fan_out,
            receiver: 0,
            control: workers.control,
            twins: workers.twins,
            pool: SimPool::default(),
            now: 0,
            ports,
            interfaces: settings.interfaces().count(),
        };
        let forward = |port, source, destination| Adjacency::Forward {
            interface: InterfaceIndex::from(port),
            destination,
            source,
        };
        for (number, adjacency, prefix, length) in [
            (1, forward(EDGE, EDGE_MAC, HOST_MAC), "10.1.0.0", 16),
            (1, forward(EDGE, EDGE_MAC, HOST_MAC), "2001:db8:1::", 48),
            (2, forward(CORE, CORE_MAC, PEER_MAC), "10.2.0.0", 16),
            (2, forward(CORE, CORE_MAC, PEER_MAC), "2001:db8:2::", 48),
            (3, Adjacency::Resolve, "10.3.0.0", 16),
            (3, Adjacency::Resolve, "2001:db8:3::", 48),
            (4, Adjacency::Blackhole, "10.4.0.0", 16),
            (4, Adjacency::Blackhole, "2001:db8:4::", 48),
            (5, Adjacency::Local, "10.1.0.1", 32),
            (5, Adjacency::Local, "2001:db8:1::1", 128),
        ] {
            rig.route(number, adjacency, prefix, length);
        }
        rig
    }

    /// Sets a next hop, and a route to it.
    pub fn route(&mut self, number: u16, adjacency: Adjacency, prefix: &str, length: u8) {
        let next_hop = NextHop(number);
        let prefix: IpAddr = prefix.parse().unwrap();
        for request in [
            Request::SetAdjacency {
                next_hop,
                adjacency,
            },
            Request::SetRoute {
                prefix,
                length,
                next_hop,
            },
        ] {
            assert!(matches!(self.ask(request), Answer::Route(Ok(()))));
        }
    }

    /// Says from which interfaces sources may come whose route has a next hop.
    pub fn ways_in(&mut self, number: u16, interfaces: &[InterfaceIndex]) {
        let request = Request::SetWaysIn {
            next_hop: NextHop(number),
            interfaces: interfaces.iter().copied().collect(),
        };
        assert!(matches!(self.ask(request), Answer::Route(Ok(()))));
    }

    pub fn ask(&mut self, request: Request) -> Answer {
        self.control
            .commands
            .try_send(Command { ticket: 7, request })
            .unwrap();
        // While whole bursts come it takes some turns.
        let mut replies = (0..8).filter_map(|_| {
            self.turn();
            self.control.replies.try_recv().ok()
        });
        let reply = replies.next().unwrap();
        assert_eq!(reply.ticket, 7);
        reply.answer
    }

    pub fn install(&mut self, install: Vec<EntrySpec>) {
        let change = SessionChange {
            install,
            remove: vec![],
            ..SessionChange::default()
        };
        let answer = self.ask(Request::Session(change));
        assert!(matches!(answer, Answer::Session(Ok(()))), "{answer:?}");
    }

    pub fn report(&mut self) -> Report {
        let report = Report::new(self.ports, self.interfaces);
        self.report_into(report)
    }

    /// A report in place of what another one says.
    pub fn report_into(&mut self, report: Box<Report>) -> Report {
        match self.ask(Request::Report(report)) {
            Answer::Report(report) => *report,
            other => panic!("{other:?}"),
        }
    }

    /// A turn of every core; gives what they moved.
    pub fn turn(&mut self) -> usize {
        self.fan_out.iter_mut().for_each(FanOut::turn);
        let moved = self.members.iter_mut().map(Worker::turn).sum();
        self.fan_out.iter_mut().for_each(FanOut::turn);
        moved
    }

    /// Turns until nothing moves before time goes on, so that nothing is between two cores.
    pub fn settle(&mut self) {
        while self.turn() > 0 {}
    }

    pub fn deliver(&mut self, port: PortIndex, frame: &[u8]) {
        let frame = self.pool.frame(frame);
        self.deliver_buffer(port, frame);
    }

    /// To one worker after the other.
    pub fn deliver_buffer(&mut self, port: PortIndex, frame: SimBuffer) {
        let worker = &mut self.members[self.receiver];
        worker.device_mut().deliver(port, frame);
        self.receiver = (self.receiver + 1) % self.layout.workers;
    }

    pub fn advance_to(&mut self, now: u64) {
        self.now = now;
        for member in &mut self.members {
            member.device_mut().advance_to(Ticks(now));
        }
    }

    pub fn block(&mut self, port: PortIndex, blocked: bool) {
        for member in &mut self.members {
            member.device_mut().block(port, blocked);
        }
    }

    pub fn set_policy(&mut self, policy: Box<Policy>) {
        for member in &mut self.members {
            member.set_policy(policy.clone());
        }
    }

    pub fn invariants(&mut self) {
        self.members.iter_mut().for_each(Worker::invariants);
    }

    pub fn sent(&mut self, port: PortIndex) -> Vec<(u64, Vec<u8>)> {
        use voicelane_dataplane::device::Buffer as _;
        let scheduler = &mut self.members[self.layout.scheduler(port)];
        let sent = scheduler.device_mut().take_sent(port);
        sent.into_iter()
            .map(|(at, frame)| (at.0, frame.bytes().to_vec()))
            .collect()
    }

    /// Sends one frame in at the edge, and gives what came out of the core port.
    pub fn forward(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        self.deliver(EDGE, frame);
        self.turn();
        self.sent(CORE).pop().map(|(_, frame)| frame)
    }

    /// What one frame into the edge port is dropped for.
    pub fn dropped_for(&mut self, frame: &[u8]) -> Option<DropReason> {
        let before = self.report().interfaces[0].drops;
        self.deliver(EDGE, frame);
        self.turn();
        let after = self.report().interfaces[0].drops;
        DropReason::ALL
            .iter()
            .copied()
            .find(|r| after[r.index()] > before[r.index()])
    }

    /// What one frame into the edge port is given to the kernel for; the kernel gets it as it came,
    /// byte by byte, but for its code point and the checksum over it.
    pub fn punted_for(&mut self, frame: &[u8]) -> Option<PuntReason> {
        let before = self.report().interfaces[0].punts;
        self.deliver(EDGE, frame);
        self.turn();
        let after = self.report().interfaces[0].punts;
        let reason = PuntReason::ALL
            .iter()
            .copied()
            .find(|r| after[r.index()] > before[r.index()]);
        if reason.is_some() {
            use voicelane_dataplane::device::Buffer as _;
            let (interface, punted) = self.twins.from_worker.try_recv().unwrap();
            let edge = InterfaceIndex::from(EDGE);
            assert_eq!(interface, edge);
            let [came, went] = [frame, punted.bytes()].map(|frame| canonical(frame).bytes);
            assert_eq!(went, came);
        }
        reason
    }
}

fn flow(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> FiveTuple {
    FiveTuple {
        source: (source, ports.0).into(),
        destination: (destination, ports.1).into(),
        protocol: Protocol::UDP,
    }
}

fn session(flow: FiveTuple, rate_text: &str, burst_bytes: u32) -> EntrySpec {
    let policer = Policer {
        rate: rate(rate_text),
        burst_bytes,
    };
    EntrySpec {
        flow,
        ingress: Ingress::Interface(EDGE.into()),
        dscp: Dscp::EF,
        terms: policer.into(),
        media: None,
    }
}

/// An address behind the edge port.
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5);
/// An address behind the core port.
pub const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 7);
/// The router's own.
pub const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// Behind VLAN 300 of the core port.
pub const FAR_VLAN: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 7);
/// Behind VLAN 100 of the edge port.
pub const NEAR_VLAN: Ipv4Addr = Ipv4Addr::new(10, 6, 0, 7);
/// Behind VLAN 300 of the core port.
pub const FAR_VLAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 7);
/// Interfaces of a router whose edge port has VLANs 100 and 200, and whose core port has 300.
pub const EDGE_100: InterfaceIndex = InterfaceIndex(2);
pub const EDGE_200: InterfaceIndex = InterfaceIndex(3);
pub const CORE_300: InterfaceIndex = InterfaceIndex(4);

pub fn vlan(id: u64, trust: Trust) -> VlanSettings {
    VlanSettings {
        id: VlanId::new(id).unwrap(),
        role: if trust == Trust::Keep {
            Role::Core
        } else {
            Role::Edge
        },
        trust,
        mtu: 1500,
        routing: matches!(trust, Trust::Keep),
    }
}

/// Routes to what is behind [`CORE_300`] and [`EDGE_100`].
pub fn route_to_vlans(rig: &mut Rig) {
    for (number, interface, source, destination, prefix, length) in [
        (6, CORE_300, CORE_MAC, PEER_MAC, "10.5.0.0", 16),
        (6, CORE_300, CORE_MAC, PEER_MAC, "2001:db8:5::", 48),
        (7, EDGE_100, EDGE_MAC, HOST_MAC, "10.6.0.0", 16),
    ] {
        let adjacency = Adjacency::Forward {
            interface,
            destination,
            source,
        };
        rig.route(number, adjacency, prefix, length);
    }
}

/// The frame with a VLAN tag behind its addresses, or where it ends.
pub fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    [addresses, &[0x81, 0], &tci.to_be_bytes(), rest].concat()
}

/// The frame with so many bytes behind its packet, which are not of it.
pub fn with_trailer(frame: &[u8], bytes: usize) -> Vec<u8> {
    [frame, &vec![0x99; bytes]].concat()
}

/// The IPv4 header checksum, computed from nothing (RFC 1071).
pub fn checksum(frame: &[u8]) -> u16 {
    let header = usize::from(frame[14] & 15) * 4;
    let sum = frame[14..14 + header]
        .chunks(2)
        .enumerate()
        .filter(|(word, _)| *word != 5)
        .fold(0_u32, |sum, (_, pair)| {
            let sum = sum + u32::from(u16::from_be_bytes([pair[0], pair[1]]));
            (sum & 0xffff) + (sum >> 16)
        });
    !u16::try_from(sum).unwrap()
}

pub fn fix_checksum(frame: &mut [u8]) {
    let checksum = checksum(frame).to_be_bytes();
    frame[24..26].copy_from_slice(&checksum);
}
