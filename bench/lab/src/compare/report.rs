//! What the comparison found, for people and for programs.

use std::fmt;

use serde::Serialize;
use voicelane_bench::{Machine, report};

use super::{CHEAT, Classifier};
use crate::demo::{Check, EF, IDLE, OVERLOAD, Phase};

const HEAVY_LOSS_PERCENT: f64 = 20.0;
/// How much longer than idle's the 99th percentile of delay may be.
const DELAY_MARGIN_MS: f64 = 5.0;

/// What forwards and shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// Two DPDK routers, and a session for each call.
    Voicelane,
    Htb(Classifier),
}

impl Candidate {
    /// All, in the order in which they run.
    pub const ALL: [Self; 3] = [
        Self::Voicelane,
        Self::Htb(Classifier::Dscp),
        Self::Htb(Classifier::Ports),
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Voicelane => "voicelane",
            Self::Htb(Classifier::Dscp) => "htb-dscp",
            Self::Htb(Classifier::Ports) => "htb-ports",
        }
    }

    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Voicelane => "two DPDK routers, a session for each call",
            Self::Htb(Classifier::Dscp) => "kernel and HTB, priority for what is marked EF",
            Self::Htb(Classifier::Ports) => {
                "kernel and HTB, priority for UDP to ports 16384 to 32767"
            }
        }
    }
}

/// Everything that the comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of the core link, on the wire.
    pub rate_bit_s: u64,
    /// The version of IP.
    pub ip: u8,
    pub calls: u16,
    /// In the order in which they ran.
    pub results: Vec<Figures>,
    /// What must hold, and whether it does.
    pub checks: Vec<Check>,
    /// For how long a loop of Voicelane's routers stood still at most.
    pub longest_stall_ms: Option<f64>,
    pub machine: Machine,
    /// The commit that was built.
    pub commit: String,
    /// How these figures were taken.
    pub notes: Vec<String>,
}

/// What one candidate did.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub candidate: &'static str,
    pub what: &'static str,
    pub phases: Vec<Phase>,
    /// How `tc` was told, at each end of the core link.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// Judges the results. One that is missing is a failed check.
pub(super) fn check(results: &[Figures]) -> Vec<Check> {
    let phase = |candidate: Candidate, name: &str| {
        let result = results
            .iter()
            .find(|result| result.candidate == candidate.name())?;
        result.phases.iter().find(|phase| phase.name == name)
    };
    let mut checks = Vec::new();
    for candidate in Candidate::ALL {
        let name = candidate.name();
        let [Some(idle), Some(overload), Some(cheat)] =
            [IDLE, OVERLOAD, CHEAT].map(|name| phase(candidate, name))
        else {
            checks.push(Check::new(
                format!("{name}: all phases ran"),
                false,
                "one is missing",
            ));
            continue;
        };
        match candidate {
            Candidate::Voicelane => {
                for phase in [overload, cheat] {
                    checks.push(Check::new(
                        format!("{name}, {}: no loss at all", phase.name),
                        phase.lost() == 0,
                        format!("{} packets lost", phase.lost()),
                    ));
                    checks.push(soon(name, phase, idle));
                }
                let kept = cheat.bulk_dscp.get(&EF).copied().unwrap_or(0);
                checks.push(Check::new(
                    format!("{name}, cheat: bulk's own mark is taken away"),
                    kept == 0,
                    format!("{kept} packets arrived with EF"),
                ));
            }
            Candidate::Htb(_) => {
                checks.push(soon(name, overload, idle));
                checks.push(Check::new(
                    format!("{name}, cheat: the cheater is believed, and calls lose heavily"),
                    cheat.loss_percent >= HEAVY_LOSS_PERCENT,
                    format!("{:.1} % lost", cheat.loss_percent),
                ));
            }
        }
    }
    checks
}

fn soon(candidate: &str, phase: &Phase, idle: &Phase) -> Check {
    let (p99, quiet) = (phase.delay_ms.p99, idle.delay_ms.p99);
    Check::timed(
        format!("{candidate}, {}: no loss, delay as when idle", phase.name),
        phase.lost() == 0 && p99 - quiet <= DELAY_MARGIN_MS,
        format!(
            "{} lost; p99 {p99:.2} ms against {quiet:.2} ms idle, {DELAY_MARGIN_MS} ms more allowed",
            phase.lost()
        ),
    )
}

impl Report {
    pub fn markdown(&self) -> String {
        let mut page = format!(
            "# {} calls beside bulk: Voicelane and Linux tc HTB\n\n{self}\n\n",
            self.calls
        );
        for result in &self.results {
            page.push_str(&format!("- {}: {}\n", result.candidate, result.what));
        }
        for note in &self.notes {
            page.push_str(&format!("- {note}\n"));
        }
        page.push_str(&format!("- {}\n- commit {}\n", self.machine, self.commit));
        for result in self
            .results
            .iter()
            .filter(|result| !result.commands.is_empty())
        {
            page.push_str(&format!(
                "\n## {}\n\n`tc -batch`, at each end of the core link:\n\n```text\n{}\n```\n",
                result.candidate,
                result.commands.join("\n")
            ));
        }
        page
    }
}

/// One table: a phase of a candidate a row.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = "forwarder | phase | calls lost % | delay p50 ms | p99 ms | max ms | \
            MOS min | MOS mean | bulk Mbit/s";
        let mut table = report::table(header, 2);
        for result in &self.results {
            for phase in &result.phases {
                table.add_row([
                    result.candidate.to_owned(),
                    phase.name.to_owned(),
                    format!("{:.2}", phase.loss_percent),
                    format!("{:.2}", phase.delay_ms.p50),
                    format!("{:.2}", phase.delay_ms.p99),
                    format!("{:.2}", phase.delay_ms.max),
                    format!("{:.2}", phase.mos.min),
                    format!("{:.2}", phase.mos.mean),
                    format!("{:.2}", phase.bulk_mbit_s),
                ]);
            }
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(candidate: Candidate, cheat_lost: u64) -> Figures {
        let phase = |name, lost: u64| {
            let mut phase = Phase {
                name,
                ..Phase::default()
            };
            phase.to_callee.lost = lost;
            #[allow(clippy::cast_precision_loss)]
            {
                phase.loss_percent = lost as f64;
            }
            phase
        };
        Figures {
            candidate: candidate.name(),
            what: candidate.what(),
            phases: vec![phase(IDLE, 0), phase(OVERLOAD, 0), phase(CHEAT, cheat_lost)],
            commands: Vec::new(),
        }
    }

    fn failed(lost: [u64; 3]) -> Vec<String> {
        let results: Vec<_> = Candidate::ALL
            .into_iter()
            .zip(lost)
            .map(|(candidate, lost)| result(candidate, lost))
            .collect();
        let checks = check(&results)
            .into_iter()
            .filter(|check| !check.pass && !check.timed);
        checks.map(|check| check.name).collect()
    }

    #[test]
    fn each_is_judged_by_what_it_must_show() {
        assert_eq!(failed([0, 70, 70]), Vec::<String>::new());
        assert_eq!(failed([1, 70, 70]), ["voicelane, cheat: no loss at all"]);
        assert_eq!(
            failed([0, 70, 0]),
            ["htb-ports, cheat: the cheater is believed, and calls lose heavily"]
        );
        assert_eq!(check(&[]).len(), 3);
    }
}
