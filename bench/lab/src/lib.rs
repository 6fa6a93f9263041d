//! The demo and the measurements of calls, on the testbed's two sites.

#![forbid(unsafe_code)]

pub mod classes;
pub mod compare;
pub mod demo;
pub mod sip;
