//! Runs programs under the source and sink, by turns, and watches what they do.

use std::{
    array,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;

use crate::{
    case::{Case, Program},
    command::Folders,
    page::{Counters, Page},
};

/// From the start to the first packets: rules, tables and sessions are installed.
const START: Duration = Duration::from_secs(60);
/// How often each program has its turn.
const TURNS: usize = 15;
/// Caches and branches learn.
const WARM_UP: Duration = Duration::from_millis(30);
const WINDOW: Duration = Duration::from_millis(70);
/// A window in which the thread had its core for less than this is left out, if half are left.
const ON_CORE: f64 = 0.95;
/// From SIGINT to the end.
const END: Duration = Duration::from_secs(20);

/// Set by a signal that ends the run.
pub(crate) type Stop = Arc<AtomicBool>;

/// What one run of one case showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Packets received in a second in which the thread has its core, millions.
    pub(crate) mpps: f64,
    /// TSC ticks for each packet received.
    pub(crate) cycles_per_packet: f64,
    /// Packets sent, of those received.
    pub(crate) sent_share: f64,
    /// Packets that found a session or a rule, of those received.
    pub(crate) hit_share: Option<f64>,
    /// The clock of the cycles.
    pub(crate) tsc_hz: f64,
}

impl Sample {
    /// TSC ticks for each packet sent.
    pub(crate) fn cycles_per_sent(&self) -> f64 {
        self.cycles_per_packet / self.sent_share
    }
}

/// Runs cases side by side: each has its turn a few times a second, while the others stand still, so
/// that what else the machine does meets all alike. `rate_bit_s` is as in [`Case::command`].
///
/// # Returns
///
/// What each showed.
pub(crate) fn measure(
    cases: &[(Case, Option<u64>)],
    folders: &Folders,
    stop: &Stop,
) -> Vec<anyhow::Result<Sample>> {
    let mut members: Vec<_> = (0..)
        .zip(cases)
        .map(|(slot, &(case, rate_bit_s))| Member::start(case, rate_bit_s, folders, slot, stop))
        .collect();
    for _ in 0..TURNS {
        for member in &mut members {
            let failure = member.as_mut().ok().and_then(|going| going.turn().err());
            if let Some(error) = failure {
                *member = Err(error);
            }
        }
    }
    members.into_iter().map(|member| member?.sample()).collect()
}

/// One of the programs that have turns.
struct Member<'a> {
    case: Case,
    running: Running<'a>,
    windows: Vec<Window>,
}

impl<'a> Member<'a> {
    fn start(
        case: Case,
        rate_bit_s: Option<u64>,
        folders: &Folders,
        slot: usize,
        stop: &'a Stop,
    ) -> anyhow::Result<Self> {
        let running = Running::start(&case, rate_bit_s, folders, (slot, false), stop)?;
        running.signal(Signal::SIGSTOP)?;
        Ok(Self {
            case,
            running,
            windows: vec![],
        })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        self.running.signal(Signal::SIGCONT)?;
        self.running.pause(WARM_UP)?;
        self.windows.push(self.running.window(WINDOW)?);
        self.running.signal(Signal::SIGSTOP)
    }

    fn sample(self) -> anyhow::Result<Sample> {
        let (program, windows) = (self.case.program, self.windows);
        let tsc_hz = self.running.page.tsc_hz;
        let output = self.running.end()?;

        let mut kept: Vec<_> = windows.iter().filter(|w| w.on_core >= ON_CORE).collect();
        if kept.len() * 2 < windows.len() {
            kept = windows.iter().collect();
        }
        // qos_sched's other core takes the packets; what its worker takes, it sends.
        let packets = |window: &Window| match program {
            Program::QosSched => window.sent[1],
            _ => window.received,
        };
        let on_core_seconds = |window: &Window| window.seconds * window.on_core;
        let typical = |figure: &dyn Fn(&Window) -> f64| {
            interquartile_mean(kept.iter().map(|window| figure(window)).collect())
        };
        if kept.iter().any(|window| packets(window) == 0.0) {
            bail!("it stopped to forward");
        }
        let hit_share = match program {
            Program::Floor | Program::QosSched => None,
            // l3fwd sends back what it has no rule for.
            Program::LongestPrefix | Program::ExactMatch => Some(typical(&|window| {
                window.sent[1] / window.sent.iter().sum::<f64>()
            })),
            Program::Voicelane => Some(
                serde_json::from_str::<Own>(output.trim())
                    .with_context(|| format!("what it printed: {output:?}"))?
                    .hit_share,
            ),
        };
        let cycles_per_packet =
            typical(&|window| tsc_hz * on_core_seconds(window) / packets(window));
        Ok(Sample {
            mpps: tsc_hz / cycles_per_packet / 1e6,
            cycles_per_packet,
            sent_share: typical(&|window| window.sent.iter().sum::<f64>() / packets(window)),
            hit_share,
            tsc_hz,
        })
    }
}

/// The mean of the middle half: no single window counts, and where the machine is now slow, now fast,
/// programs that ran by turns are compared by the same mix.
fn interquartile_mean(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let quarter = values.len() / 4;
    let middle = &values[quarter..values.len() - quarter];
    middle.iter().sum::<f64>() / middle.len() as f64
}

/// What `voicelane-throughput` prints of itself.
#[derive(Debug, Deserialize)]
pub(crate) struct Own {
    pub(crate) hit_share: f64,
    pub(crate) longest_stall_us: f64,
}

/// What happened in a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) seconds: f64,
    /// The share of time in which the thread did not wait for its core.
    pub(crate) on_core: f64,
    /// Packets received in the window.
    pub(crate) received: f64,
    /// Packets sent in the window, by port.
    pub(crate) sent: [f64; 4],
}

