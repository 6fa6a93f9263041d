//! Tracing: takes what the workers have written down, and says it in words.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{self, error::TrySendError},
    },
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tonic::Status;
use voicelane_dataplane::{
    session::{FiveTuple, Protocol},
    trace::{
        Fate, FlowFilter, MAX_RECORDS, QueueEnd, Stage, TraceFilter, TraceRecord, TracedHeader,
        Tracer,
    },
    units::{InterfaceIndex, TickRate, Ticks},
};
use voicelane_proto::v1::{
    self, TracePacketsRequest, TracePacketsResponse, TraceStep, TracedPacket,
    trace_packets_request::Filter,
};
use voicelane_types::SessionKey;

use super::{policy, source::Source};
use crate::{
    config::{InterfaceConfig, interfaces},
    dataplane::WorkerGone,
    policy::Installed,
};

/// How often the workers are asked for what they have.
const READ_EVERY: Duration = Duration::from_millis(50);
/// How long a trace waits for its turn, which the search for near misses has for less, and its last part for its
/// reader.
const PATIENCE: Duration = Duration::from_secs(1);
/// Why controlled delay drops, as the queues' counters call it.
const DELAY_DROPPED: &str = "delay-dropped";
/// Why what has left its queue is dropped, as the ports' counters call it.
const LINK_LOST: &str = "link-lost";
const USUAL_PACKETS: u32 = 20;
const USUAL_TIMEOUT_MS: u32 = 10_000;
const LONGEST_TIMEOUT_MS: u32 = 600_000;

/// Where the parts of an answer come.
pub(super) type Parts = mpsc::Receiver<Result<TracePacketsResponse, Status>>;

/// Starts what a request asks for.
pub(super) async fn trace(
    source: Arc<Source>,
    request: &TracePacketsRequest,
) -> Result<Parts, Status> {
    let packets = in_range("packets", request.packets, USUAL_PACKETS, MAX_PACKETS)?;
    let timeout_ms = in_range(
        "timeout_ms",
        request.timeout_ms,
        USUAL_TIMEOUT_MS,
        LONGEST_TIMEOUT_MS,
    )?;
    let filter = filter(&source, request)?;
    let turn = Arc::clone(source.kept.client().tracing()).acquire_owned();
    let Ok(Ok(turn)) = timeout(PATIENCE, turn).await else {
        let reason = "another trace is running; try again when it has ended";
        return Err(Status::resource_exhausted(reason));
    };
    let (sender, receiver) = mpsc::channel(2);
    let trace = Trace {
        source,
        filter,
        left: usize::try_from(packets).unwrap_or(MAX_RECORDS),
        missed: 0,
        at: None,
        end: Instant::now() + Duration::from_millis(timeout_ms.into()),
        _turn: turn,
    };
    tokio::spawn(trace.run(sender));
    Ok(receiver)
}

#[allow(clippy::cast_possible_truncation, reason = "a small constant")]
const MAX_PACKETS: u32 = MAX_RECORDS as u32;

fn in_range(field: &str, value: u32, usual: u32, most: u32) -> Result<u32, Status> {
    match value {
        0 => Ok(usual),
        value if value <= most => Ok(value),
        value => Err(Status::invalid_argument(format!(
            "{field}: {value} are more than {most}"
        ))),
    }
}

fn filter(source: &Source, request: &TracePacketsRequest) -> Result<TraceFilter, Status> {
    let mut filter = TraceFilter {
        drops_only: request.drops_only,
        ..TraceFilter::default()
    };
    match &request.filter {
        None => {}
        Some(Filter::Flow(flow)) => {
            let ends = [("source", &flow.source), ("destination", &flow.destination)];
            let [source, destination] = ends.map(|(name, end)| endpoint(name, end.as_ref()));
            let (source, destination) = (source?, destination?);
            filter.flows.push(FlowFilter {
                source: Some(source),
                destination,
            });
            if flow.both_directions {
                filter.flows.push(FlowFilter {
                    source: Some(destination),
                    destination: source,
                });
            }
        }
        Some(Filter::Session(key)) => filter.flows = session(source, key)?,
        Some(Filter::Interface(name)) => {
            let ports = &source.interfaces.ports;
            let place = interfaces(ports).position(|it| it.name() == name);
            let index = place.and_then(|place| u8::try_from(place).ok());
            let index = index.ok_or_else(|| {
                let names: Vec<_> = interfaces(ports).map(|it| it.name()).collect();
                let names = names.join(", ");
                Status::not_found(format!(
                    "no interface is called {name:?}; there are {names}"
                ))
            })?;
            filter.interface = Some(InterfaceIndex(index));
        }
    }
    Ok(filter)
}

