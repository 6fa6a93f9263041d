//! From messages to types whose every value is valid.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use voicelane_proto::v1;
use voicelane_types::{ColourMode, MeterKind, MeterSpec};

use crate::{
    engine::{Colours, EntryCounters, Reply, Reported},
    model::{
        entries::{FiveTuple, FlowKind, expand_distinct},
        error::{Error, Refusal, RefusalKind},
        ids::{Fingerprint, Revision, RouterId, SessionKey, session_key},
        meter::Meter,
        registry::{Identity, Interface, Role},
        session::{
            BurstBytes, MAX_FLOWS, MediaFlow, Path, RateBps, Rtcp, ServiceClass, SessionSpec, Terms,
        },
    },
};

/// The most interfaces of a router.
const MAX_INTERFACES: usize = 1_024;
/// The most addresses of a router.
const MAX_ADDRESSES: usize = 4_096;
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
    let mut flows = Vec::with_capacity(spec.flows.len());
    for (index, media) in spec.flows.into_iter().enumerate() {
        flows.push(flow(&format!("spec.flows[{index}]"), media, class)?);
    }
    let spec = SessionSpec {
        key: key("spec.key", spec.key)?,
        revision: Revision::parse("spec.revision", spec.revision)?,
        flows,
        class,
    };
    expand_distinct(&spec)?;
    Ok(spec)
}

fn flow(field: &str, flow: v1::MediaFlow, class: ServiceClass) -> Result<MediaFlow, Error> {
    let within = |error: Error| error.within(field);
    let path = path(field, flow.source, flow.destination)?;
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
    Ok(MediaFlow {
        path,
        terms,
        rtcp: rtcp("rtcp", flow.rtcp.unwrap_or_default(), path).map_err(within)?,
    })
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

fn rtcp(field: &str, rtcp: v1::Rtcp, media: Path) -> Result<Rtcp, Error> {
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
            media.next_ports().map(Rtcp::NextPort).ok_or_else(|| {
                Error::invalid(
                    format!("{field}.mode"),
                    "is MODE_NEXT_PORT, but no port follows 65535; use another mode",
                )
            })
        }
        Mode::Mux => Ok(Rtcp::Mux),
        Mode::Explicit => path(field, rtcp.source, rtcp.destination).map(Rtcp::Explicit),
        Mode::None => Ok(Rtcp::None),
    }
}

fn path(
    field: &str,
    source: Option<v1::Endpoint>,
    destination: Option<v1::Endpoint>,
) -> Result<Path, Error> {
    let end = |name, end| endpoint(name, end).map_err(|error: Error| error.within(field));
    let (source, destination) = (end("source", source)?, end("destination", destination)?);
    Path::parse(field, source, destination)
}

fn endpoint(field: &str, endpoint: Option<v1::Endpoint>) -> Result<SocketAddr, Error> {
    let endpoint = endpoint.ok_or_else(|| missing(field))?;
    let address: IpAddr = endpoint.address.parse().map_err(|_| {
        let shown: String = endpoint.address.chars().take(64).collect();
        let reason = format!("{shown:?} is no IPv4 or IPv6 literal");
        Error::invalid(format!("{field}.address"), reason)
    })?;
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
    let count = report.interfaces.len();
    if count > MAX_INTERFACES {
        return Err(Error::invalid(
            "interfaces.interfaces",
            format!("has {count}; give at most {MAX_INTERFACES}"),
        ));
    }
    let addresses: usize = report.interfaces.iter().map(|it| it.addresses.len()).sum();
    if addresses > MAX_ADDRESSES {
        return Err(Error::invalid(
            "interfaces.interfaces.addresses",
            format!("are {addresses} on all interfaces; give at most {MAX_ADDRESSES}"),
        ));
    }
    let one = |(index, it): (usize, v1::Interface)| {
        let field = format!("interfaces.interfaces[{index}]");
        let role = match v1::interface::Role::try_from(it.role) {
            Ok(v1::interface::Role::Edge) => Role::Edge,
            Ok(v1::interface::Role::Core) => Role::Core,
            Ok(v1::interface::Role::Unspecified) | Err(_) => {
                return Err(unknown(&format!("{field}.role"), it.role));
            }
        };
        let mut prefixes: Vec<IpNet> = networks(&format!("{field}.prefixes"), &it.prefixes)?
            .into_iter()
            .map(|prefix| prefix.trunc())
            .collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        Ok(Interface {
            name: text(&format!("{field}.name"), &it.name)?.into(),
            role,
            up: it.up,
            addresses: networks(&format!("{field}.addresses"), &it.addresses)?,
            prefixes,
            rate_bps: it.rate_bps,
            ef_budget_bps: it.ef_budget_bps,
            mtu_bytes: it.mtu_bytes,
            vlan_id: vlan(&format!("{field}.vlan_id"), it.vlan_id)?,
            port: text(&format!("{field}.port"), &it.port)?.into(),
        })
    };
    report.interfaces.into_iter().enumerate().map(one).collect()
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
    if value.len() > MAX_TEXT {
        let reason = format!("has {} bytes; give at most {MAX_TEXT}", value.len());
        return Err(Error::invalid(field, reason));
    }
    Ok(value)
}

fn missing(field: &str) -> Error {
    Error::invalid(field, "is missing")
}

fn unknown(field: &str, value: i32) -> Error {
    Error::invalid(field, format!("is {value}, which is no value of its kind"))
}
