//! Operator: what people and monitoring ask.

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status};
use voicelane_proto::v1::{self, operator_server::Operator};

use super::{PAGE_BYTES, overview, parse, peer, render, status::code_name};
use crate::{
    engine::Engine,
    identity::{Changed, Guard},
    model::{
        error::Error,
        ids::RouterId,
        links::{Direction, LinkId},
    },
};

/// The most routers of a page.
const MAX_ROUTERS: u32 = 1_000;
/// The most links of a page.
const MAX_LINKS: u32 = 1_000;
/// The calls of a link that are told when nobody says how many.
const DEFAULT_CALLS: usize = 10;
/// The most that may be asked for.
const MAX_CALLS: u32 = 1_000;
/// Routers looked at under one hold of the lock.
const CHUNK: usize = 64;
/// Prefixes of a page when nobody says.
const DEFAULT_PREFIXES: usize = 10_000;
/// The most that may be asked for: fewer bytes than a page may have.
const MAX_PREFIXES: u32 = 20_000;

/// The service.
#[derive(Clone, Debug)]
pub struct OperatorService {
    engine: Arc<Engine>,
    guard: Guard,
}

impl OperatorService {
    /// Of this engine.
    pub fn new(engine: Arc<Engine>, guard: Guard) -> Self {
        Self { engine, guard }
    }
}

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn list_routers(
        &self,
        request: Request<v1::ListRoutersRequest>,
    ) -> Result<Response<v1::ListRoutersResponse>, Status> {
        let page = list_routers(&self.engine, request.into_inner()).await?;
        Ok(Response::new(page))
    }

    async fn get_router(
        &self,
        request: Request<v1::GetRouterRequest>,
    ) -> Result<Response<v1::GetRouterResponse>, Status> {
        let id = RouterId::parse("router_id", &request.into_inner().router_id)?;
        let router = self.engine.router(&id)?;
        Ok(Response::new(v1::GetRouterResponse {
            router: Some(render::router(&router)),
        }))
    }

    async fn forget_router(
        &self,
        request: Request<v1::ForgetRouterRequest>,
    ) -> Result<Response<v1::ForgetRouterResponse>, Status> {
        let peer = peer(&request)?;
        let id = RouterId::parse("router_id", &request.into_inner().router_id)?;
        let (engine, router) = (self.engine.clone(), id.clone());
        let forgotten = tokio::spawn(async move { engine.forget_router(&id).await }).await;
        let forgotten = forgotten.map_err(|error| Status::internal(error.to_string()))?;
        self.guard.audit.note(
            (peer.caller(), &peer.address()),
            "forget_router",
            Changed {
                router_id: Some(router.as_str()),
                ..Changed::default()
            },
            forgotten.as_ref().map_or_else(code_name, |_| "ok"),
            forgotten.as_ref().err().map(ToString::to_string),
        );
        Ok(Response::new(v1::ForgetRouterResponse {
            sessions: forgotten? as u64,
        }))
    }

    async fn list_prefixes(
        &self,
        request: Request<v1::ListPrefixesRequest>,
    ) -> Result<Response<v1::ListPrefixesResponse>, Status> {
        let page = list_prefixes(&self.engine, request.get_ref())?;
        Ok(Response::new(page))
    }

    async fn explain_session(
        &self,
        request: Request<v1::ExplainSessionRequest>,
    ) -> Result<Response<v1::ExplainSessionResponse>, Status> {
        let peer = peer(&request)?;
        let key = parse::key("key", request.into_inner().key)?;
        peer.caller().may_see(key.agent())?;
        let explanation = self.engine.explain(&key).await?;
        Ok(Response::new(render::explanation(&explanation)))
    }

    async fn list_links(
        &self,
        request: Request<v1::ListLinksRequest>,
    ) -> Result<Response<v1::ListLinksResponse>, Status> {
        let page = list_links(&self.engine, request.get_ref())?;
        Ok(Response::new(page))
    }

    async fn get_link(
        &self,
        request: Request<v1::GetLinkRequest>,
    ) -> Result<Response<v1::GetLinkResponse>, Status> {
        let link = get_link(&self.engine, request.get_ref()).await?;
        Ok(Response::new(link))
    }

    type WatchEventsStream = overview::Told<v1::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let events = overview::watch_events(self.engine.clone(), request.get_ref())?;
        Ok(Response::new(events))
    }

    type WatchOverviewStream = overview::Told<v1::WatchOverviewResponse>;

    async fn watch_overview(
        &self,
        request: Request<v1::WatchOverviewRequest>,
    ) -> Result<Response<Self::WatchOverviewStream>, Status> {
        let request = request.into_inner();
        let wanted = overview::Wanted::parse(&request.search, request.calls)?;
        let told = overview::watch_overview(self.engine.clone(), wanted, request.once)?;
        Ok(Response::new(told))
    }
}

