use voicelane_machine::equal_bytes;

use crate::{
    diffserv::{Dscp, PhbMap},
    pipeline::burst::Burst,
};

/// Says what each packet's traffic class becomes (ECN stays as it is: RFC 3168), and in which queue it
/// waits: by its code point alone. It is written with what else changes in the header.
#[inline(never)]
pub(crate) fn mark<B>(burst: &mut Burst<B>, phbs: &PhbMap) {
    let came_with = burst.headers.class.iter().zip(&burst.dscps);
    for (marked, (class, dscp)) in burst.marked.iter_mut().zip(came_with) {
        *marked = class.with_dscp(*dscp);
    }
    let (all, first) = (burst.all(), burst.dscps[0]);
    if equal_bytes(&burst.dscps.map(Dscp::number), first.number()) & all == all {
        burst.phbs.fill(phbs.phb(first));
    } else {
        burst.phbs = burst.dscps.map(|dscp| phbs.phb(dscp));
    }
}

#[cfg(test)]
mod tests;
