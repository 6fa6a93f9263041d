//! What each hold of the lock costs its thread, beside a control: a thread that does nothing but
//! arithmetic, whose steps the kernel and the hypervisor interrupt as they interrupt holds.

use std::{
    cell::Cell,
    hint::black_box,
    panic::Location,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use hdrhistogram::Histogram;
use nix::{
    sys::resource::{UsageWho, getrusage},
    time::{ClockId, clock_gettime},
};

/// Nobody may hold the lock for longer, ns.
const LIMIT: u64 = 1_000_000;
/// Rounds of arithmetic between two readings of the control: some 20 us.
const ROUNDS: u64 = 20_000;

/// What a thread has used.
#[derive(Clone, Copy)]
struct Used {
    wall_ns: u64,
    cpu_ns: u64,
    /// Page faults that needed no I/O.
    faults: u64,
    /// How often another thread was given the core.
    preemptions: u64,
}

impl Used {
    fn now() -> Self {
        let clock = |id| {
            let now = clock_gettime(id).map_or((0, 0), |it| (it.tv_sec(), it.tv_nsec()));
            let [seconds, nanos] = [now.0, now.1].map(|it| u64::try_from(it).unwrap_or(0));
            seconds * 1_000_000_000 + nanos
        };
        let usage = getrusage(UsageWho::RUSAGE_THREAD).ok();
        let count = |of: fn(&nix::sys::resource::Usage) -> i64| {
            let count = usage.as_ref().map_or(0, of);
            u64::try_from(count).unwrap_or(0)
        };
        Self {
            wall_ns: clock(ClockId::CLOCK_MONOTONIC),
            cpu_ns: clock(ClockId::CLOCK_THREAD_CPUTIME_ID),
            faults: count(|it| it.minor_page_faults()),
            preemptions: count(|it| it.involuntary_context_switches()),
        }
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            wall_ns: self.wall_ns.saturating_sub(earlier.wall_ns),
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            faults: self.faults.saturating_sub(earlier.faults),
            preemptions: self.preemptions.saturating_sub(earlier.preemptions),
        }
    }
}

/// Where the lock was taken.
type Place = &'static Location<'static>;

/// The steps of one kind that have ended: holds of the lock, or rounds of the control.
pub(super) struct Steps {
    wall: Histogram<u64>,
    cpu: Histogram<u64>,
    cpu_ns: u64,
    /// Those that took more than [`LIMIT`] of CPU time.
    long: Vec<(Used, Option<Place>)>,
}

impl Steps {
    fn new() -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 3);
        Ok(Self {
            wall: histogram()?,
            cpu: histogram()?,
            cpu_ns: 0,
            long: Vec::new(),
        })
    }

    fn add(&mut self, used: Used, place: Option<Place>) {
        self.wall.saturating_record(used.wall_ns);
        self.cpu.saturating_record(used.cpu_ns);
        self.cpu_ns += used.cpu_ns;
        if used.cpu_ns > LIMIT {
            self.long.push((used, place));
        }
    }
}

static HOLDS: Mutex<Option<Steps>> = Mutex::new(None);

thread_local! {
    static TAKEN: Cell<Option<(Used, Place)>> = const { Cell::new(None) };
}

/// The lock has been taken by this thread.
pub(super) fn taken(place: Place) {
    TAKEN.set(Some((Used::now(), place)));
}

/// This thread is about to give it back.
pub(super) fn given() {
    if let Some((taken, place)) = TAKEN.take() {
        let used = Used::now().since(taken);
        let mut holds = HOLDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holds) = &mut *holds {
            holds.add(used, Some(place));
        }
    }
}

/// A part of the measurement: all holds in it, and the control beside them.
pub(super) struct Row {
    what: &'static str,
    holds: Steps,
    control: Steps,
}

/// The parts in their order, and the control's thread, which ends with it.
pub(super) struct Meter {
    control: Arc<Mutex<Steps>>,
    ends: Arc<AtomicBool>,
    pub(super) rows: Vec<Row>,
}

impl Meter {
    pub(super) fn start() -> anyhow::Result<Self> {
        let control = Arc::new(Mutex::new(Steps::new()?));
        let ends = Arc::new(AtomicBool::new(false));
        *HOLDS.lock().unwrap_or_else(PoisonError::into_inner) = Some(Steps::new()?);
        let (steps, end) = (control.clone(), ends.clone());
        thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let began = Used::now();
                let sum = (0..ROUNDS).fold(began.wall_ns, |sum, it| black_box(sum ^ it));
                black_box(sum);
                let used = Used::now().since(began);
                steps
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(used, None);
            }
        });
        Ok(Self {
            control,
            ends,
            rows: Vec::new(),
        })
    }

    /// Ends a part.
    pub(super) fn row(&mut self, what: &'static str) -> anyhow::Result<()> {
        let mut holds = HOLDS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holds) = holds.replace(Steps::new()?) {
            let control = std::mem::replace(&mut *control, Steps::new()?);
            self.rows.push(Row {
                what,
                holds,
                control,
            });
        }
        Ok(())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

#[allow(clippy::cast_precision_loss, reason = "to be printed")]
pub(super) fn print(rows: &[Row]) {
    let micros = |nanos: u64| nanos as f64 / 1_000.0;
    let seconds = |steps: &Steps| steps.cpu_ns as f64 / 1e9;
    let text = |of: &Histogram<u64>| {
        let at = |quantile| micros(of.value_at_quantile(quantile));
        let max = micros(of.max());
        format!("{:.1} / {:.1} / {max:.1}", at(0.5), at(0.99))
    };
    println!(
        "| while | holds | wall: p50 / p99 / max | CPU: p50 / p99 / max | over 1 ms of CPU | \
         in CPU seconds | control: over 1 ms of CPU | in CPU seconds | its max |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for Row {
        what,
        holds,
        control,
    } in rows
    {
        println!(
            "| {what} | {} | {} | {} | {} | {:.2} | {} | {:.2} | {:.1} |",
            holds.cpu.len(),
            text(&holds.wall),
            text(&holds.cpu),
            holds.long.len(),
            seconds(holds),
            control.long.len(),
            seconds(control),
            micros(control.cpu.max()),
        );
    }
    println!("\nHolds over 1 ms of CPU, us:");
    for Row { what, holds, .. } in rows {
        for (long, place) in &holds.long {
            println!(
                "- {what}, {}: wall {:.0}, CPU {:.0}, {} page faults, {} preemptions",
                place.map_or_else(String::new, |it| format!("{}:{}", it.file(), it.line())),
                micros(long.wall_ns),
                micros(long.cpu_ns),
                long.faults,
                long.preemptions
            );
        }
    }
}
