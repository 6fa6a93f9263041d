//! Processes inside namespaces, that die with the lab.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    error::LabError,
    lab::{Inner, Lab},
    namespace::Namespace,
};

const POLL: Duration = Duration::from_millis(10);
const STOP_BOUND: Duration = Duration::from_secs(5);
const TAIL_LINES: usize = 40;

/// A process of a lab. Its output goes to a file; dropping it stops it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lab: Arc<Inner>,
    status: Option<ExitStatus>,
}

impl Lab {
    /// Starts a program in a namespace. It is killed when this process dies, however that comes.
    pub fn spawn(
        &self,
        namespace: &Namespace,
        name: &str,
        program: &Path,
        args: &[&str],
    ) -> Result<Process, LabError> {
        let lab = self.inner();
        let log = lab.log_path(name);
        let failed = |e| LabError::io(format!("cannot start {name} ({})", program.display()), e);
        let file = File::create(&log).map_err(failed)?;
        // `ip netns exec` and `setpriv` replace themselves, so the child's pid is the program's.
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", namespace.full_name()])
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file);
        let child = lab.spawner.spawn(command).map_err(failed)?;
        lab.child_started(child.id());
        Ok(Process {
            name: name.to_owned(),
            child,
            log,
            lab: Arc::clone(lab),
            status: None,
        })
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub fn status(&mut self) -> Result<Option<ExitStatus>, LabError> {
        if self.status.is_none() {
            self.status = self
                .child
                .try_wait()
                .map_err(|e| LabError::io(format!("cannot wait for {}", self.name), e))?;
            if self.status.is_some() {
                self.lab.child_reaped(self.child.id());
            }
        }
        Ok(self.status)
    }

    /// Waits until its log has a line with `text`.
    pub fn wait_for_log(&mut self, text: &str, bound: Duration) -> Result<(), LabError> {
        let what = format!("{text:?} in the log of {}", self.name);
        self.wait_until(what, bound, |process| Ok(process.log().contains(text)))
    }

    /// Waits until it is ready for `what`. One that ends before that is an error.
    pub fn wait_until(
        &mut self,
        what: String,
        bound: Duration,
        mut is_ready: impl FnMut(&Self) -> Result<bool, LabError>,
    ) -> Result<(), LabError> {
        let end = Instant::now() + bound;
        loop {
            // The status first: what a dying process wrote last still counts.
            let status = self.status()?;
            if is_ready(self)? {
                return Ok(());
            }
            if let Some(status) = status {
                return Err(LabError::Ended {
                    name: self.name.clone(),
                    status: status.to_string(),
                    what,
                    log: self.log_tail(),
                });
            }
            if Instant::now() >= end {
                return Err(LabError::timeout(what, bound, self.log_tail()));
            }
            thread::sleep(POLL);
        }
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of its log, with a heading, to be put behind an error message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(TAIL_LINES)..)
            .unwrap_or_default();
        format!(
            "\n--- last lines of {}:\n{}\n---",
            self.name,
            tail.join("\n")
        )
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        if self.status.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.child.id())
            .map_err(|_| LabError::Invalid(format!("pid {}", self.child.id())))?;
        kill(Pid::from_raw(pid), signal)
            .map_err(|e| LabError::io(format!("cannot signal {}", self.name), e))
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, bound: Duration) -> Result<ExitStatus, LabError> {
        let end = Instant::now() + bound;
        loop {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                let what = format!("the end of {}", self.name);
                return Err(LabError::timeout(what, bound, self.log_tail()));
            }
            thread::sleep(POLL);
        }
    }

    /// Asks it to end (SIGTERM) and waits; kills it when it does not, which is an error.
    pub fn stop(&mut self) -> Result<ExitStatus, LabError> {
        self.signal(Signal::SIGTERM)?;
        match self.wait(STOP_BOUND) {
            Err(error @ LabError::Timeout { .. }) => {
                self.kill()?;
                Err(error)
            }
            other => other,
        }
    }

    /// Kills it (SIGKILL), as a crash would.
    pub fn kill(&mut self) -> Result<ExitStatus, LabError> {
        self.signal(Signal::SIGKILL)?;
        self.wait(STOP_BOUND)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        if let Ok(None) = self.status()
            && let Err(error) = self.stop()
        {
            eprintln!("voicelane-lab: {error}");
        }
    }
}

/// Starts processes on a thread that lives as long as the lab: the kernel takes the death of the
/// *thread* that forked for the death of the parent (prctl(2), PR_SET_PDEATHSIG).
#[derive(Debug)]
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

type Job = (Command, mpsc::SyncSender<io::Result<Child>>);

impl Spawner {
    pub(crate) fn start() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in queue {
                answer.send(command.spawn()).ok();
            }
        });
        Self { jobs }
    }

    fn spawn(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the spawning thread has ended");
        let (answer, result) = mpsc::sync_channel(1);
        self.jobs.send((command, answer)).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }
}
