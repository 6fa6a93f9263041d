//! What the kernel is asked for, and told.

use std::{io, net::IpAddr};

use futures_util::TryStreamExt as _;
use netlink_packet_route::{AddressFamily, neighbour::NeighbourFlags, route::RouteMessage};
use rtnetlink::{Handle, LinkUnspec};
use tracing::{debug, error, warn};

use super::{
    follow::MirrorError,
    messages, netconf, objects,
    state::{Dirty, Event, LinkState, Place, State},
};

/// All that the kernel has.
pub(super) async fn dump(handle: Handle) -> Result<State, MirrorError> {
    let mut state = State::default();
    let mut dirty = Dirty::default();
    let failed = |what| move |source| MirrorError::Dump { what, source };

    let mut links = handle.link().get().execute();
    while let Some(message) = links.try_next().await.map_err(failed("links"))? {
        if let Some(event) = messages::link(&message) {
            state.apply(event, &mut dirty);
        }
    }
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await.map_err(failed("addresses"))? {
        let interface = message.header.index;
        if let Some(address) = messages::address(&message) {
            state.apply(Event::AddressAdded { interface, address }, &mut dirty);
        }
    }
    let others = async || -> io::Result<_> {
        Ok(netconf::dump()
            .await?
            .into_iter()
            .chain(objects::dump().await?))
    };
    for event in others().await.map_err(MirrorError::Others)? {
        state.apply(event, &mut dirty);
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        let mut routes = handle.route().get(question).execute();
        while let Some(message) = routes.try_next().await.map_err(failed("routes"))? {
            if let Some(route) = messages::route(&message) {
                state.apply(Event::RouteAdded(route, Place::Last), &mut dirty);
            }
        }
        let neighbours = handle.neighbours().get();
        let mut neighbours = neighbours.set_address_family(family).execute();
        while let Some(message) = neighbours.try_next().await.map_err(failed("neighbours"))? {
            if let Some(event) = messages::neighbour(&message) {
                state.apply(event, &mut dirty);
            }
        }
    }
    Ok(state)
}

/// Sets an MTU back for which the port's device and buffers were not made.
pub(super) async fn refuse_mtu(handle: &Handle, index: u32, largest: u16, link: &LinkState) {
    error!(
        interface = link.name,
        mtu = link.mtu,
        largest,
        "the interface keeps its largest MTU: for more, set the port's mtu in the configuration and \
         start the router anew"
    );
    let change = LinkUnspec::new_with_index(index).mtu(largest.into());
    if let Err(error) = handle.link().set(change.build()).execute().await {
        warn!(interface = link.name, %error, "the MTU cannot be set back");
    }
}

/// Lets the kernel find a neighbour, or look whether it is still there.
pub(super) async fn probe(handle: &Handle, interface: u32, address: IpAddr) {
    let request = handle.neighbours().add(interface, address);
    let request = request.flags(NeighbourFlags::Use).replace();
    if let Err(error) = request.execute().await {
        debug!(%address, %error, "the kernel does not probe the neighbour");
    }
}
