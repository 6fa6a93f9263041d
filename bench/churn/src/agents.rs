//! Call agents at the real QoS server: one that calls for each change, and one that has a stream.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use voicelane_proto::v1::{
    ChangeSessionsRequest, ChangeSessionsResponse, SessionChange, session_change,
    sessions_client::SessionsClient,
};

use crate::{calls::Call, changes::Change, waiting::Waiting};

/// The most changes of a request that the server takes.
const MAX_CHANGES: usize = 256;

async fn connect(server: SocketAddr) -> anyhow::Result<SessionsClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{server}"))?.tcp_nodelay(true);
    Ok(SessionsClient::new(endpoint.connect().await?))
}

/// Calls AddSession and DeleteSession.
#[derive(Clone, Debug)]
pub(crate) struct CallingAgent(SessionsClient<Channel>);

impl CallingAgent {
    pub(crate) async fn connect(server: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(connect(server).await?))
    }
}

impl Change for CallingAgent {
    async fn add(&self, call: Call) -> bool {
        self.0.clone().add_session(call.add()).await.is_ok()
    }

    async fn remove(&self, call: Call) -> bool {
        self.0.clone().delete_session(call.delete()).await.is_ok()
    }
}

/// A change, and who waits for its outcome.
type Asked = (session_change::Change, oneshot::Sender<bool>);

/// Sends changes on a stream of ChangeSessions: those that are there when it can send go together.
#[derive(Clone, Debug)]
pub(crate) struct StreamingAgent(mpsc::UnboundedSender<Asked>);

impl StreamingAgent {
    pub(crate) async fn connect(server: SocketAddr) -> anyhow::Result<Self> {
        let (requests, outgoing) = mpsc::channel(4);
        let outgoing = ReceiverStream::new(outgoing);
        let mut client = connect(server).await?;
        let responses = client.change_sessions(outgoing).await?.into_inner();
        let waiting = Arc::new(Waiting::default());
        let (asked, inbox) = mpsc::unbounded_channel();
        tokio::spawn(hand_out(responses, Arc::clone(&waiting)));
        tokio::spawn(send(inbox, requests, waiting));
        Ok(Self(asked))
    }

    async fn change(&self, change: session_change::Change) -> bool {
        let (waiter, outcome) = oneshot::channel();
        self.0.send((change, waiter)).is_ok() && outcome.await.unwrap_or(false)
    }
}

impl Change for StreamingAgent {
    async fn add(&self, call: Call) -> bool {
        self.change(session_change::Change::Add(call.add())).await
    }

    async fn remove(&self, call: Call) -> bool {
        self.change(session_change::Change::Delete(call.delete()))
            .await
    }
}

async fn send(
    mut inbox: mpsc::UnboundedReceiver<Asked>,
    requests: mpsc::Sender<ChangeSessionsRequest>,
    waiting: Arc<Waiting>,
) {
    let mut last_tag = 0;
    let mut asked = Vec::new();
    while inbox.recv_many(&mut asked, MAX_CHANGES).await > 0 {
        let mut request = ChangeSessionsRequest::default();
        for (change, waiter) in asked.drain(..) {
            last_tag += 1;
            waiting.insert(last_tag, waiter);
            request.changes.push(SessionChange {
                tag: last_tag,
                change: Some(change),
                with_session: false,
            });
        }
        if requests.send(request).await.is_err() {
            return;
        }
    }
}

async fn hand_out(mut responses: Streaming<ChangeSessionsResponse>, waiting: Arc<Waiting>) {
    while let Ok(Some(response)) = responses.message().await {
        for outcome in response.outcomes {
            waiting.answer(outcome.tag, outcome.code == 0);
        }
    }
    waiting.end();
}
