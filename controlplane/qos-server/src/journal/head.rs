//! The head: how far the store has got, kept beside the engine's own files.
//!
//! The engine's journal is read up to the first batch that is broken, and the rest is cut off: a flipped
//! bit or a shortened file would make acknowledged sessions vanish without a word. So the number of the
//! last commit is written here, too, once the commit is on the disk. It is not synchronised: it is never
//! ahead of the journal, a process that is killed leaves it right, and after a loss of power it may be
//! some seconds old, within which such damage is not noticed.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use xxhash_rust::xxh3::xxh3_64;

use super::{Change, Space};

/// Of a slot, its first bytes.
const MAGIC: [u8; 8] = *b"VLSTORE1";
/// Magic, number, count, sum, and the hash of all these.
const SLOT: usize = 40;
/// Slots are that far apart, so that a page that cannot be read has one of them only.
const APART: u64 = 4_096;

/// What all commits together have made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many commits there were.
    pub commit: u64,
    /// How many records there are.
    pub count: u64,
    /// The hashes of all records, added up, wrapping.
    pub sum: u64,
}

impl Totals {
    /// Its length when encoded, bytes.
    const LEN: usize = 24;

    /// With a record more.
    pub(crate) fn add(&mut self, digest: u64) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(digest);
    }

    /// With a record less.
    pub(crate) fn take(&mut self, digest: u64) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(digest);
    }

    /// After one more commit.
    #[must_use]
    pub(crate) fn after(mut self, batch: &[Change]) -> Self {
        self.commit += 1;
        for change in batch {
            if let Some(former) = change.former {
                self.take(former);
            }
            if change.value.is_some() {
                self.add(change.digest);
            }
        }
        self
    }

    /// Whether both have the same records.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        (self.count, self.sum) == (other.count, other.sum)
    }

    /// Number, count and sum, big-endian.
    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (commit, rest) = bytes.split_at_mut(8);
        let (count, sum) = rest.split_at_mut(8);
        commit.copy_from_slice(&self.commit.to_be_bytes());
        count.copy_from_slice(&self.count.to_be_bytes());
        sum.copy_from_slice(&self.sum.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        (bytes.len() == Self::LEN).then_some(())?;
        Some(Self {
            commit: number(0)?,
            count: number(8)?,
            sum: number(16)?,
        })
    }
}

/// What a record counts for in the sum: xxh3 of its keyspace, its key and its value.
pub(crate) fn digest(space: Space, key: &[u8], value: &[u8]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&[match space {
        Space::Sessions => 1,
        Space::Routers => 2,
    }]);
    hash.update(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    hash.update(key);
    hash.update(value);
    hash.digest()
}

/// The file, of two slots that commits take in turns: one that was being written when the machine lost
/// its power leaves the other one.
#[derive(Debug)]
pub(super) struct HeadFile(File);

impl HeadFile {
    /// Makes a new one, on the disk when this returns.
    pub(super) fn create(path: &Path, totals: &Totals) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(2 * APART)?;
        let file = Self(file);
        file.write(totals)?;
        file.0.sync_all()
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self(file))
    }

    /// The later one of the slots that are whole.
    pub(super) fn read(&self) -> Option<Totals> {
        let slot = |at| {
            let mut bytes = [0; SLOT];
            self.0.read_exact_at(&mut bytes, at).ok()?;
            let (content, hash) = bytes.split_at(SLOT - 8);
            let (magic, totals) = content.split_at(MAGIC.len());
            let is_whole = magic == MAGIC && xxh3_64(content).to_be_bytes() == hash;
            is_whole.then(|| Totals::decode(totals)).flatten()
        };
        let slots = [slot(0), slot(APART)];
        slots.into_iter().flatten().max_by_key(|it| it.commit)
    }

    pub(super) fn write(&self, totals: &Totals) -> io::Result<()> {
        let mut bytes = [0; SLOT];
        let (content, hash) = bytes.split_at_mut(SLOT - 8);
        let (magic, rest) = content.split_at_mut(MAGIC.len());
        magic.copy_from_slice(&MAGIC);
        rest.copy_from_slice(&totals.encode());
        hash.copy_from_slice(&xxh3_64(content).to_be_bytes());
        self.0.write_all_at(&bytes, totals.commit % 2 * APART)
    }
}
