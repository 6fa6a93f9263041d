use voicelane_machine::prefetch;

use crate::{
    device::Buffer,
    packet_mask::{PacketMask, for_each_packet},
    pipeline::burst::Burst,
    quality::Measurements,
    session::Measured,
    units::Ticks,
    wire::{Ethernet, IpVersion, Ipv4, Ipv6, Transport, Upper, upper_layer},
};

/// Measures how well each session's RTP has come until here: before the policer, which may lose some of
/// it.
#[inline(never)]
pub(crate) fn measure<B: Buffer>(burst: &Burst<B>, measured: &mut Measured, now: Ticks) {
    of_version(
        &mut measured.ipv4,
        burst,
        burst.sessions.ipv4,
        IpVersion::V4,
        now,
    );
    of_version(
        &mut measured.ipv6,
        burst,
        burst.sessions.ipv6,
        IpVersion::V6,
        now,
    );
}

#[inline]
fn of_version<B: Buffer>(
    measurements: &mut Measurements,
    burst: &Burst<B>,
    which: PacketMask,
    version: IpVersion,
    now: Ticks,
) {
    if which == 0 || measurements.is_off() {
        return;
    }
    let slots = &burst.sessions.slots;
    let mut measured = 0;
    for_each_packet(which, |place| {
        let slot = slots[place].index();
        if measurements.is_measured(slot) {
            measured |= 1 << place;
            measurements.prefetch(slot);
            // IPv4's RTP header ends in the frame's first line, which `parse` has read.
            if version == IpVersion::V6
                && let Some(last) = burst
                    .buffers
                    .get(place)
                    .and_then(|it| it.bytes().get(RTP6_END - 1))
            {
                prefetch(last);
            }
        }
    });
    for_each_packet(measured, |place| {
        if let Some(buffer) = burst.buffers.get(place)
            && let Some(payload) =
                udp_payload(buffer.bytes(), version, burst.headers.ip_bytes[place])
        {
            measurements.take(slots[place].index(), payload, now);
        }
    });
}

/// The payload of a UDP packet that `parse` has checked; `None` of fragments other than the first.
#[inline(always)]
fn udp_payload(frame: &[u8], version: IpVersion, ip_bytes: u16) -> Option<&[u8]> {
    let packet = frame.get(Ethernet::LENGTH..Ethernet::LENGTH + usize::from(ip_bytes))?;
    match (version, packet) {
        // No options, and the first fragment.
        (IpVersion::V4, [0x45, _, _, _, _, _, place, 0, ..]) if place & 0x1f == 0 => {
            packet.get(Ipv4::LENGTH + UDP_LENGTH..)
        }
        (IpVersion::V6, [_, _, _, _, _, _, UDP, ..]) => packet.get(Ipv6::LENGTH + UDP_LENGTH..),
        _ => unusual_udp_payload(packet, version),
    }
}

/// Where RTP's fixed header ends in an IPv6 frame without extension headers.
const RTP6_END: usize = Ethernet::LENGTH + Ipv6::LENGTH + UDP_LENGTH + 12;
const UDP: u8 = 17;
const UDP_LENGTH: usize = 8;

/// Behind options or extension headers.
#[cold]
fn unusual_udp_payload(packet: &[u8], version: IpVersion) -> Option<&[u8]> {
    let offset = match version {
        IpVersion::V4 => {
            let ip = Ipv4::new(packet)?;
            (ip.fragment_offset() == 0).then(|| ip.header_length())?
        }
        IpVersion::V6 => match upper_layer(packet, Ipv6::new(packet)?.next_header()) {
            Upper::Transport(Transport { offset, .. }) => offset,
            Upper::Fragment { .. } | Upper::Opaque => return None,
        },
    };
    packet.get(offset + UDP_LENGTH..)
}
