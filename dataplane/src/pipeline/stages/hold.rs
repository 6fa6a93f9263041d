use crate::{
    packet_mask::packets_in,
    pipeline::{burst::Burst, burst::Verdict, interface::Interface},
    stats::DropReason,
    wire::IpVersion,
};

/// Ends packets that are to be sent on, by this port or by the kernel, and came in on an interface that
/// does not forward their family. What is for the router itself goes its way.
#[cold]
pub(crate) fn hold<B>(burst: &mut Burst<B>, interfaces: &[Interface]) {
    for place in packets_in(burst.all()) {
        let Some(interface) = interfaces.get(burst.ingress[place].index()) else {
            continue;
        };
        let forwards = match burst.headers.family(place) {
            IpVersion::V4 => interface.state.forwards_ipv4,
            IpVersion::V6 => interface.state.forwards_ipv6,
        };
        let sent_on = burst.verdicts.forwarded >> place & 1 == 1
            || matches!(burst.verdicts.verdict(place), Verdict::Punt(reason) if reason.is_transit());
        if sent_on && !forwards {
            let verdict = Verdict::Drop(DropReason::ForwardingOff);
            burst.verdicts.end(place, verdict);
        }
    }
}

#[cfg(test)]
mod tests;
