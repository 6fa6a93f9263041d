#![allow(
    clippy::expect_used,
    reason = "a measurement ends when something is not there"
)]
//! The whole agent on one core: HEP from a UDP socket, changes to a server that says yes.

use std::{
    env, fs,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::unistd::{Pid, gettid};
use tokio::runtime::Builder;
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use voicelane_call_agent::{
    config::{Config, Optional},
    start::Ready,
};
use voicelane_proto::v1::{
    self,
    call_agent_client::CallAgentClient,
    sessions_server::{Sessions, SessionsServer},
};

use super::calls::call_frames;

pub(crate) const HEP: &str = "127.0.0.1:39060";
const SERVER: &str = "127.0.0.1:39400";
const OPERATOR: &str = "127.0.0.1:39420";
/// How long each rate is kept.
const SECONDS: u32 = 10;
/// Calls that go on at a time.
const AT_A_TIME: u32 = 400;

pub(crate) fn run() {
    thread::spawn(serve);
    let (tid, thread) = mpsc::channel();
    thread::spawn(move || {
        let _ = tid.send(gettid());
        agent();
    });
    let Ok(agent) = thread.recv() else {
        return;
    };
    thread::sleep(Duration::from_secs(1));
    let mut sender = Sender::new();
    for rate in [10_000, 20_000, 30_000, 40_000] {
        let (cpu, last) = (cpu_seconds(agent), status());
        let sent = sender.calls(rate);
        settle(&last, sent);
        let now = status();
        let read = sip(&now) - sip(&last);
        let dropped = now.kernel_dropped_datagrams - last.kernel_dropped_datagrams;
        let cpu = cpu_seconds(agent) - cpu;
        println!(
            "{rate} messages a second: {sent} sent, {read} read, {dropped} dropped by the kernel; \
             {:.0} % of a core, {:.0} ns a message",
            cpu * 100.0 / f64::from(SECONDS),
            cpu * 1e9 / read.max(1) as f64
        );
    }
}

/// What makes this program the agent alone.
pub(crate) const AGENT: &str = "agent";

/// The agent in a process of its own, with calls that go on. A settled call has no exchanges any more.
pub(crate) fn memory() {
    const CALLS: u32 = 100_000;
    const MESSAGES: u32 = 9;
    const SETTLED: Duration = Duration::from_secs(40);
    /// The field's usual rate of calls, and more: a second.
    const RATES: [u32; 2] = [556, 2_000];

    thread::spawn(serve);
    for rate in RATES {
        let child = Command::new(env::current_exe().expect("a program"))
            .arg(AGENT)
            .spawn();
        let mut child = child.expect("an agent");
        thread::sleep(Duration::from_secs(1));
        let empty = memory_of(child.id(), "VmRSS");
        let last = status();
        let sent = Sender::new().answered(CALLS, rate * MESSAGES);
        settle(&last, sent);
        thread::sleep(SETTLED);
        let sessions = status().sessions.unwrap_or_default();
        println!(
            "{} calls with an acknowledged session, begun at {rate} a second: {} MB once they are settled, {} MB at \
             most, {empty} MB without calls",
            sessions.installed,
            memory_of(child.id(), "VmRSS"),
            memory_of(child.id(), "VmHWM"),
        );
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A line of proc_pid_status(5), MB.
fn memory_of(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) >> 10
}

/// Waits until all is read, or nothing more is.
fn settle(last: &v1::GetAgentStatusResponse, sent: u64) {
    for _ in 0..50 {
        let now = status();
        let dropped = now.kernel_dropped_datagrams - last.kernel_dropped_datagrams;
        if sip(&now) - sip(last) + dropped >= sent {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

struct Sender {
    socket: UdpSocket,
    call: u32,
}

impl Sender {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(HEP).expect("an address");
        Self { socket, call: 0 }
    }

    /// Whole calls at so many messages a second.
    fn calls(&mut self, rate: u32) -> u64 {
        let mut pace = Pace::new(rate);
        while pace.sent < u64::from(rate * SECONDS) {
            let calls: Vec<_> = (0..AT_A_TIME)
                .map(|at| call_frames(self.call + at, false))
                .collect();
            self.call += AT_A_TIME;
            for nth in 0..13 {
                for call in &calls {
                    pace.wait();
                    let _ = self.socket.send(&call[nth]);
                }
            }
        }
        pace.sent
    }

    /// Calls that are answered and go on.
    fn answered(&mut self, calls: u32, rate: u32) -> u64 {
        let mut pace = Pace::new(rate);
        for call in 0..calls {
            for frame in &call_frames(1_000_000 + call, false)[..9] {
                pace.wait();
                let _ = self.socket.send(frame);
            }
        }
        pace.sent
    }
}

/// A sender that was held up for longer does not send the rest faster: it would be a burst.
const MADE_UP: Duration = Duration::from_millis(5);

/// Spreads what is sent evenly over time.
pub(crate) struct Pace {
    next: Instant,
    interval: Duration,
    sent: u64,
}

impl Pace {
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            next: Instant::now(),
            interval: Duration::from_secs(1) / rate,
            sent: 0,
        }
    }

    pub(crate) fn wait(&mut self) {
        self.sent += 1;
        let now = Instant::now();
        let earliest = now.checked_sub(MADE_UP).unwrap_or(now);
        self.next = (self.next + self.interval).max(earliest);
        let ahead = self.next.saturating_duration_since(Instant::now());
        if ahead > Duration::from_millis(2) {
            thread::sleep(ahead);
        }
    }
}

fn status() -> v1::GetAgentStatusResponse {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut client = CallAgentClient::connect(format!("http://{OPERATOR}"))
            .await
            .expect("the agent");
        let answer = client.get_agent_status(v1::GetAgentStatusRequest {}).await;
        answer.expect("a status").into_inner()
    })
}

