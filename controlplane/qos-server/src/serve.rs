//! Puts the services on a listening socket.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tracing::info;
use voicelane_proto::v1::{
    self, operator_server::OperatorServer, routers_server::RoutersServer,
    sessions_server::SessionsServer,
};

use crate::{
    engine::Engine,
    grpc::{
        MAX_MESSAGE_BYTES, MAX_ROUTER_MESSAGE_BYTES, operator::OperatorService,
        routers::RoutersService, sessions::SessionsService,
    },
};

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

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not the address's, or somebody else's.
    #[error("cannot listen on {address} (choose another with --listen)")]
    Listen {
        /// Where.
        address: SocketAddr,
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

/// Takes the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

/// Serves until `stop` resolves, then ends every stream and returns when all is answered, or
/// after a few seconds.
pub async fn serve(
    engine: Arc<Engine>,
    listener: TcpListener,
    keepalive: Keepalive,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_serving::<SessionsServer<SessionsService>>()
        .await;
    health.set_serving::<RoutersServer<RoutersService>>().await;
    health
        .set_serving::<OperatorServer<OperatorService>>()
        .await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(keepalive.interval.max(Duration::from_secs(1))));
    let mut stopping = engine.stopping();
    let server = Server::builder()
        .http2_keepalive_interval(Some(keepalive.interval))
        .http2_keepalive_timeout(Some(keepalive.timeout))
        .max_concurrent_streams(Some(4_096))
        .add_service(health_service)
        .add_service(reflection)
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
        engine.stop();
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    tokio::select! {
        served = server => served.map_err(ServeError::from),
        () = stop => Ok(()),
    }
}
