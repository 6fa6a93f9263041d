//! Sessions: what call agents say.

use std::sync::Arc;

use futures_util::StreamExt as _;
use prost::Message as _;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};
use voicelane_proto::v1::{self, sessions_server::Sessions};

use super::{
    PAGE_BYTES, agents,
    changes::{self, Asker},
    overview::Told,
    parse, peer, render, watch,
};
use crate::{
    engine::Engine,
    identity::{Guard, StreamOf},
    model::{
        error::Error,
        ids::{SessionKey, session_key},
    },
};

/// Response metadata: differs for each start of the server.
const EPOCH: &str = "voicelane-server-epoch";
/// Sessions of a page when the agent does not say.
const DEFAULT_PAGE: usize = 100;
/// The most that an agent may ask for.
const MAX_PAGE: u32 = 1_000;

/// Sessions read under one hold of the lock.
const SLICE: usize = 64;

/// The service.
#[derive(Clone, Debug)]
pub struct SessionsService {
    engine: Arc<Engine>,
    guard: Guard,
}

impl SessionsService {
    /// Of this engine.
    pub fn new(engine: Arc<Engine>, guard: Guard) -> Self {
        Self { engine, guard }
    }

    /// Who asks for changes.
    fn asker<T>(&self, request: &Request<T>) -> Result<Asker, Status> {
        Ok(Asker {
            engine: self.engine.clone(),
            guard: self.guard.clone(),
            peer: peer(request)?,
        })
    }

    /// Opens one more stream of the agent that asks, if it is one.
    fn stream<T>(&self, request: &Request<T>) -> Result<Option<StreamOf>, Status> {
        let peer = peer(request)?;
        let stream = peer
            .caller()
            .agent()
            .map(|agent| self.guard.quotas.stream(agent));
        stream.transpose().map_err(|error| self.refusal(error))
    }

    fn answer<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        self.tell_epoch(response.metadata_mut());
        response
    }

    fn refusal(&self, error: Error) -> Status {
        let mut status = Status::from(error);
        self.tell_epoch(status.metadata_mut());
        status
    }

    fn tell_epoch(&self, metadata: &mut MetadataMap) {
        metadata.insert(EPOCH, self.engine.epoch().into());
    }
}

#[tonic::async_trait]
impl Sessions for SessionsService {
    async fn add_session(
        &self,
        request: Request<v1::AddSessionRequest>,
    ) -> Result<Response<v1::AddSessionResponse>, Status> {
        let asker = self.asker(&request)?;
        let added = asker.add(request.into_inner()).await;
        let session = added.map_err(|error| self.refusal(error))?;
        Ok(self.answer(v1::AddSessionResponse {
            session: Some(render::session(&session)),
            server_epoch: self.engine.epoch(),
        }))
    }

    async fn modify_session(
        &self,
        request: Request<v1::ModifySessionRequest>,
    ) -> Result<Response<v1::ModifySessionResponse>, Status> {
        let asker = self.asker(&request)?;
        let modified = asker.modify(request.into_inner()).await;
        let session = modified.map_err(|error| self.refusal(error))?;
        Ok(self.answer(v1::ModifySessionResponse {
            session: Some(render::session(&session)),
            server_epoch: self.engine.epoch(),
        }))
    }

    async fn delete_session(
        &self,
        request: Request<v1::DeleteSessionRequest>,
    ) -> Result<Response<v1::DeleteSessionResponse>, Status> {
        let asker = self.asker(&request)?;
        let deleted = asker.delete(request.into_inner()).await;
        let session = deleted.map_err(|error| self.refusal(error))?;
        Ok(self.answer(v1::DeleteSessionResponse {
            pending_routers: render::pending(&session),
            session: Some(render::session(&session)),
            server_epoch: self.engine.epoch(),
        }))
    }

    type ChangeSessionsStream = Told<v1::ChangeSessionsResponse>;

