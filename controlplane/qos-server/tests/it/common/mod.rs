//! A server on a port of its own, agents' and routers' ends of it.

#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]

mod pki;
mod router;

use std::{future::Future, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tonic::{Code, Status, transport::Channel};
use voicelane_identity::{Files, client};
use voicelane_proto::v1::{self, operator_client::OperatorClient, sessions_client::SessionsClient};
use voicelane_server::{
    engine::{Engine, Settings},
    journal::{Backend, disk::Disk},
    serve::{Transport, bind, serve},
};

pub use pki::*;
pub use router::*;

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct TestServer {
    pub address: SocketAddr,
    pub engine: Arc<Engine>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(Settings {
            adopt_for: Duration::ZERO,
            ..Settings::default()
        })
        .await
    }

    pub async fn with(settings: Settings) -> Self {
        Self::with_transport(settings, Transport::default()).await
    }

    pub async fn with_transport(settings: Settings, transport: impl Into<Transport>) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self::on(listener, settings, transport).await
    }

    pub async fn on(
        listener: TcpListener,
        settings: Settings,
        transport: impl Into<Transport>,
    ) -> Self {
        Self::of(Engine::start(settings), listener, transport)
    }

    /// On a store, which it may have to make.
    pub async fn stored(dir: &Path, settings: Settings) -> Self {
        let disk = Disk::serve(dir).unwrap();
        Self::on_backend(disk, settings).await
    }

    pub async fn on_backend(backend: impl Backend, settings: Settings) -> Self {
        let engine = Engine::restore(settings, backend).unwrap();
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self::of(engine, listener, Transport::default())
    }

    fn of(engine: Arc<Engine>, listener: TcpListener, transport: impl Into<Transport>) -> Self {
        let address = listener.local_addr().unwrap();
        let transport = transport.into();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (serving, closing) = (engine.clone(), engine.clone());
        let task = tokio::spawn(async move {
            serve(serving, listener, transport, async {
                let _ = stopped.await;
            })
            .await
            .unwrap();
            closing.journal().close().await.unwrap();
        });
        Self {
            address,
            engine,
            stop: Some(stop),
            task,
        }
    }

    /// Stops it and waits until its port is free.
    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub async fn sessions(&self) -> SessionsClient<Channel> {
        SessionsClient::new(self.channel().await)
    }

    /// How all stands, with the worst of all calls, at most so many.
    pub async fn overview(&self, calls: u32) -> v1::WatchOverviewResponse {
        let request = v1::WatchOverviewRequest {
            calls,
            once: true,
            ..Default::default()
        };
        let mut operator = self.operator().await;
        let answer = operator.watch_overview(request).await.unwrap();
        answer.into_inner().message().await.unwrap().unwrap()
    }

    pub async fn operator(&self) -> OperatorClient<Channel> {
        OperatorClient::new(self.channel().await)
    }
}

/// An interface with hosts behind it.
pub fn edge(name: &str, prefixes: &[&str]) -> v1::Interface {
    v1::Interface {
        name: name.into(),
        role: v1::interface::Role::Edge.into(),
        up: true,
        addresses: Vec::new(),
        prefixes: prefixes.iter().map(ToString::to_string).collect(),
        rate_bps: 1_000_000_000,
        // Room for all that no test of admission adds.
        ef_budget_bps: 300_000_000_000,
        mtu_bytes: 1500,
        port: name.into(),
        ..v1::Interface::default()
    }
}

/// An interface with routers behind it.
pub fn core(name: &str, prefixes: &[&str]) -> v1::Interface {
    v1::Interface {
        role: v1::interface::Role::Core.into(),
        ..edge(name, prefixes)
    }
}

pub fn endpoint(text: &str) -> Option<v1::Endpoint> {
    let (address, port) = text.rsplit_once(':').unwrap();
    let address = address.trim_matches(['[', ']']).to_owned();
    Some(v1::Endpoint {
        address,
        port: port.parse().unwrap(),
    })
}

