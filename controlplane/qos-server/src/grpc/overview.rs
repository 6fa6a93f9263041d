//! Overviews and events as messages, and their streams.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;
use voicelane_proto::v1::{self, explain_step::Verdict};

use super::{parse, render};
use crate::{
    engine::{
        CallQuality, CallView, Cause, EfClaim, Engine, Overview, RouterView, Segment, SessionView,
    },
    events::{Part, Severity},
    model::{error::Error, ids::RouterId, registry::Presence, store::InstallationState},
};

/// The most calls of an overview.
pub const MOST_CALLS: u32 = 200;
/// The longest search, bytes.
const MAX_SEARCH: usize = 128;
/// The events of an overview.
const LAST_EVENTS: usize = 20;
/// The events that are told at first when nobody says how many.
const DEFAULT_LAST: usize = 100;
/// Events of one message.
const BATCH: usize = 100;

/// What an overview's reader wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What calls are to contain.
    pub search: String,
    /// Limit of calls in an answer.
    pub calls: usize,
}

impl Wanted {
    /// Fails when the text is too long or too many calls are asked for.
    pub fn parse(search: &str, calls: u32) -> Result<Self, Error> {
        if search.len() > MAX_SEARCH {
            let reason = format!("has {} bytes; give at most {MAX_SEARCH}", search.len());
            return Err(Error::invalid("search", reason));
        }
        Ok(Self {
            search: search.to_owned(),
            calls: parse::count("calls", calls, MOST_CALLS as usize, MOST_CALLS)?,
        })
    }
}

/// An overview as its reader wants it.
pub async fn overview(
    engine: &Engine,
    it: &Overview,
    wanted: &Wanted,
) -> v1::WatchOverviewResponse {
    let (calls, found) = it.find(&wanted.search, wanted.calls).await;
    let events = engine.history().latest(0, LAST_EVENTS, Severity::Info);
    v1::WatchOverviewResponse {
        at_unix_ms: it.at.0,
        server_epoch: engine.epoch(),
        sentence: it.sentence.clone(),
        total: it.calls.len() as u64,
        bad: it.bad as u64,
        found: found as u64,
        calls: calls.into_iter().map(call).collect(),
        links: it.links.iter().map(render::link).collect(),
        total_links: it.total_links as u64,
        routers: it.routers.iter().map(router).collect(),
        total_routers: it.total_routers as u64,
        events: events
            .events
            .iter()
            .rev()
            .map(|it| (**it).clone())
            .collect(),
        ef_claimers: it.ef_claims.iter().map(ef_claimer).collect(),
        total_ef_claimers: it.total_ef_claims as u64,
    }
}

fn call(call: &CallView) -> v1::OverviewCall {
    let session = &call.session;
    let spec = &session.spec;
    let course = spec.flows.first().map(|flow| &flow.course);
    let text = |end: Option<SocketAddr>| end.map(|end| end.to_string()).unwrap_or_default();
    v1::OverviewCall {
        key: Some(render::key(&spec.key)),
        correlation_id: spec.correlation_id.to_string(),
        state: render::session_state(session.state).into(),
        badness: call.cause.as_ref().map_or(0, |cause| cause.badness()),
        why: match (&call.cause, &session.problem) {
            (Some(Cause::Misplaced), Some(problem)) => problem.to_string(),
            (cause, _) => cause.as_ref().map(ToString::to_string).unwrap_or_default(),
        },
        segments: segments(session, call.quality.as_deref()),
        source: text(course.and_then(|it| it.source())),
        destination: text(course.and_then(|it| it.destination())),
        flows: u32::try_from(spec.flows.len()).unwrap_or(u32::MAX),
        service_class: v1::ServiceClass::from(spec.class).into(),
        priority: spec.priority.get().into(),
        since_unix_ms: session.updated.0,
        wrong_since_unix_ms: call.wrong_since().map(|since| since.0),
    }
}

