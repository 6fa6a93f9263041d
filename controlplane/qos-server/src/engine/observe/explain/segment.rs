use super::LocatedLoss;

/// A part of a flow's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`LocatedLoss` says what each is")]
pub enum Segment {
    Before,
    InSource,
    Between,
    InDestination,
    After,
}

impl Segment {
    /// In the order in which a packet passes them.
    pub const ALL: [Self; 5] = [
        Self::Before,
        Self::InSource,
        Self::Between,
        Self::InDestination,
        Self::After,
    ];
}

impl LocatedLoss {
    /// So many packets less may be told of than before, when a report is not settled or came late.
    const LESS: u64 = 1_024;

    /// How many packets were lost in a segment.
    pub fn lost(&self, segment: Segment) -> Option<u64> {
        match segment {
            Segment::Before => self.before_source,
            Segment::InSource => self.in_source,
            Segment::Between => self.between,
            Segment::InDestination => self.in_destination,
            Segment::After => self.after_destination,
        }
    }

    /// Of how many packets that is.
    pub fn packets_of(&self, segment: Segment) -> u64 {
        match segment {
            Segment::After => self.reported_packets,
            _ => self.packets,
        }
    }

    fn end_of(&self, segment: Segment) -> u32 {
        match segment {
            Segment::After => self.reported_end,
            _ => self.end,
        }
    }

    /// With what was told before, where less is now: a router may not have answered, and what a receiver has
    /// lost is told as at least so much.
    pub(in crate::engine) fn at_least(mut self, before: Option<Self>) -> Self {
        let Some(before) = before else { return self };
        if self.goes_on(&before, Segment::Between) {
            self.before_source = self.before_source.max(before.before_source);
            self.in_source = self.in_source.max(before.in_source);
            self.between = self.between.max(before.between);
            self.in_destination = self.in_destination.max(before.in_destination);
        }
        if self.after_destination.is_none() || self.goes_on(&before, Segment::After) {
            self.after_destination = self.after_destination.max(before.after_destination);
            if self.reported_packets < before.reported_packets {
                self.reported_packets = before.reported_packets;
                self.reported_end = before.reported_end;
            }
        }
        self
    }

    /// The number that the packets of a segment begin with.
    fn first_of(&self, segment: Segment) -> u32 {
        let packets = u32::try_from(self.packets_of(segment)).unwrap_or(u32::MAX);
        self.end_of(segment).wrapping_sub(packets)
    }

    /// Whether this is of the packets that `before` was of, and later ones or a few less.
    fn goes_on(&self, before: &Self, segment: Segment) -> bool {
        let [now, then] = [self, before].map(|it| it.packets_of(segment));
        self.first_of(segment) == before.first_of(segment) && now + Self::LESS >= then
    }

    /// How many more were lost in a segment than when `before` was found. Exact while both begin with the
    /// same number; else the numbers that `before` does not have get their share.
    pub fn lost_since(&self, before: &Self, segment: Segment) -> u64 {
        let lost = self.lost(segment).unwrap_or_default();
        if self.goes_on(before, segment) {
            return lost.saturating_sub(before.lost(segment).unwrap_or_default());
        }
        let (end, packets) = (self.end_of(segment), self.packets_of(segment));
        let new = u64::from(end.wrapping_sub(before.end_of(segment))).min(packets);
        (lost * new + packets / 2) / packets.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_has_said_is_not_counted_again_when_it_says_nothing_for_once() {
        let said = LocatedLoss {
            after_destination: Some(3),
            reported_packets: 100,
            reported_end: 200,
            ..LocatedLoss::default()
        };
        let silent = LocatedLoss::default().at_least(Some(said));
        assert_eq!(said.lost_since(&silent, Segment::After), 0);
        let more = LocatedLoss {
            after_destination: Some(5),
            reported_packets: 150,
            reported_end: 250,
            ..LocatedLoss::default()
        };
        assert_eq!(
            more.at_least(Some(said))
                .lost_since(&silent, Segment::After),
            2
        );
    }

    #[test]
    fn what_is_told_as_less_for_once_is_not_counted_again() {
        let told = |lost, reported_packets| LocatedLoss {
            after_destination: lost,
            reported_packets,
            reported_end: 70_000 + u32::try_from(reported_packets).unwrap(),
            between: lost,
            packets: 1_000 + reported_packets,
            end: 80_000 + u32::try_from(reported_packets).unwrap(),
            ..LocatedLoss::default()
        };
        let looks = [
            (Some(20), 300),
            (Some(0), 400),
            (Some(20), 500),
            (Some(21), 450),
        ];
        let looks = looks.into_iter().chain([(None, 600), (Some(25), 700)]);
        let mut total = None;
        let mut counted = [20, 20];
        for (lost, packets) in looks {
            let now = told(lost, packets);
            if let Some(before) = &total {
                for (sum, segment) in counted.iter_mut().zip([Segment::Between, Segment::After]) {
                    *sum += now.lost_since(before, segment);
                }
            }
            total = Some(now.at_least(total));
        }
        assert_eq!(counted, [25, 25]);
    }

    fn loss(end: u32, packets: u64, lost: u64) -> LocatedLoss {
        LocatedLoss {
            end,
            packets,
            between: Some(lost),
            ..LocatedLoss::default()
        }
    }

    #[test]
    fn what_is_lost_since_is_exact_from_one_start() {
        let more = |now: LocatedLoss, then: LocatedLoss| now.lost_since(&then, Segment::Between);
        let then = loss(65_856, 320, 7);
        assert_eq!(more(loss(66_176, 640, 12), then), 5);
        assert_eq!(more(loss(66_176, 640, 6), then), 0, "never less than none");
        assert_eq!(more(then, then), 0);
        // The window moves on by 64 of 320 numbers.
        assert_eq!(more(loss(65_920, 320, 10), then), 2);
        assert_eq!(more(loss(65_920, 320, 0), then), 0);
        // All are new: a stream of other numbers, and none was compared before.
        assert_eq!(more(loss(90_000, 128, 3), then), 3);
        assert_eq!(more(loss(600, 128, 3), then), 3);
        assert_eq!(more(then, LocatedLoss::default()), 7);
        // Numbers begin anew.
        let last = loss(u32::MAX - 63, 128, 2);
        assert_eq!(more(loss(64, 256, 4), last), 2);
    }

    #[test]
    fn what_receivers_say_has_numbers_of_its_own() {
        let said = |reported_end, reported_packets, lost| LocatedLoss {
            reported_end,
            reported_packets,
            after_destination: Some(lost),
            ..loss(1_000, 900, 50)
        };
        let more = said(1_250, 500, 10).lost_since(&said(1_000, 500, 30), Segment::After);
        assert_eq!(more, 5);
    }
}
