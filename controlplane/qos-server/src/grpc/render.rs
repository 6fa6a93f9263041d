//! From our types to messages.

mod attach;

use std::net::SocketAddr;

use voicelane_proto::v1;
use voicelane_types::{ColourMode, MeterKind};

pub use self::attach::to_router;
use super::quality;
use crate::{
    engine::{
        EntryCounters, Explanation, InstallationView, LinkCall, LinkName, LinkView, Reaper,
        RouterView, SessionView, Step, Verdict,
    },
    model::{
        codec::Codec,
        course::{Course, Latch},
        entries::FlowKind,
        ids::SessionKey,
        links::Direction,
        meter::Meter,
        placement::FlowPlacement,
        registry::{Interface, Location, Presence, Role},
        session::{MediaFlow, Rtcp, SessionSpec, SessionState, Terms},
        store::InstallationState,
    },
};

/// A session.
pub fn session(view: &SessionView) -> v1::Session {
    v1::Session {
        spec: Some(spec(&view.spec)),
        state: session_state(view.state).into(),
        placements: placements(view),
        routers: view.installations.iter().map(installation).collect(),
        created_unix_ms: view.created.0,
        updated_unix_ms: view.updated.0,
        expires_unix_ms: view.expires.map(|at| at.0),
    }
}

pub(super) fn session_state(state: SessionState) -> v1::SessionState {
    match state {
        SessionState::Installing => v1::SessionState::Installing,
        SessionState::Active => v1::SessionState::Active,
        SessionState::Reserved => v1::SessionState::Reserved,
        SessionState::Degraded => v1::SessionState::Degraded,
        SessionState::Removing => v1::SessionState::Removing,
    }
}

/// Of a session that was deleted: the routers that have not confirmed.
pub fn pending(view: &SessionView) -> Vec<String> {
    view.pending.iter().map(ToString::to_string).collect()
}

/// A session as it was asked for.
pub(crate) fn spec(spec: &SessionSpec) -> v1::SessionSpec {
    v1::SessionSpec {
        key: Some(key(&spec.key)),
        revision: spec.revision.get(),
        flows: spec.flows.iter().map(flow).collect(),
        service_class: v1::ServiceClass::from(spec.class).into(),
        correlation_id: spec.correlation_id.to_string(),
        lifetime_s: spec.lifetime_s,
        priority: spec.priority.get().into(),
        may_preempt: spec.may_preempt,
        preemptable: spec.preemptable,
        hold: spec.hold,
    }
}

fn flow(flow: &MediaFlow) -> v1::MediaFlow {
    use v1::rtcp::Mode;

    let (mode, rtcp) = match &flow.rtcp {
        Rtcp::NextPort => (Mode::NextPort, None),
        Rtcp::Mux => (Mode::Mux, None),
        Rtcp::Explicit(course) => (Mode::Explicit, Some(course)),
        Rtcp::None => (Mode::None, None),
    };
    let (max_bitrate_bps, max_burst_bytes, meter) = match &flow.terms {
        Terms::Policer { rate, burst } => (rate.get(), burst.map_or(0, |it| it.get()), None),
        Terms::Meter(it) => (0, 0, Some(meter(it))),
    };
    v1::MediaFlow {
        source: flow.course.source().map(endpoint),
        destination: flow.course.destination().map(endpoint),
        max_bitrate_bps,
        max_burst_bytes,
        meter,
        rtcp: Some(v1::Rtcp {
            mode: mode.into(),
            source: rtcp.and_then(|it| it.source()).map(endpoint),
            destination: rtcp.and_then(|it| it.destination()).map(endpoint),
        }),
        codecs: flow.codecs.iter().map(codec).collect(),
        packet_time_us: flow.packet_time_us,
        latch: match &flow.course {
            Course::Latching(it) => Some(latch(it)),
            Course::Whole(_) | Course::Half(..) => None,
        },
    }
}

fn codec(codec: &Codec) -> v1::Codec {
    v1::Codec {
        payload_type: codec.payload_type.into(),
        encoding: codec.encoding.to_string(),
        clock_rate: codec.clock_rate,
        ptime_ms: codec.ptime_ms,
        fmtp: codec.fmtp.to_string(),
    }
}

fn latch(latch: &Latch) -> v1::Latch {
    v1::Latch {
        address: latch.from.map(|from| from.to_string()).unwrap_or_default(),
    }
}

fn meter(meter: &Meter) -> v1::Meter {
    use v1::meter::Marker;

    v1::Meter {
        marker: Some(match meter.spec.kind {
            MeterKind::SrTcm { ebs_bytes } => Marker::Srtcm(v1::meter::SrTcm { ebs_bytes }),
            MeterKind::TrTcm { pir, pbs_bytes } => Marker::Trtcm(v1::meter::TrTcm {
                pir_bps: pir.bps(),
                pbs_bytes,
            }),
            MeterKind::Rfc4115 { eir, ebs_bytes } => Marker::Rfc4115(v1::meter::Rfc4115 {
                eir_bps: eir.bps(),
                ebs_bytes,
            }),
        }),
        cir_bps: meter.spec.cir.bps(),
        cbs_bytes: meter.spec.cbs_bytes,
        colour_aware: meter.spec.mode == ColourMode::Aware,
        drop_red: meter.drop_red,
    }
}

