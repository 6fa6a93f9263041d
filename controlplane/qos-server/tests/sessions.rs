//! What call agents get: sessions added, modified, deleted, read, listed.

mod common;

use common::*;
use tonic::Code;
use voicelane_proto::v1::{self, SessionState, command, command_result};

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
