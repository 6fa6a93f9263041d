//! What an operator sees: gRPC, health, metrics.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use voicelane_proto::v1::{self, call_agent_client::CallAgentClient};

use crate::families::assert_families;

use super::{
    frames::{Call, frame},
    world::{PATIENCE, Program, World},
};

fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_calls_messages_and_what_is_missing() {
    let mut world = World::start().await;
    let agent = Program::start(world.server.address, &["--metrics", "127.0.0.1:0"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |message: &str| {
        socket.send_to(&frame(message, b""), agent.hep).unwrap();
    };
    // The ACK and the second hop's INVITE are lost.
    for (at, message) in Call(1).begin().iter().enumerate() {
        if ![3, 4].contains(&at) {
            send(message);
        }
    }
    send("nonsense");
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"HEP3 nonsense", agent.hep).unwrap();
    let mut expected = Call(1).flows().to_vec();
    expected.sort();
    world.until("it stands", &expected).await;

    let url = format!("http://{}", agent.operator.unwrap());
    let mut client = CallAgentClient::connect(url.clone()).await.unwrap();
    let request = v1::ExplainCallRequest {
        call_id: "call-1".into(),
    };
    let explained = client.explain_call(request).await.unwrap().into_inner();
    let what: Vec<_> = explained
        .messages
        .iter()
        .map(|of| of.what.as_str())
        .collect();
    assert_eq!(what, ["INVITE", "180 INVITE", "200 INVITE", "200 INVITE"]);
    assert_eq!(explained.messages[0].sdp, "audio 10.1.0.5 port 10002 8");
    let missing = explained.missing.join("; ");
    assert!(
        missing.contains("INVITE 1 on hop 2: its response came alone"),
        "{missing}"
    );
    assert!(missing.contains("ACK"), "{missing}");
    let dialog = &explained.call.unwrap().dialogs[0];
    assert_eq!(
        (dialog.state.as_str(), dialog.flows.len()),
        ("confirmed", 2)
    );
    tokio::time::sleep(Duration::from_millis(50)).await;

    let request = v1::ListCallsRequest {
        contains: "call-1".into(),
        ..v1::ListCallsRequest::default()
    };
    let calls = client.list_calls(request).await.unwrap().into_inner();
    assert_eq!((calls.calls.len(), calls.total), (1, 1));
    assert_eq!(calls.calls[0].dialogs[0].session_state, "installed");
    let request = v1::ExplainCallRequest {
        call_id: "other".into(),
    };
    let status = client.explain_call(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("no call \"other\" is known"));

    let status = client
        .get_agent_status(v1::GetAgentStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(status.server_connected);
    assert_eq!(status.sessions.unwrap().installed, 1);
    let bad = |name: &str| {
        let messages = &status.senders[0].messages;
        messages.iter().find(|of| of.name == name).unwrap().count
    };
    assert_eq!(
        (bad("sip"), bad("bad_message"), bad("bad_frame")),
        (5, 1, 1)
    );

    let text = scrape(agent.metrics.unwrap());
    for line in [
        "voicelane_agent_messages_total{sender=\"local\",outcome=\"sip\"} 5",
        "voicelane_agent_sessions{state=\"installed\"} 1",
        "voicelane_agent_calls 1",
        "voicelane_agent_session_seconds_count 1",
        "voicelane_agent_server_connected 1",
        "voicelane_agent_kernel_dropped_datagrams_total 0",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert_families(&text, include_str!("../metrics.txt"));

    let mut health = HealthClient::new(
        tonic::transport::Channel::from_shared(url)
            .unwrap()
            .connect_lazy(),
    );
    let mut becomes = async |wanted: i32| {
        let wait = async {
            loop {
                let request = HealthCheckRequest::default();
                if health.check(request).await.unwrap().into_inner().status == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    };
    // SERVING while the server can be reached, NOT_SERVING then.
    becomes(1).await;
    world.server.stop().await;
    becomes(2).await;
}
