use std::net::IpAddr;

use voicelane_bench::flows::{self, IpVersion};
use voicelane_dataplane::{session::FiveTuple, units::MacAddress};

use crate::case::Load;

/// Without FCS. IPv6's headers alone are longer than the shortest frame; RTP's fit into that of IPv4.
pub(crate) fn length(ip: IpVersion, load: Load) -> usize {
    match (ip, load) {
        (IpVersion::V4, _) => 60,
        (IpVersion::V6, Load::Measured) => payload(ip) + RTP_LENGTH,
        (IpVersion::V6, _) => payload(ip),
    }
}

/// RTP's fixed header.
const RTP_LENGTH: usize = 12;

/// Where the payload begins.
pub(crate) fn payload(ip: IpVersion) -> usize {
    match ip {
        IpVersion::V4 => 42,
        IpVersion::V6 => 62,
    }
}

/// The smallest frame that flow `i` of [`flows::flow`] can have under a load, without a code point, to
/// this address.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    reason = "lengths of one small frame"
)]
pub fn frame(ip: IpVersion, load: Load, i: u32, to: MacAddress) -> Vec<u8> {
    let FiveTuple {
        source,
        destination,
        ..
    } = flows::flow(ip, i);
    let length = length(ip, load);
    let mut frame = Vec::with_capacity(length);
    frame.extend(to.0);
    frame.extend([2, 0, 0, 0, 1, 1]);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = [0; 20];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&(length as u16 - 14).to_be_bytes());
            header[6..10].copy_from_slice(&[0x40, 0, 64, 17]);
            header[12..16].copy_from_slice(&source.octets());
            header[16..].copy_from_slice(&destination.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(header);
        }
        (source, destination) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((length as u16 - 54).to_be_bytes());
            frame.extend([17, 64]);
            for address in [source, destination] {
                if let IpAddr::V6(address) = address {
                    frame.extend(address.octets());
                }
            }
        }
    }
    frame.extend(source.port().to_be_bytes());
    frame.extend(destination.port().to_be_bytes());
    frame.extend((length as u16 - frame.len() as u16 + 4).to_be_bytes());
    frame.resize(length, 0);
    if load == Load::Measured {
        // RTP, payload type 0, SSRC 0; the device writes number and timestamp.
        frame[payload(ip)] = 0x80;
    }
    frame
}

#[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
fn checksum(header: &[u8; 20]) -> u16 {
    let words = header.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
