//! From `InstallSession` to what the worker installs, or to the field that is wrong.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use thiserror::Error;
use voicelane_dataplane::{
    diffserv::{ColourAction, ColourMode, Dscp, MeterKind, MeterSpec},
    session::{EntrySpec, FiveTuple, Ingress, Policer, Protocol, Terms},
    units::{BitRate, InterfaceIndex},
};
use voicelane_proto::v1;
use voicelane_types::SessionKey;

use crate::config::{InterfaceConfig, Role};

/// Entries of one session: 32 flows with RTP and RTCP are 64.
pub const MAX_ENTRIES: usize = 128;

/// One entry, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index of the flow in the session.
    pub flow_index: u32,
    /// RTP or RTCP.
    pub kind: v1::FlowKind,
    /// For the worker.
    pub spec: EntrySpec,
}

/// A field that is not as the protocol wants it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {reason}")]
pub struct InvalidField {
    /// Its path.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

fn invalid(field: impl Into<String>, reason: impl fmt::Display) -> InvalidField {
    InvalidField {
        field: field.into(),
        reason: reason.to_string(),
    }
}

/// A session's key.
pub fn key(key: Option<&v1::SessionKey>) -> Result<SessionKey, InvalidField> {
    let key = key.ok_or_else(|| invalid("key", "is missing"))?;
    SessionKey::new(&key.agent_id, &key.session_id)
        .map_err(|wrong| invalid(format!("key.{}", wrong.field), wrong.reason))
}

/// The router's interfaces, as packets of sessions come in on them: name and role, in the order of
/// [`InterfaceIndex`].
#[derive(Clone, Debug, Default)]
pub struct WaysIn(Vec<(String, Role)>);

impl WaysIn {
    /// The configured interfaces, by name and role.
    pub fn new<'a>(interfaces: impl Iterator<Item = InterfaceConfig<'a>>) -> Self {
        Self(
            interfaces
                .map(|one| (one.name().to_owned(), one.role()))
                .collect(),
        )
    }

    /// What `FlowEntry.ingress_interface` says.
    fn ingress(&self, name: &str) -> Result<Ingress, String> {
        match name {
            "" => return Ok(Ingress::Core),
            "*" => return Ok(Ingress::Edge),
            _ => {}
        }
        let mut interfaces = (0..=u8::MAX).map(InterfaceIndex).zip(&self.0);
        match interfaces.find(|(_, (own, _))| own == name) {
            Some((index, (_, Role::Edge))) => Ok(Ingress::Interface(index)),
            Some((_, (_, Role::Core))) => Ok(Ingress::Core),
            None => Err(format!("{name:?} is no interface of this router")),
        }
    }

    /// An interface's name; empty if there is no such one.
    #[must_use]
    pub fn name(&self, index: InterfaceIndex) -> &str {
        self.0.get(index.index()).map_or("", |(name, _)| name)
    }
}

/// All entries of a session.
pub fn entries(entries: &[v1::FlowEntry], ways_in: &WaysIn) -> Result<Vec<Entry>, InvalidField> {
    if !(1..=MAX_ENTRIES).contains(&entries.len()) {
        let reason = format!("there are {}; must be 1 to {MAX_ENTRIES}", entries.len());
        return Err(invalid("entries", reason));
    }
    let mut seen = HashSet::new();
    let mut understood = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let field = |name: &str| format!("entries[{index}].{name}");
        let entry = self::entry(entry, ways_in, &field)?;
        if !seen.insert(entry.spec.flow) {
            return Err(invalid(
                field("source"),
                format!("{} is there twice", entry.spec.flow),
            ));
        }
        understood.push(entry);
    }
    Ok(understood)
}

fn entry(
    entry: &v1::FlowEntry,
    ways_in: &WaysIn,
    field: &dyn Fn(&str) -> String,
) -> Result<Entry, InvalidField> {
    let kind = entry.kind();
    if kind == v1::FlowKind::Unspecified {
        return Err(invalid(field("kind"), "must be RTP or RTCP"));
    }
    let source = endpoint(entry.source.as_ref(), &field("source"))?;
    let destination = endpoint(entry.destination.as_ref(), &field("destination"))?;
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(invalid(
            field("destination"),
            "is of another address family than the source",
        ));
    }
    let protocol = u8::try_from(entry.protocol)
        .ok()
        .filter(|&number| number != 0);
    let protocol = protocol.ok_or_else(|| invalid(field("protocol"), "must be 1 to 255"))?;
    let dscp = Dscp::new(entry.dscp).map_err(|error| invalid(field("dscp"), error))?;
    let flow = FiveTuple {
        source,
        destination,
        protocol: Protocol(protocol),
    };
    let terms = match &entry.meter {
        Some(meter) => self::meter(meter, dscp, field)?,
        None => policer(entry, field)?.into(),
    };
    let ingress = ways_in.ingress(&entry.ingress_interface);
    let ingress = ingress.map_err(|reason| invalid(field("ingress_interface"), reason))?;
    let spec = EntrySpec {
        flow,
        ingress,
        dscp,
        terms,
    };
    Ok(Entry {
        flow_index: entry.flow_index,
        kind,
        spec,
    })
}

