//! Sessions: which flows are calls, what each may send, and what was seen of it.

mod command;
mod entry;
mod five_tuple;
mod table;

pub use command::{EntrySpec, InstallError, SessionChange, random_seed};
pub use entry::{FlowCounters, Policer};
pub use five_tuple::{FiveTuple, FlowKey, FlowKey4, Protocol};
pub use table::{InsertError, SessionTable, Slot, TableFull};