/// The parts of the way of the flow that sounds worst, or of the first, and what is known of them.
fn segments(session: &SessionView, quality: Option<&CallQuality>) -> Vec<v1::Segment> {
    let flow = quality.map_or(0, |it| it.flow);
    let places = session.placement.get(flow).map(|flow| &flow.media);
    let a = places.and_then(|it| Some(&it.source.as_ref()?.router));
    let b = places.and_then(|it| Some(&it.destination.as_ref()?.router));
    let untold = |name: &str| segment(Verdict::Unknown, name, "no loss told".to_owned());
    let mut segments = vec![
        untold("before"),
        in_router(session, "in a", a),
        untold("between"),
        match (a, b) {
            (Some(a), Some(b)) if a == b => {
                segment(Verdict::Unknown, "in b", format!("router {b} is both"))
            }
            _ => in_router(session, "in b", b),
        },
        untold("after"),
    ];
    let is_one = a.is_some() && a == b;
    for (cell, place) in segments.iter_mut().zip(Segment::ALL) {
        let is_absent = is_one && matches!(place, Segment::Between | Segment::InDestination);
        let Some(quality) = quality.filter(|_| !is_absent) else {
            continue;
        };
        let Some(sounds) = sounds(quality, place, &cell.name) else {
            continue;
        };
        // A router that refuses the call does so though it may have lost none of it.
        if sounds.verdict() == Verdict::Broken || cell.verdict() != Verdict::Broken {
            *cell = sounds;
        }
    }
    segments
}

/// What routers have measured of a part of a flow's way.
fn sounds(quality: &CallQuality, place: Segment, name: &str) -> Option<v1::Segment> {
    let flow = quality.flow;
    let silence = match (&quality.cause, place) {
        (Some(Cause::OneWay), Segment::Before) => Some(format!("nothing comes of flow {flow}")),
        (Some(Cause::Cut(_, b)), Segment::Between) => {
            Some(format!("nothing of flow {flow} comes to router {b}"))
        }
        _ => None,
    };
    if let Some(text) = silence {
        return Some(segment(Verdict::Broken, name, text));
    }
    let (lost, packets) = quality.lost_in(place)?;
    let verdict = match quality.is_bad_in(place) {
        false => Verdict::Ok,
        true => Verdict::Broken,
    };
    let text = format!("{lost} of {packets} packets lost, flow {flow}");
    Some(v1::Segment {
        lost: Some(lost),
        packets,
        ..segment(verdict, name, text)
    })
}

fn in_router(session: &SessionView, name: &str, router: Option<&RouterId>) -> v1::Segment {
    let Some(router) = router else {
        return segment(Verdict::Unknown, name, "no router is known".to_owned());
    };
    let on = session.installations.iter().find(|it| it.router == *router);
    let (verdict, is) = match on.map(|it| &it.state) {
        Some(InstallationState::Installed) => (Verdict::Ok, "has the call"),
        Some(InstallationState::Pending) => (Verdict::Unknown, "has not acknowledged"),
        Some(InstallationState::Away) => (Verdict::Broken, "is away"),
        Some(InstallationState::Failed(_)) => (Verdict::Broken, "refuses"),
        None => (Verdict::Unknown, "does not have the call"),
    };
    segment(verdict, name, format!("router {router} {is}"))
}

fn segment(verdict: Verdict, name: &str, text: String) -> v1::Segment {
    v1::Segment {
        verdict: verdict.into(),
        name: name.to_owned(),
        text,
        ..v1::Segment::default()
    }
}

fn ef_claimer((router, claim): &(RouterId, EfClaim)) -> v1::EfClaimer {
    v1::EfClaimer {
        router_id: router.to_string(),
        interface: claim.interface.to_string(),
        address: claim.address.to_string(),
        packets: claim.packets,
    }
}

fn router(view: &RouterView) -> v1::OverviewRouter {
    let router = &view.router;
    let (since, reason) = match &router.presence {
        Presence::Attached { since, .. } => (since, ""),
        Presence::Away { since, reason } => (since, reason.as_str()),
    };
    v1::OverviewRouter {
        router_id: router.identity.id.to_string(),
        state: view.standing.into(),
        since_unix_ms: since.0,
        sessions: view.sessions as u64,
        software_version: router.identity.software_version.clone(),
        detail: match view.owes_for {
            Some(owes) if reason.is_empty() && owes.as_secs() > 0 => {
                format!("it has owed an answer for {} s", owes.as_secs())
            }
            _ => reason.to_owned(),
        },
    }
}

