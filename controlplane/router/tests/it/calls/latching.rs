//! A caller behind NAT: the router learns who sends, against a QoS server that the test plays, and with the
//! real one. Needs root and all programs built.

use std::{fs, net::UdpSocket, time::Duration};

use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use voicelane_proto::v1::{
    AttachRequest, AttachResponse, Command, Endpoint, FlowEntry, FlowKind, GetSessionRequest,
    InstallSession, Latch, LatchedSource, MediaFlow, ReadSession, SessionKey, SessionSpec, Welcome,
    attach_request::Message as FromRouter,
    attach_response::Message as FromServer,
    command,
    command_result::Code,
    routers_server::{Routers, RoutersServer},
    sessions_client::SessionsClient,
};
use voicelane_testbed::{
    Capture, End, Namespace, RouterOptions, Site, TwoSites, topology::addresses,
};

use super::{metrics, reaches};
use crate::support::{BOUND, OneRouter, eventually};

type Outbox = mpsc::Sender<Result<AttachResponse, Status>>;

/// One attachment, seen from the server.
struct Stream {
    inbox: Streaming<AttachRequest>,
    outbox: Outbox,
}

struct Played(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl Routers for Played {
    type AttachStream = ReceiverStream<Result<AttachResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (outbox, outgoing) = mpsc::channel(100);
        let inbox = request.into_inner();
        self.0.send(Stream { inbox, outbox }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Stream {
    /// Waits for something that the router says.
    async fn wait<T>(&mut self, mut find: impl FnMut(FromRouter) -> Option<T>) -> T {
        let found = async {
            loop {
                let message = self.inbox.message().await.unwrap().unwrap();
                if let Some(found) = find(message.message.unwrap()) {
                    return found;
                }
            }
        };
        timeout(BOUND, found).await.unwrap()
    }

    async fn command(&mut self, command: command::Command) -> Vec<Option<Endpoint>> {
        let message = FromServer::Command(Command {
            command_id: 1,
            command: Some(command),
        });
        let message = AttachResponse {
            message: Some(message),
        };
        self.outbox.send(Ok(message)).await.unwrap();
        let result = self.wait(|message| match message {
            FromRouter::Result(result) => Some(result),
            _ => None,
        });
        let result = result.await;
        assert_eq!(result.code(), Code::Ok, "{result:?}");
        result.counters.into_iter().map(|it| it.source).collect()
    }

    async fn latched(&mut self) -> Vec<LatchedSource> {
        self.wait(|message| match message {
            FromRouter::Latched(latched) => Some(latched.sources),
            _ => None,
        })
        .await
    }
}

fn key() -> Option<SessionKey> {
    Some(SessionKey {
        agent_id: "test".into(),
        session_id: "behind-nat".into(),
    })
}

/// A call to the right, of which nobody knows who sends it.
fn install() -> command::Command {
    command::Command::Install(InstallSession {
        key: key(),
        revision: 1,
        fingerprint: 7,
        entries: vec![FlowEntry {
            kind: FlowKind::Rtp.into(),
            destination: Some(Endpoint {
                address: "10.9.0.2".into(),
                port: 4000,
            }),
            protocol: 17,
            dscp: 46,
            rate_bps: 800_000,
            burst_bytes: 3_000,
            ingress_interface: "lan".into(),
            latch: Some(Latch::default()),
            ..FlowEntry::default()
        }],
    })
}

/// Sends packets of a call, 10 ms apart, each with its number.
fn send(host: &Namespace, from: u16, numbers: std::ops::Range<u8>) {
    host.enter(|| {
        let socket = UdpSocket::bind(("0.0.0.0", from)).unwrap();
        for number in numbers {
            socket.send_to(&[number; 160], "10.9.0.2:4000").unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    })
    .unwrap();
}

/// A phone at 192.168.5.2 behind the left, which translates its addresses and ports.
fn phone(network: &OneRouter) -> Namespace {
    let phone = network.lab.namespace("phone").unwrap();
    let end = |namespace, interface| End {
        namespace,
        interface,
    };
    network
        .lab
        .link(end(&network.left, "inside"), end(&phone, "eth0"))
        .unwrap();
    let left = &network.left;
    left.ip("addr add 192.168.5.1/24 dev inside").unwrap();
    left.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let nat = network.lab.dir().join("nat.nft");
    let rules = "table ip nat {\nchain post {\ntype nat hook postrouting priority 100\n\
                 oifname eth0 ip saddr 192.168.5.0/24 masquerade random\n}\n}\n";
    fs::write(&nat, rules).unwrap();
    left.run("nft", &["-f", nat.to_str().unwrap()], BOUND)
        .unwrap();
    phone
        .ip("addr add 192.168.5.2/24 dev eth0\nroute add default via 192.168.5.1")
        .unwrap();
    phone
}

async fn the_first_source_has_the_lane(network: &OneRouter, phone: &Namespace) {
    let listener = TcpListener::bind("127.0.0.1:7400").await.unwrap();
    let (sender, mut streams) = mpsc::channel(1);
    let service = Server::builder().add_service(RoutersServer::new(Played(sender)));
    tokio::spawn(service.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let mut stream = timeout(BOUND, streams.recv()).await.unwrap().unwrap();
    let welcome = AttachResponse {
        message: Some(FromServer::Welcome(Welcome::default())),
    };
    stream.outbox.send(Ok(welcome)).await.unwrap();
    stream.command(install()).await;
    let read = || command::Command::Read(ReadSession { key: key() });
    assert_eq!(stream.command(read()).await, [None]);
    // Everybody's figures are a tenth of a second old at most.
    eventually("an entry that waits", || {
        network.metric("voicelane_latches_waiting") == 1.0
    });

    let capture = Capture::start(&network.lab, &network.right, "eth0", "udp port 4000").unwrap();
    send(phone, 6000, 0..50);
    let latched = stream.latched().await;
    let [learned] = latched.as_slice() else {
        panic!("{latched:?}")
    };
    let source = learned.source.clone().unwrap();
    assert_eq!(source.address, "10.1.0.10", "the translated one");
    // Somebody comes later, while the caller goes on.
    send(&network.left, 9999, 100..120);
    send(phone, 6000, 50..90);
    send(&network.left, 9999, 120..140);
    assert_eq!(stream.command(read()).await, [Some(source.clone())]);
    eventually("no entry that waits", || {
        network.metric("voicelane_latches_waiting") == 0.0
    });
    assert_eq!(network.metric("voicelane_latched_sources_total"), 1.0);
    assert_eq!(network.metric("voicelane_session_entries"), 1.0);

    let pcap = network.lab.dir().join("right-eth0.pcap");
    let fields = ["udp.srcport", "ip.dsfield.dscp", "data.data"];
    let rows = || Capture::fields(&pcap, "udp.dstport == 4000", &fields).unwrap_or_default();
    eventually("all packets", || rows().len() >= 130);
    let rows = rows();
    drop(capture);
    let mut calls = Vec::new();
    for row in &rows {
        let number = u8::from_str_radix(&row[2][..2], 16).unwrap();
        if number < 100 {
            assert_eq!(row[0], source.port.to_string());
            calls.push((number, row[1].clone()));
        } else {
            assert_eq!(row[1], "0", "{row:?}");
        }
    }
    assert_eq!(calls.len(), 90, "none is lost");
    let first = calls.iter().position(|(_, dscp)| dscp == "46").unwrap();
    assert!(first > 0, "nobody is known before he sends");
    println!("{first} packets before the lane");
    let lane = &calls[first..];
    assert!(lane.iter().all(|(_, dscp)| dscp == "46"), "{calls:?}");
    assert!(lane.len() >= 40, "{calls:?}");

    // A server that has forgotten hears it again, and the same installed again learns nothing else.
    drop(stream);
    let mut stream = timeout(BOUND * 2, streams.recv()).await.unwrap().unwrap();
    assert_eq!(stream.latched().await, latched);
    stream.command(install()).await;
    assert_eq!(stream.latched().await, latched);
    assert_eq!(stream.command(read()).await, [Some(source)]);
    // A router that starts anew learns anew.
    router.kill().unwrap();
    drop(stream);
    let mut router = network.start();
    network.reaches("10.9.0.2");
    let mut stream = timeout(BOUND * 2, streams.recv()).await.unwrap().unwrap();
    stream.command(install()).await;
    send(&network.left, 9999, 0..20);
    let latched = stream.latched().await;
    assert_eq!(latched[0].source.as_ref().unwrap().port, 9999);
    assert!(router.stop().unwrap().success(), "{}", router.log());
}

#[test]
fn a_caller_behind_nat_has_a_lane_after_his_first_packets() {
    let network = OneRouter::new("latching");
    let config = fs::read_to_string(&network.config).unwrap();
    let config = config.replace(
        "id = \"a\"",
        "id = \"a\"\nserver = \"http://127.0.0.1:7400\"",
    );
    fs::write(&network.config, config).unwrap();
    let phone = phone(&network);
    let play = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start({
                let router = network.router.clone();
                move || router.join_current_thread().unwrap()
            })
            .enable_all()
            .build();
        let script = the_first_source_has_the_lane(&network, &phone);
        runtime.unwrap().block_on(script);
    };
    network.router.enter(play).unwrap();
}

/// With the server: it asks the routers, hears what one has learned, and has both mark the call.
#[test]
fn the_server_installs_what_a_router_has_learned() {
    let sites = TwoSites::new("latch2").unwrap();
    let _server = sites.start_server().unwrap();
    let mut routers =
        Site::BOTH.map(|site| sites.start_router(site, &RouterOptions::default()).unwrap());
    for router in &mut routers {
        router.wait_attached().unwrap();
    }
    let (from, to) = (addresses::rtp(Site::A, 0), addresses::rtp(Site::B, 0));
    let send = |packets: u8| {
        let send = || {
            let socket = UdpSocket::bind(from).unwrap();
            for _ in 0..packets {
                let _ = socket.send_to(&[0; 160], to);
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        sites.caller.enter(send).unwrap();
    };
    // Neighbours, and sockets that do not refuse.
    let _callee = sites.callee.enter(|| UdpSocket::bind(to).unwrap()).unwrap();
    reaches(&sites, to.ip());
    let agent = sites.connect_agent().unwrap();
    let spec = SessionSpec {
        key: key(),
        revision: 1,
        flows: vec![MediaFlow {
            destination: Some(to.into()),
            max_bitrate_bps: 800_000,
            latch: Some(Latch::default()),
            ..MediaFlow::default()
        }],
        ..SessionSpec::default()
    };
    agent.add_session(spec).unwrap();
    let session = || {
        let mut client = SessionsClient::new(agent.channel());
        let request = GetSessionRequest { key: key() };
        let get = async move { client.get_session(request).await.unwrap().into_inner() };
        agent.runtime().run("the session", BOUND, get).unwrap()
    };
    let latched = || {
        let session = session().session.unwrap();
        let placement = session.placements.first().cloned();
        placement.and_then(|placement| placement.latched_source)
    };
    assert_eq!(latched(), None);
    send(10);
    eventually("the source", || latched() == Some(from.into()));
    eventually("the call on both routers", || {
        let marked = format!("kind=\"rtp\",source=\"{from}\",destination=\"{to}\"");
        Site::BOTH
            .iter()
            .all(|&site| metrics(&sites, site).contains(&marked))
    });
    let capture = Capture::start(&sites.lab, &sites.router_b, "u-core", "udp").unwrap();
    send(20);
    let name = format!("{}-u-core.pcap", sites.router_b.name());
    let pcap = sites.lab.dir().join(name);
    let filter = format!("udp.dstport == {}", to.port());
    let rows = || Capture::fields(&pcap, &filter, &["ip.dsfield.dscp"]).unwrap_or_default();
    eventually("twenty packets", || rows().len() >= 20);
    assert!(rows().iter().all(|row| row[0] == "46"), "{:?}", rows());
    drop(capture);
}
