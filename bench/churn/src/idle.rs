//! How long packets wait for a worker that sleeps, and what of its core it takes.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use arrayvec::ArrayVec;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{sync::mpsc, time::sleep};
use voicelane_bench::Machine;
use voicelane_dataplane::{
    device::{Allocator, BURST, Device},
    settings::Idle,
    units::{PortIndex, TickRate, Ticks},
};
use voicelane_dpdk::{Mbuf, Mempool, tsc, tsc_hz};

use crate::{
    calls::Call,
    changes::nanoseconds,
    figures::{LONGEST_NS, Quantiles},
    router::Router,
};

/// How long nothing comes before each packet, milliseconds, and how many packets there are.
const SILENCES: [(u64, u64); 3] = [(20, 1_000), (200, 100), (1_500, 20)];
/// Silences are longer by up to this, so that packets come at any time of a sleep.
const SPREAD: Duration = Duration::from_millis(5);
/// How long to look at the worker while nothing comes.
const LOOK: Duration = Duration::from_secs(10);
/// After this it sleeps as long as it ever does.
const SETTLED: Duration = Duration::from_secs(2);

/// Figures of a worker that sleeps.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    machine: Machine,
    /// Percent of a core that the worker takes while nothing comes.
    idle_percent: f64,
    silences: Vec<Silence>,
}

/// Packets that came one at a time.
#[derive(Debug, Serialize)]
struct Silence {
    /// At least so long nothing had come before each.
    milliseconds: u64,
    /// From a packet's arrival until it is handed to the device.
    delay: Quantiles,
    /// Percent of a core that the worker took.
    percent: f64,
}

/// Measures an adaptive worker on this core.
pub(crate) async fn measure(
    core: usize,
    memory: &'static dyn Allocator,
) -> anyhow::Result<Figures> {
    let pool = Mempool::create("idle", 1_023, 2_048, -1)?;
    let silence = Arc::new(AtomicU64::new(0));
    let (delays, mut seen) = mpsc::unbounded_channel();
    let device = Seldom {
        pool,
        silence: Arc::clone(&silence),
        kept: 0,
        due: None,
        arrived: None,
        number: 0,
        delays,
    };
    let router = Router::start(device, core, (64, 64), 64, Idle::Adaptive, memory).await?;
    sleep(SETTLED).await;
    let ((), idle_percent) = share(core, sleep(LOOK)).await?;
    let mut silences = Vec::new();
    for (milliseconds, count) in SILENCES {
        silence.store(milliseconds * tsc_hz() / 1_000, Ordering::Relaxed);
        let mut delay = Histogram::new_with_max(LONGEST_NS, 3)?;
        let packets = async {
            for _ in 0..count {
                let ticks = seen.recv().await.context("the worker has ended")?;
                delay.saturating_record(nanoseconds(ticks));
            }
            anyhow::Ok(())
        };
        let (packets, percent) = share(core, packets).await?;
        packets?;
        silences.push(Silence {
            milliseconds,
            delay: Quantiles::of(&delay),
            percent,
        });
    }
    router.stop();
    Ok(Figures {
        machine: Machine::read(),
        idle_percent,
        silences,
    })
}

/// Does something, and tells how many percent of its core the worker took meanwhile.
async fn share<T>(core: usize, work: impl Future<Output = T>) -> anyhow::Result<(T, f64)> {
    let (before, begin) = (on_core_ns(core)?, tsc());
    let done = work.await;
    let (ran, passed) = (on_core_ns(core)? - before, nanoseconds(tsc() - begin));
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
    let percent = ran as f64 / passed as f64 * 100.0;
    Ok((done, percent))
}

/// Nanoseconds that the worker's thread has run, as the kernel's scheduler counts them.
fn on_core_ns(core: usize) -> anyhow::Result<u64> {
    let name = format!("worker-{core}");
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim_end() == name {
            let counts = fs::read_to_string(task.join("schedstat"))?;
            let ran = counts.split(' ').next().context("an empty schedstat")?;
            return Ok(ran.parse()?);
        }
    }
    anyhow::bail!("there is no thread {name}")
}

/// A device with two ports, to the first of which a packet comes now and then: after the one before
/// has been sent, and a silence.
#[derive(Debug)]
struct Seldom {
    pool: Mempool,
    /// Ticks without packets; 0: none comes.
    silence: Arc<AtomicU64>,
    /// The silence that `due` goes by.
    kept: u64,
    due: Option<u64>,
    /// When the packet came that is being forwarded.
    arrived: Option<u64>,
    number: u64,
    delays: mpsc::UnboundedSender<u64>,
}

impl Seldom {
    /// When the next packet comes.
    fn next(&self) -> u64 {
        let spread = u64::try_from(SPREAD.as_nanos()).unwrap_or(0) * tsc_hz() / 1_000_000_000;
        // Steps of the golden ratio fall evenly into all parts of the spread.
        let place =
            u128::from(self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(spread);
        tsc() + self.kept + u64::try_from(place >> 64).unwrap_or(0)
    }
}

impl Device for Seldom {
    type Buffer = Mbuf;

    fn receive(&mut self, port: PortIndex, into: &mut ArrayVec<Mbuf, BURST>) {
        if port != PortIndex(0) || self.arrived.is_some() {
            return;
        }
        let silence = self.silence.load(Ordering::Relaxed);
        if silence != self.kept {
            self.kept = silence;
            self.due = (silence > 0).then(|| self.next());
        }
        let Some(due) = self.due.filter(|&due| tsc() >= due) else {
            return;
        };
        let Some(mut buffer) = self.pool.allocate() else {
            return;
        };
        if buffer.write(&Call(0).frame()).is_ok() {
            into.push(buffer);
            self.arrived = Some(due);
            self.number += 1;
        }
    }

    fn transmit(&mut self, _: PortIndex, from: &mut ArrayVec<Mbuf, BURST>) {
        let Some(arrived) = self.arrived.filter(|_| !from.is_empty()) else {
            return;
        };
        from.clear();
        // Fails when nobody counts any more.
        let _ = self.delays.send(tsc() - arrived);
        self.arrived = None;
        self.due = Some(self.next());
    }

    fn now(&self) -> Ticks {
        Ticks(tsc())
    }

    fn tick_rate(&self) -> TickRate {
        TickRate::from_hz(tsc_hz())
    }
}

impl Figures {
    /// As text to read.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "A worker with `idle = \"adaptive\"` takes {:.2} % of a core while nothing comes.\n{}.\n\n\
             | packets come one at a time, after | count | to transmission, µs: p50 | p99 | max | of the core |\n\
             |---|---|---|---|---|---|\n",
            self.idle_percent, self.machine
        );
        for silence in &self.silences {
            let delay = &silence.delay;
            text += &format!(
                "| {} ms | {} | {:.0} | {:.0} | {:.0} | {:.2} % |\n",
                silence.milliseconds,
                delay.count,
                delay.p50_us,
                delay.p99_us,
                delay.max_us,
                silence.percent
            );
        }
        text
    }
}
