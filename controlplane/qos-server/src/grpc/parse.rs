//! From messages to types whose every value is valid.

mod attach;

use std::net::{IpAddr, SocketAddr};

use voicelane_proto::v1;
use voicelane_types::{ColourMode, MeterKind, MeterSpec};

pub use self::attach::*;
use crate::model::{
    codec::{Codec, MAX_CODEC_BYTES, MAX_CODECS, text as short_text},
    course::{Course, End},
    entries::expand_distinct,
    error::Error,
    ids::{Revision, SessionKey, session_key},
    meter::Meter,
    session::{
        BurstBytes, MAX_CORRELATION_ID, MAX_FLOWS, MAX_LIFETIME_S, MediaFlow, PACKET_TIMES_US,
        Priority, RateBps, Rtcp, ServiceClass, SessionSpec, Terms,
    },
};

/// A session's key; `field` is its path in the request.
pub fn key(field: &str, key: Option<v1::SessionKey>) -> Result<SessionKey, Error> {
    let key = key.ok_or_else(|| missing(field))?;
    session_key(field, &key.agent_id, &key.session_id)
}

/// A session as asked for.
pub fn spec(spec: Option<v1::SessionSpec>) -> Result<SessionSpec, Error> {
    let spec = spec.ok_or_else(|| missing("spec"))?;
    if spec.flows.is_empty() || spec.flows.len() > MAX_FLOWS {
        return Err(Error::invalid(
            "spec.flows",
            format!("has {} flows; give 1 to {MAX_FLOWS}", spec.flows.len()),
        ));
    }
    let class = v1::ServiceClass::try_from(spec.service_class)
        .map_err(|_| unknown("spec.service_class", spec.service_class))?
        .into();
    let codecs = spec.flows.iter().flat_map(|flow| &flow.codecs);
    let codec_bytes: usize = codecs.map(prost::Message::encoded_len).sum();
    if codec_bytes > MAX_CODEC_BYTES {
        return Err(Error::invalid(
            "spec.flows.codecs",
            format!("have {codec_bytes} bytes in all flows; give at most {MAX_CODEC_BYTES}"),
        ));
    }
    short_text(
        "spec.correlation_id",
        &spec.correlation_id,
        MAX_CORRELATION_ID,
    )?;
    if spec.lifetime_s > MAX_LIFETIME_S {
        return Err(Error::invalid(
            "spec.lifetime_s",
            format!(
                "is {}; give 1 to {MAX_LIFETIME_S}, or 0 for a session without a lease",
                spec.lifetime_s
            ),
        ));
    }
    let mut flows = Vec::with_capacity(spec.flows.len());
    for (index, media) in spec.flows.into_iter().enumerate() {
        flows.push(flow(&format!("spec.flows[{index}]"), media, class)?);
    }
    let spec = SessionSpec {
        key: key("spec.key", spec.key)?,
        revision: Revision::parse("spec.revision", spec.revision)?,
        flows,
        class,
        correlation_id: spec.correlation_id.into(),
        lifetime_s: spec.lifetime_s,
        priority: Priority::parse("spec.priority", spec.priority)?,
        may_preempt: spec.may_preempt,
        preemptable: spec.preemptable,
        hold: spec.hold,
    };
    expand_distinct(&spec, &[])?;
    Ok(spec)
}

