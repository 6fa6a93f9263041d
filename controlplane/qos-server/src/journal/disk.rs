//! Records in a directory, by fjall (a log-structured tree behind a journal).
//!
//! `db` is fjall's, `head` how far it has got ([`head`](super::head)), `lock` the process that has it.
//! A new store is made under another name and renamed, so that there is a whole one or none.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, config::FilterPolicy};

use super::{
    Backend, Change, Each, Space, StoreError, Totals,
    head::{HeadFile, digest},
};
use crate::model::ids::{UnixMs, new_epoch};

/// What `meta`'s format has to be.
const FORMAT: u64 = 1;
/// Of a keyspace, bytes: then it is written to a table of its own.
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Of all journals, bytes: what a start has to read at most.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// Of changes, by fjall's count: it panics at twice as many, and no store comes near. A batch's checksum leaves its
/// number out, so a flipped bit can say so.
const SEQUENCE_NUMBERS: u64 = 1 << 62;
/// Of blocks that were read, bytes. Only a start reads.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

const DB: &str = "db";
const NEW: &str = "db.new";
const HEAD: &str = "head";
const LOCK: &str = "lock";
/// The file of fjall without which it would begin a new database.
const VERSION: &str = "version";

/// A store in a directory.
pub struct Disk {
    dir: PathBuf,
    db: Database,
    sessions: Keyspace,
    routers: Keyspace,
    meta: Keyspace,
    /// Absent when it is missing, and then nothing is committed.
    head: Option<HeadFile>,
    totals: Totals,
    epoch: u64,
    term: u64,
    /// Locked until all of the above is closed.
    _lock: File,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("dir", &self.dir)
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens the store of a directory to serve from it; makes one where there is none.
    pub fn serve(dir: &Path) -> Result<Self, StoreError> {
        let mut disk = Self::open_or_create(dir)?;
        disk.begin_term()?;
        Ok(disk)
    }

    /// The same without serving from it.
    pub fn open_or_create(dir: &Path) -> Result<Self, StoreError> {
        let lock = prepare(dir)?;
        if !is_there(dir)? {
            create(dir)?;
        }
        let (disk, problems) = Self::open(dir, lock)?;
        if !problems.is_empty() {
            return Err(damaged(dir, problems.join("; ")));
        }
        Ok(disk)
    }

    /// Opens a store that is there, to look at it; tells what is wrong with it besides.
    pub fn inspect(dir: &Path) -> Result<(Self, Vec<String>), StoreError> {
        if !is_there(dir)? {
            return Err(StoreError::Missing {
                dir: dir.to_owned(),
            });
        }
        Self::open(dir, prepare(dir)?)
    }

    fn open(dir: &Path, lock: File) -> Result<(Self, Vec<String>), StoreError> {
        if !dir.join(DB).join(VERSION).exists() {
            return Err(damaged(dir, format!("{DB}/{VERSION} is missing")));
        }
        let db = database(dir, &dir.join(DB))?;
        let [sessions, routers, meta] = keyspaces(&db).map_err(|it| unreadable(dir, &it))?;
        let number = |key: &str| -> Result<u64, StoreError> {
            let value = meta.get(key).map_err(|it| unreadable(dir, &it))?;
            let value = value.ok_or_else(|| damaged(dir, format!("meta has no {key}")))?;
            let bytes: Result<[u8; 8], _> = (*value).try_into();
            let bytes = bytes.map_err(|_| damaged(dir, format!("meta's {key} is no number")))?;
            Ok(u64::from_be_bytes(bytes))
        };
        let found = number("format")?;
        if found != FORMAT {
            return Err(StoreError::Format {
                dir: dir.to_owned(),
                found,
                known: FORMAT,
            });
        }
        let (epoch, term) = (number("epoch")?, number("term")?);
        let totals = meta.get("totals").map_err(|it| unreadable(dir, &it))?;
        let totals = totals.and_then(|it| Totals::decode(&it));
        let totals = totals.ok_or_else(|| damaged(dir, "meta has no totals".to_owned()))?;
        let mut problems = Vec::new();
        if db.seqno() >= SEQUENCE_NUMBERS {
            problems.push(format!("its journal counts {} changes", db.seqno()));
        }
        let head = HeadFile::open(&dir.join(HEAD));
        match head.as_ref().map(HeadFile::read) {
            Err(error) => problems.push(format!("the file {HEAD} cannot be opened: {error}")),
            Ok(None) => problems.push(format!("the file {HEAD} has no whole slot")),
            Ok(Some(head)) if head.commit > totals.commit => problems.push(format!(
                "commits {} to {} were acknowledged, and the journal ends before them",
                totals.commit + 1,
                head.commit
            )),
            Ok(Some(head)) if head.commit == totals.commit && head != totals => {
                problems.push(format!("the file {HEAD} has another sum than the database"));
            }
            Ok(Some(_)) => {}
        }
        let disk = Self {
            dir: dir.to_owned(),
            db,
            sessions,
            routers,
            meta,
            head: head.ok(),
            totals,
            epoch,
            term,
            _lock: lock,
        };
        Ok((disk, problems))
    }

