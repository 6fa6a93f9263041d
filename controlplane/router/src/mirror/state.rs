//! The kernel's links, addresses, routes and neighbours, as it told them.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
};

use ipnet::IpNet;
use voicelane_dataplane::units::MacAddress;
use voicelane_types::IpVersion;

pub use super::events::{Event, Forwarding, LinkState, Neighbour};
use super::routes::add;
pub use super::routes::{Condition, Object, Path, Place, Route, Table, Via};

/// What must be looked at again after events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Prefixes whose route may be another.
    pub prefixes: BTreeSet<IpNet>,
    /// Neighbours whose address may be another.
    pub neighbours: BTreeSet<(u32, IpAddr)>,
    /// What the QoS server is told of interfaces may be another.
    pub interfaces: bool,
    /// Things may have changed of which the kernel says nothing: it must be asked for everything.
    pub resync: bool,
    /// A socket did not hold all that the kernel said.
    pub overrun: bool,
}

type Routes = BTreeMap<IpNet, Vec<Route>>;

/// The kernel's links, routes, next-hop objects and neighbours, as told so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    links: BTreeMap<u32, LinkState>,
    /// By interface, or for all.
    forwarding: BTreeMap<(Option<u32>, IpVersion), Forwarding>,
    addresses: BTreeMap<u32, BTreeSet<IpNet>>,
    local: Routes,
    main: Routes,
    neighbours: BTreeMap<(IpAddr, u32), Neighbour>,
    /// The next hop objects.
    objects: BTreeMap<u32, Object>,
    object_vias: BTreeMap<u32, Via>,
    /// The groups that an object is in.
    groups_of: BTreeMap<u32, BTreeSet<u32>>,
    /// Those that routes are made of, and how many are of each.
    used_objects: BTreeMap<u32, usize>,
    /// Interfaces whose link is lost, which the kernel may know a second later only.
    lost: BTreeSet<u32>,
    /// `net.ipv6.conf.*.mtu` where it is less than the link's.
    ipv6_mtus: BTreeMap<u32, u16>,
}

impl State {
    /// Takes in an event, and notes what it touches.
    pub fn apply(&mut self, event: Event, dirty: &mut Dirty) {
        match event {
            Event::RouteAdded(route, place) => self.add_route(route, place, dirty),
            Event::RouteRemoved(route) => self.remove_route(&route, dirty),
            Event::Neighbour {
                interface,
                address,
                neighbour,
            } => {
                self.set_neighbour(interface, address, neighbour, dirty);
            }
            Event::AddressAdded { interface, address } => {
                dirty.interfaces |= self.addresses.entry(interface).or_default().insert(address);
            }
            Event::AddressRemoved { interface, address } => {
                if let Some(addresses) = self.addresses.get_mut(&interface) {
                    dirty.interfaces |= addresses.remove(&address);
                }
                // Routes that name it as their source go silently.
                dirty.resync = true;
            }
            Event::Link { interface, link } => {
                let (up, carrier) = (link.up, link.carrier);
                let before = self.links.insert(interface, link.clone());
                dirty.interfaces |= before.as_ref() != Some(&link);
                // The kernel drops routes of a link that goes down, those of IPv4 without saying so,
                // and says nothing of those that die and live again with a carrier.
                dirty.resync |=
                    before.is_some_and(|before| before.up && !up || before.carrier != carrier);
            }
            Event::Forwarding {
                interface,
                family,
                forwarding: Forwarding { on, forced },
            } => {
                let known = self.forwarding.entry((interface, family)).or_default();
                let said = Forwarding {
                    on: on.or(known.on),
                    forced: forced.or(known.forced),
                };
                dirty.interfaces |= *known != said;
                *known = said;
            }
            Event::LinkRemoved { interface } => {
                for family in [IpVersion::V4, IpVersion::V6] {
                    self.forwarding.remove(&(Some(interface), family));
                }
                dirty.interfaces |= self.links.remove(&interface).is_some();
                self.addresses.remove(&interface);
                dirty.resync = true;
            }
            Event::Object { id, object } => self.set_object(id, object, dirty),
            Event::Overrun => {
                dirty.resync = true;
                dirty.overrun = true;
            }
        }
    }

