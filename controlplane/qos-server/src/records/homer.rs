//! Quality reports for Homer: HEPv3 frames (<https://github.com/sipcapture/HEP>) of protocol type 34, a JSON
//! document with the keys of captagent's RTP reports, by UDP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::Serialize;
use tracing::{info, warn};
use voicelane_proto::v1::MediaQuality;

use crate::engine::CallRecord;

/// A report of RTP.
const RTP_REPORT: u8 = 34;
/// The sender's name, as Homer shows it.
const NODE_NAME: &[u8] = b"voicelane-server";
const UDP: u8 = 17;

/// Where reports are sent.
#[derive(Clone, Debug)]
pub struct Homer {
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    /// Whether the last report could not be sent.
    fails: Arc<AtomicBool>,
}

/// A flow's report. Times are in ms; what is not known is left out.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Report<'a> {
    correlation_id: &'a str,
    rtp_sip_call_id: &'a str,
    /// Seconds since the Unix epoch.
    report_ts: i64,
    tl_byte: u64,
    total_pk: u64,
    expected_pk: u64,
    packet_loss: u64,
    out_order: u64,
    ssrc_chg: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_jitter: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mos: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rfactor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codec_pt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codec_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<u32>,
    src_ip: IpAddr,
    src_port: u16,
    dst_ip: IpAddr,
    dst_port: u16,
    report_name: String,
    r#type: &'static str,
}

impl Homer {
    /// Reports to a HEP receiver.
    ///
    /// # Errors
    ///
    /// If there is no socket for its address.
    pub fn to(to: SocketAddr) -> io::Result<Self> {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Arc::new(socket),
            to,
            fails: Arc::default(),
        })
    }

    /// Reports each flow of a call that has ended, as it came to the destination's router. Never waits.
    pub fn report(&self, call: &CallRecord) {
        for flow in 0..call.flows.len() {
            let Some(frame) = frame(call, flow) else {
                continue;
            };
            let sent = self.socket.send_to(&frame, self.to);
            let failed = self.fails.swap(sent.is_err(), Ordering::Relaxed);
            match sent {
                Err(error) if !failed => {
                    warn!(to = %self.to, %error, "calls cannot be reported to Homer");
                }
                Ok(_) if failed => info!(to = %self.to, "calls are reported to Homer again"),
                _ => {}
            }
        }
    }
}

/// `None` of a flow that was not measured.
fn frame(call: &CallRecord, flow: usize) -> Option<Vec<u8>> {
    let counted = call.flows.get(flow)?.at_destination()?;
    let measured = counted.quality.as_ref()?;
    let path = counted.tuple?.0;
    let (source, destination) = (path.source(), path.destination());
    let spec = &call.session.spec;
    // What the SIP server's frames have, if the agent has said that.
    let name = match &*spec.correlation_id {
        "" => spec.key.session(),
        id => id,
    };
    let score = call.score(flow);
    let report = Report {
        correlation_id: name,
        rtp_sip_call_id: name,
        report_ts: call.ended.0.div_euclid(1_000),
        tl_byte: counted.bytes,
        total_pk: measured.received,
        expected_pk: measured.expected,
        packet_loss: measured.lost,
        out_order: measured.reordered,
        ssrc_chg: measured.ssrc_changes,
        jitter: measured.jitter_ns.map(milliseconds),
        max_jitter: measured.jitter_max_ns.map(milliseconds),
        mos: score.map(|it| it.mos),
        rfactor: score.map(|it| it.rating),
        codec_pt: measured.payload_type,
        codec_name: codec(call, flow, measured),
        clock: Some(measured.clock_hz).filter(|hz| *hz > 0),
        src_ip: source.ip(),
        src_port: source.port(),
        dst_ip: destination.ip(),
        dst_port: destination.port(),
        report_name: source.to_string(),
        r#type: "HANGUP",
    };
    let mut frame = Frame::new(source.is_ipv4());
    frame.end([3, 5], 7, source);
    frame.end([4, 6], 8, destination);
    let seconds = u32::try_from(call.ended.0.div_euclid(1_000)).ok()?;
    let micros = u32::try_from(call.ended.0.rem_euclid(1_000)).ok()? * 1_000;
    frame.chunk(9, &seconds.to_be_bytes());
    frame.chunk(10, &micros.to_be_bytes());
    frame.chunk(11, &[RTP_REPORT]);
    frame.chunk(12, &1_u32.to_be_bytes());
    frame.chunk(15, &serde_json::to_vec(&report).ok()?);
    frame.chunk(17, name.as_bytes());
    frame.chunk(19, NODE_NAME);
    frame.finish()
}

/// The static payload types (RFC 3551 section 6) of telephony, and what the call's description says.
fn codec(call: &CallRecord, flow: usize, measured: &MediaQuality) -> Option<String> {
    let payload_type = measured.payload_type?;
    let name = match payload_type {
        0 => "PCMU",
        3 => "GSM",
        4 => "G723",
        8 => "PCMA",
        9 => "G722",
        18 => "G729",
        _ => {
            let mut declared = call.session.spec.flows.get(flow)?.codecs.iter();
            let declared = declared.find(|it| u32::from(it.payload_type) == payload_type);
            return declared.map(|it| it.encoding.to_string());
        }
    };
    Some(name.to_owned())
}

#[allow(clippy::cast_precision_loss, reason = "less than an hour")]
fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// `HEP3`, the length of all, and chunks: vendor 0, type, length with these six bytes, value.
struct Frame(Vec<u8>);

impl Frame {
    const MAGIC: &'static [u8] = b"HEP3";

    fn new(is_v4: bool) -> Self {
        let mut frame = Self([Self::MAGIC, &[0, 0]].concat());
        // AF_INET, AF_INET6.
        frame.chunk(1, &[if is_v4 { 2 } else { 10 }]);
        frame.chunk(2, &[UDP]);
        frame
    }

    fn end(&mut self, [v4, v6]: [u16; 2], port: u16, at: SocketAddr) {
        match at.ip() {
            IpAddr::V4(ip) => self.chunk(v4, &ip.octets()),
            IpAddr::V6(ip) => self.chunk(v6, &ip.octets()),
        }
        self.chunk(port, &at.port().to_be_bytes());
    }

    fn chunk(&mut self, kind: u16, value: &[u8]) {
        // What is too long for its chunk is too long for the frame.
        let length = u16::try_from(value.len() + 6).unwrap_or(u16::MAX);
        for word in [0, kind, length] {
            self.0.extend(word.to_be_bytes());
        }
        self.0.extend(value);
    }

    /// `None` where it has become too long.
    fn finish(mut self) -> Option<Vec<u8>> {
        let length = u16::try_from(self.0.len()).ok()?;
        let place = self.0.get_mut(Self::MAGIC.len()..Self::MAGIC.len() + 2)?;
        place.copy_from_slice(&length.to_be_bytes());
        Some(self.0)
    }
}