fn flow(field: &str, flow: v1::MediaFlow, class: ServiceClass) -> Result<MediaFlow, Error> {
    let within = |error: Error| error.within(field);
    let latch = latch(&format!("{field}.latch"), flow.latch)?;
    let course = course(field, flow.source, flow.destination, latch)?;
    let (rate, burst) = (flow.max_bitrate_bps, flow.max_burst_bytes);
    let terms = match flow.meter {
        None => Terms::Policer {
            rate: RateBps::parse("max_bitrate_bps", rate).map_err(within)?,
            burst: BurstBytes::parse("max_burst_bytes", burst).map_err(within)?,
        },
        Some(_) if rate != 0 || burst != 0 => {
            return Err(Error::invalid(
                format!("{field}.meter"),
                "is given, and so is max_bitrate_bps or max_burst_bytes; drop one or the other",
            ));
        }
        Some(it) => Terms::Meter(meter(&format!("{field}.meter"), it, class)?),
    };
    let packet_time_us = flow.packet_time_us;
    if packet_time_us != 0 && !PACKET_TIMES_US.contains(&packet_time_us) {
        let (least, most) = (PACKET_TIMES_US.start(), PACKET_TIMES_US.end());
        let reason = format!("is {packet_time_us}; give {least} to {most}, or 0 for 20000");
        return Err(Error::invalid(format!("{field}.packet_time_us"), reason));
    }
    Ok(MediaFlow {
        course,
        terms,
        rtcp: rtcp("rtcp", flow.rtcp.unwrap_or_default(), course).map_err(within)?,
        codecs: codecs(&format!("{field}.codecs"), flow.codecs)?,
        packet_time_us,
    })
}

fn codecs(field: &str, codecs: Vec<v1::Codec>) -> Result<Box<[Codec]>, Error> {
    at_most(field, codecs.len(), MAX_CODECS)?;
    let mut parsed: Vec<Codec> = Vec::with_capacity(codecs.len());
    for (index, it) in codecs.into_iter().enumerate() {
        let codec = Codec::parse(
            it.payload_type,
            &it.encoding,
            it.clock_rate,
            it.ptime_ms,
            &it.fmtp,
        );
        let codec = codec.map_err(|error| error.within(&format!("{field}[{index}]")))?;
        if parsed
            .iter()
            .any(|other| other.payload_type == codec.payload_type)
        {
            let reason = format!(
                "is {}, which another codec of the flow has",
                it.payload_type
            );
            return Err(Error::invalid(
                format!("{field}[{index}].payload_type"),
                reason,
            ));
        }
        parsed.push(codec);
    }
    Ok(parsed.into())
}

/// Present if a flow's source is to be learned, with the address that it must have, if there is one.
fn latch(field: &str, latch: Option<v1::Latch>) -> Result<Option<Option<IpAddr>>, Error> {
    latch
        .map(|latch| match latch.address.as_str() {
            "" => Ok(None),
            literal => address(field, literal).map(Some),
        })
        .transpose()
}

fn meter(field: &str, meter: v1::Meter, class: ServiceClass) -> Result<Meter, Error> {
    use v1::meter::Marker;

    let rate = |name: &str, bps| RateBps::parse(&format!("{field}.{name}"), bps).map(RateBps::rate);
    let kind = match meter.marker {
        Some(Marker::Srtcm(it)) => MeterKind::SrTcm {
            ebs_bytes: it.ebs_bytes,
        },
        Some(Marker::Trtcm(it)) => MeterKind::TrTcm {
            pir: rate("trtcm.pir_bps", it.pir_bps)?,
            pbs_bytes: it.pbs_bytes,
        },
        Some(Marker::Rfc4115(it)) => MeterKind::Rfc4115 {
            eir: rate("rfc4115.eir_bps", it.eir_bps)?,
            ebs_bytes: it.ebs_bytes,
        },
        None => {
            return Err(Error::invalid(
                format!("{field}.marker"),
                "is missing; give srtcm, trtcm or rfc4115",
            ));
        }
    };
    let spec = MeterSpec {
        kind,
        cir: rate("cir_bps", meter.cir_bps)?,
        cbs_bytes: meter.cbs_bytes,
        mode: if meter.colour_aware {
            ColourMode::Aware
        } else {
            ColourMode::Blind
        },
    };
    let meter = Meter {
        spec,
        drop_red: meter.drop_red,
    };
    Meter::parse(field, meter, class)
}

