//! KeepAgent: an agent's lease, and what it is asked.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Status, Streaming};
use voicelane_proto::v1::{KeepAgentRequest, KeepAgentResponse};

use super::parse;
use crate::{
    engine::{Engine, SILENT_CHUNK},
    identity::Caller,
    model::{error::Error, ids::session_key},
};

/// The most sessions of a message.
const MAX_SESSIONS: usize = 1_024;
/// How long an agent has to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(30);
/// Responses that wait to be written.
const AHEAD: usize = 4;
/// Questions that come in this time are asked together.
const TOGETHER: Duration = Duration::from_millis(250);

type Told = Result<KeepAgentResponse, Status>;

/// What an agent is told; a status at the end.
pub(super) fn serve(
    engine: Arc<Engine>,
    caller: Caller,
    inbound: Streaming<KeepAgentRequest>,
) -> impl Stream<Item = Told> {
    let (told, responses) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let end = tokio::select! {
            end = keep(&engine, &caller, inbound, &told) => end,
            () = told.closed() => Ok(()),
        };
        if let Err(status) = end {
            // Fails only when the agent has gone.
            let _ = told.send(Err(status)).await;
        }
    });
    ReceiverStream::new(responses)
}

/// Serves an agent until its stream ends; an error is the status to end it with.
async fn keep(
    engine: &Arc<Engine>,
    caller: &Caller,
    mut inbound: Streaming<KeepAgentRequest>,
    told: &mpsc::Sender<Told>,
) -> Result<(), Status> {
    let first = timeout(INTRODUCTION, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no KeepAgentRequest within 30 s"))??;
    let Some(first) = first else {
        return Ok(());
    };
    let mut agent = first.agent_id.clone();
    caller.own(&mut agent)?;
    // The session's name is any that can be.
    session_key("request", &agent, "x")?;
    take(engine, &agent, &first)?;
    let welcome = KeepAgentResponse {
        ttl_s: u32::try_from(engine.agent_ttl().as_secs()).unwrap_or(u32::MAX),
        server_epoch: engine.epoch(),
        silent: Vec::new(),
    };
    if told.send(Ok(welcome)).await.is_err() {
        return Ok(());
    }
    let mut asked = engine.asked();
    asked.mark_changed();
    let mut stopped = std::pin::pin!(engine.stopped());
    let mut last_question = 0;
    loop {
        tokio::select! {
            message = inbound.message() => match message? {
                Some(request) => take(engine, &agent, &request)?,
                None => return Ok(()),
            },
            Ok(()) = asked.changed() => {
                sleep(TOGETHER).await;
                if ask(engine, &agent, &mut last_question, told).await.is_none() {
                    return Ok(());
                }
            }
            () = &mut stopped => return Err(Error::ShuttingDown.into()),
        }
    }
}

/// Renews the lease, and keeps what is to stay.
fn take(engine: &Arc<Engine>, agent: &str, request: &KeepAgentRequest) -> Result<(), Error> {
    if !["", agent].contains(&request.agent_id.as_str()) {
        let reason = format!("is {:?}; the stream is of {agent:?}", request.agent_id);
        return Err(Error::invalid("agent_id", reason));
    }
    parse::at_most("keep", request.keep.len(), MAX_SESSIONS)?;
    engine.keep_agent(agent);
    engine.keep_silent(agent, &request.keep)
}

/// Asks what has not been asked on this stream; absent when the agent is gone.
async fn ask(
    engine: &Engine,
    agent: &str,
    last_question: &mut u64,
    told: &mpsc::Sender<Told>,
) -> Option<()> {
    let mut untold = engine.untold(*last_question);
    let mut silent = Vec::new();
    loop {
        let page = engine.next_untold(agent, &mut untold);
        let is_last = page.is_none();
        let keys = page.into_iter().flatten();
        silent.extend(keys.map(|key| key.session().to_owned()));
        if silent.len() + SILENT_CHUNK > MAX_SESSIONS || (is_last && !silent.is_empty()) {
            let response = KeepAgentResponse {
                silent: std::mem::take(&mut silent),
                ..KeepAgentResponse::default()
            };
            told.send(Ok(response)).await.ok()?;
        }
        if is_last {
            *last_question = untold.upto();
            return Some(());
        }
        tokio::task::yield_now().await;
    }
}
