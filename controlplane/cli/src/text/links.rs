//! Links, and what calls take of them.

use voicelane_proto::v1;

use super::{rate, table, word};

/// One row for each link.
pub(crate) fn links(answer: &v1::ListLinksResponse) -> String {
    let header = [
        "ROUTER", "PORT", "WAY", "BUDGET", "RESERVE", "ADMITTED", "CARRIED", "CALLS",
    ];
    table(header, answer.links.iter().map(row))
}

/// A link and the calls that take most of it.
pub(crate) fn link(answer: &v1::GetLinkResponse) -> String {
    let links = v1::ListLinksResponse {
        links: answer.link.iter().cloned().collect(),
        ..Default::default()
    };
    let calls = answer.calls.iter().map(|call| {
        let key = call.key.clone().unwrap_or_default();
        [
            key.agent_id,
            key.session_id,
            rate(call.charged_bps),
            call.priority.to_string(),
            call.correlation_id.clone(),
        ]
    });
    let calls = table(["AGENT", "CALL", "TAKES", "PRIORITY", "CORRELATION"], calls);
    format!("{}\n{calls}", self::links(&links))
}

fn row(link: &v1::Link) -> [String; 8] {
    let (budget, reserve) = match link.budget_bps {
        0 => ("unlimited".to_owned(), String::new()),
        budget => (rate(budget), rate(link.reserve_bps)),
    };
    [
        link.router_id.clone(),
        link.port.clone(),
        word(link.direction().as_str_name(), "DIRECTION_"),
        budget,
        reserve,
        rate(link.admitted_bps),
        link.carried_bps.map_or_else(|| "-".to_owned(), rate),
        link.sessions.to_string(),
    ]
}
