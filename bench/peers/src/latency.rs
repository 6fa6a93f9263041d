//! How long packets take from the moment when they are due to the moment when they are sent.

use std::{
    path::PathBuf,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use hdrhistogram::Histogram;
use voicelane_bench::flows::IpVersion;
use voicelane_bench::{Machine, report::Files};

use crate::{
    case::{Case, Program, VOICE, WIRE_BYTES},
    command::Folders,
    delays::{Delays, LoadRow, Report, Stalls},
    page::Page,
    percentiles,
    run::{Own, Running, Stop},
    search::{DRAIN, Terms, highest_rate, whole},
};

/// Sessions and other flows.
const FLOWS: u32 = 65_536;
/// By which the highest rate is searched for.
const CARRIED: Terms = Terms {
    loss: 0.0,
    time: Duration::from_millis(300),
    tries: 5,
};
/// Caches fill, and queues.
const SETTLE: Duration = Duration::from_millis(500);
/// How far apart packets are due at the spinning thread.
const GAP_STEP_NS: u64 = 100;
/// Of the highest rate.
const LOADS: [f64; 3] = [0.1, 0.5, 0.9];
/// What is offered when the shaper is at half of it, of the highest rate.
const OVERLOAD: f64 = 0.9;
/// Under overload, the sessions' part of the packets is one of so many: 40 % of what is sent.
const OVERLOAD_SESSION_EVERY: u32 = 5;

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How long to measure at each load.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    #[command(flatten)]
    files: Files,
    /// Draw the picture to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Measures, and prints the table.
pub(crate) fn run(options: &Options, folders: &Folders, stop: &Stop) -> anyhow::Result<()> {
    let (date, machine) = (voicelane_bench::date(), Machine::read());
    let duration = Duration::from_secs(options.seconds);
    let half = Case {
        session_every: 2,
        ..Case::new(Program::Voicelane, IpVersion::V4, VOICE, FLOWS)
    };
    let mut rows = vec![];

    let floor = Case {
        program: Program::Floor,
        ..half
    };
    eprintln!("the highest rate without loss");
    let mut router = Running::start(&half, None, folders, (0, true), stop)?;
    let tsc_hz = router.page.tsc_hz;
    let highest_pps = highest_rate(&mut router, CARRIED)?;
    eprintln!("{:.2} Mpps", highest_pps / 1e6);
    let loads = LOADS.map(|load| {
        let name = format!("{:.0} % of the highest rate", load * 100.0);
        (name, load * highest_pps)
    });
    for load in &loads {
        rows.push(measure(&mut router, &half, load, duration)?);
    }
    let worker_us = end(router)?;

    let overloaded = Case {
        session_every: OVERLOAD_SESSION_EVERY,
        ..half
    };
    let offered_pps = OVERLOAD * highest_pps;
    let wire_bits = f64::from(VOICE + WIRE_BYTES) * 8.0;
    let shaper_bit_s = whole(offered_pps / 2.0 * wire_bits);
    let load = ("twice what the shaper lets out".to_owned(), offered_pps);
    let mut router = Running::start(&overloaded, Some(shaper_bit_s), folders, (0, true), stop)?;
    rows.push(measure(&mut router, &overloaded, &load, duration)?);
    let worker_overloaded_us = end(router)?;

    let mut testpmd = Running::start(&floor, None, folders, (0, true), stop)?;
    for load in &loads {
        rows.push(measure(&mut testpmd, &floor, load, duration)?);
    }
    testpmd.end()?;

    eprintln!("a thread that only reads the clock");
    let spinning_us = spin(duration, stop)?;
    let report = Report {
        rows,
        highest_mpps: highest_pps / 1e6,
        shaper_bit_s,
        frame_bytes: VOICE,
        flows: FLOWS,
        stalls: Stalls {
            worker_us,
            worker_overloaded_us,
            spinning_us,
        },
        machine,
        commit: voicelane_bench::commit(),
        date,
        tsc_hz,
        seconds: options.seconds,
    };
    print!("{report}");
    options.files.write(&report, &report.to_string())?;
    if let Some(file) = &options.svg {
        percentiles::draw(&report, file)?;
    }
    Ok(())
}

/// Ends the router.
///
/// # Returns
///
/// For how long its loop stood still at worst, in microseconds.
fn end(router: Running<'_>) -> anyhow::Result<f64> {
    let output = router.end()?;
    let own: Own = serde_json::from_str(&output)
        .with_context(|| format!("what the router printed: {output:?}"))?;
    Ok(own.longest_stall_us)
}

fn measure(
    router: &mut Running<'_>,
    case: &Case,
    (load, pps): &(String, f64),
    duration: Duration,
) -> anyhow::Result<LoadRow> {
    let program = case.program.name();
    eprintln!("{program}, {load}");
    router.page.set_pps(whole(*pps))?;
    router.pause(SETTLE)?;
    let before = (router.page.counters()?, router.page.delays()?);
    let began = Instant::now();
    router.pause(duration)?;
    let after = (router.page.counters()?, router.page.delays()?);
    let seconds = began.elapsed().as_secs_f64();
    router.page.set_pps(0)?;
    router.pause(DRAIN)?;
    let sent: u64 = after.0.sent.iter().sum::<u64>() - before.0.sent.iter().sum::<u64>();
    let came = after.0.received - before.0.received;
    let delays = |after: &[u64], before: &[u64]| {
        let counts = after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before);
        delays(&router.page, counts)
    };
    Ok(LoadRow {
        program,
        load: load.clone(),
        offered_mpps: pps / 1e6,
        received_mpps: came as f64 / seconds / 1e6,
        sent_mpps: sent as f64 / seconds / 1e6,
        ring_lost_packets: after.0.lost - before.0.lost,
        ef: delays(&after.1.ef, &before.1.ef)?,
        other: delays(&after.1.other, &before.1.other)?,
    })
}

/// Figures from counts by bucket.
fn delays(page: &Page, counts: impl Iterator<Item = u64>) -> anyhow::Result<Delays> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for (bucket, count) in counts.enumerate().filter(|(_, count)| *count > 0) {
        let ticks = Page::highest_ticks(bucket);
        histogram.record_n(whole(ticks as f64 * 1e9 / page.tsc_hz), count)?;
    }
    Ok(Delays::of(&histogram))
}

/// How long a thread on the worker's core, which does nothing but read the clock, would make packets
/// wait that are due at any time.
fn spin(duration: Duration, stop: &Stop) -> anyhow::Result<Delays> {
    let stop = stop.clone();
    let spinning = thread::spawn(move || {
        let mut gaps = Histogram::<u64>::new(3)?;
        if !core_affinity::set_for_current(core_affinity::CoreId { id: 1 }) {
            bail!("cannot run on core 1");
        }
        let started = Instant::now();
        let mut last = started;
        while last - started < duration && !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            // A packet due in the middle of it would have waited for the rest of it.
            gaps.record_correct(u64::try_from((now - last).as_nanos())?, GAP_STEP_NS)?;
            last = now;
        }
        Ok(Delays::of(&gaps))
    });
    match spinning.join() {
        Ok(delays) => delays,
        Err(_) => bail!("the spinning thread ended early"),
    }
}
