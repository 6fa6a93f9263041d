//! Puts the services on a listening socket.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{extract::State, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::Mutex};
use tonic::{server::NamedService, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::info;
use voicelane_proto::v1::{
    self, operator_server::OperatorServer, routers_server::RoutersServer,
    sessions_server::SessionsServer,
};

pub use crate::connection::Limits;
use crate::{
    connection::{CountCalls, incoming},
    engine::Engine,
    grpc::{
        MAX_MESSAGE_BYTES, MAX_ROUTER_MESSAGE_BYTES, operator::OperatorService,
        routers::RoutersService, sessions::SessionsService,
    },
};

/// What the text is: OpenMetrics, which Prometheus reads.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What a peer may send of a stream before it is read, bytes: what a peer 20 ms away needs to send
/// 3 MB/s.
const STREAM_WINDOW: u32 = 64 * 1024;
/// What a peer may send of all its streams together before it is read, bytes.
///
/// h2 takes half of this as its budget for small DATA frames, charges each frame that waits to be
/// read `256 - length` bytes of it, and ends the connection with ENHANCE_YOUR_CALM when it is
/// spent. A peer that only does what flow control permits must not spend it: a stream's window of
/// frames of one byte costs 16 MiB, of the smallest messages (20 bytes) 750 KiB. So this lets eight
/// such streams wait, or 170.
const CONNECTION_WINDOW: u32 = 256 * 1024 * 1024;
/// The most calls of a connection at once.
const MAX_STREAMS: u32 = 4_096;
/// So many calls may be cancelled before the server has seen that they began, and the connection
/// is kept (h2's default is 20). An agent that gives up all its calls at once and begins anew
/// stays below it.
const MAX_CANCELLED: usize = 4 * MAX_STREAMS as usize;

/// How dead peers are noticed.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    /// Between HTTP/2 pings.
    pub interval: Duration,
    /// How long a ping's answer may take.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        }
    }
}

/// What connections are given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transport {
    /// How dead peers are noticed.
    pub keepalive: Keepalive,
    /// How many there may be, and how long they may do nothing.
    pub limits: Limits,
}

impl From<Keepalive> for Transport {
    fn from(keepalive: Keepalive) -> Self {
        Self {
            keepalive,
            ..Self::default()
        }
    }
}

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not the address's, or somebody else's.
    #[error("cannot listen on {address} (choose another with {option})")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What says where.
        option: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// While serving.
    #[error("serving failed")]
    Transport(#[from] tonic::transport::Error),
    /// A fault of ours.
    #[error("the interface's own description cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Takes the address for agents, routers and operators.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    listen(address, "--listen").await
}

/// Takes the address for monitoring.
pub async fn bind_metrics(address: SocketAddr) -> Result<TcpListener, ServeError> {
    listen(address, "--metrics").await
}

/// Takes the address for operators' browsers.
pub async fn bind_web(address: SocketAddr) -> Result<TcpListener, ServeError> {
    listen(address, "--web").await
}

async fn listen(address: SocketAddr, option: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen {
            address,
            option,
            source,
        })
}

/// Serves `GET /metrics` until the engine stops, and what was asked before.
pub async fn serve_metrics(engine: Arc<Engine>, listener: TcpListener) -> std::io::Result<()> {
    let mut stopping = engine.stopping();
    let one_at_a_time = Arc::new(Mutex::new(()));
    let metrics = axum::Router::new()
        .route("/metrics", get(metrics_text))
        .with_state((engine, one_at_a_time));
    axum::serve(listener, metrics)
        .with_graceful_shutdown(async move {
            // Fails only when the engine is gone, which is as good a reason.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        })
        .await
}

/// Counting looks at every session, so that scrapes wait for each other.
async fn metrics_text(
    State((engine, one_at_a_time)): State<(Arc<Engine>, Arc<Mutex<()>>)>,
) -> impl IntoResponse {
    let _turn = one_at_a_time.lock().await;
    let text = engine.metrics().text(&engine.snapshot().await);
    ([(CONTENT_TYPE, OPENMETRICS)], text)
}

/// What every service says of its health, and the server as a whole.
async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in [
        "",
        SessionsServer::<SessionsService>::NAME,
        RoutersServer::<RoutersService>::NAME,
        OperatorServer::<OperatorService>::NAME,
    ] {
        health.set_service_status(service, status).await;
    }
}

/// Serves until `stop` resolves, then ends every stream and returns when all is answered, or
/// after a few seconds.
pub async fn serve(
    engine: Arc<Engine>,
    listener: TcpListener,
    transport: impl Into<Transport>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let Transport { keepalive, limits } = transport.into();
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    // grpcurl before 1.8.8 and grpcui ask by this one.
    let reflection_v1alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha()?;
    let incoming = incoming(engine.clone(), listener, limits, keepalive.timeout);
    let mut stopping = engine.stopping();
    let server = Server::builder()
        .http2_keepalive_interval(Some(keepalive.interval))
        .http2_keepalive_timeout(Some(keepalive.timeout))
        .initial_stream_window_size(Some(STREAM_WINDOW))
        .initial_connection_window_size(Some(CONNECTION_WINDOW))
        .max_concurrent_streams(Some(MAX_STREAMS))
        .http2_max_pending_accept_reset_streams(Some(MAX_CANCELLED))
        .layer(CountCalls)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(reflection_v1alpha)
        .add_service(
            SessionsServer::new(SessionsService::new(engine.clone()))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            RoutersServer::new(RoutersService::new(engine.clone()))
                .max_decoding_message_size(MAX_ROUTER_MESSAGE_BYTES),
        )
        .add_service(
            OperatorServer::new(OperatorService::new(engine.clone()))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .serve_with_incoming_shutdown(incoming, async move {
            // Fails only when the engine is gone, which is as good a reason.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        });
    let stop = async {
        stop.await;
        info!("shutting down; routers go on with the calls that they have");
        set_health(&health, ServingStatus::NotServing).await;
        // Whoever watches the health is told before the streams end.
        tokio::task::yield_now().await;
        engine.stop();
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    tokio::select! {
        served = server => served.map_err(ServeError::from),
        () = stop => Ok(()),
    }
}
