//! A server whose certificate runs out, and an authority that makes way for another one.

use std::fs;

use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use voicelane_identity::{Files, Role, client, server::Trust};
use voicelane_proto::v1::sessions_client::SessionsClient;
use voicelane_server::{engine::Settings, serve::Transport};
use voicelane_types::with_causes;

use super::files::Program;
use crate::common::*;

async fn connect(address: std::net::SocketAddr, files: &Files) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    let connected = client::connect(&endpoint, Some(files)).await;
    connected.map_err(|error| with_causes(&error))
}

#[tokio::test]
async fn a_server_whose_certificate_has_expired_is_refused() {
    let pki = Pki::new();
    let own = pki.files_until(Role::Server, "s1", 6);
    let trust = Trust::load(&own, None).unwrap();
    let (_keep, trust) = tokio::sync::watch::channel(trust.into());
    let transport = Transport {
        trust: Some(trust),
        ..Transport::default()
    };
    let server = TestServer::with_transport(Settings::default(), transport).await;
    let files = pki.files(Role::Agent, "test");
    let mut before = SessionsClient::new(connect(server.address, &files).await.unwrap());
    let refused = eventually("refused", || async {
        connect(server.address, &files).await.err()
    })
    .await;
    assert!(refused.to_lowercase().contains("expired"), "{refused}");
    let answer = get(&mut before, "c1").await;
    assert_status(answer, Code::NotFound, &["c1"]);
}

#[tokio::test]
async fn an_authority_makes_way_for_another_without_a_lost_call() {
    let (old, new) = (Pki::new(), Pki::new());
    let authority = |pki: &Pki| fs::read(pki.files(Role::Agent, "ca").ca).unwrap();
    let both = [authority(&old), authority(&new)].concat();
    // While one takes the place of the other, everybody trusts both.
    let trusting = |pki: &Pki, role, id: &str| {
        let files = pki.files(role, id);
        fs::write(&files.ca, &both).unwrap();
        files
    };
    let own = trusting(&old, Role::Server, "s1");
    let server = Program::start(&own, &old.authority.crl(), &[]).await;
    let mut routers = Vec::new();
    for (id, prefix, pki) in [("a", "10.1.0.0/24", &old), ("b", "10.2.0.0/24", &new)] {
        let mut router = FakeRouter::reaching(id, &[prefix]);
        router.files = Some(trusting(pki, Role::Router, id));
        let stream = router.attach(server.address).await;
        routers.push((router, stream));
    }
    let agent = trusting(&new, Role::Agent, "test");
    let mut client = SessionsClient::new(connect(server.address, &agent).await.unwrap());
    add(&mut client, call("c1", 4000)).await.unwrap();

    // The server's certificate of the new one, which alone counts from now on.
    let renewed = new.files(Role::Server, "s1");
    for (from, to) in [
        (&renewed.cert, &own.cert),
        (&renewed.key, &own.key),
        (&renewed.ca, &own.ca),
    ] {
        fs::write(to, fs::read(from).unwrap()).unwrap();
    }
    server.signal("-HUP");
    server
        .says(&["closing a connection", "router/a", "authority"])
        .await;
    let (a, _) = &mut routers[0];
    a.until("without its stream", |router| router.ended().is_some())
        .await;
    assert!(a.has("c1"), "nothing was removed");
    let commands = a.log().len();
    a.files = Some(new.files(Role::Router, "a"));
    let _stream = a.attach(server.address).await;
    assert_eq!(a.log().len(), commands, "nothing was installed or removed");
    assert!(routers[1].0.ended().is_none(), "b lost its stream");
    add(&mut client, call("c2", 4002)).await.unwrap();
}
