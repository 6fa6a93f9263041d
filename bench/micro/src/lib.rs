//! What each step of the packet's way costs, without a NIC and without DPDK's ports: the worker turns
//! over two ports in memory. Instructions are counted under callgrind, where no other program and no
//! clock can touch them; time is measured by the benches.

#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    reason = "a tool of this tree: fields are documented where the name leaves something open"
)]

mod callgrind;
mod case;
mod device;
mod frame;
mod report;
mod rig;
mod stages;

pub use callgrind::profile;
pub use case::{Case, Load, SIZES};
pub use device::{Frame, Replay};
pub use frame::frame;
pub use report::{Figures, Row};
pub use rig::{Counts, Measured, Rig, clock};
