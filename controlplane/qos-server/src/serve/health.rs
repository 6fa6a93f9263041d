//! Whether this server serves, for those who ask or watch (grpc.health.v1).

use std::pin::Pin;

use futures_util::StreamExt as _;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, server::NamedService};
use tonic_health::{
    ServingStatus,
    pb::{
        self, HealthCheckRequest, HealthCheckResponse,
        health_server::{self, HealthServer},
    },
    server::{HealthReporter, HealthService},
};
use voicelane_proto::v1::{
    operator_server::OperatorServer, routers_server::RoutersServer, sessions_server::SessionsServer,
};

use crate::{
    cluster::Role,
    grpc::{operator::OperatorService, routers::RoutersService, sessions::SessionsService},
};

/// Says what was set of the server's health. Of a leader whose time is over, whoever asks, or begins to watch, is told
/// that it does not serve; those who watch already are told when that is set, some 0.25 s later.
#[derive(Debug)]
pub(crate) struct Health {
    said: HealthService,
    role: Role,
}

impl Health {
    /// Says what `reporter` is told.
    pub(crate) fn server(reporter: &HealthReporter, role: Role) -> HealthServer<Self> {
        let said = HealthService::from_health_reporter(reporter.clone());
        HealthServer::new(Self { said, role })
    }
}

/// What every service says of its health, and the server as a whole.
pub(crate) async fn set(health: &HealthReporter, status: ServingStatus) {
    for service in [
        "",
        SessionsServer::<SessionsService>::NAME,
        RoutersServer::<RoutersService>::NAME,
        OperatorServer::<OperatorService>::NAME,
    ] {
        health.set_service_status(service, status).await;
    }
}

fn judged(told: HealthCheckResponse, role: &Role) -> HealthCheckResponse {
    match role.leads_no_more() {
        false => told,
        true => HealthCheckResponse {
            status: pb::health_check_response::ServingStatus::NotServing.into(),
        },
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let answer = self.said.check(request).await?;
        Ok(answer.map(|told| judged(told, &self.role)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (answer, role) = (self.said.watch(request).await?, self.role.clone());
        Ok(answer.map(|told| {
            let judged = told.map(move |it| it.map(|told| judged(told, &role)));
            Box::pin(judged) as Self::WatchStream
        }))
    }
}