fn policer(entry: &v1::FlowEntry, field: &dyn Fn(&str) -> String) -> Result<Policer, InvalidField> {
    let rate = BitRate::from_bps(entry.rate_bps).map_err(|e| invalid(field("rate_bps"), e))?;
    if entry.burst_bytes == 0 {
        return Err(invalid(field("burst_bytes"), "0 lets nothing through"));
    }
    Ok(Policer {
        rate,
        burst_bytes: entry.burst_bytes,
    })
}

/// Whether the terms go together the worker says: it knows its clock.
fn meter(
    meter: &v1::Meter,
    dscp: Dscp,
    field: &dyn Fn(&str) -> String,
) -> Result<Terms, InvalidField> {
    use v1::meter::Marker;

    let of_class = |precedence| match dscp.drop_precedence() {
        Some(1) => Dscp::af(dscp.number() / 8, precedence),
        _ => None,
    };
    let (Some(yellow), Some(red)) = (of_class(2), of_class(3)) else {
        let reason = format!("{dscp} cannot tell colours; with a meter it must be an AFx1");
        return Err(invalid(field("dscp"), reason));
    };
    let rate = |name, bps| BitRate::from_bps(bps).map_err(|error| invalid(field(name), error));
    let kind = match meter.marker {
        Some(Marker::Srtcm(it)) => MeterKind::SrTcm {
            ebs_bytes: it.ebs_bytes,
        },
        Some(Marker::Trtcm(it)) => MeterKind::TrTcm {
            pir: rate("meter.trtcm.pir_bps", it.pir_bps)?,
            pbs_bytes: it.pbs_bytes,
        },
        Some(Marker::Rfc4115(it)) => MeterKind::Rfc4115 {
            eir: rate("meter.rfc4115.eir_bps", it.eir_bps)?,
            ebs_bytes: it.ebs_bytes,
        },
        None => {
            return Err(invalid(
                field("meter.marker"),
                "is missing, or not known here",
            ));
        }
    };
    let spec = MeterSpec {
        kind,
        cir: rate("meter.cir_bps", meter.cir_bps)?,
        cbs_bytes: meter.cbs_bytes,
        mode: if meter.colour_aware {
            ColourMode::Aware
        } else {
            ColourMode::Blind
        },
    };
    Ok(Terms::ThreeColour {
        spec,
        yellow: ColourAction::Mark(yellow),
        red: if meter.drop_red {
            ColourAction::Drop
        } else {
            ColourAction::Mark(red)
        },
    })
}

