//! Operator: what people and monitoring ask.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use voicelane_proto::v1::{self, operator_server::Operator};

use super::{parse, render, status::status};
use crate::{engine::Engine, model::ids::RouterId};

/// The service.
#[derive(Clone, Debug)]
pub struct OperatorService {
    engine: Arc<Engine>,
}

impl OperatorService {
    /// Of this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn list_routers(
        &self,
        _: Request<v1::ListRoutersRequest>,
    ) -> Result<Response<v1::ListRoutersResponse>, Status> {
        let routers = self.engine.routers().iter().map(render::router).collect();
        Ok(Response::new(v1::ListRoutersResponse { routers }))
    }

    async fn get_router(
        &self,
        request: Request<v1::GetRouterRequest>,
    ) -> Result<Response<v1::GetRouterResponse>, Status> {
        let id = RouterId::parse("router_id", &request.into_inner().router_id);
        let router = id
            .and_then(|id| self.engine.router(&id))
            .map_err(|error| status(&error))?;
        Ok(Response::new(v1::GetRouterResponse {
            router: Some(render::router(&router)),
        }))
    }

    async fn forget_router(
        &self,
        request: Request<v1::ForgetRouterRequest>,
    ) -> Result<Response<v1::ForgetRouterResponse>, Status> {
        let id = RouterId::parse("router_id", &request.into_inner().router_id);
        let sessions = id
            .and_then(|id| self.engine.forget_router(&id))
            .map_err(|error| status(&error))?;
        Ok(Response::new(v1::ForgetRouterResponse {
            sessions: sessions as u64,
        }))
    }

    async fn explain_session(
        &self,
        request: Request<v1::ExplainSessionRequest>,
    ) -> Result<Response<v1::ExplainSessionResponse>, Status> {
        let key = parse::key("key", request.into_inner().key).map_err(|error| status(&error))?;
        let explanation = self
            .engine
            .explain(&key)
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(render::explanation(&explanation)))
    }
}
