//! What an operator says about packets that no session covers.

mod trust;

pub use trust::{DscpMap, Trust};
