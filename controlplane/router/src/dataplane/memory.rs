//! How many packet buffers there must be, and how many packets a queue may therefore hold.
//!
//! Every buffer that a ring, a queue or a kernel twin can hold at once is counted, so that full
//! queues never leave the receive rings without buffers.

use thiserror::Error;
use voicelane_dataplane::{
    diffserv::{ClassSettings, FEW, Phb, SHARE_FACTOR, Service, shared_packets},
    routing::fib::{Fib4, Fib6},
    session::Sessions,
    workers::RING_PACKETS,
};

use crate::config::{Config, PortConfig, RouterConfig};

/// Receive descriptors of a port.
pub const RX_RING: u16 = 1024;
/// Transmit descriptors of a port: few, as strict priority cannot overtake what is in them.
pub const TX_RING: u16 = 64;
/// What each queue between worker and control side holds.
pub const QUEUE_CAPACITY: usize = 1024;

/// With fewer a queue is too short for one burst.
const MIN_QUEUE_PACKETS: u64 = 64;
/// A core's bursts in flight and cache.
const IN_HAND: u64 = 1024;
/// The largest frame's share that is not IP: Ethernet header, two VLAN tags.
const FRAME_HEADER: u16 = 22;
/// Drivers expect buffers of at least this size.
const MIN_FRAME: u16 = 2048;
/// What DPDK adds to a frame's room: `rte_mbuf`, headroom, the pool's header, alignment.
const BUFFER_OVERHEAD: u64 = 128 + 128 + 64 + 128;
/// Without hugepages DPDK lets no buffer lie across two pages, so one takes up a page.
const PAGE: u64 = 4096;
/// A tenth of the memory is left over, for the drivers and for what allocation wastes.
const USABLE_TENTHS: u64 = 9;

/// What follows from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Buffers in the pool.
    pub buffers: u32,
    /// The longest frame that a buffer holds.
    pub frame_bytes: u16,
    /// The most packets that there is room for in one queue.
    pub queue_limit_packets: usize,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "{ports} ports, and tables of {tables_mib} MiB for routes and sessions, need at least \
     {needed_mib} MiB: write memory_mb = {needed_mib}, or less for ipv4_routes, ipv6_routes or \
     session_entries"
)]
#[allow(missing_docs, reason = "the messages say it")]
pub struct TooSmall {
    /// How many ports there are.
    pub ports: u64,
    /// What the tables of routes and sessions take.
    pub tables_mib: u64,
    /// The least `router.memory_mb` that is enough.
    pub needed_mib: u64,
}

/// Counts the buffers that rings, queues and twins can hold, and how long queues may be.
pub fn plan(config: &Config) -> Result<Plan, TooSmall> {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let ports = u64::try_from(config.ports.len()).unwrap_or(u64::MAX).max(1);
    let parts: u64 = config.ports.iter().map(full_parts).sum();
    let share = count(SHARE_FACTOR);
    let mtu = config.ports.iter().map(|port| port.mtu).max().unwrap_or(0);
    let least = config.ports.iter().map(|port| port.device.least_buffer());
    let least = least.max().unwrap_or(0).max(MIN_FRAME);
    let frame_bytes = mtu.saturating_add(FRAME_HEADER).max(least);
    let buffer = (u64::from(frame_bytes) + BUFFER_OVERHEAD).max(PAGE);

    let twins = 2 * u64::try_from(QUEUE_CAPACITY).unwrap_or(u64::MAX);
    let layout = config.router.cores.layout();
    let workers = count(layout.workers);
    let rings = ports * (workers * u64::from(RX_RING) + u64::from(TX_RING))
        + count(layout.rings(config.ports.len()) * RING_PACKETS)
        + ports * count(layout.spreading_rings() * RING_PACKETS);
    let few = ports * count(FEW * Phb::COUNT);
    let fixed = rings + twins + few + IN_HAND * count(layout.cores());
    let tables_mib = tables_mib(&config.router);
    let bytes = config.router.memory_mib.saturating_sub(tables_mib) << 20;
    let possible = bytes / 10 * USABLE_TENTHS / buffer;

    let each = possible.saturating_sub(fixed).saturating_mul(share) / parts.max(1);
    if each < MIN_QUEUE_PACKETS {
        let bytes =
            (fixed + (parts * MIN_QUEUE_PACKETS).div_ceil(share)) * buffer * 10 / USABLE_TENTHS;
        let needed_mib = tables_mib + bytes.div_ceil(1 << 20);
        return Err(TooSmall {
            ports,
            tables_mib,
            needed_mib,
        });
    }
    let each = each.min(longest_queue(config));
    Ok(Plan {
        buffers: u32::try_from(fixed + (parts * each).div_ceil(share)).unwrap_or(u32::MAX),
        frame_bytes,
        queue_limit_packets: usize::try_from(each).unwrap_or(usize::MAX),
    })
}

