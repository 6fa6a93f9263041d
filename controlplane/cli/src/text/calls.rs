//! Calls: their flows, their routers, and the chain that `call explain` follows.

use voicelane_proto::v1::{
    self,
    explain_step::Verdict,
    meter::{Marker, Rfc4115, SrTcm, TrTcm},
};

use super::{endpoint, lines, quality, rate, table, word};

/// One call with its flows and routers.
pub(crate) fn session(session: &v1::Session) -> String {
    let routers = table(
        ["ROUTER", "STATE", "DETAIL"],
        session
            .routers
            .iter()
            .map(|on| [on.router_id.clone(), state(on), on.detail.clone()]),
    );
    let at = |at: Option<&v1::Attachment>| {
        at.map_or_else(String::new, |at| {
            format!("{}/{}", at.router_id, at.interface)
        })
    };
    let flows = table(
        ["FLOW", "FROM", "AT", "TO", "AT", "RATE", "RTCP"],
        flows(session).iter().enumerate().map(|(index, flow)| {
            let placement = session.placements.get(index);
            let rtcp = flow.rtcp.clone().unwrap_or_default();
            [
                index.to_string(),
                source(flow, placement),
                at(placement.and_then(|it| it.source.as_ref())),
                endpoint(flow.destination.as_ref()),
                at(placement.and_then(|it| it.destination.as_ref())),
                flow.meter
                    .as_ref()
                    .map_or_else(|| rate(flow.max_bitrate_bps), meter),
                word(rtcp.mode().as_str_name(), "MODE_"),
            ]
        }),
    );
    format!("{}{}\n{flows}\n{routers}", headline(session), more(session))
}

/// Where a flow comes from: what was asked for, what was learned, or that it is to be.
fn source(flow: &v1::MediaFlow, placement: Option<&v1::FlowPlacement>) -> String {
    let learned = placement.and_then(|it| it.latched_source.as_ref());
    match (&flow.latch, learned) {
        (Some(_), Some(learned)) => format!("{} (learned)", endpoint(Some(learned))),
        (Some(latch), None) if latch.address.is_empty() => "(to be learned)".to_owned(),
        (Some(latch), None) => format!("{} (to be learned)", latch.address),
        (None, _) => endpoint(flow.source.as_ref()),
    }
}

/// What not every call has, a line each.
fn more(session: &v1::Session) -> String {
    let spec = session.spec.clone().unwrap_or_default();
    let mut text = String::new();
    if !spec.correlation_id.is_empty() {
        text += &format!("\ncorrelation {}", spec.correlation_id);
    }
    if spec.lifetime_s > 0 {
        text += &format!("\ngood for {} s after each change", spec.lifetime_s);
    }
    if !matches!(spec.priority, 0 | 10) {
        text += &format!("\npriority {}", spec.priority);
    }
    if spec.may_preempt {
        text += "\nmay pre-empt less important calls";
    }
    if spec.preemptable {
        text += "\nmore important calls may pre-empt it";
    }
    if spec.hold {
        text += "\non hold: may be without packets for longer";
    }
    for (index, flow) in spec.flows.iter().enumerate() {
        if !flow.codecs.is_empty() {
            let codec =
                |it: &v1::Codec| format!("{} {}/{}", it.payload_type, it.encoding, it.clock_rate);
            let codecs: Vec<String> = flow.codecs.iter().map(codec).collect();
            text += &format!("\nflow {index} codecs {}", codecs.join(", "));
        }
    }
    text
}

/// The deleted call, and the routers that have not confirmed.
pub(crate) fn deleted(answer: &v1::DeleteSessionResponse) -> String {
    let session = answer.session.clone().unwrap_or_default();
    let done = format!("deleted {}", headline(&session));
    if answer.pending_routers.is_empty() {
        return done;
    }
    let routers = answer.pending_routers.join(", ");
    format!("{done}\nnot confirmed yet by {routers}: its packets may still be marked there")
}

/// One row for each call, and how many there are.
pub(crate) fn sessions(answer: &v1::ListSessionsResponse) -> String {
    let rows = answer.sessions.iter().map(|session| {
        let spec = session.spec.clone().unwrap_or_default();
        let key = spec.key.unwrap_or_default();
        let flow = |flow: &v1::MediaFlow| {
            let meter = flow.meter.as_ref().map_or_else(String::new, |meter| {
                format!(" ({} {})", kind(meter), rate(meter.cir_bps))
            });
            format!(
                "{} -> {}{meter}",
                endpoint(flow.source.as_ref()),
                endpoint(flow.destination.as_ref())
            )
        };
        [
            key.agent_id,
            key.session_id,
            word(session.state().as_str_name(), "SESSION_STATE_"),
            spec.revision.to_string(),
            lines(&spec.flows, flow),
            lines(&session.routers, installation),
        ]
    });
    let shown = answer.sessions.len();
    let count = match answer.total {
        0 => "no calls".to_owned(),
        total if total == shown as u64 => format!("{total} calls"),
        total => format!("{shown} of {total} calls"),
    };
    format!(
        "{}\n{count}",
        table(["AGENT", "CALL", "STATE", "REV", "FLOWS", "ROUTERS"], rows)
    )
}

