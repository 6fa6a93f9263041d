//! The program with certificates: who is refused and what the log says, files that change, the socket and
//! the audit.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        SignatureScheme, client::ResolvesClientCert, pki_types::ServerName, sign::CertifiedKey,
    },
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use voicelane_identity::{Files, Role, client};
use voicelane_proto::v1::{self, operator_client::OperatorClient, sessions_client::SessionsClient};

use crate::common::*;

/// The program, and what it has logged.
pub(crate) struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
    pub(crate) address: std::net::SocketAddr,
}

impl Program {
    pub(crate) async fn start(files: &Files, crl: &Path, more: &[&str]) -> Self {
        let files = [
            ("--cert", &*files.cert),
            ("--key", &*files.key),
            ("--ca", &*files.ca),
            ("--crl", crl),
        ];
        let mut args = vec!["--listen", "127.0.0.1:0"];
        for (flag, file) in files {
            args.extend([flag, file.to_str().unwrap()]);
        }
        args.extend(more);
        Self::spawn(&args).await
    }

    pub(crate) async fn spawn(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_voicelane-server"))
            .args(["--data", "none", "--adopt-for", "0", "--log", "info"])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = (
            child.stderr.take().unwrap(),
            Arc::new(Mutex::new(String::new())),
        );
        let written = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut program = Self {
            child,
            log,
            address: "127.0.0.1:1".parse().unwrap(),
        };
        let line = program.says(&["listening", "address="]).await;
        let (_, address) = line.split_once("address=").unwrap();
        program.address = address.split_whitespace().next().unwrap().parse().unwrap();
        program
    }

    /// Waits for a line with all of these.
    pub(crate) async fn says(&self, parts: &[&str]) -> String {
        eventually(&format!("a line with {parts:?}"), || async {
            let log = self.log.lock().unwrap();
            let mut lines = log.lines();
            lines
                .find(|line| parts.iter().all(|part| line.contains(part)))
                .map(str::to_owned)
        })
        .await
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    async fn sessions(&self, files: &Files) -> SessionsClient<Channel> {
        SessionsClient::new(channel(self.address, Some(files)).await)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("{}", self.log.lock().unwrap());
        }
    }
}

/// Shows no certificate.
#[derive(Debug)]
struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn whoever_is_refused_is_in_the_log_with_the_reason() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = Program::start(&pki.files(Role::Server, "s1"), &pki.authority.crl(), &[]).await;
    let good = pki.files(Role::Agent, "test");
    let refused = async |files: &Files| {
        let endpoint = Channel::from_shared(format!("https://{}", server.address)).unwrap();
        // The server's no may come before or after the connection is thought to be there.
        if let Ok(channel) = client::connect(&endpoint, Some(files)).await {
            let answer = get(&mut SessionsClient::new(channel), "c1").await;
            assert_ne!(
                answer.unwrap_err().code(),
                Code::NotFound,
                "it was answered"
            );
        }
    };

    // No certificate.
    let mut config = client::config(&good).unwrap();
    config.client_auth_cert_resolver = Arc::new(Nobody);
    let tcp = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await;
    let read = tls.unwrap().read(&mut [0; 64]).await;
    assert!(read.is_err(), "{read:?}");
    server
        .says(&[
            "refused a connection",
            "nobody",
            "no certificate",
            "127.0.0.1:",
        ])
        .await;

    // Plain text.
    let mut plain = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    server
        .says(&["refused a connection", "does not speak TLS"])
        .await;

    // Another authority's.
    let stranger = Files {
        ca: good.ca.clone(),
        ..other.files(Role::Agent, "stranger")
    };
    refused(&stranger).await;
    server
        .says(&[
            "refused a connection",
            "agent/stranger",
            "not from this server's authority",
        ])
        .await;

    // One that has expired.
    refused(&pki.files_until(Role::Agent, "late", -5)).await;
    server
        .says(&["refused a connection", "agent/late", "has expired"])
        .await;

    // One that was taken back; the list is new.
    let thief = pki.files(Role::Agent, "thief");
    // Kept, so that there is a connection to close.
    let mut held = server.sessions(&thief).await;
    get(&mut held, "c1").await.unwrap_err();
    pki.authority.revoke(Role::Agent, "thief", now()).unwrap();
    server.signal("-HUP");
    server
        .says(&["closing a connection", "agent/thief", "is revoked"])
        .await;
    refused(&thief).await;
    server
        .says(&["refused a connection", "agent/thief", "is revoked"])
        .await;

    // Another role's.
    let mut router = server.sessions(&pki.files(Role::Router, "r1")).await;
    let answer = add(&mut router, call("c1", 4000)).await;
    assert_status(
        answer,
        Code::PermissionDenied,
        &["router/r1", "must not call AddSession"],
    );
    server
        .says(&["refused a call", "router/r1", "AddSession"])
        .await;
    let mut false_name = FakeRouter::reaching("r2", &["10.1.0.0/24"]);
    false_name.files = Some(pki.files(Role::Router, "r1"));
    let _stream = false_name.open(server.address).await;
    server
        .says(&[
            "refused a router",
            "router/r1",
            "must not attach as router",
            "r2",
        ])
        .await;

    // All the while the others are served.
    let answer = get(&mut server.sessions(&good).await, "c1").await;
    assert_status(answer, Code::NotFound, &["c1"]);
}

