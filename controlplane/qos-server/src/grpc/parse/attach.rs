//! What routers say on their streams.

use std::time::Duration;

use ipnet::IpNet;
use voicelane_proto::v1;

use super::{address, at_most, endpoint, key, missing, unknown};
use crate::{
    engine::{Colours, EfClaim, EntryCounters, Latched, NearMiss, Reply, Silent},
    model::{
        codec::text as short_text,
        course::Path,
        entries::{FiveTuple, FlowKind},
        error::{Error, Refusal, RefusalKind},
        ids::{Fingerprint, RouterId, SessionKey},
        registry::{Carried, Identity, Interface, Role},
        report::{Changes, InterfaceChange, MAX_ADDRESSES, MAX_INTERFACES},
        session::{Learned, MAX_FLOWS},
        store::Reported,
    },
};

/// The most that a packet takes on the wire beside its headers.
const MAX_OVERHEAD_BYTES: u32 = 1_024;
/// The most sources or silent sessions that a router tells at once.
const MAX_LATCHED: usize = 1_024;
/// The most near misses, or claims of EF, that it tells at once.
const MAX_STRAYS: usize = 64;
/// The most numbers of a stream that a router tells for comparison.
const MAX_COMPARED: usize = 16;
/// The most reports of receivers that it tells of an entry.
const MAX_REPORTS: usize = 4;
/// The longest name of an interface, and the longest release, in bytes.
const MAX_TEXT: usize = 128;

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
    let field = "interfaces.interfaces";
    few(field, &report.interfaces)?;
    all_interfaces(field, report.interfaces)
}

/// A router's interfaces as a store has them, which may be more than a message may have.
pub fn kept_interfaces(report: v1::InterfaceReport) -> Result<Vec<Interface>, Error> {
    all_interfaces("interfaces.interfaces", report.interfaces)
}

/// There are no more interfaces and addresses than a router may have.
fn few(field: &str, interfaces: &[v1::Interface]) -> Result<(), Error> {
    at_most(field, interfaces.len(), MAX_INTERFACES)?;
    let addresses: usize = interfaces.iter().map(|it| it.addresses.len()).sum();
    if addresses > MAX_ADDRESSES {
        return Err(Error::invalid(
            format!("{field}.addresses"),
            format!("are {addresses} on all interfaces; give at most {MAX_ADDRESSES}"),
        ));
    }
    Ok(())
}

