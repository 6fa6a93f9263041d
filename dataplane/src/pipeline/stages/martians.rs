use std::net::IpAddr;

use crate::{
    device::Buffer,
    packet_mask::packets_in,
    pipeline::{burst::Burst, burst::Verdict},
    routing::Routes,
    stats::DropReason,
    wire::IpVersion,
    wire::{Ethernet, Ipv4, Ipv6},
};

/// Drops what comes from outside with one of the router's own addresses as its source, as Linux does
/// (RFC 1812 section 5.3.8, RFC 2827). Sessions have no such source.
#[inline(never)]
pub(crate) fn drop_own_sources<B: Buffer>(burst: &mut Burst<B>, routes: &Routes) {
    let others = burst.verdicts.forwarded & !burst.sessions.all();
    for place in packets_in(others) {
        let packet = burst
            .frame(place)
            .get(Ethernet::LENGTH..)
            .unwrap_or_default();
        let source = match burst.headers.family(place) {
            IpVersion::V4 => Ipv4::new(packet).and_then(|ip| {
                let &[a, b, c, d, ..] = ip.addresses();
                routes.may_be_own([c, d]).then_some([a, b, c, d].into())
            }),
            IpVersion::V6 => Ipv6::new(packet).and_then(|ip| {
                let source = ip.source();
                let &[.., end_high, end_low] = source;
                let own = routes.may_be_own([end_high, end_low]);
                own.then_some(IpAddr::from(*source))
            }),
        };
        if source.is_some_and(|source| routes.is_own(source)) {
            let martian = Verdict::Drop(DropReason::MartianSource);
            burst.verdicts.end(place, martian);
        }
    }
}

#[cfg(test)]
mod tests;
