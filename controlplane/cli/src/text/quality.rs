//! How well calls' RTP arrives, and where it is lost.

use std::array;

use voicelane_proto::v1;

use super::{calls::headline, table};

/// How well each flow's RTP came to its routers.
pub(crate) fn quality(answer: &v1::ExplainSessionResponse) -> String {
    let session = answer.session.clone().unwrap_or_default();
    let rows = answer.flows.iter().flat_map(|flow| {
        let placement = flow.placement.clone().unwrap_or_default();
        let ends = [
            (placement.source, &flow.source_counters),
            (placement.destination, &flow.destination_counters),
        ];
        let index = flow.flow_index;
        let mut shown = None;
        ends.into_iter().filter_map(move |(at, counters)| {
            let router = at?.router_id;
            // One router may have both ends.
            if shown.replace(router.clone()).as_ref() == Some(&router) {
                return None;
            }
            let rtp = counters
                .iter()
                .find(|it| it.kind() == v1::FlowKind::Rtp)
                .and_then(|it| it.quality.as_ref());
            Some(quality_row(index, router, rtp))
        })
    });
    let head = [
        "FLOW",
        "ROUTER",
        "RECEIVED",
        "LOST",
        "",
        "RUNS",
        "LATE",
        "AGAIN",
        "REORDERED",
        "JITTER",
        "STREAMS",
    ];
    let lost = answer.flows.iter().filter_map(located_row);
    let located = [
        "FLOW",
        "COMPARED",
        "LOST BEFORE",
        "IN ITS ROUTER",
        "BETWEEN",
        "IN THE OTHER",
        "AFTER",
        "THERE AND BACK",
        "MOS",
    ];
    let (measured, located) = (table(head, rows), table(located, lost));
    format!("{}\n{measured}\n{located}", headline(&session))
}

/// Where the router does not measure it, dashes.
fn quality_row(flow: u32, router: String, rtp: Option<&v1::MediaQuality>) -> [String; 11] {
    let Some(rtp) = rtp else {
        let mut row: [String; 11] = array::from_fn(|_| "-".to_owned());
        (row[0], row[1]) = (flow.to_string(), router);
        return row;
    };
    let known = |count: u64| match rtp.spread {
        false => count.to_string(),
        true => "?".to_owned(),
    };
    let share = match rtp.expected {
        0 => String::new(),
        expected => share(rtp.lost, expected),
    };
    let jitter = rtp
        .jitter_ns
        .map_or_else(|| "?".to_owned(), |ns| format!("{:.1} ms", ns as f64 / 1e6));
    let streams = u64::from(rtp.expected > 0) + rtp.restarts + rtp.ssrc_changes;
    [
        flow.to_string(),
        router,
        rtp.received.to_string(),
        rtp.lost.to_string(),
        share,
        known(rtp.runs),
        rtp.late.to_string(),
        known(rtp.duplicates),
        known(rtp.reordered),
        jitter,
        streams.to_string(),
    ]
}

/// How many packets each part of a flow's way has lost, in the way's order, and of how many.
pub(super) fn segments(loss: &v1::LocatedLoss) -> [(Option<u64>, u64); 5] {
    let (packets, reported) = (loss.packets, loss.reported_packets);
    [
        (loss.before_source, packets),
        (loss.in_source, packets),
        (loss.between, packets),
        (loss.in_destination, packets),
        (loss.after_destination, reported),
    ]
}

/// Where a flow loses packets, in short, and how it sounds; `None` where neither is known.
pub(super) fn sentence(flow: &v1::FlowExplanation) -> Option<String> {
    let loss = flow.loss.as_ref()?;
    let placement = flow.placement.clone().unwrap_or_default();
    let [a, b] =
        [placement.source, placement.destination].map(|at| at.unwrap_or_default().router_id);
    let places = [
        format!("before {a}"),
        format!("in {a}"),
        format!("between {a} and {b}"),
        format!("in {b}"),
        format!("after {b}"),
    ];
    let mut parts: Vec<_> = segments(loss)
        .into_iter()
        .zip(places)
        .filter_map(|((lost, packets), place)| {
            let lost = lost.filter(|&lost| lost > 0)?;
            Some(format!("loses {} {place}", share(lost, packets)))
        })
        .collect();
    if let Some(score) = &flow.score {
        parts.push(format!("MOS {:.1}", score.mos));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn share(lost: u64, packets: u64) -> String {
    format!("{:.2} %", lost as f64 * 100.0 / packets.max(1) as f64)
}

/// Where a flow's packets were lost; what is not known is a question mark.
fn located_row(flow: &v1::FlowExplanation) -> Option<[String; 9]> {
    let loss = flow.loss.as_ref()?;
    let of = |(lost, packets): (Option<u64>, u64)| match lost {
        None => "?".to_owned(),
        Some(0) => "0".to_owned(),
        Some(lost) => format!("{lost} ({})", share(lost, packets)),
    };
    let [before, in_source, between, in_destination, after] = segments(loss).map(of);
    let delay = flow
        .two_way_delay_ns
        .map(|ns| format!("{:.1} ms", ns as f64 / 1e6));
    let score = flow.score.as_ref().map(|it| {
        let v1::QualityScore { mos, packets, .. } = it;
        format!("{mos:.1} of the last {packets}")
    });
    let unknown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    Some([
        flow.flow_index.to_string(),
        loss.packets.to_string(),
        before,
        in_source,
        between,
        in_destination,
        after,
        unknown(delay),
        unknown(score),
    ])
}
