//! The call model and the readers from outside.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../../../monitoring/families.rs"]
mod families;

mod cases;
mod differential;
mod generated;
mod mutations;
mod program;
mod rules;
mod server;
mod torture;
