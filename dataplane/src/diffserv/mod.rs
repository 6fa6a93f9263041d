//! Differentiated services: code points, per-hop behaviours, the meters that police them, what keeps
//! their queues short, and how well EF is served.

mod class;
mod codel;
mod ef;
mod meter;
mod phb;
mod token_bucket;
mod user_priority;
mod wred;

pub use class::{ClassSettings, FEW, Management, SHARE_FACTOR, Service, shared_packets};
pub use codel::{Codel, CodelProfile};
pub use ef::{Departure, EfError, EfMeter, EfReport};
pub use meter::{
    Colour, ColourAction, ColourMode, Marking, Meter, MeterError, MeterKind, MeterProfile,
    MeterSpec,
};
pub use phb::{Phb, PhbMap};
pub use token_bucket::{BucketError, BucketProfile, TokenBucket};
pub use user_priority::user_priority;
pub use voicelane_types::{Dscp, Ecn, InvalidDscp, TrafficClass, UnknownDscp};
pub use wred::{FULL, Fill, Wred, WredCurve, WredProfile};
