//! Damaged messages in great number, through what the fuzz targets call (`fuzz/entry`), without coverage:
//! some hundred thousand a second.
//!
//!     checks='profile.release.package.voicelane-call-agent.overflow-checks=true'
//!     cargo run --release --config "$checks" -p voicelane-call-agent --example storm -- \
//!         COUNT SEED [TARGET [NUMBER]]
//!
//! `COUNT` messages for each target, made of `fuzz/corpus/TARGET` by a generator that `SEED` and the
//! message's number begin. A message that panics, or takes over a second of CPU time, ends it with an exit
//! code of 1, and what is printed has its number: `COUNT` 1 with `TARGET` and `NUMBER` gives it again. One
//! that panics is written to a file, too.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::time::{ClockId, clock_gettime};
use rand::{SeedableRng as _, rngs::SmallRng};

#[path = "../../fuzz/entry/hep.rs"]
mod hep;
#[path = "../../fuzz/entry/model.rs"]
mod model;
#[path = "../../fuzz/entry/mutate.rs"]
mod mutate;
#[path = "../../fuzz/entry/ng.rs"]
mod ng;
#[path = "../../fuzz/entry/sdp.rs"]
mod sdp;
#[path = "../../fuzz/entry/sip.rs"]
mod sip;

use mutate::mutate;

type Entry = fn(&[u8]);

const TARGETS: [(&str, Entry); 5] = [
    ("hep", hep::run),
    ("sip", sip::run),
    ("sdp", sdp::run),
    ("ng", ng::run),
    ("model", model::run),
];
/// CPU time that one message may take.
const HANG: Duration = Duration::from_secs(1);

/// Messages that are done, of all targets.
static DONE: AtomicU64 = AtomicU64::new(0);
/// The message that is read: its target, as an index of [`TARGETS`], and its number.
static TARGET: AtomicUsize = AtomicUsize::new(0);
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn main() -> anyhow::Result<()> {
    const USAGE: &str = "storm COUNT SEED [TARGET [NUMBER]]";

    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| -> anyhow::Result<Option<u64>> {
        args.get(at)
            .map(|text| text.parse().with_context(|| USAGE))
            .transpose()
    };
    let (Some(count), Some(seed)) = (number(0)?, number(1)?) else {
        bail!(USAGE);
    };
    let first = number(3)?.unwrap_or(0);
    let wanted = args.get(2);
    let targets = TARGETS
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|of| of == name));
    let mut storms = Vec::new();
    for &(name, entry) in targets {
        storms.push(Storm {
            name,
            entry,
            seed,
            corpus: corpus(name)?,
        });
    }
    ensure!(!storms.is_empty(), USAGE);
    thread::spawn(watch);
    for storm in &storms {
        storm.run(first, count)?;
    }
    Ok(())
}

/// The messages that are made for one of the parsers.
struct Storm {
    name: &'static str,
    entry: Entry,
    seed: u64,
    corpus: Vec<Vec<u8>>,
}

impl Storm {
    fn run(&self, first: u64, count: u64) -> anyhow::Result<()> {
        let target = TARGETS.iter().position(|(name, _)| *name == self.name);
        TARGET.store(target.unwrap_or(0), Ordering::Relaxed);
        let began = Instant::now();
        let cpu_began = cpu_time();
        let mut input = Vec::new();
        let mut bytes = 0;
        for number in first..first + count {
            let mut random = SmallRng::seed_from_u64(self.seed.rotate_left(32) ^ number);
            mutate(&mut random, &self.corpus, &mut input);
            bytes += input.len() as u64;
            NUMBER.store(number, Ordering::Relaxed);
            let run = AssertUnwindSafe(|| (self.entry)(&input));
            if catch_unwind(run).is_err() {
                let file = format!("storm-{}-{}-{number}", self.name, self.seed);
                fs::write(&file, &input)?;
                bail!(
                    "{}: message {number} of seed {} panicked; it is in {file}",
                    self.name,
                    self.seed
                );
            }
            DONE.fetch_add(1, Ordering::Relaxed);
        }
        let cpu = cpu_time().saturating_sub(cpu_began);
        println!(
            "{}: {count} messages from number {first} of seed {}, {} bytes on average, {} ns of CPU each, {} s: no \
             panic, no hang",
            self.name,
            self.seed,
            bytes / count.max(1),
            cpu.as_nanos() / u128::from(count.max(1)),
            began.elapsed().as_secs(),
        );
        Ok(())
    }
}

fn corpus(target: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let listed = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<_> = listed
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    paths.sort();
    paths.iter().map(|path| Ok(fs::read(path)?)).collect()
}

/// Ends the process when one message takes too long. On CPU time: others may have the core.
fn watch() {
    let (mut done, mut since) = (0, cpu_time());
    loop {
        thread::sleep(HANG / 4);
        let (now_done, now) = (DONE.load(Ordering::Relaxed), cpu_time());
        if now_done != done {
            (done, since) = (now_done, now);
        } else if now.saturating_sub(since) > HANG {
            let target = TARGETS.get(TARGET.load(Ordering::Relaxed));
            eprintln!(
                "{}: message {} of this seed takes over {HANG:?}",
                target.map_or("", |(name, _)| name),
                NUMBER.load(Ordering::Relaxed)
            );
            process::exit(1);
        }
    }
}

/// The CPU time that this process has used.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
