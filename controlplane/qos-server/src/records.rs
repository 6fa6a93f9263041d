//! Calls that have ended, with what their routers had counted: a JSON document a line, and reports to Homer.

mod homer;

use std::{io, net::SocketAddr, path::Path};

use serde::Serialize;
use voicelane_identity::utc;
use voicelane_log::{Flush, Log};
use voicelane_proto::v1;

pub use self::homer::Homer;
use crate::{
    engine::{CallRecord, EntryCounters, FlowExplanation, LocatedLoss},
    grpc::render,
    lines,
    model::{ids::UnixMs, session::MediaFlow},
};

/// Where records of calls go.
#[derive(Clone, Debug)]
pub struct Records(Log);

/// What a line has, in this order. What is not known is left out.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    agent_id: &'a str,
    session_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    correlation_id: &'a str,
    service_class: String,
    priority: u8,
    created: String,
    duration_ms: i64,
    /// "deleted" by its agent or an operator, or what has removed it.
    end: String,
    flows: Vec<Flow>,
}

#[derive(Default, Serialize)]
struct Flow {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_router: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_router: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_source: Option<Counted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_destination: Option<Counted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<LocatedLoss>,
    #[serde(skip_serializing_if = "Option::is_none")]
    two_way_delay_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mos: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rating: Option<f64>,
}

/// What a router has counted of a flow's RTP since it was installed there.
#[derive(Serialize)]
struct Counted {
    packets: u64,
    bytes: u64,
    policed_packets: u64,
    #[serde(flatten)]
    measured: Option<Measured>,
}

/// As `MediaQuality` in the API.
#[derive(Serialize)]
struct Measured {
    ssrc: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_type: Option<u32>,
    expected: u64,
    lost: u64,
    runs: u64,
    duplicates: u64,
    reordered: u64,
    late: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter_max_ns: Option<u64>,
    restarts: u64,
    ssrc_changes: u64,
}

impl Records {
    /// Appends to a file (mode 0600), and to another one when that was moved away; to standard output if it
    /// is `-`. Keep the second until the end.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn to(file: &Path) -> io::Result<(Self, Flush)> {
        let (log, flush) = lines::to(file)?;
        Ok((Self(log), flush))
    }

    /// Notes a call that has ended. Never waits: what has no room is lost, and counted in a line.
    pub fn note(&self, record: &CallRecord) {
        lines::note(&self.0, &line(record));
    }
}

fn line(record: &CallRecord) -> Line<'_> {
    let session = &record.session;
    let spec = &session.spec;
    let reaper = record.reaper.map(|it| render::reaper(Some(it)));
    let flows = spec.flows.iter().enumerate();
    Line {
        time: time(record.ended),
        agent_id: spec.key.agent(),
        session_id: spec.key.session(),
        correlation_id: &spec.correlation_id,
        service_class: word(
            v1::ServiceClass::from(spec.class).as_str_name(),
            "SERVICE_CLASS_",
        ),
        priority: spec.priority.get(),
        created: time(session.created),
        duration_ms: record.ended.0.saturating_sub(session.created.0),
        end: reaper.map_or_else(
            || "deleted".to_owned(),
            |it| word(it.as_str_name(), "REAPER_"),
        ),
        flows: flows.map(|(index, it)| flow(record, index, it)).collect(),
    }
}

fn flow(record: &CallRecord, index: usize, asked: &MediaFlow) -> Flow {
    let places = record.session.placement.get(index).map(|it| &it.media);
    let [source_router, destination_router] = [
        places.and_then(|it| it.source.as_ref()),
        places.and_then(|it| it.destination.as_ref()),
    ]
    .map(|at| at.map(|it| it.router.to_string()));
    let ends = Flow {
        source: asked.course.source(),
        destination: asked.course.destination(),
        source_router,
        destination_router,
        ..Flow::default()
    };
    let Some(told) = record.flows.get(index) else {
        return ends;
    };
    let score = record.score(index);
    Flow {
        // Of a flow that latched, what was learned.
        source: ends.source.or_else(|| source(told)),
        at_source: told.at_source().map(counted),
        at_destination: told.at_destination().map(counted),
        loss: told.loss,
        two_way_delay_ns: told.two_way_delay_ns,
        mos: score.map(|it| it.mos),
        rating: score.map(|it| it.rating),
        ..ends
    }
}

fn source(told: &FlowExplanation) -> Option<SocketAddr> {
    Some(told.at_source()?.tuple?.0.source())
}

fn counted(it: &EntryCounters) -> Counted {
    let measured = it.quality.as_ref().map(|it| Measured {
        ssrc: it.ssrc,
        payload_type: it.payload_type,
        expected: it.expected,
        lost: it.lost,
        runs: it.runs,
        duplicates: it.duplicates,
        reordered: it.reordered,
        late: it.late,
        jitter_ns: it.jitter_ns,
        jitter_max_ns: it.jitter_max_ns,
        restarts: it.restarts,
        ssrc_changes: it.ssrc_changes,
    });
    Counted {
        packets: it.packets,
        bytes: it.bytes,
        policed_packets: it.policed_packets,
        measured,
    }
}

fn time(at: UnixMs) -> String {
    utc(at.0.div_euclid(1_000))
}

/// A proto enum's value as a word: `REAPER_LEASE` is "lease".
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}
