//! The links that calls go over, and what a flow takes of each.
//!
//! A link is one direction of one port of a router. A flow from A to B takes of the port where A's
//! packets come in and of the one where they leave to B; between two routers also of the core port by
//! which A's router reaches B, out, and of the one by which B's reaches A, in. Where several lead there,
//! of each in full, as any may be taken; where none does, of none. Of a half-open flow, and of one that
//! latches and has learned nothing, the links of the end that is known are counted, and the router's
//! core port if it has only one.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::model::{
    course::Course,
    entries::{FlowKind, RTCP_SHARE, most},
    ids::RouterId,
    placement::{Placement, Places},
    registry::{Interface, Location, Registry, Role, Router},
    session::{DEFAULT_PACKET_TIME_US, Learned, MediaFlow, Rtcp, ServiceClass, SessionSpec},
    work,
};

/// An Ethernet header, bytes.
const ETHERNET_BYTES: u64 = 14;
/// An IEEE 802.1Q tag, bytes.
const TAG_BYTES: u64 = 4;
/// Preamble, frame check and gap, bytes: of a router that does not say.
const DEFAULT_OVERHEAD_BYTES: u32 = 24;
/// The MTU of a router that does not say, bytes.
const DEFAULT_MTU_BYTES: u32 = 1_500;

/// Into the router, or out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Into it.
    In,
    /// What the router sends on the port.
    Out,
}

/// One direction of one port of a router.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId {
    /// Whose.
    pub router: RouterId,
    /// The port's name at its router.
    pub port: Arc<str>,
    /// Which way.
    pub direction: Direction,
}

impl LinkId {
    /// Sorts before all others of a router.
    pub(super) fn first_of(router: &RouterId) -> Self {
        Self {
            router: router.clone(),
            port: "".into(),
            direction: Direction::In,
        }
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.direction {
            Direction::In => "into",
            Direction::Out => "out of",
        };
        write!(f, "{way} port {} of router {}", self.port, self.router)
    }
}

/// A port, in both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    links: [Arc<LinkId>; 2],
    budgets: [u64; 2],
}

impl Port {
    /// One direction of it.
    pub fn link(&self, direction: Direction) -> &Arc<LinkId> {
        match direction {
            Direction::In => &self.links[0],
            Direction::Out => &self.links[1],
        }
    }

    /// How much telephony it may have, bit/s on the wire; 0: not limited.
    pub fn budget_bps(&self, direction: Direction) -> u64 {
        match direction {
            Direction::In => self.budgets[0],
            Direction::Out => self.budgets[1],
        }
    }
}

/// The ports of a router, by name, and which of its interfaces calls can go over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    ports: BTreeMap<Arc<str>, Port>,
    /// Indexes of the edge interfaces that are up, by name.
    edges: BTreeMap<Arc<str>, usize>,
    /// Indexes of the core interfaces that are up.
    cores: Box<[usize]>,
}

impl Ports {
    /// Of these interfaces. VLANs share their port's budgets, and each tells them.
    pub fn of(router: &RouterId, interfaces: &[Interface]) -> Self {
        let mut ports: BTreeMap<Arc<str>, Port> = BTreeMap::new();
        for interface in interfaces {
            let name = interface.port_name();
            let link = |direction| {
                Arc::new(LinkId {
                    router: router.clone(),
                    port: name.clone(),
                    direction,
                })
            };
            ports.entry(name.clone()).or_insert_with(|| Port {
                links: [link(Direction::In), link(Direction::Out)],
                budgets: [
                    match interface.ef_ingress_budget_bps {
                        0 => interface.ef_budget_bps,
                        own => own,
                    },
                    interface.ef_budget_bps,
                ],
            });
        }
        let up = |role| {
            let up = move |(_, it): &(usize, &Interface)| it.up && it.role == role;
            interfaces.iter().enumerate().filter(up)
        };
        Self {
            ports,
            edges: up(Role::Edge)
                .map(|(at, it)| (it.name.clone(), at))
                .collect(),
            cores: up(Role::Core).map(|(at, _)| at).collect(),
        }
    }

    /// The port of this name.
    pub fn get(&self, name: &str) -> Option<&Port> {
        self.ports.get(name)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.ports.values()
    }
}

impl Router {
    /// Its edge interface of that name, if its link is up.
    fn edge(&self, name: &str) -> Option<&Interface> {
        work::step();
        self.interfaces.get(*self.ports.edges.get(name)?)
    }