fn placements(view: &SessionView) -> Vec<v1::FlowPlacement> {
    let one = |(index, at): (usize, &FlowPlacement)| {
        let learned = |kind| {
            let mut heard = view.heard.iter().filter(|it| it.flow == index);
            heard
                .find(|it| it.kind == kind)
                .map(|it| endpoint(it.source))
        };
        v1::FlowPlacement {
            flow_index: narrow(index),
            source: at.media.source.as_deref().map(location),
            destination: at.media.destination.as_deref().map(location),
            latched_source: learned(FlowKind::Rtp),
            latched_rtcp_source: learned(FlowKind::Rtcp),
        }
    };
    view.placement.iter().enumerate().map(one).collect()
}

fn location(at: &Location) -> v1::Attachment {
    v1::Attachment {
        router_id: at.router.to_string(),
        interface: at.interface.to_string(),
        prefix: at.prefix.to_string(),
    }
}

fn installation(on: &InstallationView) -> v1::RouterInstallation {
    use v1::router_installation::State;

    v1::RouterInstallation {
        router_id: on.router.to_string(),
        state: match on.state {
            InstallationState::Pending => State::Pending,
            InstallationState::Installed => State::Installed,
            InstallationState::Away => State::Away,
            InstallationState::Failed(_) => State::Failed,
        }
        .into(),
        detail: on.detail.clone(),
        revision: on.revision.get(),
    }
}

/// What removed a session that no agent has deleted.
pub fn reaper(reaper: Option<Reaper>) -> v1::watch_sessions_response::Reaper {
    use v1::watch_sessions_response::Reaper as V1;
    match reaper {
        None => V1::Unspecified,
        Some(Reaper::Lease) => V1::Lease,
        Some(Reaper::Preempted) => V1::Preempted,
        Some(Reaper::AgentLost) => V1::AgentLost,
        Some(Reaper::Silence) => V1::Silence,
        Some(Reaper::Hold) => V1::Hold,
        Some(Reaper::Unused) => V1::Unused,
    }
}

fn kind(kind: FlowKind) -> v1::FlowKind {
    match kind {
        FlowKind::Rtp => v1::FlowKind::Rtp,
        FlowKind::Rtcp => v1::FlowKind::Rtcp,
    }
}

/// Prefixes of an interface that an answer has; ListPrefixes has the rest.
const PREFIXES_SHOWN: usize = 100;
/// Prefixes of all interfaces of a router that an answer has.
const PREFIXES_OF_ROUTER: usize = 4_096;

/// A router.
pub fn router(view: &RouterView) -> v1::RouterStatus {
    let router = &view.router;
    let (attached, since, synchronised, away_reason) = match &router.presence {
        Presence::Attached {
            since,
            synchronised,
            ..
        } => (true, since, *synchronised, String::new()),
        Presence::Away { since, reason } => (false, since, false, reason.clone()),
    };
    let mut left = PREFIXES_OF_ROUTER;
    let mut prefix_counts = Vec::new();
    let interfaces = router.interfaces.iter().map(|it| {
        let shown = it.prefixes.len().min(PREFIXES_SHOWN).min(left);
        left -= shown;
        if shown < it.prefixes.len() {
            prefix_counts.push(v1::PrefixCount {
                interface: it.name.to_string(),
                prefixes: it.prefixes.len() as u64,
            });
        }
        interface(it, shown)
    });
    let interfaces = interfaces.collect();
    let refused = router.interfaces.iter().flat_map(|it| {
        it.refused.iter().map(|prefix| v1::RefusedPrefix {
            interface: it.name.to_string(),
            prefix: prefix.to_string(),
        })
    });
    v1::RouterStatus {
        router_id: router.identity.id.to_string(),
        attached,
        epoch: router.identity.epoch,
        software_version: router.identity.software_version.clone(),
        peer_address: router.peer.clone(),
        since_unix_ms: since.0,
        synchronised,
        sessions: view.sessions as u64,
        entry_capacity: router.identity.entry_capacity,
        interfaces,
        prefix_counts,
        state: view.standing.into(),
        owes_answer_ms: view
            .owes_for
            .map(|owes| u64::try_from(owes.as_millis()).unwrap_or(u64::MAX)),
        outstanding_commands: view.outstanding,
        away_reason,
        refused_prefixes: refused.take(PREFIXES_SHOWN).collect(),
    }
}

