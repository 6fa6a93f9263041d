//! Where a flow's RTP was lost: both routers of it tell what came up to the same packets. RTP's sequence
//! number says which these are; it is the marking that RFC 9341 asks for.

use serde::Serialize;
use voicelane_proto::v1::{MediaQuality, QualityCheckpoint, ReceiverReport};

/// Of so many numbers, at least, the recent loss is: five seconds of most calls.
const RECENT: u32 = 256;
/// From one checkpoint of a router to the next.
const BLOCK: u32 = 64;
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

/// What a receiver has lost that had gone on from the destination's router.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostAfter {
    /// Since the first report that was ever compared.
    pub(super) all: Lost,
    /// By its last few reports.
    pub(super) recent: Lost,
    /// What later reports are compared with.
    pub(super) first: Reported,
}

/// So many packets of numbers, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) lost: u64,
    pub(super) packets: u64,
    /// The number after these.
    pub(super) end: u32,
}

/// What did not come to a receiver by one of its reports, and what had not gone on to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Reported {
    ssrc: u32,
    /// Of the stream, as the router extends it.
    first_number: u32,
    /// The number after those that the report is of.
    end: u32,
    lost: i64,
    /// At least, and at most.
    gone: [i64; 2],
}

impl Reported {
    /// Whether both are of one stream, and this one is not later.
    fn is_of_one_with(&self, later: &Self) -> bool {
        let are_of_one = (self.ssrc, self.first_number) == (later.ssrc, later.first_number);
        are_of_one && later.end.wrapping_sub(self.end).cast_signed() >= 0
    }

    /// From here to a later report, at least; `None`: what they say cannot be.
    fn to(&self, later: &Self) -> Option<Lost> {
        let packets = later.end.wrapping_sub(self.end);
        let lost = later.lost - self.lost - (later.gone[1] - self.gone[0]);
        let told = Lost {
            lost: u64::try_from(lost).unwrap_or(0),
            packets: packets.into(),
            end: later.end,
        };
        (told.lost <= told.packets).then_some(told)
    }

    /// Whether a receiver that has lost so many after a later report than this can have lost no more from here
    /// on: else it began anew, and counts from another start.
    fn may_have_lost(&self, later: &Self, lost: u64) -> bool {
        let most = later.lost - self.lost - (later.gone[0] - self.gone[1]);
        u64::try_from(most).unwrap_or(0) >= lost
    }
}

/// What a receiver has lost after the destination's router; `None`: not known. A receiver counts from its
/// own start, and a router from when it began to measure: so two reports are compared where there are two
/// that are apart. `first` is what an earlier look has told.
pub(super) fn after(
    measured: &MediaQuality,
    reports: impl Iterator<Item = ReceiverReport>,
    first: Option<Reported>,
) -> Option<LostAfter> {
    let reports = reports.filter(|it| it.ssrc == measured.ssrc);
    let told = reports.filter_map(|it| Told::new(&it, measured));
    let told: Vec<Told<'_>> = told.collect();
    let latest = told.first()?;
    let first_number = measured.first_number?;
    let reported = |it: &Told<'_>| {
        let before = it.before.map_or(Some(0), gone)?;
        Some(Reported {
            ssrc: measured.ssrc,
            first_number,
            end: it.end,
            lost: it.lost,
            gone: [before, gone(it.beyond)?],
        })
    };
    let earliest = told.iter().rev().find(|it| {
        let packets = latest.end.wrapping_sub(it.end);
        packets.cast_signed() >= BLOCK.cast_signed() && it.before.is_some()
    });
    let earliest = earliest.and_then(reported);
    let latest = reported(latest)?;
    let from_start = Reported {
        end: first_number,
        lost: 0,
        gone: [0; 2],
        ..latest
    };
    let first = first.filter(|it| it.is_of_one_with(&latest));
    let recent = earliest.or(first).unwrap_or(from_start).to(&latest)?;
    let first = first.filter(|it| it.may_have_lost(&latest, recent.lost));
    let all = first.and_then(|it| it.to(&latest));
    Some(LostAfter {
        all: all.unwrap_or(recent),
        recent,
        first: all.and(first).or(earliest).unwrap_or(latest),
    })
}

/// A receiver's report, and what the router knows up to the number that it is of.
struct Told<'a> {
    lost: i64,
    /// The number after the highest one that came, extended as the router extends it.
    end: u32,
    /// The latest checkpoint up to there.
    before: Option<&'a QualityCheckpoint>,
    /// The earliest one from there on: what was lost up to the number itself is not known.
    beyond: &'a QualityCheckpoint,
}

impl<'a> Told<'a> {
    /// `None`: the router has not seen that number, does not know any more what was lost up to it, or
    /// packets before it may still come.
    fn new(report: &ReceiverReport, measured: &'a MediaQuality) -> Option<Self> {
        let end = low(report.highest_number).wrapping_add(1);
        let is_beyond =
            |it: &&QualityCheckpoint| low(it.number).wrapping_sub(end).cast_signed() >= 0;
        // The latest ones are first.
        let checkpoints = measured.checkpoints.iter();
        let beyond = checkpoints.clone().take_while(is_beyond).last()?;
        let short = u32::from(low(beyond.number).wrapping_sub(end));
        let end = beyond.number.wrapping_sub(short);
        let packets = end.wrapping_sub(measured.first_number?);
        let is_up_to = |it: &&QualityCheckpoint| end.wrapping_sub(it.number).cast_signed() >= 0;
        let told = Self {
            lost: report.lost.into(),
            end,
            before: checkpoints.clone().find(is_up_to),
            beyond,
        };
        (short < BLOCK && packets.cast_signed() > 0).then_some(told)
    }
}

