//! Answers as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    json::{
        Counters, Deleted, Event, Explanation, Installation, Interface, Prefixes, Router, Session,
        Sessions, Step,
    },
    meter::{Colours, Meter},
    output::{rate, table},
};

/// Prefixes of an interface that are shown in a table.
const PREFIXES: usize = 10;

/// A call, all of it.
pub(crate) fn session(session: &Session) -> String {
    let routers = table(
        ["ROUTER", "STATE", "DETAIL"],
        session
            .routers
            .iter()
            .map(|on| [on.router_id.clone(), on.state.clone(), on.detail.clone()]),
    );
    let flows = table(
        ["FLOW", "FROM", "AT", "TO", "AT", "RATE", "RTCP"],
        session.flows.iter().enumerate().map(|(index, flow)| {
            let at = |at: &Option<crate::json::Attachment>| {
                at.as_ref().map_or_else(String::new, |at| {
                    format!("{}/{}", at.router_id, at.interface)
                })
            };
            [
                index.to_string(),
                flow.source.clone(),
                at(&flow.source_attachment),
                flow.destination.clone(),
                at(&flow.destination_attachment),
                flow.meter
                    .as_ref()
                    .map_or_else(|| rate(flow.max_bitrate_bps), Meter::text),
                flow.rtcp.clone(),
            ]
        }),
    );
    format!("{}\n{flows}\n{routers}", headline(session))
}

/// A call that was deleted.
pub(crate) fn deleted(it: &Deleted) -> String {
    let done = format!("deleted {}", headline(&it.session));
    if it.pending_routers.is_empty() {
        return done;
    }
    let routers = it.pending_routers.join(", ");
    format!("{done}\nnot confirmed yet by {routers}: its packets may still be marked there")
}

/// A call in a line.
pub(crate) fn headline(session: &Session) -> String {
    format!(
        "call {} of {}: {}, revision {}, {}",
        session.session_id,
        session.agent_id,
        session.state,
        session.revision,
        session.service_class
    )
}

/// Calls, a line each.
pub(crate) fn sessions(sessions: &Sessions) -> String {
    let rows = sessions.sessions.iter().map(|session| {
        [
            session.agent_id.clone(),
            session.session_id.clone(),
            session.state.clone(),
            session.revision.to_string(),
            session
                .flows
                .iter()
                .map(|flow| match &flow.meter {
                    Some(meter) => {
                        format!(
                            "{} -> {} ({})",
                            flow.source,
                            flow.destination,
                            meter.short()
                        )
                    }
                    None => format!("{} -> {}", flow.source, flow.destination),
                })
                .collect::<Vec<_>>()
                .join("\n"),
            session
                .routers
                .iter()
                .map(installation)
                .collect::<Vec<_>>()
                .join("\n"),
        ]
    });
    let shown = sessions.sessions.len();
    let count = match sessions.total {
        0 => "no calls".to_owned(),
        total if total == shown as u64 => format!("{total} calls"),
        total => format!("{shown} of {total} calls"),
    };
    format!(
        "{}\n{count}",
        table(["AGENT", "CALL", "STATE", "REV", "FLOWS", "ROUTERS"], rows)
    )
}

fn installation(on: &Installation) -> String {
    format!("{} {}", on.router_id, on.state)
}

/// A change in a line.
pub(crate) fn event(event: &Event) -> String {
    let routers: Vec<String> = event.session.routers.iter().map(installation).collect();
    format!(
        "{:<13} {} ({})",
        event.kind,
        headline(&event.session),
        routers.join(", ")
    )
}

/// The chain of each flow, and the first broken link.
pub(crate) fn explanation(explanation: &Explanation) -> String {
    let mut text = headline(&explanation.session) + "\n";
    for (flow, asked) in explanation.flows.iter().zip(&explanation.session.flows) {
        text += &format!(
            "flow {}  {} -> {}\n",
            flow.flow_index, asked.source, asked.destination
        );
        for step in &flow.steps {
            text += &format!("  {}\n", link(step));
        }
    }
    text += &match (&explanation.first_broken, &explanation.first_unknown) {
        (Some(step), _) => format!("first broken link: {}", name(step)),
        (None, Some(step)) => format!("nothing is known to be broken, but unknown: {}", name(step)),
        (None, None) => "nothing is broken".to_owned(),
    };
    text
}

fn name(step: &Step) -> String {
    match step.router_id.as_str() {
        "" => format!("{}: {}", step.link, step.detail),
        router => format!("{} on router {router}: {}", step.link, step.detail),
    }
}

