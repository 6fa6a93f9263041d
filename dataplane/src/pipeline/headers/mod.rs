//! Reading and writing headers.

mod content;
pub(super) mod fields;
pub(super) mod rewrite;
pub(super) mod tag;

pub(crate) use content::is_control;
pub(super) use content::{Content, Kind, Packet, TAGS};
