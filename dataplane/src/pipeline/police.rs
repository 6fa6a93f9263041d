use super::{Burst, Meta, Verdict};
use crate::{
    counters::DropReason,
    diffserv::{Dscp, PhbMap},
    fib::NO_ROUTE,
    places::{Places, first_places, places},
    policy::Policy,
    session::{Arrival, FlowKey, SessionTable, Sessions},
    units::Ticks,
};

/// Now, and when any route last changed.
type Times = (Ticks, Ticks);

/// Meters each session's packets against what it was admitted with. What conforms gets the
/// session's code point; what exceeds is dropped (RFC 4594 section 4.1: police to one rate and
/// burst), or with a three-colour meter gets what the session says for its colour (section 4.3).
/// What has no session is metered by its rule, then by its interface's aggregate. What goes on is
/// given to `mark` in the same pass.
#[inline(never)]
pub(super) fn police<B>(
    burst: &mut Burst<B>,
    (sessions, policy): (&mut Sessions, &mut Policy),
    phbs: &PhbMap,
    mark: impl Fn(&mut Meta, Dscp),
    times: Times,
) {
    meter(&mut sessions.ipv4, burst.sessions.ipv4, burst, &mark, times);
    meter(&mut sessions.ipv6, burst.sessions.ipv6, burst, &mark, times);
    let others = first_places(burst.buffers.len()) & !burst.sessions.all();
    for place in places(others) {
        let meta = &mut burst.metas[place];
        burst.next_hops[place] = NO_ROUTE;
        if meta.is_forwarded() {
            match police_rest(policy, phbs, meta, times.0) {
                Ok(dscp) => mark(meta, dscp),
                Err(reason) => meta.verdict = Verdict::Drop(reason),
            }
        }
    }
}

/// Of packets with sessions of one family.
#[inline]
fn meter<B, K: FlowKey>(
    table: &mut SessionTable<K>,
    which: Places,
    burst: &mut Burst<B>,
    mark: impl Fn(&mut Meta, Dscp),
    (now, routes_changed): Times,
) {
    for place in places(which) {
        let meta = &mut burst.metas[place];
        let packet = Arrival {
            now,
            ip_bytes: meta.ip_bytes,
            came_with: meta.class.dscp(),
            routes_changed,
        };
        if let Some(passed) = table.meter(burst.sessions.slots[place], &packet) {
            mark(meta, passed.dscp);
            burst.next_hops[place] = passed.next_hop;
        } else {
            meta.verdict = Verdict::Drop(DropReason::SessionPoliced);
        }
    }
}

/// Of packets without sessions.
#[inline]
fn police_rest(
    policy: &mut Policy,
    phbs: &PhbMap,
    meta: &Meta,
    now: Ticks,
) -> Result<Dscp, DropReason> {
    let mut dscp = meta.dscp;
    if let Some(rule) = meta.rule {
        dscp = policy.meter_rule(rule, (meta.class.dscp(), dscp), meta.ip_bytes, now)?;
    }
    policy.meter_aggregate(meta.ingress, (phbs.phb(dscp), dscp), meta.ip_bytes, now)
}
