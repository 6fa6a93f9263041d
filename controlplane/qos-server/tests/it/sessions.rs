//! What call agents get: sessions added, modified, deleted, read, listed.

mod admission;
mod changes;
mod failed_adds;
mod latches;
mod limits;
mod meters;
mod placement;
mod preemption;
mod refused;
mod reservations;

use std::time::Duration;

use crate::common::*;
use tonic::Code;
use voicelane_proto::v1::{self, SessionState, command, command_result};
use voicelane_server::engine::Settings;

#[tokio::test]
async fn a_call_is_installed_on_both_routers_before_the_answer() {
    let mut net = Network::start().await;
    let session = add(&mut net.client, call("c1", 4000)).await.unwrap();
    assert_eq!(session.state(), SessionState::Active);
    assert_eq!(session.placements.len(), 2);
    let place = &session.placements[0];
    assert_eq!(place.source.as_ref().unwrap().router_id, "a");
    assert_eq!(place.source.as_ref().unwrap().interface, "lan0");
    assert_eq!(place.destination.as_ref().unwrap().prefix, "10.2.0.0/24");
    for router in [&net.a, &net.b] {
        let installed = &router.sessions()[&("test".to_owned(), "c1".to_owned())];
        let shape: Vec<_> = installed
            .entries
            .iter()
            .map(|entry| {
                (
                    entry.flow_index,
                    entry.kind,
                    entry.dscp,
                    entry.rate_bps,
                    entry.burst_bytes,
                )
            })
            .collect();
        assert_eq!(
            shape,
            [
                (0, 1, 46, 80_000, 3_000),
                (0, 2, 46, 8_000, 3_000),
                (1, 1, 46, 80_000, 3_000),
                (1, 2, 46, 8_000, 3_000),
            ]
        );
        assert_eq!(installed.entries[1].source, endpoint("10.1.0.5:4001"));
    }
    let deleted = delete(&mut net.client, "c1").await.unwrap();
    assert_eq!(deleted.spec, session.spec);
    assert!(!net.a.has("c1") && !net.b.has("c1"));
    assert_status(delete(&mut net.client, "c1").await, Code::NotFound, &["c1"]);
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_answer_and_does_nothing() {
    let mut net = Network::start().await;
    let first = add(&mut net.client, call("c1", 4000)).await.unwrap();
    let again = add(&mut net.client, call("c1", 4000)).await.unwrap();
    assert_eq!(first, again);
    assert_eq!((net.a.installs(), net.b.installs()), (1, 1));
    // Other content, or another revision, is another request.
    assert_status(
        add(&mut net.client, call("c1", 4100)).await,
        Code::AlreadyExists,
        &["c1", "ModifySession"],
    );
    let later = v1::SessionSpec {
        revision: 2,
        ..call("c1", 4000)
    };
    assert_status(
        add(&mut net.client, later).await,
        Code::AlreadyExists,
        &["revision 1"],
    );
}

#[tokio::test]
async fn concurrent_duplicates_share_one_installation_and_one_answer() {
    let net = Network::start().await;
    let adds = (0..16).map(|_| {
        let mut client = net.client.clone();
        tokio::spawn(async move { add(&mut client, call("c1", 4000)).await.unwrap() })
    });
    let adds: Vec<_> = adds.collect();
    let mut answers = Vec::new();
    for add in adds {
        answers.push(add.await.unwrap());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!((net.a.installs(), net.b.installs()), (1, 1));
}

#[tokio::test]
async fn a_concurrent_duplicate_of_a_failure_gets_the_failure() {
    let net = Network::start().await;
    net.b.behave(|command| match command {
        command::Command::Install(_) => Manner::Refuse(command_result::Code::TableFull, "no room"),
        _ => Manner::Obey,
    });
    let adds: Vec<_> = (0..4)
        .map(|_| {
            let mut client = net.client.clone();
            tokio::spawn(async move { add(&mut client, call("c1", 4000)).await })
        })
        .collect();
    for add in adds {
        let result = add.await.unwrap();
        assert_status(result, Code::ResourceExhausted, &["router b", "no room"]);
    }
    assert!(!net.a.has("c1"), "rolled back");
    assert_eq!(list(&mut net.client.clone()).await.total, 0);
}

#[tokio::test]
async fn a_request_that_is_dropped_leaves_nothing_half_done() {
    let settings = Settings {
        adopt_for: Duration::ZERO,
        acknowledge_timeout: Duration::from_millis(500),
        ..Settings::default()
    };
    let mut net = Network::on(TestServer::with(settings).await).await;
    net.b.behave(|_| Manner::Silent);
    let mut client = net.client.clone();
    let request = tokio::spawn(async move { add(&mut client, call("c1", 4000)).await });
    net.a.until("installed", |a| a.has("c1")).await;
    request.abort();
    net.b.behave(|_| Manner::Obey);
    // The first install was never answered, so the work fails at its timeout and is undone.
    net.a.until("rolled back", |a| !a.has("c1")).await;
    let gone = eventually("gone", || {
        let mut client = net.client.clone();
        async move { get(&mut client, "c1").await.err() }
    });
    assert_eq!(gone.await.code(), Code::NotFound);
    add(&mut net.client, call("c1", 4000)).await.unwrap();
}

#[tokio::test]
async fn rtcp_follows_its_mode() {
    let mut net = Network::start().await;
    let with = |mode: v1::rtcp::Mode, source, destination| v1::MediaFlow {
        rtcp: Some(v1::Rtcp {
            mode: mode.into(),
            source,
            destination,
        }),
        ..flow("10.1.0.5:4000", "10.2.0.7:5000")
    };
    for (name, media, shape) in [
        (
            "mux",
            with(v1::rtcp::Mode::Mux, None, None),
            vec![(4000, 88_000, 6_000)],
        ),
        (
            "none",
            with(v1::rtcp::Mode::None, None, None),
            vec![(4000, 80_000, 3_000)],
        ),
        (
            "explicit",
            with(
                v1::rtcp::Mode::Explicit,
                endpoint("10.1.0.9:7000"),
                endpoint("10.2.0.9:7002"),
            ),
            vec![(4000, 80_000, 3_000), (7000, 8_000, 3_000)],
        ),
        (
            "fast",
            v1::MediaFlow {
                max_bitrate_bps: 2_000_000,
                ..flow("10.1.0.5:4000", "10.2.0.7:5000")
            },
            vec![(4000, 2_000_000, 50_000), (4001, 100_000, 3_000)],
        ),
    ] {
        add(&mut net.client, spec(name, vec![media])).await.unwrap();
        let installed = net.b.sessions()[&("test".to_owned(), name.to_owned())].clone();
        let entries = installed.entries.iter();
        let entries: Vec<_> = entries
            .map(|entry| {
                (
                    entry.source.as_ref().unwrap().port,
                    entry.rate_bps,
                    entry.burst_bytes,
                )
            })
            .collect();
        assert_eq!(entries, shape, "{name}");
        delete(&mut net.client, name).await.unwrap();
    }
}

#[tokio::test]
async fn a_five_tuple_belongs_to_one_session() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    // Its RTCP is c1's RTP.
    assert_status(
        add(&mut net.client, call("c2", 3999)).await,
        Code::FailedPrecondition,
        &["spec.flows[0].rtcp", "10.1.0.5:4000", "\"c1\""],
    );
    assert_eq!(net.a.installs(), 1, "checked before sending");
    delete(&mut net.client, "c1").await.unwrap();
    add(&mut net.client, call("c2", 3999)).await.unwrap();
}

#[tokio::test]
async fn a_later_revision_replaces_and_an_earlier_does_not() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    assert_status(
        modify(&mut net.client, call("c2", 1)).await,
        Code::NotFound,
        &["c2"],
    );
    let next = v1::SessionSpec {
        revision: 2,
        ..call("c1", 6000)
    };
    let session = modify(&mut net.client, next.clone()).await.unwrap();
    assert_eq!(session.state(), SessionState::Active);
    assert_eq!(
        modify(&mut net.client, next).await.unwrap(),
        session,
        "idempotent"
    );
    let installed = net.a.sessions()[&("test".to_owned(), "c1".to_owned())].clone();
    assert_eq!(
        (installed.revision, installed.entries[0].source.clone()),
        (2, endpoint("10.1.0.5:6000"))
    );
    for revision in [1, 2] {
        let old = v1::SessionSpec {
            revision,
            ..call("c1", 4000)
        };
        let result = modify(&mut net.client, old).await;
        assert_status(result, Code::Aborted, &["revision 2", "above 2"]);
    }
    // The old five-tuples are free.
    add(&mut net.client, call("c3", 4000)).await.unwrap();
}

