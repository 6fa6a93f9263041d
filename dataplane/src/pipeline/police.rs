use voicelane_dpdk::BURST;

use super::{Burst, Meta, Verdict};
use crate::{
    counters::DropReason,
    diffserv::{Dscp, PhbMap},
    places::{Places, first_places, places},
    policy::Policy,
    session::{FlowKey, SessionTable, Sessions, Slot},
    units::Ticks,
};

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
    now: Ticks,
) {
    let Burst {
        buffers,
        metas,
        sessions: matches,
        ..
    } = burst;
    let metered = |meta: &mut Meta, result: Result<Dscp, DropReason>| match result {
        Ok(dscp) => mark(meta, dscp),
        Err(reason) => meta.verdict = Verdict::Drop(reason),
    };
    meter(
        &mut sessions.ipv4,
        matches.ipv4,
        &matches.slots,
        metas,
        now,
        metered,
    );
    meter(
        &mut sessions.ipv6,
        matches.ipv6,
        &matches.slots,
        metas,
        now,
        metered,
    );
    for place in places(first_places(buffers.len()) & !matches.all()) {
        let meta = &mut metas[place];
        if meta.is_forwarded() {
            metered(meta, police_rest(policy, phbs, meta, now));
        }
    }
}

/// Of packets with sessions of one family.
#[inline]
fn meter<K: FlowKey>(
    table: &mut SessionTable<K>,
    which: Places,
    slots: &[Slot; BURST],
    metas: &mut [Meta; BURST],
    now: Ticks,
    metered: impl Fn(&mut Meta, Result<Dscp, DropReason>),
) {
    for place in places(which) {
        let meta = &mut metas[place];
        let dscp = table.meter(slots[place], now, meta.ip_bytes, meta.class.dscp());
        metered(meta, dscp.ok_or(DropReason::SessionPoliced));
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
