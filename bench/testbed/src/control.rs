//! Asynchronous clients inside a namespace, used from blocking code.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};
use tonic::transport::{self, Channel};
use voicelane_identity::{Files, client};
use voicelane_proto::v1::{
    AddSessionRequest, DeleteSessionRequest, Endpoint, EntryCounters, GetStatusRequest,
    ListEntriesRequest, ListPortsRequest, ListRoutersRequest, ListSessionsRequest, MediaFlow,
    PortStatus, ReportEfRequest, ReportEfResponse, RouterStatus, ServiceClass, Session, SessionKey,
    SessionSpec, operator_client::OperatorClient, router_operator_client::RouterOperatorClient,
    sessions_client::SessionsClient,
};

use crate::{
    clock::Moment,
    error::LabError,
    namespace::Namespace,
    topology::{IpVersion, Site, addresses},
    traffic::Flow,
};

const CALL_BOUND: Duration = Duration::from_secs(10);

/// A runtime whose thread is in a namespace: every connection that its tasks open starts there.
#[derive(Debug)]
pub struct NamespaceRuntime {
    runtime: Runtime,
}

impl NamespaceRuntime {
    pub fn new(namespace: &Namespace) -> Result<Self, LabError> {
        // Once before, so that a namespace that is not there is an error and not a silent no.
        namespace.enter(|| ())?;
        let namespace = namespace.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(move || {
                if let Err(error) = namespace.join_current_thread() {
                    eprintln!("voicelane-lab: {error}");
                }
            })
            .build()
            .map_err(|e| LabError::io("cannot start a runtime", e))?;
        Ok(Self { runtime })
    }

    /// Starts a task on the runtime's thread. It ends with the runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs a task on the runtime's thread and waits for it, for at most `bound`.
    pub fn run<T: Send + 'static>(
        &self,
        what: &str,
        bound: Duration,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, LabError> {
        let task = self
            .runtime
            .spawn(async move { tokio::time::timeout(bound, task).await });
        match self.runtime.block_on(task) {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(_)) => Err(LabError::timeout(what, bound, String::new())),
            Err(_) => Err(LabError::Panicked("a task")),
        }
    }
}

/// A call agent in a namespace, talking to the QoS server over gRPC.
#[derive(Debug)]
pub struct Agent {
    runtime: NamespaceRuntime,
    channel: Channel,
    operator: Channel,
}

impl Agent {
    /// Connects to `server`, such as `https://172.30.0.1:7400`, as a call agent and as an operator, with
    /// the files of each. It connects again by itself when the server was away.
    pub fn connect(
        namespace: &Namespace,
        server: &str,
        [agent, operator]: [Files; 2],
    ) -> Result<Self, LabError> {
        let runtime = NamespaceRuntime::new(namespace)?;
        let endpoint = transport::Endpoint::from_shared(server.to_owned())?
            .connect_timeout(Duration::from_secs(5))
            .timeout(CALL_BOUND);
        let connected = runtime.run("a connection", CALL_BOUND, async move {
            let channel = client::connect(&endpoint, Some(&agent)).await?;
            let operator = client::connect(&endpoint, Some(&operator)).await?;
            Ok::<_, transport::Error>((channel, operator))
        });
        let (channel, operator) = connected??;
        Ok(Self {
            runtime,
            channel,
            operator,
        })
    }

    /// The agent's connection, for clients of other services. Use it in tasks of [`Self::runtime`].
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The operator's connection, which reads all. Use it in tasks of [`Self::runtime`].
    pub fn operator(&self) -> Channel {
        self.operator.clone()
    }

    /// Where this agent's tasks run.
    pub fn runtime(&self) -> &NamespaceRuntime {
        &self.runtime
    }

    /// Adds a session. Returns it and the moment at which the answer was there.
    pub fn add_session(&self, spec: SessionSpec) -> Result<(Session, Moment), LabError> {
        let mut client = SessionsClient::new(self.channel());
        let request = AddSessionRequest { spec: Some(spec) };
        self.ask("AddSession", async move {
            let answer = client.add_session(request).await?;
            let moment = Moment::now();
            Ok((answer.into_inner().session.unwrap_or_default(), moment))
        })
    }

    pub fn delete_session(&self, key: SessionKey) -> Result<Session, LabError> {
        let mut client = SessionsClient::new(self.channel());
        let request = DeleteSessionRequest { key: Some(key) };
        self.ask("DeleteSession", async move {
            let answer = client.delete_session(request).await?;
            Ok(answer.into_inner().session.unwrap_or_default())
        })
    }

    /// The routers that the server knows.
    pub fn routers(&self) -> Result<Vec<RouterStatus>, LabError> {
        let mut client = OperatorClient::new(self.operator());
        self.ask("ListRouters", async move {
            let answer = client.list_routers(ListRoutersRequest::default()).await?;
            Ok(answer.into_inner().routers)
        })
    }

