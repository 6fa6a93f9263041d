//! What is sent: every class at once, each its fair share of the link times the load.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use voicelane_bench::flows::headers;
use voicelane_dataplane::{
    diffserv::{ClassSettings, Dscp, Phb, Service},
    session::{FiveTuple, Protocol},
    units::BitRate,
};

use crate::network::{CLOCK_HZ, EDGE_MAC};

/// A full MTU, without FCS.
pub(crate) const DATA_FRAME_BYTES: usize = 1_514;
/// G.711 for 20 ms.
const CALL_FRAME_BYTES: usize = 214;

/// One code point's packets.
pub(crate) struct Stream {
    pub(crate) dscp: Dscp,
    pub(crate) is_call: bool,
    /// The time of arrival stands in its last eight bytes.
    pub(crate) frame: Vec<u8>,
    /// Nanoseconds from packet to packet on average.
    interval: f64,
    next: f64,
}

pub(crate) struct Offer {
    pub(crate) streams: Vec<Stream>,
    random: SmallRng,
}

/// What a frame takes of the wire.
pub(crate) fn wire_bytes(frame: usize) -> u64 {
    frame.max(60) as u64 + 24
}

/// The length of a class's frames.
pub(crate) fn frame_bytes(phb: Phb) -> usize {
    match phb {
        Phb::Telephony | Phb::AdmittedTelephony => CALL_FRAME_BYTES,
        _ => DATA_FRAME_BYTES,
    }
}

impl Offer {
    /// Telephony 10 %, admitted telephony 5 % of the link, the others by their weights what these
    /// and lower effort's 1 % leave; all of that times `load`. An AF class is offered in equal parts
    /// of each drop precedence.
    pub(crate) fn new(rate: BitRate, load: f64) -> Self {
        let mut streams = Vec::new();
        for phb in Phb::ALL {
            let share = match ClassSettings::of(phb, rate).service {
                Service::Strict if phb == Phb::Telephony => 0.10,
                Service::Strict => 0.05,
                Service::LowerEffort => 0.01,
                Service::Weighted(weight) => 0.84 * f64::from(weight) / 100.0,
            };
            let code_points = code_points(phb);
            let frame_bytes = frame_bytes(phb);
            #[allow(clippy::cast_precision_loss, reason = "a rate")]
            let packets_a_second = rate.bps() as f64 * share * load
                / (wire_bytes(frame_bytes) * 8) as f64
                / code_points.len() as f64;
            for dscp in code_points {
                #[allow(clippy::cast_precision_loss, reason = "a clock")]
                let interval = CLOCK_HZ as f64 / packets_a_second;
                streams.push(Stream {
                    dscp,
                    is_call: matches!(phb, Phb::Telephony | Phb::AdmittedTelephony),
                    frame: frame(dscp, frame_bytes),
                    interval,
                    next: 0.0,
                });
            }
        }
        Self {
            streams,
            random: SmallRng::seed_from_u64(7),
        }
    }

    /// Sends everything that is due: calls regularly, the rest at random (Poisson).
    pub(crate) fn until(&mut self, now: u64, mut send: impl FnMut(Dscp, &[u8])) {
        #[allow(clippy::cast_precision_loss, reason = "a clock")]
        let until = now as f64;
        for stream in &mut self.streams {
            while stream.next <= until {
                if let Some(stamp) = stream.frame.last_chunk_mut() {
                    *stamp = now.to_be_bytes();
                }
                send(stream.dscp, &stream.frame);
                stream.next += if stream.is_call {
                    stream.interval
                } else {
                    -stream.interval * (1.0 - self.random.random::<f64>()).ln()
                };
            }
        }
    }
}

/// A class's code points; of an AF class, by drop precedence.
fn code_points(phb: Phb) -> Vec<Dscp> {
    let numbers: &[u32] = match phb {
        Phb::NetworkControl => &[48],
        Phb::Telephony => &[46],
        Phb::AdmittedTelephony => &[44],
        Phb::Signalling => &[40],
        Phb::MultimediaConferencing => &[34, 36, 38],
        Phb::RealtimeInteractive => &[32],
        Phb::MultimediaStreaming => &[26, 28, 30],
        Phb::BroadcastVideo => &[24],
        Phb::LowLatencyData => &[18, 20, 22],
        Phb::Oam => &[16],
        Phb::HighThroughputData => &[10, 12, 14],
        Phb::Standard => &[0],
        Phb::LowerEffort => &[1],
    };
    numbers
        .iter()
        .filter_map(|&number| Dscp::new(number).ok())
        .collect()
}

/// With ports of its own for each code point.
pub(crate) fn flow(dscp: Dscp) -> FiveTuple {
    let number = dscp.number();
    FiveTuple {
        source: ([10, 1, 0, 5], u16::from_be_bytes([0x20, number])).into(),
        destination: ([10, 2, 0, 7], u16::from_be_bytes([0x30, number])).into(),
        protocol: Protocol::UDP,
    }
}

/// An IPv4 UDP packet; calls come unmarked.
fn frame(dscp: Dscp, bytes: usize) -> Vec<u8> {
    let is_call = dscp == Dscp::EF || dscp == Dscp::VOICE_ADMIT;
    let class = if is_call { 0 } else { dscp.number() << 2 };
    let ip_bytes = u16::try_from(bytes - 14).unwrap_or(u16::MAX);
    let headers = headers(&flow(dscp), class, 1, ip_bytes);
    let mut frame = [&EDGE_MAC[..], &[2, 0, 0, 0, 1, 1], &headers].concat();
    frame.resize(bytes, 0);
    frame
}
