//! What a receiver has lost after the destination's router, by its reports in RTCP (RFC 3550 section 6.4.1).

use voicelane_proto::v1::{MediaQuality, QualityCheckpoint, ReceiverReport};

use super::loss::low;

/// From one checkpoint of a router to the next.
const BLOCK: u32 = 64;

/// What a receiver has lost that had gone on from the destination's router.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostAfter {
    /// Since the first report that was ever compared.
    pub(super) all: Lost,
    /// By its last few reports.
    pub(super) recent: Lost,
    /// What later reports are compared with.
    pub(super) first: Option<Reported>,
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
    // Else it is not known what had gone on up to it, at most.
    let is_known = latest.before.is_some();
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
        first: all.and(first).or(earliest).or(is_known.then_some(latest)),
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
        let all = told(&later, reports, begun.first);
        assert_eq!((all.all.lost, all.all.packets), (274 - 100, 9_800));
        assert_eq!((all.recent.lost, all.recent.packets), (5, 100));
        assert_eq!(all.first, begun.first);
        // It is another receiver's now, which counts from a start of its own.
        let reports = [report(9, 10_200), report(2, 10_100)];
        let anew = told(&later, reports, begun.first);
        assert_eq!(anew.all, anew.recent);
        assert_ne!(anew.first, begun.first);
        // The router has begun anew.
        let later = MediaQuality {
            first_number: Some(70_000),
            ..later
        };
        let reports = [report(780, 10_200), report(775, 10_100)];
        let anew = told(&later, reports, begun.first);
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
        let later = told(67_072, report(13, 1_500), begun.first);
        assert_eq!((later.all.lost, later.all.packets), (10, 1_000));
        assert_eq!(later.recent, later.all);
        assert_eq!(later.first, begun.first);
        let old = told(66_048, report(3, 430), None);
        assert_eq!(old.first, None, "of what went on up to it little is known");
    }
}
