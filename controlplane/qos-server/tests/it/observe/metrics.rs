//! The server's own figures, its health, its epoch, and routers that do not answer.

use std::time::Duration;

use crate::{common::*, families::assert_families};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use voicelane_proto::v1;
use voicelane_server::{
    cluster::{Role, Tenure, lead::Boot},
    engine::Settings,
    grpc::parse,
    serve::{Transport, bind_metrics, serve_metrics},
};

/// The figures, as `GET /metrics` has them.
async fn scrape(address: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn metrics_of(server: &TestServer) -> std::net::SocketAddr {
    metrics_as(server, Role::Alone).await
}

async fn metrics_as(server: &TestServer, role: Role) -> std::net::SocketAddr {
    let listener = bind_metrics("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_metrics(server.engine.clone(), role, listener));
    address
}

#[track_caller]
fn shows(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|it| it == *line), "no {line:?} in\n{text}");
    }
}

#[tokio::test]
async fn the_figures_are_served() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: Duration::from_millis(300),
        ..Settings::default()
    };
    let mut net = Network::on(TestServer::with(settings).await).await;
    let address = metrics_of(&net.server).await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    add(&mut net.client, call("c2", 4002)).await.unwrap();
    delete(&mut net.client, "c2").await.unwrap();
    delete(&mut net.client, "c2").await.unwrap_err();
    add(&mut net.client, spec("c3", vec![])).await.unwrap_err();
    let delay = Duration::from_millis(80);
    net.server.engine.metrics().path_delay(["a", "b"], delay);
    let text = scrape(address).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    shows(
        &text,
        &[
            r#"voicelane_server_changes_total{kind="add",code="ok"} 2"#,
            r#"voicelane_server_changes_total{kind="add",code="invalid_argument"} 1"#,
            r#"voicelane_server_changes_total{kind="delete",code="not_found"} 1"#,
            r#"voicelane_server_change_duration_seconds_count{kind="add"} 3"#,
            r#"voicelane_server_commands_total{command="install",answer="done"} 4"#,
            r#"voicelane_server_command_duration_seconds_count{command="remove"} 2"#,
            r#"voicelane_server_sessions{state="active"} 1"#,
            r#"voicelane_server_routers{state="synchronised"} 2"#,
            "voicelane_server_outstanding_commands 0",
            "voicelane_server_queued_commands 0",
            "voicelane_server_watchers 0",
            // Two routers' and an agent's.
            "voicelane_server_connections 3",
            "voicelane_server_serving 1",
        ],
    );
    assert_families(&text, include_str!("../metrics.txt"));
    // Names from outside are no labels.
    assert!(!text.contains("c1") && !text.contains("\"test\""), "{text}");

    // One that does not answer is mute, and its command outstanding, when nobody waits any more.
    net.b.behave(|_| Manner::Silent);
    add(&mut net.client, call("c4", 4004)).await.unwrap_err();
    let text = scrape(address).await;
    shows(
        &text,
        &[
            r#"voicelane_server_commands_total{command="install",answer="late"} 1"#,
            r#"voicelane_server_routers{state="mute"} 1"#,
            "voicelane_server_outstanding_commands 2",
        ],
    );
    let operator = net.server.operator().await;
    let b = || {
        let mut operator = operator.clone();
        async move {
            let request = v1::GetRouterRequest {
                router_id: "b".into(),
            };
            let answer = operator.get_router(request).await.unwrap();
            answer.into_inner().router.unwrap()
        }
    };
    let mute = b().await;
    assert_eq!(mute.state(), v1::RouterState::Mute);
    assert_eq!(mute.outstanding_commands, 2);
    assert!(mute.owes_answer_ms.unwrap() >= 300, "{mute:?}");
    // It answers after all.
    net.b.behave(|_| Manner::Obey);
    net.b.break_silence(&net.b_stream).await;
    eventually("synchronised again", || async {
        let router = b().await;
        let well = router.state() == v1::RouterState::Synchronised;
        (well && router.owes_answer_ms.is_none()).then_some(())
    })
    .await;
    shows(
        &scrape(address).await,
        &["voicelane_server_outstanding_commands 0"],
    );
}

