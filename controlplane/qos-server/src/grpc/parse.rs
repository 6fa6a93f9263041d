//! From messages to types whose every value is valid.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use voicelane_proto::v1;
use voicelane_types::{ColourMode, MeterKind, MeterSpec};

use crate::{
    engine::{Colours, EntryCounters, Latched, MediaQuality, Reply, Silent},
    model::{
        codec::{Codec, MAX_CODEC_BYTES, MAX_CODECS, text as short_text},
        course::{Course, End, Path},
        entries::{FiveTuple, FlowKind, expand_distinct},
        error::{Error, Refusal, RefusalKind},
        ids::{Fingerprint, Revision, RouterId, SessionKey, session_key},
        meter::Meter,
        registry::{Identity, Interface, Role},
        report::{Changes, InterfaceChange},
        session::{
            BurstBytes, Learned, MAX_CORRELATION_ID, MAX_FLOWS, MAX_LIFETIME_S, MediaFlow,
            PACKET_TIMES_US, Priority, RateBps, Rtcp, ServiceClass, SessionSpec, Terms,
        },
        store::Reported,
    },
};

/// The most interfaces of a router.
const MAX_INTERFACES: usize = 1_024;
/// The most addresses of a router.
const MAX_ADDRESSES: usize = 4_096;
/// The most that a packet takes on the wire beside its headers.
const MAX_OVERHEAD_BYTES: u32 = 1_024;
/// The most sources or silent sessions that a router tells at once.
const MAX_LATCHED: usize = 1_024;
/// The longest name of an interface, and the longest release, in bytes.
const MAX_TEXT: usize = 128;

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
    if codecs.len() > MAX_CODECS {
        let reason = format!("has {}; give at most {MAX_CODECS}", codecs.len());
        return Err(Error::invalid(field, reason));
    }
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

/// What a router says of itself.
pub fn hello(hello: v1::Hello) -> Result<Identity, Error> {
    Ok(Identity {
        id: RouterId::parse("hello.router_id", &hello.router_id)?,
        epoch: hello.epoch,
        software_version: text("hello.software_version", &hello.software_version)?.to_owned(),
        entry_capacity: hello.entry_capacity,
    })
}

/// A router's interfaces.
pub fn interfaces(report: v1::InterfaceReport) -> Result<Vec<Interface>, Error> {
    all_interfaces("interfaces.interfaces", report.interfaces)
}

fn all_interfaces(field: &str, interfaces: Vec<v1::Interface>) -> Result<Vec<Interface>, Error> {
    let count = interfaces.len();
    if count > MAX_INTERFACES {
        return Err(Error::invalid(
            field,
            format!("has {count}; give at most {MAX_INTERFACES}"),
        ));
    }
    let addresses: usize = interfaces.iter().map(|it| it.addresses.len()).sum();
    if addresses > MAX_ADDRESSES {
        return Err(Error::invalid(
            format!("{field}.addresses"),
            format!("are {addresses} on all interfaces; give at most {MAX_ADDRESSES}"),
        ));
    }
    let one = |(index, it): (usize, v1::Interface)| {
        let field = format!("{field}[{index}]");
        let role = match v1::interface::Role::try_from(it.role) {
            Ok(v1::interface::Role::Edge) => Role::Edge,
            Ok(v1::interface::Role::Core) => Role::Core,
            Ok(v1::interface::Role::Unspecified) | Err(_) => {
                return Err(unknown(&format!("{field}.role"), it.role));
            }
        };
        let prefixes = prefixes(&format!("{field}.prefixes"), &it.prefixes)?;
        Ok(Interface {
            name: text(&format!("{field}.name"), &it.name)?.into(),
            role,
            up: it.up,
            addresses: networks(&format!("{field}.addresses"), &it.addresses)?,
            prefixes,
            refused: Vec::new(),
            rate_bps: it.rate_bps,
            ef_budget_bps: it.ef_budget_bps,
            ef_ingress_budget_bps: it.ef_ingress_budget_bps,
            mtu_bytes: it.mtu_bytes,
            overhead_bytes: overhead(&format!("{field}.overhead_bytes"), it.overhead_bytes)?,
            vlan_id: vlan(&format!("{field}.vlan_id"), it.vlan_id)?,
            port: text(&format!("{field}.port"), &it.port)?.into(),
        })
    };
    interfaces.into_iter().enumerate().map(one).collect()
}

