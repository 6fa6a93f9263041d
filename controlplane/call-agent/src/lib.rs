//! The call agent: learns each call from signalling that a SIP server already has.
//!
//! [`hep`], [`sip`], [`sdp`] and [`ng`] read what comes from the network. They do no input or output,
//! never panic, allocate no more than a small multiple of what they read, and are lenient: a line that
//! they do not understand loses that line, not the call.

#![forbid(unsafe_code)]

pub mod call;
pub mod hep;
pub mod ng;
pub mod rate;
pub mod sdp;
pub mod sip;
mod text;
