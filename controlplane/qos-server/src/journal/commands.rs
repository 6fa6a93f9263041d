//! `voicelane-server check`, `export` and `import`: JSON lines, one a record.

use std::{
    io::{self, BufRead, Write},
    path::Path,
};

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{
    Backend as _, Change, Contents, Space, StoreError,
    disk::Disk,
    record::{StoredRouter, StoredSession},
};
use crate::model::ids::UnixMs;

/// What the first line has to say.
const FORMAT: u32 = 1;
/// Records of a commit while importing.
const BATCH: usize = 1_024;

/// A line of an export; the first one is `Store`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Store(Heading),
    Router(StoredRouter),
    Session(StoredSession),
}

/// What follows, so that a file that ends early is noticed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Heading {
    format: u32,
    /// In decimal, as it is too large for JavaScript's numbers.
    epoch: String,
    routers: u64,
    sessions: u64,
}

/// What is in a store, and what is wrong with it.
#[derive(Debug)]
pub struct Checked {
    /// How many sessions can be read.
    pub sessions: usize,
    /// Routers that it has a report of.
    pub routers: usize,
    /// The number of the last commit.
    pub commit: u64,
    /// How many servers have served from it.
    pub term: u64,
    /// Each in a line.
    pub problems: Vec<String>,
}

/// Reads all of a store.
pub fn check(dir: &Path) -> Result<Checked, StoreError> {
    let (mut disk, mut problems) = Disk::inspect(dir)?;
    let mut contents = Contents::new(usize::MAX, UnixMs::now());
    let loaded = disk.load(&mut |space, key, value| {
        if let Err(reason) = contents.take(space, key, value) {
            problems.push(format!("{}: {reason}", space.record(key)));
        }
        Ok(())
    });
    if let Err(error) = loaded {
        problems.push(reason(error)?);
    }
    Ok(Checked {
        sessions: contents.store.len(),
        routers: contents.registry.len(),
        commit: disk.totals().commit,
        term: disk.term(),
        problems,
    })
}

/// Only what is damaged, since the rest is said anyway.
fn reason(error: StoreError) -> Result<String, StoreError> {
    match error {
        StoreError::Damaged { reason, .. } => Ok(reason),
        other => Err(other),
    }
}

/// Why an export is not complete.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot write the export")]
    Write(#[from] io::Error),
}

/// Writes all that can be read of a store; tells how many records, and what is wrong with it.
pub fn export(dir: &Path, to: &mut dyn Write) -> Result<(u64, Vec<String>), ExportError> {
    let (mut disk, mut problems) = Disk::inspect(dir)?;
    let mut lines = Vec::new();
    let (mut routers, mut sessions) = (0, 0);
    let loaded = disk.load(&mut |space, key, value| {
        let line = match space {
            Space::Routers => StoredRouter::decode(value).map(Line::Router),
            Space::Sessions => StoredSession::decode(value).map(Line::Session),
        };
        match line {
            Ok(line) => {
                let count = match space {
                    Space::Routers => &mut routers,
                    Space::Sessions => &mut sessions,
                };
                *count += 1;
                lines.push(line);
            }
            Err(error) => problems.push(format!("left out: {}: {error}", space.record(key))),
        }
        Ok(())
    });
    if let Err(error) = loaded {
        problems.push(reason(error)?);
    }
    let heading = Line::Store(Heading {
        format: FORMAT,
        epoch: disk.epoch().to_string(),
        routers,
        sessions,
    });
    for line in std::iter::once(heading).chain(lines) {
        serde_json::to_writer(&mut *to, &line).map_err(io::Error::from)?;
        to.write_all(b"\n")?;
    }
    to.flush()?;
    Ok((routers + sessions, problems))
}

/// Fills a store that has no sessions, or makes one; tells how many sessions and routers it has then.
/// A file with a fault changes nothing.
pub fn import(dir: &Path, from: &mut dyn BufRead) -> Result<(usize, usize), StoreError> {
    let mut disk = Disk::open_or_create(dir)?;
    let records = disk.totals().count;
    if records > 0 {
        let dir = dir.to_owned();
        return Err(StoreError::NotEmpty { dir, records });
    }
    let Import {
        contents,
        changes,
        epoch,
    } = Import::read(from)?;
    for batch in changes.chunks(BATCH) {
        disk.commit(batch)?;
    }
    // Whoever had the sessions there has them here.
    disk.set_epoch(epoch)?;
    Ok((contents.store.len(), contents.registry.len()))
}

struct Import {
    contents: Contents,
    changes: Vec<Change>,
    epoch: u64,
}

impl Import {
    fn read(from: &mut dyn BufRead) -> Result<Self, StoreError> {
        let mut it = Self {
            contents: Contents::new(usize::MAX, UnixMs::now()),
            changes: Vec::new(),
            epoch: 0,
        };
        let (mut heading, mut line) = (None, 0);
        for text in from.lines() {
            line += 1;
            let wrong = |reason: String| StoreError::Import { line, reason };
            let text = text.map_err(|error| wrong(error.to_string()))?;
            let parsed = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            it.take(parsed, &mut heading).map_err(wrong)?;
        }
        let wrong = |reason| Err(StoreError::Import { line, reason });
        let Some(Heading {
            routers, sessions, ..
        }) = heading
        else {
            return wrong("the file is empty; give what export has written".to_owned());
        };
        let found = (it.contents.registry.len(), it.contents.store.len());
        if (found.0 as u64, found.1 as u64) != (routers, sessions) {
            return wrong(format!(
                "the file ends after {} of {routers} routers and {} of {sessions} sessions",
                found.0, found.1
            ));
        }
        Ok(it)
    }

    fn take(&mut self, line: Line, heading: &mut Option<Heading>) -> Result<(), String> {
        let (space, key, value) = match line {
            Line::Store(it) if heading.is_some() || it.format != FORMAT => {
                return Err(format!(
                    "a heading of format {}; there is one, in the first line, and it has {FORMAT}",
                    it.format
                ));
            }
            Line::Store(it) => {
                self.epoch = it
                    .epoch
                    .parse()
                    .map_err(|_| format!("the epoch {:?} is no number", it.epoch))?;
                *heading = Some(it);
                return Ok(());
            }
            _ if heading.is_none() => {
                return Err("the first line has to be the heading that export writes".to_owned());
            }
            Line::Router(it) => {
                let id = it.hello.as_ref().map(|it| it.router_id.clone());
                let key = id.unwrap_or_default().into_bytes();
                (Space::Routers, key, it.encode_to_vec())
            }
            Line::Session(it) => {
                let id = self.contents.next_id.to_be_bytes();
                (Space::Sessions, id.to_vec(), it.encode_to_vec())
            }
        };
        self.contents.take(space, &key, &value)?;
        self.changes.push(Change::put(space, &key, value, None));
        Ok(())
    }
}
