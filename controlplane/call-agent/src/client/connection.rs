//! The connection to the QoS server: connects again and again, lists once what is there, and carries
//! changes on one stream.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, interval_at, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, metadata::MetadataMap, transport::Channel};
use tracing::{debug, info, warn};
use voicelane_identity::{Files, Servers, client};
use voicelane_proto::v1::{self, operator_client::OperatorClient, sessions_client::SessionsClient};
use voicelane_types::with_causes;

use super::{Answer, Question};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Requests that wait for the stream. More changes than these hold are never on their way.
const REQUESTS: usize = 1_024;
/// Questions that are asked at a time.
const ASKED: usize = 64;
/// How often the agent's lease is renewed.
const RENEW: Duration = Duration::from_secs(20);
/// Messages that wait for the stream of the lease.
const LEASES: usize = 64;
/// Sessions that are kept by one message.
const KEPT: usize = 1_024;
/// Sessions of a page.
const PAGE: u32 = 1_000;

/// What the server says.
#[derive(Debug)]
pub enum FromServer {
    /// Sessions that it had when this process began. Comes before the first `Connected`.
    Listed(Vec<v1::SessionSpec>),
    /// A stream of changes is open.
    Connected {
        /// Differs for each start of the server.
        epoch: u64,
        /// The request side of the ChangeSessions stream.
        requests: mpsc::Sender<v1::ChangeSessionsRequest>,
    },
    /// What became of changes.
    Outcomes(Vec<v1::ChangeOutcome>),
    /// It asks about sessions that no packet has come for: they go unless they are kept.
    Silent(Vec<String>),
    /// What it says of a session. Each question has one.
    Answered(Question, Answer),
    /// The stream has ended.
    Disconnected,
}

/// The agent is gone: nobody takes what the server says.
struct NobodyListens;

/// Whom to connect to, in whose name.
#[derive(Clone, Debug)]
pub struct Server {
    /// Those that may be asked.
    pub servers: Servers,
    /// What the agent proves its name with; read at each connecting.
    pub files: Option<Files>,
    /// The agent's name at the server.
    pub agent_id: String,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("no connection within {CONNECT:?}")]
    Connecting,
    #[error("no connection")]
    Transport(#[from] tonic::transport::Error),
    #[error("no answer within {ANSWER:?}")]
    Slow,
    #[error("{}", client::words(.0))]
    Status(Status),
    #[error("the server has ended the stream")]
    Stream,
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// Stays connected until nobody listens.
pub async fn run(
    mut server: Server,
    events: mpsc::Sender<FromServer>,
    mut questions: mpsc::Receiver<Vec<Question>>,
    mut kept: mpsc::Receiver<Vec<String>>,
) {
    let mut listed = false;
    let mut waiting = VecDeque::new();
    let mut said = String::new();
    loop {
        let mut connection = Connection {
            server: &server,
            events: &events,
            questions: &mut questions,
            kept: &mut kept,
            waiting: &mut waiting,
            listed: &mut listed,
            worked: false,
        };
        let ended = match connection.run().await {
            Ok(NobodyListens) => return,
            Err(ended) => ended,
        };
        let worked = connection.worked;
        if worked {
            server.servers.works();
            said.clear();
        }
        let reason = with_causes(&ended);
        if reason != said {
            warn!(server = %server.servers.now(), %reason, "the QoS server cannot be used; trying again");
            said = reason;
        }
        if events.send(FromServer::Disconnected).await.is_err() {
            return;
        }
        let status = match &ended {
            Ended::Status(status) => Some(status),
            _ => None,
        };
        let wait = server.servers.fails(status, &mut rand::rng());
        tokio::time::sleep(wait).await;
    }
}

/// The stream of the agent's lease.
struct Lease {
    renewals: mpsc::Sender<v1::KeepAgentRequest>,
    asked: Streaming<v1::KeepAgentResponse>,
}

impl Lease {
    /// Renews the lease, and keeps these sessions.
    async fn renew(&self, keep: &[String]) -> Result<(), Ended> {
        let request = v1::KeepAgentRequest {
            agent_id: String::new(),
            keep: keep.to_vec(),
        };
        // Fails when the stream has ended.
        let sent = timeout(ANSWER, self.renewals.send(request)).await;
        sent.map_err(|_| Ended::Slow)?.map_err(|_| Ended::Stream)
    }
}

struct Connection<'a> {
    server: &'a Server,
    events: &'a mpsc::Sender<FromServer>,
    questions: &'a mut mpsc::Receiver<Vec<Question>>,
    /// Silent sessions that are to stay.
    kept: &'a mut mpsc::Receiver<Vec<String>>,
    /// Those that nobody was asked as yet. Each has its answer some time.
    waiting: &'a mut VecDeque<Question>,
    listed: &'a mut bool,
    /// Changes could be sent.
    worked: bool,
}

