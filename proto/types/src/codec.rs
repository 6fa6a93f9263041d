//! Codecs and the payload that each sends: the table that all rates come from.

/// IPv4, UDP and RTP headers, bytes a packet.
pub const IPV4_HEADERS: u32 = 40;
/// IPv6, UDP and RTP headers, bytes a packet.
pub const IPV6_HEADERS: u32 = 60;

/// A codec with a payload of fixed size, or its largest mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// As in `a=rtpmap`, compared without regard to case.
    pub name: &'static str,
    /// RTP clock, Hz, as in `a=rtpmap`.
    pub clock_hz: u32,
    /// As in `a=rtpmap`; 1 where it is left out.
    pub channels: u8,
    /// The payload type that needs no `a=rtpmap` (RFC 3551, table 4).
    pub payload_type: Option<u8>,
    /// The shortest packet, us. A packet holds a whole number of frames. Codecs that work on samples
    /// are counted in frames of 1 ms.
    pub frame_us: u32,
    /// Payload of one frame, bytes.
    pub frame_bytes: u32,
}

/// G.711 A-law; mu-law has the same rate.
pub const PCMA: Codec = codec("PCMA", 8_000, 1, Some(8), 1_000, 8);
/// G.722. Its RTP clock is 8,000 Hz by mistake (RFC 3551, section 4.5.2).
pub const G722: Codec = codec("G722", 8_000, 1, Some(9), 1_000, 8);
/// G.729 and G.729A.
pub const G729: Codec = codec("G729", 8_000, 1, Some(18), 10_000, 10);
/// AMR-WB at 23.85 kbit/s, bandwidth-efficient.
pub const AMR_WB: Codec = codec("AMR-WB", 16_000, 1, None, 20_000, 61);

/// All codecs known here, each with its highest rate.
///
/// AMR is RFC 4867's octet-aligned format at 12.2 kbit/s, AMR-WB its bandwidth-efficient format at
/// 23.85 kbit/s.
#[rustfmt::skip]
pub const CODECS: &[Codec] = &[
    //    name            clock  ch  type       frame   bytes
    codec("PCMU",         8_000, 1, Some(0),    1_000,    8),
    codec("G726-32",      8_000, 1, Some(2),    1_000,    4),
    codec("GSM",          8_000, 1, Some(3),   20_000,   33),
    codec("G723",         8_000, 1, Some(4),   30_000,   24),
    codec("DVI4",         8_000, 1, Some(5),   20_000,   84),
    codec("DVI4",        16_000, 1, Some(6),   20_000,  164),
    codec("LPC",          8_000, 1, Some(7),   20_000,   14),
    PCMA,
    G722,
    codec("L16",         44_100, 2, Some(10),  10_000, 1764),
    codec("L16",         44_100, 1, Some(11),  10_000,  882),
    codec("QCELP",        8_000, 1, Some(12),  20_000,   35),
    codec("G728",         8_000, 1, Some(15),   2_500,    5),
    codec("DVI4",        11_025, 1, Some(16),  20_000,  115),
    codec("DVI4",        22_050, 1, Some(17),  20_000,  225),
    G729,
    codec("G721",         8_000, 1, None,       1_000,    4),
    codec("G726-16",      8_000, 1, None,       1_000,    2),
    codec("G726-24",      8_000, 1, None,       1_000,    3),
    codec("G726-40",      8_000, 1, None,       1_000,    5),
    codec("AAL2-G726-16", 8_000, 1, None,       1_000,    2),
    codec("AAL2-G726-24", 8_000, 1, None,       1_000,    3),
    codec("AAL2-G726-32", 8_000, 1, None,       1_000,    4),
    codec("AAL2-G726-40", 8_000, 1, None,       1_000,    5),
    codec("G729D",        8_000, 1, None,      10_000,    8),
    codec("G729E",        8_000, 1, None,      10_000,   15),
    codec("G7221",       16_000, 1, None,      20_000,   80),
    codec("G7221",       32_000, 1, None,      20_000,  120),
    codec("GSM-EFR",      8_000, 1, None,      20_000,   31),
    codec("GSM-HR-08",    8_000, 1, None,      20_000,   14),
    codec("iLBC",         8_000, 1, None,      20_000,   38),
    codec("AMR",          8_000, 1, None,      20_000,   33),
    AMR_WB,
    codec("BV16",         8_000, 1, None,       5_000,   10),
    codec("BV32",        16_000, 1, None,       5_000,   20),
    codec("speex",        8_000, 1, None,      20_000,   62),
    codec("speex",       16_000, 1, None,      20_000,  106),
    codec("speex",       32_000, 1, None,      20_000,  110),
    codec("SILK",         8_000, 1, None,      20_000,   50),
    codec("SILK",        12_000, 1, None,      20_000,   63),
    codec("SILK",        16_000, 1, None,      20_000,   75),
    codec("SILK",        24_000, 1, None,      20_000,  100),
    codec("L16",          8_000, 1, None,       1_000,   16),
    codec("L16",         16_000, 1, None,       1_000,   32),
];