/// One line for one event.
pub(crate) fn event(event: &v1::WatchSessionsResponse) -> String {
    let session = event.session.clone().unwrap_or_default();
    let routers: Vec<String> = session.routers.iter().map(installation).collect();
    let reason = match event.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    format!(
        "{:<13} {} ({}){reason}",
        word(event.kind().as_str_name(), "KIND_"),
        headline(&session),
        routers.join(", ")
    )
}

/// The chain of each flow, and the first broken link.
pub(crate) fn explanation(answer: &v1::ExplainSessionResponse) -> String {
    let session = answer.session.clone().unwrap_or_default();
    let mut text = headline(&session) + "\n";
    for (flow, asked) in answer.flows.iter().zip(flows(&session)) {
        text += &format!(
            "flow {}  {} -> {}\n",
            flow.flow_index,
            source(asked, flow.placement.as_ref()),
            endpoint(asked.destination.as_ref())
        );
        for step in &flow.steps {
            text += &format!("  {}\n", link(step));
        }
        if let Some(heard) = quality::sentence(flow) {
            text += &format!("  {heard}\n");
        }
    }
    text += &match (&answer.first_broken, &answer.first_unknown) {
        (Some(step), _) => format!("first broken link: {}", finding(step)),
        (None, Some(step)) => {
            format!(
                "nothing is known to be broken, but unknown: {}",
                finding(step)
            )
        }
        (None, None) => match lossy(&answer.flows) {
            Some(flow) => format!("every link holds, but flow {flow} has lost packets lately"),
            None => "nothing is broken".to_owned(),
        },
    };
    text
}

/// The first flow that has lost packets lately.
fn lossy(flows: &[v1::FlowExplanation]) -> Option<u32> {
    let loses = flows.iter().find(|flow| {
        let segments = quality::segments(&flow.recent_loss.unwrap_or_default());
        segments.iter().any(|(lost, _)| *lost > Some(0))
    })?;
    Some(loses.flow_index)
}

pub(super) fn headline(session: &v1::Session) -> String {
    let spec = session.spec.clone().unwrap_or_default();
    let class = word(spec.service_class().as_str_name(), "SERVICE_CLASS_");
    let key = spec.key.unwrap_or_default();
    format!(
        "call {} of {}: {}, revision {}, {class}",
        key.session_id,
        key.agent_id,
        word(session.state().as_str_name(), "SESSION_STATE_"),
        spec.revision,
    )
}

fn flows(session: &v1::Session) -> &[v1::MediaFlow] {
    session.spec.as_ref().map_or(&[], |spec| &spec.flows)
}

fn state(on: &v1::RouterInstallation) -> String {
    word(on.state().as_str_name(), "STATE_")
}

fn installation(on: &v1::RouterInstallation) -> String {
    format!("{} {}", on.router_id, state(on))
}

fn link(step: &v1::ExplainStep) -> String {
    let sign = match step.verdict() {
        Verdict::Ok => '✓',
        Verdict::Broken => '✗',
        Verdict::Unknown | Verdict::Unspecified => '?',
    };
    format!(
        "{sign} {:<11} {:<10} {}",
        step.link, step.router_id, step.detail
    )
    .trim_end()
    .to_owned()
}

fn finding(step: &v1::ExplainStep) -> String {
    match step.router_id.as_str() {
        "" => format!("{}: {}", step.link, step.detail),
        router => format!("{} on router {router}: {}", step.link, step.detail),
    }
}

/// "srtcm", "trtcm", "rfc4115"; empty for a meter that this release does not know.
fn kind(meter: &v1::Meter) -> &'static str {
    match meter.marker {
        Some(Marker::Srtcm(_)) => "srtcm",
        Some(Marker::Trtcm(_)) => "trtcm",
        Some(Marker::Rfc4115(_)) => "rfc4115",
        None => "",
    }
}

/// A meter, one line a bucket.
fn meter(meter: &v1::Meter) -> String {
    let (kind, cir, cbs) = (kind(meter), rate(meter.cir_bps), meter.cbs_bytes);
    let mut text = format!("{kind} cir {cir}, cbs {cbs} B");
    text += &match meter.marker {
        Some(Marker::Srtcm(SrTcm { ebs_bytes })) => format!("\nebs {ebs_bytes} B"),
        Some(Marker::Trtcm(TrTcm { pir_bps, pbs_bytes })) => {
            format!("\npir {}, pbs {pbs_bytes} B", rate(pir_bps))
        }
        Some(Marker::Rfc4115(Rfc4115 { eir_bps, ebs_bytes })) => {
            format!("\neir {}, ebs {ebs_bytes} B", rate(eir_bps))
        }
        None => String::new(),
    };
    if meter.colour_aware {
        text += "\ncolour-aware";
    }
    if meter.drop_red {
        text += "\ndrops red";
    }
    text
}
