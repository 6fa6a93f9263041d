//! When the server answers, and what it does when a commit fails: on a store that a test holds back.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use crate::common::*;
use tokio::time::timeout;
use voicelane_proto::v1;
use voicelane_server::{
    engine::{Engine, Settings},
    journal::{Backend, Change, Each, StoreError},
};

/// Keeps nothing, and commits when it is let.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    is_shut: bool,
    fails: bool,
    panics: bool,
    batches: Vec<usize>,
}

impl Gate {
    fn set(&self, set: impl FnOnce(&mut State)) {
        set(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }
}

impl Backend for Gate {
    fn load(&mut self, _: &mut Each<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&mut self, batch: &[Change]) -> Result<(), StoreError> {
        let state = self.0.0.lock().unwrap();
        let mut state = self.0.1.wait_while(state, |state| state.is_shut).unwrap();
        let panics = state.panics;
        if state.fails {
            return Err(StoreError::Commit {
                dir: "gate".into(),
                reason: "No space left on device".to_owned(),
            });
        }
        state.batches.push(batch.len());
        drop(state);
        assert!(!panics, "the gate is broken");
        Ok(())
    }

    fn epoch(&self) -> u64 {
        1
    }

    fn is_new(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn nothing_is_told_or_answered_before_it_is_committed_and_a_commit_takes_all_that_wait() {
    let gate = Gate::default();
    let server = TestServer::on_backend(gate.clone(), Settings::default()).await;
    let mut net = Network::on(server).await;
    add(&mut net.client, call("c0", 4000)).await.unwrap();
    gate.set(|gate| {
        gate.is_shut = true;
        gate.batches.clear();
    });
    let (installs, a) = (net.a.installs(), net.a.clone());
    let added: Vec<_> = (1..=100)
        .map(|n| {
            let mut client = net.client.clone();
            let call = call(&format!("c{n}"), 4000 + 2 * n);
            tokio::spawn(async move { add(&mut client, call).await })
        })
        .collect();
    let mut deleting = net.client.clone();
    let deleted = tokio::spawn(async move { delete(&mut deleting, "c0").await });
    eventually("waiting", || {
        let mut client = net.client.clone();
        async move {
            let all = list(&mut client).await.total;
            let c0 = get(&mut client, "c0").await.unwrap().state();
            (all == 101 && c0 == v1::SessionState::Removing).then_some(())
        }
    })
    .await;
    // Others are served meanwhile, and see what waits.
    let first = timeout(Duration::from_secs(5), get(&mut net.client, "c1")).await;
    assert_eq!(
        first.unwrap().unwrap().state(),
        v1::SessionState::Installing
    );
    assert_eq!(a.installs(), installs, "a router was told first");
    assert!(a.has("c0") && !deleted.is_finished());
    assert!(added.iter().all(|it| !it.is_finished()));
    gate.set(|gate| gate.is_shut = false);
    for added in added {
        added.await.unwrap().unwrap();
    }
    deleted.await.unwrap().unwrap();
    // One had begun, the next took the rest.
    let batches = gate.0.0.lock().unwrap().batches.clone();
    assert_eq!(batches.iter().sum::<usize>(), 101, "{batches:?}");
    assert!(batches.len() <= 3, "{batches:?}");
}

#[tokio::test]
async fn a_commit_that_fails_is_not_tried_again_and_answers_nobody() {
    let gate = Gate::default();
    let server = TestServer::on_backend(gate.clone(), Settings::default()).await;
    let mut net = Network::on(server).await;
    let engine: Arc<Engine> = net.server.engine.clone();
    gate.set(|gate| gate.fails = true);
    let mut client = net.client.clone();
    let adding = tokio::spawn(async move { add(&mut client, call("c1", 4000)).await });
    let error = timeout(PATIENCE, engine.journal().failed())
        .await
        .unwrap()
        .to_string();
    assert!(
        error.contains("No space left") && error.contains("routers keep"),
        "{error}"
    );
    // Not even when the disk has room again.
    gate.set(|gate| gate.fails = false);
    let second = add(&mut net.client, call("c2", 4002));
    assert!(timeout(Duration::from_millis(300), second).await.is_err());
    assert!(!adding.is_finished() && net.a.log().is_empty());
}

#[tokio::test]
async fn a_commit_that_panics_is_a_failure_of_the_store() {
    let gate = Gate::default();
    let server = TestServer::on_backend(gate.clone(), Settings::default()).await;
    let mut net = Network::on(server).await;
    let engine: Arc<Engine> = net.server.engine.clone();
    gate.set(|gate| gate.panics = true);
    let adding = tokio::spawn(async move { add(&mut net.client, call("c1", 4000)).await });
    let error = timeout(PATIENCE, engine.journal().failed()).await.unwrap();
    let error = error.to_string();
    assert!(error.contains("the gate is broken"), "{error}");
    assert!(!adding.is_finished());
    assert!(engine.journal().close().await.is_err());
}

#[tokio::test]
async fn the_last_commit_of_a_server_that_stops_may_fail() {
    let gate = Gate::default();
    let server = TestServer::on_backend(gate.clone(), Settings::default()).await;
    let mut net = Network::on(server).await;
    let engine: Arc<Engine> = net.server.engine.clone();
    gate.set(|gate| (gate.is_shut, gate.fails) = (true, true));
    let adding = tokio::spawn(async move { add(&mut net.client, call("c1", 4000)).await });
    eventually("there", || {
        let engine = engine.clone();
        async move { (engine.size().0 == 1).then_some(()) }
    })
    .await;
    let closing = tokio::spawn({
        let engine = engine.clone();
        async move { engine.journal().close().await.map_err(|it| it.to_string()) }
    });
    gate.set(|gate| gate.is_shut = false);
    let error = timeout(PATIENCE, closing)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(error.contains("No space left"), "{error}");
    assert!(!adding.is_finished());
}