    /// Sessions that the server has, of all agents.
    pub fn sessions(&self) -> Result<Vec<Session>, LabError> {
        let mut client = SessionsClient::new(self.operator());
        self.ask("ListSessions", async move {
            let mut sessions = Vec::new();
            let mut request = ListSessionsRequest {
                page_size: 1_000,
                ..ListSessionsRequest::default()
            };
            loop {
                let page = client.list_sessions(request.clone()).await?.into_inner();
                sessions.extend(page.sessions);
                if page.next_page_token.is_empty() {
                    return Ok(sessions);
                }
                request.page_token = page.next_page_token;
            }
        })
    }

    fn ask<T: Send + 'static>(
        &self,
        method: &'static str,
        task: impl Future<Output = Result<T, tonic::Status>> + Send + 'static,
    ) -> Result<T, LabError> {
        let what = format!("an answer to {method}");
        let answer = self.runtime.run(&what, CALL_BOUND, task)?;
        answer.map_err(refused(method))
    }

    /// The entries of a router's session table.
    pub fn router_entries(&self, site: Site) -> Result<Vec<EntryCounters>, LabError> {
        self.ask_router(site, CALL_BOUND, async |mut client| {
            let mut stream = client
                .list_entries(ListEntriesRequest {})
                .await?
                .into_inner();
            let mut entries = Vec::new();
            while let Some(part) = stream.message().await? {
                entries.extend(part.entries);
            }
            Ok(entries)
        })
    }

    /// The ports of a router, and how many of its buffers are free, asked of the router itself.
    pub fn router_ports(&self, site: Site) -> Result<(Vec<PortStatus>, u64), LabError> {
        self.ask_router(site, CALL_BOUND, async |mut client| {
            let status = client.get_status(GetStatusRequest {}).await?.into_inner();
            let ports = client.list_ports(ListPortsRequest {}).await?.into_inner();
            Ok((ports.ports, status.buffers_free))
        })
    }

    /// How well each port of a router serves EF from now on, for a window of 1 to 60 whole seconds.
    /// Returns at its end.
    pub fn router_ef(&self, site: Site, window: Duration) -> Result<ReportEfResponse, LabError> {
        self.report_ef(site, window.max(Duration::from_secs(1)))
    }

    /// For how long either router's loop has stood still at most since its start.
    pub fn longest_stall(&self) -> Result<Duration, LabError> {
        let mut longest_us = 0.0_f64;
        for site in Site::BOTH {
            let report = self.report_ef(site, Duration::ZERO)?;
            longest_us = longest_us.max(report.longest_stall_us);
        }
        Ok(Duration::from_secs_f64(longest_us.max(0.0) / 1e6))
    }

    fn report_ef(&self, site: Site, window: Duration) -> Result<ReportEfResponse, LabError> {
        let window_s = u32::try_from(window.as_secs()).unwrap_or(u32::MAX);
        let request = ReportEfRequest { window_s };
        self.ask_router(site, window + CALL_BOUND, async move |mut client| {
            Ok(client.report_ef(request).await?.into_inner())
        })
    }

    fn ask_router<T: Send + 'static, F>(
        &self,
        site: Site,
        bound: Duration,
        ask: impl FnOnce(RouterOperatorClient<Channel>) -> F + Send + 'static,
    ) -> Result<T, LabError>
    where
        F: Future<Output = Result<T, tonic::Status>> + Send,
    {
        let url = format!(
            "http://{}:{}",
            addresses::management(site),
            addresses::ROUTER_PORT
        );
        let endpoint = transport::Endpoint::from_shared(url)?.timeout(bound);
        let answer = self.runtime.run("a router's answer", bound, async move {
            let channel = endpoint
                .connect()
                .await
                .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
            ask(RouterOperatorClient::new(channel)).await
        })?;
        answer.map_err(refused("a router"))
    }
}

/// The session of one call: all its flows, each with what G.711 takes.
pub fn call_session(key: SessionKey, flows: &[Flow]) -> SessionSpec {
    let endpoint = |address: SocketAddr| {
        Some(Endpoint {
            address: address.ip().to_string(),
            port: address.port().into(),
        })
    };
    let flow = |flow: &Flow| MediaFlow {
        source: endpoint(flow.source),
        destination: endpoint(flow.destination),
        max_bitrate_bps: g711_bits_per_second(flow.source.ip()),
        ..MediaFlow::default()
    };
    SessionSpec {
        key: Some(key),
        revision: 1,
        flows: flows.iter().map(flow).collect(),
        service_class: ServiceClass::Telephony.into(),
        ..SessionSpec::default()
    }
}

/// At the IP layer, with 20 ms a packet: 200 bytes of IPv4 or 220 of IPv6.
fn g711_bits_per_second(address: IpAddr) -> u64 {
    match IpVersion::of(address) {
        IpVersion::V4 => 80_000,
        IpVersion::V6 => 88_000,
    }
}

fn refused(what: &'static str) -> impl Fn(tonic::Status) -> LabError {
    move |status| LabError::Refused {
        what: what.to_owned(),
        status: Box::new(status),
    }
}
