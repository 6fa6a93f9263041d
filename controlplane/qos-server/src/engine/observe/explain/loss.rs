//! Where a flow's RTP was lost: both routers of it tell what came up to the same packets. RTP's sequence
//! number says which these are; it is the marking that RFC 9341 asks for.

use serde::Serialize;
use voicelane_proto::v1::{MediaQuality, QualityCheckpoint};

/// Of so many numbers, at least, the recent loss is: five seconds of most calls.
const RECENT: u32 = 256;
/// At the start of a call routers may begin with packets so far from each other, for the first ones were
/// lost between them.
const MOST_SKEW: u32 = 64;

/// Where packets of the stream that is now were lost; `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LocatedLoss {
    /// Sequence numbers that are compared.
    pub packets: u64,
    /// The number after them, as the source's router extends it.
    #[serde(skip)]
    pub(in crate::engine) end: u32,
    /// Before the source's router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_source: Option<u64>,
    /// Dropped in the source's router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_source: Option<u64>,
    /// On to the destination's router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<u64>,
    /// In the destination's router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_destination: Option<u64>,
    /// After it, by what the receiver says; of [`Self::reported_packets`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_destination: Option<u64>,
    /// Sequence numbers that the receiver says it of: since its first report that was compared.
    pub reported_packets: u64,
    /// The number after them, as the destination's router extends it.
    #[serde(skip)]
    pub(in crate::engine) reported_end: u32,
}

/// From a flow's start, and lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) all: LocatedLoss,
    pub(super) recent: LocatedLoss,
}

/// Which routers have measured a flow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measured<'a> {
    /// Both of its ends are behind one.
    Once(&'a MediaQuality),
    /// The source's, and the destination's if that tells.
    Twice(&'a MediaQuality, Option<&'a MediaQuality>),
}

/// Up to one number, by the source's router and by the destination's.
type Point = (QualityCheckpoint, QualityCheckpoint);

/// Compares what was measured; `None` where nothing is known yet.
pub(super) fn locate(measured: Measured<'_>) -> Option<Located> {
    let (near, far) = match measured {
        Measured::Once(near) => (near, None),
        Measured::Twice(near, far) => (near, far),
    };
    let points = common(near, far.unwrap_or(near));
    let Some(&latest) = points.first() else {
        // Of a router alone something may be said.
        return far.and_then(|_| locate(Measured::Twice(near, None)));
    };
    let start = |of: &MediaQuality| {
        Some(QualityCheckpoint {
            number: of.first_number?,
            lost: 0,
            dropped: Some(0),
        })
    };
    let starts = (start(near)?, start(far.unwrap_or(near))?);
    let begun = [starts.0.number, starts.1.number];
    let skew = low(begun[1])
        .wrapping_sub(low(begun[0]))
        .cast_signed()
        .unsigned_abs();
    // One that began in the middle of the call has not seen what was lost before.
    let first = match u32::from(skew) <= MOST_SKEW {
        true => starts,
        false => *points.last()?,
    };
    let is_before = |it: &&Point| latest.0.number.wrapping_sub(it.0.number) >= RECENT;
    let before = *points.iter().find(is_before).unwrap_or(&first);
    let of = |first: Point| {
        let mut loss = compare(first, latest, skew.into());
        if far.is_none() {
            // What it has dropped is in what "the other one" has.
            let beyond = matches!(measured, Measured::Once(_)).then_some(0);
            loss.in_source = loss.in_destination;
            (loss.between, loss.in_destination) = (beyond, beyond);
        }
        loss
    };
    Some(Located {
        all: of(first),
        recent: of(before),
    })
}

/// What both know, the latest first.
fn common(near: &MediaQuality, far: &MediaQuality) -> Vec<Point> {
    if near.ssrc != far.ssrc {
        return Vec::new();
    }
    let in_far = |one: &QualityCheckpoint| {
        let mut all = far.checkpoints.iter();
        all.find(|it| low(it.number) == low(one.number)).copied()
    };
    let near = near.checkpoints.iter();
    near.filter_map(|near| Some((*near, in_far(near)?)))
        .collect()
}

/// What became of the numbers from one point to another. As many as `skew` may have been lost before the
/// source's router that the destination's knows nothing of.
fn compare(from: Point, to: Point, skew: u32) -> LocatedLoss {
    let [near, far] = [(from.0, to.0), (from.1, to.1)].map(|(from, to)| {
        let numbers = to.number.wrapping_sub(from.number);
        // No router loses more than there are, nor drops more than came to it.
        let lost = to.lost.saturating_sub(from.lost).min(numbers);
        let came = numbers - lost;
        let dropped = to.dropped.zip(from.dropped);
        Span {
            lost,
            dropped: dropped.map(|(to, from)| to.saturating_sub(from).min(came)),
        }
    });
    // More than what has come to the source's router came another way.
    let behind = match far.lost.checked_sub(near.lost) {
        None if near.lost - far.lost <= skew => Some(0),
        behind => behind,
    };
    let in_source = match behind {
        Some(0) => Some(0),
        Some(behind) => near.dropped.map(|dropped| dropped.min(behind)),
        None => None,
    };
    let between = behind
        .zip(in_source)
        .map(|(behind, in_source)| behind - in_source);
    LocatedLoss {
        packets: to.0.number.wrapping_sub(from.0.number).into(),
        end: to.0.number,
        before_source: Some(near.lost.into()),
        in_source: in_source.map(Into::into),
        between: between.map(Into::into),
        in_destination: far.dropped.map(Into::into),
        ..LocatedLoss::default()
    }
}

