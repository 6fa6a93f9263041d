//! Puts the services on a listening socket.

pub(crate) mod connection;
mod health;

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{extract::State, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use futures_util::{StreamExt as _, stream};
use tokio::{
    net::{TcpListener, TcpSocket, UnixListener},
    sync::{Mutex, watch},
};
use tonic::transport::Server;
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::info;
use voicelane_identity::server::{Protocol, Trust};
use voicelane_proto::v1::{
    self, operator_server::OperatorServer, routers_server::RoutersServer,
    sessions_server::SessionsServer,
};

pub use self::connection::Limits;
use self::{
    connection::{Admission, CountCalls, Listener, Tls, incoming},
    health::Health,
};
use crate::{
    cluster::{Role, standby::RefuseCalls},
    engine::Engine,
    grpc::{
        MAX_MESSAGE_BYTES, MAX_ROUTER_MESSAGE_BYTES, operator::OperatorService,
        routers::RoutersService, sessions::SessionsService,
    },
    identity::Guard,
};

/// What the text is: OpenMetrics, which Prometheus reads.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What the kernel holds of a page's answer that is not read, bytes.
const PAGE_BUFFER: u32 = 16 * 1024;
/// Browsers that wait to be accepted.
const PAGE_BACKLOG: u32 = 128;
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
#[derive(Debug, Default)]
pub struct Transport {
    /// How dead peers are noticed.
    pub keepalive: Keepalive,
    /// How many there may be, and how long they may do nothing.
    pub limits: Limits,
    /// Who may connect; absent: anybody, in plain text.
    pub trust: Option<watch::Receiver<Arc<Trust>>>,
    /// The operators' socket.
    pub socket: Option<UnixListener>,
    /// What bounds those who are connected.
    pub guard: Guard,
    /// Whether this server leads. One that stands by says so, and serves nothing else.
    pub role: Role,
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
#[expect(missing_docs, reason = "the messages say it")]
pub enum ServeError {
    #[error("cannot listen on {address} (choose another with {option})")]
    Listen {
        address: SocketAddr,
        option: &'static str,
        source: io::Error,
    },
    #[error("cannot listen on {} (choose another with --socket)", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("serving failed")]
    Transport(#[from] tonic::transport::Error),
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

/// Takes the address for operators' browsers. What they do not read takes little memory.
pub fn bind_web(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let bound = (|| {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        // Those that it accepts have the same.
        socket.set_send_buffer_size(PAGE_BUFFER)?;
        socket.bind(address)?;
        socket.listen(PAGE_BACKLOG)
    })();
    bound.map_err(|source| ServeError::Listen {
        address,
        option: "--web",
        source,
    })
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

/// Makes the operators' socket, in place of one that nobody listens on any more. For the server's user and
/// group alone; who connects is asked for all the same.
pub fn bind_socket(path: &Path) -> Result<UnixListener, ServeError> {
    let bound = (|| {
        let there = fs::symlink_metadata(path);
        if there.is_ok_and(|it| it.file_type().is_socket()) {
            if UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            fs::remove_file(path)?;
        }
        let socket = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        Ok(socket)
    })();
    bound.map_err(|source| ServeError::Socket {
        path: path.to_owned(),
        source,
    })
}

/// Serves `GET /metrics` until the engine stops, and what was asked before.
pub async fn serve_metrics(
    engine: Arc<Engine>,
    role: Role,
    listener: TcpListener,
) -> io::Result<()> {
    let stopped = engine.stopped();
    let one_at_a_time = Arc::new(Mutex::new(()));
    let metrics = axum::Router::new()
        .route("/metrics", get(metrics_text))
        .with_state((engine, role, one_at_a_time));
    axum::serve(listener, metrics)
        .with_graceful_shutdown(stopped)
        .await
}

/// Counting looks at every session, so that scrapes wait for each other.
async fn metrics_text(
    State((engine, role, one_at_a_time)): State<(Arc<Engine>, Role, Arc<Mutex<()>>)>,
) -> impl IntoResponse {
    let _turn = one_at_a_time.lock().await;
    let mut now = engine.snapshot().await;
    now.serving &= !role.leads_no_more();
    let text = engine.metrics().text(&now);
    ([(CONTENT_TYPE, OPENMETRICS)], text)
}

/// Serves until `stop` resolves, then ends every stream and returns when all is answered, or
/// after a few seconds.
pub async fn serve(
    engine: Arc<Engine>,
    listener: TcpListener,
    transport: impl Into<Transport>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let Transport {
        keepalive,
        limits,
        trust,
        socket,
        guard,
        role,
    } = transport.into();
    let health = HealthReporter::new();
    let health_service = Health::server(&health, role.clone());
    let stands_by = role.stands_by();
    let status = if stands_by {
        ServingStatus::NotServing
    } else {
        ServingStatus::Serving
    };
    health::set(&health, status).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    // grpcurl before 1.8.8 and grpcui ask by this one.
    let reflection_v1alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha()?;
    let admission = Admission::new(engine.clone(), limits, keepalive.timeout);
    let local = socket.map(|socket| incoming(admission.clone(), Listener::Unix(socket)));
    let local = stream::iter(local).flatten();
    let tls = trust.map(|trust| Tls {
        trust,
        protocol: Protocol::Http2,
    });
    let incoming = incoming(admission, Listener::Tcp(listener, tls));
    let incoming = stream::select(Box::pin(incoming), Box::pin(local));
    let server = Server::builder()
        .http2_keepalive_interval(Some(keepalive.interval))
        .http2_keepalive_timeout(Some(keepalive.timeout))
        .initial_stream_window_size(Some(STREAM_WINDOW))
        .initial_connection_window_size(Some(CONNECTION_WINDOW))
        .max_concurrent_streams(Some(MAX_STREAMS))
        .http2_max_pending_accept_reset_streams(Some(MAX_CANCELLED))
        .layer(CountCalls)
        .layer(RefuseCalls(role))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(reflection_v1alpha)
        .add_service(
            SessionsServer::new(SessionsService::new(engine.clone(), guard.clone()))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add_service(
            RoutersServer::new(RoutersService::new(engine.clone()))
                .max_decoding_message_size(MAX_ROUTER_MESSAGE_BYTES),
        )
        .add_service(
            OperatorServer::new(OperatorService::new(engine.clone(), guard))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .serve_with_incoming_shutdown(incoming, engine.stopped());
    let stop = async {
        stop.await;
        if !stands_by {
            info!("shutting down; routers go on with the calls that they have");
        }
        health::set(&health, ServingStatus::NotServing).await;
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