    /// Directory of the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many servers have served from it, this one included.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// What all commits have made.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Writes what is in memory to tables, as it happens by itself when there is much of it.
    #[cfg(test)]
    pub(super) fn write_tables(&self) {
        for keyspace in [&self.sessions, &self.routers, &self.meta] {
            drop(keyspace.rotate_memtable_and_wait());
        }
    }

    fn begin_term(&mut self) -> Result<(), StoreError> {
        self.term += 1;
        self.set("term", self.term)
    }

    /// Gives it the epoch of the store whose content it takes over.
    pub fn set_epoch(&mut self, epoch: u64) -> Result<(), StoreError> {
        self.epoch = epoch;
        self.set("epoch", epoch)
    }

    fn set(&mut self, key: &str, value: u64) -> Result<(), StoreError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&self.meta, key, value.to_be_bytes());
        batch.commit().map_err(|it| self.unwritable(&it))
    }

    fn unwritable(&self, error: &fjall::Error) -> StoreError {
        StoreError::Commit {
            dir: self.dir.clone(),
            reason: said(error),
        }
    }

    fn keyspace(&self, space: Space) -> &Keyspace {
        match space {
            Space::Sessions => &self.sessions,
            Space::Routers => &self.routers,
        }
    }
}

impl Backend for Disk {
    fn load(&mut self, each: &mut Each<'_>) -> Result<(), StoreError> {
        let mut found = Totals::default();
        let dir = self.dir.clone();
        let mut broken = None;
        for space in [Space::Routers, Space::Sessions] {
            for record in self.keyspace(space).iter() {
                let (key, value) = match record.into_inner() {
                    Ok(record) => record,
                    Err(error) => {
                        // The other keyspace may be whole: an export is to have it.
                        broken = broken.or(Some(unreadable(&dir, &error)));
                        break;
                    }
                };
                found.add(digest(space, &key, &value));
                each(space, &key, &value).map_err(|reason| damaged(&dir, reason))?;
            }
        }
        if let Some(error) = broken {
            return Err(error);
        }
        if !found.agrees(&self.totals) {
            let Totals { count, .. } = self.totals;
            let reason = if found.count == count {
                format!("one of its {count} records or more is not as it was committed")
            } else {
                format!("{count} records were committed, and it has {}", found.count)
            };
            return Err(damaged(&dir, reason));
        }
        Ok(())
    }

