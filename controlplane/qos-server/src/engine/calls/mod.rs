//! What becomes of a session: added, changed, deleted, moved, or made to make way. All of it is an
//! operation, of which one runs on a session at a time.

mod add;
mod change;
mod delete;
pub(super) mod follow;
pub(super) mod latch;
pub(super) mod moves;
pub(super) mod operation;
pub(super) mod preempt;
