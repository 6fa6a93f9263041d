//! Where a prefix should lead by the kernel's state, and what that means to the worker.

use std::{net::IpAddr, num::NonZeroU16, sync::Arc};

use ipnet::IpNet;
use voicelane_dataplane::{Adjacency, Paths, control::NextHop, units::InterfaceIndex};

use super::{TwinOf, Twins};
use crate::mirror::state::{Path, State, Via, is_link_local};

/// The first one that is no [`Target::fixed`] one.
pub(super) const FIRST_NEXT_HOP: u16 = FIRST_LINK + 1 + u8::MAX as u16;
/// That of the first interface's link.
pub(super) const FIRST_LINK: u16 = 5;

/// Where a prefix leads, before anybody asks whether the neighbour is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    Kernel,
    /// An interface that only the kernel has.
    KernelInterface,
    Nowhere,
    Resolve,
    /// A network on an interface, whose hosts the kernel finds.
    Link {
        interface: InterfaceIndex,
    },
    Neighbour {
        interface: u32,
        address: IpAddr,
    },
    /// The same, for packets of at most so many bytes; longer ones are the kernel's.
    Narrow {
        interface: u32,
        address: IpAddr,
        mtu: u16,
    },
    /// Several neighbours, each of which is a target of its own, with its share of the flows.
    Paths(Arc<[(Target, NonZeroU16)]>),
}

impl Target {
    pub(super) fn neighbour(path: &Path) -> (Self, NonZeroU16) {
        let &Path {
            interface,
            address,
            weight,
        } = path;
        (Self::Neighbour { interface, address }, weight)
    }

    /// The interface and address of what is one neighbour.
    pub(super) fn address(&self) -> Option<(u32, IpAddr)> {
        match *self {
            Self::Neighbour { interface, address }
            | Self::Narrow {
                interface, address, ..
            } => Some((interface, address)),
            _ => None,
        }
    }

    /// The number that is kept for a target, so that it can always be led to.
    pub(super) fn fixed(&self) -> Option<NextHop> {
        match self {
            Self::Kernel => Some(NextHop(1)),
            Self::Nowhere => Some(NextHop(2)),
            Self::Resolve => Some(NextHop(3)),
            Self::KernelInterface => Some(NextHop(4)),
            Self::Link { interface } => Some(NextHop(FIRST_LINK + u16::from(interface.0))),
            Self::Neighbour { .. } | Self::Narrow { .. } | Self::Paths(_) => None,
        }
    }

    /// A neighbour, for packets of at most as many bytes as `limit` says for its interface, if it does.
    fn within(self, limit: &Limit<'_>) -> Self {
        match self {
            Self::Neighbour { interface, address } => match limit(interface) {
                Some(mtu) => Self::Narrow {
                    interface,
                    address,
                    mtu,
                },
                None => self,
            },
            target => target,
        }
    }

    /// The neighbours that flows are shared among.
    pub(super) fn members(&self) -> &[(Self, NonZeroU16)] {
        match self {
            Self::Paths(members) => members.get(..Paths::MAX).unwrap_or(members),
            _ => &[],
        }
    }
}

/// The longest packets that a route lets out of an interface of the kernel's, in bytes; `None`: as long as
/// the interface's own.
type Limit<'a> = dyn Fn(u32) -> Option<u16> + 'a;

/// Where the table should send exactly this prefix; `None` if it should not have it.
pub(super) fn wanted(state: &State, twins: &Twins, prefix: IpNet) -> Option<Target> {
    // The dataplane hands what is not to leave its link to the kernel, whatever the table says.
    if is_link_local(prefix) {
        return None;
    }
    if let Some(via) = state.local_route(prefix) {
        return Some(target(state, twins, via, &|_| None));
    }
    // The kernel asks the local table first, whatever is more specific in the main one.
    if state.is_local(prefix) {
        return None;
    }
    let via = || {
        let via = state.main_route(prefix)?;
        let limit = |interface| state.largest_packet(prefix, interface);
        Some(target(state, twins, via, &limit))
    };
    if prefix.prefix_len() < prefix.max_prefix_len() {
        return via();
    }
    // A host is reached directly where the route that covers it says so.
    let address = prefix.addr();
    let covering = state.main_prefix(address);
    if let Some(covering) = covering
        && let Some(&Via::Link { interface }) = state.main_route(covering)
        && twins.contains_key(&interface)
        && state.neighbour(interface, address).is_some()
    {
        let neighbour = Target::Neighbour { interface, address };
        return Some(neighbour.within(&|interface| state.largest_packet(covering, interface)));
    }
    via()
}

fn target(state: &State, twins: &Twins, via: &Via, limit: &Limit<'_>) -> Target {
    match *via {
        Via::Kernel => Target::Kernel,
        Via::Nowhere => Target::Nowhere,
        Via::Refused | Via::Dead | Via::Object { .. } => Target::Resolve,
        // Over an interface that only the kernel has, if it is no twin.
        Via::Link { interface } => match twins.get(&interface) {
            Some(&TwinOf { interface, .. }) => Target::Link { interface },
            None => Target::KernelInterface,
        },
        Via::Gateway { interface, .. } if !twins.contains_key(&interface) => {
            Target::KernelInterface
        }
        Via::Gateway { interface, address } => {
            Target::Neighbour { interface, address }.within(limit)
        }
        Via::Paths(ref paths) => {
            if !paths.iter().all(|path| twins.contains_key(&path.interface)) {
                return Target::Resolve; // The kernel shares the flows.
            }
            if !paths.iter().any(|path| state.is_lost(path.interface)) {
                let within = |(member, weight): (Target, _)| (member.within(limit), weight);
                let members = paths.iter().map(Target::neighbour).map(within);
                return Target::Paths(members.collect());
            }
            let alive = paths.iter().filter(|path| !state.is_lost(path.interface));
            target(state, twins, &Via::paths(alive.copied().collect()), limit)
        }
    }
}

pub(super) fn adjacency(state: &State, twins: &Twins, target: &Target) -> Adjacency {
    match *target {
        Target::Kernel => Adjacency::Local,
        Target::KernelInterface => Adjacency::Kernel,
        Target::Nowhere => Adjacency::Blackhole,
        // Of several those that are known are asked for one by one.
        Target::Resolve | Target::Link { .. } | Target::Paths(_) => Adjacency::Resolve,
        Target::Narrow {
            interface,
            address,
            mtu,
        } => match adjacency(state, twins, &Target::Neighbour { interface, address }) {
            Adjacency::Forward {
                interface,
                destination,
                source,
            } => Adjacency::Narrow {
                interface,
                destination,
                source,
                mtu,
            },
            other => other,
        },
        Target::Neighbour { interface, address } => {
            match (twins.get(&interface), state.neighbour(interface, address)) {
                (Some(twin), Some(neighbour)) => Adjacency::Forward {
                    interface: twin.interface,
                    destination: neighbour.mac,
                    source: twin.mac,
                },
                _ => Adjacency::Resolve,
            }
        }
    }
}
