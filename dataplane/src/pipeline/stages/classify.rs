use crate::{
    device::{BURST, Buffer},
    packet_mask::{PacketMask, packets_in},
    pipeline::{burst::Burst, burst::InPlace, fragments, headers::fields, interface::Interface},
    policy::{Offence, Policy, RuleIndex},
    session::{FlowId, FlowKey, Found, Fragments, Origin, SessionTable, Sessions, Slot},
    units::Ticks,
};

/// Decides each packet's code point, and by whose word: its session's, by exact five-tuple, which
/// `police` writes; the first rule's that matches; or by the trust of the interface that it came in
/// on. What has a session's five-tuple and comes in elsewhere has no session, and is counted.
#[inline(never)]
pub(crate) fn classify<B: Buffer>(
    burst: &mut Burst<B>,
    (sessions, parts): (&mut Sessions, &mut Fragments),
    policy: &Policy,
    interfaces: &mut [Interface],
    now: Ticks,
) {
    let (lookups, origins, matches) = (&burst.lookups, &burst.origins, &mut burst.sessions);
    let slots = &mut matches.slots;
    let ipv4 = find(&sessions.ipv4, &lookups.flows4, origins, slots);
    let ipv6 = find(&sessions.ipv6, &lookups.flows6, origins, slots);
    (matches.ipv4, matches.ipv6) = (ipv4.here, ipv6.here);
    matches.spoofed = ipv4.elsewhere | ipv6.elsewhere;
    if !lookups.fragments.items.is_empty() {
        fragments::follow(burst, parts, sessions, interfaces, now);
    }
    if burst.sessions.spoofed != 0 {
        count_spoofed(burst, sessions, interfaces, now);
    }

    let others = burst.verdicts.judged() & !burst.sessions.all();
    burst.to_dhcp_clients = 0;
    for place in packets_in(others) {
        let (ingress, header) = (burst.ingress[place], burst.headers.at(place));
        let to_client = burst.lookups.flows4.items[place].is_to_dhcp_client();
        burst.to_dhcp_clients |= PacketMask::from(to_client) << place;
        let own = header.class.dscp();
        let rule = first_rule(policy, burst, place);
        burst.rules[place] = rule;
        burst.dscps[place] = match rule {
            Some(rule) => policy.code_point(rule, own),
            None => {
                let trusted = policy.trust(ingress).get(own);
                if trusted != own {
                    let interface = &mut interfaces[ingress.index()];
                    interface.counters.bleached_packets += 1;
                    let source = fields::source(burst.frame(place), header.family);
                    let ip_bytes = header.ip_bytes.into();
                    let claim = (Offence::Claim, own);
                    interface.senders.count(source, claim, ip_bytes, now);
                }
                trusted
            }
        };
    }
}

/// Counts packets with a session's five-tuple that came in elsewhere: at the interface, at its senders,
/// and at the session.
#[cold]
fn count_spoofed<B: Buffer>(
    burst: &Burst<B>,
    sessions: &mut Sessions,
    interfaces: &mut [Interface],
    now: Ticks,
) {
    for place in packets_in(burst.sessions.spoofed) {
        let (ingress, header) = (burst.ingress[place], burst.headers.at(place));
        let Some(interface) = interfaces.get_mut(ingress.index()) else {
            continue;
        };
        let slot = burst.sessions.slots[place];
        sessions.spoofed(FlowId::of(header.family, slot), ingress);
        interface.counters.spoofed_packets += 1;
        let source = fields::source(burst.frame(place), header.family);
        let claim = (Offence::Spoofed, header.class.dscp());
        let ip_bytes = header.ip_bytes.into();
        interface.senders.count(source, claim, ip_bytes, now);
    }
}

/// Without rules nothing is read from the packet.
#[inline]
fn first_rule<B: Buffer>(policy: &Policy, burst: &Burst<B>, place: usize) -> Option<RuleIndex> {
    let rules = policy.classifier()?;
    let (ingress, header) = (burst.ingress[place], burst.headers.at(place));
    rules.first_match(&fields::fields(burst.frame(place), ingress, header)?)
}

/// Looks the flows of one family up and writes the slots found; returns which packets have a session, and
/// which have the five-tuple of one that comes in elsewhere.
#[inline]
fn find<K: FlowKey>(
    table: &SessionTable<K>,
    flows: &InPlace<K>,
    origins: &[Origin; BURST],
    slots: &mut [Slot; BURST],
) -> Found {
    if flows.present == 0 {
        return Found::default();
    }
    table.find_burst(&flows.items, flows.present, origins, slots)
}

#[cfg(test)]
mod tests;