    async fn change_sessions(
        &self,
        request: Request<Streaming<v1::ChangeSessionsRequest>>,
    ) -> Result<Response<Self::ChangeSessionsStream>, Status> {
        let (asker, stream) = (self.asker(&request)?, self.stream(&request)?);
        let outcomes = changes::serve(asker, request.into_inner());
        Ok(self.answer(Box::pin(held(outcomes, stream))))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        let peer = peer(&request)?;
        let session = parse::key("key", request.into_inner().key)
            .and_then(|key| {
                peer.caller().may_see(key.agent())?;
                self.engine.session(&key)
            })
            .map_err(|error| self.refusal(error))?;
        Ok(self.answer(v1::GetSessionResponse {
            session: Some(render::session(&session)),
            server_epoch: self.engine.epoch(),
        }))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        let peer = peer(&request)?;
        let mut request = request.into_inner();
        peer.caller()
            .own(&mut request.agent_id)
            .map_err(|error| self.refusal(error))?;
        list(&self.engine, request)
            .await
            .map(|page| self.answer(page))
            .map_err(|error| self.refusal(error))
    }

    type WatchSessionsStream = Told<v1::WatchSessionsResponse>;

    async fn watch_sessions(
        &self,
        request: Request<v1::WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        let (peer, stream) = (peer(&request)?, self.stream(&request)?);
        let mut request = request.into_inner();
        peer.caller()
            .own(&mut request.agent_id)
            .map_err(|error| self.refusal(error))?;
        let watcher = parse::agent(&request.agent_id)
            .and_then(|agent| self.engine.watch(agent, request.include_existing))
            .map_err(|error| self.refusal(error))?;
        let events = watch::serve(watcher);
        Ok(self.answer(Box::pin(held(events, stream))))
    }

    type KeepAgentStream = Told<v1::KeepAgentResponse>;

    async fn keep_agent(
        &self,
        request: Request<Streaming<v1::KeepAgentRequest>>,
    ) -> Result<Response<Self::KeepAgentStream>, Status> {
        let (peer, stream) = (peer(&request)?, self.stream(&request)?);
        let caller = peer.caller().clone();
        let told = agents::serve(self.engine.clone(), caller, request.into_inner());
        Ok(self.answer(Box::pin(held(told, stream))))
    }
}

/// An answer that holds what counts its stream, until it is dropped.
fn held<S: Stream>(answer: S, stream: Option<StreamOf>) -> impl Stream<Item = S::Item> {
    answer.map(move |item| {
        let _held = &stream;
        item
    })
}

async fn list(
    engine: &Engine,
    request: v1::ListSessionsRequest,
) -> Result<v1::ListSessionsResponse, Error> {
    let size = parse::count("page_size", request.page_size, DEFAULT_PAGE, MAX_PAGE)?;
    let agent = parse::agent(&request.agent_id)?;
    let mut last = match request.page_token.as_str() {
        "" => None,
        token => Some(read_token(token)?),
    };
    let mut answer = v1::ListSessionsResponse {
        server_epoch: engine.epoch(),
        ..Default::default()
    };
    let mut bytes = 0;
    loop {
        let wanted = (size - answer.sessions.len()).min(SLICE);
        let slice = engine.sessions(agent.as_deref(), last.as_ref(), wanted);
        answer.total = slice.total;
        for view in &slice.sessions {
            let session = render::session(view);
            bytes += session.encoded_len() + 8;
            if bytes > PAGE_BYTES && !answer.sessions.is_empty() {
                answer.next_page_token = last.as_ref().map(write_token).unwrap_or_default();
                return Ok(answer);
            }
            last = Some(view.spec.key.clone());
            answer.sessions.push(session);
        }
        if !slice.more {
            return Ok(answer);
        }
        if answer.sessions.len() >= size {
            answer.next_page_token = last.as_ref().map(write_token).unwrap_or_default();
            return Ok(answer);
        }
        // What is shorter goes first.
        tokio::task::yield_now().await;
    }
}

/// No name holds a line feed.
fn write_token(last: &SessionKey) -> String {
    format!("{}\n{}", last.agent(), last.session())
}

fn read_token(token: &str) -> Result<SessionKey, Error> {
    token
        .split_once('\n')
        .and_then(|(agent, session)| session_key("page_token", agent, session).ok())
        .ok_or_else(|| Error::invalid("page_token", "is not of an answer; start with none"))
}