fn rtcp(field: &str, rtcp: v1::Rtcp, media: Course) -> Result<Rtcp, Error> {
    use v1::rtcp::Mode;

    let mode =
        Mode::try_from(rtcp.mode).map_err(|_| unknown(&format!("{field}.mode"), rtcp.mode))?;
    if mode != Mode::Explicit && (rtcp.source.is_some() || rtcp.destination.is_some()) {
        return Err(Error::invalid(
            format!("{field}.mode"),
            "is not MODE_EXPLICIT, yet there is a source or a destination; drop one or the other",
        ));
    }
    match mode {
        Mode::Unspecified | Mode::NextPort => {
            let next = media.next_ports().map(|_| Rtcp::NextPort);
            next.ok_or_else(|| {
                Error::invalid(
                    format!("{field}.mode"),
                    "is MODE_NEXT_PORT, but no port follows 65535; use another mode",
                )
            })
        }
        Mode::Mux => Ok(Rtcp::Mux),
        Mode::Explicit => explicit(field, rtcp, media).map(|it| Rtcp::Explicit(Box::new(it))),
        Mode::None => Ok(Rtcp::None),
    }
}

/// RTCP with addresses of its own: of the ends that are known of its media.
fn explicit(field: &str, rtcp: v1::Rtcp, media: Course) -> Result<Course, Error> {
    let latch = match media {
        Course::Latching(latch) => Some(latch.from),
        Course::Whole(_) | Course::Half(..) => None,
    };
    let known = [
        (End::Source, rtcp.source.is_some(), media.source().is_some()),
        (
            End::Destination,
            rtcp.destination.is_some(),
            media.destination().is_some(),
        ),
    ];
    for (end, given, wanted) in known {
        let name = end.name();
        match (given, wanted) {
            (false, true) => return Err(missing(&format!("{field}.{name}"))),
            (true, false) => {
                let reason = format!("is given, and the flow has no {name}; drop it");
                return Err(Error::invalid(format!("{field}.{name}"), reason));
            }
            (true, true) | (false, false) => {}
        }
    }
    course(field, rtcp.source, rtcp.destination, latch)
}

fn course(
    field: &str,
    source: Option<v1::Endpoint>,
    destination: Option<v1::Endpoint>,
    latch: Option<Option<IpAddr>>,
) -> Result<Course, Error> {
    let end = |name, end: Option<v1::Endpoint>| {
        end.map(|end| endpoint(name, Some(end)).map_err(|error: Error| error.within(field)))
            .transpose()
    };
    let (source, destination) = (end("source", source)?, end("destination", destination)?);
    Course::parse(field, source, destination, latch)
}

fn address(field: &str, literal: &str) -> Result<IpAddr, Error> {
    literal.parse().map_err(|_| {
        let shown: String = literal.chars().take(64).collect();
        let reason = format!("{shown:?} is no IPv4 or IPv6 literal");
        Error::invalid(format!("{field}.address"), reason)
    })
}

fn endpoint(field: &str, endpoint: Option<v1::Endpoint>) -> Result<SocketAddr, Error> {
    let endpoint = endpoint.ok_or_else(|| missing(field))?;
    let address = address(field, &endpoint.address)?;
    let port = u16::try_from(endpoint.port).map_err(|_| {
        let reason = format!("is {}; give 1 to 65535", endpoint.port);
        Error::invalid(format!("{field}.port"), reason)
    })?;
    Ok(SocketAddr::new(address, port))
}

/// Whose sessions are asked for; empty is everybody's.
pub fn agent(value: &str) -> Result<Option<String>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    session_key("request", value, "any").map(|_| Some(value.to_owned()))
}

/// How many are asked for; 0: nobody says.
pub(super) fn count(field: &str, asked: u32, default: usize, most: u32) -> Result<usize, Error> {
    match asked {
        0 => Ok(default),
        count if count <= most => Ok(count as usize),
        count => {
            let reason = format!("is {count}; give 1 to {most}");
            Err(Error::invalid(field, reason))
        }
    }
}

pub(super) fn at_most(field: &str, count: usize, most: usize) -> Result<(), Error> {
    if count <= most {
        return Ok(());
    }
    let reason = format!("has {count}; give at most {most}");
    Err(Error::invalid(field, reason))
}

fn missing(field: &str) -> Error {
    Error::invalid(field, "is missing")
}

fn unknown(field: &str, value: i32) -> Error {
    Error::invalid(field, format!("is {value}, which is no value of its kind"))
}
