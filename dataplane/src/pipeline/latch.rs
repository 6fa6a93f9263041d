//! Packets that flows without a source may be waiting for.

use crate::{packet_mask::packets_in, pipeline::burst::Burst, session::Sessions};

/// Shows packets that no session has, and that neither reverse-path filtering nor a rule has dropped, to
/// the flows that wait for their source.
#[cold]
pub(super) fn learn<B>(burst: &Burst<B>, sessions: &mut Sessions) {
    let of_sessions = burst.sessions.all() | burst.sessions.spoofed;
    for place in packets_in(burst.verdicts.forwarded & !of_sessions) {
        if let Some(packet) = burst.lookups.flow(place) {
            let (origin, on) = (burst.origins[place], burst.ingress[place]);
            sessions.latches.show(&packet, origin, on);
        }
    }
}