fn endpoint(field: &str, end: Option<&v1::Endpoint>) -> Result<SocketAddr, Status> {
    let invalid = |why| Status::invalid_argument(format!("flow.{field}{why}"));
    let end = end.ok_or_else(|| invalid(" is missing".to_owned()))?;
    let address = end.address.parse::<IpAddr>();
    let address =
        address.map_err(|_| invalid(format!(".address: {:?} is no IP address", end.address)))?;
    let port = u16::try_from(end.port);
    let port = port.map_err(|_| invalid(format!(".port: {} is no port", end.port)))?;
    Ok(SocketAddr::new(address, port))
}

/// The flows of a session on this router.
fn session(source: &Source, key: &v1::SessionKey) -> Result<Vec<FlowFilter>, Status> {
    let key = SessionKey::new(&key.agent_id, &key.session_id);
    let key = key.map_err(|wrong| Status::invalid_argument(format!("session.{wrong}")))?;
    let table = source.sessions.table();
    let installed = table.session(&key).ok_or_else(|| {
        Status::not_found(format!("session {key} is not installed on this router"))
    })?;
    let flows = installed.entries.iter().map(|entry| FlowFilter {
        source: entry.waits().is_none().then_some(entry.spec.flow.source),
        destination: entry.spec.flow.destination,
    });
    Ok(flows.collect())
}

/// A trace that is running.
struct Trace {
    source: Arc<Source>,
    filter: TraceFilter,
    /// How many packets are still wanted.
    left: usize,
    missed: u64,
    /// One time by the workers' clock and by the wall's, ns: packets must not change places between parts.
    at: Option<(Ticks, i64)>,
    end: Instant,
    _turn: OwnedSemaphorePermit,
}

impl Trace {
    async fn run(mut self, sender: mpsc::Sender<Result<TracePacketsResponse, Status>>) {
        let mut next = Instant::now();
        loop {
            let gone = tokio::select! {
                () = sender.closed() => true,
                () = sleep_until(next.min(self.end)) => false,
            };
            next = Instant::now() + READ_EVERY;
            let is_last = gone || self.left == 0 || Instant::now() >= self.end;
            let part = match self.read(is_last).await {
                Ok(part) => part,
                Err(error) => {
                    let _ = sender
                        .send(Err(Status::unavailable(error.to_string())))
                        .await;
                    return;
                }
            };
            if is_last || !part.packets.is_empty() {
                // Who asked may have gone, which the next round sees, or not read, which ends it.
                let sent = sender.try_send(Ok(part));
                let read = match sent {
                    Err(TrySendError::Full(part)) => {
                        self.pause().await;
                        timeout_at(self.end + PATIENCE, sender.send(part)).await
                    }
                    Ok(()) | Err(TrySendError::Closed(_)) => Ok(Ok(())),
                };
                if read.is_err() {
                    self.end = Instant::now();
                }
            }
            if is_last {
                return;
            }
        }
    }

    /// Takes what came since the last time; until the next one the workers only count what matches.
    async fn pause(&mut self) {
        let counting = Tracer::new(self.filter.clone(), 0);
        if let Ok(Some(traced)) = self.source.kept.client().trace(Some(counting)).await {
            self.missed += traced.missed + u64::try_from(traced.records.len()).unwrap_or(0);
        }
    }

    /// Takes what the workers have, and leaves them room for what is still wanted, unless it is the end.
    async fn read(&mut self, is_last: bool) -> Result<TracePacketsResponse, WorkerGone> {
        let next = (!is_last).then(|| Tracer::new(self.filter.clone(), self.left));
        let mut part = TracePacketsResponse::default();
        if let Some(traced) = self.source.kept.client().trace(next).await? {
            let Tracer {
                mut records,
                missed,
                now,
                ..
            } = *traced;
            // Several workers', and of each burst what is dropped first.
            records.sort_by_key(|record| (record.at, record.place));
            let taken = records.len().min(self.left);
            self.left -= taken;
            self.missed += missed + u64::try_from(records.len() - taken).unwrap_or(0);
            let words = Words::new(&self.source);
            let (then, unix) = *self.at.get_or_insert_with(|| (now, unix_ns()));
            let packets = records.iter().take(taken).map(|record| {
                let [later, ago] = [record.at.since(then), then.since(record.at)]
                    .map(|ticks| words.clock.nanoseconds(ticks));
                let at_unix_ns = unix
                    .saturating_add_unsigned(later)
                    .saturating_sub_unsigned(ago);
                words.packet(record, at_unix_ns)
            });
            part.packets = packets.collect();
        }
        part.missed = self.missed;
        Ok(part)
    }
}