#[tokio::test]
async fn new_files_count_without_a_lost_stream_and_bad_ones_do_not() {
    let pki = Pki::new();
    let own = pki.files(Role::Server, "s1");
    let server = Program::start(&own, &pki.authority.crl(), &[]).await;
    let mut routers = Vec::new();
    for (id, prefix) in [("a", "10.1.0.0/24"), ("b", "10.2.0.0/24")] {
        let mut router = FakeRouter::reaching(id, &[prefix]);
        router.files = Some(pki.files(Role::Router, id));
        let stream = router.attach(server.address).await;
        routers.push((router, stream));
    }
    let files = pki.files(Role::Agent, "test");
    let mut agent = server.sessions(&files).await;
    add(&mut agent, call("c1", 4000)).await.unwrap();

    // A renewed certificate.
    let dir = own.cert.parent().unwrap();
    let renewed = pki.authority.renew(dir, true, now()).unwrap().unwrap();
    server.signal("-HUP");
    server.says(&["read certificate", &renewed.serial]).await;
    add(&mut agent, call("c2", 4002)).await.unwrap();
    add(&mut server.sessions(&files).await, call("c3", 4004))
        .await
        .unwrap();

    // A key that is not its own; a certificate that is none; a list that is none; another role's.
    let good = [&own.cert, &own.key].map(|file| fs::read(file).unwrap());
    let foreign = fs::read(&files.key).unwrap();
    let role = fs::read(&files.cert).unwrap();
    for (cert, key, reason) in [
        (&good[0][..], &foreign[..], "not a pair"),
        (b"no certificate", &good[1][..], "no certificate in PEM"),
        (&good[0][..], b"", "no private key in PEM"),
        (&role[..], &foreign[..], "a server's name is wanted"),
    ] {
        fs::write(&own.cert, cert).unwrap();
        fs::write(&own.key, key).unwrap();
        server.signal("-HUP");
        server.says(&["the one before is kept", reason]).await;
        let mut fresh = server.sessions(&files).await;
        assert_eq!(
            get(&mut fresh, "c1").await.unwrap().state(),
            v1::SessionState::Active
        );
    }
    let key = String::from_utf8(foreign).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(
        !server.log.lock().unwrap().contains(secret),
        "a key is in the log"
    );

    // All the while nobody lost a stream.
    fs::write(&own.cert, &good[0]).unwrap();
    fs::write(&own.key, &good[1]).unwrap();
    for (router, _) in &routers {
        assert!(router.ended().is_none(), "{} lost its stream", router.id);
    }
    add(&mut agent, call("c4", 4006)).await.unwrap();
}