    fn commit(&mut self, batch: &[Change]) -> Result<(), StoreError> {
        let totals = self.totals.after(batch);
        let mut writes = self.db.batch().durability(Some(PersistMode::SyncData));
        for change in batch {
            let space = self.keyspace(change.space);
            match &change.value {
                Some(value) => writes.insert(space, &*change.key, value.as_slice()),
                None => writes.remove(space, &*change.key),
            }
        }
        writes.insert(&self.meta, "totals", totals.encode());
        writes.commit().map_err(|it| self.unwritable(&it))?;
        self.totals = totals;
        let missing = || Err(io::ErrorKind::NotFound.into());
        let head = self.head.as_ref();
        let written = head.map_or_else(missing, |it| it.write(&totals));
        written.map_err(|error: io::Error| StoreError::Commit {
            dir: self.dir.clone(),
            reason: format!("{HEAD}: {error}"),
        })
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn is_new(&self) -> bool {
        self.totals.commit == 0
    }
}

/// Whether there is a store in a directory; an error if there is a part of one only.
fn is_there(dir: &Path) -> Result<bool, StoreError> {
    if dir.join(DB).exists() {
        return Ok(true);
    }
    // The head is made before the database gets its name.
    if dir.join(HEAD).exists() && !dir.join(NEW).exists() {
        return Err(damaged(dir, format!("{DB} is missing")));
    }
    Ok(false)
}

/// Makes the directory if it is not there, and takes its lock.
fn prepare(dir: &Path) -> Result<File, StoreError> {
    let mut builder = DirBuilder::new();
    // Sessions are not for everybody's eyes.
    builder.recursive(true).mode(0o700);
    builder
        .create(dir)
        .map_err(|it| failed("create the directory", dir, it))?;
    let entries = fs::read_dir(dir).map_err(|it| failed("read the directory", dir, it))?;
    let names = entries.filter_map(|it| it.ok()?.file_name().into_string().ok());
    // A file system of its own has a lost+found.
    let is_ours = |name: &String| [DB, NEW, HEAD, LOCK, "lost+found"].contains(&name.as_str());
    if !dir.join(DB).exists() && !names.into_iter().all(|name| is_ours(&name)) {
        return Err(StoreError::NotAStore {
            dir: dir.to_owned(),
        });
    }
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut lock = options
        .open(&path)
        .map_err(|it| failed("open", &path, it))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let holder = match lock.read_to_string(&mut holder) {
                Ok(1..) => format!("process {}", holder.trim()),
                Ok(0) | Err(_) => "another process".to_owned(),
            };
            let dir = dir.to_owned();
            return Err(StoreError::InUse { dir, holder });
        }
        Err(fs::TryLockError::Error(source)) => return Err(failed("lock", &path, source)),
    }
    let id = std::process::id().to_string();
    let write = lock.set_len(0).and_then(|()| lock.write_all(id.as_bytes()));
    write.map_err(|it| failed("write", &path, it))?;
    Ok(lock)
}

/// Makes a store in a directory that has none.
fn create(dir: &Path) -> Result<(), StoreError> {
    let new = dir.join(NEW);
    if new.exists() {
        // What was begun and not finished.
        fs::remove_dir_all(&new).map_err(|it| failed("remove", &new, it))?;
    }
    let totals = Totals::default();
    let db = database(dir, &new)?;
    let filled = keyspaces(&db).and_then(|[_, _, meta]| {
        let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&meta, "format", FORMAT.to_be_bytes());
        batch.insert(&meta, "epoch", new_epoch(UnixMs::now()).to_be_bytes());
        batch.insert(&meta, "term", 0_u64.to_be_bytes());
        batch.insert(&meta, "totals", totals.encode());
        batch.commit()
    });
    filled.map_err(|it| StoreError::Commit {
        dir: dir.to_owned(),
        reason: said(&it),
    })?;
    drop(db);
    let head = dir.join(HEAD);
    HeadFile::create(&head, &totals).map_err(|it| failed("create", &head, it))?;
    let renamed = fs::rename(&new, dir.join(DB)).and_then(|()| File::open(dir)?.sync_all());
    renamed.map_err(|it| failed("rename", &new, it))
}

fn database(dir: &Path, path: &Path) -> Result<Database, StoreError> {
    let open = || {
        Database::builder(path)
            .worker_threads(1)
            .max_journaling_size(JOURNAL_BYTES)
            .cache_size(CACHE_BYTES)
            .open()
    };
    // It trusts what it has written, and panics over some of what it has not.
    match panic::catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(|it| unreadable(dir, &it)),
        Err(_) => Err(damaged(dir, "it cannot be read at all".to_owned())),
    }
}

fn keyspaces(db: &Database) -> fjall::Result<[Keyspace; 3]> {
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES)
            // Records are read all together, so filters would only take memory.
            .filter_policy(FilterPolicy::disabled())
    };
    let open = |name| db.keyspace(name, options);
    Ok([open("sessions")?, open("routers")?, open("meta")?])
}

fn damaged(dir: &Path, reason: String) -> StoreError {
    StoreError::Damaged {
        dir: dir.to_owned(),
        reason,
    }
}

/// What went wrong while reading: an error of the disk, or what is there makes no sense.
fn unreadable(dir: &Path, error: &fjall::Error) -> StoreError {
    damaged(dir, said(error))
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// fjall's errors without its name for them.
fn said(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            error.to_string()
        }
        fjall::Error::Poisoned => "an earlier write in the background failed".to_owned(),
        other => format!("{other:?}"),
    }
}