#[derive(Clone, Copy, Debug)]
struct Span {
    lost: u32,
    dropped: Option<u32>,
}

/// RTP's part of a number that a router has extended from a start of its own.
#[allow(clippy::cast_possible_truncation, reason = "RTP has 16 bits of it")]
pub(super) fn low(number: u32) -> u16 {
    number as u16
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `checkpoints` are numbers, with how many before each were lost and dropped.
    pub(in super::super) fn measured(
        first: u32,
        checkpoints: &[(u32, u32, Option<u32>)],
    ) -> MediaQuality {
        let checkpoint = |&(number, lost, dropped)| QualityCheckpoint {
            number,
            lost,
            dropped,
        };
        MediaQuality {
            ssrc: 1,
            first_number: Some(first),
            checkpoints: checkpoints.iter().map(checkpoint).collect(),
            ..MediaQuality::default()
        }
    }

    fn located(near: &MediaQuality, far: &MediaQuality) -> [LocatedLoss; 2] {
        let located = locate(Measured::Twice(near, Some(far))).unwrap();
        [located.all, located.recent]
    }

    fn counts(loss: LocatedLoss) -> [Option<u64>; 5] {
        [
            Some(loss.packets),
            loss.before_source,
            loss.in_source,
            loss.between,
            loss.in_destination,
        ]
    }

    #[test]
    fn loss_is_told_where_it_is() {
        let a = measured(128_000, &[(131_072, 30, Some(0)), (131_008, 29, Some(0))]);
        let b = measured(62_464, &[(65_472, 40, Some(2)), (65_408, 38, Some(2))]);
        let between = [Some(3_008), Some(29), Some(0), Some(11), Some(2)];
        assert_eq!(
            located(&a, &b).map(counts),
            [between; 2],
            "131,008 is 65,472"
        );
        let policed = measured(128_000, &[(131_008, 29, Some(9))]);
        let [loss, _] = located(&policed, &b);
        assert_eq!((loss.in_source, loss.between), (Some(9), Some(2)));
        let spread = measured(128_000, &[(131_008, 29, None)]);
        let [unknown, _] = located(&spread, &b);
        assert_eq!((unknown.in_source, unknown.between), (None, None));
        let clean = measured(62_464, &[(65_472, 29, Some(0))]);
        let [clean, _] = located(&spread, &clean);
        assert_eq!((clean.in_source, clean.between), (Some(0), Some(0)));
        let more = measured(62_464, &[(65_472, 7, Some(0))]);
        let [more, _] = located(&a, &more);
        assert_eq!((more.in_source, more.between), (None, None), "another way");
        let other = MediaQuality {
            ssrc: 2,
            ..b.clone()
        };
        let [alone, _] = located(&a, &other);
        assert_eq!((alone.packets, alone.before_source), (3_072, Some(30)));
        assert_eq!((alone.in_source, alone.between), (Some(0), None));
        let once = locate(Measured::Once(&policed)).unwrap().all;
        assert_eq!(
            counts(once),
            [Some(3_008), Some(29), Some(9), Some(0), Some(0)]
        );
        assert_eq!(locate(Measured::Once(&measured(1, &[]))), None);
    }

    #[test]
    fn no_router_drops_more_than_came_to_it() {
        let near = measured(128_000, &[(131_008, 8, Some(150_000))]);
        let far = measured(62_464, &[(65_472, 3_008, Some(9))]);
        let [both, _] = located(&near, &far);
        assert_eq!(
            counts(both),
            [Some(3_008), Some(8), Some(3_000), Some(0), Some(0)]
        );
        let once = locate(Measured::Once(&near)).unwrap().all;
        assert_eq!(once.in_source, Some(3_000));
    }

    #[test]
    fn recent_loss_is_of_the_last_numbers_only() {
        let numbers = [2_560, 2_496, 2_432, 2_368, 2_304, 2_240];
        let near = numbers.map(|number| (number, 100, Some(50)));
        let far = numbers.map(|number| (number, 150 + (number - 2_240) / 64, Some(0)));
        let [all, recent] = located(&measured(10, &near), &measured(10, &far));
        assert_eq!(
            counts(all),
            [Some(2_550), Some(100), Some(50), Some(5), Some(0)]
        );
        assert_eq!(
            counts(recent),
            [Some(256), Some(0), Some(0), Some(4), Some(0)]
        );
        // A router that began later has not seen the loss before.
        let [all, _] = located(&measured(10, &near), &measured(1_000, &far));
        assert_eq!(counts(all), [Some(320), Some(0), Some(0), Some(5), Some(0)]);
        // The first packets were lost on the way to it.
        let [all, _] = located(
            &measured(10, &[(128, 3, Some(0))]),
            &measured(20, &[(128, 1, Some(0))]),
        );
        assert_eq!(counts(all), [Some(118), Some(3), Some(0), Some(0), Some(0)]);
    }
}