    fn set_object(&mut self, id: u32, object: Option<Object>, dirty: &mut Dirty) {
        let former = self.objects.remove(&id);
        for member in former.iter().flat_map(Object::members) {
            if let Entry::Occupied(mut groups) = self.groups_of.entry(member) {
                groups.get_mut().remove(&id);
                if groups.get().is_empty() {
                    groups.remove();
                }
            }
        }
        for member in object.iter().flat_map(Object::members) {
            self.groups_of.entry(member).or_default().insert(id);
        }
        if let Some(object) = object {
            self.objects.insert(id, object);
        }
        let groups = self.groups_of.get(&id).into_iter().flatten();
        let changed: Vec<_> = groups.copied().chain([id]).collect();
        for id in changed {
            match self.objects.get(&id) {
                Some(object) => self.object_vias.insert(id, object.via(&self.objects)),
                None => self.object_vias.remove(&id),
            };
            // Routes go and change with their objects silently.
            dirty.resync |= self.used_objects.contains_key(&id);
        }
    }

    fn add_route(&mut self, route: Route, place: Place, dirty: &mut Dirty) {
        let (table, prefix) = (route.table, route.prefix);
        let mut routes = self.take(table, prefix);
        // Said twice: once in the answer to a question, once by subscription.
        let said = routes.contains(&route) && place != Place::Replace;
        if !said {
            add(&mut routes, route, place);
        }
        self.put(table, prefix, routes);
        if !said {
            self.touch(table, prefix, dirty);
        }
    }

    fn remove_route(&mut self, route: &Route, dirty: &mut Dirty) {
        let (table, prefix) = (route.table, route.prefix);
        let mut routes = self.take(table, prefix);
        let position = routes.iter().position(|other| other == route);
        if let Some(position) = position {
            routes.remove(position);
        }
        // The kernel removed what the mirror does not have in this form, or, of IPv6, only one next
        // hop of several.
        dirty.resync |= routes
            .iter()
            .any(|other| other.metric == route.metric && (other.multipath || position.is_none()));
        self.put(table, prefix, routes);
        if position.is_some() {
            self.touch(table, prefix, dirty);
        }
    }

    /// Takes a prefix's routes out, to be put back when they were changed.
    fn take(&mut self, table: Table, prefix: IpNet) -> Vec<Route> {
        let routes = self.table_mut(table).remove(&prefix).unwrap_or_default();
        for id in routes.iter().filter_map(|route| route.object) {
            if let Some(count) = self.used_objects.get_mut(&id) {
                *count -= 1;
                if *count == 0 {
                    self.used_objects.remove(&id);
                }
            }
        }
        routes
    }

    fn put(&mut self, table: Table, prefix: IpNet, routes: Vec<Route>) {
        for id in routes.iter().filter_map(|route| route.object) {
            *self.used_objects.entry(id).or_default() += 1;
        }
        if !routes.is_empty() {
            self.table_mut(table).insert(prefix, routes);
        }
    }

    /// A route decides on its own prefix and on the neighbours in it, and a local one on every
    /// prefix in it.
    fn touch(&self, table: Table, prefix: IpNet, dirty: &mut Dirty) {
        dirty.interfaces = true;
        dirty.prefixes.insert(prefix);
        if table == Table::Local {
            dirty
                .prefixes
                .extend(within(&self.main, prefix).map(|(&inner, _)| inner));
        }
        let (first, last) = ((prefix.network(), 0), (prefix.broadcast(), u32::MAX));
        let neighbours = self.neighbours.range(first..=last);
        dirty
            .prefixes
            .extend(neighbours.map(|(&(address, _), _)| IpNet::from(address)));
    }

