//! etcd's members, servers and routers, each in a process that ends with the test.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Code, Status, transport::Channel};
use voicelane_identity::{Servers, client};
use voicelane_proto::v1::{self, sessions_client::SessionsClient};

use crate::{
    common::*,
    store::{
        killed::all_of,
        killed_rounds::{is_refusal, router},
    },
};

/// Longer than an election and all that follows it take on a loaded machine.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// An address that is free now. Its port is below those that the kernel gives to other tests' connections, so it
/// stays free until a program listens there, also when that is started again.
pub(super) fn free() -> SocketAddr {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let least = 1_024.max(first / 2);
    assert!(
        least < first,
        "the kernel gives away all ports from {first} on"
    );
    std::iter::repeat_with(|| rand::random_range(least..first))
        .take(10_000)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .unwrap()
}

/// A program that ends with the test.
pub(super) struct Running {
    command: Command,
    child: Child,
    pub(super) log: Arc<Mutex<String>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        command.stderr(Stdio::piped()).stdout(Stdio::null());
        let log: Arc<Mutex<String>> = Arc::default();
        let child = spawn(&mut command, &log);
        Self {
            command,
            child,
            log,
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    pub(super) fn kill(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(super) fn again(&mut self) {
        self.kill();
        self.child = spawn(&mut self.command, &self.log);
    }

    pub(super) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap()?.code()
    }
}

fn spawn(command: &mut Command, log: &Arc<Mutex<String>>) -> Child {
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap());
    let log = log.clone();
    std::thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
    child
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {:?}\n{}", self.command, self.log.lock().unwrap());
        }
    }
}

/// An etcd on loopback.
pub(super) struct Etcd {
    pub(super) members: Vec<Running>,
    pub(super) urls: Vec<String>,
    /// `m0=http://ADDRESS:PORT,...`: where members listen to each other.
    pub(super) peers: String,
    /// Of each member's data, by its name.
    pub(super) folder: TempDir,
}

impl Etcd {
    pub(super) fn start(members: usize) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let addresses: Vec<_> = (0..members).map(|_| (free(), free())).collect();
        let cluster = addresses
            .iter()
            .enumerate()
            .map(|(n, (_, peers))| format!("m{n}=http://{peers}"))
            .collect::<Vec<_>>()
            .join(",");
        let start = |(n, (clients, peers)): (usize, &(SocketAddr, SocketAddr))| {
            let mut command = Command::new("etcd");
            let (clients, peers) = (format!("http://{clients}"), format!("http://{peers}"));
            command.args(["--name", &format!("m{n}")]);
            command
                .arg("--data-dir")
                .arg(folder.path().join(format!("m{n}")));
            command.args([
                "--listen-client-urls",
                &clients,
                "--advertise-client-urls",
                &clients,
            ]);
            command.args([
                "--listen-peer-urls",
                &peers,
                "--initial-advertise-peer-urls",
                &peers,
            ]);
            command.args(["--initial-cluster", &cluster]);
            command.env_clear();
            Running::start(command)
        };
        Self {
            members: addresses.iter().enumerate().map(start).collect(),
            urls: addresses
                .iter()
                .map(|(it, _)| format!("http://{it}"))
                .collect(),
            peers: cluster,
            folder,
        }
    }

    /// A server on it.
    pub(super) fn server(&self, address: SocketAddr) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voicelane-server"));
        command.args(["--etcd", &self.urls.join(",")]);
        command.args(["--listen", &address.to_string()]);
        command.args(["--adopt-for", "0"]);
        Running::start(command)
    }

    /// A client of it, which the test may do harm by.
    pub(super) async fn client(&self) -> etcd_client::Client {
        etcd_client::Client::connect(&self.urls, None)
            .await
            .unwrap()
    }
}

/// Servers on one etcd, and routers `a` (10.1.0.0/24) and `b` (10.2.0.0/24) that stay attached to whichever
/// leads.
pub(super) struct World {
    pub(super) etcd: Etcd,
    pub(super) servers: Vec<Running>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) a: FakeRouter,
    pub(super) b: FakeRouter,
    routers: JoinSet<()>,
}

impl World {
    pub(super) async fn start(members: usize, servers: usize) -> Self {
        let etcd = Etcd::start(members);
        let addresses: Vec<_> = (0..servers).map(|_| free()).collect();
        let servers = addresses.iter().map(|it| etcd.server(*it)).collect();
        let [a, b] = [router(0), router(1)];
        let mut world = Self {
            etcd,
            servers,
            addresses,
            a,
            b,
            routers: JoinSet::new(),
        };
        for router in [&world.a, &world.b] {
            world
                .routers
                .spawn(router.clone().stay_attached(world.list()));
        }
        world
            .a
            .until("attached", |it| it.synchronised().is_some())
            .await;
        world
            .b
            .until("attached", |it| it.synchronised().is_some())
            .await;
        world
    }