/// Callers who go away leave nothing of theirs behind.
#[tokio::test]
async fn cancelled_explanations_leave_nothing_behind() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.b.behave(|_| Manner::Silent);
    let operator = net.server.operator().await;
    for _ in 0..20 {
        let mut operator = operator.clone();
        let request = v1::ExplainSessionRequest { key: key("c1") };
        let asked = net.b.log().len();
        let call = tokio::spawn(async move { operator.explain_session(request).await });
        net.b.until("asked", |b| b.log().len() > asked).await;
        call.abort();
    }
    let waiting = || async { (net.server.engine.snapshot().await.waiters == 0).then_some(()) };
    eventually("nobody waits", waiting).await;
    assert_eq!(net.server.engine.snapshot().await.outstanding, 20);
}

#[tokio::test]
async fn agents_are_told_the_epoch() {
    let mut net = Network::start().await;
    let epoch = net.server.engine.epoch();
    let told = |metadata: &tonic::metadata::MetadataMap| {
        let text = metadata.get("voicelane-server-epoch").expect("the epoch");
        assert_eq!(text.to_str().unwrap(), epoch.to_string());
    };
    let spec = Some(call("c1", 4000));
    let added = net.client.add_session(v1::AddSessionRequest { spec }).await;
    let added = added.unwrap();
    told(added.metadata());
    assert_eq!(added.into_inner().server_epoch, epoch);
    let request = v1::GetSessionRequest { key: key("c1") };
    let got = net.client.get_session(request).await.unwrap();
    assert_eq!(got.into_inner().server_epoch, epoch);
    assert_eq!(list(&mut net.client).await.server_epoch, epoch);
    let spec = Some(v1::SessionSpec {
        revision: 2,
        ..call("c1", 4000)
    });
    let modified = net.client.modify_session(v1::ModifySessionRequest { spec });
    assert_eq!(modified.await.unwrap().into_inner().server_epoch, epoch);
    let request = v1::DeleteSessionRequest { key: key("c1") };
    let deleted = net.client.delete_session(request.clone()).await.unwrap();
    assert_eq!(deleted.into_inner().server_epoch, epoch);
    // Refusals tell it, too: NOT_FOUND after a restart is how an agent learns of it.
    let refused = net.client.delete_session(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    told(refused.metadata());
    let request = v1::WatchSessionsRequest::default();
    told(net.client.watch_sessions(request).await.unwrap().metadata());
}

#[tokio::test]
async fn a_server_that_stops_is_not_serving() {
    let server = TestServer::start().await;
    let mut client = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest {
        service: "voicelane.v1.Sessions".into(),
    };
    let mut health = client
        .watch(Request::new(request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        health.message().await.unwrap().unwrap().status,
        1,
        "serving"
    );
    let stopping = tokio::spawn(server.stop());
    let status = health.message().await.unwrap().unwrap().status;
    assert_eq!(status, 2, "not serving");
    drop((health, client));
    stopping.await.unwrap();
}

/// As one that was stopped and goes on: the clock says so before any of its tasks does.
#[tokio::test]
async fn a_leader_whose_time_is_over_is_not_serving() {
    let tenure = Tenure::until(Boot::now().plus(Duration::from_secs(3_600)));
    let role = Role::Leads(tenure.clone());
    let transport = Transport {
        role: role.clone(),
        ..Transport::default()
    };
    let server = TestServer::with_transport(Settings::default(), transport).await;
    let address = metrics_as(&server, role).await;
    let mut client = HealthClient::new(server.channel().await);
    let mut health = async || {
        let request = HealthCheckRequest::default();
        let checked = client.check(request.clone()).await.unwrap();
        let watched = client.watch(request).await.unwrap();
        let watched = watched.into_inner().message().await.unwrap().unwrap();
        (checked.into_inner().status, watched.status)
    };
    assert_eq!(health().await, (1, 1), "serving");
    shows(&scrape(address).await, &["voicelane_server_serving 1"]);
    tenure.end();
    assert_eq!(health().await, (2, 2), "not serving");
    shows(&scrape(address).await, &["voicelane_server_serving 0"]);
}

/// Each has its turn in the order in which they came, and one alone is woken for it.
#[tokio::test]
async fn changes_of_one_session_keep_their_order() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    let engine = &net.server.engine;
    let modify = |revision| {
        let spec = Some(v1::SessionSpec {
            revision,
            ..call("c1", 4000)
        });
        engine.modify(parse::spec(spec).unwrap())
    };
    let all = futures_util::future::join_all((2..1_002).map(modify)).await;
    let refused = all.iter().filter(|it| it.is_err()).count();
    assert_eq!(refused, 0, "of 1,000 changes in order");
}
