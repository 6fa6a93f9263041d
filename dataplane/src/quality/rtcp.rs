use super::stream::is_before;

/// What a receiver says of a stream (RFC 3550 section 6.4.1). Nobody vouches for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverReport {
    /// Of the stream's sender.
    pub ssrc: u32,
    /// Packets expected less those received, duplicates too: 24 bits with a sign.
    pub lost: i32,
    /// The highest number that came; its last 16 bits are RTP's.
    pub highest: u32,
}

impl ReceiverReport {
    const SENDER_REPORT: u8 = 200;
    const RECEIVER_REPORT: u8 = 201;
    const LENGTH: usize = 24;

    /// The first report in a compound packet; `None` where there is none, or what is there is no RTCP.
    pub(super) fn first_in(mut compound: &[u8]) -> Option<Self> {
        while let [first, kind, high, low, ..] = *compound {
            let words = usize::from(u16::from_be_bytes([high, low]));
            let (packet, rest) = compound.split_at_checked(4 * (words + 1))?;
            let before = match kind {
                Self::SENDER_REPORT => 28,
                Self::RECEIVER_REPORT => 8,
                _ => packet.len(),
            };
            if first >> 6 != 2 {
                return None;
            }
            let block = packet.get(before..).filter(|_| first & 0x1f != 0);
            if let Some(block) = block.and_then(<[u8]>::first_chunk) {
                return Some(Self::new(block));
            }
            compound = rest;
        }
        None
    }

    fn new(block: &[u8; Self::LENGTH]) -> Self {
        let word = |at: usize| {
            let bytes = [block[at], block[at + 1], block[at + 2], block[at + 3]];
            u32::from_be_bytes(bytes)
        };
        Self {
            ssrc: word(0),
            lost: (word(4) << 8).cast_signed() >> 8,
            highest: word(8),
        }
    }
}

/// The latest report of a stream, and older ones, of which two are settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reports {
    ssrc: u32,
    /// How much was lost, and the highest number; 0 in both where there is no report.
    said: [(i32, u32); Self::LENGTH],
}

impl Reports {
    const LENGTH: usize = 4;
    /// One and the next but one are so far apart, at least: further than what is not settled.
    const APART: u32 = 192;

    pub(super) fn add(&mut self, report: ReceiverReport) {
        // A stream or its receiver that began anew has other numbers.
        let before = self.said[1];
        let goes_back = before != (0, 0) && is_before(report.highest, before.1);
        if self.ssrc != report.ssrc || goes_back {
            *self = Self::default();
            self.ssrc = report.ssrc;
        }
        let said = (report.lost, report.highest);
        let [latest, before, older, _] = self.said;
        let later = before.1.wrapping_add(Self::APART);
        if before == (0, 0) || !is_before(report.highest, later) {
            self.said = [said, latest, before, older];
        } else {
            self.said[0] = said;
        }
    }

    /// All that are kept, the latest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = ReceiverReport> {
        let kept = self.said.iter().filter(|it| **it != (0, 0));
        kept.map(|&(lost, highest)| ReceiverReport {
            ssrc: self.ssrc,
            lost,
            highest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: [u8; 24] = [
        0, 0, 0, 7, 64, 0xff, 0xff, 0xfe, 0, 2, 0x10, 0x20, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    const REPORT: ReceiverReport = ReceiverReport {
        ssrc: 7,
        lost: -2,
        highest: 0x21020,
    };

    fn packet(first: u8, kind: u8, body: &[u8]) -> Vec<u8> {
        let words = u8::try_from(body.len() / 4).unwrap();
        [&[first, kind, 0, words], body].concat()
    }

    #[test]
    fn the_first_report_of_a_compound_packet_is_read() {
        let receiver = packet(0x81, 201, &[&[0; 4], &BLOCK[..]].concat());
        let sender = packet(0x81, 200, &[&[0; 24], &BLOCK[..]].concat());
        let silent = packet(0x80, 201, &[0; 4]);
        let names = packet(0x81, 202, &[0; 12]);
        for packet in [
            receiver.clone(),
            sender,
            [silent.clone(), names, receiver.clone()].concat(),
        ] {
            assert_eq!(ReceiverReport::first_in(&packet), Some(REPORT));
        }
        assert_eq!(ReceiverReport::first_in(&silent), None);
        for length in 0..receiver.len() {
            assert_eq!(ReceiverReport::first_in(&receiver[..length]), None);
        }
        let other_version = packet(0x41, 201, &[&[0; 4], &BLOCK[..]].concat());
        assert_eq!(ReceiverReport::first_in(&other_version), None);
        // It says that it has a report, and is too short for one.
        assert_eq!(ReceiverReport::first_in(&packet(0x81, 201, &[0; 8])), None);
    }

    #[test]
    fn older_reports_are_kept_at_a_distance() {
        let mut reports = Reports::default();
        let report = |highest| ReceiverReport { highest, ..REPORT };
        let mut kept = |highest: u32| {
            reports.add(report(highest));
            reports.iter().map(|it| it.highest).collect::<Vec<_>>()
        };
        assert_eq!(kept(100), [100]);
        assert_eq!(kept(150), [150, 100]);
        assert_eq!(kept(200), [200, 100]);
        assert_eq!(kept(291), [291, 100]);
        assert_eq!(kept(292), [292, 291, 100]);
        assert_eq!(kept(400), [400, 291, 100]);
        assert_eq!(kept(700), [700, 400, 291, 100]);
        assert_eq!(kept(1_000), [1_000, 700, 400, 291]);
        assert_eq!(kept(50), [50], "of a stream that began anew");
        let other = ReceiverReport { ssrc: 8, ..REPORT };
        reports.add(other);
        assert!(reports.iter().eq([other]), "of another stream");
    }

    /// What is lost up to a number is known when some 190 later ones have come.
    #[test]
    fn two_of_the_older_ones_are_settled() {
        for apart in [25, 50, 126, 250, 300] {
            let mut reports = Reports::default();
            for it in 0..100 {
                let highest = it * apart;
                reports.add(ReceiverReport { highest, ..REPORT });
                let settled = reports.iter().filter(|it| highest - it.highest >= 200);
                let settled: Vec<u32> = settled.map(|it| it.highest).collect();
                let are_apart = |all: &[u32]| all.windows(2).all(|it| it[0] - it[1] >= 64);
                let begins = highest < 1_000;
                assert!(
                    begins || settled.len() >= 2 && are_apart(&settled),
                    "{apart} {settled:?}"
                );
            }
        }
    }
}
