//! Frames that the kernel sends: its own, and those that it forwards because the data plane did not, or
//! from interfaces that only it has. Nobody has metered them, so their code points are not believed.

use std::net::IpAddr;

use crate::{
    device::Buffer,
    diffserv::{Dscp, PhbMap, user_priority},
    pipeline::{
        headers::rewrite,
        headers::tag,
        headers::{Content, Kind, Packet, TAGS},
        interface::Interface,
        outlet::{Outlet, RunKey},
    },
    policy::Policy,
    routing::Routes,
    session::Detours,
    stats::DropReason,
    units::Ticks,
    wire::Tci,
};

/// By what a frame of the kernel is judged.
pub(super) struct Judges<'a> {
    pub(super) policy: &'a Policy,
    pub(super) routes: &'a Routes,
    pub(super) detours: &'a Detours,
    pub(super) phbs: &'a PhbMap,
}

/// Queues a frame that the kernel sends out of an interface of a port, on its VLAN.
///
/// - What the router itself speaks is network control: ARP, neighbour discovery, IGMP, MLD, routing
///   protocols and those of the link.
/// - A packet that was given to the kernel marked, so that it finds the neighbour, keeps its code point.
/// - What becomes of the others' code points says the policy.
pub(super) fn queue_from_twin<B: Buffer, O: Outlet<B>>(
    interface: &mut Interface,
    queues: &mut O,
    judges: &Judges<'_>,
    mut frame: B,
    now: Ticks,
) {
    let counters = &mut interface.counters;
    counters.twin_packets += 1;
    let content = Content::of(frame.bytes(), judges.policy.routing());
    let came_with = content.ip.map_or(Dscp::DF, |packet| packet.class.dscp());
    let is_own = judges.is_own(&content);
    // RFC 4594 section 3.1: routing protocols are CS6.
    let dscp = match came_with {
        Dscp::CS6 | Dscp::CS7 | Dscp::DF if is_own => came_with,
        _ if is_own => Dscp::CS6,
        _ => judges.believed(content.ip.as_ref(), came_with, now),
    };
    counters.twin_bleached_packets += u64::from(dscp != came_with);
    if let Some(packet) = content.ip {
        let marked = packet.class.with_dscp(dscp);
        rewrite::write_class_at(frame.bytes_mut(), packet.offset, packet.family, marked);
    }
    let queued_as = if is_own { Dscp::CS6 } else { dscp };
    prioritise(frame.bytes_mut(), queued_as);
    if let Some(vlan) = interface.vlan
        && let Err(reason) = tag::put(&mut frame, Tci::new(vlan, queued_as))
    {
        counters.drops[reason.index()] += 1;
        return;
    }
    let run = RunKey {
        since: now,
        egress: interface.port,
        phb: judges.phbs.phb(queued_as),
        dscp: queued_as,
        frame_bytes: u16::try_from(frame.bytes().len()).unwrap_or(u16::MAX),
        tag_bytes: 0,
        ingress: None,
    };
    let mut drops = [0; DropReason::COUNT];
    let admission = queues.admit(&run, 1, &mut drops);
    let admitted = Some(frame).filter(|_| admission.mask != 0);
    queues.enqueue(&run, admission, admitted.into_iter());
    // What a queue refuses it counts itself.
    let ring_full = DropReason::RingFull.index();
    counters.drops[ring_full] += drops[ring_full];
    queues.flush();
}

impl Judges<'_> {
    /// Whether a frame is of what the router itself speaks. The kernel forwards packets of such
    /// protocols, too: the router's own have its address.
    fn is_own(&self, content: &Content) -> bool {
        match (content.kind, content.ip) {
            (Kind::Other, _) => false,
            (_, None) => true,
            (_, Some(packet)) => match packet.source {
                IpAddr::V4(source) => source.is_unspecified() || self.routes.is_own(source.into()),
                // Neither is forwarded (RFC 4291 sections 2.5.2 and 2.5.6).
                IpAddr::V6(source) => {
                    let stays = source.is_unspecified() || source.is_unicast_link_local();
                    stays || self.routes.is_own(source.into())
                }
            },
        }
    }

    /// The code point of a packet that is not the router's own.
    fn believed(&self, packet: Option<&Packet>, came_with: Dscp, now: Ticks) -> Dscp {
        let flow = packet.and_then(|packet| packet.flow);
        // There is nothing to keep of what asks for nothing.
        let returns = came_with != Dscp::DF
            && flow.is_some_and(|flow| self.detours.returns(&flow, came_with, now));
        if returns {
            came_with
        } else {
            self.policy.kernel_trust().get(came_with)
        }
    }
}

/// Writes the priority of the tags that the kernel itself has put on: their receivers go by it.
fn prioritise(frame: &mut [u8], dscp: Dscp) {
    let mut at = 12;
    for _ in 0..TAGS {
        let Some([kind @ .., priority, _]) = frame.get_mut(at..at + 4) else {
            return;
        };
        let is_tag = matches!(kind, [0x81, 0x00] | [0x88, 0xa8]);
        if !is_tag {
            return;
        }
        *priority = *priority & 0x1f | user_priority(dscp) << 5;
        at += 4;
    }
}
