//! What was found, for people and for programs.

use std::fmt;

use serde::Serialize;
use voicelane_bench::{Machine, report::table};

use super::sessions::Watch;
use crate::demo::{Check, DelayMs};

/// Whether those who watched can say that what they did not see was not there.
pub(super) fn saw_all(missed_frames: u64, watch: &Watch) -> Check {
    let fault = watch.fault();
    Check::new(
        "the testbed saw all",
        missed_frames == 0 && fault.is_none(),
        format!(
            "tcpdump lost {missed_frames} frames; {}",
            fault.as_deref().unwrap_or("no fault")
        ),
    )
}

/// What one way of calling came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// `hep`, `hep-lossy`, `agent-killed`, `relay`, `gate`.
    pub case: &'static str,
    /// Calls that were tried.
    pub calls: usize,
    /// Of these, those that were answered.
    pub answered: usize,
    /// Those that the SIP server refused with 503.
    pub refused: usize,
    /// Answered calls that had a session.
    pub with_session: usize,
    /// Sessions at once, at most.
    pub sessions_at_once: usize,
    /// From the callee's 200 at the SIP server until all routers have the session.
    pub setup_ms: DelayMs,
    /// From the BYE at the SIP server until no router has the session.
    pub removal_ms: DelayMs,
    /// Sessions that are left at the end.
    pub left: usize,
    /// Calls whose media was recorded.
    pub media_calls: u64,
    /// Media packets sent while their call had its session.
    pub media_sent: u64,
    /// Of these, those that did not arrive.
    pub media_lost: u64,
    /// Of these, those that arrived without EF.
    pub media_unmarked: u64,
    /// Speech quality of the worst call's worse direction, if any was measured.
    pub mos_min: Option<f64>,
    /// For how long a router's loop stood still at most.
    pub longest_stall_ms: Option<f64>,
    /// What must hold, and whether it does.
    pub checks: Vec<Check>,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order in which they ran.
    pub cases: Vec<Figures>,
    pub machine: Machine,
    /// The commit that was built.
    pub commit: String,
    /// How these figures were taken.
    pub notes: Vec<String>,
}

impl Report {
    /// Of cases that have run.
    pub fn new(cases: Vec<Figures>) -> Self {
        let notes = [
            "SIPp calls through Kamailio; signalling takes the management network, media the two routers; \
             20 Mbit/s of bulk traffic share the core link of 10 Mbit/s with it",
            "set-up is the time from the callee's 200 OK at the SIP server (tcpdump) to the event that all \
             routers have the session (WatchSessions); removal that from the BYE to the event that it is \
             deleted",
            "media counts from the session's event to the BYE",
        ];
        Self {
            cases,
            machine: Machine::read(),
            commit: voicelane_bench::commit(),
            notes: notes.map(str::to_owned).to_vec(),
        }
    }

    /// All checks, with their cases' names.
    pub fn checks(&self) -> Vec<Check> {
        let of_case = |figures: &Figures| {
            let case = figures.case;
            figures.checks.clone().into_iter().map(move |check| Check {
                name: format!("{case}: {}", check.name),
                ..check
            })
        };
        self.cases.iter().flat_map(of_case).collect()
    }

    /// The page for bench/results.
    pub fn markdown(&self) -> String {
        let notes: String = self
            .notes
            .iter()
            .map(|note| format!("- {note}\n"))
            .collect();
        format!(
            "# Calls by SIP alone\n\n{self}\n\n{notes}- {}, commit {}\n",
            self.machine, self.commit
        )
    }
}

/// One table: a case a row.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = "case | calls | answered | refused | with session | at once | \
            set-up p50 ms | p99 ms | max ms | removal p99 ms | left | media sent | lost | \
            not EF | MOS min";
        let mut table = table(header, 1);
        for case in &self.cases {
            table.add_row([
                case.case.to_owned(),
                case.calls.to_string(),
                case.answered.to_string(),
                case.refused.to_string(),
                case.with_session.to_string(),
                case.sessions_at_once.to_string(),
                format!("{:.1}", case.setup_ms.p50),
                format!("{:.1}", case.setup_ms.p99),
                format!("{:.1}", case.setup_ms.max),
                format!("{:.1}", case.removal_ms.p99),
                case.left.to_string(),
                case.media_sent.to_string(),
                case.media_lost.to_string(),
                case.media_unmarked.to_string(),
                case.mos_min
                    .map_or(String::new(), |mos| format!("{mos:.2}")),
            ]);
        }
        table.fmt(f)
    }
}
