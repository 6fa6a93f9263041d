//! Which classes there are, what is fair for each, and what is sent.

use std::net::SocketAddr;

use voicelane_testbed::{
    topology::{IpVersion, Site, addresses},
    traffic::{FRAME_NANOS, phase},
};
use voicelane_types::BitRate;

/// How a class gets its part of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Strict priority: this part of the link in percent is its fair share.
    Strict(u64),
    /// By weight: this part in percent of what the others here leave.
    Weight(u64),
    /// After all others: this part of the link in percent is its minimum.
    Rest(u64),
}

impl Share {
    /// Of the link, beside the weights.
    const fn percent(self) -> u64 {
        match self {
            Self::Strict(percent) | Self::Rest(percent) => percent,
            Self::Weight(_) => 0,
        }
    }
}

/// A service class of RFC 4594.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// As routers name its queue.
    pub(super) name: &'static str,
    /// Its code points; of an AF class, by drop precedence.
    pub(super) points: &'static [(&'static str, u8)],
    pub(super) share: Share,
}

/// In the order of the table there. Weights and the minimum are the routers' defaults.
pub(super) const CLASSES: [Class; 13] = [
    class("network-control", &[("CS6", 48)], Share::Weight(10)),
    class("telephony", &[("EF", 46)], Share::Strict(10)),
    class("admitted-telephony", &[("VA", 44)], Share::Strict(5)),
    class("signalling", &[("CS5", 40)], Share::Weight(5)),
    class(
        "multimedia-conferencing",
        &[("AF41", 34), ("AF42", 36), ("AF43", 38)],
        Share::Weight(15),
    ),
    class("realtime-interactive", &[("CS4", 32)], Share::Weight(9)),
    class(
        "multimedia-streaming",
        &[("AF31", 26), ("AF32", 28), ("AF33", 30)],
        Share::Weight(9),
    ),
    class("broadcast-video", &[("CS3", 24)], Share::Weight(9)),
    class(
        "low-latency-data",
        &[("AF21", 18), ("AF22", 20), ("AF23", 22)],
        Share::Weight(9),
    ),
    class("oam", &[("CS2", 16)], Share::Weight(5)),
    class(
        "high-throughput-data",
        &[("AF11", 10), ("AF12", 12), ("AF13", 14)],
        Share::Weight(9),
    ),
    class("standard", &[("DF", 0)], Share::Weight(20)),
    class("lower-effort", &[("LE", 1)], Share::Rest(1)),
];

