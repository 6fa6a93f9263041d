//! The JSON that is printed. Field names and values are part of the interface: they may be added
//! to, not changed.

use serde::Serialize;
use voicelane_proto::v1;

use crate::meter::{Colours, Meter};

/// `call add|modify|get`, and inside other documents.
#[derive(Serialize)]
pub(crate) struct Session {
    pub(crate) agent_id: String,
    pub(crate) session_id: String,
    pub(crate) revision: u64,
    /// "telephony", "admitted_telephony", "signalling", "multimedia_conferencing",
    /// "realtime_interactive".
    pub(crate) service_class: String,
    /// "installing", "active", "degraded", "removing".
    pub(crate) state: String,
    pub(crate) flows: Vec<Flow>,
    pub(crate) routers: Vec<Installation>,
    pub(crate) created_unix_ms: i64,
    pub(crate) updated_unix_ms: i64,
}

/// `call delete`.
#[derive(Serialize)]
pub(crate) struct Deleted {
    #[serde(flatten)]
    pub(crate) session: Session,
    /// Those that have not confirmed: its packets may still be marked there.
    pub(crate) pending_routers: Vec<String>,
}

/// `router forget`.
#[derive(Serialize)]
pub(crate) struct Forgotten {
    pub(crate) router_id: String,
    /// How many it was to have.
    pub(crate) sessions: u64,
}

/// One direction of a call.
#[derive(Serialize)]
pub(crate) struct Flow {
    /// "10.1.0.5:4000".
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) max_bitrate_bps: u64,
    /// 0: from the rate.
    pub(crate) max_burst_bytes: u32,
    /// In place of the two above, which are 0 then; null without.
    pub(crate) meter: Option<Meter>,
    /// "next_port", "mux", "explicit", "none".
    pub(crate) rtcp: String,
    pub(crate) rtcp_source: Option<String>,
    pub(crate) rtcp_destination: Option<String>,
    /// Where its ends were found.
    pub(crate) source_attachment: Option<Attachment>,
    pub(crate) destination_attachment: Option<Attachment>,
}

/// Where an end was found.
#[derive(Serialize)]
pub(crate) struct Attachment {
    pub(crate) router_id: String,
    pub(crate) interface: String,
    pub(crate) prefix: String,
}

/// A call on a router.
#[derive(Serialize)]
pub(crate) struct Installation {
    pub(crate) router_id: String,
    /// "pending", "installed", "away", "failed".
    pub(crate) state: String,
    pub(crate) detail: String,
    pub(crate) revision: u64,
}

/// `call list`.
#[derive(Serialize)]
pub(crate) struct Sessions {
    pub(crate) sessions: Vec<Session>,
    /// How many there are, shown or not.
    pub(crate) total: u64,
}

/// A line of `call watch`.
#[derive(Serialize)]
pub(crate) struct Event {
    /// "existing", "added", "modified", "deleted", "state_changed".
    pub(crate) kind: String,
    pub(crate) session: Session,
}

/// `call explain`.
#[derive(Serialize)]
pub(crate) struct Explanation {
    pub(crate) session: Session,
    pub(crate) flows: Vec<ExplainedFlow>,
    /// null when nothing is known to be broken.
    pub(crate) first_broken: Option<Step>,
    /// null when nothing is unknown. The call has its lane when both are.
    pub(crate) first_unknown: Option<Step>,
}

/// A flow of `call explain`.
#[derive(Serialize)]
pub(crate) struct ExplainedFlow {
    pub(crate) flow_index: u32,
    pub(crate) steps: Vec<Step>,
    pub(crate) source_counters: Vec<Counters>,
    pub(crate) destination_counters: Vec<Counters>,
}

/// A link of the chain.
#[derive(Serialize)]
pub(crate) struct Step {
    /// "ok", "broken", "unknown".
    pub(crate) verdict: String,
    /// "desired", "placed", "attached", "installed", "seen", "carried", "conforming".
    pub(crate) link: String,
    /// Empty for what is not of one router.
    pub(crate) router_id: String,
    pub(crate) detail: String,
}

