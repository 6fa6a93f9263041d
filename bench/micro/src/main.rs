//! Counts the instructions and allocations that a packet takes, stage by stage.

#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use voicelane_bench::{Machine, report::Files};
use voicelane_dataplane::device::HEAP;
use voicelane_micro::{Case, Figures, Rig, profile};

/// Turns the worker by hand over two ports in memory, under valgrind's callgrind, and prints how many
/// instructions a packet takes in each stage, and how many allocations, as a Markdown table.
///
/// Nothing else on the machine changes these figures; another compiler or processor may. The table
/// that is kept:
///
///     voicelane-micro --markdown bench/results/micro.md --json bench/results/micro.json
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Turns of the loop in each case, a burst of 64 packets each.
    #[arg(long, default_value_t = 1_000, value_parser = turns)]
    turns: usize,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Compare with the figures in this file, as --json has written it: ends with status 1 when a case takes
    /// over 2 % more instructions than there.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Turn this case here, without callgrind, and print what became of its packets.
    #[arg(long, value_name = "NAME", conflicts_with = "only")]
    case: Option<Case>,
    #[command(flatten)]
    files: Files,
}

fn turns(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is no number of turns")),
        Ok(turns) => Ok(turns),
    }
}

/// What a case may take more than it did, or less: within this it is the same.
const TOLERANCE: f64 = 0.02;

/// Compares each case with what is kept of it.
fn compare(figures: &Figures, kept: &Path) -> anyhow::Result<()> {
    let text =
        fs::read_to_string(kept).with_context(|| format!("cannot read {}", kept.display()))?;
    let kept: serde_json::Value = serde_json::from_str(&text)?;
    let rows = kept["rows"]
        .as_array()
        .context("the kept figures have no rows")?;
    let mut slower = vec![];
    for row in &figures.rows {
        let before = rows.iter().find(|kept| kept["case"] == row.case.as_str());
        let before = before.and_then(|kept| kept["router_instructions"].as_f64());
        let before =
            before.with_context(|| format!("{} is not among the kept figures", row.case))?;
        let ratio = row.router_instructions / before;
        println!(
            "{}: {:.1} instructions, {before:.1} kept",
            row.case, row.router_instructions
        );
        if ratio > 1.0 + TOLERANCE {
            slower.push(format!(
                "{} takes {:.1} % more",
                row.case,
                (ratio - 1.0) * 100.0
            ));
        } else if ratio < 1.0 - TOLERANCE {
            println!(
                "{} takes less: keep the new figures (scripts/bench micro)",
                row.case
            );
        }
    }
    ensure!(
        slower.is_empty(),
        "more than is kept: {}",
        slower.join(", ")
    );
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(case) = arguments.case {
        let measured = Rig::new(case, HEAP)?.measure(arguments.turns)?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    let cases: Vec<_> = Case::all()
        .filter(|case| case.to_string().contains(&arguments.only))
        .collect();
    ensure!(!cases.is_empty(), "no case is called {:?}", arguments.only);
    let mut rows = vec![];
    for case in cases {
        eprintln!("{case}");
        rows.push(profile(case, arguments.turns)?);
    }
    let figures = Figures {
        date: voicelane_bench::date(),
        commit: voicelane_bench::commit(),
        machine: Machine::read(),
        turns: arguments.turns,
        rows,
    };
    arguments.files.write(&figures, &figures.to_string())?;
    print!("{figures}");
    arguments
        .compare
        .map_or(Ok(()), |kept| compare(&figures, &kept))
}