/// What is different since a router's last report.
pub fn interface_changes(changes: v1::InterfaceChanges) -> Result<Changes, Error> {
    let field = "interface_changes.interfaces";
    let missing = |index: usize| missing(&format!("{field}[{index}].interface"));
    let (mut interfaces, mut prefixes_of) = (Vec::new(), Vec::new());
    for (index, change) in changes.interfaces.into_iter().enumerate() {
        interfaces.push(change.interface.ok_or_else(|| missing(index))?);
        let of = |what: &str, all: &[String]| prefixes(&format!("{field}[{index}].{what}"), all);
        prefixes_of.push((
            of("added_prefixes", &change.added_prefixes)?,
            of("removed_prefixes", &change.removed_prefixes)?,
        ));
    }
    let interfaces = all_interfaces(field, interfaces)?;
    let change = |(interface, (added, removed))| InterfaceChange {
        interface,
        added,
        removed,
    };
    let gone = changes.gone.into_iter().map(Into::into);
    Ok(Changes {
        interfaces: interfaces
            .into_iter()
            .zip(prefixes_of)
            .map(change)
            .collect(),
        gone: gone.take(MAX_INTERFACES).collect(),
    })
}

/// Prefixes in order, each once, without host bits.
fn prefixes(field: &str, values: &[String]) -> Result<Vec<IpNet>, Error> {
    let all = networks(field, values)?.into_iter();
    let mut prefixes: Vec<IpNet> = all.map(|prefix| prefix.trunc()).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    Ok(prefixes)
}

/// Sessions that a router says are silent.
pub fn silent(silent: v1::SilentSessions) -> Result<Vec<Silent>, Error> {
    let count = silent.sessions.len();
    if count > MAX_LATCHED {
        let reason = format!("has {count}; give at most {MAX_LATCHED}");
        return Err(Error::invalid("silent.sessions", reason));
    }
    let one = |(index, it): (usize, v1::SilentSession)| {
        Ok(Silent {
            key: key(&format!("silent.sessions[{index}].key"), it.key)?,
            silent_for: Duration::from_millis(it.silent_ms),
            never: it.never,
        })
    };
    silent.sessions.into_iter().enumerate().map(one).collect()
}

/// What a router's ports send, bit/s on the wire.
pub fn traffic(traffic: v1::PortTraffic) -> Result<Vec<(Box<str>, u64)>, Error> {
    let count = traffic.ports.len();
    if count > MAX_INTERFACES {
        let reason = format!("has {count}; give at most {MAX_INTERFACES}");
        return Err(Error::invalid("traffic.ports", reason));
    }
    let one = |(index, it): (usize, v1::PortRate)| {
        let port = text(&format!("traffic.ports[{index}].port"), &it.port)?;
        Ok((port.into(), it.out_bps))
    };
    traffic.ports.into_iter().enumerate().map(one).collect()
}

/// What a packet takes on the wire beside its headers, or 0.
fn overhead(field: &str, bytes: u32) -> Result<u32, Error> {
    if bytes <= MAX_OVERHEAD_BYTES {
        Ok(bytes)
    } else {
        let reason = format!("is {bytes}; give at most {MAX_OVERHEAD_BYTES}");
        Err(Error::invalid(field, reason))
    }
}

/// A VLAN's number, or 0.
fn vlan(field: &str, number: u32) -> Result<u32, Error> {
    if number <= 4094 {
        Ok(number)
    } else {
        let reason = format!("{number} is no VLAN: it must be 1 to 4094, or 0 for none");
        Err(Error::invalid(field, reason))
    }
}

fn networks(field: &str, values: &[String]) -> Result<Vec<IpNet>, Error> {
    let one = |(index, value): (usize, &String)| {
        value.parse().map_err(|_| {
            let shown: String = value.chars().take(64).collect();
            let reason = format!("{shown:?} is no prefix like 192.0.2.0/24");
            Error::invalid(format!("{field}[{index}]"), reason)
        })
    };
    values.iter().enumerate().map(one).collect()
}

/// What a router says it has.
pub fn installed(session: v1::InstalledSession) -> Result<(SessionKey, Reported), Error> {
    let key = key("installed.sessions.key", session.key)?;
    let fingerprint = Fingerprint(session.fingerprint);
    Ok((
        key,
        Reported {
            revision: session.revision,
            fingerprint,
        },
    ))
}

/// Sources that a router says it has learned.
pub fn latched(latched: v1::LatchedSources) -> Result<Vec<Latched>, Error> {
    let count = latched.sources.len();
    if count > MAX_LATCHED {
        let reason = format!("has {count}; give at most {MAX_LATCHED}");
        return Err(Error::invalid("latched.sources", reason));
    }
    let one = |(index, it): (usize, v1::LatchedSource)| {
        let field = format!("latched.sources[{index}]");
        let kind = match v1::FlowKind::try_from(it.kind) {
            Ok(v1::FlowKind::Rtp) => FlowKind::Rtp,
            Ok(v1::FlowKind::Rtcp) => FlowKind::Rtcp,
            Ok(v1::FlowKind::Unspecified) | Err(_) => {
                return Err(unknown(&format!("{field}.kind"), it.kind));
            }
        };
        Ok(Latched {
            key: key(&format!("{field}.key"), it.key)?,
            learned: Learned {
                flow: usize::try_from(it.flow_index).unwrap_or(usize::MAX),
                kind,
                source: endpoint(&format!("{field}.source"), it.source)?,
            },
            destination: endpoint(&format!("{field}.destination"), it.destination)?,
        })
    };
    latched.sources.into_iter().enumerate().map(one).collect()
}

