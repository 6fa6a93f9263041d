//! What can be wrong with a store.

use std::{io, path::PathBuf};

use crate::cluster::EtcdError;

/// Why a store cannot be used. Each message says where, and what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum StoreError {
    #[error("cannot {what} {}: {source}; give --data a directory that the server may write, or `none`", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{} is in use by {holder}: a store has one server at a time. Stop that one first; what a \
         server that runs holds is told by `voicelane call list`", dir.display()
    )]
    InUse { dir: PathBuf, holder: String },
    #[error(
        "{} is not empty and holds no store of voicelane-server; give --data an empty directory, \
         one that does not exist yet, or `none`", dir.display()
    )]
    NotAStore { dir: PathBuf },
    #[error("{} holds no store of voicelane-server; --data says where it is", dir.display())]
    Missing { dir: PathBuf },
    #[error(
        "the store in {} has format {found}, and this release reads {known}; export it with the \
         release that wrote it, and import it here", dir.display()
    )]
    Format {
        dir: PathBuf,
        found: u64,
        known: u64,
    },
    #[error(
        "the store in {dir} is damaged: {reason}. Nothing was started, and routers keep the calls that \
         they have. `voicelane-server check --data {dir}` lists what is wrong, `voicelane-server \
         export --data {dir}` writes what can be read, for an import into a new store", dir = dir.display()
    )]
    Damaged { dir: PathBuf, reason: String },
    #[error(
        "the store in {} cannot be written: {reason}. The server ends, as it answers nothing that it \
         has not written; routers keep the calls that they have. Look at the disk (full? broken?), \
         then start the server again: it has all that it acknowledged", dir.display()
    )]
    Commit { dir: PathBuf, reason: String },
    #[error(
        "the thread that writes the store {reason}. The server ends, as it answers nothing that it has \
         not written; routers keep the calls that they have. Start it again: it has all that it \
         acknowledged"
    )]
    Thread { reason: String },
    #[error("another server leads: the term is {term} by now")]
    Fenced { term: u64 },
    #[error(
        "something else than voicelane-server has written below /voicelane/ in etcd. This server leads no \
         more; whoever leads next reads all that is there. Nothing else may write there"
    )]
    Foreign,
    #[error("{0}; this server leads no more, and the next leader finds what was committed")]
    Etcd(EtcdError),
    #[error(
        "what etcd holds is damaged: {committed} records were committed, and it has {found}, or one is not \
         as it was committed. Nothing was started, and routers keep the calls that they have. Restore etcd \
         from a snapshot (etcdctl snapshot restore), or remove all below /voicelane/ to begin anew"
    )]
    EtcdDamaged { found: u64, committed: u64 },
    #[error(
        "what etcd holds is damaged: {reason}. Nothing was started, and routers keep the calls that they \
         have. Restore etcd from a snapshot (etcdctl snapshot restore), or remove all below /voicelane/ to \
         begin anew"
    )]
    EtcdRecord { reason: String },
    #[error(
        "what etcd holds has format {found}, and this release reads 1; use the release that wrote it"
    )]
    EtcdFormat { found: u64 },
    #[error("line {line}: {reason}; nothing was imported")]
    Import { line: usize, reason: String },
    #[error(
        "the store in {} has {records} sessions and routers already; import into a new one",
        dir.display()
    )]
    NotEmpty { dir: PathBuf, records: u64 },
}
