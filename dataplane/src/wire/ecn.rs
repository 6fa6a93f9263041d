use super::{EtherType, Ethernet, Ipv4, Ipv4Mut, Ipv6, Ipv6Mut};
use crate::diffserv::TrafficClass;

/// The length of an 802.1Q tag.
const TAG: usize = 4;

/// Marks a frame's packet "congestion experienced", if its sender understands that (RFC 3168 section
/// 5); says whether it does. The frame may have a VLAN tag.
pub fn mark_congestion_experienced(frame: &mut [u8]) -> bool {
    let Some((ethernet, _)) = Ethernet::split(frame) else {
        return false;
    };
    let (ether_type, start) = match ethernet.ether_type() {
        EtherType::VLAN => {
            let Some(&[high, low]) = frame.get(16..).and_then(<[u8]>::first_chunk) else {
                return false;
            };
            let inner = EtherType(u16::from_be_bytes([high, low]));
            (inner, Ethernet::LENGTH + TAG)
        }
        plain => (plain, Ethernet::LENGTH),
    };
    let packet = frame.get_mut(start..).unwrap_or_default();
    match ether_type {
        EtherType::IPV4 => {
            let class = Ipv4::new(packet).and_then(|ip| marked(ip.traffic_class()));
            if let (Some(class), Some(mut ip)) = (class, Ipv4Mut::new(packet)) {
                ip.set_traffic_class(class);
            }
            class.is_some()
        }
        EtherType::IPV6 => {
            let class = Ipv6::new(packet).and_then(|ip| marked(ip.traffic_class()));
            if let (Some(class), Some(mut ip)) = (class, Ipv6Mut::new(packet)) {
                ip.set_traffic_class(class);
            }
            class.is_some()
        }
        _ => false,
    }
}

/// The class with the mark; `None` of a transport that does not understand it.
fn marked(class: TrafficClass) -> Option<TrafficClass> {
    (class.0 & 3 != 0).then_some(TrafficClass(class.0 | 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::header_checksum_is_right;

    fn ipv4(class: u8, tag: &[u8]) -> Vec<u8> {
        let mut frame = [&[2; 12][..], tag, &[8, 0, 0x45, class, 0, 20]].concat();
        let start = frame.len() - 4;
        frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 7]);
        let sum: u32 = frame[start..]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        frame[start + 10..start + 12].copy_from_slice(&(!folded).to_be_bytes());
        frame
    }

    #[test]
    fn only_those_who_understand_are_marked() {
        for tag in [&[][..], &[0x81, 0, 0, 7]] {
            for (before, after) in [(0b1010_1001, 0b1010_1011), (0b0000_0010, 0b11), (3, 3)] {
                let mut frame = ipv4(before, tag);
                assert!(mark_congestion_experienced(&mut frame));
                let packet = &frame[14 + tag.len()..];
                assert_eq!(packet[1], after);
                assert!(header_checksum_is_right(packet));
            }
            let mut frame = ipv4(0b1011_1000, tag);
            assert!(!mark_congestion_experienced(&mut frame));
            assert_eq!(frame, ipv4(0b1011_1000, tag));
        }
        let mut frame = [&[2; 12][..], &[0x86, 0xdd, 0x60, 0x20], &[0; 38]].concat();
        assert!(mark_congestion_experienced(&mut frame), "ECT(0)");
        assert_eq!(frame[14..16], [0x60, 0x30]);
    }

    #[test]
    fn other_and_short_frames_are_left_alone() {
        for length in 0..34 {
            for tag in [&[][..], &[0x81, 0, 0, 7]] {
                let mut frame = ipv4(2, tag);
                frame.truncate(length + tag.len());
                let before = frame.clone();
                assert!(!mark_congestion_experienced(&mut frame), "{length}");
                assert_eq!(frame, before);
            }
        }
        let mut arp = [&[2; 12][..], &[8, 6], &[0xff; 28]].concat();
        assert!(!mark_congestion_experienced(&mut arp));
    }
}
