//! What an agent says of a call: a session of flows, their ends, codecs and meters, and what entries
//! these become.

pub mod course;
pub mod codec;
pub mod session;
pub mod meter;
pub mod entries;
