//! What can be wrong with the configuration.

use std::{io, net::SocketAddr, path::PathBuf};

use voicelane_identity::FilesError;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}", file.display())]
    Read {
        /// The configuration file.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is no TOML, or has a key that there is not, or a value of the wrong type.
    #[error("{}: {reason}", file.display())]
    Parse {
        /// The configuration file.
        file: PathBuf,
        /// Line, key and reason.
        reason: String,
    },
    /// What a router may claim is no prefix.
    #[error("{}: {reason}", file.display())]
    Claim {
        /// The configuration file.
        file: PathBuf,
        /// Which router, and what it says.
        reason: String,
    },
    /// Plain text where it must not be.
    #[error(
        "{listen} is no loopback address, so cert, key and ca are needed to listen there (voicelane \
         pki --help); --allow-plain-text lets anybody do anything who reaches it"
    )]
    PlainText {
        /// The address that it was to listen on.
        listen: SocketAddr,
    },
    /// What is said of etcd does not go together.
    #[error("etcd: {0}")]
    Etcd(String),
    /// Revoked certificates, and no certificates.
    #[error("crl is for a server that has cert, key and ca")]
    Revoked,
    /// One or two of certificate, key and authority.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A value out of bounds.
    #[error("{}: {key} = {value}: {reason}", file.display())]
    Value {
        /// The configuration file.
        file: PathBuf,
        /// The key, with its section.
        key: &'static str,
        /// What it says.
        value: u64,
        /// What it may say.
        reason: String,
    },
}
