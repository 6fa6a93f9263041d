//! A call agent with one stream of changes.

use std::{collections::HashMap, ops::Range, time::Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use voicelane_proto::v1::{self, session_change::Change, sessions_client::SessionsClient};

/// The agent of most measurements.
const NAME: &str = "sessions";

pub(crate) struct Agent {
    name: &'static str,
    requests: mpsc::Sender<v1::ChangeSessionsRequest>,
    responses: Streaming<v1::ChangeSessionsResponse>,
    /// Changes without an outcome, at most.
    window: usize,
    /// Changes of a request.
    batch: usize,
    /// When the changes were sent that have no outcome yet, by tag.
    sent: HashMap<u64, Instant>,
    /// From a change to its outcome, us.
    pub(crate) latency: Histogram<u64>,
}

impl Agent {
    pub(crate) async fn open(url: &str, window: usize, batch: usize) -> anyhow::Result<Self> {
        Self::named(NAME, url, window, batch).await
    }

    pub(crate) async fn named(
        name: &'static str,
        url: &str,
        window: usize,
        batch: usize,
    ) -> anyhow::Result<Self> {
        let mut client = SessionsClient::connect(url.to_owned()).await?;
        let (requests, messages) = mpsc::channel(window);
        let responses = client
            .change_sessions(ReceiverStream::new(messages))
            .await?;
        Ok(Self {
            name,
            requests,
            responses: responses.into_inner(),
            window,
            batch,
            sent: HashMap::new(),
            latency: Histogram::new(3)?,
        })
    }

    pub(crate) async fn add(&mut self, calls: Range<u32>) -> anyhow::Result<()> {
        let name = self.name;
        let add = move |call| {
            Change::Add(v1::AddSessionRequest {
                spec: Some(v1::SessionSpec {
                    key: Some(key_of(name, call)),
                    ..spec(call)
                }),
            })
        };
        self.change(calls, add).await
    }

    pub(crate) async fn delete(&mut self, calls: Range<u32>) -> anyhow::Result<()> {
        let name = self.name;
        let delete = move |call| {
            Change::Delete(v1::DeleteSessionRequest {
                key: Some(key_of(name, call)),
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
        while !self.sent.is_empty() || calls.peek().is_some() {
            while self.sent.len() + self.batch <= self.window && calls.peek().is_some() {
                let one = |call| v1::SessionChange {
                    tag: u64::from(call),
                    change: Some(change(call)),
                    with_session: false,
                };
                let changes: Vec<_> = calls.by_ref().take(self.batch).map(one).collect();
                let now = Instant::now();
                self.sent.extend(changes.iter().map(|it| (it.tag, now)));
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
                let sent = self.sent.remove(&outcome.tag);
                let sent = sent.context("an outcome of no change")?;
                let micros = u64::try_from(sent.elapsed().as_micros())?;
                self.latency.record(micros)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn key(call: u32) -> v1::SessionKey {
    key_of(NAME, call)
}

fn key_of(agent: &str, call: u32) -> v1::SessionKey {
    v1::SessionKey {
        agent_id: agent.to_owned(),
        session_id: format!("call-{call:08}"),
    }
}

/// A call both ways, RTCP on the next ports, with five-tuples of its own.
pub(crate) fn spec(call: u32) -> v1::SessionSpec {
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
