use voicelane_dpdk::BURST;

use super::Burst;
use crate::{
    counters::PortCounters,
    device::Buffer,
    diffserv::Dscp,
    session::{FlowKey4, SessionTable},
    settings::Trust,
};

/// Decides each packet's code point: its session's, by exact five-tuple (written by `police`);
/// without one, its own as far as the interface is trusted.
#[inline(never)]
pub(super) fn classify<B: Buffer>(
    burst: &mut Burst<B>,
    sessions: &SessionTable<FlowKey4>,
    trust: Trust,
    counters: &mut PortCounters,
) {
    // The lookup goes over the burst three times, so that each miss of the cache is under way
    // while the others are started.
    let mut hashes = [0; BURST];
    for ((_, key), hash) in burst.flows.iter().zip(&mut hashes) {
        *hash = sessions.hash(key);
        sessions.prefetch_bucket(*hash);
    }
    for (_, hash) in burst.flows.iter().zip(hashes) {
        sessions.prefetch_entry(hash);
    }
    for ((index, key), hash) in burst.flows.iter().zip(hashes) {
        if let Some(meta) = burst.metas.get_mut(usize::from(*index)) {
            meta.session = sessions.find_hashed(key, hash);
        }
    }

    for (_, meta) in burst.forwarded() {
        let own = meta.class.dscp();
        meta.dscp = own;
        // Lower effort harms nobody: it may be asked for without a session.
        if meta.session.is_none() && trust == Trust::Untrusted && own != Dscp::LE {
            meta.dscp = Dscp::DF;
            counters.bleached_packets += u64::from(own != Dscp::DF);
        }
    }
}