fn endpoint(endpoint: Option<&v1::Endpoint>, field: &str) -> Result<SocketAddr, InvalidField> {
    let endpoint = endpoint.ok_or_else(|| invalid(field, "is missing"))?;
    let address: IpAddr = endpoint.address.parse().map_err(|_| {
        invalid(
            format!("{field}.address"),
            format!("{:?} is no IP address", endpoint.address),
        )
    })?;
    let port = u16::try_from(endpoint.port).ok().filter(|&port| port != 0);
    let port = port.ok_or_else(|| invalid(format!("{field}.port"), "must be 1 to 65535"))?;
    Ok(SocketAddr::new(address, port))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A right entry, from 10.1.0.10 to 10.2.0.10.
    pub(crate) fn flow_entry(port: u32) -> v1::FlowEntry {
        let endpoint = |address: &str| {
            Some(v1::Endpoint {
                address: address.to_owned(),
                port,
            })
        };
        v1::FlowEntry {
            flow_index: 0,
            kind: v1::FlowKind::Rtp.into(),
            source: endpoint("10.1.0.10"),
            destination: endpoint("10.2.0.10"),
            protocol: 17,
            dscp: 46,
            rate_bps: 80_000,
            burst_bytes: 3_000,
            ingress_interface: "lan".to_owned(),
            ..v1::FlowEntry::default()
        }
    }

    /// What the server lets agents ask for is countable at every clock.
    #[test]
    fn the_protocols_largest_burst_is_taken_at_the_fastest_clock() {
        use voicelane_dataplane::units::TickRate;

        let clock = TickRate::from_hz(u64::MAX);
        let terms = |burst_bytes| Policer {
            rate: BitRate::from_bps(400_000_000_000).unwrap(),
            burst_bytes,
        };
        let most = voicelane_proto::limits::MAX_BURST_BYTES;
        assert!(terms(most).profile(clock).is_ok());
        assert!(terms(most + 1).profile(clock).is_err());
    }

    /// An edge interface "lan", and a core interface "core".
    pub(crate) fn ways_in() -> WaysIn {
        WaysIn(vec![
            ("lan".to_owned(), Role::Edge),
            ("core".to_owned(), Role::Core),
        ])
    }

    #[test]
    fn an_interface_is_known_by_its_name() {
        let ingress = |name: &str| {
            let entry = v1::FlowEntry {
                ingress_interface: name.to_owned(),
                ..flow_entry(1)
            };
            entries(&[entry], &ways_in()).map(|entries| entries[0].spec.ingress)
        };
        assert_eq!(ingress("lan"), Ok(Ingress::Interface(InterfaceIndex(0))));
        assert_eq!(ingress("core"), Ok(Ingress::Core));
        assert_eq!(ingress(""), Ok(Ingress::Core));
        assert_eq!(ingress("*"), Ok(Ingress::Edge));
        assert_eq!(
            ingress("wlan").unwrap_err().to_string(),
            "entries[0].ingress_interface: \"wlan\" is no interface of this router"
        );
    }

    /// A right meter.
    fn trtcm() -> v1::Meter {
        let marker = v1::meter::TrTcm {
            pir_bps: 2_000_000,
            pbs_bytes: 40_000,
        };
        v1::Meter {
            marker: Some(v1::meter::Marker::Trtcm(marker)),
            cir_bps: 1_000_000,
            cbs_bytes: 20_000,
            colour_aware: true,
            drop_red: true,
        }
    }

    #[test]
    fn a_meter_is_in_the_policers_place() {
        let entry = v1::FlowEntry {
            dscp: 34,
            meter: Some(trtcm()),
            ..flow_entry(1)
        };
        let Terms::ThreeColour { spec, yellow, red } =
            entries(&[entry], &ways_in()).unwrap()[0].spec.terms
        else {
            panic!("no meter")
        };
        assert_eq!(
            spec.to_string(),
            "trtcm cir 1Mbit/s cbs 20000B pir 2Mbit/s pbs 40000B colour-aware"
        );
        let af42 = Dscp::af(4, 2).unwrap();
        assert_eq!(
            (yellow, red),
            (ColourAction::Mark(af42), ColourAction::Drop)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut all = Vec::new();
        let mut case = |field: &'static str, change: &dyn Fn(&mut v1::FlowEntry)| {
            let mut entry = flow_entry(4000);
            change(&mut entry);
            all.push((
                field,
                entries(&[flow_entry(1), entry], &ways_in())
                    .unwrap_err()
                    .field,
            ));
        };
        case("entries[1].kind", &|e| e.kind = 0);
        case("entries[1].kind", &|e| e.kind = 77);
        case("entries[1].source", &|e| e.source = None);
        case("entries[1].source.port", &|e| {
            e.source.as_mut().unwrap().port = 0
        });
        case("entries[1].destination.port", &|e| {
            e.destination.as_mut().unwrap().port = 65_536
        });
        case("entries[1].source.address", &|e| {
            e.source.as_mut().unwrap().address = "x".into()
        });
        case("entries[1].destination", &|e| {
            e.destination.as_mut().unwrap().address = "::1".into();
        });
        case("entries[1].protocol", &|e| e.protocol = 0);
        case("entries[1].protocol", &|e| e.protocol = 256);
        case("entries[1].dscp", &|e| e.dscp = 64);
        case("entries[1].rate_bps", &|e| e.rate_bps = 0);
        case("entries[1].rate_bps", &|e| e.rate_bps = u64::MAX);
        case("entries[1].burst_bytes", &|e| e.burst_bytes = 0);
        case("entries[1].source", &|e| *e = flow_entry(1));
        let mut of_meter = |field, change: &dyn Fn(&mut v1::Meter)| {
            case(field, &|e| {
                e.dscp = 34;
                change(e.meter.insert(trtcm()));
            });
        };
        of_meter("entries[1].meter.marker", &|m| m.marker = None);
        of_meter("entries[1].meter.cir_bps", &|m| m.cir_bps = 0);
        of_meter("entries[1].meter.trtcm.pir_bps", &|m| {
            m.marker = Some(v1::meter::Marker::Trtcm(Default::default()));
        });
        of_meter("entries[1].meter.rfc4115.eir_bps", &|m| {
            m.marker = Some(v1::meter::Marker::Rfc4115(Default::default()));
        });
        case("entries[1].dscp", &|e| e.meter = Some(trtcm()));
        for (expected, field) in all {
            assert_eq!(field, expected);
        }
        assert_eq!(entries(&[], &ways_in()).unwrap_err().field, "entries");
        assert_eq!(
            entries(&vec![flow_entry(1); 129], &ways_in())
                .unwrap_err()
                .field,
            "entries"
        );
        let understood = entries(&[flow_entry(4000)], &ways_in()).unwrap();
        assert_eq!(understood[0].spec.dscp, Dscp::EF);
    }

    #[test]
    fn keys_are_printable() {
        let named = |agent: &str, session: &str| {
            key(Some(&v1::SessionKey {
                agent_id: agent.into(),
                session_id: session.into(),
            }))
        };
        assert!(named("sip", "call 1").is_ok());
        assert_eq!(named("", "1").unwrap_err().field, "key.agent_id");
        assert_eq!(named("a", "\n").unwrap_err().field, "key.session_id");
        assert_eq!(
            named("a", &"x".repeat(129)).unwrap_err().field,
            "key.session_id"
        );
        assert_eq!(key(None).unwrap_err().field, "key");
    }
}
