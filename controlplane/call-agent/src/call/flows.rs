//! From an offer and its answer to flows.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use super::session::{FiveTuple, Flow, Half, MAX_FLOWS, NotPlaced, Reason, Rtcp, RtcpEnds, Source};
use crate::{
    rate::{self, Configured, Terms},
    sdp::{Connection, Format, Kind, Session, Stream, Transport},
};

/// How many ports of one `m=` line get flows (`m=audio 4000/2`).
const MAX_PORTS: u16 = 4;
/// What stands for "not yet" (RFC 8838 section 4.1).
const DISCARD: u16 = 9;

/// One side's SDP, and what its signalling tells of a NAT.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) sdp: &'a Session,
    /// The public address that its signalling came from, if known.
    pub(super) signalled_from: Option<IpAddr>,
}

/// What a pair of offer and answer gives.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pair {
    /// With the `m=` line that each belongs to.
    pub(super) flows: Vec<(u8, Flow)>,
    /// `m=` lines without an address or port as yet: they keep the flows that they had (rule 13).
    pub(super) not_yet: u64,
    pub(super) not_placed: Vec<NotPlaced>,
}

/// Where one side receives a stream.
enum End {
    At(SocketAddr),
    NotYet,
    Nowhere(Reason),
}

/// Both directions of all streams that both sides accept.
pub(super) fn pair(offer: Side<'_>, answer: Side<'_>, configured: &Configured) -> Pair {
    let mut pair = Pair::default();
    let mut flows: BTreeMap<FiveTuple, (u8, Flow)> = BTreeMap::new();
    for (index, (offered, answered)) in offer
        .sdp
        .streams
        .iter()
        .zip(&answer.sdp.streams)
        .enumerate()
    {
        // Rule 12: what is bundled goes where the bundle's first stream goes.
        let bundle = bundle_of(offered, answered, offer.sdp, answer.sdp);
        let carrier = bundle.unwrap_or(index);
        // Rule 15: a port of 0 removes the stream. In a bundle it only has no port of its own.
        let removed = match bundle {
            Some(_) => false,
            None => offered.is_removed() || answered.port == 0,
        };
        let tcp = [offered, answered].map(|stream| stream.transport == Transport::Other);
        if removed || tcp.contains(&true) {
            continue;
        }
        let (Some(offer_carrier), Some(answer_carrier)) = (
            offer.sdp.streams.get(carrier),
            answer.sdp.streams.get(carrier),
        ) else {
            continue;
        };
        let stream = u8::try_from(index).unwrap_or(u8::MAX);
        let ports = offered.ports.min(answered.ports).clamp(1, MAX_PORTS);
        for nth in 0..ports {
            let ends = [
                (offer_carrier, offer.signalled_from),
                (answer_carrier, answer.signalled_from),
            ]
            .map(|(carrier, signalled_from)| end(carrier, nth * 2, signalled_from));
            let directions = Directions {
                stream,
                streams: [offered, answered],
                carriers: [offer_carrier, answer_carrier],
                configured,
            };
            directions.add(ends, &mut flows, &mut pair);
        }
    }
    pair.flows = flows.into_values().collect();
    pair
}

/// Which stream carries this one, if it is bundled: the first of the answer's group.
fn bundle_of(
    offered: &Stream,
    answered: &Stream,
    offer: &Session,
    answer: &Session,
) -> Option<usize> {
    let mid = answered.mid.as_ref().or(offered.mid.as_ref())?;
    let group = answer.bundles.iter().find(|group| group.contains(mid))?;
    offer.bundles.iter().find(|group| group.contains(mid))?;
    let first = group.first()?;
    answer
        .streams
        .iter()
        .zip(&offer.streams)
        .position(|(answered, offered)| {
            answered.mid.as_ref().or(offered.mid.as_ref()) == Some(first)
        })
}

