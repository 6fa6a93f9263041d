//! Every change, who made it and what became of it: a JSON document a line. Who makes changes never
//! waits for it; what comes too fast is lost, and counted in a line of its own.

use std::{
    io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use voicelane_identity::utc;
use voicelane_log::{Flush, Log};

use super::Caller;
use crate::lines;

/// Where changes are noted, if anywhere.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Log>);

/// What a line has, in this order.
#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    who: String,
    from: &'a str,
    what: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    router_id: Option<&'a str>,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// What was changed, or was to be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Changed<'a> {
    pub(crate) agent_id: Option<&'a str>,
    pub(crate) session_id: Option<&'a str>,
    pub(crate) revision: Option<u64>,
    pub(crate) router_id: Option<&'a str>,
}

impl Audit {
    /// Appends to a file (mode 0600), and to another one when that was moved away; to standard output if
    /// it is `-`. Keep the second until the end.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn to(file: &Path) -> io::Result<(Self, Flush)> {
        let (log, flush) = lines::to(file)?;
        Ok((Self(Some(log)), flush))
    }

    /// Notes a change. `outcome` is "ok" or the name of a gRPC code.
    pub(crate) fn note(
        &self,
        (caller, from): (&Caller, &str),
        what: &str,
        changed: Changed<'_>,
        outcome: &str,
        message: Option<String>,
    ) {
        let Some(log) = &self.0 else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let entry = Entry {
            time: utc(seconds),
            who: caller.to_string(),
            from,
            what,
            agent_id: changed.agent_id,
            session_id: changed.session_id,
            revision: changed.revision,
            router_id: changed.router_id,
            outcome,
            message,
        };
        lines::note(log, &entry);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _, thread, time::Duration};

    use super::*;

    fn lines(file: &Path, count: usize) -> bool {
        (0..500).any(|_| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let is_written = text.lines().count() == count;
            if !is_written {
                thread::sleep(Duration::from_millis(20));
            }
            is_written
        })
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (file, moved) = (dir.path().join("audit"), dir.path().join("audit.1"));
        let (audit, _flush) = Audit::to(&file)?;
        let note = || {
            let from = (&Caller::Plain, "127.0.0.1:1");
            audit.note(from, "add", Changed::default(), "ok", None);
        };
        note();
        note();
        assert!(lines(&file, 2));
        fs::rename(&file, &moved)?;
        note();
        assert!(lines(&file, 1), "made anew");
        assert!(lines(&moved, 2));
        assert_eq!(fs::metadata(&file)?.mode() & 0o777, 0o600);
        Ok(())
    }
}