/// A program under the source and sink.
pub(crate) struct Running<'a> {
    process: Process,
    pub(crate) page: Page,
    log: PathBuf,
    output: PathBuf,
    thread: PathBuf,
    stop: &'a Stop,
}

impl<'a> Running<'a> {
    /// Starts it, and waits until it asks for packets and is ready.
    ///
    /// `slot`: its number among those that run beside. `paced`: packets come when they are due, not when
    /// they are asked for.
    pub(crate) fn start(
        case: &Case,
        rate_bit_s: Option<u64>,
        folders: &Folders,
        (slot, paced): (usize, bool),
        stop: &'a Stop,
    ) -> anyhow::Result<Self> {
        let capture = case.capture().file(&folders.work)?;
        let command = case.command(folders, rate_bit_s)?;
        let process = std::process::id();
        let page_file = PathBuf::from(format!("/dev/shm/voicelane-peers.{process}.{slot}"));
        let log = folders.work.join(format!("log.{slot}"));
        let output = folders.work.join(format!("output.{slot}"));
        let child = Command::new(&command.program)
            .args(&command.arguments)
            .env("LD_PRELOAD", folders.work.join("replay_shim.so"))
            .env("REPLAY_PCAP", capture)
            .env("REPLAY_STATS", &page_file)
            .envs(paced.then_some(("REPLAY_PACED", "1")))
            .envs(case.environment(folders))
            .stdin(Stdio::piped())
            .stdout(File::create(&output)?)
            .stderr(File::create(&log)?)
            // Ctrl-C is for this program, which ends the other.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.program.display()))?;
        let mut process = Process { child, page_file };
        let deadline = Instant::now() + START;
        loop {
            if stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let tail = || tail(&log).or_else(|| tail(&output)).unwrap_or_default();
            if let Some(status) = process.child.try_wait()? {
                bail!("it ended with {status}: {}", tail());
            }
            if Instant::now() > deadline {
                bail!("no packet in {START:?}: {}", tail());
            }
            if let Some(page) = Page::open(&process.page_file)?
                && page.counters()?.polls > 1_000
                && command.says_ready(&log)
                && let Some(thread) = forwarding_thread(process.child.id())?
            {
                return Ok(Self {
                    process,
                    page,
                    log,
                    output,
                    thread,
                    stop,
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(
            Pid::from_raw(self.process.child.id().cast_signed()),
            signal,
        )?)
    }

    /// Waits; fails when it ends meanwhile, or a signal came.
    pub(crate) fn pause(&mut self, duration: Duration) -> anyhow::Result<()> {
        thread::sleep(duration);
        if self.stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if let Some(status) = self.process.child.try_wait()? {
            bail!(
                "it ended with {status}: {}",
                tail(&self.log).unwrap_or_default()
            );
        }
        Ok(())
    }

    /// Watches for a while.
    pub(crate) fn window(&mut self, duration: Duration) -> anyhow::Result<Window> {
        let before = self.moment()?;
        self.pause(duration)?;
        let after = self.moment()?;
        let seconds = (after.0 - before.0).as_secs_f64();
        let (from, to) = (before.1, after.1);
        Ok(Window {
            seconds,
            on_core: 1.0 - (after.2 - before.2).as_secs_f64() / seconds,
            received: (to.received - from.received) as f64,
            sent: array::from_fn(|port| (to.sent[port] - from.sent[port]) as f64),
        })
    }

    fn moment(&self) -> anyhow::Result<(Instant, Counters, Duration)> {
        let waited = waited(&self.thread)?;
        Ok((Instant::now(), self.page.counters()?, waited))
    }

    /// Ends it as a user would.
    ///
    /// # Returns
    ///
    /// What it printed last.
    pub(crate) fn end(mut self) -> anyhow::Result<String> {
        interrupt(&mut self.process.child)?;
        let output = fs::read_to_string(&self.output)?;
        Ok(output.lines().last().unwrap_or_default().to_owned())
    }
}

/// A process, and the file of its page of counters. Dropped, both are ended.
struct Process {
    child: Child,
    page_file: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = interrupt(&mut self.child);
        let _ = fs::remove_file(&self.page_file);
    }
}

fn interrupt(child: &mut Child) -> io::Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    // It may stand still.
    for signal in [Signal::SIGINT, Signal::SIGCONT] {
        kill(Pid::from_raw(child.id().cast_signed()), signal)?;
    }
    let deadline = Instant::now() + END;
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait().map(|_| ())
}

/// The thread that forwards, by the names that DPDK's programs and ours give to it.
fn forwarding_thread(process: u32) -> io::Result<Option<PathBuf>> {
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.path();
        let name = fs::read_to_string(task.join("comm"))?;
        if name.trim() == "worker" || name.trim().ends_with("worker-1") {
            return Ok(Some(task));
        }
    }
    Ok(None)
}

/// How long a thread has waited for a core, although it wanted to run.
fn waited(task: &Path) -> anyhow::Result<Duration> {
    let file = task.join("schedstat");
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let nanoseconds = text.split_whitespace().nth(1).context("no schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// A log's last lines, on one.
fn tail(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let last = lines.get(lines.len().saturating_sub(3)..)?;
    (!last.is_empty()).then(|| last.join(" / "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_half_is_averaged() {
        assert_eq!(interquartile_mean(vec![7.0]), 7.0);
        assert_eq!(interquartile_mean(vec![4.0, 2.0, 9.0]), 5.0);
        assert_eq!(interquartile_mean(vec![900.0, 5.0, 3.0, 0.0]), 4.0);
    }
}
