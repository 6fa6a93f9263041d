//! Tells the server which calls lose packets or are heard one way only, so that it looks at these: each is
//! looked at every 2 s, or as often as the workers' time allows.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use voicelane_dataplane::quality::FlowQuality;
use voicelane_proto::v1::{AttachRequest, FlowKind, TroubledSessions, attach_request::Message};

use super::attachment::{Detached, send};
use crate::sessions::{EntryReading, Sessions};

/// How often each session is looked at. From a loss until it will not change any more 3.8 s may pass (at 50 packets a
/// second), and from the server's first look to its second one 2 s: so all is told within 10 s.
const EVERY: Duration = Duration::from_secs(2);
/// What a session takes of that at least, so that workers read no more than 2,000 of them a second.
const A_SESSION: Duration = Duration::from_micros(500);
/// Sessions looked at, and told of, together.
const SLICE: usize = 16;
/// The loss that counts is that of so many blocks of numbers: of five seconds of most calls.
const BLOCKS: usize = 4;
/// Reports of a receiver that are compared: ten seconds of most.
const REPORTS: usize = 3;
/// A flow whose last packet is no older is heard.
const HEARD_NS: u64 = 1_000_000_000;
/// A flow whose last packet is older is silent.
const SILENT_NS: u64 = 2_000_000_000;
/// The same of RTCP, which comes every 5 s or so (RFC 3550 section 6.2).
const RTCP_SILENT_NS: u64 = 12_000_000_000;
/// Fewer packets of one way only may be a call that begins.
const ESTABLISHED: u64 = 250;

/// Looks, and tells, until the attachment ends.
pub(super) async fn tell(sessions: Arc<Sessions>, outbox: mpsc::Sender<AttachRequest>) {
    // Fails when the attachment or the worker has ended.
    while pass(&sessions, &outbox).await.is_ok() {}
}

/// Looks at all sessions once, and takes as long as it may for that.
async fn pass(sessions: &Sessions, outbox: &mpsc::Sender<AttachRequest>) -> Result<(), Detached> {
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let (began, total) = (Instant::now(), sessions.table().len());
    let all_take = EVERY.max(A_SESSION * narrow(total));
    let (mut last, mut looked_at) = (None, 0_usize);
    loop {
        let slice = sessions.next(last.as_ref(), SLICE);
        let Some((end, ..)) = slice.last() else {
            break;
        };
        last = Some(end.clone());
        looked_at += slice.len();
        let entries = slice.into_iter().flat_map(|(key, _, entries)| {
            let of_session = entries.into_iter();
            of_session.map(move |entry| (key.clone(), entry))
        });
        let readings = sessions.read_entries(&entries.collect::<Vec<_>>()).await?;
        let by_session = readings.chunk_by(|one, other| one.key == other.key);
        let troubled = by_session.filter(|it| is_troubled(it));
        let keys = troubled.filter_map(|it| it.first().map(|it| (&it.key).into()));
        let told = TroubledSessions {
            sessions: keys.collect(),
        };
        if !told.sessions.is_empty() {
            send(outbox, Message::Troubled(told)).await?;
        }
        let [part, all] = [looked_at, total.max(looked_at)].map(narrow);
        sleep_until(began + all_take * part / all).await;
    }
    sleep_until(began + all_take).await;
    Ok(())
}

/// Whether a session has lost packets lately, or a way of it is silent while the other one is heard.
fn is_troubled(session: &[EntryReading]) -> bool {
    let loses = session.iter().any(|it| {
        let silent = match it.entry.kind {
            FlowKind::Rtcp => RTCP_SILENT_NS,
            _ => SILENT_NS,
        };
        let is_heard = it.reading.idle_ns.is_some_and(|idle| idle <= silent);
        is_heard && it.reading.quality.as_ref().is_some_and(has_lost)
    });
    let rtp = || session.iter().filter(|it| it.entry.kind == FlowKind::Rtp);
    let one_way = || {
        let mut heard = rtp().filter(|it| {
            let is_heard = it.reading.idle_ns.is_some_and(|idle| idle <= HEARD_NS);
            is_heard && it.reading.counters.packets >= ESTABLISHED
        });
        heard.any(|it| {
            let there = it.entry.spec.flow;
            rtp().any(|back| {
                let flow = back.entry.spec.flow;
                let is_silent = back.reading.idle_ns.is_none_or(|idle| idle > SILENT_NS);
                is_silent && (flow.source, flow.destination) == (there.destination, there.source)
            })
        })
    };
    loses || one_way()
}