/// An interface with its first prefixes.
pub(crate) fn interface(it: &Interface, prefixes: usize) -> v1::Interface {
    let texts = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect();
    v1::Interface {
        name: it.name.to_string(),
        role: match it.role {
            Role::Edge => v1::interface::Role::Edge,
            Role::Core => v1::interface::Role::Core,
        }
        .into(),
        up: it.up,
        addresses: texts(&it.addresses),
        prefixes: texts(it.prefixes.get(..prefixes).unwrap_or_default()),
        rate_bps: it.rate_bps,
        ef_budget_bps: it.ef_budget_bps,
        ef_ingress_budget_bps: it.ef_ingress_budget_bps,
        mtu_bytes: it.mtu_bytes,
        overhead_bytes: it.overhead_bytes,
        vlan_id: it.vlan_id,
        port: it.port.to_string(),
    }
}

/// Why a session has its lane, or not.
pub fn explanation(it: &Explanation) -> v1::ExplainSessionResponse {
    let counted = |all: &[EntryCounters]| {
        all.iter()
            .map(|entry| counters(&it.session.spec.key, entry))
            .collect()
    };
    let mut places = placements(&it.session).into_iter();
    let flows = it
        .flows
        .iter()
        .enumerate()
        .map(|(index, flow)| v1::FlowExplanation {
            flow_index: narrow(index),
            placement: places.next(),
            steps: flow.steps.iter().map(step).collect(),
            source_counters: counted(&flow.source_counters),
            destination_counters: counted(&flow.destination_counters),
            loss: flow.loss.as_ref().map(quality::loss),
            recent_loss: flow.recent_loss.as_ref().map(quality::loss),
            two_way_delay_ns: flow.two_way_delay_ns,
            score: flow.score.as_ref().map(quality::score),
        });
    v1::ExplainSessionResponse {
        session: Some(session(&it.session)),
        flows: flows.collect(),
        first_broken: it.first_broken.as_ref().map(step),
        first_unknown: it.first_unknown.as_ref().map(step),
    }
}

fn step(step: &Step) -> v1::ExplainStep {
    v1::ExplainStep {
        verdict: match step.verdict {
            Verdict::Ok => v1::explain_step::Verdict::Ok,
            Verdict::Broken => v1::explain_step::Verdict::Broken,
            Verdict::Unknown => v1::explain_step::Verdict::Unknown,
        }
        .into(),
        link: match step.link {
            LinkName::Desired => "desired",
            LinkName::Placed => "placed",
            LinkName::Attached => "attached",
            LinkName::Installed => "installed",
            LinkName::Seen => "seen",
            LinkName::Carried => "carried",
            LinkName::Conforming => "conforming",
        }
        .to_owned(),
        router_id: step
            .router
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        detail: step.detail.clone(),
    }
}

fn counters(whose: &SessionKey, entry: &EntryCounters) -> v1::EntryCounters {
    v1::EntryCounters {
        flow_index: entry.flow,
        kind: entry.kind.map_or(v1::FlowKind::Unspecified, kind).into(),
        source: entry.tuple.map(|tuple| endpoint(tuple.0.source())),
        destination: entry.tuple.map(|tuple| endpoint(tuple.0.destination())),
        packets: entry.packets,
        bytes: entry.bytes,
        policed_packets: entry.policed_packets,
        policed_bytes: entry.policed_bytes,
        last_seen_ms_ago: entry.last_seen_ms_ago,
        key: Some(key(whose)),
        colours: entry.colours.map(|it| v1::ColourCounts {
            green_packets: it.green[0],
            green_bytes: it.green[1],
            yellow_packets: it.yellow[0],
            yellow_bytes: it.yellow[1],
            red_packets: it.red[0],
            red_bytes: it.red[1],
        }),
        spoofed_packets: entry.spoofed_packets,
        spoofed_interface: entry.spoofed_interface.clone(),
        quality: entry.quality.clone(),
    }
}

/// A link with its budget and load, as the API tells it.
pub fn link(view: &LinkView) -> v1::Link {
    v1::Link {
        router_id: view.id.router.to_string(),
        port: view.id.port.to_string(),
        direction: match view.id.direction {
            Direction::In => v1::link::Direction::In,
            Direction::Out => v1::link::Direction::Out,
        }
        .into(),
        budget_bps: view.budget_bps,
        reserve_bps: view.reserve_bps,
        admitted_bps: u64::try_from(view.load.bps).unwrap_or(u64::MAX),
        sessions: view.load.sessions,
        carried_bps: view.carried_bps,
    }
}

/// A call on a link.
pub fn link_call(call: &LinkCall) -> v1::LinkCall {
    v1::LinkCall {
        key: Some(key(&call.key)),
        correlation_id: call.correlation_id.to_string(),
        priority: call.priority.into(),
        charged_bps: call.charged_bps,
    }
}

/// A session's key.
pub fn key(key: &SessionKey) -> v1::SessionKey {
    key.into()
}

fn endpoint(end: SocketAddr) -> v1::Endpoint {
    end.into()
}

fn narrow(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