fn sip(status: &v1::GetAgentStatusResponse) -> u64 {
    let messages = status.senders.iter().flat_map(|sender| &sender.messages);
    messages
        .filter(|of| of.name == "sip")
        .map(|of| of.count)
        .sum()
}

/// The agent alone, until its process is killed.
pub(crate) fn agent() {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let mut config = Config {
        server: format!("http://{SERVER}"),
        operator: Optional(Some(address(OPERATOR))),
        ..Config::default()
    };
    config.hep.udp = vec![address(HEP)];
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let running = Ready::bind(config)
            .await
            .expect("ports that are free")
            .start();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        running.stop().await;
    });
}

/// User and system time of a thread (proc_pid_stat(5)), by ticks of 10 ms.
fn cpu_seconds(thread: Pid) -> f64 {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let times = rest.split(' ').skip(11).take(2);
    times
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

pub(crate) fn serve() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(SERVER)
            .await
            .expect("a free port");
        let served = Server::builder()
            .add_service(SessionsServer::new(Yes))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let _ = served.await;
    });
}

/// A server that says yes.
struct Yes;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Sessions for Yes {
    type ChangeSessionsStream = Answers<v1::ChangeSessionsResponse>;
    type WatchSessionsStream = Answers<v1::WatchSessionsResponse>;
    type KeepAgentStream = Answers<v1::KeepAgentResponse>;

    async fn keep_agent(
        &self,
        request: Request<Streaming<v1::KeepAgentRequest>>,
    ) -> Result<Response<Self::KeepAgentStream>, Status> {
        let told = |request: Result<v1::KeepAgentRequest, Status>| {
            request.map(|_| v1::KeepAgentResponse::default())
        };
        Ok(Response::new(Box::pin(request.into_inner().map(told))))
    }

    async fn change_sessions(
        &self,
        request: Request<Streaming<v1::ChangeSessionsRequest>>,
    ) -> Result<Response<Self::ChangeSessionsStream>, Status> {
        let yes = |request: Result<v1::ChangeSessionsRequest, Status>| {
            let outcome = |change: v1::SessionChange| v1::ChangeOutcome {
                tag: change.tag,
                ..v1::ChangeOutcome::default()
            };
            request.map(|request| v1::ChangeSessionsResponse {
                outcomes: request.changes.into_iter().map(outcome).collect(),
            })
        };
        Ok(Response::new(Box::pin(request.into_inner().map(yes))))
    }

    async fn list_sessions(
        &self,
        _: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        Ok(Response::new(v1::ListSessionsResponse::default()))
    }

    async fn add_session(
        &self,
        _: Request<v1::AddSessionRequest>,
    ) -> Result<Response<v1::AddSessionResponse>, Status> {
        Err(Status::unimplemented("by the stream"))
    }

    async fn modify_session(
        &self,
        _: Request<v1::ModifySessionRequest>,
    ) -> Result<Response<v1::ModifySessionResponse>, Status> {
        Err(Status::unimplemented("by the stream"))
    }

    async fn delete_session(
        &self,
        _: Request<v1::DeleteSessionRequest>,
    ) -> Result<Response<v1::DeleteSessionResponse>, Status> {
        Err(Status::unimplemented("by the stream"))
    }

    async fn get_session(
        &self,
        _: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        Err(Status::not_found("none is kept"))
    }

    async fn watch_sessions(
        &self,
        _: Request<v1::WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        Err(Status::unimplemented("none is kept"))
    }
}
