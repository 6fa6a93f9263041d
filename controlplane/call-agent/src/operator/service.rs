//! `voicelane.v1.CallAgent`, health and reflection.

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use voicelane_proto::v1::{
    self,
    call_agent_server::{CallAgent, CallAgentServer},
};

use super::View;
use crate::{
    agent::{CallView, Query, code_name},
    call::{DialogReport, Flow, SessionId, Source},
    client::State,
    text::Printable,
};

const MAX_CALLS: u32 = 1_000;
const DEFAULT_CALLS: u32 = 100;

/// Serves until the process ends. The agent as a whole is healthy while it can reach the QoS server.
pub async fn serve(listener: TcpListener, view: Arc<View>) {
    let (health, health_service) = tonic_health::server::health_reporter();
    tokio::spawn(follow(health, Arc::clone(&view)));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let reflection = match reflection {
        Ok(reflection) => Some(reflection),
        Err(error) => {
            tracing::warn!(%error, "no gRPC reflection");
            None
        }
    };
    let served = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .add_service(health_service)
        .add_optional_service(reflection)
        .add_service(CallAgentServer::new(Service(view)))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await;
    if let Err(error) = served {
        tracing::warn!(%error, "the operator is served no more");
    }
}

async fn follow(health: HealthReporter, view: Arc<View>) {
    let mut connected = view.figures.connected.subscribe();
    loop {
        let status = if *connected.borrow_and_update() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in ["", "voicelane.v1.CallAgent"] {
            health.set_service_status(service, status).await;
        }
        // Its sender is in `view`.
        let _ = connected.changed().await;
    }
}

struct Service(Arc<View>);

fn busy() -> Status {
    Status::unavailable("the agent is ending, or too busy; ask again")
}

#[tonic::async_trait]
impl CallAgent for Service {
    async fn get_agent_status(
        &self,
        _: Request<v1::GetAgentStatusRequest>,
    ) -> Result<Response<v1::GetAgentStatusResponse>, Status> {
        let view = &self.0;
        let snapshot = view.snapshot().await.ok_or_else(busy)?;
        let senders = view.senders.all().iter().map(|sender| v1::AgentSender {
            name: sender.name.clone(),
            messages: sender
                .counters
                .all()
                .map(|(name, count)| counted(name, count.get()))
                .into(),
        });
        let refusals = view.figures.refusals();
        Ok(Response::new(v1::GetAgentStatusResponse {
            agent_id: view.agent_id.clone(),
            software_version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: view.began.elapsed().as_secs(),
            server: view.server.clone(),
            server_connected: snapshot.connected,
            calls: snapshot.calls as u64,
            sessions: Some(snapshot.sessions),
            senders: senders.collect(),
            unknown_sender_messages: view.senders.unknown.get(),
            kernel_dropped_datagrams: view.kernel_drops(),
            refusals: refusals
                .iter()
                .map(|(name, count)| counted(name, *count))
                .collect(),
        }))
    }

    async fn list_calls(
        &self,
        request: Request<v1::ListCallsRequest>,
    ) -> Result<Response<v1::ListCallsResponse>, Status> {
        let v1::ListCallsRequest {
            limit,
            contains,
            only_troubled,
        } = request.into_inner();
        let limit = match limit {
            0 => DEFAULT_CALLS,
            1..=MAX_CALLS => limit,
            _ => return Err(Status::invalid_argument("limit: give at most 1000")),
        };
        let query = |reply| Query::Calls {
            limit: limit as usize,
            contains,
            only_troubled,
            reply,
        };
        let (calls, total) = self.0.ask(query).await.ok_or_else(busy)?;
        Ok(Response::new(v1::ListCallsResponse {
            calls: calls.iter().map(call).collect(),
            total,
        }))
    }

    async fn explain_call(
        &self,
        request: Request<v1::ExplainCallRequest>,
    ) -> Result<Response<v1::ExplainCallResponse>, Status> {
        let call_id = request.into_inner().call_id;
        let query = |reply| Query::Explain {
            call_id: call_id.clone(),
            reply,
        };
        let found = self.0.ask(query).await.ok_or_else(busy)?;
        let explained = found.ok_or_else(|| {
            Status::not_found(format!(
                "no call {call_id:?} is known: no message of it came from a configured sender, or it ended \
                 more than a minute ago (`voicelane agent status` counts what came)"
            ))
        })?;
        Ok(Response::new(v1::ExplainCallResponse {
            call: Some(call(&explained.call)),
            messages: explained.seen.messages,
            missing: explained.seen.missing,
        }))
    }
}

fn counted(name: &str, count: u64) -> v1::AgentCount {
    v1::AgentCount {
        name: name.into(),
        count,
    }
}

fn call(view: &CallView) -> v1::AgentCall {
    let dialogs = view.report.dialogs.iter().zip(&view.states);
    v1::AgentCall {
        call_id: Printable(&view.report.call_id).to_string(),
        dialogs: dialogs
            .map(|(of, state)| dialog(of, state.as_ref()))
            .collect(),
    }
}

fn dialog(dialog: &DialogReport, state: Option<&(SessionId, State)>) -> v1::AgentDialog {
    let name = state.map_or(&dialog.id, |(name, _)| name);
    let (session_state, refusal) = match state.map(|(_, state)| state) {
        None => ("", String::new()),
        Some(State::Installed) => ("installed", String::new()),
        Some(State::Pending) => ("pending", String::new()),
        Some(State::Adopted) => ("adopted", String::new()),
        Some(State::Reserved) => ("reserved", String::new()),
        Some(State::Refused(code, message)) => {
            ("refused", format!("{}: {message}", code_name(*code)))
        }
    };
    let not_placed = dialog
        .not_placed
        .iter()
        .map(|of| format!("stream {}: {}", of.stream, of.reason));
    v1::AgentDialog {
        session_id: name.to_string(),
        tags: dialog
            .tags
            .iter()
            .map(|tag| Printable(tag).to_string())
            .collect(),
        state: dialog.state.clone(),
        session_state: session_state.into(),
        refusal,
        flows: dialog.flows.iter().map(flow).collect(),
        not_placed: not_placed.collect(),
    }
}

fn flow(flow: &Flow) -> v1::AgentFlow {
    v1::AgentFlow {
        source: match flow.source {
            Source::Fixed(source) => Some(source.into()),
            Source::Learned { .. } => None,
        },
        destination: Some(flow.destination.into()),
        rate_bps: flow.rate_bps,
        held: flow.held,
    }
}