async fn list_routers(
    engine: &Engine,
    request: v1::ListRoutersRequest,
) -> Result<v1::ListRoutersResponse, Error> {
    let size = parse::count(
        "page_size",
        request.page_size,
        MAX_ROUTERS as usize,
        MAX_ROUTERS,
    )?;
    let mut after = match request.page_token.as_str() {
        "" => None,
        token => Some(RouterId::parse("page_token", token)?),
    };
    let mut answer = v1::ListRoutersResponse {
        total: engine.count_routers() as u64,
        ..Default::default()
    };
    let mut bytes = 0;
    loop {
        let chunk = engine.routers(after.as_ref(), CHUNK);
        if chunk.is_empty() {
            return Ok(answer);
        }
        for view in &chunk {
            let router = render::router(view);
            bytes += router.encoded_len() + 8;
            let full = answer.routers.len() >= size || bytes > PAGE_BYTES;
            if full && !answer.routers.is_empty() {
                answer.next_page_token = after.map(|id| id.to_string()).unwrap_or_default();
                return Ok(answer);
            }
            after = Some(view.router.identity.id.clone());
            answer.routers.push(router);
        }
        tokio::task::yield_now().await;
    }
}

fn list_prefixes(
    engine: &Engine,
    request: &v1::ListPrefixesRequest,
) -> Result<v1::ListPrefixesResponse, Error> {
    let size = parse::count(
        "page_size",
        request.page_size,
        DEFAULT_PREFIXES,
        MAX_PREFIXES,
    )?;
    let id = RouterId::parse("router_id", &request.router_id)?;
    let interfaces = engine.router(&id)?.router.interfaces;
    let interface = interfaces.iter().find(|it| *it.name == *request.interface);
    // In order, each once.
    let prefixes = &interface
        .ok_or_else(|| Error::NoInterface {
            router: id,
            interface: request.interface.chars().take(128).collect(),
        })?
        .prefixes;
    let start = match request.page_token.as_str() {
        "" => 0,
        token => {
            let last = token.parse().map_err(|_| {
                Error::invalid("page_token", "is not of an answer; start with none")
            })?;
            prefixes.partition_point(|prefix| *prefix <= last)
        }
    };
    let rest = prefixes.get(start..).unwrap_or_default();
    let page = rest.get(..size).unwrap_or(rest);
    let last = page.last().filter(|_| page.len() < rest.len());
    Ok(v1::ListPrefixesResponse {
        prefixes: page.iter().map(ToString::to_string).collect(),
        next_page_token: last.map(ToString::to_string).unwrap_or_default(),
        total: prefixes.len() as u64,
    })
}

fn list_links(
    engine: &Engine,
    request: &v1::ListLinksRequest,
) -> Result<v1::ListLinksResponse, Error> {
    let size = parse::count(
        "page_size",
        request.page_size,
        MAX_LINKS as usize,
        MAX_LINKS,
    )?;
    let router = match request.router_id.as_str() {
        "" => None,
        id => Some(RouterId::parse("router_id", id)?),
    };
    let after =
        match request.page_token.as_str() {
            "" => None,
            token => Some(link_of(token).ok_or_else(|| {
                Error::invalid("page_token", "is not of an answer; start with none")
            })?),
        };
    // One more, to know whether there is one.
    let mut links = engine.links(router.as_ref(), after.as_ref(), size + 1)?;
    let more = links.len() > size;
    links.truncate(size);
    let last = links.last().filter(|_| more);
    Ok(v1::ListLinksResponse {
        next_page_token: last.map(|last| token(&last.id)).unwrap_or_default(),
        links: links.iter().map(render::link).collect(),
    })
}

/// A link as a page ends with it. No router's id has a slash.
fn token(link: &LinkId) -> String {
    let direction = match link.direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    format!("{}/{direction}/{}", link.router, link.port)
}

fn link_of(token: &str) -> Option<LinkId> {
    let mut parts = token.splitn(3, '/');
    let (router, direction, port) = (parts.next()?, parts.next()?, parts.next()?);
    Some(LinkId {
        router: RouterId::parse("page_token", router).ok()?,
        port: port.into(),
        direction: match direction {
            "in" => Direction::In,
            "out" => Direction::Out,
            _ => return None,
        },
    })
}

async fn get_link(
    engine: &Engine,
    request: &v1::GetLinkRequest,
) -> Result<v1::GetLinkResponse, Error> {
    let calls = parse::count("calls", request.calls, DEFAULT_CALLS, MAX_CALLS)?;
    let direction = match v1::link::Direction::try_from(request.direction) {
        Ok(v1::link::Direction::In) => Direction::In,
        Ok(v1::link::Direction::Out) => Direction::Out,
        Ok(v1::link::Direction::Unspecified) | Err(_) => {
            return Err(Error::invalid(
                "direction",
                "is neither in nor out; give one",
            ));
        }
    };
    let id = LinkId {
        router: RouterId::parse("router_id", &request.router_id)?,
        port: request.port.chars().take(128).collect::<String>().into(),
        direction,
    };
    let (link, calls) = engine.link(&id, calls).await?;
    Ok(v1::GetLinkResponse {
        link: Some(render::link(&link)),
        calls: calls.iter().map(render::link_call).collect(),
    })
}
