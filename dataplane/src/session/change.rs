use std::net::SocketAddr;

use thiserror::Error;

use super::{FiveTuple, Ingress, LatchSpec, Terms, table::InsertError};
use crate::{diffserv::Dscp, quality::PayloadTypes};

/// One flow to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntrySpec {
    /// The five-tuple that its packets have.
    pub flow: FiveTuple,
    /// Where they come in.
    pub ingress: Ingress,
    /// What to mark them with, if they conform or are green; decides their queue, too.
    pub dscp: Dscp,
    /// How much of them is admitted, and what becomes of the rest.
    pub terms: Terms,
    /// What its dynamic payload types mean, if it is RTP over UDP and to be measured.
    pub media: Option<PayloadTypes>,
}

/// What becomes of one session's flows, all at once between two bursts: `unlatch` waits no longer, `latch`
/// begins to, `install` is added or gets new terms, then `remove` is removed. On an error nothing has
/// changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionChange {
    /// Flows to add; one that is there already gets these terms.
    pub install: Vec<EntrySpec>,
    /// Flows to remove. What is not there is passed over.
    pub remove: Vec<FiveTuple>,
    /// Flows whose source is to be learned. What waits with the same terms already goes on, with what it
    /// has learned.
    pub latch: Vec<LatchSpec>,
    /// Destinations of flows that are to wait no longer. What is not there is passed over.
    pub unlatch: Vec<SocketAddr>,
}

/// Why a session could not be installed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InstallError {
    /// No room, or terms that cannot be metered.
    #[error("{flow}: {reason}")]
    Insert {
        /// Of the session's flows, the first that failed.
        flow: FiveTuple,
        /// What there is no room for, or what is wrong with its terms.
        reason: InsertError,
    },
    /// Source and destination are not of the same address family.
    #[error("{flow}: source and destination are of different address families")]
    Family {
        /// The first flow whose addresses are of different families.
        flow: FiveTuple,
    },
}

impl InstallError {
    /// Whether another time might do.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Insert {
                reason: InsertError::Full(_) | InsertError::Waiting(_),
                ..
            }
        )
    }
}
