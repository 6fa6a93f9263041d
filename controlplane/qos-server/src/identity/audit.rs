//! Every change, who made it and what became of it: a JSON document a line. Who makes changes never
//! waits for it; what comes too fast is lost, and counted in a line of its own.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use voicelane_identity::utc;
use voicelane_log::{Flush, Log};

use super::Caller;

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

/// A file that is made anew when its name is no longer its own, as after logrotate.
struct Appended {
    path: PathBuf,
    file: File,
    id: (u64, u64),
}

impl Appended {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            id: id(&file.metadata()?),
            file,
        })
    }
}

/// Which file it is.
fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Write for Appended {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_there = fs::metadata(&self.path).is_ok_and(|it| id(&it) == self.id);
        // Better in the file that was moved than nowhere.
        if !is_there && let Ok(anew) = Self::open(&self.path) {
            *self = anew;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
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
        let lost = |count| format!("{{\"lost\":{count}}}\n");
        let (log, flush) = if file == Path::new("-") {
            voicelane_log::to(io::stdout(), lost)?
        } else {
            voicelane_log::to(Appended::open(file)?, lost)?
        };
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
        if let Ok(mut line) = serde_json::to_vec(&entry) {
            line.push(b'\n');
            // Never fails: what has no room is counted.
            drop(log.clone().write(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

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
