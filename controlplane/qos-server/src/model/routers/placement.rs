//! Which routers a session concerns: for each flow, the one that its source is behind and the one
//! that its destination is behind, as far as these are known.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use voicelane_types::ColourMode;

use super::registry::{Location, Registry};
use crate::model::{
    course::Course,
    entries::{FlowEntry, FlowKind, fingerprint},
    error::Error,
    ids::{Fingerprint, RouterId, UnixMs},
    session::{Learned, MediaFlow, Rtcp, SessionSpec},
};

/// Where the two ends of something were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Absent if it is not known. Of what latches and has learned nothing: where it is to come from, if
    /// that was said and a router reaches it.
    pub source: Option<Arc<Location>>,
    /// Absent if it is not known.
    pub destination: Option<Arc<Location>>,
}

/// Where a flow was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowPlacement {
    /// Its media.
    pub media: Places,
    /// Its RTCP, where that has addresses of its own.
    pub rtcp: Option<Box<Places>>,
}

impl FlowPlacement {
    fn of(&self, kind: FlowKind) -> &Places {
        match (&self.rtcp, kind) {
            (Some(rtcp), FlowKind::Rtcp) => rtcp,
            _ => &self.media,
        }
    }

    /// All places of it.
    pub fn locations(&self) -> impl Iterator<Item = &Arc<Location>> {
        let all = std::iter::once(&self.media).chain(self.rtcp.as_deref());
        all.flat_map(|places| places.source.iter().chain(&places.destination))
    }
}

/// One for each flow of the session.
pub type Placement = [FlowPlacement];

/// What one router gets of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its entries.
    pub entries: Vec<FlowEntry>,
    /// Of the entries.
    pub fingerprint: Fingerprint,
}

/// Finds every end of every flow that is known, or has been learned.
pub fn place(
    spec: &SessionSpec,
    learned: &[Learned],
    registry: &Registry,
    now: UnixMs,
) -> Result<Arc<Placement>, Error> {
    let one = |(index, flow): (usize, &MediaFlow)| {
        let find = |kind, course: Course| {
            let mut of = learned.iter().filter(|it| it.flow == index);
            let source = of.find(|it| it.kind == kind).map(|it| it.source.ip());
            places(index, kind, course, source, registry, now)
        };
        let latches = matches!(flow.course, Course::Latching(_));
        let own = match flow.rtcp {
            Rtcp::Explicit(_) => flow.course_of(FlowKind::Rtcp),
            Rtcp::NextPort if latches => flow.course_of(FlowKind::Rtcp),
            Rtcp::NextPort | Rtcp::Mux | Rtcp::None => None,
        };
        let rtcp = own.map(|course| find(FlowKind::Rtcp, course).map(Box::new));
        Ok(FlowPlacement {
            media: find(FlowKind::Rtp, flow.course)?,
            rtcp: rtcp.transpose()?,
        })
    };
    spec.flows.iter().enumerate().map(one).collect()
}

fn places(
    flow: usize,
    kind: FlowKind,
    course: Course,
    learned: Option<IpAddr>,
    registry: &Registry,
    now: UnixMs,
) -> Result<Places, Error> {
    let at = |end: &str, address: IpAddr| {
        registry.locate(address, now).map_err(|error| {
            error.of_field(|| {
                let of = match kind {
                    FlowKind::Rtp => "",
                    FlowKind::Rtcp => ".rtcp",
                };
                format!("spec.flows[{flow}]{of}.{end}.address")
            })
        })
    };
    let known = |end: &str, address: Option<IpAddr>| address.map(|it| at(end, it)).transpose();
    let source = match (course, learned) {
        (Course::Latching(_), Some(source)) => Some(at("source", source)?),
        // Where signalling comes from need not be where media come from, nor behind a router of ours.
        (Course::Latching(latch), None) => match latch.from.map(|from| at("latch", from)) {
            Some(Err(Error::UnknownAddress { .. } | Error::NotReachedYet { .. })) | None => None,
            Some(located) => Some(located?),
        },
        (Course::Whole(_) | Course::Half(..), _) => {
            known("source", course.source().map(|it| it.ip()))?
        }
    };
    Ok(Places {
        source,
        destination: known("destination", course.destination().map(|it| it.ip()))?,
    })
}

/// Deals the entries out: each goes to the router of its source and the router of its
/// destination, once if they are the same. The latter heeds the colours that the former has marked:
/// packets that it took for other ones would be lifted over those that were green. The former hears
/// where the packets come in; to the latter they come from other routers.
///
/// An entry that latches goes to one router only, where it can learn: that of the address which its
/// packets are to come from or, if that is not known, that of its destination, on any interface.
pub fn shares(placement: &Placement, entries: &[FlowEntry]) -> BTreeMap<RouterId, Share> {
    let mut dealt: BTreeMap<RouterId, Vec<FlowEntry>> = BTreeMap::new();
    let mut deal = |at: &Location, entry| dealt.entry(at.router.clone()).or_default().push(entry);
    for entry in entries {
        let Some(flow) = placement.get(entry.flow) else {
            continue;
        };
        let Places {
            source,
            destination,
        } = flow.of(entry.kind);
        if let Some(source) = source {
            let mut first = entry.clone();
            first.ingress = Some(source.ingress());
            deal(source, first);
        }
        let is_there = |to: &Location| source.as_ref().is_some_and(|it| it.router == to.router);
        let latches_elsewhere = entry.latch.is_some() && source.is_some();
        if let Some(to) = destination.as_ref().filter(|to| !is_there(to))
            && !latches_elsewhere
        {
            let mut last = entry.clone();
            if let Some(meter) = &mut last.meter {
                meter.spec.mode = ColourMode::Aware;
            }
            deal(to, last);
        }
    }
    dealt
        .into_iter()
        .map(|(router, entries)| {
            let fingerprint = fingerprint(&entries);
            (
                router,
                Share {
                    entries,
                    fingerprint,
                },
            )
        })
        .collect()
}