    /// Its edge interfaces whose link is up.
    fn edges(&self) -> impl Iterator<Item = &Interface> {
        self.at(self.ports.edges.values())
    }

    /// Its core interfaces whose link is up.
    fn cores(&self) -> impl Iterator<Item = &Interface> {
        self.at(self.ports.cores.iter())
    }

    fn at<'a>(
        &'a self,
        indexes: impl Iterator<Item = &'a usize>,
    ) -> impl Iterator<Item = &'a Interface> {
        indexes
            .inspect(|_| work::step())
            .filter_map(|index| self.interfaces.get(*index))
    }
}

impl Interface {
    /// Its port's name; a router that does not say has one for each interface.
    fn port_name(&self) -> &Arc<str> {
        if self.port.is_empty() {
            &self.name
        } else {
            &self.port
        }
    }

    /// What a flow takes of it, bit/s on the wire: its rate, RTCP's beside it, and what each packet has
    /// of the link: as many packets as the packet time makes, or the MTU. RTCP is one a second.
    fn charge_bps(&self, flow: &MediaFlow) -> u64 {
        let (rate, _, _) = most(flow);
        let or = |value, default| if value == 0 { default } else { value };
        let tag = if self.vlan_id == 0 { 0 } else { TAG_BYTES };
        let overhead = or(self.overhead_bytes, DEFAULT_OVERHEAD_BYTES);
        let link_bits = 8 * (ETHERNET_BYTES + tag + u64::from(overhead));
        let time_us = or(flow.packet_time_us, DEFAULT_PACKET_TIME_US);
        let mtu_bits = 8 * u64::from(or(self.mtu_bytes, DEFAULT_MTU_BYTES));
        let packets = 1_000_000_u64
            .div_ceil(time_us.into())
            .max(rate.div_ceil(mtu_bits));
        let (rtcp_bps, rtcp_packets) = match flow.rtcp {
            Rtcp::None => (0, 0),
            Rtcp::NextPort | Rtcp::Mux | Rtcp::Explicit(_) => (rate.div_ceil(RTCP_SHARE), 1),
        };
        let headers = link_bits.saturating_mul(packets + rtcp_packets);
        rate.saturating_add(rtcp_bps).saturating_add(headers)
    }
}

/// What a session takes of each link, bit/s on the wire, in the order of the links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges(Box<[(Arc<LinkId>, u64)]>);

impl FromIterator<(Arc<LinkId>, u64)> for Charges {
    fn from_iter<I: IntoIterator<Item = (Arc<LinkId>, u64)>>(all: I) -> Self {
        let all: BTreeMap<_, _> = all.into_iter().collect();
        Self(all.into_iter().collect())
    }
}

impl Charges {
    /// Of a session that was found there.
    pub fn of(
        spec: &SessionSpec,
        learned: &[Learned],
        placement: &Placement,
        registry: &Registry,
    ) -> Self {
        let mut sums: BTreeMap<Arc<LinkId>, u64> = BTreeMap::new();
        if is_admitted(spec.class) {
            for (index, (flow, at)) in spec.flows.iter().zip(placement).enumerate() {
                let mut learned = learned.iter().filter(|it| it.flow == index);
                let learned = learned.find(|it| it.kind == FlowKind::Rtp);
                let way = Way {
                    flow,
                    source: learned.map_or_else(|| source(&flow.course), |it| Some(it.source.ip())),
                    destination: flow.course.destination().map(|it| it.ip()),
                    registry,
                    taken: Vec::new(),
                };
                for (link, bps) in way.taken(&at.media) {
                    let sum = sums.entry(link).or_default();
                    *sum = sum.saturating_add(bps);
                }
            }
        }
        Self(sums.into_iter().collect())
    }

    /// Link by link.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<LinkId>, u64)> {
        self.0.iter().map(|(link, bps)| (link, *bps))
    }

    /// What is taken of one link.
    pub fn on(&self, link: &LinkId) -> u64 {
        let found = self.0.binary_search_by(|(it, _)| (**it).cmp(link)).ok();
        found
            .and_then(|at| self.0.get(at))
            .map_or(0, |(_, bps)| *bps)
    }

    /// The sum of several sessions'.
    pub fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut sums: BTreeMap<Arc<LinkId>, u64> = BTreeMap::new();
        for (link, bps) in all.flat_map(Self::iter) {
            let sum = sums.entry(link.clone()).or_default();
            *sum = sum.saturating_add(bps);
        }
        Self(sums.into_iter().collect())
    }

    /// Of each link the greater of both.
    #[must_use]
    pub fn or_more(&self, other: &Self) -> Self {
        let mut most: BTreeMap<Arc<LinkId>, u64> = self.0.iter().cloned().collect();
        for (link, bps) in other.iter() {
            let most = most.entry(link.clone()).or_default();
            *most = bps.max(*most);
        }
        Self(most.into_iter().collect())
    }
}

