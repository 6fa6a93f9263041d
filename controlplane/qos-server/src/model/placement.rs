//! Which routers a session concerns: for each flow, the one that its source is behind and the one
//! that its destination is behind.

use std::{collections::BTreeMap, sync::Arc};

use voicelane_types::ColourMode;

use super::{
    entries::{FlowEntry, FlowKind, fingerprint},
    error::Error,
    ids::{Fingerprint, RouterId, UnixMs},
    registry::{Location, Registry},
    session::{MediaFlow, Rtcp, SessionSpec},
};

/// Where the two ends of a flow were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowPlacement {
    /// The media's source.
    pub source: Arc<Location>,
    /// The media's destination.
    pub destination: Arc<Location>,
    /// The same for RTCP, where it has addresses of its own.
    pub rtcp: Option<(Arc<Location>, Arc<Location>)>,
}

impl FlowPlacement {
    fn ends(&self, kind: FlowKind) -> [&Location; 2] {
        match (&self.rtcp, kind) {
            (Some((source, destination)), FlowKind::Rtcp) => [source, destination],
            _ => [&self.source, &self.destination],
        }
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

/// Finds every end of every flow.
pub fn place(
    spec: &SessionSpec,
    registry: &Registry,
    now: UnixMs,
) -> Result<Arc<Placement>, Error> {
    let one = |(index, flow): (usize, &MediaFlow)| {
        let field = format!("spec.flows[{index}]");
        let find = |path: super::session::Path, field: &str| -> Result<_, Error> {
            let at = |end: &str, address| {
                // The field's name costs more than the search, and is for errors only.
                registry
                    .locate("", address, now)
                    .or_else(|_| registry.locate(&format!("{field}.{end}.address"), address, now))
            };
            Ok((
                at("source", path.source().ip())?,
                at("destination", path.destination().ip())?,
            ))
        };
        let (source, destination) = find(flow.path, &field)?;
        let rtcp = match flow.rtcp {
            Rtcp::Explicit(path) => Some(find(path, &format!("{field}.rtcp"))?),
            Rtcp::NextPort(_) | Rtcp::Mux | Rtcp::None => None,
        };
        Ok(FlowPlacement {
            source,
            destination,
            rtcp,
        })
    };
    spec.flows.iter().enumerate().map(one).collect()
}

/// Deals the entries out: each goes to the router of its source and the router of its
/// destination, once if they are the same. The latter heeds the colours that the former has marked:
/// packets that it took for other ones would be lifted over those that were green. The former hears
/// where the packets come in; to the latter they come from other routers.
pub fn shares(placement: &Placement, entries: &[FlowEntry]) -> BTreeMap<RouterId, Share> {
    let mut dealt: BTreeMap<RouterId, Vec<FlowEntry>> = BTreeMap::new();
    for entry in entries {
        let Some(flow) = placement.get(entry.flow) else {
            continue;
        };
        let [source, destination] = flow.ends(entry.kind);
        let mut first = entry.clone();
        first.ingress = Some(source.ingress());
        dealt.entry(source.router.clone()).or_default().push(first);
        if destination.router != source.router {
            let mut last = entry.clone();
            if let Some(meter) = &mut last.meter {
                meter.spec.mode = ColourMode::Aware;
            }
            let router = destination.router.clone();
            dealt.entry(router).or_default().push(last);
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