fn end(stream: &Stream, above: u16, signalled_from: Option<IpAddr>) -> End {
    let ip = match stream.connection {
        // `::ffff:a.b.c.d` is sent as IPv4 (RFC 4291, section 2.5.5.2).
        Some(Connection::Address(ip)) => ip.to_canonical(),
        Some(Connection::Name) => return End::Nowhere(Reason::Name),
        None => return End::Nowhere(Reason::NoAddress),
    };
    if ip.is_unspecified() || stream.port == DISCARD || stream.port == 0 {
        return End::NotYet;
    }
    if ip.is_multicast() {
        return End::Nowhere(Reason::Multicast);
    }
    // Rule 16.
    if let Some(signalled_from) = signalled_from.filter(|_| is_private(ip)) {
        return End::Nowhere(Reason::BehindNat { signalled_from });
    }
    match stream.port.checked_add(above) {
        Some(port) => End::At(SocketAddr::new(ip, port)),
        None => End::Nowhere(Reason::NoAddress),
    }
}

/// A stream's two directions. Index 0 is the offerer's, 1 the answerer's.
struct Directions<'a> {
    stream: u8,
    streams: [&'a Stream; 2],
    /// The streams whose ports carry it.
    carriers: [&'a Stream; 2],
    configured: &'a Configured,
}

impl Directions<'_> {
    fn add(&self, ends: [End; 2], flows: &mut BTreeMap<FiveTuple, (u8, Flow)>, pair: &mut Pair) {
        let mut nowhere = |reason| {
            pair.not_placed.push(NotPlaced {
                stream: self.stream,
                reason,
            });
        };
        match ends {
            [End::At(a), End::At(b)] if a.is_ipv4() != b.is_ipv4() => nowhere(Reason::Families),
            [End::At(a), End::At(b)] => {
                self.direction(0, Source::Fixed(a), b, flows);
                self.direction(1, Source::Fixed(b), a, flows);
            }
            // Rule 16: towards a NAT no port is known; from it, the router learns it.
            [
                End::Nowhere(reason @ Reason::BehindNat { signalled_from }),
                End::At(b),
            ] => {
                let hint = Some(signalled_from);
                self.direction(0, Source::Learned { hint }, b, flows);
                nowhere(reason);
            }
            [
                End::At(a),
                End::Nowhere(reason @ Reason::BehindNat { signalled_from }),
            ] => {
                let hint = Some(signalled_from);
                self.direction(1, Source::Learned { hint }, a, flows);
                nowhere(reason);
            }
            [End::Nowhere(reason), _] | [_, End::Nowhere(reason)] => nowhere(reason),
            [End::NotYet, _] | [_, End::NotYet] => {
                pair.not_yet |= 1_u64.checked_shl(self.stream.into()).unwrap_or(0);
            }
        }
    }

    /// Adds what side `from` sends, to the flow that is there if the five-tuple is the same (rule 12).
    fn direction(
        &self,
        from: usize,
        source: Source,
        destination: SocketAddr,
        flows: &mut BTreeMap<FiveTuple, (u8, Flow)>,
    ) {
        let (sender, receiver) = in_order(self.streams, from);
        let Terms { bps, packet_us } =
            rate::terms(sender, receiver, destination.is_ipv6(), self.configured);
        // Rule 14: on hold, flows keep what they had.
        let held = sender.direction.is_hold() || receiver.direction.is_hold();
        match flows.get_mut(&(source, destination)) {
            Some((_, flow)) => {
                flow.rate_bps = flow.rate_bps.saturating_add(bps);
                // What one stream tells holds for the sum at least.
                flow.packet_us = flow.packet_us.min(packet_us);
                flow.held &= held;
                if sender.kind == Kind::Audio {
                    flow.kind = Kind::Audio;
                }
                flow.codecs = with(&flow.codecs, self.codecs(from));
            }
            None => {
                let flow = Flow {
                    source,
                    destination,
                    rate_bps: bps,
                    packet_us,
                    ptime_ms: receiver.ptime_ms.unwrap_or(0),
                    codecs: Arc::clone(self.codecs(from)),
                    rtcp: self.rtcp(from, source, destination),
                    kind: sender.kind,
                    held,
                };
                flows.insert((source, destination), (self.stream, flow));
            }
        }
    }

    /// What the payload types of what side `from` sends mean: the receiver has numbered them (RFC 3264,
    /// section 5.1). The answer has those that both sides know, mostly by the offer's numbers.
    fn codecs(&self, from: usize) -> &Arc<[Format]> {
        let [offered, answered] = self.streams;
        let is_offered = |of: &Format| rate::has_alike(offered, of, answered);
        if from == 0 || answered.formats.iter().all(is_offered) {
            &answered.formats
        } else {
            &offered.formats
        }
    }

    /// Rule 11: multiplexed only if both sides say so; then `a=rtcp` says nothing.
    fn rtcp(&self, from: usize, source: Source, destination: SocketAddr) -> Rtcp {
        let (sender, receiver) = in_order(self.carriers, from);
        if sender.transport == Transport::Udp {
            return Rtcp::None;
        }
        if sender.rtcp_mux && receiver.rtcp_mux {
            return Rtcp::Mux;
        }
        let Source::Fixed(source) = source else {
            return Rtcp::NextPort;
        };
        let ends = RtcpEnds {
            source: rtcp_end(sender, source),
            destination: rtcp_end(receiver, destination),
        };
        if ends.source == next_port(source) && ends.destination == next_port(destination) {
            Rtcp::NextPort
        } else {
            Rtcp::Explicit(Box::new(ends))
        }
    }
}