fn unix_ns() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    unix.map_or(0, |unix| i64::try_from(unix.as_nanos()).unwrap_or(i64::MAX))
}

/// What the numbers in records are called.
struct Words<'a> {
    source: &'a Source,
    interfaces: Vec<InterfaceConfig<'a>>,
    installed: Arc<Installed>,
    clock: TickRate,
}

impl<'a> Words<'a> {
    fn new(source: &'a Source) -> Self {
        Self {
            source,
            interfaces: interfaces(&source.interfaces.ports).collect(),
            installed: source.policies.installed(),
            clock: source.policies.clock(),
        }
    }

    fn interface(&self, index: InterfaceIndex) -> String {
        let interface = self.interfaces.get(index.index());
        interface.map_or_else(
            || format!("interface {}", index.0),
            |it| it.name().to_owned(),
        )
    }

    fn egress(&self, record: &TraceRecord) -> Option<String> {
        let exit = record.exit?;
        let found = self
            .interfaces
            .iter()
            .find(|it| it.index == exit.port && it.vlan.map(|vlan| vlan.id) == exit.vlan);
        found.map(|it| it.name().to_owned())
    }

    fn session(&self, flow: Option<FiveTuple>) -> Option<SessionKey> {
        self.source.sessions.table().owner(&flow?).cloned()
    }

    fn rule(&self, record: &TraceRecord) -> Option<String> {
        let (rule, generation) = record.rule?;
        let rules = &self.installed.config.rules;
        let named = rules.get(rule.index());
        let named = named.filter(|_| generation == self.installed.generation);
        Some(named.map_or_else(
            || format!("number {} of before the reload", rule.index() + 1),
            |rule| rule.rule.name.clone(),
        ))
    }

    fn packet(&self, record: &TraceRecord, at_unix_ns: i64) -> TracedPacket {
        let (fate, reason) = match record.fate {
            Fate::Queued => match record.queue_end {
                Some(QueueEnd::Dropped(_)) => (v1::traced_packet::Fate::Dropped, DELAY_DROPPED),
                Some(QueueEnd::LinkDown(_)) => (v1::traced_packet::Fate::Dropped, LINK_LOST),
                _ => (v1::traced_packet::Fate::Queued, ""),
            },
            Fate::Dropped(reason) | Fate::Refused(_, reason) => {
                (v1::traced_packet::Fate::Dropped, reason.name())
            }
            Fate::Punted(reason) => (v1::traced_packet::Fate::Punted, reason.name()),
        };
        let session = self.session(record.session);
        TracedPacket {
            at_unix_ns,
            interface: self.interface(record.ingress),
            frame: record.frame.to_vec(),
            frame_bytes: record.frame_bytes.into(),
            fate: fate.into(),
            reason: reason.to_owned(),
            session: session.as_ref().map(Into::into),
            rule: self.rule(record).unwrap_or_default(),
            dscp: record
                .marked
                .map_or_else(String::new, |(dscp, _)| dscp.to_string()),
            queue: record
                .marked
                .map_or_else(String::new, |(_, phb)| phb.name().to_owned()),
            egress: self.egress(record).unwrap_or_default(),
            steps: self.steps(record, session.as_ref()),
        }
    }

    /// What each stage did, up to the one that ended it.
    fn steps(&self, record: &TraceRecord, session: Option<&SessionKey>) -> Vec<TraceStep> {
        let (ended_at, end) = match record.fate {
            Fate::Queued => (Stage::Schedule, String::new()),
            Fate::Dropped(reason) => (reason.stage(), format!("dropped: {}", reason.name())),
            Fate::Punted(_) => (Stage::Queue, "given to the kernel".to_owned()),
            Fate::Refused(_, reason) => (
                Stage::Queue,
                format!("dropped on the way to the kernel: {}", reason.name()),
            ),
        };
        let punted = match record.fate {
            Fate::Punted(reason) | Fate::Refused(reason, _) => {
                Some((reason.stage(), format!("for the kernel: {}", reason.name())))
            }
            _ => None,
        };
        let mut steps = Vec::new();
        for stage in Stage::ALL {
            let mut texts: Vec<_> = self.at(stage, record, session).into_iter().collect();
            texts.extend(
                punted
                    .iter()
                    .filter(|(at, _)| *at == stage)
                    .map(|(_, text)| text.clone()),
            );
            let is_end = stage == ended_at;
            if is_end && !end.is_empty() {
                texts.push(end.clone());
            }
            if !texts.is_empty() {
                steps.push(TraceStep {
                    stage: stage.name().to_owned(),
                    text: texts.join("; "),
                });
            }
            if is_end {
                break;
            }
        }
        steps
    }

