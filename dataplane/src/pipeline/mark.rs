use super::{Burst, Family};
use crate::{
    device::Buffer,
    diffserv::PhbMap,
    wire::{Ethernet, Ipv4Mut, Ipv6Mut},
};

/// Writes the code point and chooses the queue by it. ECN stays as it is (RFC 3168).
#[inline(never)]
pub(super) fn mark<B: Buffer>(burst: &mut Burst<B>, phbs: &PhbMap) {
    for (buffer, meta) in burst.forwarded() {
        meta.phb = phbs.phb(meta.dscp);
        let marked = meta.class.with_dscp(meta.dscp);
        if marked == meta.class {
            continue;
        }
        let Some(packet) = buffer.bytes_mut().get_mut(Ethernet::LENGTH..) else {
            continue;
        };
        match meta.family {
            Family::V4 => {
                if let Some(mut ip) = Ipv4Mut::new(packet) {
                    ip.set_traffic_class(marked);
                }
            }
            Family::V6 => {
                if let Some(mut ip) = Ipv6Mut::new(packet) {
                    ip.set_traffic_class(marked);
                }
            }
        }
    }
}