const fn class(name: &'static str, points: &'static [(&'static str, u8)], share: Share) -> Class {
    Class {
        name,
        points,
        share,
    }
}

/// Ethernet header 14, FCS 4, preamble and start 8, gap 12: IP packet to wire.
pub(super) const WIRE_BYTES: u16 = 38;
/// IP packets of everything but calls: a full MTU.
pub(super) const DATA_PACKET_BYTES: u16 = 1_500;
/// G.711 for 20 ms, with RTP.
const VOICE_PAYLOAD_BYTES: u16 = 172;
/// First UDP port of the data classes at both ends.
const FIRST_DATA_PORT: u16 = 10_000;
/// The most calls of both voice classes together: each takes two ports and two sockets.
const MOST_CALLS: u16 = 2_000;

/// What is sent from one socket: one call, or one code point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    /// Its class's place in [`CLASSES`].
    pub(super) class: usize,
    pub(super) dscp: u8,
    pub(super) source: SocketAddr,
    /// Streams of one data class share it, so that their packets arrive in one order.
    pub(super) destination: SocketAddr,
    pub(super) ip_packet_bytes: u16,
    /// With Ethernet headers and the bytes that the port adds to a frame.
    pub(super) bits_per_second: u64,
    /// Of its first packet, against the others'.
    pub(super) phase_nanos: u64,
}

impl Stream {
    pub(super) const fn is_call(&self) -> bool {
        matches!(CLASSES[self.class].share, Share::Strict(_))
    }
}

/// What each class is offered at a load of `percent` of its fair share. Calls are whole, and of each
/// voice class there is one at least.
pub(super) fn streams(rate: BitRate, percent: u64, ip: IpVersion) -> Vec<Stream> {
    let mut streams = Vec::new();
    let mut calls = 0;
    let full = rate.bps();
    let apart: u64 = CLASSES.iter().map(|class| class.share.percent()).sum();
    let voice_bytes = VOICE_PAYLOAD_BYTES + ip.udp_headers_bytes();
    let call = u64::from(voice_bytes + WIRE_BYTES) * 8 * 1_000_000_000 / FRAME_NANOS;
    let port = |offset: usize| FIRST_DATA_PORT.wrapping_add(u16::try_from(offset).unwrap_or(0));
    for (index, class) in CLASSES.iter().enumerate() {
        match class.share {
            Share::Strict(share) => {
                let count = (full * share / 100 * percent / 100 + call / 2) / call;
                for _ in 0..count.max(1) {
                    if calls == MOST_CALLS {
                        break;
                    }
                    let [source, destination] = Site::BOTH.map(|site| {
                        SocketAddr::new(site.phone(ip), addresses::rtp(site, calls).port())
                    });
                    calls += 1;
                    streams.push(Stream {
                        class: index,
                        dscp: class.points.first().map_or(0, |&(_, dscp)| dscp),
                        source,
                        destination,
                        ip_packet_bytes: voice_bytes,
                        bits_per_second: call,
                        phase_nanos: 0,
                    });
                }
            }
            Share::Weight(_) | Share::Rest(_) => {
                let share = match class.share {
                    Share::Weight(weight) => full * (100 - apart) / 100 * weight / 100,
                    other => full * other.percent() / 100,
                };
                let offered = share * percent / 100;
                for &(_, dscp) in class.points {
                    streams.push(Stream {
                        class: index,
                        dscp,
                        source: SocketAddr::new(Site::A.bulk(ip).ip(), port(dscp.into())),
                        destination: SocketAddr::new(Site::B.bulk(ip).ip(), port(index)),
                        ip_packet_bytes: DATA_PACKET_BYTES,
                        bits_per_second: offered / class.points.len() as u64,
                        phase_nanos: 0,
                    });
                }
            }
        }
    }
    for (number, stream) in (0..).zip(&mut streams) {
        stream.phase_nanos = u64::try_from(phase(number).as_nanos()).unwrap_or(0);
    }
    streams
}

/// What each class should get on the wire, in bits a second: what it is offered or, when that is
/// more, its weight's part of what the strict classes and the minimum leave.
pub(super) fn fair_shares(streams: &[Stream], rate: BitRate) -> [u64; CLASSES.len()] {
    let mut shares = [0; CLASSES.len()];
    for stream in streams {
        if let Some(share) = shares.get_mut(stream.class) {
            *share += stream.bits_per_second;
        }
    }
    let full = rate.bps();
    let mut left = full;
    for (share, class) in shares.iter_mut().zip(&CLASSES) {
        if let Share::Rest(minimum) = class.share {
            *share = (full * minimum / 100).min(*share);
        }
        if !matches!(class.share, Share::Weight(_)) {
            left = left.saturating_sub(*share);
        }
    }
    for (share, class) in shares.iter_mut().zip(&CLASSES) {
        if let Share::Weight(weight) = class.share {
            *share = (left * weight / 100).min(*share);
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: BitRate = BitRate::from_mbit(10);

    #[test]
    fn weights_add_up() {
        let weights = CLASSES.iter().map(|class| match class.share {
            Share::Weight(weight) => weight,
            Share::Strict(_) | Share::Rest(_) => 0,
        });
        assert_eq!(weights.sum::<u64>(), 100);
    }

    #[test]
    fn shares_by_hand() {
        // 5.25 and 2.6 calls of 95,200 bit/s; the weights share 84 % of half the link.
        let half = fair_shares(&streams(RATE, 50, IpVersion::V4), RATE);
        assert_eq!((half[1], half[2]), (5 * 95_200, 3 * 95_200));
        assert_eq!((half[11], half[12]), (4_200_000 / 5, 50_000));
        // 32 and 16 calls, the minimum, and what they leave.
        let triple = fair_shares(&streams(RATE, 300, IpVersion::V4), RATE);
        assert_eq!((triple[1], triple[2]), (32 * 95_200, 16 * 95_200));
        assert_eq!(triple[12], 100_000);
        assert_eq!(triple[11], (9_900_000 - 48 * 95_200) / 5);
    }

    #[test]
    fn each_stream_has_a_socket_of_its_own() {
        for ip in [IpVersion::V4, IpVersion::V6] {
            let streams = streams(RATE, 200, ip);
            let mut sources: Vec<_> = streams.iter().map(|stream| stream.source).collect();
            sources.sort_unstable();
            sources.dedup();
            assert_eq!(sources.len(), streams.len());
            let offered: u64 = streams.iter().map(|stream| stream.bits_per_second).sum();
            assert!(offered.abs_diff(20_000_000) < 110_000, "{offered}");
        }
    }
}
