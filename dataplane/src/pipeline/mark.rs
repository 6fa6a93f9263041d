use voicelane_dpdk::equal_bytes;

use super::Burst;
use crate::diffserv::{Dscp, PhbMap};

/// Says in which queue each packet waits: by the code point alone that it goes with. That is written with
/// what else changes in the header.
#[inline(never)]
pub(super) fn mark<B>(burst: &mut Burst<B>, phbs: &PhbMap) {
    let (all, first) = (burst.all(), burst.dscps[0]);
    if equal_bytes(&burst.dscps.map(Dscp::number), first.number()) & all == all {
        burst.phbs.fill(phbs.phb(first));
    } else {
        burst.phbs = burst.dscps.map(|dscp| phbs.phb(dscp));
    }
}
