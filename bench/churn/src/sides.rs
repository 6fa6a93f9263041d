//! Whom call agents ask, the real QoS server, and who asks for changes otherwise: a server that does
//! nothing else, or somebody who changes routes.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use voicelane_dataplane::control::{self, Answer};
use voicelane_proto::v1::{
    AttachRequest, AttachResponse, Command, Synchronised, Welcome, attach_request, attach_response,
    command,
    command_result::Code,
    routers_server::{Routers, RoutersServer},
};
use voicelane_router::dataplane::Client;
use voicelane_server::{
    engine::{Engine, Settings},
    serve,
};

use crate::{calls::Call, changes::Change, router::NEXT_HOPS, waiting::Waiting};

/// The real QoS server, on a port of its own.
pub(crate) async fn qos_server() -> anyhow::Result<SocketAddr> {
    let listener = serve::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    let engine = Engine::start(Settings::default());
    tokio::spawn(serve::serve(
        engine,
        listener,
        serve::Keepalive::default(),
        std::future::pending(),
    ));
    Ok(address)
}

/// A server that tells its only router what it is told to, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct BareServer {
    out: mpsc::UnboundedSender<Result<AttachResponse, Status>>,
    inner: Arc<Bare>,
}

#[derive(Debug, Default)]
struct Bare {
    last: AtomicU64,
    waiting: Waiting,
}

impl BareServer {
    /// Listens; what comes of it can be used when a router has attached.
    pub(crate) async fn start() -> anyhow::Result<(SocketAddr, Self)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (out, stream) = mpsc::unbounded_channel();
        let inner = Arc::new(Bare::default());
        let service = Attaching {
            inner: Arc::clone(&inner),
            out: out.clone(),
            stream: Mutex::new(Some(stream)),
        };
        tokio::spawn(
            Server::builder()
                .add_service(RoutersServer::new(service))
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))),
        );
        Ok((address, Self { out, inner }))
    }

    async fn tell(&self, command: command::Command) -> bool {
        let command_id = self.inner.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (waiter, answer) = oneshot::channel();
        self.inner.waiting.insert(command_id, waiter);
        let command = Command {
            command_id,
            command: Some(command),
        };
        let message = attach_response::Message::Command(command);
        self.out.send(Ok(response(message))).is_ok() && answer.await.unwrap_or(false)
    }
}

impl Change for BareServer {
    async fn add(&self, call: Call) -> bool {
        self.tell(call.install()).await
    }

    async fn remove(&self, call: Call) -> bool {
        self.tell(call.remove()).await
    }
}

fn response(message: attach_response::Message) -> AttachResponse {
    AttachResponse {
        message: Some(message),
    }
}

struct Attaching {
    inner: Arc<Bare>,
    out: mpsc::UnboundedSender<Result<AttachResponse, Status>>,
    stream: Mutex<Option<mpsc::UnboundedReceiver<Result<AttachResponse, Status>>>>,
}

#[tonic::async_trait]
impl Routers for Attaching {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = stream
            .take()
            .ok_or_else(|| Status::aborted("one router only"))?;
        let mut inbound = request.into_inner();
        let (inner, out) = (Arc::clone(&self.inner), self.out.clone());
        tokio::spawn(async move {
            while let Some(Ok(AttachRequest { message })) = inbound.next().await {
                match message {
                    Some(attach_request::Message::Installed(part)) if part.last => {
                        let welcome = attach_response::Message::Welcome(Welcome::default());
                        let done = Synchronised::default();
                        let done = attach_response::Message::Synchronised(done);
                        // The router is gone if these fail, and the loop ends.
                        let _ = out.send(Ok(response(welcome)));
                        let _ = out.send(Ok(response(done)));
                    }
                    Some(attach_request::Message::Result(result)) => {
                        let is_right = result.code() == Code::Ok;
                        inner.waiting.answer(result.command_id, is_right);
                    }
                    _ => {}
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            stream,
        ))))
    }
}

/// Changes routes, as the kernel's mirror does: each call's own host route, and which of two
/// neighbours all others go to.
#[derive(Clone, Debug)]
pub(crate) struct RouteChanges(pub(crate) Client);

impl RouteChanges {
    async fn ask(&self, request: control::Request) -> bool {
        let answer = self.0.ask(request).await.context("the worker");
        matches!(answer, Ok(Answer::Route(Ok(()))))
    }

    fn network(call: Call) -> (IpAddr, u8) {
        let [high, low] = call.0.to_be_bytes();
        // Of some calls the network around them.
        let length = if low % 4 == 0 { 30 } else { 32 };
        (IpAddr::from([10, 2, high, low]), length)
    }
}

impl Change for RouteChanges {
    const MARKS: bool = false;

    async fn add(&self, call: Call) -> bool {
        let (prefix, length) = Self::network(call);
        self.ask(control::Request::SetRoute {
            prefix,
            length,
            next_hop: NEXT_HOPS[1],
        })
        .await
    }

    async fn remove(&self, call: Call) -> bool {
        let (prefix, length) = Self::network(call);
        self.ask(control::Request::RemoveRoute { prefix, length })
            .await
    }
}
