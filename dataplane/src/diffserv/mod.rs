//! Differentiated services: code points, per-hop behaviours, and the meters that police them.

mod codepoint;
mod meter;
mod phb;
mod token_bucket;
mod user_priority;

pub use codepoint::{Dscp, Ecn, InvalidDscp, TrafficClass, UnknownDscp};
pub use meter::{
    Colour, ColourAction, ColourMode, Marking, Meter, MeterError, MeterKind, MeterProfile,
    MeterSpec,
};
pub use phb::{Phb, PhbMap, Treatment};
pub use token_bucket::{BucketError, BucketProfile, TokenBucket};
pub use user_priority::user_priority;
