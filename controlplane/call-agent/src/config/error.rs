//! What can be wrong with the configuration.

use std::{io, path::PathBuf};

use voicelane_identity::{FilesError, client::AddressError};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("{}", file.display())]
    Read { file: PathBuf, source: io::Error },
    /// It is no TOML, or has an unknown key, or a value of the wrong type.
    #[error("{}: {reason}", file.display())]
    Parse { file: PathBuf, reason: String },
    /// Values that are out of bounds or do not fit together: all of them.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
}

/// What is wrong with the servers that are given.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ServersError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Address(#[from] AddressError),
}
