//! How all stands, as text.

use voicelane_proto::v1::{self, explain_step::Verdict};

use super::{age, events, rate, table, word};

/// The columns of calls.
pub(crate) const CALLS: [&str; 6] = ["CALL", "WAY", "FROM", "TO", "STATE", "WRONG"];
/// The columns of routers.
pub(crate) const ROUTERS: [&str; 4] = ["ROUTER", "STATE", "CALLS", "KNOWN"];
/// The columns of links.
pub(crate) const LINKS: [&str; 5] = ["LINK", "WAY", "ADMITTED", "BUDGET", "TAKEN"];
/// The columns of who sends EF without a call.
pub(crate) const EF_CLAIMERS: [&str; 3] = ["EF WITHOUT CALL", "COMES TO", "IN 10 S"];
/// How long a bar is.
const BAR: u64 = 8;

/// The sentence, then calls, routers, links, who sends EF without a call, if somebody does, and events.
pub(crate) fn overview(it: &v1::WatchOverviewResponse) -> String {
    let events: Vec<_> = it.events.iter().map(events::event).collect();
    let claimers = match it.ef_claimers.is_empty() {
        true => String::new(),
        false => table(EF_CLAIMERS, it.ef_claimers.iter().map(ef_claimer)) + "\n",
    };
    format!(
        "{}\n{}\n{}\n{}\n{claimers}{}",
        it.sentence,
        table(CALLS, it.calls.iter().map(call)),
        table(ROUTERS, it.routers.iter().map(router)),
        table(LINKS, it.links.iter().map(link)),
        events.join("\n"),
    )
}

/// Calls alone.
pub(crate) fn calls(calls: &[v1::OverviewCall]) -> String {
    table(CALLS, calls.iter().map(call))
}

/// A call's row.
pub(crate) fn call(it: &v1::OverviewCall) -> [String; 6] {
    let key = it.key.as_ref();
    [
        key.map(|key| key.session_id.clone()).unwrap_or_default(),
        it.segments.iter().map(sign).collect::<Vec<_>>().join(" "),
        it.source.clone(),
        it.destination.clone(),
        word(it.state().as_str_name(), "SESSION_STATE_"),
        wrong(it),
    ]
}

/// What is wrong with a call, and for how long.
fn wrong(it: &v1::OverviewCall) -> String {
    let long = it
        .wrong_since_unix_ms
        .map(|since| format!(", for {}", age(since)));
    match long {
        Some(long) if it.why.is_empty() => format!("less than 1 % is lost{long}"),
        long => it.why.clone() + &long.unwrap_or_default(),
    }
}

/// What the cells of a call say, for the reader.
pub(crate) const SIGNS: &str =
    "+ nothing lost  ~ less than 1 % lost  x more, or broken  ? not known";

/// "+" holds, "~" loses some, "x" is broken, "?" is not known; and how much is lost.
fn sign(segment: &v1::Segment) -> String {
    let lost = segment.lost.filter(|lost| *lost > 0);
    let sign = match segment.verdict() {
        Verdict::Ok if lost.is_some() => "~",
        Verdict::Ok => "+",
        Verdict::Broken => "x",
        Verdict::Unknown | Verdict::Unspecified => "?",
    };
    let share = lost.map(|lost| share(lost, segment.packets));
    format!("{sign}{}", share.unwrap_or_default())
}

/// In percent, with tenths where it is less than ten.
fn share(lost: u64, packets: u64) -> String {
    let packets = u128::from(packets.max(1));
    match (u128::from(lost) * 1_000 + packets / 2) / packets {
        tenths @ ..100 => format!("{}.{}%", tenths / 10, tenths % 10),
        tenths => format!("{}%", (tenths + 5) / 10),
    }
}

/// A router's row.
pub(crate) fn router(it: &v1::OverviewRouter) -> [String; 4] {
    [
        it.router_id.clone(),
        word(it.state().as_str_name(), "ROUTER_STATE_"),
        it.sessions.to_string(),
        it.detail.clone(),
    ]
}

/// The row of somebody who sends EF without a call.
pub(crate) fn ef_claimer(it: &v1::EfClaimer) -> [String; 3] {
    [
        it.address.clone(),
        format!("{} {}", it.router_id, it.interface),
        format!("{} packets", it.packets),
    ]
}

/// A link's row.
pub(crate) fn link(it: &v1::Link) -> [String; 5] {
    let (budget, taken) = match it.budget_bps {
        0 => ("unlimited".to_owned(), String::new()),
        budget => {
            let percent = u128::from(it.admitted_bps) * 100 / u128::from(budget);
            let full = usize::try_from((percent * u128::from(BAR)).div_ceil(100).min(BAR.into()));
            let bar = "█".repeat(full.unwrap_or(0));
            (rate(budget), format!("{percent:>3} % {bar}"))
        }
    };
    [
        format!("{} {}", it.router_id, it.port),
        word(it.direction().as_str_name(), "DIRECTION_"),
        rate(it.admitted_bps),
        budget,
        taken,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_since_when_it_loses() {
        let told = |why: &str, wrong_since_unix_ms| {
            wrong(&v1::OverviewCall {
                why: why.to_owned(),
                wrong_since_unix_ms,
                ..Default::default()
            })
        };
        assert_eq!(told("", None), "");
        assert_eq!(told("router a refuses", None), "router a refuses");
        let days = age(0);
        assert_eq!(
            told("", Some(0)),
            format!("less than 1 % is lost, for {days}")
        );
        let why = "packets are lost before router a";
        assert_eq!(told(why, Some(0)), format!("{why}, for {days}"));
    }

    #[test]
    fn a_cell_says_how_much_is_lost() {
        let cell = |verdict: Verdict, lost, packets| {
            sign(&v1::Segment {
                verdict: verdict.into(),
                lost,
                packets,
                ..Default::default()
            })
        };
        assert_eq!(cell(Verdict::Ok, None, 0), "+");
        assert_eq!(cell(Verdict::Ok, Some(0), 256), "+");
        assert_eq!(cell(Verdict::Ok, Some(1), 256), "~0.4%");
        assert_eq!(cell(Verdict::Broken, Some(3), 256), "x1.2%");
        assert_eq!(cell(Verdict::Broken, Some(30), 256), "x12%");
        assert_eq!(cell(Verdict::Broken, Some(256), 256), "x100%");
        assert_eq!(cell(Verdict::Broken, None, 0), "x");
        assert_eq!(cell(Verdict::Unknown, None, 0), "?");
    }
}