const fn codec(
    name: &'static str,
    clock_hz: u32,
    channels: u8,
    payload_type: Option<u8>,
    frame_us: u32,
    frame_bytes: u32,
) -> Codec {
    Codec {
        name,
        clock_hz,
        channels,
        payload_type,
        frame_us,
        frame_bytes,
    }
}

impl Codec {
    /// The codec of an `a=rtpmap` (RFC 8866); `None` if it is not in the table.
    pub fn named(name: &str, clock_hz: u32, channels: u8) -> Option<&'static Self> {
        CODECS.iter().find(|codec| {
            codec.name.eq_ignore_ascii_case(name)
                && codec.clock_hz == clock_hz
                && codec.channels == channels
        })
    }

    /// What a payload type means without `a=rtpmap` (RFC 3551, table 4).
    pub fn of_payload_type(payload_type: u8) -> Option<&'static Self> {
        CODECS
            .iter()
            .find(|codec| codec.payload_type == Some(payload_type))
    }

    /// How long a packet is, us: as many whole frames as fit `wanted_us`, at least one.
    pub fn packet_us(&self, wanted_us: u32) -> u32 {
        (wanted_us / self.frame_us).max(1) * self.frame_us
    }

    /// Payload of a packet of `packet_us`, bytes.
    pub fn payload_bytes(&self, packet_us: u32) -> u32 {
        packet_us / self.frame_us * self.frame_bytes
    }
}

/// Bit/s of packets of `bytes` each, one every `packet_us`; rounded up.
pub fn rate_bps(bytes: u64, packet_us: u32) -> u64 {
    (bytes * 8 * 1_000_000).div_ceil(u64::from(packet_us.max(1)))
}

/// A rate with room for a sender whose clock is fast: 1 % more. Without it a phone that is 100 ppm fast
/// fills any bucket in time, and its packets would be dropped now and then.
pub fn with_clock_room(bps: u64) -> u64 {
    bps + bps / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3551 table 4 and the rates of IPv4 packets of 20 ms.
    #[test]
    fn codecs_have_the_rates_of_the_field() {
        for (name, clock_hz, bps) in [
            ("pcma", 8_000, 80_000),
            ("PCMU", 8_000, 80_000),
            ("G722", 8_000, 80_000),
            ("G729", 8_000, 24_000),
            ("G726-32", 8_000, 48_000),
            ("G723", 8_000, 17_067),
            ("GSM", 8_000, 29_200),
            ("AMR", 8_000, 29_200),
            ("amr-wb", 16_000, 40_400),
            ("iLBC", 8_000, 31_200),
            ("G728", 8_000, 32_000),
            ("DVI4", 8_000, 49_600),
        ] {
            let codec = Codec::named(name, clock_hz, 1).expect(name);
            let packet_us = codec.packet_us(20_000);
            let bytes = codec.payload_bytes(packet_us) + IPV4_HEADERS;
            assert_eq!(rate_bps(bytes.into(), packet_us), bps, "{name}");
        }
    }

    #[test]
    fn a_fast_clock_has_one_percent_more() {
        for (bps, with_room) in [(0, 0), (99, 99), (80_000, 80_800), (1_000_099, 1_010_099)] {
            assert_eq!(with_clock_room(bps), with_room, "{bps}");
        }
    }

    #[test]
    fn payload_types_are_unique() {
        for payload_type in 0..=34 {
            let count = CODECS
                .iter()
                .filter(|codec| codec.payload_type == Some(payload_type))
                .count();
            assert!(count <= 1, "{payload_type}");
        }
        assert_eq!(
            Codec::of_payload_type(18).map(|codec| codec.name),
            Some("G729")
        );
        assert_eq!(Codec::of_payload_type(101), None);
    }
}