fn link(step: &Step) -> String {
    let sign = match step.verdict.as_str() {
        "ok" => '✓',
        "broken" => '✗',
        _ => '?',
    };
    format!(
        "{sign} {:<11} {:<10} {}",
        step.link, step.router_id, step.detail
    )
    .trim_end()
    .to_owned()
}

/// Routers, a line each.
pub(crate) fn routers(routers: &[Router]) -> String {
    let rows = routers.iter().map(|router| {
        [
            router.router_id.clone(),
            presence(router),
            router.sessions.to_string(),
            router
                .interfaces
                .iter()
                .filter(|it| it.role == "edge")
                .flat_map(|it| {
                    let lines = prefixes(it).into_iter();
                    lines.map(move |prefix| format!("{prefix} ({})", it.name))
                })
                .collect::<Vec<_>>()
                .join("\n"),
            router.peer_address.clone(),
            router.software_version.clone(),
        ]
    });
    table(
        ["ROUTER", "STATE", "CALLS", "REACHES", "FROM", "RELEASE"],
        rows,
    )
}

/// An interface's prefixes, the first ones where there are many.
fn prefixes(interface: &Interface) -> Vec<String> {
    let shown = interface.prefixes.iter().take(PREFIXES).cloned();
    let mut lines: Vec<String> = shown.collect();
    let left = interface.prefix_count.saturating_sub(lines.len() as u64);
    if left > 0 {
        lines.push(format!("and {left} more"));
    }
    lines
}

/// All prefixes of an interface.
pub(crate) fn all_prefixes(all: &Prefixes) -> String {
    all.prefixes.join("\n")
}

fn presence(router: &Router) -> String {
    let since = age(router.since_unix_ms);
    let owes = || {
        let owes = Duration::from_millis(router.owes_answer_ms.unwrap_or(0));
        let outstanding = router.outstanding_commands;
        format!("{} s, {outstanding} answers owed", owes.as_secs())
    };
    match router.state.as_str() {
        "mute" => format!("mute {}", owes()),
        "slow" => format!("slow {}", owes()),
        "away" => format!("away {since}"),
        "synchronising" => format!("synchronising {since}"),
        _ if router.attached => format!("attached {since}"),
        _ => format!("away {since}"),
    }
}

fn age(since_unix_ms: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let since = Duration::from_millis(u64::try_from(since_unix_ms).unwrap_or(0));
    match now.saturating_sub(since).as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A router, all of it.
pub(crate) fn router(router: &Router) -> String {
    let interfaces = table(
        [
            "INTERFACE",
            "VLAN",
            "ROLE",
            "LINK",
            "ADDRESSES",
            "REACHES",
            "RATE",
            "EF BUDGET",
            "MTU",
        ],
        router.interfaces.iter().map(|it| {
            [
                it.name.clone(),
                it.vlan_id.map_or_else(String::new, |id| id.to_string()),
                it.role.clone(),
                if it.up { "up" } else { "down" }.to_owned(),
                it.addresses.join("\n"),
                prefixes(it).join("\n"),
                rate(it.rate_bps),
                rate(it.ef_budget_bps),
                it.mtu_bytes.to_string(),
            ]
        }),
    );
    let reason = match router.away_reason.as_str() {
        "" => String::new(),
        reason => format!("lost: {reason}\n"),
    };
    format!(
        "router {}: {}, {} calls, room for {} entries, release {}, epoch {}, from {}\n{reason}{interfaces}",
        router.router_id,
        presence(router),
        router.sessions,
        router.entry_capacity,
        router.software_version,
        router.epoch,
        router.peer_address
    )
}

/// Counters, a line each.
pub(crate) fn entries(entries: &[Counters]) -> String {
    let rows = entries.iter().map(|entry| {
        [
            format!("{}/{}", entry.agent_id, entry.session_id),
            entry.flow_index.to_string(),
            entry.kind.clone(),
            entry.source.clone(),
            entry.destination.clone(),
            entry.packets.to_string(),
            entry.policed_packets.to_string(),
            match entry.spoofed_packets {
                0 => "0".to_owned(),
                packets => format!("{packets} on {}", entry.spoofed_interface),
            },
            entry
                .colours
                .as_ref()
                .map_or_else(String::new, Colours::text),
            entry
                .last_seen_ms_ago
                .map_or_else(|| "never".to_owned(), |ago| format!("{ago} ms ago")),
        ]
    });
    table(
        [
            "CALL",
            "FLOW",
            "KIND",
            "FROM",
            "TO",
            "PACKETS",
            "POLICED",
            "SPOOFED",
            "GREEN / YELLOW / RED",
            "LAST",
        ],
        rows,
    )
}