/// A router's answer, with the number of the command.
pub fn result(result: v1::CommandResult) -> Result<(u64, Reply), Error> {
    use v1::command_result::Code;

    let kind = match Code::try_from(result.code) {
        Ok(Code::Ok) => {
            return Ok((result.command_id, all_counters(result.counters)));
        }
        Ok(Code::TableFull) => RefusalKind::TableFull,
        Ok(Code::Conflict) => RefusalKind::Conflict,
        Ok(Code::Invalid) => RefusalKind::Invalid,
        Ok(Code::NotFound) => RefusalKind::NotFound,
        Ok(Code::Internal) => RefusalKind::Internal,
        Ok(Code::Unspecified) | Err(_) => return Err(unknown("result.code", result.code)),
    };
    let detail = result.detail.chars().take(512).collect();
    let owner = result
        .owner
        .map(|owner| key("result.owner", Some(owner)))
        .transpose()?;
    let refusal = Refusal {
        kind,
        detail,
        owner,
    };
    Ok((result.command_id, Err(refusal)))
}

/// A session's counters; a refusal if they cannot be any session's.
fn all_counters(all: Vec<v1::EntryCounters>) -> Reply {
    // Every flow with RTP and RTCP.
    let most = 2 * MAX_FLOWS;
    let detail = if all.len() > most {
        format!(
            "it told {} counters, and no session has more than {most} entries",
            all.len()
        )
    } else {
        let all: Vec<EntryCounters> = all.into_iter().map(counters).collect();
        match all.iter().find_map(EntryCounters::implausible) {
            None => return Ok(all),
            Some(detail) => detail,
        }
    };
    Err(Refusal {
        kind: RefusalKind::Implausible,
        detail,
        owner: None,
    })
}

fn counters(counters: v1::EntryCounters) -> EntryCounters {
    let end = |end: Option<v1::Endpoint>| endpoint("counters", end).ok();
    let path = end(counters.source)
        .zip(end(counters.destination))
        .and_then(|(source, destination)| Path::parse("counters", source, destination).ok());
    EntryCounters {
        flow: counters.flow_index,
        kind: match v1::FlowKind::try_from(counters.kind) {
            Ok(v1::FlowKind::Rtp) => Some(FlowKind::Rtp),
            Ok(v1::FlowKind::Rtcp) => Some(FlowKind::Rtcp),
            Ok(v1::FlowKind::Unspecified) | Err(_) => None,
        },
        tuple: path.map(FiveTuple),
        packets: counters.packets,
        bytes: counters.bytes,
        policed_packets: counters.policed_packets,
        policed_bytes: counters.policed_bytes,
        last_seen_ms_ago: counters.last_seen_ms_ago,
        colours: counters.colours.map(|it| Colours {
            green: [it.green_packets, it.green_bytes],
            yellow: [it.yellow_packets, it.yellow_bytes],
            red: [it.red_packets, it.red_bytes],
        }),
        spoofed_packets: counters.spoofed_packets,
        spoofed_interface: counters.spoofed_interface.chars().take(MAX_TEXT).collect(),
        quality: counters.quality.map(quality),
    }
}

fn quality(it: v1::MediaQuality) -> MediaQuality {
    MediaQuality {
        ssrc: it.ssrc,
        payload_type: it.payload_type,
        clock_hz: it.clock_hz,
        expected: it.expected,
        received: it.received,
        lost: it.lost,
        missing: it.missing,
        runs: it.runs,
        bursts: it.bursts,
        burst_packets: it.burst_packets,
        burst_lost: it.burst_lost,
        duplicates: it.duplicates,
        reordered: it.reordered,
        late: it.late,
        jitter_ns: it.jitter_ns,
        jitter_max_ns: it.jitter_max_ns,
        talk_spurts: it.talk_spurts,
        event_packets: it.event_packets,
        comfort_noise_packets: it.comfort_noise_packets,
        foreign: it.foreign,
        restarts: it.restarts,
        ssrc_changes: it.ssrc_changes,
        timestamp_jumps: it.timestamp_jumps,
        rtcp_packets: it.rtcp_packets,
        stun_packets: it.stun_packets,
        dtls_packets: it.dtls_packets,
        other_packets: it.other_packets,
        spread: it.spread,
    }
}

/// Whose sessions are asked for; empty is everybody's.
pub fn agent(value: &str) -> Result<Option<String>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    session_key("request", value, "any").map(|_| Some(value.to_owned()))
}

fn text<'a>(field: &str, value: &'a str) -> Result<&'a str, Error> {
    short_text(field, value, MAX_TEXT)?;
    Ok(value)
}

fn missing(field: &str) -> Error {
    Error::invalid(field, "is missing")
}

fn unknown(field: &str, value: i32) -> Error {
    Error::invalid(field, format!("is {value}, which is no value of its kind"))
}
