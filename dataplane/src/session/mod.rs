//! Sessions: which flows are calls, what each may send, and what was seen of it.

mod change;
mod detours;
mod entry;
mod five_tuple;
mod fragments;
mod ingress;
mod latch;
mod meters;
mod sessions;
mod table;

pub use change::{EntrySpec, InstallError, SessionChange};
pub use detours::Detours;
pub use entry::{Arrival, FlowCounters, Passed, Policer, Terms};
pub(crate) use five_tuple::AnyKey;
pub use five_tuple::{FiveTuple, FlowKey, FlowKey4, FlowKey6, Protocol};
pub use fragments::{AddressPair, FragmentId, Fragments};
pub use ingress::{Ingress, Origin};
pub(crate) use latch::Latches;
pub use latch::{LatchSpec, Latched, WaitingFull};
pub(crate) use sessions::Measured;
pub use sessions::{FlowId, Sessions};
pub use table::{Found, InsertError, SessionTable, Slot, TableFull};
