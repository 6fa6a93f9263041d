//! What an agent asks for: a session of one-way media flows.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use voicelane_proto::limits::MAX_BURST_BYTES;
use voicelane_types::BitRate;
pub use voicelane_types::{Dscp, ServiceClass};

use super::{
    error::Error,
    ids::{Revision, SessionKey},
    meter::Meter,
};

/// The most flows of a session.
pub const MAX_FLOWS: usize = 32;
/// The least rate of a flow, bit/s at the IP layer.
pub const MIN_RATE_BPS: u64 = 1_000;
/// The most, bit/s: more than any port that carries it.
pub const MAX_RATE_BPS: u64 = 400_000_000_000;
/// The least burst that an agent may ask for: one packet of Ethernet's usual MTU. Less would let
/// large packets never pass.
pub const MIN_BURST_BYTES: u32 = 1_500;

/// A session as asked for, every field valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSpec {
    /// Its name.
    pub key: SessionKey,
    /// Its version.
    pub revision: Revision,
    /// 1 to 32.
    pub flows: Vec<MediaFlow>,
    /// The treatment that it asks for.
    pub class: ServiceClass,
}

/// One direction of one medium, over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaFlow {
    /// Where its packets come from and go to.
    pub path: Path,
    /// How much it may send.
    pub terms: Terms,
    /// Where its RTCP goes.
    pub rtcp: Rtcp,
}

/// How much a flow may send, and what becomes of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// One rate; the rest is dropped.
    Policer {
        /// The most that it may send.
        rate: RateBps,
        /// The most that may come at once; absent: from the rate.
        burst: Option<BurstBytes>,
    },
    /// Each packet is marked with its colour.
    Meter(Meter),
}

/// A source and a destination: two hosts' unicast addresses, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path(Family);

/// The ends' addresses have a type each, because there are millions of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    V4(Ends<Ipv4Addr>),
    V6(Ends<Ipv6Addr>),
}

/// Both ends, with addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends<A> {
    source: A,
    source_port: u16,
    destination: A,
    destination_port: u16,
}

impl<A: Copy + Into<IpAddr>> Ends<A> {
    fn new(source: A, destination: A, ports: [u16; 2]) -> Self {
        Self {
            source,
            source_port: ports[0],
            destination,
            destination_port: ports[1],
        }
    }

    fn source(&self) -> SocketAddr {
        SocketAddr::new(self.source.into(), self.source_port)
    }

    fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.destination.into(), self.destination_port)
    }

    fn next_ports(self) -> Option<Self> {
        Some(Self {
            source_port: self.source_port.checked_add(1)?,
            destination_port: self.destination_port.checked_add(1)?,
            ..self
        })
    }
}

impl Path {
    /// Checks that both ends can be ends of a media flow; `field` is where they came from.
    pub fn parse(field: &str, source: SocketAddr, destination: SocketAddr) -> Result<Self, Error> {
        unicast("source", source).map_err(|error| error.within(field))?;
        unicast("destination", destination).map_err(|error| error.within(field))?;
        let ports = [source.port(), destination.port()];
        let family = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Family::V4(Ends::new(source, destination, ports))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Family::V6(Ends::new(source, destination, ports))
            }
            (source, destination) => {
                return Err(Error::invalid(
                    field,
                    format!("mixes IPv4 and IPv6 ({source} to {destination})"),
                ));
            }
        };
        if source.ip() == destination.ip() {
            return Err(Error::invalid(
                format!("{field}.destination.address"),
                format!(
                    "is {}, the source's too: it goes from a host to itself, by no router",
                    source.ip()
                ),
            ));
        }
        Ok(Self(family))
    }

    pub(super) fn of(family: Family) -> Self {
        Self(family)
    }

    pub(super) fn family(self) -> Family {
        self.0
    }

    /// Where packets come from.
    pub fn source(&self) -> SocketAddr {
        match &self.0 {
            Family::V4(ends) => ends.source(),
            Family::V6(ends) => ends.source(),
        }
    }

    /// Where packets go to.
    pub fn destination(&self) -> SocketAddr {
        match &self.0 {
            Family::V4(ends) => ends.destination(),
            Family::V6(ends) => ends.destination(),
        }
    }

    /// The same path on the ports after these; absent after 65535.
    pub fn next_ports(&self) -> Option<Self> {
        Some(Self(match self.0 {
            Family::V4(ends) => Family::V4(ends.next_ports()?),
            Family::V6(ends) => Family::V6(ends.next_ports()?),
        }))
    }
}

