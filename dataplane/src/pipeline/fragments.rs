//! Fragments: the parts of a session's packets that have no ports.

use crate::{
    pipeline::{burst::Burst, interface::Interface},
    session::{FragmentId, Fragments, Sessions},
    units::Ticks,
};

/// A fragment, as `parse` found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) id: FragmentId,
    /// Whether it has the ports.
    pub(super) first: bool,
}

/// Gives the fragments of a packet the session of its first one, which must have come before; what
/// follows nothing is in no session, and counted.
#[cold]
pub(super) fn follow<B>(
    burst: &mut Burst<B>,
    fragments: &mut Fragments,
    sessions: &Sessions,
    interfaces: &mut [Interface],
    now: Ticks,
) {
    let Burst {
        ingress,
        origins,
        lookups,
        sessions: matches,
        ..
    } = burst;
    let found = lookups.fragments.items.iter();
    for (&Fragment { id, first }, &place) in found.zip(&lookups.fragments.places) {
        if first {
            if let Some(flow) = lookups.flow(place)
                && matches.all() >> place & 1 == 1
            {
                fragments.remember(id, flow, now);
            }
        } else {
            // The session may have ended meanwhile.
            let flow = fragments.flow(&id, now);
            if let Some(flow) = flow.and_then(|flow| sessions.find(&flow)) {
                if sessions.comes_from(flow, origins[place]) {
                    matches.put(place, flow);
                } else {
                    matches.put_spoofed(place, flow);
                }
            } else if let Some(interface) = interfaces.get_mut(ingress[place].index()) {
                interface.counters.fragments += 1;
            }
        }
    }
}
