//! One network namespace of a lab.

use std::{fs::File, panic, path::PathBuf, sync::Arc, thread, time::Duration};

use nix::sched::{CloneFlags, setns};

use crate::{command, error::LabError};

/// A handle to a network namespace. The [`Lab`](crate::Lab) that made it deletes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    name: Arc<str>,
    full_name: Arc<str>,
}

impl Namespace {
    pub(crate) fn new(name: &str, full_name: &str) -> Self {
        Self {
            name: name.into(),
            full_name: full_name.into(),
        }
    }

    /// Its name within the lab, such as `caller`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name for `ip netns`.
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    /// Moves the calling thread, and no other, into the namespace for the rest of its life.
    pub fn join_current_thread(&self) -> Result<(), LabError> {
        let path = PathBuf::from("/run/netns").join(&*self.full_name);
        let file = File::open(&path).map_err(|e| LabError::io(path.display().to_string(), e))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .map_err(|e| LabError::io(format!("cannot enter {}", path.display()), e))
    }

    /// Runs `work` on a thread in the namespace and waits for it. Sockets that it opens stay in
    /// the namespace, whichever thread uses them afterwards.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| self.join_current_thread().map(|()| work()));
            thread
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` commands, one a line, in one go: `"link set lo up\nroute add default via …"`.
    pub fn ip(&self, lines: &str) -> Result<(), LabError> {
        command::ip_batch(Some(&self.full_name), lines)
    }

    /// Runs `tc` commands, one a line, in one go.
    pub fn tc(&self, lines: &str) -> Result<(), LabError> {
        self.enter(|| command::run_with("tc", &["-batch", "-"], Some(lines), command::TOOL_BOUND))?
            .map(drop)
    }

    /// Sets a kernel parameter of the namespace: `("net.ipv4.ip_forward", "1")`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
        self.enter(|| {
            std::fs::write(&path, value)
                .map_err(|e| LabError::io(format!("{} = {value}", path.display()), e))
        })?
    }

    /// Runs a tool in the namespace for at most `bound` and returns its standard output.
    pub fn run(&self, program: &str, args: &[&str], bound: Duration) -> Result<String, LabError> {
        self.enter(|| command::run_with(program, args, None, bound))?
    }
}
