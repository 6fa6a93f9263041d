use thiserror::Error;

use super::{FiveTuple, FlowKey4, Policer, SessionTable, table::InsertError};
use crate::{diffserv::Dscp, units::Ticks};

/// One flow to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntrySpec {
    /// Which packets.
    pub flow: FiveTuple,
    /// What to mark them with; decides their queue, too.
    pub dscp: Dscp,
    /// How much of them is admitted.
    pub policer: Policer,
}

/// What becomes of one session's flows, all at once between two bursts: `install` is added or gets
/// new terms, then `remove` is removed. On an error nothing has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionChange {
    /// Flows to have.
    pub install: Vec<EntrySpec>,
    /// Flows not to have any more. What is not there is passed over.
    pub remove: Vec<FiveTuple>,
}

/// Why a session could not be installed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InstallError {
    /// No room, or terms that cannot be metered.
    #[error("{flow}: {reason}")]
    Insert {
        /// Of the session's flows, the first that failed.
        flow: FiveTuple,
        /// Why.
        reason: InsertError,
    },
    /// The data path does not carry this address family.
    #[error("{flow}: only IPv4 flows can be installed on this router")]
    Family {
        /// The flow.
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
                reason: InsertError::Full(_),
                ..
            }
        )
    }
}

impl SessionTable<FlowKey4> {
    /// Makes a change, whole or not at all.
    pub fn apply(&mut self, change: &SessionChange, now: Ticks) -> Result<(), InstallError> {
        let mut keys = Vec::with_capacity(change.install.len());
        for spec in &change.install {
            let flow = spec.flow;
            let key = FlowKey4::of(&flow).ok_or(InstallError::Family { flow })?;
            spec.policer
                .profile(self.clock())
                .map_err(|reason| InstallError::Insert {
                    flow,
                    reason: reason.into(),
                })?;
            keys.push(key);
        }
        // Only a flow that is new can fail from here on, and taking it out again restores all.
        let new: Vec<bool> = keys.iter().map(|key| self.find(key).is_none()).collect();
        for (index, (spec, &key)) in change.install.iter().zip(&keys).enumerate() {
            if !new[index] {
                continue;
            }
            if let Err(reason) = self.install(key, spec.dscp, spec.policer, now) {
                for (key, _) in keys.iter().zip(&new).take(index).filter(|(_, new)| **new) {
                    self.remove(key);
                }
                return Err(InstallError::Insert {
                    flow: spec.flow,
                    reason,
                });
            }
        }
        for ((spec, &key), _) in change
            .install
            .iter()
            .zip(&keys)
            .zip(&new)
            .filter(|(_, new)| !**new)
        {
            let modified = self.install(key, spec.dscp, spec.policer, now);
            debug_assert!(
                matches!(modified, Ok((_, false))),
                "the flow is there: {modified:?}"
            );
        }
        for key in change.remove.iter().filter_map(FlowKey4::of) {
            self.remove(&key);
        }
        Ok(())
    }
}

/// A hash table's seed that nobody can guess.
#[must_use]
pub fn random_seed() -> [u64; 4] {
    rand::random()
}
