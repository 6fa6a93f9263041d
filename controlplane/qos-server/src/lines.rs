//! Files of JSON documents, a line each, which a thread of its own writes: what comes faster than it can
//! be written is lost, and counted in a line.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::Serialize;
use voicelane_log::{Flush, Log};

/// Appends lines to a file (mode 0600), and to another one when that was moved away; to standard output if it
/// is `-`. Keep the second until the end.
///
/// # Errors
///
/// If it cannot be opened.
pub(crate) fn to(file: &Path) -> io::Result<(Log, Flush)> {
    let lost = |count| format!("{{\"lost\":{count}}}\n");
    if file == Path::new("-") {
        voicelane_log::to(io::stdout(), lost)
    } else {
        voicelane_log::to(Appended::open(file)?, lost)
    }
}

/// Writes a line. Never waits: what has no room is lost, and counted.
pub(crate) fn note(log: &Log, line: &impl Serialize) {
    if let Ok(mut line) = serde_json::to_vec(line) {
        line.push(b'\n');
        // Never fails.
        drop(log.clone().write(&line));
    }
}

/// A file that is made anew when its name is no longer its own, as after logrotate.
struct Appended {
    path: PathBuf,
    file: File,
    id: (u64, u64),
    /// The last line was written in part.
    is_torn: bool,
}

impl Appended {
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            id: id(&file.metadata()?),
            file,
            is_torn: false,
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
        // What comes next is a line of its own.
        if self.is_torn {
            self.file.write_all(b"\n")?;
        }
        self.is_torn = true;
        self.file.write_all(bytes)?;
        self.is_torn = false;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
