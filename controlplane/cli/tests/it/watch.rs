//! `voicelane call watch`: how it ends.

use std::process::Stdio;

use crate::{
    cli::{run, url},
    command::command,
    common::*,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

#[tokio::test]
async fn watch_ends_by_count_by_time_and_by_interrupt() {
    let net = Network::start().await;
    run(&net, "call add c1 --a 10.1.0.5:4000 --b 10.2.0.7:4000")
        .await
        .shows(&[]);
    run(&net, "call watch --existing --count 1")
        .await
        .shows(&["existing", "call c1 of cli"]);
    let none = run(&net, "call watch --agent other --existing --for 0.05").await;
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));

    let mut watch = command(&url(&net), "call watch --existing --json");
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = async || -> (String, String) {
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .unwrap();
        let event: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let session = text(&event["session"]["spec"]["key"]["sessionId"]);
        (text(&event["kind"]), session)
    };
    assert_eq!(next().await, ("KIND_EXISTING".into(), "c1".into()));
    run(&net, "call add c2 --a 10.1.0.5:4100 --b 10.2.0.7:4100")
        .await
        .shows(&[]);
    assert_eq!(next().await, ("KIND_ADDED".into(), "c2".into()));
    run(&net, "call delete c2").await.shows(&[]);
    assert_eq!(next().await, ("KIND_DELETED".into(), "c2".into()));
    let id = watch.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .await
            .unwrap()
            .success()
    );
    let status = tokio::time::timeout(PATIENCE, watch.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0), "Ctrl-C ends it cleanly");

    eventually("nobody watching", || async {
        (net.server.engine.watchers() == 0).then_some(())
    })
    .await;
    let watch = command(&url(&net), "call watch --existing")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("watching", || async {
        (net.server.engine.watchers() > 0).then_some(())
    })
    .await;
    net.server.stop().await;
    let ended = tokio::time::timeout(PATIENCE, watch.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        ended.status.code(),
        Some(1),
        "the server said that it stops"
    );
}