fn unicast(field: &str, end: SocketAddr) -> Result<(), Error> {
    let kind = match end.ip() {
        ip if ip.is_unspecified() => "the unspecified address",
        ip if ip.is_loopback() => "a loopback address",
        ip if ip.is_multicast() => "a multicast address",
        IpAddr::V4(ip) if ip.is_broadcast() => "the broadcast address",
        IpAddr::V4(ip) if ip.is_link_local() => "a link-local address, which no router forwards to",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            "a link-local address, which no router forwards to"
        }
        // RFC 6890: "this network" and what is reserved for later.
        IpAddr::V4(ip) if ip.octets()[0] == 0 || ip.octets()[0] >= 240 => "a reserved address",
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            "an IPv4-mapped address (write it as IPv4)"
        }
        _ if end.port() == 0 => {
            return Err(Error::invalid(
                format!("{field}.port"),
                "is 0; give 1 to 65535",
            ));
        }
        _ => return Ok(()),
    };
    Err(Error::invalid(
        format!("{field}.address"),
        format!("{} is {kind}; give a host's unicast address", end.ip()),
    ))
}

/// Bit/s at the IP layer, within the bounds of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateBps(BitRate);

impl RateBps {
    /// Checks the bounds; `field` is where it came from.
    pub fn parse(field: &str, value: u64) -> Result<Self, Error> {
        BitRate::from_bps(value)
            .ok()
            .filter(|_| (MIN_RATE_BPS..=MAX_RATE_BPS).contains(&value))
            .map(Self)
            .ok_or_else(|| {
                let reason = format!("is {value} bit/s; give {MIN_RATE_BPS} to {MAX_RATE_BPS}");
                Error::invalid(field, reason)
            })
    }

    /// As a rate without these bounds.
    pub fn rate(self) -> BitRate {
        self.0
    }

    /// As a number.
    pub fn get(self) -> u64 {
        self.0.bps()
    }
}

/// Bytes at the IP layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BurstBytes(u32);

impl BurstBytes {
    /// 0 is absent: the burst follows from the rate.
    pub fn parse(field: &str, value: u32) -> Result<Option<Self>, Error> {
        match value {
            0 => Ok(None),
            1..MIN_BURST_BYTES => Err(Error::invalid(
                field,
                format!(
                    "is {value} bytes, less than a full packet; give at least {MIN_BURST_BYTES}, \
                     or 0 for 200 ms of the rate"
                ),
            )),
            _ if value > MAX_BURST_BYTES => Err(Error::invalid(
                field,
                format!(
                    "is {value} bytes, more than routers count; give at most {MAX_BURST_BYTES}"
                ),
            )),
            _ => Ok(Some(Self(value))),
        }
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Where a flow's RTCP goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtcp {
    /// The ports after RTP's (RFC 3550 section 11). The path was checked to have them.
    NextPort(Path),
    /// RTP's own ports (RFC 5761).
    Mux,
    /// Elsewhere (RFC 3605).
    Explicit(Path),
    /// Nowhere.
    None,
}

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Sent to routers, not all have acknowledged.
    Installing,
    /// Every router has it.
    Active,
    /// A router of it is away or lacks it, or nobody reaches an address of it any more.
    Degraded,
    /// Being taken away.
    Removing,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.source(), self.destination())
    }
}
