//! What a receiver has lost after the destination's router, by its reports in RTCP (RFC 3550 section 6.4.1).

use voicelane_proto::v1::{MediaQuality, QualityCheckpoint, ReceiverReport};

use super::loss::low;

/// From one checkpoint of a router to the next.
const BLOCK: u32 = 64;

/// By so many a receiver's count may shrink, as copies of packets come.
const COPIES: i64 = 16;

/// What a receiver has lost that had gone on from the destination's router.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostAfter {
    /// Since the first report that was ever compared; `None`: it is the only one.
    pub(super) all: Option<Lost>,
    /// By its last few reports.
    pub(super) recent: Option<Lost>,
    /// What later reports are compared with.
    pub(super) known: Option<Known>,
}

/// So many packets of numbers, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Lost {
    pub(super) lost: u64,
    pub(super) packets: u64,
    /// The number after these.
    pub(super) end: u32,
}

impl Lost {
    /// Whether it is of late: reports that are rare are not always there.
    fn is_of_late(&self, number: u32) -> bool {
        u64::from(number.wrapping_sub(self.end)) <= 2 * self.packets
    }
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
        are_of_one && !later.is_before(self)
    }

    fn is_before(&self, other: &Self) -> bool {
        other.end.wrapping_sub(self.end).cast_signed() > 0
    }

    /// Whether a report is of so many more numbers that the two can be compared.
    fn is_blocks_before(&self, later: &Self) -> bool {
        later.end.wrapping_sub(self.end).cast_signed() >= BLOCK.cast_signed()
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

/// Reports of a receiver that earlier looks have found, each [`BLOCK`] numbers from the next at least, and what
/// they have told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Known {
    first: Reported,
    /// The one before the last.
    before: Option<Reported>,
    last: Reported,
    /// In all, and lately.
    told: Option<(Lost, Lost)>,
}

impl Known {
    fn of(first: Reported) -> Self {
        Self {
            first,
            before: None,
            last: first,
            told: None,
        }
    }

    /// Whether a later report is of the same receiver: else it counts from another start.
    fn goes_on_with(&self, latest: &Reported) -> bool {
        let has_begun_anew = !latest.is_before(&self.last) && latest.lost + COPIES < self.last.lost;
        self.first.is_of_one_with(latest) && !has_begun_anew
    }

    /// The latest one that a later report can be compared with.
    fn previous(&self, latest: &Reported) -> Option<Reported> {
        let known = [Some(self.last), self.before, Some(self.first)];
        let mut known = known.into_iter().flatten();
        known.find(|it| it.is_blocks_before(latest))
    }

    fn with(self, latest: Reported) -> Self {
        if !self.last.is_blocks_before(&latest) {
            return self;
        }
        Self {
            before: Some(self.last),
            last: latest,
            ..self
        }
    }

    /// What was told before, while no report can be compared.
    fn again(self, measured: &MediaQuality) -> Option<LostAfter> {
        let now = measured.checkpoints.first()?.number;
        let is_it = (self.first.ssrc, Some(self.first.first_number))
            == (measured.ssrc, measured.first_number);
        let (all, recent) = self.told.filter(|_| is_it)?;
        Some(LostAfter {
            all: Some(all),
            recent: Some(recent).filter(|it| it.is_of_late(now)),
            known: Some(self),
        })
    }
}

