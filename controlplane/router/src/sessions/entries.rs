//! From `InstallSession` to what the worker installs, or to the field that is wrong.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use thiserror::Error;
use voicelane_dataplane::{
    diffserv::{ColourAction, ColourMode, Dscp, MeterKind, MeterSpec},
    quality::{Payload, PayloadTypes},
    session::{EntrySpec, FiveTuple, Ingress, LatchSpec, Latched, Policer, Protocol, Terms},
    units::{BitRate, InterfaceIndex, TickRate},
};
use voicelane_proto::v1;
use voicelane_types::SessionKey;

use crate::config::{InterfaceConfig, Role};

/// Entries of one session: 32 flows with RTP and RTCP are 64.
pub const MAX_ENTRIES: usize = 128;

/// A flow entry of the server that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index of the flow in the session.
    pub flow_index: u32,
    /// Media or its control.
    pub kind: v1::FlowKind,
    /// For the worker. While its source is not known, that is unspecified, with port 0.
    pub spec: EntrySpec,
    /// Of one that learns its source, also when it has.
    pub latch: Option<LatchSpec>,
}

impl Entry {
    /// By which terms it waits for its source, while it does.
    #[must_use]
    pub fn waits(&self) -> Option<LatchSpec> {
        self.latch.filter(|_| self.spec.flow.source.port() == 0)
    }

    /// What no other entry may have: its five-tuple and, where it learns its source, the destination.
    pub fn claims(&self) -> impl Iterator<Item = FiveTuple> {
        let without_source = self.latch.map(|latch| unlatched(latch.destination));
        let other = without_source.filter(|other| *other != self.spec.flow);
        [Some(self.spec.flow), other].into_iter().flatten()
    }

    /// The same with its source.
    #[must_use]
    pub fn learned(&self, latched: &Latched, ways_in: &WaysIn) -> Self {
        let asked = self.latch.and_then(|latch| latch.ingress);
        let spec = EntrySpec {
            flow: latched.flow,
            ingress: asked.unwrap_or_else(|| ways_in.of(latched.on)),
            ..self.spec
        };
        Self { spec, ..*self }
    }

    /// What the server is told of a source that was learned.
    #[must_use]
    pub fn latched_source(&self, key: &SessionKey) -> Option<v1::LatchedSource> {
        let learned = self.latch.is_some() && self.waits().is_none();
        learned.then(|| v1::LatchedSource {
            key: Some(key.into()),
            flow_index: self.flow_index,
            kind: self.kind.into(),
            destination: Some(self.spec.flow.destination.into()),
            source: Some(self.spec.flow.source.into()),
        })
    }
}

/// The five-tuple of a flow to a destination whose source is not known.
#[must_use]
pub fn unlatched(destination: SocketAddr) -> FiveTuple {
    let unspecified = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    FiveTuple {
        source: SocketAddr::new(unspecified, 0),
        destination,
        protocol: Protocol::UDP,
    }
}

/// A field that is not as the protocol wants it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {reason}")]
#[allow(missing_docs, reason = "the messages say it")]
pub struct InvalidField {
    pub field: String,
    pub reason: String,
}

fn invalid(field: impl Into<String>, reason: impl fmt::Display) -> InvalidField {
    InvalidField {
        field: field.into(),
        reason: reason.to_string(),
    }
}

/// Checks the key of a session.
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

    /// Where packets come in, by `FlowEntry.ingress_interface`: empty for any core, `*` for any edge, or an
    /// interface's name.
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

    /// What comes in on an interface, as sessions have it.
    fn of(&self, index: InterfaceIndex) -> Ingress {
        match self.0.get(index.index()) {
            Some((_, Role::Edge)) => Ingress::Interface(index),
            _ => Ingress::Core,
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
    let destination = endpoint(entry.destination.as_ref(), &field("destination"))?;
    let source = match (&entry.latch, &entry.source) {
        (None, source) => endpoint(source.as_ref(), &field("source"))?,
        (Some(_), None) => unlatched(destination).source,
        (Some(_), Some(_)) => {
            return Err(invalid(field("source"), "is there, and is to be learned"));
        }
    };
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
    let latch = entry.latch.as_ref().map(|latch| {
        // The worker hears of them when a source is learned, long after the answer to the server. What the
        // fastest clock can meter, every clock can.
        terms.check(TickRate::from_hz(u64::MAX)).map_err(|error| {
            let name = match terms {
                Terms::Policer(_) => "burst_bytes",
                Terms::ThreeColour { .. } => "meter",
            };
            invalid(field(name), error)
        })?;
        if flow.protocol != Protocol::UDP {
            return Err(invalid(field("protocol"), "must be 17, UDP, to learn"));
        }
        let from = (!latch.address.is_empty()).then(|| latch.address.parse::<IpAddr>());
        let from = from
            .transpose()
            .ok()
            .filter(|from| from.is_none_or(|from| from.is_ipv4() == destination.is_ipv4()));
        let from = from.ok_or_else(|| {
            let reason = format!(
                "{:?} is no address of the destination's family",
                latch.address
            );
            invalid(field("latch.address"), reason)
        })?;
        Ok(LatchSpec {
            destination,
            ingress: (!entry.ingress_interface.is_empty()).then_some(ingress),
            from,
        })
    });
    let latch = latch.transpose()?;
    let spec = EntrySpec {
        flow,
        ingress,
        dscp,
        terms,
        media: Some(payload_types(&entry.codecs)),
    };
    Ok(Entry {
        flow_index: entry.flow_index,
        kind,
        spec,
        latch,
    })
}

/// What dynamic payload types mean. Whatever cannot be used is left out: a call is not refused for what
/// is only measured.
fn payload_types(codecs: &[v1::Codec]) -> PayloadTypes {
    let mut types = PayloadTypes::default();
    for codec in codecs {
        let payload = match codec.encoding.to_ascii_lowercase().as_str() {
            "telephone-event" => Payload::EVENT,
            "cn" => Payload::noise(codec.clock_rate),
            // Whatever is declared: RFC 3551 section 4.5.2, RFC 7587 section 4.1.
            "g722" => Payload::media(8_000),
            "opus" => Payload::media(48_000),
            _ => Payload::media(codec.clock_rate),
        };
        if let Ok(number @ 0..=127) = u8::try_from(codec.payload_type)
            && !types.declare(number, payload)
        {
            break;
        }
    }
    types
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
pub(crate) mod tests;
