//! Routers as the server knows them, and the session entries that a router has.

use std::time::Duration;

use voicelane_proto::v1::{self, RouterState, interface::Role};

use super::{age, endpoint, lines, rate, table, word};

/// Prefixes of an interface that are shown in a table.
const PREFIXES: usize = 10;

/// One row for each router.
pub(crate) fn routers(answer: &v1::ListRoutersResponse) -> String {
    let rows = answer.routers.iter().map(|router| {
        let edges = router
            .interfaces
            .iter()
            .filter(|it| it.role() == Role::Edge);
        let reaches = edges.flat_map(|it| {
            let lines = prefixes(router, it).into_iter();
            lines.map(move |prefix| format!("{prefix} ({})", it.name))
        });
        [
            router.router_id.clone(),
            presence(router),
            router.sessions.to_string(),
            reaches.collect::<Vec<_>>().join("\n"),
            router.peer_address.clone(),
            router.software_version.clone(),
        ]
    });
    table(
        ["ROUTER", "STATE", "CALLS", "REACHES", "FROM", "RELEASE"],
        rows,
    )
}

/// One router with its interfaces.
pub(crate) fn router(router: &v1::RouterStatus) -> String {
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
            let vlan = match it.vlan_id {
                0 => String::new(),
                id => id.to_string(),
            };
            [
                it.name.clone(),
                vlan,
                word(it.role().as_str_name(), "ROLE_"),
                if it.up { "up" } else { "down" }.to_owned(),
                it.addresses.join("\n"),
                prefixes(router, it).join("\n"),
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
    let refused = match &router.refused_prefixes[..] {
        [] => String::new(),
        refused => {
            let text = lines(refused, |it| format!("{} on {}", it.prefix, it.interface));
            format!(
                "claims what it must not (may_claim): {}\n",
                text.replace('\n', ", ")
            )
        }
    };
    format!(
        "router {}: {}, {} calls, room for {} entries, release {}, epoch {:016x}, from {}\n{reason}{refused}{interfaces}",
        router.router_id,
        presence(router),
        router.sessions,
        router.entry_capacity,
        router.software_version,
        router.epoch,
        router.peer_address
    )
}

/// All prefixes of an interface.
pub(crate) fn all_prefixes(all: &v1::ListPrefixesResponse) -> String {
    all.prefixes.join("\n")
}

/// One row for each session entry, with its counters.
pub(crate) fn entries(all: &v1::ListEntriesResponse) -> String {
    let rows = all.entries.iter().map(|entry| {
        let key = entry.key.clone().unwrap_or_default();
        let colours = entry.colours.as_ref().map_or_else(String::new, |it| {
            format!(
                "{} / {} / {}",
                it.green_packets, it.yellow_packets, it.red_packets
            )
        });
        [
            format!("{}/{}", key.agent_id, key.session_id),
            entry.flow_index.to_string(),
            word(entry.kind().as_str_name(), "FLOW_KIND_"),
            match &entry.source {
                None => "not learned yet".to_owned(),
                source => endpoint(source.as_ref()),
            },
            endpoint(entry.destination.as_ref()),
            entry.packets.to_string(),
            entry.policed_packets.to_string(),
            match entry.spoofed_packets {
                0 => "0".to_owned(),
                packets => format!("{packets} on {}", entry.spoofed_interface),
            },
            colours,
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

/// An interface's first prefixes, and how many more there are.
fn prefixes(router: &v1::RouterStatus, interface: &v1::Interface) -> Vec<String> {
    let shown = interface.prefixes.iter().take(PREFIXES).cloned();
    let mut lines: Vec<String> = shown.collect();
    let counted = router
        .prefix_counts
        .iter()
        .find(|more| more.interface == interface.name)
        .map_or(interface.prefixes.len() as u64, |more| more.prefixes);
    let left = counted.saturating_sub(lines.len() as u64);
    if left > 0 {
        lines.push(format!("and {left} more"));
    }
    lines
}

fn presence(router: &v1::RouterStatus) -> String {
    let since = age(router.since_unix_ms);
    let owes = || {
        let owes = Duration::from_millis(router.owes_answer_ms.unwrap_or(0));
        let outstanding = router.outstanding_commands;
        format!("{} s, {outstanding} answers owed", owes.as_secs())
    };
    match router.state() {
        RouterState::Mute => format!("mute {}", owes()),
        RouterState::Slow => format!("slow {}", owes()),
        RouterState::Away => format!("away {since}"),
        RouterState::Synchronising => format!("synchronising {since}"),
        RouterState::Synchronised | RouterState::Unspecified if router.attached => {
            format!("attached {since}")
        }
        RouterState::Synchronised | RouterState::Unspecified => format!("away {since}"),
    }
}