/// What a router counted of a five-tuple.
#[derive(Serialize)]
pub(crate) struct Counters {
    pub(crate) agent_id: String,
    pub(crate) session_id: String,
    pub(crate) flow_index: u32,
    /// "rtp", "rtcp".
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) policed_packets: u64,
    pub(crate) policed_bytes: u64,
    /// null: no packet came.
    pub(crate) last_seen_ms_ago: Option<u64>,
    /// null: it never had a three-colour meter.
    pub(crate) colours: Option<Colours>,
    /// With the five-tuple, but from elsewhere.
    pub(crate) spoofed_packets: u64,
    /// Where the last of them came in.
    pub(crate) spoofed_interface: String,
}

/// `router entries`.
#[derive(Serialize)]
pub(crate) struct Entries {
    pub(crate) entries: Vec<Counters>,
}

/// `router list`.
#[derive(Serialize)]
pub(crate) struct Routers {
    pub(crate) routers: Vec<Router>,
}

/// `router show`.
#[derive(Serialize)]
pub(crate) struct Router {
    pub(crate) router_id: String,
    pub(crate) attached: bool,
    pub(crate) synchronised: bool,
    /// "away", "synchronising", "synchronised", "slow", "mute".
    pub(crate) state: String,
    /// How long it has owed an answer without giving any; null: it owes none.
    pub(crate) owes_answer_ms: Option<u64>,
    pub(crate) outstanding_commands: u64,
    /// How its last attachment ended; empty while it is attached.
    pub(crate) away_reason: String,
    /// In hexadecimal: JSON numbers do not hold 64 bits everywhere.
    pub(crate) epoch: String,
    pub(crate) software_version: String,
    pub(crate) peer_address: String,
    /// Of the attachment, or of its loss.
    pub(crate) since_unix_ms: i64,
    pub(crate) sessions: u64,
    pub(crate) entry_capacity: u64,
    pub(crate) interfaces: Vec<Interface>,
}

/// An interface of a router.
#[derive(Serialize)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// "edge", "core".
    pub(crate) role: String,
    pub(crate) up: bool,
    pub(crate) addresses: Vec<String>,
    /// The first of them; `router prefixes` shows all.
    pub(crate) prefixes: Vec<String>,
    /// How many there are.
    pub(crate) prefix_count: u64,
    pub(crate) rate_bps: u64,
    pub(crate) ef_budget_bps: u64,
    pub(crate) mtu_bytes: u32,
    /// null: it has no tag.
    pub(crate) vlan_id: Option<u32>,
    /// The port that it is on.
    pub(crate) port: String,
}

/// `router prefixes`.
#[derive(Serialize)]
pub(crate) struct Prefixes {
    pub(crate) router_id: String,
    pub(crate) interface: String,
    pub(crate) prefixes: Vec<String>,
}

/// "1.2.3.4:5", "[2001:db8::1]:5".
pub(crate) fn endpoint(end: Option<v1::Endpoint>) -> String {
    match end {
        Some(end) if end.address.contains(':') => format!("[{}]:{}", end.address, end.port),
        Some(end) => format!("{}:{}", end.address, end.port),
        None => String::new(),
    }
}

/// An enum value's proto name without its prefix, in lower case.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
}

impl From<v1::Session> for Session {
    fn from(session: v1::Session) -> Self {
        let state = word(session.state().as_str_name(), "SESSION_STATE_");
        let spec = session.spec.unwrap_or_default();
        let service_class = word(spec.service_class().as_str_name(), "SERVICE_CLASS_");
        let key = spec.key.unwrap_or_default();
        let mut placements = session.placements.into_iter();
        let flow = |flow: v1::MediaFlow| {
            let rtcp = flow.rtcp.unwrap_or_default();
            let placement = placements.next().unwrap_or_default();
            Flow {
                source: endpoint(flow.source),
                destination: endpoint(flow.destination),
                max_bitrate_bps: flow.max_bitrate_bps,
                max_burst_bytes: flow.max_burst_bytes,
                meter: flow.meter.map(Into::into),
                rtcp: word(rtcp.mode().as_str_name(), "MODE_"),
                rtcp_source: rtcp.source.map(|end| endpoint(Some(end))),
                rtcp_destination: rtcp.destination.map(|end| endpoint(Some(end))),
                source_attachment: placement.source.map(Into::into),
                destination_attachment: placement.destination.map(Into::into),
            }
        };
        Self {
            agent_id: key.agent_id,
            session_id: key.session_id,
            revision: spec.revision,
            service_class,
            state,
            flows: spec.flows.into_iter().map(flow).collect(),
            routers: session.routers.into_iter().map(Into::into).collect(),
            created_unix_ms: session.created_unix_ms,
            updated_unix_ms: session.updated_unix_ms,
        }
    }
}

