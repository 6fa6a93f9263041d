/// What a UDP payload on a media flow's five-tuple is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rtp,
    Rtcp,
    Stun,
    Dtls,
    /// T.38, keep-alives, what is too short.
    Other,
}

impl Kind {
    /// By the first byte (RFC 7983 section 7); RTCP by the second (RFC 5761 section 4); STUN by its
    /// cookie, too (RFC 8489 section 6.3).
    pub(super) fn of(payload: &[u8]) -> Self {
        match payload {
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, ..] if payload.len() >= Rtp::LENGTH => Self::Rtp,
            [0..=3, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            _ => Self::Other,
        }
    }
}

/// What counts of an RTP packet's fixed header (RFC 3550 section 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rtp {
    pub(super) marker: bool,
    /// 0 to 127.
    pub(super) payload_type: u8,
    pub(super) number: u16,
    /// Timestamp and SSRC, as they stand one behind the other.
    pub(super) sent: u64,
}

impl Rtp {
    /// Bytes of the fixed header.
    pub(super) const LENGTH: usize = 12;

    pub(super) fn new(header: &[u8; Self::LENGTH]) -> Self {
        let [_, kind, a, b, sent @ ..] = *header;
        Self {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7f,
            number: u16::from_be_bytes([a, b]),
            sent: u64::from_be_bytes(sent),
        }
    }

    /// Who sends the stream.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    pub(super) fn ssrc(&self) -> u32 {
        self.sent as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_on_one_port_are_told_apart() {
        let of = |start: &[u8]| {
            let mut payload = [0xa5; 20];
            payload[..start.len()].copy_from_slice(start);
            Kind::of(&payload)
        };
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let expected = match (first, second) {
                    (128..=191, 192..=223) => Kind::Rtcp,
                    (128..=191, _) => Kind::Rtp,
                    (20..=63, _) => Kind::Dtls,
                    _ => Kind::Other,
                };
                assert_eq!(of(&[first, second]), expected, "{first} {second}");
            }
        }
        let stun = [1, 1, 0, 44, 0x21, 0x12, 0xa4, 0x42];
        assert_eq!(of(&stun), Kind::Stun);
        assert_eq!(of(&[4, 1, 0, 44, 0x21, 0x12, 0xa4, 0x42]), Kind::Other);
        assert_eq!(Kind::of(&stun[..7]), Kind::Other);
        assert_eq!(Kind::of(&[]), Kind::Other);
        assert_eq!(Kind::of(&[0x80; 11]), Kind::Other, "no whole header");
        assert_eq!(Kind::of(&[0x80; 12]), Kind::Rtp);
        assert_eq!(Kind::of(&[0x80, 200]), Kind::Rtcp);
    }
}