/// Whether sessions of a class are admitted by link: those of the two for voice.
fn is_admitted(class: ServiceClass) -> bool {
    matches!(
        class,
        ServiceClass::Telephony | ServiceClass::AdmittedTelephony
    )
}

/// Where packets come from, or are to come from to be learned from.
fn source(course: &Course) -> Option<IpAddr> {
    match course {
        Course::Latching(latch) => latch.from,
        Course::Whole(_) | Course::Half(..) => course.source().map(|it| it.ip()),
    }
}

/// A flow's way over links.
struct Way<'a> {
    flow: &'a MediaFlow,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    registry: &'a Registry,
    taken: Vec<(Arc<LinkId>, u64)>,
}

impl Way<'_> {
    /// Each link once.
    fn taken(mut self, at: &Places) -> Vec<(Arc<LinkId>, u64)> {
        let (source, destination) = (at.source.as_deref(), at.destination.as_deref());
        if let Some(source) = source {
            self.edge(source, Direction::In);
        }
        if let Some(destination) = destination {
            self.edge(destination, Direction::Out);
        }
        let stays = source.zip(destination);
        if stays.is_none_or(|(from, to)| from.router != to.router) {
            if let Some(source) = source {
                self.core(source, Direction::Out, self.destination);
            }
            if let Some(destination) = destination {
                self.core(destination, Direction::In, self.source);
            }
        }
        self.taken
    }

    /// The ports of the edge interfaces that an address is behind.
    fn edge(&mut self, at: &Location, direction: Direction) {
        let Some(router) = self.registry.router(&at.router) else {
            return;
        };
        if !at.several {
            if let Some(interface) = router.edge(&at.interface) {
                self.take(router, interface, direction);
            }
            return;
        }
        for interface in router.edges() {
            if interface.prefixes.binary_search(&at.prefix).is_ok() {
                self.take(router, interface, direction);
            }
        }
    }

    /// The ports of the core interfaces by which a router reaches an address; without one, its only
    /// core port.
    fn core(&mut self, at: &Location, direction: Direction, address: Option<IpAddr>) {
        let Some(router) = self.registry.router(&at.router) else {
            return;
        };
        let Some(address) = address else {
            let mut ports = router.cores().map(Interface::port_name);
            let first = ports.next();
            if ports.all(|port| Some(port) == first) {
                let cores = router.cores();
                cores.for_each(|interface| self.take(router, interface, direction));
            }
            return;
        };
        let mut best: Option<u8> = None;
        let mut leading: Vec<&Interface> = Vec::new();
        for interface in router.cores() {
            let Some(prefix) = longest(&interface.prefixes, address) else {
                continue;
            };
            let length = Some(prefix.prefix_len());
            if length > best {
                leading.clear();
            }
            if length >= best {
                best = length;
                leading.push(interface);
            }
        }
        for interface in leading {
            self.take(router, interface, direction);
        }
    }

    fn take(&mut self, router: &Router, interface: &Interface, direction: Direction) {
        let Some(port) = router.ports.get(interface.port_name()) else {
            return;
        };
        let (link, bps) = (port.link(direction), interface.charge_bps(self.flow));
        match self.taken.iter_mut().find(|(taken, _)| taken == link) {
            Some((_, most)) => *most = bps.max(*most),
            None => self.taken.push((link.clone(), bps)),
        }
    }
}

/// The longest of the prefixes, which are in order, that an address is in.
pub fn longest(prefixes: &[IpNet], address: IpAddr) -> Option<IpNet> {
    let mut bound = IpNet::from(address);
    loop {
        let end = prefixes.partition_point(|prefix| *prefix <= bound);
        let last = *prefixes.get(..end)?.last()?;
        if last.contains(&address) {
            return Some(last);
        }
        // What has the address has all that both have in common, so it comes before.
        bound = IpNet::new(address, common_bits(last.network(), address)?)
            .ok()?
            .trunc();
    }
}

/// How many first bits two addresses of one family share.
fn common_bits(one: IpAddr, other: IpAddr) -> Option<u8> {
    let zeros = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    u8::try_from(zeros).ok()
}