impl From<v1::Attachment> for Attachment {
    fn from(at: v1::Attachment) -> Self {
        Self {
            router_id: at.router_id,
            interface: at.interface,
            prefix: at.prefix,
        }
    }
}

impl From<v1::RouterInstallation> for Installation {
    fn from(on: v1::RouterInstallation) -> Self {
        let state = word(on.state().as_str_name(), "STATE_");
        Self {
            router_id: on.router_id,
            state,
            detail: on.detail,
            revision: on.revision,
        }
    }
}

impl From<v1::WatchSessionsResponse> for Event {
    fn from(event: v1::WatchSessionsResponse) -> Self {
        let kind = word(event.kind().as_str_name(), "KIND_");
        Self {
            kind,
            session: event.session.unwrap_or_default().into(),
        }
    }
}

impl From<v1::ExplainSessionResponse> for Explanation {
    fn from(answer: v1::ExplainSessionResponse) -> Self {
        let counters = |all: Vec<v1::EntryCounters>| all.into_iter().map(Counters::from).collect();
        let flow = |flow: v1::FlowExplanation| ExplainedFlow {
            flow_index: flow.flow_index,
            steps: flow.steps.into_iter().map(Into::into).collect(),
            source_counters: counters(flow.source_counters),
            destination_counters: counters(flow.destination_counters),
        };
        Self {
            session: answer.session.unwrap_or_default().into(),
            flows: answer.flows.into_iter().map(flow).collect(),
            first_broken: answer.first_broken.map(Into::into),
            first_unknown: answer.first_unknown.map(Into::into),
        }
    }
}

impl From<v1::ExplainStep> for Step {
    fn from(step: v1::ExplainStep) -> Self {
        let verdict = word(step.verdict().as_str_name(), "VERDICT_");
        Self {
            verdict,
            link: step.link,
            router_id: step.router_id,
            detail: step.detail,
        }
    }
}

impl From<v1::EntryCounters> for Counters {
    fn from(entry: v1::EntryCounters) -> Self {
        let kind = word(entry.kind().as_str_name(), "FLOW_KIND_");
        let key = entry.key.unwrap_or_default();
        Self {
            agent_id: key.agent_id,
            session_id: key.session_id,
            flow_index: entry.flow_index,
            kind,
            source: endpoint(entry.source),
            destination: endpoint(entry.destination),
            packets: entry.packets,
            bytes: entry.bytes,
            policed_packets: entry.policed_packets,
            policed_bytes: entry.policed_bytes,
            last_seen_ms_ago: entry.last_seen_ms_ago,
            colours: entry.colours.map(Into::into),
            spoofed_packets: entry.spoofed_packets,
            spoofed_interface: entry.spoofed_interface,
        }
    }
}

impl From<v1::RouterStatus> for Router {
    fn from(router: v1::RouterStatus) -> Self {
        let state = word(router.state().as_str_name(), "ROUTER_STATE_");
        let mut interfaces: Vec<Interface> =
            router.interfaces.into_iter().map(Into::into).collect();
        for more in router.prefix_counts {
            let mut all = interfaces.iter_mut();
            if let Some(interface) = all.find(|it| it.name == more.interface) {
                interface.prefix_count = more.prefixes;
            }
        }
        Self {
            router_id: router.router_id,
            attached: router.attached,
            synchronised: router.synchronised,
            state,
            owes_answer_ms: router.owes_answer_ms,
            outstanding_commands: router.outstanding_commands,
            away_reason: router.away_reason,
            epoch: format!("{:016x}", router.epoch),
            software_version: router.software_version,
            peer_address: router.peer_address,
            since_unix_ms: router.since_unix_ms,
            sessions: router.sessions,
            entry_capacity: router.entry_capacity,
            interfaces,
        }
    }
}

impl From<v1::Interface> for Interface {
    fn from(it: v1::Interface) -> Self {
        let role = word(it.role().as_str_name(), "ROLE_");
        Self {
            name: it.name,
            role,
            up: it.up,
            addresses: it.addresses,
            prefix_count: it.prefixes.len() as u64,
            prefixes: it.prefixes,
            rate_bps: it.rate_bps,
            ef_budget_bps: it.ef_budget_bps,
            mtu_bytes: it.mtu_bytes,
            vlan_id: (it.vlan_id != 0).then_some(it.vlan_id),
            port: it.port,
        }
    }
}
