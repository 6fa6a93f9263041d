//! What the kernel's state says of each interface, for the QoS server and for operators.

use std::collections::BTreeSet;

use ipnet::IpNet;
use voicelane_dataplane::{settings::InterfaceState, units::InterfaceIndex};
use voicelane_types::IpVersion;

use super::{
    fib::{Fib, TwinOf, Twins},
    state::{State, Via, is_link_local},
};

/// What the kernel says of an interface's twin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceView {
    /// Whether the twin, and the interface under the port if there is one, are up.
    pub up: bool,
    /// Whether the interface under the port, if there is one, is up and has a carrier.
    pub carrier: bool,
    /// The largest IP packet that leaves by it, in bytes.
    pub mtu: u16,
    /// Addresses of the twin and of macvlans on it, without link-local ones, which are of use on the link
    /// only.
    pub addresses: Vec<IpNet>,
    /// What is reached through it, connected and routed.
    pub prefixes: Vec<IpNet>,
}

/// What others want to know of the mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Each interface's, in their order.
    pub interfaces: Vec<InterfaceView>,
    /// Routes that the worker has.
    pub routes: usize,
    /// Routes for which the worker has no room, so that the kernel forwards.
    pub refused_routes: usize,
    /// Neighbours that are known.
    pub neighbours: usize,
}

/// The twins, by the kernel's number of them, that are set down or whose port's link is lost.
pub(super) fn lost(state: &State, twins: &Twins, underlays: &[Option<u32>]) -> BTreeSet<u32> {
    let lost = |&(&index, twin): &(&u32, &TwinOf)| {
        !(has_carrier(state, underlays, twin.interface) && is_up(state, index))
    };
    twins.iter().filter(lost).map(|(&index, _)| index).collect()
}

fn is_up(state: &State, index: u32) -> bool {
    state.link(index).is_some_and(|link| link.up)
}

/// The twins with the addresses that they have now, and the macvlans on them (VRRP's virtual routers,
/// RFC 9568 section 7.3, in keepalived and FRR): what these send leaves by the twin's port.
pub(super) fn with_macvlans(state: &State, twins: &Twins) -> Twins {
    let own = |(&index, &twin): (&u32, &TwinOf)| {
        let mac = state.link(index).and_then(|link| link.mac);
        let mac = mac.unwrap_or(twin.mac);
        (index, TwinOf { mac, ..twin })
    };
    let macvlans = state.macvlans().filter_map(|(index, on, mac)| {
        let &twin = twins.get(&on)?;
        Some((index, TwinOf { mac, ..twin }))
    });
    twins.iter().map(own).chain(macvlans).collect()
}

/// What the worker is to know of each interface. `twins` are the interfaces' own, `all` those with
/// the macvlans on them.
pub(super) fn states<'a>(
    state: &'a State,
    twins: &'a Twins,
    all: &'a Twins,
) -> impl Iterator<Item = (InterfaceIndex, InterfaceState)> + 'a {
    twins.iter().filter_map(move |(&index, twin)| {
        let link = state.link(index)?;
        let own = all.get(&index).map(|own| own.mac);
        let others = state.macvlans().filter(|&(_, on, _)| on == index);
        let others = others.filter(|&(macvlan, ..)| is_up(state, macvlan));
        let macs = own.into_iter().chain(others.map(|(_, _, mac)| mac));
        let interface = InterfaceState {
            up: link.up,
            forwards_ipv4: state.forwards(index, IpVersion::V4),
            forwards_ipv6: state.forwards(index, IpVersion::V6),
            mtu: mtu(state, index, twin),
            macs: macs.take(InterfaceState::MACS).collect(),
        };
        Some((twin.interface, interface))
    })
}

/// The twin's MTU, as far as the port's device goes.
fn mtu(state: &State, index: u32, twin: &TwinOf) -> u16 {
    let mtu = state.link(index).map_or(u32::MAX, |link| link.mtu);
    u16::try_from(mtu).unwrap_or(u16::MAX).min(twin.largest_mtu)
}

/// Whether the interface under an interface's port, if there is one, is up and has a carrier.
fn has_carrier(state: &State, underlays: &[Option<u32>], interface: InterfaceIndex) -> bool {
    let underlay = underlays.get(interface.index()).copied().flatten();
    underlay.is_none_or(|index| {
        state
            .link(index)
            .is_some_and(|link| link.up && link.carrier)
    })
}

/// Looks at the state. `underlays` are the kernel's interfaces under each interface's port, by index: a
/// name may be another's later.
pub(super) fn view(state: &State, fib: &Fib, underlays: &[Option<u32>]) -> View {
    let mut interfaces = vec![InterfaceView::default(); underlays.len()];
    for (&index, twin) in fib.twins() {
        let Some(view) = interfaces.get_mut(twin.interface.index()) else {
            continue;
        };
        let addresses = state.addresses(index);
        view.addresses
            .extend(addresses.filter(|&address| !is_link_local(address)));
        let is_macvlan = state
            .link(index)
            .is_some_and(|link| link.macvlan_on.is_some());
        if is_macvlan {
            continue;
        }
        view.carrier = has_carrier(state, underlays, twin.interface);
        view.up = view.carrier && is_up(state, index);
        view.mtu = mtu(state, index, twin);
    }
    for (prefix, via) in state.prefixes() {
        if is_link_local(prefix) {
            continue;
        }
        let links: BTreeSet<u32> = match via {
            Via::Link { interface } | Via::Gateway { interface, .. } => [*interface].into(),
            Via::Paths(paths) => paths.iter().map(|path| path.interface).collect(),
            Via::Kernel | Via::Nowhere | Via::Refused | Via::Dead | Via::Object { .. } => continue,
        };
        for interface in links {
            let twin = fib.twins().get(&interface);
            let position = twin.map(|twin| twin.interface.index());
            if let Some(view) = position.and_then(|position| interfaces.get_mut(position)) {
                view.prefixes.push(prefix);
            }
        }
    }
    View {
        interfaces,
        routes: fib.routes(),
        refused_routes: fib.lacking(),
        neighbours: state.neighbours(),
    }
}
