use voicelane_bench::flows::{self, IpVersion};
use voicelane_dataplane::units::MacAddress;

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
    14 + usize::from(ip.udp_headers_bytes())
}

/// The smallest frame that flow `i` of [`flows::flow`] can have under a load, without a code point, to
/// this address.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "one small frame")]
pub fn frame(ip: IpVersion, load: Load, i: u32, to: MacAddress) -> Vec<u8> {
    let length = length(ip, load);
    let headers = flows::headers(&flows::flow(ip, i), 0, 0, length as u16 - 14);
    let mut frame = [&to.0[..], &[2, 0, 0, 0, 1, 1], &headers].concat();
    frame.resize(length, 0);
    if load == Load::Measured {
        // RTP, payload type 0, SSRC 0; the device writes number and timestamp.
        frame[payload(ip)] = 0x80;
    }
    frame
}
