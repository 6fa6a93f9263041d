//! The machine on which figures were taken.

use std::{fmt, fs, process::Command, thread};

use serde::Serialize;

/// What figures depend on, as read at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The running kernel's release.
    pub kernel: String,
    /// The installed DPDK's release.
    pub dpdk: String,
    /// Load average of the last minute, threads under test included.
    pub load_average: Option<f64>,
}

impl Machine {
    /// Reads it from the system; what cannot be read is "unknown".
    #[must_use]
    pub fn read() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|info| {
            let line = info.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Self {
            cpu: known(cpu),
            cores: thread::available_parallelism().map_or(0, usize::from),
            kernel: known(kernel.map(|release| release.trim().to_owned())),
            dpdk: known(output("pkg-config", &["--modversion", "libdpdk"])),
            load_average: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|line| line.split(' ').next()?.parse().ok()),
        }
    }
}

/// One line, for a report.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cores of {}, Linux {}, DPDK {}",
            self.cores, self.cpu, self.kernel, self.dpdk
        )?;
        self.load_average
            .map_or(Ok(()), |load| write!(f, ", load average {load}"))
    }
}

/// The commit of the sources that are around, with `-dirty` where files are changed, or new, other than kept
/// results.
#[must_use]
pub fn commit() -> String {
    let git = |args: &[&str]| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        output(
            "git",
            &[&["-c", "safe.directory=*", "-C", root], args].concat(),
        )
    };
    let commit = git(&["rev-parse", "HEAD"]);
    let changed = git(&["status", "--porcelain", "--", ".", ":!bench/results"]);
    let dirty = changed.is_none_or(|changed| !changed.is_empty());
    known(commit.map(|commit| if dirty { commit + "-dirty" } else { commit }))
}

/// The date and time, UTC, in the form of RFC 3339.
#[must_use]
pub fn date() -> String {
    known(output("date", &["--utc", "+%Y-%m-%dT%H:%M:%SZ"]))
}

/// How a C program is compiled against the installed DPDK.
#[must_use]
pub fn dpdk_flags() -> String {
    known(output("pkg-config", &["--cflags", "libdpdk"]))
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn known(value: Option<String>) -> String {
    value
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
