//! Several servers: one leads, the others stand by.
//!
//! [`lead`] decides who leads.

pub mod lead;
