//! What survives the server: sessions and routers' reports, committed before anybody is answered.
//!
//! [`Journal`] is the engine's side. It gathers changes while a commit runs; the next commit has all of
//! them. [`Backend`] keeps them: [`disk`] in a directory,
//! [`EtcdStore`](crate::cluster::EtcdStore) in etcd. Without one (`--data none`) sessions live as
//! long as the process. [`record`] is what is kept of a session, [`commands`] checks, exports and
//! imports.

mod committer;
mod contents;
mod error;
mod head;
pub mod commands;
pub mod disk;
pub mod record;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::committer::Handed;
pub(crate) use self::head::digest;
pub use self::{
    committer::{Committed, Journal},
    contents::Contents,
    error::StoreError,
    head::Totals,
};
use crate::cluster::Leader;

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// A session, by its number, big-endian.
    Sessions,
    /// A router, by its id.
    Routers,
}

impl Space {
    /// What a record is called where something is wrong with it.
    fn record(self, key: &[u8]) -> String {
        match (self, <[u8; 8]>::try_from(key)) {
            (Self::Sessions, Ok(id)) => format!("session record {}", u64::from_be_bytes(id)),
            (Self::Sessions, Err(_)) => format!("session record {key:?}"),
            (Self::Routers, _) => format!("router record {:?}", String::from_utf8_lossy(key)),
        }
    }
}

/// One record that is put or taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    space: Space,
    key: Box<[u8]>,
    /// Absent: it is taken out.
    value: Option<Vec<u8>>,
    /// Of the record as it is to be; 0 if it is taken out.
    digest: u64,
    /// Of the record as it was, if there was one.
    former: Option<u64>,
}

impl Change {
    /// Puts a record in place of the one of this digest.
    pub fn put(space: Space, key: &[u8], value: Vec<u8>, former: Option<u64>) -> Self {
        Self {
            space,
            key: key.into(),
            digest: digest(space, key, &value),
            value: Some(value),
            former,
        }
    }

    /// Takes out the record of this digest.
    pub fn remove(space: Space, key: &[u8], former: u64) -> Self {
        Self {
            space,
            key: key.into(),
            value: None,
            digest: 0,
            former: Some(former),
        }
    }

    /// What it is of.
    pub(crate) fn space(&self) -> Space {
        self.space
    }

    /// The record's key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// What the record is to be; absent: it is taken out.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Of the record as it is to be.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// What it takes of a batch, bytes.
    fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// Takes a record, its key and its value, or says what is wrong with it.
pub type Each<'a> = dyn FnMut(Space, &[u8], &[u8]) -> Result<(), String> + 'a;

/// Keeps records. One thread uses it.
pub trait Backend: Send + 'static {
    /// Gives every record to `each`, in the order of their keys, routers before sessions. Fails when
    /// that finds fault with one; at the end if one cannot be read, behind which the rest of its
    /// keyspace is left out, or if they are not those that were committed.
    fn load(&mut self, each: &mut Each<'_>) -> Result<(), StoreError>;

    /// The most changes of a commit.
    fn most_changes(&self) -> usize {
        4_096
    }

    /// The longest record that it keeps, bytes.
    fn longest_record(&self) -> usize {
        usize::MAX
    }

    /// Makes all changes or none, durably. After an error nobody knows which: it is not used any more.
    fn commit(&mut self, batch: &[Change]) -> Result<(), StoreError>;

    /// Differs for each store, and does not change: by it agents know whether their sessions are there.
    fn epoch(&self) -> u64;

    /// Who serves from it, where others may after it.
    fn leader(&self) -> Leader {
        Leader::default()
    }

    /// Whether nothing was ever committed to it, so that routers may have sessions that it has never known.
    fn is_new(&self) -> bool;
}
