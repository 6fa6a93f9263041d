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

    /// With what was known of the receiver before, where nothing is now.
    pub(in crate::engine) fn or_as_reported(mut self, before: Option<Self>) -> Self {
        if let (None, Some(before)) = (self.after_destination, before) {
            self.after_destination = before.after_destination;
            self.reported_packets = before.reported_packets;
            self.reported_end = before.reported_end;
        }
        self
    }

    /// How many more were lost in a segment than when `before` was found. Exact while both begin with the
    /// same number; else the numbers that `before` does not have get their share.
    pub fn lost_since(&self, before: &Self, segment: Segment) -> u64 {
        let lost = self.lost(segment).unwrap_or_default();
        let [now, then] = [self, before].map(|it| (it.end_of(segment), it.packets_of(segment)));
        let narrow = |packets| u32::try_from(packets).unwrap_or(u32::MAX);
        let first = |(end, packets): (u32, u64)| end.wrapping_sub(narrow(packets));
        if now.1 >= then.1 && first(now) == first(then) {
            return lost.saturating_sub(before.lost(segment).unwrap_or_default());
        }
        let (end, packets) = now;
        let new = u64::from(end.wrapping_sub(then.0)).min(packets);
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
        let silent = LocatedLoss::default().or_as_reported(Some(said));
        assert_eq!(said.lost_since(&silent, Segment::After), 0);
        let more = LocatedLoss {
            after_destination: Some(5),
            reported_packets: 150,
            reported_end: 250,
            ..LocatedLoss::default()
        };
        assert_eq!(
            more.or_as_reported(Some(said))
                .lost_since(&silent, Segment::After),
            2
        );
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
