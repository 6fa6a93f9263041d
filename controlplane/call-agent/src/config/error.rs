//! What can be wrong with the configuration.

use std::{io, path::PathBuf};

use voicelane_identity::{FilesError, client::AddressError};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}", file.display())]
    Read {
        /// The file that cannot be read.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is no TOML, or has an unknown key, or a value of the wrong type.
    #[error("{}: {reason}", file.display())]
    Parse {
        /// The file's name.
        file: PathBuf,
        /// Line, key and reason.
        reason: String,
    },
    /// Values that are out of bounds or do not fit together: all of them.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
}

/// What is wrong with the servers that are given.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// Some of certificate, key and authority are missing.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// One is no URL, or does not go with them.
    #[error(transparent)]
    Address(#[from] AddressError),
}