/// What a receiver has lost after the destination's router; `None`: not known. A receiver counts from its
/// own start, and a router from when it began to measure: so only reports that are apart tell something. The
/// `known` ones are what an earlier look has found.
pub(super) fn after(
    measured: &MediaQuality,
    reports: impl Iterator<Item = ReceiverReport>,
    known: Option<Known>,
) -> Option<LostAfter> {
    let reports = reports.filter(|it| it.ssrc == measured.ssrc);
    let told = reports.filter_map(|it| Told::new(&it, measured));
    let told: Vec<Told<'_>> = told.collect();
    let Some(newest) = told.first() else {
        return known?.again(measured);
    };
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
    let latest = reported(newest)?;
    // Of others it is not known what had gone on up to them, at most: nothing is compared with them later.
    let is_exact = |it: &Told<'_>| it.before.is_some();
    let exact = is_exact(newest).then_some(latest);
    let earlier = told.iter().rev().filter(|it| is_exact(it));
    let earliest = earlier
        .filter_map(reported)
        .find(|it| it.is_blocks_before(&latest));
    let known = known.filter(|it| it.goes_on_with(&latest));
    let previous = earliest.or(known.and_then(|it| it.previous(&latest)));
    let recent = previous.and_then(|it| it.to(&latest));
    if previous.is_some() && recent.is_none() {
        return Some(LostAfter {
            all: None,
            recent: None,
            known: exact.map(Known::of),
        });
    }
    let goes_on = |it: &Known| {
        let lost = recent.map_or(0, |it| it.lost);
        it.first.may_have_lost(&latest, lost) && it.first.to(&latest).is_some()
    };
    let known = known.filter(goes_on);
    let all = recent.and_then(|recent| known.map_or(Some(recent), |it| it.first.to(&latest)));
    let known = known.or(previous.or(exact).map(Known::of)).map(|it| Known {
        told: all.zip(recent).or(it.told),
        ..exact.map_or(it, |latest| it.with(latest))
    });
    Some(LostAfter { all, recent, known })
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

#[cfg(test)]
mod tests {
    use super::{super::loss::tests::measured, *};

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
            let all = after(&b, reports.iter().copied(), None)?.all?;
            Some((all.lost, all.packets))
        };
        let early = report(1, 21, 390);
        assert_eq!(told(&[report(1, 30, 460), early]), Some((9, 70)));
        assert_eq!(told(&[report(1, 21, 460), early]), Some((0, 70)));
        assert_eq!(
            told(&[report(1, -2, 460), early]),
            Some((0, 70)),
            "duplicates"
        );
        let not_settled = report(1, 33, 600);
        assert_eq!(
            told(&[not_settled, report(1, 30, 460), early]),
            Some((9, 70))
        );
        assert_eq!(told(&[not_settled, early]), None);
        assert_eq!(told(&[report(7, 30, 460), early]), None, "another stream's");
        assert_eq!(told(&[early]), None, "it may have begun before the router");
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
            let all = after(&b, reports.iter().copied(), None)?.all?;
            Some((all.lost, all.packets))
        };
        let (late, early) = (report(560, 500), report(510, 390));
        assert_eq!(told(&[late, early]), Some((50 - 13, 110)));
        assert_eq!(
            told(&[late, report(555, 480), early]),
            Some((50 - 13, 110)),
            "the first and the last"
        );
        assert_eq!(told(&[late]), None, "alone");
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
        assert_eq!(begun.all, begun.recent);
        assert_eq!(figures(begun.all), (4, 100));
        let later = b(75_776, 120);
        let reports = [report(780, 10_200), report(775, 10_100)];
        let all = told(&later, reports, begun.known);
        assert_eq!(figures(all.all), (274 - 100, 9_800));
        assert_eq!(figures(all.recent), (5, 100));
        // It is another receiver's now, which counts from a start of its own.
        let reports = [report(9, 10_200), report(2, 10_100)];
        let anew = told(&later, reports, begun.known);
        assert_eq!(figures(anew.all), (7, 100));
        assert_eq!(anew.known, told(&later, reports, None).known);
        // The router has begun anew.
        let later = MediaQuality {
            first_number: Some(70_000),
            ..later
        };
        let reports = [report(780, 10_200), report(775, 10_100)];
        let anew = told(&later, reports, begun.known);
        assert_eq!(figures(anew.all), (5, 100));
    }

    /// The others are not settled, or too old.
    #[test]
    fn a_report_that_is_alone_is_compared_with_those_of_earlier_looks() {
        let b = |last: u32| measured(65_536, &[(last, 0, Some(0)), (last - 64, 0, Some(0))]);
        let report = |lost, highest_number| ReceiverReport {
            ssrc: 1,
            lost,
            highest_number,
        };
        let told = |last: u32, said, known| after(&b(last), [said].into_iter(), known).unwrap();
        let begun = told(66_048, report(3, 500), None);
        let again = told(66_048, report(3, 500), begun.known);
        for look in [begun, again] {
            assert_eq!((look.all, look.recent), (None, None));
            assert_eq!(look.known, begun.known);
        }
        let later = told(67_072, report(13, 1_500), again.known);
        assert_eq!(figures(later.all), (10, 1_000));
        assert_eq!(later.recent, later.all);
        let latest = told(68_096, report(33, 2_500), later.known);
        let again = told(68_096, report(33, 2_500), latest.known);
        // So few packets later that nothing is compared with it.
        let soon = told(68_096, report(33, 2_520), again.known);
        assert_eq!(figures(soon.recent), (20, 1_020));
        for look in [latest, again] {
            assert_eq!(figures(look.all), (30, 2_000));
            assert_eq!(figures(look.recent), (20, 1_000));
        }
        assert_eq!(latest.known, again.known);
        // None is settled: what was told stays for a while.
        let unsettled = |number| told(number, report(33, 3_000), again.known);
        assert_eq!(figures(unsettled(68_096).recent), (20, 1_000));
        let late = unsettled(70_144);
        assert_eq!((late.recent, figures(late.all)), (None, (30, 2_000)));
        assert_eq!(late.known, again.known);
        let old = told(66_048, report(3, 430), None);
        assert_eq!(old.known, None, "of what went on up to it little is known");
    }

    #[test]
    fn what_cannot_be_is_no_start() {
        let b = |last: u32, gone: u32| {
            let numbers = [last, last - 64];
            measured(65_536, &numbers.map(|number| (number, gone, Some(0))))
        };
        let report = |lost, highest_number| ReceiverReport {
            ssrc: 1,
            lost,
            highest_number,
        };
        let told = |last: u32, gone, said, known| {
            let reports = [said].into_iter();
            after(&b(last, gone), reports, known).unwrap()
        };
        let begun = told(66_048, 0, report(0, 500), None);
        let lossy = told(67_072, 0, report(500, 1_500), begun.known);
        assert_eq!(figures(lossy.all), (500, 1_000));
        // Another receiver, which has lost nothing yet, then three.
        let anew = told(68_096, 0, report(0, 2_500), lossy.known);
        assert_eq!((anew.all, anew.recent), (None, None));
        let later = told(69_120, 0, report(3, 3_500), anew.known);
        assert_eq!(figures(later.all), (3, 1_000));
        // Another one, which takes what came before it for lost.
        let impossible = told(68_096, 0, report(5_000, 2_500), lossy.known);
        assert_eq!((impossible.all, impossible.recent), (None, None));
        let later = told(69_120, 0, report(5_002, 3_500), impossible.known);
        assert_eq!(figures(later.all), (2, 1_000));
        // Up to which it is not known what had gone on: 900 had not.
        let vague = told(67_072, 900, report(905, 1_440), begun.known);
        assert_eq!(figures(vague.all), (5, 940));
        let later = told(68_096, 900, report(950, 2_500), vague.known);
        assert_eq!(figures(later.recent), (50, 2_000));
    }

    fn figures(lost: Option<Lost>) -> (u64, u64) {
        let lost = lost.unwrap();
        (lost.lost, lost.packets)
    }
}
