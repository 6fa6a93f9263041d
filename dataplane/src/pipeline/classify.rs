use arrayvec::ArrayVec;
use voicelane_dpdk::BURST;

use super::Burst;
use crate::{
    counters::PortCounters,
    device::Buffer,
    diffserv::Dscp,
    session::{FlowKey4, SessionTable},
    settings::Trust,
    wire::{Ethernet, Ipv4},
};

/// Decides each packet's code point: its session's, by exact five-tuple (written by `police`);
/// without one, its own as far as the interface is trusted.
#[inline]
pub(super) fn classify<B: Buffer>(
    burst: &mut Burst<B>,
    sessions: &SessionTable<FlowKey4>,
    trust: Trust,
    counters: &mut PortCounters,
) {
    // The lookup goes over the burst three times, so that each miss of the cache is under way
    // while the others are started.
    let mut keys = ArrayVec::<(usize, FlowKey4, u64), BURST>::new();
    for (index, (buffer, meta)) in burst.buffers.iter().zip(&burst.metas).enumerate() {
        if let (true, Some(ports_at)) = (meta.is_forwarded(), meta.ports_at)
            && let Some(key) = flow_key(buffer.bytes(), ports_at, meta.protocol)
        {
            let hash = sessions.hash(&key);
            sessions.prefetch_bucket(hash);
            keys.push((index, key, hash));
        }
    }
    for &(_, _, hash) in &keys {
        sessions.prefetch_entry(hash);
    }
    for (index, key, hash) in &keys {
        burst.metas[*index].session = sessions.find_hashed(key, *hash);
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

/// The five-tuple of an IPv4 packet whose transport header is at `ports_at`.
#[inline]
fn flow_key(frame: &[u8], ports_at: u16, protocol: u8) -> Option<FlowKey4> {
    let ip = Ipv4::new(frame.get(Ethernet::LENGTH..)?)?;
    let [a, b, c, d] = *frame.get(usize::from(ports_at)..)?.first_chunk()?;
    let (source_port, destination_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(FlowKey4::new(
        ip.source(),
        ip.destination(),
        source_port,
        destination_port,
        protocol,
    ))
}
