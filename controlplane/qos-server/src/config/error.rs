//! What can be wrong with the configuration.

use std::{io, net::SocketAddr, path::PathBuf};

use voicelane_identity::FilesError;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("{}", file.display())]
    Read { file: PathBuf, source: io::Error },
    /// It is no TOML, or has an unknown key, or a value of the wrong type.
    #[error("{}: {reason}", file.display())]
    Parse { file: PathBuf, reason: String },
    /// What a router may claim is no prefix.
    #[error("{}: {reason}", file.display())]
    Claim { file: PathBuf, reason: String },
    #[error(
        "{listen} is no loopback address, so cert, key and ca are needed to listen there (voicelane \
         pki --help); --allow-plain-text lets anybody do anything who reaches it"
    )]
    PlainText { listen: SocketAddr },
    #[error("etcd: {0}")]
    Etcd(String),
    #[error("crl is for a server that has cert, key and ca")]
    Revoked,
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("{}: {key} = {value}: {reason}", file.display())]
    Value {
        file: PathBuf,
        key: &'static str,
        value: u64,
        reason: String,
    },
}