#[tokio::test]
async fn operators_on_the_machine_use_the_socket_and_changes_are_noted() {
    let pki = Pki::new();
    let (socket, audit) = (pki.dir.join("server.sock"), pki.dir.join("audit.json"));
    let paths = [&socket, &audit].map(|path| path.to_str().unwrap().to_owned());
    let server = Program::start(
        &pki.files(Role::Server, "s1"),
        &pki.authority.crl(),
        &["--socket", &paths[0], "--audit", &paths[1]],
    )
    .await;
    let mut routers = Vec::new();
    for (id, prefix) in [("a", "10.1.0.0/24"), ("b", "10.2.0.0/24")] {
        let mut router = FakeRouter::reaching(id, &[prefix]);
        router.files = Some(pki.files(Role::Router, id));
        routers.push(router.attach(server.address).await);
    }
    let mut agent = server.sessions(&pki.files(Role::Agent, "test")).await;
    add(&mut agent, call("c1", 4000)).await.unwrap();
    let other = v1::SessionKey {
        agent_id: "other".into(),
        session_id: "x".into(),
    };
    let request = v1::DeleteSessionRequest { key: Some(other) };
    let denied = agent.delete_session(request).await;
    assert_status(
        denied.map(drop),
        Code::PermissionDenied,
        &["agent_id \"test\"", "agent/test"],
    );

    let local = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    let local = local.connect().await.unwrap();
    let mut client = OperatorClient::new(local.clone());
    let routers = client
        .list_routers(v1::ListRoutersRequest::default())
        .await
        .unwrap();
    assert_eq!(routers.into_inner().routers.len(), 2);
    let mut operator = SessionsClient::new(local);
    let denied = add(&mut operator, call("c2", 4002)).await;
    assert_status(
        denied,
        Code::PermissionDenied,
        &["local user", "AddSession"],
    );
    delete(&mut operator, "c1").await.unwrap();

    let lines = eventually("three changes noted", || async {
        let text = fs::read_to_string(&audit).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (lines.len() >= 3).then_some(lines)
    })
    .await;
    let line = |index: usize| {
        let it = &lines[index];
        let texts = ["who", "what", "agent_id", "session_id", "outcome"];
        texts.map(|key| it[key].as_str().unwrap_or_default().to_owned())
    };
    let agent = "spiffe://test/voicelane/agent/test";
    assert_eq!(line(0), [agent, "add", "test", "c1", "ok"]);
    assert_eq!(lines[0]["revision"], 1);
    assert_eq!(
        line(1),
        [agent, "delete", "other", "x", "permission_denied"]
    );
    assert_eq!(line(2)[1..], ["delete", "test", "c1", "ok"]);
    assert!(line(2)[0].starts_with("local user"), "{:?}", lines[2]);
    assert!(lines[0]["time"].as_str().unwrap().contains('T'));
    assert!(lines[1]["message"].as_str().unwrap().contains("agent_id"));

    server.signal("-TERM");
    eventually("the socket is gone", || async {
        (!socket.exists()).then_some(())
    })
    .await;
}

#[test]
fn files_that_make_no_server_are_told_before_it_starts() {
    let pki = Pki::new();
    let check = |files: &Files, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_voicelane-server"))
            .arg("--cert")
            .arg(&files.cert)
            .arg("--key")
            .arg(&files.key)
            .arg("--ca")
            .arg(&files.ca)
            .arg("--check-config")
            .args(more)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), text)
    };
    let good = pki.files(Role::Server, "s1");
    assert_eq!(check(&good, &[]).0, 0);
    assert_eq!(check(&good, &["--listen", "0.0.0.0:1"]).0, 0);
    for (files, part) in [
        (pki.files(Role::Agent, "x"), "a server's name is wanted"),
        (pki.files_until(Role::Server, "s2", -1), "has expired"),
        (
            Files {
                key: good.ca.clone(),
                ..good.clone()
            },
            "no private key in PEM",
        ),
        (
            Files {
                ca: pki.dir.join("none"),
                ..good.clone()
            },
            "No such file",
        ),
    ] {
        let (code, text) = check(&files, &[]);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let (code, text) = check(&good, &["--crl", good.ca.to_str().unwrap()]);
    assert_eq!(
        (code, text.contains("no list of revoked certificates")),
        (2, true),
        "{text}"
    );

    let (agent, store) = (pki.files(Role::Agent, "x"), pki.dir.join("store"));
    let output = Command::new(env!("CARGO_BIN_EXE_voicelane-server"))
        .args(["--listen", "127.0.0.1:0"])
        .arg("--data")
        .arg(&store)
        .arg("--cert")
        .arg(&agent.cert)
        .arg("--key")
        .arg(&agent.key)
        .arg("--ca")
        .arg(&agent.ca)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("a server's name is wanted"), "{text}");
    assert!(!store.exists(), "before the store is touched");

    let output = Command::new(env!("CARGO_BIN_EXE_voicelane-server"))
        .args(["--listen", "0.0.0.0:0"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--allow-plain-text"), "{text}");
}

#[tokio::test]
async fn plain_text_elsewhere_than_on_loopback_is_warned_of() {
    let server = Program::spawn(&["--listen", "0.0.0.0:0", "--allow-plain-text"]).await;
    server
        .says(&["WARN", "plain text", "anybody", "--allow-plain-text"])
        .await;
}
