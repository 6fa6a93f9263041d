//! What a process has used.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// Of its memory and CPU time.
pub(crate) struct Usage {
    pub(crate) rss_bytes: u64,
    /// User and system, of all its threads.
    pub(crate) cpu: Duration,
}

/// Reads proc(5).
pub(crate) fn usage(id: u32) -> anyhow::Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .context("no VmRSS")?;
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name before the last parenthesis may hold anything; then utime and stime are the 12th and
    // 13th, in ticks of 10 ms.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<_, _>>()?;
    Ok(Usage {
        rss_bytes: rss.parse::<u64>()? * 1024,
        cpu: Duration::from_millis(ticks * 10),
    })
}
