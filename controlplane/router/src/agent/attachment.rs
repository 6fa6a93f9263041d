//! One attachment: from Hello to the end of the stream.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tracing::{debug, info};
use voicelane_identity::client;
use voicelane_proto::v1::{
    AttachRequest, AttachResponse, Hello, InstalledSession, InstalledSessions, Synchronised,
    Welcome, attach_request, attach_response, routers_client::RoutersClient,
};
use voicelane_types::with_causes;

use super::{Identity, Interfaces, Terms, report::Seen, silence, strays, traffic, trouble};
use crate::{
    dataplane::WorkerGone,
    sessions::{Commands, Sessions, latched_messages},
};

/// Changes of interfaces come in groups: an address, its routes, a link.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Sessions in one part of the report: with the longest keys under 200 kB.
const SESSIONS_A_PART: usize = 500;
/// How often the worker is asked which sources it has learned, while a session waits for one.
pub(super) const LEARN: Duration = Duration::from_millis(50);
/// Messages that wait for the connection.
const OUTBOX: usize = 64;

/// Why an attachment ended or did not come about.
#[derive(Debug, Error)]
pub(super) enum Detached {
    #[error("{}", with_causes(.0))]
    Connect(tonic::transport::Error),
    /// The server ended the stream with a status, or the connection was lost.
    #[error("{}", client::words(.0))]
    Status(Status),
    /// The server gave the stream up for another one of the same id, which is not ours: we have one
    /// at a time.
    #[error("another router with the same id seems to attach; give each its own `id` ({})", .0.message())]
    Replaced(Status),
    /// The server has led, and leads no more.
    #[error("it leads no more: a later leader's term is known")]
    Stale,
    /// The server ended the stream.
    #[error("the server ended the attachment")]
    Ended,
    /// The worker has ended.
    #[error(transparent)]
    Worker(#[from] WorkerGone),
}

impl Detached {
    /// What the server said, if it said anything.
    pub(super) fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) | Self::Replaced(status) => Some(status),
            _ => None,
        }
    }
}

impl From<Status> for Detached {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Aborted => Self::Replaced(status),
            _ => Self::Status(status),
        }
    }
}

#[derive(Debug)]
pub(super) struct Attachment {
    outbox: mpsc::Sender<AttachRequest>,
    inbox: Streaming<AttachResponse>,
    reported: Seen,
}

impl Attachment {
    /// Says hello, reports the interfaces and what is installed.
    pub(super) async fn open(
        channel: Channel,
        identity: &Identity,
        interfaces: &mut Interfaces,
        sessions: &Arc<Sessions>,
    ) -> Result<Self, Detached> {
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let hello = attach_request::Message::Hello(Hello {
            router_id: identity.router_id.clone(),
            epoch: identity.epoch,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            entry_capacity: identity.entry_capacity,
        });
        let reported = interfaces.look();
        let parts = reported.parts(&interfaces.ports);
        // The stream is polled only when the call is made, so there must be room for this.
        send(&outbox, hello).await?;
        let mut client = RoutersClient::new(channel);
        let opened = client.attach(ReceiverStream::new(outgoing));
        let report = async {
            for part in parts {
                send(&outbox, attach_request::Message::Interfaces(part)).await?;
            }
            for part in installed(sessions) {
                send(&outbox, attach_request::Message::Installed(part)).await?;
            }
            for message in latched(sessions) {
                send(&outbox, message).await?;
            }
            Ok::<_, Detached>(())
        };
        let (opened, reported_sessions) = tokio::join!(opened, report);
        let inbox = opened?.into_inner();
        reported_sessions?;
        Ok(Self {
            outbox,
            inbox,
            reported,
        })
    }

