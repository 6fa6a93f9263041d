use super::Meta;
use crate::diffserv::{Dscp, PhbMap};

/// Says what a packet is marked with, and in which queue it waits: by the code point alone. It is
/// written with what else changes in the header.
#[inline]
pub(super) fn mark(meta: &mut Meta, dscp: Dscp, phbs: &PhbMap) {
    meta.dscp = dscp;
    meta.phb = phbs.phb(dscp);
}
