//! Headers that a packet goes on with. Where queues are not empty they are written when one has let the
//! packet in: what it drops costs no more.

use crate::{
    device::Buffer,
    diffserv::TrafficClass,
    pipeline::headers::tag,
    routing::Neighbour,
    stats::DropReason,
    wire::{Ethernet, IpVersion, Ipv4, Ipv4Mut, Ipv6, Ipv6Mut, Tci},
};

/// Writes traffic class and hop limit, the next hop's address, its VLAN. All of the headers is there:
/// `parse` has seen it.
#[inline(always)]
pub(crate) fn rewrite<B: Buffer>(
    buffer: &mut B,
    family: IpVersion,
    class: TrafficClass,
    neighbour: &Neighbour,
) -> Result<(), DropReason> {
    const FRAME4: usize = Ethernet::LENGTH + Ipv4::LENGTH;
    const FRAME6: usize = Ethernet::LENGTH + Ipv6::LENGTH;
    let frame = buffer.bytes_mut();
    match family {
        IpVersion::V4 => {
            let headers = frame.first_chunk_mut::<FRAME4>();
            let packet = headers.map(|headers| Ethernet::readdress(headers, &neighbour.addresses));
            if let Some(mut ip) = packet.and_then(Ipv4Mut::new) {
                ip.forward(class);
            }
        }
        IpVersion::V6 => {
            let headers = frame.first_chunk_mut::<FRAME6>();
            let packet = headers.map(|headers| Ethernet::readdress(headers, &neighbour.addresses));
            if let Some(mut ip) = packet.and_then(Ipv6Mut::new) {
                ip.forward(class);
            }
        }
    }
    match neighbour.vlan {
        None => Ok(()),
        Some(vlan) => tag::put(buffer, Tci::new(vlan, class.dscp())),
    }
}

/// Writes the traffic class alone, of a packet behind no tags.
pub(crate) fn write_class(frame: &mut [u8], family: IpVersion, class: TrafficClass) {
    write_class_at(frame, Ethernet::LENGTH, family, class);
}

/// Writes the traffic class alone, of a packet that starts there.
pub(crate) fn write_class_at(
    frame: &mut [u8],
    offset: usize,
    family: IpVersion,
    class: TrafficClass,
) {
    let packet = frame.get_mut(offset..).unwrap_or_default();
    match family {
        IpVersion::V4 => {
            if let Some(mut ip) = Ipv4Mut::new(packet) {
                ip.set_traffic_class(class);
            }
        }
        IpVersion::V6 => {
            if let Some(mut ip) = Ipv6Mut::new(packet) {
                ip.set_traffic_class(class);
            }
        }
    }
}
