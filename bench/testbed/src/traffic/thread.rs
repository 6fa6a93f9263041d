//! Threads that keep time.

use std::{
    io,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::{sys::prctl, unistd::gettid};

use crate::error::LabError;

/// A thread that runs until it is told to stop.
#[derive(Debug)]
pub struct Worker<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<T>>>,
    name: &'static str,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts `work`, which must look at the flag it is given at least every 100 ms.
    pub fn start(
        name: &'static str,
        work: impl FnOnce(&AtomicBool) -> io::Result<T> + Send + 'static,
    ) -> Result<Self, LabError> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&flag))
            .map_err(|e| LabError::io(format!("cannot start {name}"), e))?;
        Ok(Self {
            stop,
            thread: Some(thread),
            name,
        })
    }

    /// As given at its start.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Asks it to stop, waits, and returns what it made.
    pub fn stop(&mut self) -> Result<Option<T>, LabError> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Ok(None);
        };
        match thread.join() {
            Ok(Ok(made)) => Ok(Some(made)),
            Ok(Err(error)) => Err(LabError::io(self.name, error)),
            Err(_) => Err(LabError::Panicked(self.name)),
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Lets the calling thread measure: wake-ups to the microsecond, and before the processes under
/// test, whose cores it shares (its own work is some per cent of a core). Where the system refuses
/// the priority, figures include the wait for a core.
pub fn keep_time() {
    prctl::set_timerslack(1_000).ok();
    Command::new("chrt")
        .args(["--fifo", "--pid", "20", &gettid().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok();
}
