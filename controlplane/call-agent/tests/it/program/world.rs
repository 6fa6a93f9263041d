//! A QoS server, two routers and the agent's program.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tonic::transport::Channel;
use voicelane_proto::v1::{self, sessions_client::SessionsClient};
use voicelane_server::{
    cluster::{Leader, Role},
    engine::{Engine, Settings},
    serve::{Transport, bind, serve},
};

use super::router::Router;

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A QoS server in this process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    /// At an address that another server had.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        Self::with(address, Transport::default()).await
    }

    /// Another one, which stands by and says that this one leads.
    pub(crate) async fn standby(&self) -> Self {
        let url = format!("http://{}", self.address);
        let leader = watch::channel(Some(Leader { term: 1, url })).1;
        let transport = Transport {
            role: Role::StandsBy(leader),
            ..Transport::default()
        };
        Self::with("127.0.0.1:0".parse().unwrap(), transport).await
    }

    async fn with(address: SocketAddr, transport: Transport) -> Self {
        let listener = bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let engine = Engine::start(Settings::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(engine, listener, transport, stopped).await.unwrap();
        });
        Self {
            address,
            stop,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// The agent's program; killed when it drops.
pub(crate) struct Program {
    child: Child,
    pub(crate) hep: SocketAddr,
    pub(crate) hep_tcp: SocketAddr,
    /// Where ng is received, if it is.
    pub(crate) ng: Option<SocketAddr>,
    pub(crate) plain: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) operator: Option<SocketAddr>,
}

/// What a line says is received or served where.
const DOORS: [&str; 6] = [
    "receiving HEP over UDP",
    "receiving HEP over TCP",
    "receiving ng over UDP",
    "serving POST /ng-plain",
    "serving GET /metrics",
    "serving the operator",
];

impl Program {
    /// Starts it, and waits until it receives and is connected.
    pub(crate) fn start(server: SocketAddr, arguments: &[&str]) -> Self {
        Self::run(&[server], arguments, true)
    }

    /// The same with several servers.
    pub(crate) fn of_several(servers: &[SocketAddr]) -> Self {
        Self::run(servers, &[], true)
    }

    /// Starts it with a configuration.
    pub(crate) fn configured(server: SocketAddr, config: &str, waits: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("voicelane-agent-{}-{count}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, config).unwrap();
        let program = Self::run(&[server], &["--config", file.to_str().unwrap()], waits);
        std::fs::remove_file(file).unwrap();
        program
    }

    fn run(servers: &[SocketAddr], arguments: &[&str], waits: bool) -> Self {
        let urls: Vec<_> = servers.iter().map(|it| format!("http://{it}")).collect();
        let mut child = Command::new(env!("CARGO_BIN_EXE_voicelane-agent"))
            .args(["--server", &urls.join(","), "--hep", "127.0.0.1:0"])
            .args(["--operator", "127.0.0.1:0"])
            .args(["--log", "voicelane_call_agent=debug"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (lines, read) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("agent: {line}");
                let _ = lines.send(line);
            }
        });
        let mut doors = [None; DOORS.len()];
        let mut connected = !waits;
        while doors[1].is_none() || !connected {
            let line = read.recv_timeout(PATIENCE).unwrap();
            for (door, said) in doors.iter_mut().zip(DOORS) {
                if line.contains(said) {
                    *door = line.rsplit_once("address=").unwrap().1.parse().ok();
                }
            }
            connected |= line.contains("connected to the QoS server");
        }
        // Sockets are open before the first of these lines; the lines may come in any order.
        while let Ok(line) = read.recv_timeout(Duration::from_millis(100)) {
            for (door, said) in doors.iter_mut().zip(DOORS) {
                if line.contains(said) {
                    *door = line.rsplit_once("address=").unwrap().1.parse().ok();
                }
            }
        }
        let [hep, hep_tcp, ng, plain, metrics, operator] = doors;
        Self {
            child,
            hep: hep.unwrap(),
            hep_tcp: hep_tcp.unwrap(),
            ng,
            plain,
            metrics,
            operator,
        }
    }

    /// Ends the agent with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As `kill -TERM`; waits until it has ended.
    pub(crate) fn terminate(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All of it: calls are between 10.1.0.0/16 and 10.2.0.0/16, as in the cases.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) routers: [Router; 2],
    pub(crate) client: SessionsClient<Channel>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with_budget(0).await
    }

    pub(crate) async fn with_budget(ef_budget_bps: u64) -> Self {
        let server = Server::start().await;
        let routers = [Router::default(), Router::default()];
        attach(&routers, server.address, ef_budget_bps).await;
        Self::of(server, routers).await
    }

    pub(crate) async fn of(server: Server, routers: [Router; 2]) -> Self {
        let url = format!("http://{}", server.address);
        let client = SessionsClient::connect(url).await.unwrap();
        Self {
            server,
            routers,
            client,
        }
    }

    /// The sessions that the server has.
    pub(crate) async fn sessions(&mut self) -> Vec<v1::Session> {
        let request = v1::ListSessionsRequest {
            page_size: 1_000,
            ..v1::ListSessionsRequest::default()
        };
        let answer = self.client.list_sessions(request).await.unwrap();
        answer.into_inner().sessions
    }

    /// `SOURCE > DESTINATION RATE RTCP` of all flows that are installed, sorted.
    pub(crate) async fn flows(&mut self) -> Vec<String> {
        let mut flows = Vec::new();
        for session in self.sessions().await {
            if session.state() != v1::SessionState::Active {
                continue;
            }
            flows.extend(session.spec.unwrap().flows.iter().map(text));
        }
        flows.sort();
        flows
    }

    /// Waits until the server has these flows and no other.
    pub(crate) async fn until(&mut self, what: &str, expected: &[String]) {
        let mut last = Vec::new();
        let wait = async {
            loop {
                last = self.flows().await;
                if last == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("{what}: expected {expected:#?}, the server has {last:#?}");
        }
    }
}

/// Attaches both routers to a server.
pub(crate) async fn attach(routers: &[Router; 2], server: SocketAddr, ef_budget_bps: u64) {
    let prefixes = [
        ["10.1.0.0/16", "2001:db8:1::/48"],
        ["10.2.0.0/16", "2001:db8:2::/48"],
    ];
    for (at, (router, prefixes)) in routers.iter().zip(prefixes).enumerate() {
        let id = format!("r{at}");
        router.attach(server, &id, &prefixes, ef_budget_bps).await;
    }
}

fn text(flow: &v1::MediaFlow) -> String {
    let end = |end: &Option<v1::Endpoint>| {
        let end = end.as_ref().unwrap();
        format!("{}:{}", end.address, end.port)
    };
    let rtcp = flow.rtcp.as_ref().unwrap();
    let rtcp = match rtcp.mode() {
        v1::rtcp::Mode::NextPort => "next".into(),
        v1::rtcp::Mode::Mux => "mux".into(),
        v1::rtcp::Mode::None => "none".into(),
        v1::rtcp::Mode::Explicit => format!("{}/{}", end(&rtcp.source), end(&rtcp.destination)),
        v1::rtcp::Mode::Unspecified => "unspecified".into(),
    };
    // The rate as the model has it: 1 % for fast clocks is on top.
    let rate = flow.max_bitrate_bps * 100 / 101;
    format!(
        "{} > {} {rate} {rtcp}",
        end(&flow.source),
        end(&flow.destination)
    )
}