/// How many numbers up to a checkpoint have not gone on from the router.
fn gone(at: &QualityCheckpoint) -> Option<i64> {
    Some(i64::from(at.lost) + i64::from(at.dropped?))
}

/// RTP's part of a number that a router has extended from a start of its own.
#[allow(clippy::cast_possible_truncation, reason = "RTP has 16 bits of it")]
pub(super) fn low(number: u32) -> u16 {
    number as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `checkpoints` are numbers, with how many before each were lost and dropped.
    fn measured(first: u32, checkpoints: &[(u32, u32, Option<u32>)]) -> MediaQuality {
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

    #[test]
    fn receivers_tell_what_is_lost_after_both() {
        let numbers = [66_048, 65_984, 65_920];
        let b = measured(65_536, &numbers.map(|number| (number, 20, Some(1))));
        let report = |ssrc, lost, highest_number| ReceiverReport {
            ssrc,
            lost,
            highest_number,
        };
        let told = |reports: &[ReceiverReport]| {
            let after = after(&b, reports.iter().copied(), None);
            after.map(|it| (it.all.lost, it.all.packets))
        };
        assert_eq!(told(&[report(1, 30, 400)]), Some((9, 401)));
        assert_eq!(told(&[report(1, 21, 400)]), Some((0, 401)));
        assert_eq!(told(&[report(1, -2, 400)]), Some((0, 401)), "duplicates");
        assert_eq!(told(&[report(7, 30, 400)]), None, "another stream's");
        assert_eq!(told(&[report(1, 30, 600)]), None, "not settled");
        assert_eq!(
            told(&[report(1, 33, 600), report(1, 30, 400)]),
            Some((9, 401))
        );
        assert_eq!(told(&[]), None);
    }

    /// As after a restart of the router: the receiver has lost 500 before.
    #[test]
    fn two_reports_tell_what_is_lost_between_them() {
        let checkpoints = [
            (66_048, 30, Some(4)),
            (65_984, 25, Some(2)),
            (65_920, 20, Some(1)),
        ];
        let b = measured(65_536, &checkpoints);
        let report = |lost, highest_number| ReceiverReport {
            ssrc: 1,
            lost,
            highest_number,
        };
        let told = |reports: &[ReceiverReport]| {
            let after = after(&b, reports.iter().copied(), None);
            after.map(|it| (it.all.lost, it.all.packets))
        };
        let (late, early) = (report(560, 500), report(510, 390));
        assert_eq!(told(&[late, early]), Some((50 - 13, 110)));
        assert_eq!(
            told(&[late, report(555, 480), early]),
            Some((50 - 13, 110)),
            "the first and the last"
        );
        assert_eq!(told(&[late]), None, "more than all");
        let more = report(10_000, 500);
        assert_eq!(told(&[more, early]), None, "more than all between");
        assert_eq!(told(&[report(30, 100)]), None, "too long ago");
        let unseen = measured(65_650, &[(65_664, 0, Some(0))]);
        let before = [report(3, 100)].into_iter();
        assert!(
            after(&unseen, before, None).is_none(),
            "before the router began"
        );
    }
    #[test]
    fn later_reports_are_compared_with_the_first_one() {
        let b = |last: u32, gone: u32| {
            let numbers = [last, last - 64, last - 128, last - 192];
            measured(65_536, &numbers.map(|number| (number, gone, Some(0))))
        };
        let report = |lost, highest_number| ReceiverReport {
            ssrc: 1,
            lost,
            highest_number,
        };
        let told = |b: &MediaQuality, reports: [ReceiverReport; 2], first| {
            after(b, reports.into_iter(), first).unwrap()
        };
        // It had lost 500 when the router began.
        let begun = told(&b(66_048, 20), [report(510, 500), report(506, 400)], None);
        assert_eq!((begun.all.lost, begun.all.packets), (4, 100));
        let later = b(75_776, 120);
        let reports = [report(780, 10_200), report(775, 10_100)];
        let all = told(&later, reports, Some(begun.first));
        assert_eq!((all.all.lost, all.all.packets), (274 - 100, 9_800));
        assert_eq!((all.recent.lost, all.recent.packets), (5, 100));
        assert_eq!(all.first, begun.first);
        // It is another receiver's now, which counts from a start of its own.
        let reports = [report(9, 10_200), report(2, 10_100)];
        let anew = told(&later, reports, Some(begun.first));
        assert_eq!(anew.all, anew.recent);
        assert_ne!(anew.first, begun.first);
        // The router has begun anew.
        let later = MediaQuality {
            first_number: Some(70_000),
            ..later
        };
        let reports = [report(780, 10_200), report(775, 10_100)];
        let anew = told(&later, reports, Some(begun.first));
        assert_eq!((anew.all.lost, anew.all.packets), (5, 100));
    }

    /// The others are not settled, or too old.
    #[test]
    fn a_report_that_is_alone_is_compared_with_an_earlier_one() {
        let b = |last: u32| measured(65_536, &[(last, 0, Some(0)), (last - 64, 0, Some(0))]);
        let report = |lost, highest_number| ReceiverReport {
            ssrc: 1,
            lost,
            highest_number,
        };
        let told = |last: u32, said, first| after(&b(last), [said].into_iter(), first).unwrap();
        let begun = told(66_048, report(3, 500), None);
        assert_eq!(
            (begun.all.lost, begun.all.packets),
            (3, 501),
            "from the start"
        );
        let later = told(67_072, report(13, 1_500), Some(begun.first));
        assert_eq!((later.all.lost, later.all.packets), (10, 1_000));
        assert_eq!(later.recent, later.all);
        assert_eq!(later.first, begun.first);
    }
}
