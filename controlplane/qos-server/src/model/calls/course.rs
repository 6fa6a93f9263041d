//! Where a flow's packets come from and go to, as far as that is known.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::model::error::Error;

/// What is known of a flow's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Both.
    Whole(Path),
    /// One: it is a reservation.
    Half(End, SocketAddr),
    /// The destination; the source is learned.
    Latching(Latch),
}

/// One of a flow's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where packets come from.
    Source,
    /// Where they go to.
    Destination,
}

impl End {
    /// As fields are named after it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// A flow whose source is learned from its first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latch {
    /// Where its packets go to.
    pub destination: SocketAddr,
    /// Where they have to come from to be learned from; absent: from anywhere.
    pub from: Option<IpAddr>,
}

impl From<Path> for Course {
    fn from(path: Path) -> Self {
        Self::Whole(path)
    }
}

impl Course {
    /// Checks what a request has of the ends; `field` is where they came from. `latch` is there if the
    /// source is to be learned, with the address that it must have, if there is one.
    pub fn parse(
        field: &str,
        source: Option<SocketAddr>,
        destination: Option<SocketAddr>,
        latch: Option<Option<IpAddr>>,
    ) -> Result<Self, Error> {
        let within = |error: Error| error.within(field);
        match (latch, source, destination) {
            (None, Some(source), Some(destination)) => {
                Path::parse(field, source, destination).map(Self::Whole)
            }
            (None, Some(at), None) => Self::half(End::Source, at).map_err(within),
            (None, None, Some(at)) => Self::half(End::Destination, at).map_err(within),
            (None, None, None) => Err(Error::invalid(
                field,
                "has neither source nor destination; give both or, for a reservation, one",
            )),
            (Some(_), Some(_), _) => Err(Error::invalid(
                format!("{field}.latch"),
                "is given, and so is source, which is what it learns; drop one or the other",
            )),
            (Some(_), None, None) => Err(Error::invalid(
                format!("{field}.destination"),
                "is missing; a flow that latches needs one",
            )),
            (Some(from), None, Some(destination)) => {
                unicast("destination", destination).map_err(within)?;
                if let Some(from) = from {
                    latch_address(destination, from).map_err(within)?;
                }
                Ok(Self::Latching(Latch { destination, from }))
            }
        }
    }

    fn half(end: End, at: SocketAddr) -> Result<Self, Error> {
        unicast(end.name(), at).map(|()| Self::Half(end, at))
    }

    /// Where packets come from, if that is known.
    pub fn source(&self) -> Option<SocketAddr> {
        match self {
            Self::Whole(path) => Some(path.source()),
            Self::Half(End::Source, at) => Some(*at),
            Self::Half(End::Destination, _) | Self::Latching(_) => None,
        }
    }

    /// Where packets go to, if that is known.
    pub fn destination(&self) -> Option<SocketAddr> {
        match self {
            Self::Whole(path) => Some(path.destination()),
            Self::Half(End::Destination, at) => Some(*at),
            Self::Half(End::Source, _) => None,
            Self::Latching(latch) => Some(latch.destination),
        }
    }

    /// The same on the ports after these; absent after 65535.
    pub fn next_ports(&self) -> Option<Self> {
        Some(match self {
            Self::Whole(path) => Self::Whole(path.next_ports()?),
            Self::Half(end, at) => Self::Half(*end, next_port(*at)?),
            Self::Latching(latch) => Self::Latching(Latch {
                destination: next_port(latch.destination)?,
                ..*latch
            }),
        })
    }
}

impl Latch {
    /// The path of packets from a source, if they are what it waits for.
    pub fn path_from(&self, source: SocketAddr) -> Result<Path, Error> {
        if let Some(from) = self.from.filter(|from| *from != source.ip()) {
            let reason = format!("is {source}, and only what comes from {from} is learned from");
            return Err(Error::invalid("source", reason));
        }
        Path::parse("latched", source, self.destination)
    }
}

fn next_port(at: SocketAddr) -> Option<SocketAddr> {
    Some(SocketAddr::new(at.ip(), at.port().checked_add(1)?))
}

fn latch_address(destination: SocketAddr, from: IpAddr) -> Result<(), Error> {
    if from.is_ipv4() != destination.is_ipv4() {
        return Err(Error::invalid(
            "latch.address",
            format!(
                "is {from}, of another family than the destination {}",
                destination.ip()
            ),
        ));
    }
    // The port is none of its own.
    unicast("latch", SocketAddr::new(from, destination.port()))?;
    if from == destination.ip() {
        return Err(Error::invalid(
            "latch.address",
            format!(
                "is {from}, the destination's too: it goes from a host to itself, by no router"
            ),
        ));
    }
    Ok(())
}

/// A source and a destination: two hosts' unicast addresses, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path(Family);

/// The ends' addresses have a type each, because there are millions of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::model) enum Family {
    V4(Ends<Ipv4Addr>),
    V6(Ends<Ipv6Addr>),
}

/// Both ends, with addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::model) struct Ends<A> {
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

    /// What stands for the five-tuple of a latching flow that has learned nothing yet: its source is
    /// the unspecified address, which no host has, and port 0.
    pub(super) fn from_anywhere(destination: SocketAddr) -> Self {
        let ports = [0, destination.port()];
        Self(match destination.ip() {
            IpAddr::V4(to) => Family::V4(Ends::new(Ipv4Addr::UNSPECIFIED, to, ports)),
            IpAddr::V6(to) => Family::V6(Ends::new(Ipv6Addr::UNSPECIFIED, to, ports)),
        })
    }

    pub(in crate::model) fn of(family: Family) -> Self {
        Self(family)
    }

    pub(in crate::model) fn family(self) -> Family {
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

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source() {
            source if source.port() == 0 => write!(f, "any -> {}", self.destination()),
            source => write!(f, "{source} -> {}", self.destination()),
        }
    }
}