pub fn flow(source: &str, destination: &str) -> v1::MediaFlow {
    v1::MediaFlow {
        source: endpoint(source),
        destination: endpoint(destination),
        max_bitrate_bps: 80_000,
        ..Default::default()
    }
}

pub fn key(session: &str) -> Option<v1::SessionKey> {
    Some(v1::SessionKey {
        agent_id: "test".into(),
        session_id: session.into(),
    })
}

pub fn spec(session: &str, flows: Vec<v1::MediaFlow>) -> v1::SessionSpec {
    v1::SessionSpec {
        key: key(session),
        revision: 1,
        flows,
        ..v1::SessionSpec::default()
    }
}

/// A call both ways between 10.1.0.0/24 and 10.2.0.0/24, on ports of its own.
pub fn call(session: &str, port: u16) -> v1::SessionSpec {
    let (a, b) = (format!("10.1.0.5:{port}"), format!("10.2.0.7:{port}"));
    spec(session, vec![flow(&a, &b), flow(&b, &a)])
}

pub async fn add(
    client: &mut SessionsClient<Channel>,
    spec: v1::SessionSpec,
) -> Result<v1::Session, Status> {
    let answer = client
        .add_session(v1::AddSessionRequest { spec: Some(spec) })
        .await?;
    Ok(answer.into_inner().session.unwrap())
}

pub async fn modify(
    client: &mut SessionsClient<Channel>,
    spec: v1::SessionSpec,
) -> Result<v1::Session, Status> {
    let answer = client
        .modify_session(v1::ModifySessionRequest { spec: Some(spec) })
        .await?;
    Ok(answer.into_inner().session.unwrap())
}

pub async fn delete(
    client: &mut SessionsClient<Channel>,
    session: &str,
) -> Result<v1::Session, Status> {
    let answer = client
        .delete_session(v1::DeleteSessionRequest { key: key(session) })
        .await?;
    Ok(answer.into_inner().session.unwrap())
}

pub async fn get(
    client: &mut SessionsClient<Channel>,
    session: &str,
) -> Result<v1::Session, Status> {
    let answer = client
        .get_session(v1::GetSessionRequest { key: key(session) })
        .await?;
    Ok(answer.into_inner().session.unwrap())
}

pub async fn list(client: &mut SessionsClient<Channel>) -> v1::ListSessionsResponse {
    client
        .list_sessions(v1::ListSessionsRequest::default())
        .await
        .unwrap()
        .into_inner()
}

/// Asserts a status' code, and that its message holds all parts.
#[track_caller]
pub fn assert_status<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, parts: &[&str]) {
    let status = result.expect_err("an error");
    assert_eq!(status.code(), code, "{status:?}");
    for part in parts {
        assert!(
            status.message().contains(part),
            "{part:?} is not in {:?}",
            status.message()
        );
    }
}

/// Asks again and again until the answer is right.
pub async fn eventually<F, T>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let wait = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never {what}"))
}

/// A server, and routers `a` (10.1.0.0/24) and `b` (10.2.0.0/24) attached to it.
pub struct Network {
    pub server: TestServer,
    pub a: FakeRouter,
    pub b: FakeRouter,
    pub a_stream: Stream,
    pub b_stream: Stream,
    pub client: SessionsClient<Channel>,
}

impl Network {
    pub async fn start() -> Self {
        Self::on(TestServer::start().await).await
    }

    pub async fn on(server: TestServer) -> Self {
        let a = FakeRouter::reaching("a", &["10.1.0.0/24"]);
        let b = FakeRouter::reaching("b", &["10.2.0.0/24"]);
        let a_stream = a.attach(server.address).await;
        let b_stream = b.attach(server.address).await;
        let client = server.sessions().await;
        Self {
            server,
            a,
            b,
            a_stream,
            b_stream,
            client,
        }
    }
}

/// A connection, by TLS with files.
pub async fn channel(address: SocketAddr, files: Option<&Files>) -> Channel {
    let scheme = files.map_or("http", |_| "https");
    let endpoint = Channel::from_shared(format!("{scheme}://{address}")).unwrap();
    client::connect(&endpoint, files).await.unwrap()
}
