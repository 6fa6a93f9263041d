//! An etcd that is restored from a snapshot, as OPERATING.md says.

use std::{fs, process::Command};

use super::world::World;
use crate::{common::*, store::killed::table};

fn etcdctl(arguments: &[&str]) {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_restored_from_a_snapshot_is_followed() {
    let mut world = World::start(1, 2).await;
    let mut caller = world.caller();
    for (name, port) in [("kept", 4_000), ("deleted", 4_002)] {
        caller.add(name, port).await;
    }
    let saved = world.etcd.folder.path().join("snapshot");
    let (endpoint, saved) = (world.etcd.urls[0].clone(), saved.to_str().unwrap());
    etcdctl(&["--endpoints", &endpoint, "snapshot", "save", saved]);
    caller.add("later", 4_004).await;
    let delete = async |mut it| delete(&mut it, "deleted").await;
    caller.once(delete).await.unwrap();
    let before = world.a.welcome().unwrap();
    for server in &mut world.servers {
        server.kill();
    }
    world.etcd.members[0].kill();

    let data = world.etcd.folder.path().join("m0");
    fs::remove_dir_all(&data).unwrap();
    let (_, peer) = world.etcd.peers.split_once('=').unwrap();
    let (data, cluster) = (data.to_str().unwrap(), world.etcd.peers.as_str());
    let mut restore = vec![
        "snapshot",
        "restore",
        saved,
        "--data-dir",
        data,
        "--name",
        "m0",
    ];
    restore.extend(["--initial-cluster", cluster]);
    restore.extend(["--initial-advertise-peer-urls", peer]);
    etcdctl(&restore);
    world.etcd.members[0].again();
    let epoch = before.server_epoch ^ 1;
    let number = epoch.to_string();
    etcdctl(&["--endpoints", &endpoint, "put", "/voicelane/epoch", &number]);
    for server in &mut world.servers {
        server.again();
    }

    // What was said before the snapshot is there, and what came after it can be said again.
    let all = caller.all().await;
    assert_eq!(all.keys().collect::<Vec<_>>(), ["deleted", "kept"]);
    for router in [&world.a, &world.b] {
        router
            .until("attached again", |it| {
                it.welcome().is_some_and(|it| it.server_epoch == epoch)
                    && it.synchronised().is_some()
            })
            .await;
        eventually("routers have what the snapshot has", || async {
            (table(router) == all).then_some(())
        })
        .await;
    }
    caller.add("later", 4_004).await;
    let all = caller.all().await;
    assert_eq!(all.len(), 3);
    eventually("routers have all", || async {
        let tables = [&world.a, &world.b].map(table);
        tables.iter().all(|it| *it == all).then_some(())
    })
    .await;
}
