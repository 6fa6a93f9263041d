//! `voicelane agent` against a real call agent, server and scripted routers.

use std::net::{SocketAddr, UdpSocket};

use voicelane_call_agent::{
    config::{Config, Optional},
    start::{Ready, Running},
};

use crate::command::{Ran, run_at};
use crate::common::*;

struct Agent {
    running: Running,
    hep: SocketAddr,
    operator: SocketAddr,
}

impl Agent {
    async fn start(net: &Network) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config {
            server: format!("http://{}", net.server.address),
            operator: Optional(Some(any)),
            metrics: Optional(None),
            ..Config::default()
        };
        config.hep.udp = vec![any];
        let ready = Ready::bind(config).await.unwrap();
        let (hep, operator) = (ready.hep_udp().unwrap(), ready.operator().unwrap());
        Self {
            running: ready.start(),
            hep,
            operator,
        }
    }

    async fn says(&self, line: &str) -> Ran {
        let api = format!("http://{}", self.operator);
        run_at(
            "http://127.0.0.1:9",
            &format!("agent {line} --agent-api {api}"),
        )
        .await
    }

    /// Waits until a part stands in what it says.
    async fn until(&self, line: &str, part: &str) -> Ran {
        eventually(part, || async {
            let ran = self.says(line).await;
            ran.stdout.contains(part).then_some(ran)
        })
        .await
    }

    fn send(&self, message: &str) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&hep(message), self.hep).unwrap();
    }
}

/// A HEP frame with chunks 11 (SIP) and 15.
fn hep(message: &str) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let mut frame = b"HEP3".to_vec();
    frame.extend(length(19 + message.len()));
    frame.extend(b"\0\0\0\x0b\0\x07\x01\0\0\0\x0f");
    frame.extend(length(6 + message.len()));
    frame.extend(message.as_bytes());
    frame
}

/// A message of a call's INVITE.
fn message(call: &str, start: &str, to_tag: &str, address: &str, port: u16) -> String {
    let sdp = format!("v=0\r\nc=IN IP4 {address}\r\nm=audio {port} RTP/AVP 8\r\n");
    format!(
        "{start}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{call}\r\nFrom: <sip:a@x>;tag=fa\r\n\
         To: <sip:b@x>{to_tag}\r\nCall-ID: {call}\r\nCSeq: 1 INVITE\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

const INVITE: &str = "INVITE sip:b@x SIP/2.0";
const OK: &str = "SIP/2.0 200 OK";

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_says_how_its_calls_stand_and_why() {
    let net = Network::start().await;
    let agent = Agent::start(&net).await;
    agent.until("status", "connected").await;
    agent.send(&message("good@x", INVITE, "", "10.1.0.5", 4_000));
    agent.send(&message("good@x", OK, ";tag=tb", "10.2.0.7", 5_000));
    // No router has this address.
    agent.send(&message("lost@x", INVITE, "", "10.1.0.5", 4_002));
    agent.send(&message("lost@x", OK, ";tag=tb", "203.0.113.7", 5_000));
    agent.send(&message("rings@x", INVITE, "", "10.1.0.5", 4_004));
    agent.send("nonsense");

    let status = agent
        .until(
            "status",
            "1 installed, 0 pending, 1 refused, 0 adopted, 0 reserved",
        )
        .await;
    let server = format!("server    http://{}: connected\n", net.server.address);
    status.shows(&[
        "agent     sip ",
        &server,
        "calls     3\n",
        "lost      0 datagrams dropped by the kernel, 0 messages of unknown senders\n",
        "refusals  1 NotFound\n",
        "6 sip, 1 bad_message",
    ]);

    let calls = agent.says("calls").await;
    calls.shows(&[
        "good@x",
        "confirmed",
        "installed",
        "10.1.0.5:4000 -> 10.2.0.7:5000 80 kbit/s",
        "10.2.0.7:5000 -> 10.1.0.5:4000 80 kbit/s",
        "refused",
        "NotFound: ",
        "203.0.113.7",
        "3 of 3 calls",
    ]);
    let troubled = agent.says("calls --troubled").await;
    troubled.shows(&["lost@x", "1 of 3 calls"]);
    assert!(!troubled.stdout.contains("good@x"), "{}", troubled.stdout);
    let some = agent.says("calls --contains good").await;
    some.shows(&["good@x", "1 of 3 calls"]);

    agent.says("explain good@x").await.shows(&[
        "call good@x\n",
        "200 INVITE",
        "audio 10.1.0.5 port 4000 8",
        "audio 10.2.0.7 port 5000 8",
        "not seen: ACK (needed only if it has SDP)\n",
        "dialog fa tb (confirmed)\n",
        "session good@x~",
        ": installed\n  10.1.0.5:4000 -> 10.2.0.7:5000 80 kbit/s\n",
    ]);
    agent.says("explain rings@x").await.shows(&[
        "not seen: any response to INVITE 1 on hop 1\n",
        "nobody has answered, so there is no session\n",
    ]);
    agent
        .says("explain nobody@x")
        .await
        .fails(1, &["NOT_FOUND", "no call \"nobody@x\" is known"]);
    let json = agent.says("status --json").await.json();
    assert_eq!(json["sessions"]["installed"], "1");
    agent.running.stop().await;
}
