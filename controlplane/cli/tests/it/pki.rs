//! `voicelane pki`.

use crate::{command::run_at, common::*};
use voicelane_identity::{Files, Role};
use voicelane_server::{
    engine::Settings,
    serve::{Transport, bind_socket},
};

#[tokio::test]
async fn certificates_are_issued_shown_renewed_and_revoked() {
    let dir = std::env::temp_dir().join(format!("voicelane-cli-pki-{}", std::process::id()));
    let (pki, out) = (dir.join("pki"), dir.join("r1"));
    let (pki, out) = (pki.display(), out.display());
    let at = |line: &str| format!("pki --authority {pki} {line}");
    let run = async |line: String| run_at("http://127.0.0.1:9", &line).await;

    run(at("show"))
        .await
        .fails(1, &["PKI", "voicelane pki init"]);
    run(at("init --domain example.net"))
        .await
        .shows(&["made an authority of example.net"]);
    run(at("init"))
        .await
        .fails(1, &["has an authority already"]);
    let issue = format!("issue router r1 --out {out}");
    run(at(&issue))
        .await
        .shows(&["spiffe://example.net/voicelane/router/r1"]);
    run(at(&issue))
        .await
        .fails(1, &["has a certificate already"]);
    run(at("issue router a/b")).await.fails(1, &["\"a/b\""]);
    run(at("issue router r2 --days 0"))
        .await
        .fails(1, &["1 to 3650"]);

    let shown = run(at("show --json")).await.json();
    let [certificate] = &shown["certificates"].as_array().unwrap()[..] else {
        panic!("{shown}")
    };
    assert_eq!(certificate["state"], "valid");
    assert_eq!(certificate["role"], "router");
    run(at(&format!("renew {out}")))
        .await
        .shows(&["r1", "valid"]);
    let first = run(at("show --json")).await.json();
    assert_eq!(first, shown, "not due");
    let renewed = run(at(&format!("renew --always {out} --json")))
        .await
        .json();
    let serial = renewed["certificates"][0]["serial"]
        .as_str()
        .unwrap()
        .to_owned();
    run(format!("pki show {out}")).await.shows(&[&serial]);
    run(at(&format!("revoke --serial {serial}")))
        .await
        .shows(&["revoked"]);
    run(at("revoke router r1")).await.shows(&["revoked"]);
    run(at("revoke router r1"))
        .await
        .fails(1, &["no certificate"]);
    run(at("revoke")).await.fails(2, &["<ROLE>"]);
    run(at("show")).await.shows(&["revoked"]);
    run("pki --help".into())
        .await
        .shows(&["renew", "crl.pem", "ca-key.pem"]);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_certificate_says_who_asks() {
    let pki = Pki::new();
    let transport = pki.transport();
    let server = TestServer::with_transport(Settings::default(), transport).await;
    let files = |role, id| {
        let Files { cert, key, ca } = pki.files(role, id);
        let [cert, key, ca] = [cert, key, ca].map(|file| file.display().to_string());
        format!("--cert {cert} --key {key} --ca {ca}")
    };
    let (alice, agent) = (files(Role::Operator, "alice"), files(Role::Agent, "sip"));
    let url = format!("https://{}", server.address);
    let run = async |line: String| run_at(&url, &line).await;
    run(format!("{alice} router list")).await.shows(&["ROUTER"]);
    run(format!("{agent} call list --agent sip"))
        .await
        .shows(&["CALL"]);
    run(format!("{agent} router list"))
        .await
        .fails(1, &["PERMISSION_DENIED", "agent/sip", "ListRouters"]);
    run(format!("{agent} call list --agent other"))
        .await
        .fails(1, &["PERMISSION_DENIED", "agent/sip"]);
    run("router list".into())
        .await
        .fails(2, &["https://", "cert, key and ca"]);
    run("router list --cert x --key y".into())
        .await
        .fails(2, &["ca is missing"]);
    let plain = format!("http://{}", server.address);
    run_at(&plain, &format!("{alice} router list"))
        .await
        .fails(2, &["https://"]);
    run_at(&plain, "router list")
        .await
        .fails(3, &["cannot reach"]);

    // On its own machine by the socket, without a certificate.
    let socket = pki.dir.join("server.sock");
    let transport = Transport {
        socket: Some(bind_socket(&socket).unwrap()),
        ..pki.transport()
    };
    let _local = TestServer::with_transport(Settings::default(), transport).await;
    let local = format!("unix://{}", socket.display());
    run_at(&local, "router list").await.shows(&["ROUTER"]);
    run_at(&local, "call delete c1")
        .await
        .fails(1, &["NOT_FOUND"]);

    pki.authority
        .revoke(Role::Operator, "alice", now())
        .unwrap();
    let fresh = TestServer::with_transport(Settings::default(), pki.transport()).await;
    run_at(
        &format!("https://{}", fresh.address),
        &format!("{alice} router list"),
    )
    .await
    .fails(3, &["cannot reach"]);
}
