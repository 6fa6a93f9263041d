//! A call agent with one stream of changes.

use std::ops::Range;

use anyhow::{Context as _, ensure};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use voicelane_proto::v1::{self, session_change::Change, sessions_client::SessionsClient};

/// Changes of a request.
const BATCH: usize = 64;
/// Changes without an outcome.
const WINDOW: usize = 1_024;

pub(crate) struct Agent {
    requests: mpsc::Sender<v1::ChangeSessionsRequest>,
    responses: Streaming<v1::ChangeSessionsResponse>,
}

impl Agent {
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let mut client = SessionsClient::connect(url.to_owned()).await?;
        let (requests, messages) = mpsc::channel(WINDOW / BATCH);
        let responses = client
            .change_sessions(ReceiverStream::new(messages))
            .await?;
        Ok(Self {
            requests,
            responses: responses.into_inner(),
        })
    }

    pub(crate) async fn add(&mut self, calls: Range<u32>) -> anyhow::Result<()> {
        let add = |call| {
            Change::Add(v1::AddSessionRequest {
                spec: Some(spec(call)),
            })
        };
        self.change(calls, add).await
    }

    pub(crate) async fn delete(&mut self, calls: Range<u32>) -> anyhow::Result<()> {
        let delete = |call| {
            Change::Delete(v1::DeleteSessionRequest {
                key: Some(key(call)),
            })
        };
        self.change(calls, delete).await
    }

    async fn change(
        &mut self,
        calls: Range<u32>,
        change: impl Fn(u32) -> Change,
    ) -> anyhow::Result<()> {
        let mut calls = calls.peekable();
        let mut unanswered = 0;
        while unanswered > 0 || calls.peek().is_some() {
            while unanswered + BATCH <= WINDOW && calls.peek().is_some() {
                let one = |call| v1::SessionChange {
                    tag: u64::from(call),
                    change: Some(change(call)),
                    with_session: false,
                };
                let changes: Vec<_> = calls.by_ref().take(BATCH).map(one).collect();
                unanswered += changes.len();
                self.requests
                    .send(v1::ChangeSessionsRequest { changes })
                    .await?;
            }
            let response = self
                .responses
                .message()
                .await?
                .context("the stream ended")?;
            for outcome in &response.outcomes {
                ensure!(outcome.code == 0, "{}", outcome.message);
            }
            unanswered -= response.outcomes.len();
        }
        Ok(())
    }
}

fn key(call: u32) -> v1::SessionKey {
    v1::SessionKey {
        agent_id: "sessions".to_owned(),
        session_id: format!("call-{call:08}"),
    }
}

/// A call both ways, RTCP on the next ports, with five-tuples of its own.
fn spec(call: u32) -> v1::SessionSpec {
    let (low, middle, high) = (1 + call % 250, call / 250 % 250, call / 62_500);
    let end = |net: u8| v1::Endpoint {
        address: format!("10.{net}.{middle}.{low}"),
        port: 16_384 + 2 * high,
    };
    let flow = |from, to| v1::MediaFlow {
        source: Some(end(from)),
        destination: Some(end(to)),
        max_bitrate_bps: 80_000,
        ..v1::MediaFlow::default()
    };
    v1::SessionSpec {
        key: Some(key(call)),
        revision: 1,
        flows: vec![flow(1, 2), flow(2, 1)],
        ..v1::SessionSpec::default()
    }
}
