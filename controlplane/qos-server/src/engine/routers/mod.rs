//! Routers: their streams, what they are told over these, and those that come back, refuse a command or
//! are gone.

mod attach;
pub(super) mod forget;
pub(super) mod grace;
pub(super) mod install;
pub(super) mod link;
mod probe;
pub(super) mod retry;
mod synchronise;
mod turns;
mod withdraw;
