//! Servers that go away, agents that are killed, frames that are lost, and senders who may not send.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::{TcpStream, UdpSocket},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};

use voicelane_proto::v1;

use super::world::{Program, Server, World, attach};
use crate::program::frames::{Call, frame};

/// The flows of these calls, as the server has them.
fn flows(calls: impl IntoIterator<Item = Call>) -> Vec<String> {
    let mut flows: Vec<_> = calls.into_iter().flat_map(|call| call.flows()).collect();
    flows.sort();
    flows
}

fn send(agent: &Program, messages: &[String]) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for message in messages {
        socket
            .send_to(&frame(message, b"secret"), agent.hep)
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_begins_anew_gets_all_calls_again() {
    let mut world = World::start().await;
    let agent = Program::start(world.server.address, &[]);
    let first = Call(1);
    send(&agent, &first.begin());
    world.until("the first call stands", &flows([first])).await;
    let address = world.server.address;
    let World {
        server, routers, ..
    } = world;
    server.stop().await;
    // Meanwhile one call ends, and two begin.
    send(&agent, &first.end());
    send(&agent, &Call(2).begin());
    send(&agent, &Call(3).begin());
    let server = Server::at(address).await;
    attach(&routers, address, 0).await;
    let mut world = World::of(server, routers).await;
    world
        .until("the server is back", &flows([Call(2), Call(3)]))
        .await;
    send(&agent, &Call(2).end());
    world.until("and works", &flows([Call(3)])).await;
    agent.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_the_one_that_leads_is_asked() {
    let mut world = World::start().await;
    let (leads, standby) = (world.server.address, world.server.standby().await);
    // The first one is not there.
    let servers = ["127.0.0.1:1".parse().unwrap(), standby.address, leads];
    let agent = Program::of_several(&servers);
    send(&agent, &Call(1).begin());
    world.until("the call stands", &flows([Call(1)])).await;
    agent.terminate();
    standby.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_when_the_agent_is_killed_and_started_again() {
    let mut world = World::start().await;
    let agent = Program::start(world.server.address, &[]);
    let calls: Vec<_> = (0..20).map(Call).collect();
    for call in &calls {
        send(&agent, &call.begin());
    }
    world.until("all stand", &flows(calls.clone())).await;
    agent.kill();
    let agent = Program::start(world.server.address, &[]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        world.flows().await,
        flows(calls.clone()),
        "they keep their lanes"
    );
    // Its next message may be its last.
    for call in &calls[..10] {
        send(&agent, &call.end());
    }
    world
        .until("ten have ended", &flows(calls[10..].to_vec()))
        .await;
    // A new call that has the ports of one whose BYE nobody saw.
    let again = Call(10).again();
    send(&agent, &again.begin());
    let mut expected = flows(calls[11..].to_vec());
    expected.extend(again.flows());
    expected.sort();
    let is_newer = |session: &v1::Session| {
        let key = session.spec.as_ref().and_then(|spec| spec.key.as_ref());
        key.is_some_and(|key| key.session_id.starts_with("call-10010~"))
    };
    let newer = async {
        while !world.sessions().await.iter().any(is_newer) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), newer)
        .await
        .expect("the newer call has a session");
    world.until("the newer call has the ports", &expected).await;
    assert_eq!(world.sessions().await.len(), 10);
    agent.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_sessions_stay_or_go_as_configured() {
    let mut world = World::start().await;
    let agent = Program::start(world.server.address, &[]);
    send(&agent, &Call(1).begin());
    world.until("it stands", &flows([Call(1)])).await;
    agent.terminate();
    assert_eq!(world.flows().await, flows([Call(1)]), "it stays");
    let config = "[sessions]\nat_end = \"delete\"\n";
    let agent = Program::configured(world.server.address, config, true);
    agent.terminate();
    assert_eq!(world.flows().await, flows([]), "it goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_doubled_frames_leave_nothing_behind() {
    let mut world = World::start().await;
    let agent = Program::start(world.server.address, &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut random = SmallRng::seed_from_u64(7);
    let calls: Vec<_> = (0..300).map(Call).collect();
    let mut noisy = |messages: Vec<String>| {
        let mut sent = Vec::new();
        for message in messages {
            match random.random_range(0..100) {
                0..2 => {}
                2..4 => sent.extend([message.clone(), message]),
                _ => sent.push(message),
            }
        }
        // Neighbours change places.
        sent.chunks_mut(2)
            .for_each(|pair| pair.shuffle(&mut random));
        sent
    };
    for some in calls.chunks(20) {
        for message in noisy(some.iter().flat_map(Call::begin).collect()) {
            socket.send_to(&frame(&message, b""), agent.hep).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.until("all stand", &flows(calls.clone())).await;
    for some in calls.chunks(20) {
        for message in noisy(some.iter().flat_map(Call::end).collect()) {
            socket.send_to(&frame(&message, b""), agent.hep).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.until("none is left", &[]).await;
    assert!(world.sessions().await.is_empty());
    assert_eq!(
        world.routers.each_ref().map(|router| router.sessions()),
        [0, 0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_configured_senders_are_believed_within_their_quota() {
    let mut world = World::start().await;
    let config = "[[senders]]\nname = \"a\"\naddresses = [\"127.0.0.0/30\"]\nhep_key = \"secret\"\n\
                  messages_per_s = 10\n";
    let agent = Program::configured(world.server.address, config, true);
    let from = |address: &str, key: &[u8], messages: &[String]| {
        let socket = UdpSocket::bind(address).unwrap();
        for message in messages {
            socket.send_to(&frame(message, key), agent.hep).unwrap();
        }
    };
    from("127.0.0.9:0", b"secret", &Call(1).begin());
    from("127.0.0.1:0", b"wrong", &Call(2).begin());
    from("127.0.0.2:0", b"secret", &Call(3).begin());
    world
        .until("one sender is believed", &flows([Call(3)]))
        .await;
    // A connection of somebody else is closed; the sender's is read, however TCP cuts the frames.
    let mut other = TcpStream::connect(agent.hep_tcp).unwrap();
    let _ = other.write_all(b"HEP3");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let mut stream = TcpStream::connect(agent.hep_tcp).unwrap();
    let bytes: Vec<u8> = Call(4)
        .begin()
        .iter()
        .flat_map(|message| frame(message, b"secret"))
        .collect();
    for piece in bytes.chunks(100) {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
    }
    world.until("TCP, too", &flows([Call(3), Call(4)])).await;
    // Twenty messages at once are two seconds' worth: the rest is dropped.
    let many: Vec<_> = (10..60).flat_map(|call| Call(call).begin()).collect();
    from("127.0.0.1:0", b"secret", &many);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stand: BTreeSet<_> = world.flows().await.into_iter().collect();
    assert!(stand.len() <= 2 * (2 + 20), "{}", stand.len());
}