/// Events as a message.
pub fn events(part: &Part, server_epoch: u64) -> v1::WatchEventsResponse {
    v1::WatchEventsResponse {
        events: part.events.iter().map(|it| (**it).clone()).collect(),
        missed: part.missed,
        server_epoch,
    }
}

pub(super) type Told<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A reader, who has a watcher's place.
struct Reader<T> {
    told: mpsc::Sender<Result<T, Status>>,
    patience: Duration,
    _place: OwnedSemaphorePermit,
}

impl<T: Send + 'static> Reader<T> {
    /// Tells it what `telling` tells, until that ends, it goes away, or the server goes down.
    fn serve<F>(engine: &Arc<Engine>, telling: impl FnOnce(Self) -> F) -> Result<Told<T>, Error>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (told, stream) = mpsc::channel(1);
        let gone = told.clone();
        let telling = telling(Self {
            told,
            patience: engine.read_timeout(),
            _place: engine.admit_watcher()?,
        });
        let stopped = engine.stopped();
        tokio::spawn(async move {
            tokio::select! {
                () = telling => {}
                () = gone.closed() => {}
                () = stopped => {}
            }
        });
        Ok(Box::pin(ReceiverStream::new(stream)))
    }

    /// Waits for room. Whoever reads nothing for long is told no more.
    async fn room(&self) -> Option<mpsc::Permit<'_, Result<T, Status>>> {
        timeout(self.patience, self.told.reserve()).await.ok()?.ok()
    }
}

/// Tells what has happened, and what happens.
pub(super) fn watch_events(
    engine: Arc<Engine>,
    request: &v1::WatchEventsRequest,
) -> Result<Told<v1::WatchEventsResponse>, Error> {
    let severity = match request.min_severity() {
        v1::Severity::Unspecified | v1::Severity::Info => Severity::Info,
        v1::Severity::Warning => Severity::Warning,
        v1::Severity::Error => Severity::Error,
    };
    let follow = request.follow;
    let last = match request.last {
        0 => DEFAULT_LAST,
        last => last as usize,
    };
    let first = engine
        .history()
        .latest(request.after_sequence, last, severity);
    let serving = engine.clone();
    Reader::serve(&engine, move |reader| async move {
        let engine = serving;
        let history = engine.history();
        for some in first.events.chunks(BATCH) {
            let part = Part {
                events: some.to_vec(),
                ..Part::default()
            };
            let Some(room) = reader.room().await else {
                return;
            };
            room.send(Ok(events(&part, engine.epoch())));
        }
        let mut up_to = first.up_to;
        let mut news = history.follow();
        if !follow {
            return;
        }
        loop {
            // Before it is looked, so that none is missed that comes meanwhile.
            news.borrow_and_update();
            let part = history.after(up_to, BATCH, severity);
            up_to = part.up_to;
            if !part.events.is_empty() || part.missed > 0 {
                let Some(room) = reader.room().await else {
                    return;
                };
                room.send(Ok(events(&part, engine.epoch())));
            } else if news.changed().await.is_err() {
                return;
            }
        }
    })
}

/// Tells how everything stands, as often as it is looked at and the reader takes it.
pub(super) fn watch_overview(
    engine: Arc<Engine>,
    wanted: Wanted,
    once: bool,
) -> Result<Told<v1::WatchOverviewResponse>, Error> {
    let serving = engine.clone();
    Reader::serve(&engine, move |reader| async move {
        let engine = serving;
        let mut latest = engine.look();
        loop {
            let seen = latest.borrow_and_update().clone();
            if let Some(seen) = seen {
                let overview = overview(&engine, &seen, &wanted).await;
                let Some(room) = reader.room().await else {
                    return;
                };
                room.send(Ok(overview));
                if once {
                    return;
                }
            }
            if latest.changed().await.is_err() {
                return;
            }
        }
    })
}
