//! The client against a server that the test plays, over a real connection.

use std::path::Path;

use rand::SeedableRng as _;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{Duration, sleep, timeout},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Streaming, transport::Server};
use voicelane_dataplane::control::{self, Answer};
use voicelane_proto::v1::{
    self, AttachRequest, AttachResponse, Command, InstallSession, InstalledSessions, SessionKey,
    Synchronised, Welcome,
    attach_request::Message as FromRouter,
    attach_response::Message as FromServer,
    command,
    command_result::Code,
    routers_server::{Routers, RoutersServer},
};

use super::*;
use crate::{
    config::{Config, EXAMPLE},
    dataplane::client::{Client, tests::fake},
    mirror::InterfaceView,
    sessions::{
        Sampling,
        entries::tests::{flow_entry, ways_in},
    },
};

/// One attachment, seen from the server.
struct Stream {
    inbox: Streaming<AttachRequest>,
    outbox: mpsc::Sender<Result<AttachResponse, tonic::Status>>,
}

struct Fake(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl Routers for Fake {
    type AttachStream = ReceiverStream<Result<AttachResponse, tonic::Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, tonic::Status> {
        let (outbox, outgoing) = mpsc::channel(1000);
        self.0
            .send(Stream {
                inbox: request.into_inner(),
                outbox,
            })
            .await
            .unwrap();
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Stream {
    async fn next(&mut self) -> FromRouter {
        let message = timeout(Duration::from_secs(5), self.inbox.message())
            .await
            .unwrap();
        message.unwrap().unwrap().message.unwrap()
    }

    async fn changes(&mut self) -> Vec<v1::InterfaceChange> {
        let FromRouter::InterfaceChanges(changes) = self.next().await else {
            panic!("changes of interfaces")
        };
        assert!(!changes.more && changes.gone.is_empty());
        changes.interfaces
    }

    async fn send(&self, message: FromServer) {
        self.outbox
            .send(Ok(AttachResponse {
                message: Some(message),
            }))
            .await
            .unwrap();
    }

    /// Hello, interfaces and all parts of what is installed, in this order.
    async fn introduction(&mut self) -> (v1::Hello, InterfaceReport, Vec<InstalledSessions>) {
        let FromRouter::Hello(hello) = self.next().await else {
            panic!("Hello is the first")
        };
        let FromRouter::Interfaces(report) = self.next().await else {
            panic!("then interfaces")
        };
        let mut parts = Vec::new();
        while !parts
            .last()
            .is_some_and(|part: &InstalledSessions| part.last)
        {
            let FromRouter::Installed(part) = self.next().await else {
                panic!("then sessions")
            };
            parts.push(part);
        }
        (hello, report, parts)
    }
}

/// The server's side, the view that the test changes, and what the agent says of itself.
struct Setup {
    streams: mpsc::Receiver<Stream>,
    view: watch::Sender<Arc<View>>,
    _links: watch::Sender<Vec<bool>>,
    attached: watch::Receiver<bool>,
}

async fn setup() -> Setup {
    setup_with(fake(|_| Answer::Session(Ok(())))).await
}

async fn setup_with(worker: Client) -> Setup {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Servers::parse(&url, None).unwrap();
    let (sender, streams) = mpsc::channel(1);
    let service = Server::builder().add_service(RoutersServer::new(Fake(sender)));
    tokio::spawn(service.serve_with_incoming(TcpListenerStream::new(listener)));

    let config = Config::parse(Path::new("x"), EXAMPLE, &[0]).unwrap();
    let up = InterfaceView {
        up: true,
        ..InterfaceView::default()
    };
    let view = View {
        interfaces: vec![up.clone(), up.clone(), up],
        ..View::default()
    };
    let (view, view_receiver) = watch::channel(Arc::new(view));
    let (links, links_receiver) = watch::channel(vec![true, true]);
    let interfaces = Interfaces {
        ports: config.ports.into(),
        view: view_receiver,
        links: links_receiver,
    };
    let identity = Identity {
        router_id: "a".into(),
        epoch: 7,
        entry_capacity: 100,
    };
    let sessions = Arc::new(Sessions::new(worker, ways_in(), Sampling::ALL));
    let agent = Agent::new(server, None, identity, interfaces, sessions);
    let attached = agent.attached();
    tokio::spawn(agent.run());
    Setup {
        streams,
        view,
        _links: links,
        attached,
    }
}

fn install(number: u32) -> FromServer {
    let install = InstallSession {
        key: Some(SessionKey {
            agent_id: "x".into(),
            session_id: format!("{number:05}"),
        }),
        revision: 3,
        fingerprint: u64::from(number),
        entries: vec![flow_entry(number + 1)],
    };
    FromServer::Command(Command {
        command_id: number.into(),
        command: Some(command::Command::Install(install)),
    })
}

#[tokio::test]
async fn it_introduces_itself_obeys_in_order_and_comes_back_with_what_it_has() {
    let mut setup = setup().await;
    let mut stream = setup.streams.recv().await.unwrap();
    let (hello, report, parts) = stream.introduction().await;
    assert_eq!(
        (hello.router_id.as_str(), hello.epoch, hello.entry_capacity),
        ("a", 7, 100)
    );
    let names: Vec<_> = report
        .interfaces
        .iter()
        .map(|it| (it.name.as_str(), it.vlan_id, it.port.as_str(), it.up))
        .collect();
    assert_eq!(
        names,
        [
            ("lan", 0, "lan", true),
            ("core", 0, "core", true),
            ("phones", 100, "lan", true)
        ]
    );
    assert_eq!(report.interfaces[2].rate_bps, 1_000_000_000, "its port's");
    assert_eq!(report.interfaces[1].ef_budget_bps, 50_000_000);
    assert_eq!(
        parts,
        [InstalledSessions {
            sessions: Vec::new(),
            last: true
        }]
    );

    stream.send(FromServer::Welcome(Welcome::default())).await;
    for number in 0..700 {
        stream.send(install(number)).await;
    }
    for number in 0..700 {
        let FromRouter::Result(result) = stream.next().await else {
            panic!("a result")
        };
        assert_eq!((result.command_id, result.code()), (number, Code::Ok));
    }
    assert!(!*setup.attached.borrow());
    stream
        .send(FromServer::Synchronised(Synchronised::default()))
        .await;
    timeout(
        Duration::from_secs(5),
        setup.attached.wait_for(|attached| *attached),
    )
    .await
    .unwrap()
    .unwrap();

    drop(stream);
    let mut stream = setup.streams.recv().await.unwrap();
    assert!(!*setup.attached.borrow());
    let (hello, _, parts) = stream.introduction().await;
    assert_eq!(hello.epoch, 7);
    assert_eq!(
        parts
            .iter()
            .map(|part| part.sessions.len())
            .collect::<Vec<_>>(),
        [500, 200]
    );
    let last = parts[1].sessions.last().unwrap();
    assert_eq!((last.revision, last.fingerprint), (3, 699));
}

/// The connection goes while the worker still carries out commands: the next one hears what they have led to,
/// and no result of theirs, as its own commands have the same numbers.
#[tokio::test]
async fn results_of_a_lost_attachment_are_not_told_on_the_next() {
    let (turns, turn) = std::sync::mpsc::channel();
    let worker = fake(move |request| match request {
        control::Request::Report(report) => Answer::Report(report),
        _ => {
            turn.recv().unwrap();
            Answer::Session(Ok(()))
        }
    });
    let mut setup = setup_with(worker).await;
    let mut stream = setup.streams.recv().await.unwrap();
    stream.introduction().await;
    stream.send(FromServer::Welcome(Welcome::default())).await;
    for number in 0..13 {
        stream.send(install(number)).await;
    }
    for _ in 0..10 {
        turns.send(()).unwrap();
    }
    for number in 0..10 {
        let FromRouter::Result(result) = stream.next().await else {
            panic!("a result")
        };
        assert_eq!(result.command_id, number);
    }
    drop(stream);
    // Not before the worker has done what it was told.
    let early = timeout(Duration::from_millis(500), setup.streams.recv()).await;
    assert!(early.is_err(), "attached with commands under way");
    for _ in 0..200 {
        turns.send(()).unwrap();
    }
    let mut stream = setup.streams.recv().await.unwrap();
    let (_, _, parts) = stream.introduction().await;
    assert_eq!(parts[0].sessions.len(), 13);
    stream.send(FromServer::Welcome(Welcome::default())).await;
    for number in 0..20 {
        stream.send(install(number)).await;
    }
    for number in 0..20 {
        let FromRouter::Result(result) = stream.next().await else {
            panic!("a result")
        };
        assert_eq!((result.command_id, result.code()), (number, Code::Ok));
    }
}

#[tokio::test]
async fn changes_of_interfaces_are_told_once_and_together() {
    let mut setup = setup().await;
    let mut stream = setup.streams.recv().await.unwrap();
    stream.introduction().await;
    let change = |prefix: &str| {
        setup.view.send_modify(|view| {
            let mut new = View::clone(view);
            new.interfaces[0].prefixes.push(prefix.parse().unwrap());
            *view = Arc::new(new);
        });
    };
    change("10.1.0.0/24");
    change("10.7.0.0/16");
    let changes = stream.changes().await;
    assert_eq!(changes.len(), 1, "others are as they were");
    assert_eq!(changes[0].interface.as_ref().unwrap().name, "lan");
    assert_eq!(changes[0].added_prefixes, ["10.1.0.0/24", "10.7.0.0/16"]);

    // What the server is not told of is no change for it.
    setup.view.send_modify(|view| {
        let routes = view.routes + 1;
        *view = Arc::new(View {
            routes,
            ..View::clone(view)
        });
    });
    sleep(Duration::from_millis(200)).await;
    change("10.8.0.0/16");
    let changes = stream.changes().await;
    assert_eq!(changes[0].added_prefixes, ["10.8.0.0/16"]);
    setup.view.send_modify(|view| {
        let mut new = View::clone(view);
        new.interfaces[0].prefixes.remove(0);
        new.interfaces[1].up = false;
        *view = Arc::new(new);
    });
    let changes = stream.changes().await;
    assert_eq!(changes[0].removed_prefixes, ["10.1.0.0/24"]);
    assert!(!changes[1].interface.as_ref().unwrap().up && changes[1].removed_prefixes.is_empty());
}

/// A full Internet table: in parts at first, then a route that changes is one small message.
#[test]
fn a_full_table_is_reported_in_parts_and_a_change_by_itself() {
    let config = Config::parse(Path::new("x"), EXAMPLE, &[0]).unwrap();
    let seen = |routes: std::ops::Range<u32>| {
        let net =
            |n| ipnet::Ipv4Net::new(std::net::Ipv4Addr::from_bits((16_u32 << 24) + (n << 8)), 24);
        let full = InterfaceView {
            prefixes: routes.map(|n| net(n).unwrap().into()).collect(),
            ..InterfaceView::default()
        };
        let view = View {
            interfaces: vec![InterfaceView::default(), full, InterfaceView::default()],
            ..View::default()
        };
        Seen {
            view: Arc::new(view),
            links: vec![true, true],
        }
    };
    let before = seen(0..1_000_000);
    let parts = before.parts(&config.ports);
    let sizes: Vec<usize> = parts.iter().map(prost::Message::encoded_len).collect();
    let whole = prost::Message::encoded_len(&before.report(&config.ports));
    assert!(sizes.iter().all(|size| *size < 1 << 20), "{sizes:?}");
    assert!(parts.iter().rev().skip(1).all(|part| part.more) && !parts.last().unwrap().more);
    let prefixes = |part: &InterfaceReport| {
        part.interfaces
            .iter()
            .map(|it| it.prefixes.len())
            .sum::<usize>()
    };
    assert_eq!(parts.iter().map(prefixes).sum::<usize>(), 1_000_000);
    let changes = seen(1..1_000_001).changes_since(&before, &config.ports);
    let [change] = &changes[..] else {
        panic!("one message");
    };
    let size = prost::Message::encoded_len(change);
    eprintln!(
        "whole {whole} B; {} parts; a route gone, another come: {size} B",
        parts.len()
    );
    assert!(whole > 14_000_000 && size < 200, "{whole} B, {size} B");
    assert!(before.changes_since(&before, &config.ports).is_empty());
    // All of it gone: in parts, too.
    let gone = seen(0..0).changes_since(&before, &config.ports);
    assert!(
        gone.iter()
            .all(|part| prost::Message::encoded_len(part) < 1 << 20)
    );
    let removed = |it: &v1::InterfaceChanges| {
        let all = it.interfaces.iter();
        all.map(|it| it.removed_prefixes.len()).sum::<usize>()
    };
    assert_eq!(gone.iter().map(removed).sum::<usize>(), 1_000_000);
}

/// A leader that was cut off goes on: its stream ends before it can command anything.
#[tokio::test]
async fn a_stream_of_an_earlier_leader_is_dropped() {
    let mut setup = setup().await;
    let welcome = |term| {
        FromServer::Welcome(Welcome {
            server_epoch: 9,
            term,
            ..Welcome::default()
        })
    };
    let mut stream = setup.streams.recv().await.unwrap();
    stream.introduction().await;
    stream.send(welcome(4)).await;
    stream.send(install(1)).await;
    assert!(matches!(stream.next().await, FromRouter::Result(_)));
    drop(stream);
    let mut stale = setup.streams.recv().await.unwrap();
    stale.introduction().await;
    stale.send(welcome(3)).await;
    stale.send(install(2)).await;
    let answer = timeout(Duration::from_secs(5), stale.inbox.message()).await;
    assert!(!matches!(answer.unwrap(), Ok(Some(_))), "it obeyed");
    let mut stream = setup.streams.recv().await.unwrap();
    let (_, _, parts) = stream.introduction().await;
    assert_eq!(parts[0].sessions.len(), 1, "as the later leader wanted");
    stream.send(welcome(4)).await;
    stream.send(install(3)).await;
    assert!(matches!(stream.next().await, FromRouter::Result(_)));
}

#[test]
fn a_router_that_is_replaced_says_by_whom() {
    let status = tonic::Status::aborted("router a attached again from 192.0.2.1:1");
    let words = Detached::from(status).to_string();
    assert!(
        words.contains("another router with the same id") && words.contains("192.0.2.1:1"),
        "{words}"
    );
    let lost = Detached::from(tonic::Status::unavailable("gone"));
    assert!(lost.to_string().starts_with("gone ("), "{lost}");
}

#[test]
fn attachments_that_do_not_last_are_further_and_further_apart() {
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    let mut longest_after = |lasted| {
        let mut servers = Servers::of(vec!["http://127.0.0.1:7400".parse().unwrap()]);
        let waits = (0..64).map(|_| {
            count_success(&mut servers, lasted);
            servers.fails(None, &mut rng)
        });
        waits.max().unwrap()
    };
    assert!(longest_after(Duration::ZERO) > LONGEST_WAIT / 2);
    assert!(longest_after(LASTING - Duration::from_millis(1)) > LONGEST_WAIT / 2);
    assert!(longest_after(LASTING) <= Duration::from_millis(100));
}