    /// What clients are given.
    pub(super) fn list(&self) -> Servers {
        let urls = self.addresses.iter().map(|it| format!("http://{it}"));
        Servers::parse(&urls.collect::<Vec<_>>().join(","), None).unwrap()
    }

    /// An agent.
    pub(super) fn caller(&self) -> Caller {
        Caller {
            servers: self.list(),
            channel: None,
        }
    }

    /// The number of the server that the routers are attached to.
    pub(super) async fn leader(&self) -> usize {
        self.another_leads(usize::MAX).await
    }

    /// Waits until a server other than this one serves.
    pub(super) async fn another_leads(&self, than: usize) -> usize {
        let asking = async {
            loop {
                let url = self.a.welcome().map(|it| it.leader_url);
                let is_it = |address: &SocketAddr| url == Some(format!("http://{address}"));
                let leader = self.addresses.iter().position(is_it);
                let has_all = [&self.a, &self.b]
                    .iter()
                    .all(|it| it.synchronised().is_some() && it.ended().is_none());
                if let Some(leader) = leader.filter(|it| has_all && *it != than) {
                    return leader;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, asking).await.expect("another server leads")
    }

    /// What a server says to one that asks it alone.
    pub(super) async fn said_by(&self, server: usize) -> Option<Status> {
        let url = format!("http://{}", self.addresses[server]);
        let mut client = SessionsClient::connect(url).await.ok()?;
        let asking = timeout(Duration::from_secs(5), get(&mut client, "none"))
            .await
            .ok()?;
        asking.err()
    }
}

/// A client that asks whichever server leads.
pub(super) struct Caller {
    servers: Servers,
    channel: Option<Channel>,
}

/// What is said of a change when nobody knows what became of it.
pub(super) fn is_lost(status: &Status) -> bool {
    let lost = [
        Code::Unavailable,
        Code::Unknown,
        Code::Cancelled,
        Code::Internal,
        Code::DeadlineExceeded,
    ];
    lost.contains(&status.code()) && !is_refusal(status)
}

impl Caller {
    /// Asks once; connects first if need be.
    pub(super) async fn once<T, F>(
        &mut self,
        ask: impl FnOnce(SessionsClient<Channel>) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.once_on(|channel| ask(SessionsClient::new(channel)))
            .await
    }

    /// The same with the connection itself.
    pub(super) async fn once_on<T, F>(
        &mut self,
        ask: impl FnOnce(Channel) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let answer = async {
            let channel = match self.channel.clone() {
                Some(channel) => channel,
                None => {
                    let connecting = client::connect(&self.servers.endpoint(), None).await;
                    let failed =
                        |error: tonic::transport::Error| Status::unavailable(error.to_string());
                    connecting.map_err(failed)?
                }
            };
            self.channel = Some(channel.clone());
            let asking = timeout(Duration::from_secs(5), ask(channel)).await;
            asking.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
        };
        let answer = answer.await;
        match &answer {
            Err(status) if is_lost(status) => {
                self.channel = None;
                let wait = self.servers.fails(Some(status), &mut rand::rng());
                sleep(wait).await;
            }
            _ => self.servers.works(),
        }
        answer
    }

    /// Adds a call, whatever it takes; tells how long it took.
    pub(super) async fn add(&mut self, name: &str, port: u16) -> Duration {
        let began = Instant::now();
        let adding = async {
            loop {
                match self
                    .once(|mut it| async move { add(&mut it, call(name, port)).await })
                    .await
                {
                    Ok(_) => return,
                    // It was added, and the answer got lost.
                    Err(status) if status.code() == Code::AlreadyExists => return,
                    // The routers are not attached to it yet.
                    Err(status) if is_refusal(&status) => sleep(Duration::from_millis(20)).await,
                    Err(status) => assert!(is_lost(&status), "{status:?}"),
                }
            }
        };
        timeout(LONG, adding).await.expect("the call is added");
        began.elapsed()
    }

    /// All sessions and their revisions.
    pub(super) async fn all(&mut self) -> BTreeMap<String, u64> {
        self.until_answered(async |mut it| all_of(&mut it).await)
            .await
    }

    /// One that there is.
    pub(super) async fn get(&mut self, name: &str) -> v1::Session {
        self.until_answered(async |mut it| get(&mut it, name).await)
            .await
    }

    async fn until_answered<T, F>(&mut self, ask: impl Fn(SessionsClient<Channel>) -> F) -> T
    where
        F: Future<Output = Result<T, Status>>,
    {
        let asking = async {
            loop {
                if let Ok(answer) = self.once(&ask).await {
                    return answer;
                }
            }
        };
        timeout(LONG, asking).await.expect("a server leads")
    }
}
