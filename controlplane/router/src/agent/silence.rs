//! Tells the server which sessions no packet comes for: each is looked at every 30 s.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use voicelane_proto::v1::{AttachRequest, SilentSession, SilentSessions, attach_request::Message};
use voicelane_types::SessionKey;

use super::attachment::{Detached, send};
use crate::sessions::{EntryReading, Sessions};

/// How often each session is looked at.
const EVERY: Duration = Duration::from_secs(30);
/// For how long a session must have had no packet to be told.
const SILENT: Duration = Duration::from_secs(120);
/// Sessions looked at together: of a call with RTCP, as many flows as the worker reads at once.
const SLICE: usize = 16;
/// The most sessions of a message.
const MAX_TOLD: usize = 1_024;
/// The most flows of a pass that near misses are looked for. The next pass goes on after them.
const MAX_WANTED: usize = 32;

/// Looks, and tells, until the attachment ends.
pub(super) async fn tell(sessions: Arc<Sessions>, outbox: mpsc::Sender<AttachRequest>) {
    let mut scan = Scan::default();
    // Fails when the attachment or the worker has ended.
    while scan.pass(&sessions, &outbox).await.is_ok() {}
}

type Unused = HashMap<SessionKey, (u64, Instant)>;

#[derive(Default)]
struct Scan {
    /// Since when sessions of these revisions have been seen without any packet ever. One that was deleted
    /// and added again under its key is another one.
    unused: Unused,
    /// The last session of which near misses were looked for, unless it is the turn of the first one.
    wanted_to: Option<SessionKey>,
}

impl Scan {
    /// Looks at all sessions once, and takes as long as it may for that.
    async fn pass(
        &mut self,
        sessions: &Sessions,
        outbox: &mpsc::Sender<AttachRequest>,
    ) -> Result<(), Detached> {
        let (began, total) = (Instant::now(), sessions.table().len());
        let unused = std::mem::take(&mut self.unused);
        let (mut last, mut looked_at) = (None, 0_usize);
        let (mut silent, mut room) = (Vec::new(), MAX_WANTED);
        loop {
            let slice = sessions.next(last.as_ref(), SLICE);
            let Some((end, ..)) = slice.last() else {
                break;
            };
            last = Some(end.clone());
            looked_at += slice.len();
            let mut revisions = HashMap::with_capacity(slice.len());
            let mut all = Vec::new();
            for (key, revision, entries) in slice {
                all.extend(entries.into_iter().map(|entry| (key.clone(), entry)));
                revisions.insert(key, revision);
            }
            let readings = sessions.read_entries(&all).await?;
            let now = Instant::now();
            for of_session in readings.chunk_by(|one, other| one.key == other.key) {
                silent.extend(self.judge(of_session, &revisions, &unused, now));
                room -= self.want(sessions, of_session, room, now);
            }
            if silent.len() + SLICE > MAX_TOLD {
                report(outbox, &mut silent).await?;
            }
            let [part, all] = [looked_at, total.max(looked_at)].map(narrow);
            sleep_until(began + EVERY * part / all).await;
        }
        report(outbox, &mut silent).await?;
        if room > 0 {
            self.wanted_to = None;
        }
        sleep_until(began + EVERY).await;
        Ok(())
    }

    /// Has near misses looked for of a session's silent flows, if it is its turn; returns of how many flows.
    fn want(
        &mut self,
        sessions: &Sessions,
        readings: &[EntryReading],
        room: usize,
        now: Instant,
    ) -> usize {
        let Some(EntryReading { key, .. }) = readings.first() else {
            return 0;
        };
        if room == 0 || self.wanted_to.as_ref().is_some_and(|last| key <= last) {
            return 0;
        }
        let Some(since) = sessions.table().session(key).map(|it| it.since) else {
            return 0;
        };
        let wanted = sessions.wanted().want(readings, since, room, now);
        if wanted > 0 {
            self.wanted_to = Some(key.clone());
        }
        wanted
    }