/// Whether packets were lost lately, dropped here, or lost on the way to a receiver that has said so.
fn has_lost(quality: &FlowQuality) -> bool {
    let checkpoints = quality.checkpoints.iter().flatten();
    let counts = checkpoints.map(|it| (it.lost, it.dropped));
    let counts: Vec<_> = counts.take(BLOCKS + 1).collect();
    let reports = quality.reports().take(REPORTS);
    let said: Vec<i32> = reports.map(|it| it.lost).collect();
    said.first() > said.last() || counts.first() != counts.last()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use voicelane_dataplane::{
        control::{Answer, FlowReading, Request},
        quality::Checkpoint,
        session::FlowCounters,
    };
    use voicelane_proto::v1;

    use super::*;
    use crate::{
        dataplane::client::tests::fake,
        sessions::{
            Commands, Sampling,
            entries::tests::{flow_entry, ways_in},
        },
    };

    /// Of a flow: how long it has been silent, and what it has lost and dropped up to checkpoints, the latest
    /// first.
    type Flow = (Option<u64>, [(u32, Option<u32>); 6]);

    const WELL: Flow = (Some(20_000_000), [(7, Some(1)); 6]);

    /// Whether a session is told of whose flows there and back are so.
    async fn is_told(flows: [Flow; 2]) -> bool {
        let flows = Mutex::new(flows);
        let client = fake(move |request| match request {
            Request::ReadFlows(asked) => {
                let read = |index: usize| {
                    let (idle_ns, counts) = flows.lock().unwrap()[index];
                    let mut quality = FlowQuality::default();
                    for (place, (lost, dropped)) in quality.checkpoints.iter_mut().zip(counts) {
                        *place = Some(Checkpoint {
                            number: 64,
                            lost,
                            dropped,
                        });
                    }
                    let counters = FlowCounters {
                        packets: 1_000,
                        ..FlowCounters::default()
                    };
                    Some(FlowReading {
                        counters,
                        idle_ns,
                        quality: Some(quality),
                    })
                };
                Answer::Flows((0..asked.len()).map(read).collect())
            }
            _ => Answer::Session(Ok(())),
        });
        let sessions = Arc::new(Sessions::new(client, ways_in(), Sampling::ALL));
        let mut commands = Commands::new(Arc::clone(&sessions));
        let there = flow_entry(4_000);
        let back = v1::FlowEntry {
            flow_index: 1,
            source: there.destination.clone(),
            destination: there.source.clone(),
            ..there.clone()
        };
        let install = v1::InstallSession {
            key: Some(v1::SessionKey {
                agent_id: "x".into(),
                session_id: "1".into(),
            }),
            revision: 1,
            fingerprint: 1,
            entries: vec![there, back],
        };
        let command = v1::Command {
            command_id: 1,
            command: Some(v1::command::Command::Install(install)),
        };
        commands.start(command, &mut Vec::new()).await.unwrap();
        commands.drain().await.unwrap();
        let (outbox, mut told) = mpsc::channel(8);
        let began = Instant::now();
        pass(&sessions, &outbox).await.unwrap();
        assert!(began.elapsed() >= EVERY);
        drop(outbox);
        let troubled = told.recv().await.map(|it| it.message);
        let Some(Some(Message::Troubled(troubled))) = troubled else {
            return false;
        };
        assert_eq!(troubled.sessions[0].session_id, "1");
        true
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_told_that_lose_packets_or_are_heard_one_way() {
        assert!(!is_told([WELL, WELL]).await);
        let mut lossy = WELL;
        lossy.1[4] = (6, Some(1));
        assert!(is_told([WELL, lossy]).await);
        let mut policed = WELL;
        policed.1[0] = (7, Some(2));
        assert!(is_told([policed, WELL]).await);
        // What was lost long ago.
        let mut before = WELL;
        before.1[5] = (1, Some(0));
        assert!(!is_told([WELL, before]).await);
        let silent = |idle| (idle, [(0, Some(0)); 6]);
        assert!(is_told([WELL, silent(Some(2_100_000_000))]).await);
        assert!(is_told([silent(None), WELL]).await);
        assert!(
            !is_told([silent(Some(9_000_000_000)), silent(None)]).await,
            "on hold"
        );
    }
}