    fn set_neighbour(
        &mut self,
        interface: u32,
        address: IpAddr,
        neighbour: Option<Neighbour>,
        dirty: &mut Dirty,
    ) {
        let key = (address, interface);
        let before = match neighbour {
            Some(neighbour) => self.neighbours.insert(key, neighbour),
            None => self.neighbours.remove(&key),
        };
        if before.map(|before| before.mac) != neighbour.map(|neighbour| neighbour.mac) {
            dirty.prefixes.insert(IpNet::from(address));
            dirty.neighbours.insert((interface, address));
        }
    }

    /// Sets the interfaces without a working link: routes over them are ignored.
    pub fn set_lost(&mut self, lost: BTreeSet<u32>, dirty: &mut Dirty) {
        if self.lost != lost {
            *dirty = self.all_dirty(&Self::default(), dirty);
            self.lost = lost;
        }
    }

    /// Says on which interfaces IPv6 packets may be shorter only than the link's MTU.
    pub fn set_ipv6_mtus(&mut self, mtus: &BTreeMap<u32, u16>, dirty: &mut Dirty) {
        if self.ipv6_mtus != *mtus {
            *dirty = self.all_dirty(&Self::default(), dirty);
            self.ipv6_mtus.clone_from(mtus);
        }
    }

    /// Whether an interface has no working link.
    #[must_use]
    pub fn is_lost(&self, interface: u32) -> bool {
        self.lost.contains(&interface)
    }

    /// Everything that must be looked at when this takes the place of `other`, of which something
    /// was `touched` since it was looked at.
    #[must_use]
    pub fn all_dirty(&self, other: &Self, touched: &Dirty) -> Dirty {
        let mut dirty = Dirty {
            interfaces: true,
            ..touched.clone()
        };
        for state in [self, other] {
            dirty
                .prefixes
                .extend(state.local.keys().chain(state.main.keys()));
            for &(address, interface) in state.neighbours.keys() {
                dirty.prefixes.insert(IpNet::from(address));
                dirty.neighbours.insert((interface, address));
            }
        }
        dirty
    }

    /// Whether the local table has a route to this prefix or one around it.
    #[must_use]
    pub fn is_local(&self, prefix: IpNet) -> bool {
        around(prefix).any(|outer| self.first_alive(&self.local, outer).is_some())
    }

    /// Where the local table sends exactly this prefix.
    #[must_use]
    pub fn local_route(&self, prefix: IpNet) -> Option<&Via> {
        self.first_alive(&self.local, prefix)
    }

    /// Where the main table sends exactly this prefix.
    #[must_use]
    pub fn main_route(&self, prefix: IpNet) -> Option<&Via> {
        self.first_alive(&self.main, prefix)
    }

    /// The longest prefix around an address that the main table has a way for.
    #[must_use]
    pub fn main_prefix(&self, address: IpAddr) -> Option<IpNet> {
        around(IpNet::from(address)).find(|&prefix| self.main_route(prefix).is_some())
    }

    /// The largest packet that goes by the main table's route to exactly this prefix, out of an interface,
    /// where the link's MTU does not say so. A route's own decides before the interface's of IPv6
    /// (`ip6_dst_mtu_maybe_forward` in include/net/ip6_route.h).
    #[must_use]
    pub fn largest_packet(&self, prefix: IpNet, interface: u32) -> Option<u16> {
        let (_, mtu) = self.alive(&self.main, prefix)?;
        let ipv6 = || self.ipv6_mtus.get(&interface).copied();
        mtu.or_else(|| prefix.addr().is_ipv6().then(ipv6).flatten())
    }

    /// What is known of a neighbour.
    #[must_use]
    pub fn neighbour(&self, interface: u32, address: IpAddr) -> Option<Neighbour> {
        self.neighbours.get(&(address, interface)).copied()
    }

