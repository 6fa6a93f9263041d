//! What ends by itself: sessions whose lease runs out, whose agent is lost, or that are silent.

pub(super) mod agents;
pub(super) mod lease;
pub(super) mod silence;
