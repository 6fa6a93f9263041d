//! What SIGHUP reads again, besides the files of files.rs.

use std::fs;

use tonic::Code;
use voicelane_proto::v1::{self, operator_client::OperatorClient, sessions_client::SessionsClient};

use super::files::Program;
use crate::common::*;

#[tokio::test]
async fn what_routers_may_claim_and_agents_may_do_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("max_sessions_per_agent = 1\nmay_claim = { a = [\"10.0.0.0/8\"] }");
    let config = [
        "--listen",
        "127.0.0.1:0",
        "--config",
        file.to_str().unwrap(),
    ];
    let server = Program::spawn(&config).await;
    let a = FakeRouter::reaching("a", &["10.1.0.0/24", "10.2.0.0/24"]);
    let stream = a.attach(server.address).await;
    let mut client = SessionsClient::new(channel(server.address, None).await);
    let operator = OperatorClient::new(channel(server.address, None).await);
    let refused = async |expected: &[&str]| {
        eventually(&format!("{expected:?} refused"), || {
            let mut operator = operator.clone();
            async move {
                let request = v1::GetRouterRequest {
                    router_id: "a".into(),
                };
                let answer = operator.get_router(request).await.unwrap().into_inner();
                let refused = answer.router.unwrap().refused_prefixes;
                let refused: Vec<_> = refused.into_iter().map(|it| it.prefix).collect();
                (refused == expected).then_some(())
            }
        })
        .await;
    };
    refused(&[]).await;
    add(&mut client, call("one", 4000)).await.unwrap();
    let too_many = add(&mut client, call("two", 4004)).await;
    assert_status(too_many, Code::ResourceExhausted, &["has 1 sessions"]);

    // Less for the router and more for the agent. What is there stays.
    write("max_sessions_per_agent = 2\nmay_claim = { a = [\"10.1.0.0/16\"] }");
    server.signal("-HUP");
    refused(&["10.2.0.0/24"]).await;
    assert!(a.has("one") && a.ended().is_none());
    let nowhere = add(&mut client, call("two", 4004)).await;
    assert_status(
        nowhere,
        Code::NotFound,
        &["no attached router reaches 10.2.0.7"],
    );

    write("may_claim = { a = [\"10.1.0.0/33\"] }");
    server.signal("-HUP");
    server.says(&["ERROR", "is not used", "may_claim.a"]).await;
    refused(&["10.2.0.0/24"]).await;

    write("max_sessions_per_agent = 2\nmax_routers = 9");
    server.signal("-HUP");
    refused(&[]).await;
    server.says(&["WARN", "from the next start on"]).await;
    add(&mut client, call("two", 4004)).await.unwrap();
    drop(stream);
}
