use crate::{
    diffserv::PhbMap,
    packet_mask::{PacketMask, packets_in},
    pipeline::{burst::Burst, burst::Verdict},
    policy::Policy,
    routing::fib::NO_ROUTE,
    session::{Arrival, FlowKey, SessionTable, Sessions},
    stats::DropReason,
    units::Ticks,
};

/// Now, and when any route last changed.
type Times = (Ticks, Ticks);

/// Meters each session's packets against what it was admitted with. What conforms gets the
/// session's code point; what exceeds is dropped (RFC 4594 section 4.1: police to one rate and
/// burst), or with a three-colour meter gets what the session says for its colour (section 4.3).
/// What has no session is metered by its rule, then by its interface's aggregate.
#[inline(never)]
pub(crate) fn police<B>(
    burst: &mut Burst<B>,
    (sessions, policy): (&mut Sessions, &mut Policy),
    phbs: &PhbMap,
    times: Times,
) {
    meter(&mut sessions.ipv4, burst.sessions.ipv4, burst, times);
    meter(&mut sessions.ipv6, burst.sessions.ipv6, burst, times);
    let others = burst.verdicts.judged() & !burst.sessions.all();
    for place in packets_in(others) {
        burst.next_hops[place] = NO_ROUTE;
        if let Err(reason) = police_rest(burst, place, policy, phbs, times.0) {
            burst.verdicts.end(place, Verdict::Drop(reason));
        }
    }
}

/// Of packets with sessions of one family.
#[inline]
fn meter<B, K: FlowKey>(
    table: &mut SessionTable<K>,
    which: PacketMask,
    burst: &mut Burst<B>,
    (now, routes_changed): Times,
) {
    for place in packets_in(which) {
        let packet = Arrival {
            now,
            ip_bytes: burst.headers.ip_bytes[place].into(),
            came_with: burst.headers.class[place].dscp(),
            routes_changed,
        };
        if let Some(passed) = table.meter(burst.sessions.slots[place], &packet) {
            burst.dscps[place] = passed.dscp;
            burst.next_hops[place] = passed.next_hop;
        } else {
            let exceeds = Verdict::Drop(DropReason::SessionPoliced);
            burst.verdicts.end(place, exceeds);
        }
    }
}

/// A packet without a session.
#[inline]
fn police_rest<B>(
    burst: &mut Burst<B>,
    place: usize,
    policy: &mut Policy,
    phbs: &PhbMap,
    now: Ticks,
) -> Result<(), DropReason> {
    let mut dscp = burst.dscps[place];
    let ip_bytes = burst.headers.ip_bytes[place].into();
    if let Some(rule) = burst.rules[place] {
        let came_with = burst.headers.class[place].dscp();
        dscp = policy.meter_rule(rule, (came_with, dscp), ip_bytes, now)?;
    }
    let aggregate = (phbs.phb(dscp), dscp);
    burst.dscps[place] = policy.meter_aggregate(burst.ingress[place], aggregate, ip_bytes, now)?;
    Ok(())
}

#[cfg(test)]
mod tests;
