use voicelane_dpdk::BURST;

use super::{Burst, InPlace, Interface, Meta, fields, fragments};
use crate::{
    device::Buffer,
    places::{Places, first_places, places},
    policy::{Policy, RuleIndex},
    session::{FlowId, FlowKey, Fragments, SessionTable, Sessions, Slot},
    units::Ticks,
};

/// Who decides a packet's class.
enum Decision {
    /// Its session, by exact five-tuple; `police` writes the code point.
    Session,
    /// The first rule that matches.
    Rule(RuleIndex),
    /// The trust of the interface that it came in on.
    Trust,
}

/// Decides each packet's code point, and by whose word.
#[inline(never)]
pub(super) fn classify<B: Buffer>(
    burst: &mut Burst<B>,
    (sessions, parts): (&Sessions, &mut Fragments),
    policy: &Policy,
    interfaces: &mut [Interface],
    now: Ticks,
) {
    let Burst { metas, lookups, .. } = burst;
    let found = find(&sessions.ipv4, &lookups.flows4, metas, FlowId::V4)
        | find(&sessions.ipv6, &lookups.flows6, metas, FlowId::V6);
    if !lookups.fragments.items.is_empty() {
        fragments::follow(burst, parts, sessions, interfaces, now);
    }

    for place in places(first_places(burst.buffers.len()) & !found) {
        let (Some(buffer), Some(meta)) = (burst.buffers.get(place), burst.metas.get_mut(place))
        else {
            continue;
        };
        if !meta.is_forwarded() {
            continue;
        }
        let own = meta.class.dscp();
        meta.dscp = match decide(policy, buffer, meta) {
            Decision::Session => own,
            Decision::Rule(rule) => {
                meta.rule = Some(rule);
                policy.code_point(rule, own)
            }
            Decision::Trust => {
                let trusted = policy.trust(meta.ingress).get(own);
                if trusted != own {
                    let interface = &mut interfaces[meta.ingress.index()];
                    interface.counters.bleached_packets += 1;
                    let source = fields::source(buffer.bytes(), meta.family);
                    interface.senders.count(source, own, meta.ip_bytes, now);
                }
                trusted
            }
        };
    }
}

/// The order in which a packet's class is decided: session, rule, trust. Without rules nothing is
/// read from the packet.
#[inline]
fn decide<B: Buffer>(policy: &Policy, buffer: &B, meta: &Meta) -> Decision {
    if meta.session.is_some() {
        return Decision::Session;
    }
    let rule = policy.classifier().and_then(|rules| {
        let fields = fields::fields(buffer.bytes(), meta)?;
        rules.first_match(&fields)
    });
    rule.map_or(Decision::Trust, Decision::Rule)
}

/// Looks the flows of one family up, tells each packet its session, and says which have one.
#[inline]
fn find<K: FlowKey>(
    table: &SessionTable<K>,
    flows: &InPlace<K>,
    metas: &mut [Meta; BURST],
    id: impl Fn(Slot) -> FlowId,
) -> Places {
    let mut found = 0;
    if flows.present != 0 {
        table.find_burst(&flows.items, flows.present, |place, slot| {
            metas[place].session = Some(id(slot));
            found |= 1 << place;
        });
    }
    found
}
