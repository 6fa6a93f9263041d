//! What people and monitoring ask the router itself: gRPC (`RouterOperator`, health, reflection) and
//! `GET /metrics`, on one port.

mod ef;
mod figures;
mod metrics;
mod operator;
mod policy;
mod source;
mod trace;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tracing::info;
use voicelane_proto::v1::{FILE_DESCRIPTOR_SET, router_operator_server::RouterOperatorServer};

use crate::dataplane::WorkerGone;

pub use metrics::MAX_SESSION_SERIES;
pub use source::{Kept, Source, TwinFigures};

/// What the text is: OpenMetrics, which Prometheus reads.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The listener of the router's own gRPC and metrics.
#[derive(Debug)]
pub struct Api {
    listener: TcpListener,
}

impl Api {
    /// Binds the address, so that an error shows before the router starts.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        info!(address = %listener.local_addr()?, "serving gRPC and GET /metrics");
        Ok(Self { listener })
    }

    /// Serves gRPC and `GET /metrics`; returns an error only.
    pub async fn serve(self, source: Arc<Source>) -> io::Result<Infallible> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let operator = RouterOperatorServer::new(operator::Operator::new(Arc::clone(&source)));
        health
            .set_serving::<RouterOperatorServer<operator::Operator>>()
            .await;
        let mut routes = Routes::new(operator);
        routes = routes.add_service(health_service);
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(io::Error::other)?;
        routes = routes.add_service(reflection);
        let reflection_v1alpha = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1alpha()
            .map_err(io::Error::other)?;
        routes = routes.add_service(reflection_v1alpha);
        let metrics = axum::Router::new()
            .route("/metrics", get(metrics_text))
            .with_state(source);
        axum::serve(self.listener, routes.into_axum_router().merge(metrics)).await?;
        Err(io::Error::other("the listener was closed"))
    }
}

async fn metrics_text(State(source): State<Arc<Source>>) -> axum::response::Response {
    match source.metrics().await {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text.to_string()).into_response(),
        Err(WorkerGone) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the worker has ended\n").into_response()
        }
    }
}
