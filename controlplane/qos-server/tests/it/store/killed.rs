//! The program and its store when it is killed, and when the disk refuses.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::common::*;
use tempfile::tempdir;
use tokio::{task::JoinSet, time::sleep};
use tonic::{Code, Status, transport::Channel};
use voicelane_proto::v1::{self, sessions_client::SessionsClient};

/// A program on a store, no longer than the test.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
        }
        let (_, address) = line.split_once("address=").unwrap();
        let address = address.split_whitespace().next().unwrap().parse().unwrap();
        std::thread::spawn(move || {
            let mut rest = String::new();
            // What it says matters to who looks at a failure.
            let _ = log.read_to_string(&mut rest);
            eprintln!("{rest}");
        });
        Self { child, address }
    }

    pub(crate) fn on(dir: &Path) -> Self {
        Self::start(&mut program(dir))
    }

    pub(crate) async fn client(&self) -> SessionsClient<Channel> {
        SessionsClient::connect(format!("http://{}", self.address))
            .await
            .unwrap()
    }
}

fn program(dir: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_voicelane-server"));
    program.arg("--data").arg(dir);
    program.args(["--listen", "127.0.0.1:0"]);
    program
}

/// What an agent knows of its sessions: the revisions that each may have; 0: it may be absent.
type Ledger = BTreeMap<String, Vec<u64>>;

/// What the workers of a round share.
#[derive(Default)]
struct Round {
    number: u16,
    ledger: Arc<Mutex<Ledger>>,
    /// The server is being killed, or has been.
    is_killed: AtomicBool,
}

/// Adds, modifies and deletes until the server is gone.
async fn work(mut client: SessionsClient<Channel>, worker: u16, round: Arc<Round>) {
    let number = round.number;
    for step in 0..400 {
        let name = format!("{worker}-{number}-{}", step / 3);
        let port = 10_000 + worker * 6_000 + number * 400 + step;
        let mut version = call(&name, 2 * (port / 2));
        let (wanted, done) = match step % 3 {
            0 => (1, add(&mut client, version).await.map(drop)),
            1 => {
                version.revision = 2;
                version.priority = 5;
                (2, modify(&mut client, version).await.map(drop))
            }
            // A third stays.
            _ if step % 9 == 2 => continue,
            _ => (0, delete(&mut client, &name).await.map(drop)),
        };
        if !round.note(name, wanted, done) {
            return;
        }
        sleep(Duration::from_millis(15)).await;
    }
}

impl Round {
    /// Notes what became of a change. False if that is not known, as the server has gone.
    fn note(&self, name: String, wanted: u64, done: Result<(), Status>) -> bool {
        let mut ledger = self.ledger.lock().unwrap();
        let known = ledger.entry(name).or_insert_with(|| vec![0]);
        let Err(status) = done else {
            *known = vec![wanted];
            return true;
        };
        let lost = [
            Code::Unavailable,
            Code::Unknown,
            Code::Cancelled,
            Code::Internal,
        ];
        assert!(lost.contains(&status.code()), "{status:?}");
        assert!(self.is_killed.load(Ordering::SeqCst), "{status:?}");
        known.push(wanted);
        false
    }
}

pub(crate) async fn all(client: &mut SessionsClient<Channel>) -> BTreeMap<String, u64> {
    all_of(client).await.unwrap()
}

/// All sessions and their revisions.
pub(crate) async fn all_of(
    client: &mut SessionsClient<Channel>,
) -> Result<BTreeMap<String, u64>, Status> {
    let mut sessions = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListSessionsRequest {
            page_size: 1_000,
            page_token,
            ..v1::ListSessionsRequest::default()
        };
        let page = client.list_sessions(request).await?.into_inner();
        for session in page.sessions {
            let spec = session.spec.unwrap();
            sessions.insert(spec.key.unwrap().session_id, spec.revision);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(sessions);
        }
    }
}

