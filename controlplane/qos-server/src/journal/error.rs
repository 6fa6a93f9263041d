//! What can be wrong with a store.

use std::{io, path::PathBuf};

use crate::cluster::EtcdError;

/// Why a store cannot be used. Each message says where, and what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum StoreError {
    /// The operating system refused something.
    #[error("cannot {what} {}: {source}; give --data a directory that the server may write, or `none`", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Another process has the store open.
    #[error(
        "{} is in use by {holder}: a store has one server at a time. Stop that one first; what a \
         server that runs holds is told by `voicelane call list`", dir.display()
    )]
    InUse { dir: PathBuf, holder: String },
    /// The directory has other things in it.
    #[error(
        "{} is not empty and holds no store of voicelane-server; give --data an empty directory, \
         one that does not exist yet, or `none`", dir.display()
    )]
    NotAStore { dir: PathBuf },
    /// There is no store to look at.
    #[error("{} holds no store of voicelane-server; --data says where it is", dir.display())]
    Missing { dir: PathBuf },
    /// Written by another release.
    #[error(
        "the store in {} has format {found}, and this release reads {known}; export it with the \
         release that wrote it, and import it here", dir.display()
    )]
    Format {
        dir: PathBuf,
        found: u64,
        known: u64,
    },
    /// Its content is not what was committed.
    #[error(
        "the store in {dir} is damaged: {reason}. Nothing was started, and routers keep the calls that \
         they have. `voicelane-server check --data {dir}` lists what is wrong, `voicelane-server \
         export --data {dir}` writes what can be read, for an import into a new store", dir = dir.display()
    )]
    Damaged { dir: PathBuf, reason: String },
    /// A commit failed, so nobody knows what is on the disk.
    #[error(
        "the store in {} cannot be written: {reason}. The server ends, as it answers nothing that it \
         has not written; routers keep the calls that they have. Look at the disk (full? broken?), \
         then start the server again: it has all that it acknowledged", dir.display()
    )]
    Commit { dir: PathBuf, reason: String },
    /// Nothing commits any more.
    #[error(
        "the thread that writes the store {reason}. The server ends, as it answers nothing that it has \
         not written; routers keep the calls that they have. Start it again: it has all that it \
         acknowledged"
    )]
    Thread { reason: String },
    /// Another server leads. This one stands by.
    #[error("another server leads: the term is {term} by now")]
    Fenced { term: u64 },
    /// The head is not what this leader has written.
    #[error(
        "something else than voicelane-server has written below /voicelane/ in etcd. This server leads no \
         more; whoever leads next reads all that is there. Nothing else may write there"
    )]
    Foreign,
    /// A commit has no answer for too long.
    #[error("{0}; this server leads no more, and the next leader finds what was committed")]
    Etcd(EtcdError),
    /// The records in etcd are not those that were committed.
    #[error(
        "what etcd holds is damaged: {committed} records were committed, and it has {found}, or one is not \
         as it was committed. Nothing was started, and routers keep the calls that they have. Restore etcd \
         from a snapshot (etcdctl snapshot restore), or remove all below /voicelane/ to begin anew"
    )]
    EtcdDamaged { found: u64, committed: u64 },
    /// A record in etcd makes no sense.
    #[error(
        "what etcd holds is damaged: {reason}. Nothing was started, and routers keep the calls that they \
         have. Restore etcd from a snapshot (etcdctl snapshot restore), or remove all below /voicelane/ to \
         begin anew"
    )]
    EtcdRecord { reason: String },
    /// Written by another release.
    #[error(
        "what etcd holds has format {found}, and this release reads 1; use the release that wrote it"
    )]
    EtcdFormat { found: u64 },
    /// A file that is imported makes no sense.
    #[error("line {line}: {reason}; nothing was imported")]
    Import { line: usize, reason: String },
    /// There is something in the store that is imported into.
    #[error(
        "the store in {} has {records} sessions and routers already; import into a new one",
        dir.display()
    )]
    NotEmpty { dir: PathBuf, records: u64 },
}
