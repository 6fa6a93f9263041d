use crate::{
    device::Buffer,
    packet_mask::{PacketMask, packets_in},
    pipeline::{
        burst::Burst, burst::Verdict, headers::fields, interface::Interface,
        stages::route::look_up_sources,
    },
    policy::{Offence, Policy, ReversePath},
    routing::Routes,
    stats::DropReason,
    units::Ticks,
};

/// Reverse-path filtering (RFC 3704): drops what has no session and comes from where the routes do not
/// lead by the interface that it came in on, as that interface asks it. Sessions are bound to their
/// interfaces anyway.
#[inline(never)]
pub(crate) fn verify<B: Buffer>(
    burst: &mut Burst<B>,
    routes: &Routes,
    policy: &Policy,
    interfaces: &mut [Interface],
    now: Ticks,
) {
    let others = burst.verdicts.forwarded & !burst.sessions.all();
    let asked = packets_in(others)
        .filter(|place| policy.reverse_path(burst.ingress[*place]) != ReversePath::Off)
        .fold(0, |set, place| set | 1 << place);
    if asked != 0 {
        ask(burst, asked, (routes, policy), interfaces, now);
    }
}

#[inline(never)]
fn ask<B: Buffer>(
    burst: &mut Burst<B>,
    asked: PacketMask,
    (routes, policy): (&Routes, &Policy),
    interfaces: &mut [Interface],
    now: Ticks,
) {
    let next_hops = look_up_sources(burst, asked, routes);
    for place in packets_in(asked) {
        let ingress = burst.ingress[place];
        if routes.admits(next_hops[place], policy.reverse_path(ingress), ingress) {
            continue;
        }
        burst
            .verdicts
            .end(place, Verdict::Drop(DropReason::ReversePath));
        let header = burst.headers.at(place);
        if let Some(interface) = interfaces.get_mut(ingress.index()) {
            let source = fields::source(burst.frame(place), header.family);
            let claim = (Offence::ReversePath, header.class.dscp());
            let ip_bytes = header.ip_bytes.into();
            interface.senders.count(source, claim, ip_bytes, now);
        }
    }
}

#[cfg(test)]
mod tests;
