//! What can go wrong in the testbed.

use std::{io, path::PathBuf, time::Duration};

/// Why the testbed could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The process is not root.
    #[error("network namespaces need root: run this as root (for example with sudo)")]
    NeedsRoot,
    /// A tool of the system ended with an error.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command line, and its input if it has any.
        command: String,
        status: String,
        stderr: String,
    },
    /// Something did not happen in time.
    #[error("waited {seconds:.1} s in vain for {what}{log}")]
    Timeout {
        /// What was waited for.
        what: String,
        seconds: f64,
        /// The tail of the log concerned, or nothing.
        log: String,
    },
    /// A process of the lab ended by itself.
    #[error("{name} ended ({status}) before {what}{log}")]
    Ended {
        name: String,
        status: String,
        /// What it should have done first.
        what: String,
        /// The tail of its log.
        log: String,
    },
    /// A program to be tested has not been built.
    #[error("{} is missing: run `cargo build --workspace --bins`, or set VOICELANE_BIN_DIR", .0.display())]
    NotBuilt(PathBuf),
    /// The system refused something.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// A name or value that does not fit.
    #[error("{0}")]
    Invalid(String),
    /// The QoS server could not be reached.
    #[error("cannot reach the QoS server: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// The QoS server refused.
    #[error("{what}: {status}")]
    Refused {
        what: String,
        status: Box<tonic::Status>,
    },
    /// Certificates could not be issued.
    #[error("no certificates: {0}")]
    Identity(#[from] voicelane_identity::authority::AuthorityError),
    /// A thread of the lab panicked.
    #[error("a thread of the lab panicked: {0}")]
    Panicked(&'static str),
}

impl LabError {
    /// The system's refusal of `what`.
    pub fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            what: what.into(),
            source: source.into(),
        }
    }

    /// `what` did not happen within `bound`.
    pub fn timeout(what: impl Into<String>, bound: Duration, log: String) -> Self {
        Self::Timeout {
            what: what.into(),
            seconds: bound.as_secs_f64(),
            log,
        }
    }
}
