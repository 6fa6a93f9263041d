//! The stages, in the packet's order.

pub(super) mod rx;
pub(super) mod parse;
pub(super) mod classify;
pub(super) mod verify;
pub(super) mod measure;
pub(super) mod police;
pub(super) mod mark;
pub(super) mod route;
pub(super) mod queue;
pub(super) mod tx;

pub(super) mod hold;
pub(super) mod martians;

#[cfg(test)]
mod testing;
