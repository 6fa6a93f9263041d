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
    let mut found = [None; BURST];
    sessions.find_burst(&burst.flows, &mut found);
    for (&index, session) in burst.flow_owners.iter().zip(found) {
        if let Some(meta) = burst.metas.get_mut(usize::from(index)) {
            meta.session = session;
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