fn all_interfaces(field: &str, interfaces: Vec<v1::Interface>) -> Result<Vec<Interface>, Error> {
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
    few(field, &interfaces)?;
    let interfaces = all_interfaces(field, interfaces)?;
    let change = |(interface, (added, removed))| InterfaceChange {
        interface,
        added,
        removed,
    };
    at_most("interface_changes.gone", changes.gone.len(), MAX_INTERFACES)?;
    let gone = changes.gone.iter().enumerate().map(|(index, name)| {
        let name = text(&format!("interface_changes.gone[{index}]"), name)?;
        Ok(name.into())
    });
    let gone = gone.collect::<Result<_, Error>>()?;
    Ok(Changes {
        interfaces: interfaces
            .into_iter()
            .zip(prefixes_of)
            .map(change)
            .collect(),
        gone,
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
    at_most("silent.sessions", silent.sessions.len(), MAX_LATCHED)?;
    let one = |(index, it): (usize, v1::SilentSession)| {
        Ok(Silent {
            key: key(&format!("silent.sessions[{index}].key"), it.key)?,
            silent_for: Duration::from_millis(it.silent_ms),
            never: it.never,
        })
    };
    silent.sessions.into_iter().enumerate().map(one).collect()
}

/// Sessions that a router says lose packets or are heard one way only.
pub fn troubled(troubled: v1::TroubledSessions) -> Result<Vec<SessionKey>, Error> {
    at_most("troubled.sessions", troubled.sessions.len(), MAX_LATCHED)?;
    let one = |(index, it)| key(&format!("troubled.sessions[{index}]"), Some(it));
    troubled.sessions.into_iter().enumerate().map(one).collect()
}

/// What a router's ports carry.
pub fn traffic(traffic: v1::PortTraffic) -> Result<Vec<(Box<str>, Carried)>, Error> {
    at_most("traffic.ports", traffic.ports.len(), MAX_INTERFACES)?;
    let one = |(index, it): (usize, v1::PortRate)| {
        let port = text(&format!("traffic.ports[{index}].port"), &it.port)?;
        let carried = Carried {
            out_bps: it.out_bps,
            in_bps: it.in_bps,
        };
        Ok((port.into(), carried))
    };
    traffic.ports.into_iter().enumerate().map(one).collect()
}

/// Packets that a router says are no session's.
pub fn strays(strays: v1::StrayPackets) -> Result<(Vec<NearMiss>, Vec<EfClaim>), Error> {
    at_most("strays.near_misses", strays.near_misses.len(), MAX_STRAYS)?;
    at_most("strays.ef_claims", strays.ef_claims.len(), MAX_STRAYS)?;
    let near_miss = |(index, it): (usize, v1::NearMiss)| {
        let field = |name: &str| format!("strays.near_misses[{index}].{name}");
        Ok(NearMiss {
            key: key(&field("key"), it.key)?,
            flow: usize::try_from(it.flow_index).unwrap_or(usize::MAX),
            source: endpoint(&field("source"), it.source)?,
            destination: endpoint(&field("destination"), it.destination)?,
            interface: text(&field("interface"), &it.interface)?.into(),
        })
    };
    let ef_claim = |(index, it): (usize, v1::EfClaim)| {
        let field = format!("strays.ef_claims[{index}]");
        Ok(EfClaim {
            interface: text(&format!("{field}.interface"), &it.interface)?.into(),
            address: address(&field, &it.address)?,
            packets: it.packets,
        })
    };
    let misses = strays.near_misses.into_iter().enumerate().map(near_miss);
    let claims = strays.ef_claims.into_iter().enumerate().map(ef_claim);
    Ok((
        misses.collect::<Result<_, Error>>()?,
        claims.collect::<Result<_, Error>>()?,
    ))
}

/// What a packet takes on the wire beside its headers, or 0.
fn overhead(field: &str, bytes: u32) -> Result<u32, Error> {
    if bytes <= MAX_OVERHEAD_BYTES {
        return Ok(bytes);
    }
    let reason = format!("is {bytes}; give at most {MAX_OVERHEAD_BYTES}");
    Err(Error::invalid(field, reason))
}

/// A VLAN's number, or 0.
fn vlan(field: &str, number: u32) -> Result<u32, Error> {
    if number <= 4094 {
        return Ok(number);
    }
    let reason = format!("{number} is no VLAN: it must be 1 to 4094, or 0 for none");
    Err(Error::invalid(field, reason))
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
    let reported = Reported {
        revision: session.revision,
        fingerprint: Fingerprint(session.fingerprint),
    };
    Ok((key, reported))
}

/// Sources that a router says it has learned.
pub fn latched(latched: v1::LatchedSources) -> Result<Vec<Latched>, Error> {
    at_most("latched.sources", latched.sources.len(), MAX_LATCHED)?;
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
    let owner = result.owner.map(|it| key("result.owner", Some(it)));
    let refusal = Refusal {
        kind,
        detail,
        owner: owner.transpose()?,
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
        quality: counters.quality.map(few_compared),
    }
}

/// Without more for comparison than a router may tell.
fn few_compared(mut quality: v1::MediaQuality) -> v1::MediaQuality {
    quality.checkpoints.truncate(MAX_COMPARED);
    quality.marks.truncate(MAX_COMPARED);
    quality.receiver_reports.truncate(MAX_REPORTS);
    quality
}

fn text<'a>(field: &str, value: &'a str) -> Result<&'a str, Error> {
    short_text(field, value, MAX_TEXT)?;
    Ok(value)
}