/// How much a port's packets fill at most, in parts of which a queue has [`SHARE_FACTOR`].
fn full_parts(port: &PortConfig) -> u64 {
    let strict = |class: &&ClassSettings| class.service == Service::Strict;
    let strict = port.classes.iter().filter(strict).count() * SHARE_FACTOR;
    u64::try_from(strict + shared_packets(SHARE_FACTOR)).unwrap_or(u64::MAX)
}

/// The most packets that any queue is to hold.
fn longest_queue(config: &Config) -> u64 {
    let classes = config.ports.iter().flat_map(|port| &port.classes);
    let longest = classes.map(|class| class.limit_packets).max().unwrap_or(0);
    u64::try_from(longest).unwrap_or(u64::MAX)
}

/// What the tables of routes and sessions take: each worker has its own.
fn tables_mib(router: &RouterConfig) -> u64 {
    let sessions = u64::try_from(Sessions::bytes(
        router.session_entries,
        router.quality.is_on(),
    ))
    .unwrap_or(u64::MAX);
    let bytes = Fib4::bytes(router.ipv4_routes) + Fib6::bytes(router.ipv6_routes) + sessions;
    let workers = u64::try_from(router.cores.workers.len()).unwrap_or(u64::MAX);
    (bytes * workers).div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::EXAMPLE;

    fn config(memory_mib: u64) -> Config {
        let mut config = Config::parse(Path::new("x"), EXAMPLE, &[0]).unwrap();
        config.router.memory_mib = memory_mib;
        config
    }

    #[test]
    fn full_queues_leave_buffers_for_the_rings() {
        for memory_mib in [240, 320, 1024, 1 << 20] {
            let config = config(memory_mib);
            let plan = plan(&config).unwrap();
            let each = plan.queue_limit_packets;
            let queued = 2 * (2 * each + shared_packets(each) + FEW * Phb::COUNT);
            let rings = 2 * usize::from(RX_RING + TX_RING) + 2 * QUEUE_CAPACITY;
            assert!(
                usize::try_from(plan.buffers).unwrap() > queued + rings,
                "{plan:?}"
            );
            let bytes = u64::from(plan.buffers) * PAGE;
            let left = memory_mib - tables_mib(&config.router);
            assert!(bytes < left << 20, "{plan:?}, {left} MiB beside the tables");
        }
        let mut config = config(1 << 20);
        assert_eq!(plan(&config).unwrap().queue_limit_packets, 512);
        config.ports[1].classes[0].limit_packets = 50_000;
        assert_eq!(plan(&config).unwrap().queue_limit_packets, 50_000);
    }

    #[test]
    fn what_is_too_little_says_what_would_do() {
        let TooSmall { needed_mib, .. } = plan(&config(128)).unwrap_err();
        assert!(plan(&config(needed_mib)).is_ok());
        assert!(plan(&config(needed_mib - 1)).is_err());
    }
}
