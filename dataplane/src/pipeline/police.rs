use super::{Burst, Meta, Verdict};
use crate::{
    counters::DropReason,
    device::Buffer,
    diffserv::{Dscp, PhbMap},
    policy::Policy,
    session::Sessions,
    units::Ticks,
};

/// Meters each session's packets against what it was admitted with. What conforms gets the
/// session's code point; what exceeds is dropped (RFC 4594 section 4.1: police to one rate and
/// burst), or with a three-colour meter gets what the session says for its colour (section 4.3).
/// What has no session is metered by its rule, then by its interface's aggregate. What goes on is
/// given to `mark` in the same pass.
#[inline(never)]
pub(super) fn police<B: Buffer>(
    burst: &mut Burst<B>,
    (sessions, policy): (&mut Sessions, &mut Policy),
    phbs: &PhbMap,
    mark: impl Fn(&mut Meta, Dscp),
    now: Ticks,
) {
    for (_, meta) in burst.forwarded() {
        let metered = match meta.session {
            Some(flow) => sessions
                .meter(flow, now, meta.ip_bytes, meta.class.dscp())
                .ok_or(DropReason::SessionPoliced),
            None => police_rest(policy, phbs, meta, now),
        };
        match metered {
            Ok(dscp) => mark(meta, dscp),
            Err(reason) => meta.verdict = Verdict::Drop(reason),
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