impl Connection<'_> {
    async fn run(&mut self) -> Result<NobodyListens, Ended> {
        let channel = connect(self.server).await?;
        let mut client = SessionsClient::new(channel.clone());
        // Before there is a session, so that the server expects this agent from the first one on.
        let lease = self.take_lease(&mut client).await?;
        if !*self.listed {
            if self.list(&mut client).await?.is_some() {
                return Ok(NobodyListens);
            }
            *self.listed = true;
        }
        let (requests, outgoing) = mpsc::channel(REQUESTS);
        let opening = client.change_sessions(ReceiverStream::new(outgoing));
        let opened = timeout(ANSWER, opening).await.map_err(|_| Ended::Slow)??;
        let epoch = epoch(opened.metadata());
        info!(
            server = %self.server.servers.now(),
            epoch, "connected to the QoS server"
        );
        self.worked = true;
        if self.tell(FromServer::Connected { epoch, requests }).await {
            return Ok(NobodyListens);
        }
        self.carry(channel, opened.into_inner(), lease).await
    }

    async fn take_lease(&self, client: &mut SessionsClient<Channel>) -> Result<Lease, Ended> {
        let (renewals, outgoing) = mpsc::channel(LEASES);
        let first = v1::KeepAgentRequest {
            agent_id: self.server.agent_id.clone(),
            keep: Vec::new(),
        };
        // There is room.
        let _ = renewals.try_send(first);
        let keeping = client.keep_agent(ReceiverStream::new(outgoing));
        let asked = timeout(ANSWER, keeping).await.map_err(|_| Ended::Slow)??;
        Ok(Lease {
            renewals,
            asked: asked.into_inner(),
        })
    }

    async fn carry(
        &mut self,
        channel: Channel,
        mut outcomes: Streaming<v1::ChangeSessionsResponse>,
        mut lease: Lease,
    ) -> Result<NobodyListens, Ended> {
        let mut renew = interval_at(Instant::now() + RENEW, RENEW);
        let room = Arc::new(Semaphore::new(ASKED));
        loop {
            tokio::select! {
                message = outcomes.message() => {
                    let response = message?.ok_or(Ended::Stream)?;
                    if self.tell(FromServer::Outcomes(response.outcomes)).await {
                        return Ok(NobodyListens);
                    }
                }
                asked = lease.asked.message() => {
                    let silent = asked?.ok_or(Ended::Stream)?.silent;
                    if !silent.is_empty() && self.tell(FromServer::Silent(silent)).await {
                        return Ok(NobodyListens);
                    }
                }
                _ = renew.tick() => lease.renew(&[]).await?,
                Some(kept) = self.kept.recv() => {
                    for kept in kept.chunks(KEPT) {
                        lease.renew(kept).await?;
                    }
                }
                asked = self.questions.recv(), if self.waiting.is_empty() => {
                    let Some(asked) = asked else {
                        return Ok(NobodyListens);
                    };
                    self.waiting.extend(asked);
                }
                Ok(place) = Arc::clone(&room).acquire_owned(), if !self.waiting.is_empty() => {
                    if let Some(question) = self.waiting.pop_front() {
                        let asking = ask(channel.clone(), question, self.events.clone());
                        tokio::spawn(async move {
                            asking.await;
                            drop(place);
                        });
                    }
                }
            }
        }
    }

    /// What the server has of an earlier process. `Some`: nobody listens.
    async fn list(
        &mut self,
        client: &mut SessionsClient<Channel>,
    ) -> Result<Option<NobodyListens>, Ended> {
        let mut page_token = String::new();
        let mut count = 0;
        loop {
            let asking = client.list_sessions(v1::ListSessionsRequest {
                agent_id: self.server.agent_id.clone(),
                page_size: PAGE,
                page_token,
            });
            let page = timeout(ANSWER, asking)
                .await
                .map_err(|_| Ended::Slow)??
                .into_inner();
            let specs: Vec<_> = page.sessions.into_iter().filter_map(|of| of.spec).collect();
            count += specs.len();
            if self.tell(FromServer::Listed(specs)).await {
                return Ok(Some(NobodyListens));
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        if count > 0 {
            info!(
                sessions = count,
                "adopted the sessions of an earlier process"
            );
        }
        Ok(None)
    }

    /// Passes an event on; true if nobody listens any more.
    async fn tell(&self, event: FromServer) -> bool {
        self.events.send(event).await.is_err()
    }
}

async fn connect(server: &Server) -> Result<Channel, Ended> {
    let endpoint = server.servers.endpoint();
    let channel = timeout(CONNECT, client::connect(&endpoint, server.files.as_ref())).await;
    Ok(channel.map_err(|_| Ended::Connecting)??)
}

async fn ask(channel: Channel, question: Question, events: mpsc::Sender<FromServer>) {
    let asked = match question.clone() {
        Question::Revision(key) => timeout(ANSWER, revision(channel, key)).await,
        Question::Heard(key) => timeout(ANSWER, heard(channel, key)).await,
    };
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) if status.code() == Code::NotFound => Answer::NoSession,
        Ok(Err(status)) => {
            debug!(%status, "a session cannot be looked at");
            Answer::None
        }
        Err(_) => Answer::None,
    };
    // Fails when the agent has ended.
    let _ = events.send(FromServer::Answered(question, answer)).await;
}

async fn revision(channel: Channel, key: v1::SessionKey) -> Result<Answer, Status> {
    let request = v1::GetSessionRequest { key: Some(key) };
    let answer = SessionsClient::new(channel).get_session(request).await?;
    let spec = answer.into_inner().session.and_then(|of| of.spec);
    Ok(spec.map_or(Answer::NoSession, |spec| Answer::Revision(spec.revision)))
}

/// What the routers say of a session's packets, RTCP included.
async fn heard(channel: Channel, key: v1::SessionKey) -> Result<Answer, Status> {
    let request = v1::ExplainSessionRequest { key: Some(key) };
    let answer = OperatorClient::new(channel)
        .explain_session(request)
        .await?;
    let flows = answer.into_inner().flows;
    let mut entries = flows
        .iter()
        .flat_map(|flow| {
            flow.source_counters
                .iter()
                .chain(&flow.destination_counters)
        })
        .peekable();
    if entries.peek().is_none() {
        return Ok(Answer::None);
    }
    let last_ms = entries.filter_map(|entry| entry.last_seen_ms_ago).min();
    Ok(Answer::Heard { last_ms })
}

/// 0: an older server, which does not say it.
fn epoch(metadata: &MetadataMap) -> u64 {
    metadata
        .get("voicelane-server-epoch")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}
