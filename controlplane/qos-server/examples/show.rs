//! A server with two scripted routers and calls between them, for the browser tests.
//!
//! `show WEB_ADDRESS CALLS` prints the page's address and obeys lines on its standard input, each
//! answered by a line: `cut a`, `attach a`, `refuse NAME`, `trouble NAME`, `claim ADDRESS PACKETS`, `churn N`
//! (a second). It ends with its input. Of the first flow of the call [`LOSSY`] packets are lost between the
//! routers, and fewer before them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a tool of tests ends at what it did not expect"
)]

#[path = "../tests/it/common/mod.rs"]
mod common;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, stdin},
    time::interval,
};
use voicelane_proto::v1;
use voicelane_server::{
    engine::{Command, EfClaim, Engine, EntryCounters, Link, ToRouter},
    grpc::parse,
    model::{
        entries::{FiveTuple, FlowKind, expand},
        ids::{RouterId, SessionKey, session_key},
        registry::{Identity, Interface, Role},
        session::SessionSpec,
    },
    serve::bind_web,
    web::{self, Readers},
};

use common::{TestServer, call, spec};

/// The first port of the calls that are there from the beginning.
const FIRST_PORT: u16 = 4000;
const LOSSY: &str = "call-00007";
/// Of so many numbers routers tell together.
const BLOCK: u32 = 64;

/// Attaches a router that does what it is told, and has seen fifty packets a second of each flow since
/// it began.
async fn attach(engine: &Arc<Engine>, name: &str, net: u8, began: Instant) -> Arc<Link> {
    let identity = Identity {
        id: RouterId::parse("id", name).unwrap(),
        epoch: 1,
        software_version: "0.1.0".to_owned(),
        entry_capacity: 1_000_000,
    };
    let lan = Interface {
        name: "lan0".into(),
        role: Role::Edge,
        up: true,
        addresses: Vec::new(),
        prefixes: vec![format!("10.{net}.0.0/16").parse().unwrap()],
        refused: Vec::new(),
        rate_bps: 10_000_000_000,
        ef_budget_bps: 3_000_000_000,
        ef_ingress_budget_bps: 0,
        mtu_bytes: 1500,
        overhead_bytes: 0,
        vlan_id: 0,
        port: "lan0".into(),
    };
    let attached = engine.attach(identity, "127.0.0.1".into(), vec![lan], BTreeMap::new());
    let (link, mut messages) = attached.await.unwrap();
    let (engine, answering) = (engine.clone(), link.clone());
    let is_second = name == "b";
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            if let ToRouter::Command { id, command } = message {
                let counters = match command {
                    Command::Read(key) => counters(&engine, &key, began, is_second),
                    Command::Install { .. } | Command::Remove(_) => Vec::new(),
                };
                answering.answer(id, Ok(counters));
            }
        }
    });
    link
}

fn counters(
    engine: &Engine,
    key: &SessionKey,
    began: Instant,
    is_second: bool,
) -> Vec<EntryCounters> {
    let packets = began.elapsed().as_millis() as u64 / 20;
    let Ok(session) = engine.session(key) else {
        return Vec::new();
    };
    // Of each block three between the routers, and of each fourth one before them.
    let lost = |flow, block| match (flow, key.session(), is_second) {
        (0, LOSSY, false) => block / 4,
        (0, LOSSY, true) => 3 * block + block / 4,
        _ => 0,
    };
    let entries = expand(&session.spec).into_iter();
    let counters = entries.map(|entry| EntryCounters {
        flow: entry.flow as u32,
        kind: Some(entry.kind),
        tuple: Some(FiveTuple(entry.tuple.0)),
        packets: if entry.kind == FlowKind::Rtp {
            packets
        } else {
            packets / 250
        },
        bytes: packets * 200,
        policed_packets: 0,
        policed_bytes: 0,
        last_seen_ms_ago: Some(10),
        colours: None,
        spoofed_packets: 0,
        spoofed_interface: String::new(),
        quality: (entry.kind == FlowKind::Rtp)
            .then(|| measured(packets as u32, |block| lost(entry.flow, block))),
    });
    counters.collect()
}

/// A stream of so many packets, of which some were lost up to each block before they came.
fn measured(packets: u32, lost: impl Fn(u32) -> u32) -> v1::MediaQuality {
    let first = 1 << 16;
    let blocks = packets / BLOCK;
    let checkpoint = |block| v1::QualityCheckpoint {
        number: first + BLOCK * block,
        lost: lost(block),
        dropped: Some(0),
    };
    v1::MediaQuality {
        ssrc: 1,
        payload_type: Some(8),
        jitter_ns: Some(1_250_000),
        first_number: Some(first),
        checkpoints: (blocks.saturating_sub(12)..=blocks)
            .rev()
            .map(checkpoint)
            .collect(),
        ..v1::MediaQuality::default()
    }
}

fn spec_of(name: &str, port: u16) -> SessionSpec {
    let mut call = call(name, port);
    let number = name.trim_start_matches("call-");
    call.correlation_id = format!("{number}@atlanta.example.com");
    parse::spec(Some(call)).unwrap()
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let address = args.next().expect("WEB_ADDRESS").parse().unwrap();
    let calls: u16 = args.next().expect("CALLS").parse().unwrap();
    let server = TestServer::start().await;
    let engine = server.engine.clone();
    let began = Instant::now();
    let mut a = attach(&engine, "a", 1, began).await;
    let _b = attach(&engine, "b", 2, began).await;
    for index in 0..calls {
        let spec = spec_of(&format!("call-{index:05}"), FIRST_PORT + 2 * index);
        engine.add(spec).await.unwrap();
    }
    let listener = bind_web(address).unwrap();
    println!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(web::serve(engine.clone(), listener, Readers::default()));
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["cut", "a"] => engine.detach(&a, "the router ended the stream"),
            ["attach", "a"] => a = attach(&engine, "a", 1, began).await,
            ["refuse", name] => {
                let mut client = server.sessions().await;
                let refused = common::add(&mut client, spec(name, Vec::new())).await;
                refused.unwrap_err();
            }
            ["trouble", name] => {
                let key = session_key("key", "test", name).unwrap();
                engine.troubled(&a, &[key]);
            }
            ["claim", address, packets] => {
                let claim = EfClaim {
                    interface: "lan0".into(),
                    address: address.parse().unwrap(),
                    packets: packets.parse().unwrap(),
                };
                engine.strays(&a, Vec::new(), vec![claim]);
            }
            ["churn", each_second] => {
                let every = Duration::from_secs(1) / each_second.parse::<u32>().unwrap();
                tokio::spawn(churn(engine.clone(), every));
            }
            _ => panic!("{line:?} is no command"),
        }
        println!("done");
    }
}

/// Names that stand before those of the calls that stay, so that the rows shown change, too.
fn churning(index: u64) -> String {
    format!("a-{index}")
}

/// Adds a call each time, and deletes the one that came two hundred before.
async fn churn(engine: Arc<Engine>, every: Duration) {
    let mut ticks = interval(every);
    for index in 0_u64.. {
        ticks.tick().await;
        let port = 50_000 + 2 * (index % 5_000) as u16;
        let added = engine.add(spec_of(&churning(index), port)).await;
        added.unwrap();
        if let Some(former) = index.checked_sub(200) {
            let key = session_key("key", "test", &churning(former)).unwrap();
            engine.delete(key).await.unwrap();
        }
    }
}
