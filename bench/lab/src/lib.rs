//! The demo and the measurements of calls, on the testbed's two sites.

#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    reason = "a tool of this tree: fields are documented where the name leaves something open"
)]

pub mod classes;
pub mod compare;
pub mod demo;
pub mod sip;
