//! Rates without loss (RFC 2544 section 26.1), of Voicelane and its peers alike.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use voicelane_bench::{
    Machine,
    flows::IpVersion,
    report::{self, Files},
};

use crate::{
    case::{Case, Program, VOICE},
    command::Folders,
    figures::Spread,
    run::{Running, Stop},
    search::{Terms, highest_rate},
};

const FLOWS: [u32; 3] = [1_000, 65_536, 1_000_000];
/// Lost packets of those that were due, at most.
const LOSSES: [f64; 2] = [0.0, 1e-6];

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How often each rate is searched for.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    trials: u8,
    /// How long packets come at each rate, milliseconds. RFC 2544 section 24 asks for 60,000 in the end.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..))]
    milliseconds: u64,
    /// Tries at each rate: it is carried if one of them is. RFC 2544 has 1.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    tries: u8,
    /// Only cases whose description contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    #[command(flatten)]
    files: Files,
}

/// What a program carries.
#[derive(Clone, Debug, Serialize)]
struct Row {
    program: &'static str,
    /// How it differs from what the program is usually run with.
    variations: Vec<String>,
    flows: u32,
    frame_bytes: u16,
    /// Lost packets of those that were due, at most.
    loss: f64,
    /// Millions of packets a second, over the trials.
    mpps: Spread,
}

#[derive(Debug, Serialize)]
struct Report {
    rows: Vec<Row>,
    trials: u8,
    milliseconds: u64,
    tries: u8,
    machine: Machine,
    commit: String,
    /// When it began, UTC.
    date: String,
    /// Searches that gave no rate, and why.
    failures: Vec<String>,
}

/// Searches, and prints the table.
pub(crate) fn run(options: &Options, folders: &Folders, stop: &Stop) -> anyhow::Result<()> {
    let (date, machine) = (voicelane_bench::date(), Machine::read());
    let cases = Case::choose(cases(), &options.only)?;
    let mut found: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    let mut failures = vec![];
    // In turns: what else the machine does meets all alike.
    for trial in 1..=options.trials {
        for (place, case) in cases.iter().enumerate() {
            match search(options, case, folders, stop) {
                Ok(rates) => {
                    for (loss, pps) in rates.into_iter().enumerate() {
                        let mpps = pps / 1e6;
                        let of = LOSSES[loss];
                        eprintln!("trial {trial}: {case}: {mpps:.2} Mpps, loss {of:e}");
                        found.entry((place, loss)).or_default().push(mpps);
                    }
                }
                Err(error) if stop.load(std::sync::atomic::Ordering::Relaxed) => return Err(error),
                Err(error) => failures.push(format!("{case}, trial {trial}: {error:#}")),
            }
        }
    }
    let row = |((place, loss), mpps): ((usize, usize), Vec<f64>)| {
        let case = &cases[place];
        Some(Row {
            program: case.program.name(),
            variations: case.variations(),
            flows: case.flows,
            frame_bytes: case.frame_bytes,
            loss: LOSSES[loss],
            mpps: Spread::of(mpps)?,
        })
    };
    let report = Report {
        rows: found.into_iter().filter_map(row).collect(),
        trials: options.trials,
        milliseconds: options.milliseconds,
        tries: options.tries,
        machine,
        commit: voicelane_bench::commit(),
        date,
        failures,
    };
    print!("{report}");
    options.files.write(&report, &report.to_string())?;
    if !report.failures.is_empty() {
        bail!("{} searches failed", report.failures.len());
    }
    Ok(())
}

/// Voicelane with all that a router does, and as in the first rows of the other table, beside its peers.
fn cases() -> Vec<Case> {
    let of = |program| move |flows| Case::new(program, IpVersion::V4, VOICE, flows);
    let mut cases: Vec<_> = FLOWS.map(|flows| Case::full(VOICE, flows)).into();
    cases.extend(FLOWS.map(of(Program::Voicelane)));
    cases.extend(FLOWS.map(of(Program::ExactMatch)));
    cases.extend(FLOWS.map(of(Program::LongestPrefix)));
    cases.extend(FLOWS.map(of(Program::Floor)));
    cases
}

/// The highest rate at each of the losses.
fn search(
    options: &Options,
    case: &Case,
    folders: &Folders,
    stop: &Stop,
) -> anyhow::Result<Vec<f64>> {
    let mut running = Running::start(case, None, folders, (0, true), stop)?;
    let rates = LOSSES.map(|loss| {
        let terms = Terms {
            loss,
            time: Duration::from_millis(options.milliseconds),
            tries: options.tries,
        };
        highest_rate(&mut running, terms).context("no rate is carried")
    });
    running.end()?;
    rates.into_iter().collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Rates without loss\n\n\
             One core, paced alike: packet k comes when it is due, into a receive ring of 1,024. Bisection \
             (RFC 2544\nsection 26.1), {} trials of {} ms at each rate, carried if one of {} tries loses no \
             more; minimum / median /\nmaximum of the trials.\n\n{}; commit {}; {}\n",
            self.trials, self.milliseconds, self.tries, self.machine, self.commit, self.date
        )?;
        let header = "program | load | frame | flows | loss at most | Mpps";
        let mut table = report::table(header, 0);
        for row in &self.rows {
            let Spread { min, median, max } = row.mpps;
            table.add_row([
                row.program.to_owned(),
                row.variations.join(", "),
                row.frame_bytes.to_string(),
                row.flows.to_string(),
                format!("{:e}", row.loss),
                format!("{min:.2} / {median:.2} / {max:.2}"),
            ]);
        }
        writeln!(f, "{table}\n")?;
        for failure in &self.failures {
            writeln!(f, "- FAILED: {failure}")?;
        }
        Ok(())
    }
}
