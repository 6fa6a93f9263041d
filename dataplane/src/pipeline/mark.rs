use super::Burst;
use crate::{device::Buffer, diffserv::PhbMap};

/// Says what each packet is marked with, and in which queue it waits: by its code point alone. ECN
/// stays as it is (RFC 3168). `route` writes it, with what else changes in the header.
#[inline(never)]
pub(super) fn mark<B: Buffer>(burst: &mut Burst<B>, phbs: &PhbMap) {
    for (_, meta) in burst.forwarded() {
        meta.phb = phbs.phb(meta.dscp);
        meta.marked = meta.class.with_dscp(meta.dscp);
    }
}
