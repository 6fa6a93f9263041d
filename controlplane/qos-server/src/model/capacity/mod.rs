//! Room for calls: what they take of links, whether one more may come in, and which make way for it.

pub mod links;
pub mod admission;
pub mod preemption;