#[tokio::test]
async fn a_modification_that_fails_leaves_what_was() {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.b.behave(|command| match command {
        command::Command::Install(install) if install.revision == 2 => {
            Manner::Refuse(command_result::Code::Invalid, "odd")
        }
        _ => Manner::Obey,
    });
    let next = v1::SessionSpec {
        revision: 2,
        ..call("c1", 6000)
    };
    let result = modify(&mut net.client, next).await;
    assert_status(result, Code::InvalidArgument, &["router b", "odd"]);
    for router in [&net.a, &net.b] {
        let installed = router.sessions()[&("test".to_owned(), "c1".to_owned())].clone();
        assert_eq!(installed.revision, 1);
    }
    let session = get(&mut net.client, "c1").await.unwrap();
    assert_eq!(
        (session.state(), session.spec.unwrap().revision),
        (SessionState::Active, 1)
    );
    // The five-tuples that it was to have are free.
    add(&mut net.client, call("c2", 6000)).await.unwrap();
}

#[tokio::test]
async fn lists_come_in_pages_in_the_order_of_keys() {
    let mut net = Network::start().await;
    for index in 0..25_u16 {
        add(
            &mut net.client,
            call(&format!("c{index:02}"), 4000 + 2 * index),
        )
        .await
        .unwrap();
    }
    let mut other = call("c00", 9000);
    other.key = Some(v1::SessionKey {
        agent_id: "other".into(),
        session_id: "x".into(),
    });
    add(&mut net.client, other).await.unwrap();
    let mut names = Vec::new();
    let mut request = v1::ListSessionsRequest {
        agent_id: "test".into(),
        page_size: 10,
        ..Default::default()
    };
    let mut sizes = Vec::new();
    loop {
        let page = net
            .client
            .list_sessions(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(page.total, 25);
        sizes.push(page.sessions.len());
        names.extend(
            page.sessions
                .into_iter()
                .map(|it| it.spec.unwrap().key.unwrap().session_id),
        );
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(
        names,
        (0..25)
            .map(|index| format!("c{index:02}"))
            .collect::<Vec<_>>()
    );
    assert_eq!(list(&mut net.client).await.total, 26);
    let wrong = v1::ListSessionsRequest {
        page_size: 1001,
        ..Default::default()
    };
    assert_status(
        net.client.list_sessions(wrong).await,
        Code::InvalidArgument,
        &["page_size"],
    );
    let wrong = v1::ListSessionsRequest {
        page_token: "?".into(),
        ..Default::default()
    };
    assert_status(
        net.client.list_sessions(wrong).await,
        Code::InvalidArgument,
        &["page_token"],
    );
}