    /// Carries out commands and reports changes until the stream ends.
    pub(super) async fn run(
        &mut self,
        commands: &mut Commands,
        interfaces: &mut Interfaces,
        terms: &mut Terms,
        mut on_synchronised: impl FnMut(&Synchronised),
    ) -> Detached {
        let mut report_at = None;
        let mut tasks = JoinSet::new();
        let sessions = Arc::clone(commands.sessions());
        tasks.spawn(silence::tell(Arc::clone(&sessions), self.outbox.clone()));
        tasks.spawn(strays::tell(Arc::clone(&sessions), self.outbox.clone()));
        tasks.spawn(trouble::tell(Arc::clone(&sessions), self.outbox.clone()));
        let ports = Arc::clone(&interfaces.ports);
        tasks.spawn(traffic::tell(sessions, ports, self.outbox.clone()));
        let mut learning = interval(LEARN);
        learning.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                // Commands before results, so that many are with the worker at once.
                biased;
                message = self.inbox.message() => match message {
                    Ok(Some(AttachResponse {
                        message: Some(attach_response::Message::Welcome(welcome)),
                    })) => welcomed(&welcome, terms),
                    Ok(Some(message)) => {
                        self.handle(message, commands, &mut on_synchronised).await
                    }
                    Ok(None) => Err(Detached::Ended),
                    Err(status) => Err(status.into()),
                },
                result = finish(commands) => match result {
                    Ok(told) => self.tell(told).await,
                    Err(error) => Err(error.into()),
                },
                () = sleep_until(report_at.unwrap_or_else(Instant::now)), if report_at.is_some() => {
                    report_at = None;
                    self.report(interfaces).await
                }
                _ = learning.tick(), if commands.has_waiting() => {
                    commands.learn().await.map_err(Into::into)
                }
                () = interfaces.changed(), if report_at.is_none() => {
                    report_at = Some(Instant::now() + DEBOUNCE);
                    Ok(())
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn handle(
        &mut self,
        message: AttachResponse,
        commands: &mut Commands,
        on_synchronised: &mut impl FnMut(&Synchronised),
    ) -> Result<(), Detached> {
        match message.message {
            Some(attach_response::Message::Command(command)) => {
                let mut done = Vec::new();
                commands.start(command, &mut done).await?;
                self.tell(done).await?;
            }
            Some(attach_response::Message::Synchronised(synchronised)) => {
                on_synchronised(&synchronised);
            }
            Some(attach_response::Message::Welcome(_)) | None => {
                debug!(
                    "the server sent a message that is out of place, or that this version does not know"
                );
            }
        }
        Ok(())
    }

    async fn tell(&self, messages: Vec<attach_request::Message>) -> Result<(), Detached> {
        for message in messages {
            send(&self.outbox, message).await?;
        }
        Ok(())
    }

    async fn report(&mut self, interfaces: &mut Interfaces) -> Result<(), Detached> {
        let seen = interfaces.look();
        let changes = seen.changes_since(&self.reported, &interfaces.ports);
        self.reported = seen;
        if let Some(first) = changes.first() {
            let interfaces = first.interfaces.len();
            info!(interfaces, "interfaces changed: telling the QoS server");
        }
        for part in changes {
            send(
                &self.outbox,
                attach_request::Message::InterfaceChanges(part),
            )
            .await?;
        }
        Ok(())
    }
}

/// Takes the server for the leader, unless a later one is known.
fn welcomed(welcome: &Welcome, terms: &mut Terms) -> Result<(), Detached> {
    let Welcome {
        server_version,
        server_epoch,
        term,
        ..
    } = welcome;
    if !terms.admits(*server_epoch, *term, Instant::now()) {
        return Err(Detached::Stale);
    }
    info!(
        version = server_version,
        epoch = format!("{server_epoch:016x}"),
        term,
        "the QoS server says welcome"
    );
    Ok(())
}

/// What the server is told of the oldest command; waits for ever when there is none.
async fn finish(commands: &mut Commands) -> Result<Vec<attach_request::Message>, WorkerGone> {
    if commands.is_idle() {
        std::future::pending::<()>().await;
    }
    commands.finish_next().await
}

pub(super) async fn send(
    outbox: &mpsc::Sender<AttachRequest>,
    message: attach_request::Message,
) -> Result<(), Detached> {
    let request = AttachRequest {
        message: Some(message),
    };
    outbox.send(request).await.map_err(|_| Detached::Ended)
}

/// The sources that were learned.
fn latched(sessions: &Sessions) -> impl Iterator<Item = attach_request::Message> {
    let table = sessions.table();
    let all = table.iter();
    latched_messages(
        all.flat_map(|(key, session)| session.latched(key))
            .collect(),
    )
}

/// What is installed, in parts, of which the last says so.
fn installed(sessions: &Sessions) -> Vec<InstalledSessions> {
    let table = sessions.table();
    let all: Vec<_> = table
        .iter()
        .map(|(key, session)| InstalledSession {
            key: Some(key.into()),
            revision: session.revision,
            fingerprint: session.fingerprint,
        })
        .collect();
    drop(table);
    let mut parts: Vec<_> = all
        .chunks(SESSIONS_A_PART)
        .map(|part| InstalledSessions {
            sessions: part.to_vec(),
            last: false,
        })
        .collect();
    match parts.last_mut() {
        Some(part) => part.last = true,
        None => parts.push(InstalledSessions {
            sessions: Vec::new(),
            last: true,
        }),
    }
    parts
}