    /// What a stage found, beside the packet's end.
    fn at(
        &self,
        stage: Stage,
        record: &TraceRecord,
        session: Option<&SessionKey>,
    ) -> Option<String> {
        let header = record.header.as_ref();
        match stage {
            Stage::Rx => {
                let (on, bytes) = (self.interface(record.ingress), record.frame_bytes);
                Some(format!("{on}, {bytes} bytes"))
            }
            Stage::Parse => header.map(packet_text),
            Stage::Classify => header.map(|_| self.classified(record, session)),
            Stage::Police if record.session.is_some() => {
                let is_dropped = matches!(record.fate, Fate::Dropped(it) if it.stage() <= stage);
                (!is_dropped).then(|| "conforms".to_owned())
            }
            Stage::Mark => {
                let (dscp, phb) = record.marked?;
                Some(format!("{dscp}, class {}", phb.name()))
            }
            Stage::Route => {
                let (egress, exit) = (self.egress(record)?, record.exit?);
                Some(format!("by {egress} to {}", exit.neighbour))
            }
            Stage::Queue => {
                let ((_, phb), egress) = (record.marked?, self.egress(record)?);
                let let_in = if record.fate == Fate::Queued {
                    ": let in"
                } else {
                    ""
                };
                Some(format!("{egress} {}{let_in}", phb.name()))
            }
            Stage::Schedule => {
                let after = |at: Ticks| self.clock.nanoseconds(at.since(record.at)) / 1_000;
                Some(match record.queue_end? {
                    QueueEnd::Waits => "waits".to_owned(),
                    QueueEnd::Sent(at) if at == record.at => "sent at once".to_owned(),
                    QueueEnd::Sent(at) => format!("sent after {} us", after(at)),
                    QueueEnd::Dropped(at) => {
                        format!("dropped: {DELAY_DROPPED} after {} us", after(at))
                    }
                    QueueEnd::LinkDown(at) => {
                        format!("dropped: {LINK_LOST} after {} us", after(at))
                    }
                })
            }
            Stage::Verify | Stage::Measure | Stage::Police => None,
        }
    }

    fn classified(&self, record: &TraceRecord, session: Option<&SessionKey>) -> String {
        if record.session.is_some() {
            return session.map_or_else(
                || "a session that has ended".to_owned(),
                |key| format!("session {}/{}", key.agent(), key.session()),
            );
        }
        let by = match self.rule(record) {
            Some(rule) => format!("rule {rule}"),
            None => format!(
                "no session, no rule: trust of {}",
                self.interface(record.ingress)
            ),
        };
        match self.session(record.spoofed) {
            Some(key) => format!(
                "session {}/{} comes in elsewhere; {by}",
                key.agent(),
                key.session()
            ),
            None => by,
        }
    }
}

/// "IPv4 udp 10.1.0.5:4000 > 10.2.0.7:5000, 200 bytes, EF, TTL 64".
fn packet_text(header: &TracedHeader) -> String {
    let FiveTuple {
        source,
        destination,
        protocol,
    } = header.flow;
    let version = if source.is_ipv4() { "IPv4" } else { "IPv6" };
    let ends = if header.has_ports {
        format!("{source} > {destination}")
    } else {
        format!("{} > {}", source.ip(), destination.ip())
    };
    let of_ports = [Protocol::UDP, Protocol::TCP, Protocol::IPV6_FRAGMENT];
    let fragment = if !header.has_ports && of_ports.contains(&protocol) {
        ", a fragment without ports"
    } else {
        ""
    };
    format!(
        "{version} {} {ends}{fragment}, {} bytes, {}, TTL {}",
        policy::protocol(&protocol),
        header.ip_bytes,
        header.dscp,
        header.ttl
    )
}