/// What a router has, with revisions.
pub(crate) fn table(router: &FakeRouter) -> BTreeMap<String, u64> {
    let sessions = router.sessions();
    let sessions = sessions.iter();
    sessions
        .map(|((_, name), it)| (name.clone(), it.revision))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_changes_loses_none_and_brings_none_back() {
    let folder = tempdir().unwrap();
    let a = FakeRouter::reaching("a", &["10.1.0.0/24"]).capacity(1_000_000);
    let b = FakeRouter::reaching("b", &["10.2.0.0/24"]).capacity(1_000_000);
    let ledger: Arc<Mutex<Ledger>> = Arc::default();
    for round in 0..10_u16 {
        let known = ledger.lock().unwrap().len();
        let mut server = Program::on(folder.path());
        let _streams = (
            a.attach(server.address).await,
            b.attach(server.address).await,
        );
        let desired = all(&mut server.client().await).await;
        for (name, may_be) in ledger.lock().unwrap().iter_mut() {
            let is = desired.get(name).copied().unwrap_or(0);
            assert!(
                may_be.contains(&is),
                "round {round}: {name} is {is}, not of {may_be:?}"
            );
            *may_be = vec![is];
        }
        // Routers are told of no other session, and have each as it is wanted.
        assert_eq!(table(&a), desired, "round {round}");
        assert_eq!(table(&b), desired, "round {round}");
        let mut workers = JoinSet::new();
        let shared = Arc::new(Round {
            number: round,
            ledger: ledger.clone(),
            ..Round::default()
        });
        for worker in 0..4 {
            workers.spawn(work(server.client().await, worker, shared.clone()));
        }
        eventually("enough changes", || {
            let names = ledger.lock().unwrap().len();
            async move { (names >= known + 11).then_some(()) }
        })
        .await;
        // At no particular moment.
        sleep(Duration::from_millis(u64::from(round) * 37)).await;
        shared.is_killed.store(true, Ordering::SeqCst);
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        while let Some(ended) = workers.join_next().await {
            ended.unwrap();
        }
    }
    assert!(
        ledger.lock().unwrap().len() > 100,
        "{}",
        ledger.lock().unwrap().len()
    );
}

#[tokio::test]
async fn a_start_that_fails_leaves_a_store_that_takes_nothing_from_routers() {
    let net = Network::start().await;
    let mut client = net.client.clone();
    add(&mut client, call("c1", 4000)).await.unwrap();
    let Network { server, a, .. } = net;
    server.stop().await;
    a.clear_log();
    let folder = tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut failing = Command::new(env!("CARGO_BIN_EXE_voicelane-server"));
    failing.arg("--data").arg(folder.path());
    failing.args(["--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(failing.output().unwrap().status.code(), Some(1));
    let server = Program::on(folder.path());
    let _a = a.attach(server.address).await;
    assert!(a.has("c1") && a.log().is_empty(), "{:?}", a.log());
}

#[tokio::test]
async fn server_and_router_killed_together_have_all_calls_back_without_the_agent() {
    let folder = tempdir().unwrap();
    let a = FakeRouter::reaching("a", &["10.1.0.0/24"]).capacity(1_000_000);
    let b = FakeRouter::reaching("b", &["10.2.0.0/24"]).capacity(1_000_000);
    let mut server = Program::on(folder.path());
    let streams = (
        a.attach(server.address).await,
        b.attach(server.address).await,
    );
    let mut adding = JoinSet::new();
    for worker in 0..10 {
        let mut client = server.client().await;
        adding.spawn(async move {
            for n in 0..100 {
                let n = worker * 100 + n;
                add(&mut client, call(&format!("c{n}"), 4_000 + 2 * n))
                    .await
                    .unwrap();
            }
        });
    }
    while let Some(added) = adding.join_next().await {
        added.unwrap();
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    drop(streams);
    let had = table(&a);
    assert_eq!(had.len(), 1_000);
    // A router that starts anew has none.
    let a = FakeRouter::reaching("a", &["10.1.0.0/24"]).capacity(1_000_000);
    b.clear_log();
    let server = Program::on(folder.path());
    let mut client = server.client().await;
    assert_eq!(list(&mut client).await.total, 1_000);
    let _a = a.attach(server.address).await;
    let _b = b.attach(server.address).await;
    assert_eq!(table(&a), had);
    assert!(b.log().is_empty(), "it has all");
    let session = get(&mut client, "c7").await.unwrap();
    assert_eq!(session.state(), v1::SessionState::Active);
}

#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn a_directory_that_cannot_be_one_is_told() {
    let folder = tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let server = Program::on(folder.path());
    let id = server.child.id().to_string();
    says(
        &program(folder.path()).output().unwrap(),
        &[path, "in use", &id, "one server at a time"],
    );
    for command in ["check", "export"] {
        says(
            &program(folder.path()).arg(command).output().unwrap(),
            &[path, "in use", &id, "voicelane call list"],
        );
    }
    drop(server);
    let other = tempdir().unwrap();
    std::fs::write(other.path().join("letter.txt"), "dear").unwrap();
    says(
        &program(other.path()).output().unwrap(),
        &["not empty", "no store", "`none`"],
    );
    says(
        &program(other.path()).arg("check").output().unwrap(),
        &["holds no store", "--data"],
    );
    // Not even root makes directories there.
    says(
        &program(Path::new("/sys/voicelane")).output().unwrap(),
        &["cannot create", "/sys/voicelane", "--data"],
    );
    std::fs::remove_file(folder.path().join("head")).unwrap();
    says(
        &program(folder.path()).output().unwrap(),
        &["damaged", "head", "voicelane-server check"],
    );
}

#[tokio::test]
async fn a_full_disk_ends_the_server_which_has_answered_nothing_that_it_lost() {
    let folder = tempdir().unwrap();
    // A file system of its own, which goes with the program.
    let script = "mount -t tmpfs -o size=600k none \"$2\" && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]);
    command.arg(env!("CARGO_BIN_EXE_voicelane-server"));
    command.args([
        "--data",
        folder.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ]);
    let mut server = Program::start(&mut command);
    let a = FakeRouter::reaching("a", &["10.1.0.0/24"]).capacity(1_000_000);
    let b = FakeRouter::reaching("b", &["10.2.0.0/24"]).capacity(1_000_000);
    let _streams = (
        a.attach(server.address).await,
        b.attach(server.address).await,
    );
    let mut client = server.client().await;
    let mut added = 0;
    for n in 0..5_000_u16 {
        let mut call = call(&format!("c{n}"), 4_000 + 2 * n);
        call.correlation_id = "x".repeat(250);
        if add(&mut client, call).await.is_err() {
            break;
        }
        added += 1;
    }
    assert!((10..5_000).contains(&added), "{added}");
    assert_eq!(server.child.wait().unwrap().code(), Some(3));
    // The one that was not answered was not told to routers.
    assert_eq!(a.sessions().len(), added);
}
