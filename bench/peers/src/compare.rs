//! All cases in turns, over several rounds.

use std::{collections::BTreeMap, path::PathBuf, sync::atomic::Ordering, time::Instant};

use anyhow::{Context, bail};
use clap::Args;
use voicelane_bench::{Machine, report::Files};

use crate::{
    case::{Case, WIRE_BYTES},
    chart,
    command::Folders,
    figures::{Report, Samples, rows},
    run::{self, Sample, Stop},
    search::whole,
};

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Fewer cases: a couple of minutes.
    #[arg(long)]
    quick: bool,
    /// How often each case runs, in turns with the others.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: Option<u8>,
    /// Only cases whose description contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Run each peer once more, compiled from DPDK's sources as Voicelane is (`scripts/bench --builds`).
    #[arg(long)]
    builds: bool,
    #[command(flatten)]
    files: Files,
    /// Draw the picture to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Measures, and prints the table.
pub(crate) fn run(options: &Options, folders: &Folders, stop: &Stop) -> anyhow::Result<()> {
    let mut cases = if options.quick {
        Case::few()
    } else {
        Case::all()
    };
    if options.builds {
        cases = Case::with_builds(cases);
    }
    let cases = Case::choose(cases, &options.only)?;
    let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 5 });
    let date = voicelane_bench::date();
    let machine = Machine::read();
    let mut samples: BTreeMap<Case, Samples> = BTreeMap::new();
    let mut failures = vec![];
    for round in 1..=rounds {
        let started = Instant::now();
        for group in Case::groups(&cases) {
            eprintln!("round {round} of {rounds}: {} side by side", group.len());
            let outcomes = measure(&samples, &group, folders, stop);
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            for (case, outcome) in group.into_iter().zip(outcomes) {
                match outcome {
                    Ok(sample) => {
                        eprintln!(
                            "round {round} of {rounds}: {case}: {:.1} cycles a packet, {:.2} Mpps",
                            sample.cycles_per_packet, sample.mpps
                        );
                        samples.entry(case).or_default().insert(round, sample);
                    }
                    Err(error) => {
                        eprintln!("round {round} of {rounds}: {case}: FAILED: {error:#}");
                        failures.push(format!("{case}, round {round}: {error:#}"));
                    }
                }
            }
        }
        eprintln!("round {round} took {} s", started.elapsed().as_secs());
    }
    let tsc_hz = samples
        .values()
        .flat_map(Samples::values)
        .map(|sample| sample.tsc_hz)
        .next();
    let in_order: Vec<_> = cases
        .iter()
        .filter_map(|case| samples.remove_entry(case))
        .collect();
    let report = Report {
        rows: rows(&in_order),
        machine,
        commit: voicelane_bench::commit(),
        date,
        tsc_hz: tsc_hz.context("nothing could be measured")?,
        rounds: usize::from(rounds),
        flags: flags(),
        notes: notes(),
        failures,
    };
    print!("{report}");
    options.files.write(&report, &report.to_string())?;
    if let Some(file) = &options.svg {
        chart::draw(&report, file)?;
    }
    if !report.failures.is_empty() {
        bail!("{} runs failed", report.failures.len());
    }
    Ok(())
}

/// Measures cases side by side. A saturated one gets a shaper at half of what it took the last time; the
/// first time, at half of what it takes when it is at half of what the case takes without a shaper.
fn measure(
    samples: &BTreeMap<Case, Samples>,
    group: &[Case],
    folders: &Folders,
    stop: &Stop,
) -> Vec<anyhow::Result<Sample>> {
    let took = |case: Case, rate| -> anyhow::Result<f64> {
        let mut outcomes = run::measure(&[(case, rate)], folders, stop);
        Ok(outcomes.remove(0)?.mpps)
    };
    let rate = |case: &Case| -> anyhow::Result<Option<u64>> {
        if !case.saturated {
            return Ok(None);
        }
        let last = samples
            .get(case)
            .and_then(|samples| samples.values().last());
        let mpps = match last {
            Some(sample) => sample.mpps,
            None => {
                let without = took(case.unsaturated(), None)?;
                took(*case, Some(half_of(case, without)))?
            }
        };
        Ok(Some(half_of(case, mpps)))
    };
    let rates: Vec<_> = group.iter().map(rate).collect();
    let rated = group.iter().zip(&rates);
    let can: Vec<_> = rated
        .filter_map(|(case, rate)| Some((*case, *rate.as_ref().ok()?)))
        .collect();
    let mut outcomes = run::measure(&can, folders, stop).into_iter();
    rates
        .into_iter()
        .map(|rate| {
            rate?;
            outcomes.next().context("it was not run")?
        })
        .collect()
}

/// The wire's rate for half of so many million packets a second, in bit/s.
fn half_of(case: &Case, mpps: f64) -> u64 {
    let wire_bits = f64::from(case.frame_bytes + WIRE_BYTES) * 8.0;
    whole(mpps * 1e6 * wire_bits / 2.0)
}

fn flags() -> BTreeMap<&'static str, String> {
    // As this program is, which the same cargo has compiled.
    let cpu = if cfg!(target_feature = "avx2") {
        "x86-64-v3"
    } else {
        "an older CPU"
    };
    let profile = "cargo's release profile, fat LTO, one codegen unit";
    BTreeMap::from([
        ("voicelane", format!("{profile}, for {cpu}")),
        ("testpmd", "as Debian's package brings it".to_owned()),
        (
            "l3fwd, qos_sched",
            format!(
                "cc -O3 {}, by the examples' own makefiles",
                voicelane_bench::dpdk_flags()
            ),
        ),
        ("source and sink", "cc -O3 -march=native".to_owned()),
    ])
}

fn notes() -> Vec<String> {
    [
        "Cycles are TSC ticks of a core that polls, for each packet received, source and sink \
         included. Time in which the thread waited for its core is taken out of both figures.",
        "The source gives as many packets as it is asked for. Saturated: the shaper's rate is half of \
         what the case took the last time; the share that was sent says how near to half that came.",
        "IPv6's smallest frame is 62 bytes: Ethernet, IPv6 and UDP without a payload.",
        "All that a router does: the Internet's table (1,000,000 routes; IPv6's 250,000) beside the flows' \
         512 networks, over 64 next hops; half of the packets in sessions of all 13 classes, each measured, the others by one \
         of 20 rules into the same; a VLAN on both ports; a maximum for each class, so that every packet is \
         queued. Where \"bypass\" stands, packets find all queues empty and go past them.",
        "Measured: the RTP of each session, or of one in so many, as routers do by default; for measuring: \
         cycles over those of the same case without.",
        "Half of the packets without a session: flows with an odd number have none, and are not marked.",
        "A table of 4 M entries: as many as l3fwd's exact match has, whatever it holds.",
        "qos_sched: the core that schedules and sends, for each packet sent; another core receives. \
         Frames have two VLAN tags more, of 4,096 pipes or of one, nothing is limited. Voicelane beside it is \
         for each packet sent, too.",
        "qos_sched's and l3fwd's bursts are of 32 packets, testpmd's, too; Voicelane's of 64; where other \
         bursts are named, no more packets come at once.",
    ]
    .map(str::to_owned)
    .into()
}
