use voicelane_dpdk::BURST;

use super::{
    Burst, Interface,
    burst::{Header, InPlace},
    fields, fragments,
};
use crate::{
    device::Buffer,
    places::{Places, places},
    policy::{Policy, RuleIndex},
    session::{FlowKey, Fragments, SessionTable, Sessions, Slot},
    units::{InterfaceIndex, Ticks},
};

/// Decides each packet's code point, and by whose word: its session's, by exact five-tuple, which
/// `police` writes; the first rule's that matches; or by the trust of the interface that it came in
/// on.
#[inline(never)]
pub(super) fn classify<B: Buffer>(
    burst: &mut Burst<B>,
    (sessions, parts): (&Sessions, &mut Fragments),
    policy: &Policy,
    interfaces: &mut [Interface],
    now: Ticks,
) {
    let (lookups, matches) = (&burst.lookups, &mut burst.sessions);
    let slots = &mut matches.slots;
    matches.ipv4 = find(&sessions.ipv4, &lookups.flows4, slots);
    matches.ipv6 = find(&sessions.ipv6, &lookups.flows6, slots);
    if !lookups.fragments.items.is_empty() {
        fragments::follow(burst, parts, sessions, interfaces, now);
    }

    let others = burst.fates.judged() & !burst.sessions.all();
    for place in places(others) {
        let Some(buffer) = burst.buffers.get(place) else {
            continue;
        };
        let (ingress, header) = (burst.ingress[place], burst.headers.at(place));
        let own = header.class.dscp();
        let rule = first_rule(policy, buffer, ingress, header);
        burst.rules[place] = rule;
        burst.dscps[place] = match rule {
            Some(rule) => policy.code_point(rule, own),
            None => {
                let trusted = policy.trust(ingress).get(own);
                if trusted != own {
                    let interface = &mut interfaces[ingress.index()];
                    interface.counters.bleached_packets += 1;
                    let source = fields::source(buffer.bytes(), header.family);
                    let ip_bytes = header.ip_bytes.into();
                    interface.senders.count(source, own, ip_bytes, now);
                }
                trusted
            }
        };
    }
}

/// Without rules nothing is read from the packet.
#[inline]
fn first_rule<B: Buffer>(
    policy: &Policy,
    buffer: &B,
    ingress: InterfaceIndex,
    header: Header,
) -> Option<RuleIndex> {
    let rules = policy.classifier()?;
    rules.first_match(&fields::fields(buffer.bytes(), ingress, header)?)
}

/// Looks the flows of one family up: says which packets have a session, and writes down its slots.
#[inline]
fn find<K: FlowKey>(
    table: &SessionTable<K>,
    flows: &InPlace<K>,
    slots: &mut [Slot; BURST],
) -> Places {
    if flows.present == 0 {
        return 0;
    }
    table.find_burst(&flows.items, flows.present, slots)
}