    /// Whether a session is silent.
    fn judge(
        &mut self,
        readings: &[EntryReading],
        revisions: &HashMap<SessionKey, u64>,
        before: &Unused,
        now: Instant,
    ) -> Option<SilentSession> {
        let key = &readings.first()?.key;
        let idle_ns = readings.iter().filter_map(|it| it.reading.idle_ns).min();
        let (silent_for, never) = match idle_ns {
            Some(idle_ns) => (Duration::from_nanos(idle_ns), false),
            None => {
                let revision = *revisions.get(key)?;
                let since = match before.get(key) {
                    Some((of, since)) if *of == revision => *since,
                    _ => now,
                };
                self.unused.insert(key.clone(), (revision, since));
                (now - since, true)
            }
        };
        (silent_for >= SILENT).then(|| SilentSession {
            key: Some(key.into()),
            silent_ms: u64::try_from(silent_for.as_millis()).unwrap_or(u64::MAX),
            never,
        })
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

async fn report(
    outbox: &mpsc::Sender<AttachRequest>,
    silent: &mut Vec<SilentSession>,
) -> Result<(), Detached> {
    if silent.is_empty() {
        return Ok(());
    }
    let sessions = std::mem::take(silent);
    send(outbox, Message::Silent(SilentSessions { sessions })).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use voicelane_dataplane::{
        control::{Answer, FlowReading, Request},
        session::FlowCounters,
    };

    use super::*;
    use crate::{
        dataplane::client::tests::fake,
        sessions::{
            Commands, Sampling,
            entries::tests::{flow_entry, ways_in},
        },
    };

    /// What a pass tells: session, silence in s, never.
    async fn pass(scan: &mut Scan, sessions: &Sessions) -> Vec<(String, u64, bool)> {
        let (outbox, mut told) = mpsc::channel(8);
        scan.pass(sessions, &outbox).await.unwrap();
        drop(outbox);
        let mut all = Vec::new();
        while let Some(request) = told.recv().await {
            let Some(Message::Silent(silent)) = request.message else {
                panic!("only silent sessions are told");
            };
            for it in silent.sessions {
                all.push((it.key.unwrap().session_id, it.silent_ms / 1_000, it.never));
            }
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_told_when_they_have_been_silent_for_two_minutes() {
        // Of every flow; u64::MAX: no packet has come.
        let idle_s = Arc::new(AtomicU64::new(u64::MAX));
        let of_flows = Arc::clone(&idle_s);
        let client = fake(move |request| match request {
            Request::ReadFlows(flows) => {
                let idle_s = of_flows.load(Ordering::Relaxed);
                let reading = FlowReading {
                    counters: FlowCounters::default(),
                    idle_ns: (idle_s != u64::MAX).then(|| idle_s * 1_000_000_000),
                    quality: None,
                };
                Answer::Flows(vec![Some(reading); flows.len()])
            }
            _ => Answer::Session(Ok(())),
        });
        let sessions = Arc::new(Sessions::new(client, ways_in(), Sampling::ALL));
        let mut commands = Commands::new(Arc::clone(&sessions));
        let mut install = async |number: u32, revision| {
            let install = voicelane_proto::v1::InstallSession {
                key: Some(voicelane_proto::v1::SessionKey {
                    agent_id: "x".into(),
                    session_id: format!("{number:02}"),
                }),
                revision,
                fingerprint: revision,
                entries: vec![flow_entry(number + 1)],
            };
            let command = voicelane_proto::v1::Command {
                command_id: 1,
                command: Some(voicelane_proto::v1::command::Command::Install(install)),
            };
            commands.start(command, &mut Vec::new()).await.unwrap();
            commands.drain().await.unwrap();
        };
        for number in 0..40 {
            install(number, 1).await;
        }

        let mut scan = Scan::default();
        let began = Instant::now();
        for _ in 0..4 {
            assert_eq!(pass(&mut scan, &sessions).await, []);
        }
        assert!(began.elapsed() >= EVERY * 4);
        let told = pass(&mut scan, &sessions).await;
        assert_eq!(told.len(), 40, "none has had a packet for 120 s");
        assert!(
            told.iter().all(|(_, s, never)| *s >= 120 && *never),
            "{told:?}"
        );
        // Another call under the key of one that had none.
        install(7, 2).await;
        let told = pass(&mut scan, &sessions).await;
        assert_eq!(told.len(), 39, "none has had a packet, and 07 is new");
        assert!(told.iter().all(|(name, ..)| name != "07"), "{told:?}");
        idle_s.store(119, Ordering::Relaxed);
        assert_eq!(pass(&mut scan, &sessions).await, [], "each had one");
        idle_s.store(150, Ordering::Relaxed);
        let told = pass(&mut scan, &sessions).await;
        assert_eq!(told[7], ("07".to_owned(), 150, false));
        idle_s.store(0, Ordering::Relaxed);
        assert_eq!(pass(&mut scan, &sessions).await, [], "they are heard again");
    }
}
