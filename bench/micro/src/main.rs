//! Counts the instructions and allocations that a packet takes, stage by stage.

#![forbid(unsafe_code)]

use anyhow::ensure;
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
        machine: Machine::new(),
        turns: arguments.turns,
        rows,
    };
    arguments.files.write(&figures, &figures.to_string())?;
    print!("{figures}");
    Ok(())
}
