//! Where calls lose packets, and how they sound.

use voicelane_proto::v1;

use crate::engine::{LocatedLoss, Score};

/// Where packets were lost.
pub(super) fn loss(it: &LocatedLoss) -> v1::LocatedLoss {
    v1::LocatedLoss {
        packets: it.packets,
        before_source: it.before_source,
        in_source: it.in_source,
        between: it.between,
        in_destination: it.in_destination,
        after_destination: it.after_destination,
        reported_packets: it.reported_packets,
    }
}

pub(super) fn score(it: &Score) -> v1::QualityScore {
    v1::QualityScore {
        mos: it.mos,
        rating: it.rating,
        basis: v1::quality_score::Basis::Published.into(),
        scale: v1::quality_score::Scale::Narrowband.into(),
        packets: it.packets,
        lost: it.lost,
    }
}
