use voicelane_machine::{equal_places, prefetch};

use crate::{
    device::Buffer,
    packet_mask::{PacketMask, first_packets, packets_in},
    pipeline::burst::Burst,
    quality::{Measurements, Moment, RTP_LENGTH},
    session::Measured,
    units::Ticks,
    wire::{Ethernet, IpVersion, Ipv4, Ipv6, Transport, Upper, upper_layer},
};

/// Measures how well each session's RTP has come until here: before the policer, which may lose some of
/// it. Notes which packets have new numbers.
#[inline(never)]
pub(crate) fn measure<B: Buffer>(burst: &mut Burst<B>, measured: &mut Measured, now: Ticks) {
    let (ipv4, ipv6) = (burst.sessions.ipv4, burst.sessions.ipv6);
    let mut numbered = 0;
    if ipv4 != 0 && !measured.ipv4.is_off() {
        numbered |= of_version::<B, RTP4_END>(&mut measured.ipv4, burst, ipv4, now);
    }
    if ipv6 != 0 && !measured.ipv6.is_off() {
        numbered |= of_version::<B, RTP6_END>(&mut measured.ipv6, burst, ipv6, now);
    }
    burst.sessions.numbered = numbered;
}

/// Where RTP's fixed header ends in an IPv4 frame without options.
const RTP4_END: usize = Ethernet::LENGTH + Ipv4::LENGTH + UDP_LENGTH + RTP_LENGTH;
/// The same in an IPv6 frame without extension headers.
const RTP6_END: usize = Ethernet::LENGTH + Ipv6::LENGTH + UDP_LENGTH + RTP_LENGTH;
const UDP_LENGTH: usize = 8;
const UDP: u8 = 17;

/// `END` says the version. Returns which packets have new numbers of their streams.
#[inline]
fn of_version<B: Buffer, const END: usize>(
    measurements: &mut Measurements,
    burst: &Burst<B>,
    which: PacketMask,
    now: Ticks,
) -> PacketMask {
    let (slots, ip_bytes) = (&burst.sessions.slots, &burst.headers.ip_bytes);
    let mut measured = 0;
    for place in packets_in(which) {
        let slot = slots[place].index();
        if !measurements.is_measured(slot) {
            continue;
        }
        measured |= 1 << place;
        measurements.prefetch(slot);
        // IPv4's RTP header ends in the frame's first line, which `parse` has read.
        if END == RTP6_END
            && let Some(buffer) = burst.buffers.get(place)
        {
            prefetch(buffer.bytes().as_ptr().wrapping_add(RTP6_END));
        }
    }
    // Nearly all have: the others are taken out.
    let mut numbered = measured;
    let mut moment = Moment::new(now);
    for place in packets_in(measured) {
        let Some(buffer) = burst.buffers.get(place) else {
            break;
        };
        let (slot, frame, ip_bytes) = (slots[place].index(), buffer.bytes(), ip_bytes[place]);
        let header = rtp_header::<END>(frame, ip_bytes);
        if !header.is_some_and(|header| measurements.take_next(slot, header, &mut moment))
            && !take_other::<END>(measurements, slot, frame, ip_bytes, now)
        {
            numbered &= !(1 << place);
        }
    }
    numbered
}

/// Counts new numbers of measured flows that do not go on from here: flow by flow, as all packets of a burst
/// may be of one.
#[cold]
#[inline(never)]
pub(crate) fn count_dropped<B>(burst: &Burst<B>, measured: &mut Measured, dropped: PacketMask) {
    let sessions = &burst.sessions;
    let [lower, upper] = [0, 1].map(|half| sessions.slots.map(|slot| slot.halves()[half]));
    let families = [
        (&mut measured.ipv4, sessions.ipv4),
        (&mut measured.ipv6, sessions.ipv6),
    ];
    for (measurements, which) in families {
        let numbered = which & sessions.numbered;
        let mut left = numbered & dropped;
        while let Some(first) = packets_in(left).next() {
            let slot = sessions.slots[first];
            let [low, high] = slot.halves();
            let of_flow = equal_places(&lower, low) & equal_places(&upper, high) & numbered;
            for place in packets_in(of_flow & left) {
                let later = of_flow & !first_packets(place + 1);
                measurements.count_dropped(slot.index(), later.count_ones());
            }
            left &= !of_flow;
        }
    }
}

/// Where RTP's header is in nearly all packets, if it can be there.
#[inline(always)]
fn rtp_header<const END: usize>(frame: &[u8], ip_bytes: u16) -> Option<&[u8; RTP_LENGTH]> {
    const IP: usize = Ethernet::LENGTH;
    let start = frame.first_chunk::<END>()?;
    let plain = if END == RTP4_END {
        // No options, and no later fragment.
        start[IP] == 0x45 && u16::from_ne_bytes([start[IP + 6], start[IP + 7]]) & OFFSET == 0
    } else {
        start[IP + 6] == UDP
    };
    (plain && usize::from(ip_bytes) >= END - IP).then(|| start.last_chunk())?
}

/// The bits of the fragment's offset, as they stand in IPv4's header.
const OFFSET: u16 = 0x1fff_u16.to_be();

/// Takes a packet that is not the next one of its stream; says whether it has a new number of it.
#[cold]
#[inline(never)]
fn take_other<const END: usize>(
    measurements: &mut Measurements,
    slot: usize,
    frame: &[u8],
    ip_bytes: u16,
    now: Ticks,
) -> bool {
    let version = match END {
        RTP4_END => IpVersion::V4,
        _ => IpVersion::V6,
    };
    let packet = frame.get(Ethernet::LENGTH..Ethernet::LENGTH + usize::from(ip_bytes));
    let payload = packet.and_then(|it| udp_payload(it, version));
    payload.is_some_and(|payload| measurements.take_other(slot, payload, now))
}

/// The payload of a UDP packet that `parse` has checked; `None` of fragments other than the first.
fn udp_payload(packet: &[u8], version: IpVersion) -> Option<&[u8]> {
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