    /// The interfaces on which an address is a known neighbour.
    pub fn neighbour_interfaces(&self, address: IpAddr) -> impl Iterator<Item = u32> {
        self.neighbours
            .range((address, 0)..=(address, u32::MAX))
            .map(|(&(_, index), _)| index)
    }

    /// How many neighbours are known.
    #[must_use]
    pub fn neighbours(&self) -> usize {
        self.neighbours.len()
    }

    /// What is known of an interface of the kernel.
    #[must_use]
    pub fn link(&self, interface: u32) -> Option<&LinkState> {
        self.links.get(&interface)
    }

    /// The macvlans on a link, with their addresses.
    pub fn macvlans(&self) -> impl Iterator<Item = (u32, u32, MacAddress)> {
        let links = self.links.iter();
        links.filter_map(|(&index, link)| Some((index, link.macvlan_on?, link.mac?)))
    }

    /// Whether the kernel sends on what comes in on an interface.
    #[must_use]
    pub fn forwards(&self, interface: u32, family: IpVersion) -> bool {
        let said = |interface| {
            let said = self.forwarding.get(&(interface, family));
            said.copied().unwrap_or_default()
        };
        let own = said(Some(interface));
        let all = said(None).on == Some(true);
        own.on != Some(false) && (own.forced != Some(false) || all)
    }

    /// An interface's addresses, in order.
    pub fn addresses(&self, interface: u32) -> impl Iterator<Item = IpNet> {
        self.addresses
            .get(&interface)
            .into_iter()
            .flatten()
            .copied()
    }

    /// Prefixes of the main table, each with where it leads, in order.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpNet, &Via)> {
        self.main
            .keys()
            .filter_map(|&prefix| Some((prefix, self.main_route(prefix)?)))
    }

    /// Where the first of a prefix's routes leads that leads anywhere.
    fn first_alive<'a>(&'a self, routes: &'a Routes, prefix: IpNet) -> Option<&'a Via> {
        self.alive(routes, prefix).map(|(via, _)| via)
    }

    /// The same, with its MTU.
    fn alive<'a>(&'a self, routes: &'a Routes, prefix: IpNet) -> Option<(&'a Via, Option<u16>)> {
        let mut routes = routes.get(&prefix)?.iter().map(|route| match &route.via {
            Via::Object { id } => {
                let via = self.object_vias.get(id).unwrap_or(&Via::Refused);
                (via, route.mtu)
            }
            via => (via, route.mtu),
        });
        routes.find(|(via, _)| match via {
            Via::Dead => false,
            Via::Link { interface } | Via::Gateway { interface, .. } => !self.is_lost(*interface),
            Via::Paths(paths) => !paths.iter().all(|path| self.is_lost(path.interface)),
            Via::Kernel | Via::Nowhere | Via::Refused | Via::Object { .. } => true,
        })
    }

    fn table_mut(&mut self, table: Table) -> &mut Routes {
        match table {
            Table::Local => &mut self.local,
            Table::Main => &mut self.main,
        }
    }
}

/// The prefix itself and all around it, the longest first.
fn around(prefix: IpNet) -> impl Iterator<Item = IpNet> {
    let start = prefix.trunc();
    std::iter::successors(Some(start), IpNet::supernet)
}

fn within(routes: &Routes, prefix: IpNet) -> impl Iterator<Item = (&IpNet, &Vec<Route>)> {
    // Prefixes are ordered by address, then length.
    routes
        .range(prefix..=IpNet::from(prefix.broadcast()))
        .filter(move |(inner, _)| prefix.contains(*inner))
}

/// Whether an IPv6 prefix is one of link-local addresses: each link has the same. IPv4's, which are
/// rarely on more than one link, are routed like others.
#[must_use]
pub fn is_link_local(prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(_) => false,
        IpNet::V6(prefix) => prefix.prefix_len() >= 10 && prefix.addr().is_unicast_link_local(),
    }
}
