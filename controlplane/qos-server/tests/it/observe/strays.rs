//! Packets that are no session's, as routers tell of them: in events, and in what explains a call.

use tokio::time::timeout;
use tonic::Code;
use voicelane_proto::v1::{self, EventKind, FlowKind, attach_request::Message};

use crate::common::*;

fn miss(session: &str, source: &str, destination: &str) -> v1::NearMiss {
    v1::NearMiss {
        key: key(session),
        flow_index: 0,
        source: endpoint(source),
        destination: endpoint(destination),
        interface: "lan0".into(),
    }
}

fn claim(address: &str, packets: u64) -> v1::EfClaim {
    v1::EfClaim {
        interface: "lan0".into(),
        address: address.into(),
        packets,
    }
}

async fn tell(net: &Network, near_misses: Vec<v1::NearMiss>, ef_claims: Vec<v1::EfClaim>) {
    let strays = v1::StrayPackets {
        near_misses,
        ef_claims,
    };
    let message = Some(Message::Strays(strays));
    let request = v1::AttachRequest { message };
    net.a_stream.outbound.send(request).await.unwrap();
}

/// Events of the two kinds, when so many have come.
async fn told(net: &Network, count: usize) -> Vec<v1::Event> {
    let kinds = [EventKind::CallMissed, EventKind::EfClaimed];
    let mut operator = net.server.operator().await;
    let request = v1::WatchEventsRequest {
        follow: true,
        ..v1::WatchEventsRequest::default()
    };
    let mut parts = operator.watch_events(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    while all.len() < count {
        let part = timeout(PATIENCE, parts.message()).await.unwrap();
        let events = part.unwrap().unwrap().events.into_iter();
        all.extend(events.filter(|event| kinds.contains(&event.kind())));
    }
    all
}

fn texts(events: &[v1::Event]) -> Vec<&str> {
    events.iter().map(|event| event.text.as_str()).collect()
}

/// What is found of the packets that do not come to the source's router.
async fn unseen(net: &Network) -> String {
    let request = v1::ExplainSessionRequest { key: key("c1") };
    let mut operator = net.server.operator().await;
    let answer = operator
        .explain_session(request)
        .await
        .unwrap()
        .into_inner();
    let broken = answer.first_broken.unwrap();
    assert_eq!((&*broken.link, &*broken.router_id), ("seen", "a"));
    broken.detail
}

/// A call of which router a sees no packet.
async fn silent_call() -> Network {
    let mut net = Network::start().await;
    add(&mut net.client, call("c1", 4000)).await.unwrap();
    net.a.count(vec![v1::EntryCounters {
        flow_index: 0,
        kind: FlowKind::Rtp.into(),
        source: endpoint("10.1.0.5:4000"),
        destination: endpoint("10.2.0.7:4000"),
        key: key("c1"),
        ..v1::EntryCounters::default()
    }]);
    net
}

#[tokio::test]
async fn who_claims_ef_without_a_call_is_told() {
    let net = silent_call().await;
    let detail = unseen(&net).await;
    let hint = "no RTP packet ever came; check that the sender sends from and to exactly these ports, through \
                this router";
    assert_eq!(detail, hint);
    tell(
        &net,
        vec![],
        vec![claim("10.1.0.9", 500), claim("10.1.0.8", 100)],
    )
    .await;
    // It is told every 10 s, as long as it is so.
    tell(
        &net,
        vec![],
        vec![claim("10.1.0.9", 510), claim("10.1.0.5", 50)],
    )
    .await;
    let events = told(&net, 3).await;
    let text = |address: &str, packets: u64| {
        format!(
            "EF claimed by {address} without a call: {packets} packets in 10 s on lan0, sent on without priority"
        )
    };
    let expected = [("10.1.0.9", 500), ("10.1.0.8", 100), ("10.1.0.5", 50)];
    assert_eq!(
        texts(&events),
        expected.map(|(by, packets)| text(by, packets))
    );
    assert!(events.iter().all(|event| event.router_id == "a"));
    let overview = net.server.overview(0).await;
    let claimers = overview.ef_claimers.iter();
    let claimers: Vec<_> = claimers
        .map(|it| (&*it.router_id, &*it.interface, &*it.address, it.packets))
        .collect();
    let most_first = [("10.1.0.9", 510), ("10.1.0.8", 100), ("10.1.0.5", 50)];
    let most_first = most_first.map(|(address, packets)| ("a", "lan0", address, packets));
    assert_eq!(claimers, most_first);
    assert_eq!(overview.total_ef_claimers, 3);
    // The call's own sender before one who claims more.
    let detail = unseen(&net).await;
    assert_eq!(detail, format!("{hint}; {}", text("10.1.0.5", 50)));
}

#[tokio::test]
async fn packets_that_are_nearly_of_a_silent_flow_are_told() {
    let net = silent_call().await;
    let (here, callee) = ("10.1.0.5:4000", "10.2.0.7:4000");
    let another_port = || miss("c1", "10.1.0.5:4002", callee);
    // The same again, what is told of no call of its own, and what is the session's, is no event.
    let other = miss("other", "10.1.0.5:4002", callee);
    let exact = miss("c1", here, callee);
    tell(
        &net,
        vec![other, exact, another_port(), another_port()],
        vec![],
    )
    .await;
    tell(
        &net,
        vec![another_port(), miss("c1", "203.0.113.9:4000", callee)],
        vec![],
    )
    .await;
    let elsewhere = miss("c1", here, "10.2.0.7:4006");
    let both = miss("c1", "10.1.0.5:4002", "10.2.0.7:4002");
    tell(&net, vec![elsewhere, both], vec![claim("10.1.0.9", 500)]).await;
    let events = told(&net, 5).await;
    let expected = [
        "packets come from 10.1.0.5:4002, the session says 4000 (on lan0)",
        "packets come from 203.0.113.9:4000, the session says 10.1.0.5:4000 (on lan0)",
        "packets go to 10.2.0.7:4006, the session says 4000 (on lan0)",
        "packets come from 10.1.0.5:4002, the session says 4000; they go to 10.2.0.7:4002, the session says 4000 \
         (on lan0)",
    ];
    assert_eq!(texts(&events[..4]), expected);
    assert!(events[..4].iter().all(|event| event.session == key("c1")));
    assert_eq!(events[4].kind(), EventKind::EfClaimed);

    // The latest, and nothing of strangers who claim EF.
    tell(&net, vec![another_port()], vec![claim("10.1.0.10", 500)]).await;
    told(&net, 6).await;
    let detail = unseen(&net).await;
    assert!(detail.starts_with("no RTP packet ever came; "), "{detail}");
    assert!(detail.ends_with(expected[0]), "{detail}");
}

/// Of a flow whose source is to be learned the destination is known, and the address if it waits for one.
#[tokio::test]
async fn packets_that_nothing_is_learned_from_are_told() {
    let latching = |from: &str| v1::MediaFlow {
        source: None,
        latch: Some(v1::Latch {
            address: from.to_owned(),
        }),
        ..flow("10.1.0.9:4000", "10.1.0.5:4000")
    };
    let mut net = Network::start().await;
    for (session, from) in [("c1", ""), ("c2", "10.1.0.8")] {
        let mut media = latching(from);
        if session == "c2" {
            media.destination = endpoint("10.2.0.7:4000");
        }
        add(&mut net.client, spec(session, vec![media]))
            .await
            .unwrap();
    }
    // What it is learned from is no event.
    let learned = miss("c1", "10.1.0.7:9", "10.1.0.5:4000");
    let another_port = miss("c1", "10.1.0.7:9", "10.1.0.5:4002");
    let another_host = miss("c2", "10.1.0.7:9", "10.2.0.7:4000");
    let misses = vec![learned, another_port, another_host];
    tell(&net, misses, vec![claim("10.1.0.7", 500)]).await;
    let events = told(&net, 3).await;
    let expected = [
        "packets go to 10.1.0.5:4002, the session says 4000 (on lan0)",
        "packets come from 10.1.0.7:9, the session says 10.1.0.8 (on lan0)",
    ];
    assert_eq!(texts(&events[..2]), expected);
    let mut operator = net.server.operator().await;
    for (session, text) in ["c1", "c2"].into_iter().zip(expected) {
        let request = v1::ExplainSessionRequest { key: key(session) };
        let answer = operator.explain_session(request).await.unwrap();
        let unknown = answer.into_inner().first_unknown.unwrap();
        assert_eq!(unknown.link, "placed");
        assert!(unknown.detail.contains("latching"), "{unknown:?}");
        assert!(unknown.detail.ends_with(text), "{unknown:?}");
    }
}

#[tokio::test]
async fn a_router_that_tells_too_much_is_cut_off() {
    let net = silent_call().await;
    let many: Vec<_> = (0..65)
        .map(|last| miss("c1", &format!("10.1.0.{last}:4000"), "10.2.0.7:4000"))
        .collect();
    tell(&net, many[..64].to_vec(), vec![]).await;
    // A flood of one kind is counted: 20 at once, and ten a second.
    assert!(told(&net, 20).await.len() < 64);
    tell(&net, many, vec![]).await;
    net.a
        .until("cut off", |router| router.ended().is_some())
        .await;
    let ended = net.a.ended().unwrap();
    assert_eq!(ended.code(), Code::InvalidArgument, "{ended}");
    assert!(ended.message().contains("at most 64"), "{ended}");
}
