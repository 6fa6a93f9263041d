use voicelane_dpdk::BURST;

use super::{Burst, Interface, Meta, Placed};
use crate::{
    device::Buffer,
    session::{FlowId, FlowKey, SessionTable, Sessions, Slot},
};

/// Decides each packet's code point: its session's, by exact five-tuple (written by `police`);
/// without one, its own as far as the interface is trusted.
#[inline(never)]
pub(super) fn classify<B: Buffer>(
    burst: &mut Burst<B>,
    sessions: &Sessions,
    interfaces: &mut [Interface],
) {
    let Burst { metas, lookups, .. } = burst;
    find(&sessions.ipv4, &lookups.flows4, metas, FlowId::V4);
    find(&sessions.ipv6, &lookups.flows6, metas, FlowId::V6);

    for (_, meta) in burst.forwarded() {
        let own = meta.class.dscp();
        meta.dscp = own;
        if meta.session.is_none() {
            let interface = &mut interfaces[meta.ingress.index()];
            meta.dscp = interface.trust.get(own);
            interface.counters.bleached_packets += u64::from(meta.dscp != own);
        }
    }
}

/// Looks the flows of one family up, and tells each packet its session.
#[inline]
fn find<K: FlowKey>(
    table: &SessionTable<K>,
    flows: &Placed<K>,
    metas: &mut [Meta],
    id: impl Fn(Slot) -> FlowId,
) {
    let mut found = [None; BURST];
    table.find_burst(&flows.items, &mut found);
    for (&place, slot) in flows.places.iter().zip(found) {
        if let Some(meta) = metas.get_mut(usize::from(place)) {
            meta.session = slot.map(&id);
        }
    }
}
