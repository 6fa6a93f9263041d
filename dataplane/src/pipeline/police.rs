use super::{Burst, Verdict};
use crate::{counters::DropReason, device::Buffer, session::Sessions, units::Ticks};

/// Meters each session's packets against what it was admitted with. What conforms gets the
/// session's code point; what exceeds is dropped (RFC 4594 section 4.1: police to one rate and
/// burst).
#[inline(never)]
pub(super) fn police<B: Buffer>(burst: &mut Burst<B>, sessions: &mut Sessions, now: Ticks) {
    for (_, meta) in burst.forwarded() {
        if let Some(flow) = meta.session {
            match sessions.meter(flow, now, meta.ip_bytes) {
                Some(dscp) => meta.dscp = dscp,
                None => meta.verdict = Verdict::Drop(DropReason::SessionPoliced),
            }
        }
    }
}
