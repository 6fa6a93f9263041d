//! What the kernel's state says of each interface, for the QoS server and for operators.

use std::collections::BTreeSet;

use ipnet::IpNet;
use voicelane_dataplane::units::InterfaceIndex;

use super::{
    fib::{Fib, TwinOf, Twins},
    state::{State, Via, is_link_local},
};

/// An interface's twin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceView {
    /// Whether the twin, and the interface under the port if there is one, are up.
    pub up: bool,
    /// Whether the interface under the port, if there is one, is up and has a carrier.
    pub carrier: bool,
    /// The twin's addresses, without link-local ones, which mean nothing beyond the link.
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

/// The twins, by the kernel's number of them, of ports whose link is lost.
pub(super) fn lost(state: &State, twins: &Twins, underlays: &[Option<String>]) -> BTreeSet<u32> {
    let lost = |(_, twin): &(&u32, &TwinOf)| !has_carrier(state, underlays, twin.interface);
    twins.iter().filter(lost).map(|(&index, _)| index).collect()
}

/// Whether the interface under an interface's port, if there is one, is up and has a carrier.
fn has_carrier(state: &State, underlays: &[Option<String>], interface: InterfaceIndex) -> bool {
    let underlay = underlays.get(interface.index()).and_then(Option::as_deref);
    underlay.is_none_or(|name| {
        state
            .link_named(name)
            .is_some_and(|link| link.up && link.carrier)
    })
}

/// Looks at the state. `underlays` are the kernel's interfaces under each interface's port.
pub(super) fn view(state: &State, fib: &Fib, underlays: &[Option<String>]) -> View {
    let mut interfaces = vec![InterfaceView::default(); underlays.len()];
    for (&index, twin) in fib.twins() {
        let Some(view) = interfaces.get_mut(twin.interface.index()) else {
            continue;
        };
        view.carrier = has_carrier(state, underlays, twin.interface);
        view.up = view.carrier && state.link(index).is_some_and(|link| link.up);
        view.addresses = state
            .addresses(index)
            .filter(|&address| !is_link_local(address))
            .collect();
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