/// The payload types of one stream and those of another in the same flow.
fn with(codecs: &Arc<[Format]>, more: &Arc<[Format]>) -> Arc<[Format]> {
    let is_new = |of: &&Format| {
        !codecs
            .iter()
            .any(|known| known.payload_type == of.payload_type)
    };
    let new: Vec<_> = more.iter().filter(is_new).cloned().collect();
    if new.is_empty() {
        Arc::clone(codecs)
    } else {
        codecs.iter().cloned().chain(new).collect()
    }
}

/// The two sides as (sender, receiver), when side `from` sends.
fn in_order<T: Copy>(sides: [T; 2], from: usize) -> (T, T) {
    let [offerer, answerer] = sides;
    if from == 0 {
        (offerer, answerer)
    } else {
        (answerer, offerer)
    }
}

/// Where a stream's RTCP is received. `a=rtcp` is about the first of several ports.
fn rtcp_end(stream: &Stream, rtp: SocketAddr) -> SocketAddr {
    match stream.rtcp {
        Some(rtcp) if rtp.port() == stream.port => {
            SocketAddr::new(rtcp.address.unwrap_or(rtp.ip()), rtcp.port)
        }
        _ => next_port(rtp),
    }
}

fn next_port(rtp: SocketAddr) -> SocketAddr {
    SocketAddr::new(rtp.ip(), rtp.port().saturating_add(1))
}

/// What an offer asks for before anybody has answered it: each stream's end, with the highest rate that
/// was offered.
pub fn halves(sdp: &Session, signalled_from: Option<IpAddr>, configured: &Configured) -> Vec<Half> {
    let public = signalled_from.filter(|&ip| !is_private(ip));
    let mut halves: Vec<Half> = Vec::new();
    for stream in &sdp.streams {
        if stream.is_removed() || stream.transport == Transport::Other {
            continue;
        }
        if let End::At(end) = end(stream, 0, public) {
            let rate_bps = rate::offered_bps(stream, end.is_ipv6(), configured);
            // Two flows each.
            let room = halves.len() < MAX_FLOWS / 2;
            match halves.iter_mut().find(|half| half.end == end) {
                Some(half) => half.rate_bps = half.rate_bps.saturating_add(rate_bps),
                None if room => halves.push(Half { end, rate_bps }),
                None => {}
            }
        }
    }
    halves
}

/// An address that is not reached from elsewhere: RFC 1918, 6598, 3927, 4193, 4291.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private()
                || ip.is_link_local()
                || ip.is_loopback()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => {
            ip.is_unique_local() || ip.is_unicast_link_local() || ip == Ipv6Addr::LOCALHOST
        }
    }
}

/// Where the SDP's streams are received, as far as that is known.
pub(super) fn ends(sdp: &Session) -> impl Iterator<Item = SocketAddr> {
    sdp.streams
        .iter()
        .filter_map(|stream| match end(stream, 0, None) {
            End::At(address) => Some(address),
            End::NotYet | End::Nowhere(_) => None,
        })
}
