//! The media packet: RTP (RFC 3550, section 5.1) over G.711, with the testbed's notes in the
//! payload.
//!
//! ```text
//! 0        12       16       20         24             32            172
//! | RTP    | magic  | flow   | sequence | nanos sent   | filling      |
//! ```

use crate::clock::Moment;

/// One packet's speech: 20 ms.
pub const FRAME_NANOS: u64 = 20_000_000;
/// The RTP header without extensions.
pub const RTP_BYTES: usize = 12;
/// G.711 for 20 ms.
pub const PAYLOAD_BYTES: usize = 160;
const LENGTH: usize = RTP_BYTES + PAYLOAD_BYTES;
const MAGIC: u32 = 0x564c_616e;
const PCMU: u8 = 0;
const SAMPLES: u32 = 160;

/// What a media packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaPacket {
    /// The flow's index in its [`Calls`](super::Calls).
    pub flow: u32,
    /// From 0, without wrapping at 16 bits.
    pub sequence: u32,
    /// When it was given to the kernel.
    pub sent: Moment,
}

impl MediaPacket {
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0xd5; LENGTH]; // silence
        let rtp_sequence = self.sequence.to_be_bytes();
        let header = [0x80, PCMU, rtp_sequence[2], rtp_sequence[3]];
        let words = [
            header,
            self.sequence.wrapping_mul(SAMPLES).to_be_bytes(),
            (MAGIC ^ self.flow).to_be_bytes(), // SSRC
            MAGIC.to_be_bytes(),
            self.flow.to_be_bytes(),
            self.sequence.to_be_bytes(),
        ];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word);
        }
        if let Some(place) = bytes.get_mut(24..32) {
            place.copy_from_slice(&self.sent.nanos().to_be_bytes());
        }
        bytes
    }

    /// Reads a UDP payload; `None` when it is not one of ours.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let ours = bytes.len() == LENGTH && bytes.first() == Some(&0x80) && word(12)? == MAGIC;
        let sent = u64::from_be_bytes(bytes.get(24..32)?.try_into().ok()?);
        ours.then_some(Self {
            flow: word(16)?,
            sequence: word(20)?,
            sent: Moment::from_nanos(sent),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::IpVersion;

    #[test]
    fn round_trip_and_header() {
        let packet = MediaPacket {
            flow: 7,
            sequence: 70_000,
            sent: Moment::from_nanos(123_456_789_012),
        };
        let bytes = packet.encode();
        let headers = usize::from(IpVersion::V4.udp_headers_bytes());
        assert_eq!(bytes.len() + headers, 200);
        assert_eq!(MediaPacket::decode(&bytes), Some(packet));
        // 70,000 modulo 65,536, and 160 samples a packet.
        assert_eq!(bytes[2..4], 4_464u16.to_be_bytes());
        assert_eq!(bytes[4..8], 11_200_000u32.to_be_bytes());
    }

    #[test]
    fn strangers_are_refused() {
        assert_eq!(MediaPacket::decode(&[]), None);
        assert_eq!(MediaPacket::decode(&[0x80; 172]), None);
        let short = MediaPacket {
            flow: 0,
            sequence: 0,
            sent: Moment::from_nanos(0),
        }
        .encode();
        assert_eq!(MediaPacket::decode(&short[..171]), None);
    }
}
