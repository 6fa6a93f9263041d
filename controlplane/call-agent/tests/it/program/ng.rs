//! The ng protocol: as the end, in the middle, by HTTP, and at the gate.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use super::world::{Program, World};

/// A SIP server's end.
struct Kamailio(UdpSocket);

impl Kamailio {
    fn at(ng: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(ng).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        Self(socket)
    }

    fn send(&self, cookie: &str, dictionary: &str) {
        self.0
            .send(format!("{cookie} {dictionary}").as_bytes())
            .unwrap();
    }

    /// Sends a command; gives the answer's dictionary.
    fn ask(&self, cookie: &str, dictionary: &str) -> String {
        self.send(cookie, dictionary);
        self.answer(cookie)
    }

    fn answer(&self, cookie: &str) -> String {
        let mut buffer = [0; 4_096];
        let length = self.0.recv(&mut buffer).unwrap();
        let text = str::from_utf8(&buffer[..length]).unwrap();
        text.strip_prefix(&format!("{cookie} ")).unwrap().to_owned()
    }
}

fn sdp(address: &str, port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n"
    )
}

/// A bencoded dictionary of texts.
fn bencode(entries: &[(&str, &str)]) -> String {
    let text = |text: &str| format!("{}:{text}", text.len());
    let entries = entries.iter().map(|(key, value)| text(key) + &text(value));
    format!("d{}e", entries.collect::<String>())
}

fn offer(call: &str, sdp: &str) -> String {
    bencode(&[
        ("command", "offer"),
        ("call-id", call),
        ("from-tag", "a"),
        ("sdp", sdp),
    ])
}

fn answer(call: &str, sdp: &str) -> String {
    bencode(&[
        ("command", "answer"),
        ("call-id", call),
        ("from-tag", "a"),
        ("to-tag", "b"),
        ("sdp", sdp),
    ])
}

fn delete(call: &str) -> String {
    bencode(&[("command", "delete"), ("call-id", call), ("from-tag", "a")])
}

fn flows(ends: &[(&str, &str)]) -> Vec<String> {
    let both = ends.iter().flat_map(|(a, b)| [(a, b), (b, a)]);
    let mut flows: Vec<_> = both.map(|(a, b)| format!("{a} > {b} 80000 next")).collect();
    flows.sort();
    flows
}

const NG: [&str; 2] = ["--ng", "127.0.0.1:0"];

#[tokio::test(flavor = "multi_thread")]
async fn as_the_end_a_call_has_its_session_until_its_delete() {
    let mut world = World::start().await;
    let agent = Program::start(world.server.address, &NG);
    let kamailio = Kamailio::at(agent.ng.unwrap());
    assert_eq!(kamailio.ask("1_1", "d7:command4:pinge"), "d6:result4:ponge");
    let caller = sdp("10.1.0.5", 4_000);
    assert_eq!(
        kamailio.ask("1_2", &offer("c1", &caller)),
        bencode(&[("result", "ok"), ("sdp", &caller)])
    );
    let callee = sdp("10.2.0.7", 5_000);
    kamailio.ask("1_3", &answer("c1", &callee));
    let expected = flows(&[("10.1.0.5:4000", "10.2.0.7:5000")]);
    world.until("after the answer", &expected).await;
    assert_eq!(kamailio.ask("1_4", &delete("c1")), "d6:result2:oke");
    world.until("after the delete", &[]).await;
    // The same cookie is the same request; another one finds no call.
    assert_eq!(kamailio.ask("1_4", &delete("c1")), "d6:result2:oke");
    let unknown = kamailio.ask("1_5", &delete("c1"));
    assert!(unknown.contains("warning"), "{unknown}");
    let query = kamailio.ask("1_6", "d7:command5:querye");
    assert!(query.contains("6:result5:error"), "{query}");
    agent.terminate();
}

/// An rtpengine: answers offers with its own port 30000, answers with 30002.
struct Rtpengine {
    address: SocketAddr,
    /// Commands that it carried out: cookies that it did not know.
    carried_out: Arc<AtomicU32>,
    /// Not 0: it reads commands and answers none.
    silent: Arc<AtomicU32>,
}

impl Rtpengine {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let carried_out = Arc::new(AtomicU32::new(0));
        let silent = Arc::new(AtomicU32::new(0));
        let (count, muted) = (Arc::clone(&carried_out), Arc::clone(&silent));
        std::thread::spawn(move || {
            let mut known = std::collections::HashSet::new();
            let mut buffer = [0; 4_096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let text = str::from_utf8(&buffer[..length]).unwrap();
                let (cookie, dictionary) = text.split_once(' ').unwrap();
                if muted.load(Ordering::SeqCst) > 0 {
                    continue;
                }
                if known.insert(cookie.to_owned()) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                let answer = if dictionary.contains("5:offer") {
                    bencode(&[("result", "ok"), ("sdp", &sdp("10.2.9.9", 30_000))])
                } else if dictionary.contains("6:answer") {
                    bencode(&[("result", "ok"), ("sdp", &sdp("10.1.9.9", 30_002))])
                } else {
                    bencode(&[("created", "now"), ("result", "ok")])
                };
                socket
                    .send_to(format!("{cookie} {answer}").as_bytes(), from)
                    .unwrap();
            }
        });
        Self {
            address,
            carried_out,
            silent,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_all_four_flows_are_seen_and_nothing_is_done_twice() {
    let mut world = World::start().await;
    let rtpengine = Rtpengine::start();
    let to = rtpengine.address.to_string();
    let agent = Program::start(
        world.server.address,
        &["--ng", "127.0.0.1:0", "--rtpengine", &to],
    );
    let kamailio = Kamailio::at(agent.ng.unwrap());
    let offered = kamailio.ask("7_1", &offer("c1", &sdp("10.1.0.5", 4_000)));
    assert_eq!(
        offered,
        bencode(&[("result", "ok"), ("sdp", &sdp("10.2.9.9", 30_000))])
    );
    // A retransmission is answered from memory.
    assert_eq!(
        kamailio.ask("7_1", &offer("c1", &sdp("10.1.0.5", 4_000))),
        offered
    );
    assert_eq!(rtpengine.carried_out.load(Ordering::SeqCst), 1);
    kamailio.ask("7_2", &answer("c1", &sdp("10.2.0.7", 5_000)));
    let expected = flows(&[
        ("10.1.0.5:4000", "10.1.9.9:30002"),
        ("10.2.9.9:30000", "10.2.0.7:5000"),
    ]);
    world.until("after the answer", &expected).await;
    // What the agent does not know goes through as it is.
    let query = kamailio.ask("7_3", "d7:command5:querye");
    assert_eq!(query, "d7:created3:now6:result2:oke");
    // Without rtpengine nobody answers, as without the agent; a delete still deletes.
    rtpengine.silent.store(1, Ordering::SeqCst);
    kamailio
        .0
        .set_read_timeout(Some(Duration::from_millis(600)))
        .unwrap();
    kamailio.send("7_4", &delete("c1"));
    assert!(
        kamailio.0.recv(&mut [0; 4_096]).is_err(),
        "somebody answered"
    );
    world.until("after the delete", &[]).await;
    // It comes back: whoever still waits is answered.
    rtpengine.silent.store(0, Ordering::SeqCst);
    kamailio
        .0
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    assert_eq!(kamailio.answer("7_4"), "d7:created3:now6:result2:oke");
    agent.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_json_is_taken_by_http() {
    let mut world = World::start().await;
    let config = "[ng]\nplain = \"127.0.0.1:0\"\n";
    let agent = Program::configured(world.server.address, config, true);
    let post = |body: &str| {
        let mut stream = TcpStream::connect(agent.plain.unwrap()).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /ng-plain HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let caller = serde_json::to_string(&sdp("10.1.0.5", 4_000)).unwrap();
    let callee = serde_json::to_string(&sdp("10.2.0.7", 5_000)).unwrap();
    let offered = post(&format!(
        r#"{{"command":"offer","call-id":"p1","from-tag":"a","sdp":{caller}}}"#
    ));
    assert!(offered.starts_with("HTTP/1.1 200"), "{offered}");
    assert!(
        offered.ends_with(&format!(r#"{{"result":"ok","sdp":{caller}}}"#)),
        "{offered}"
    );
    post(&format!(
        r#"{{"command":"answer","call-id":"p1","from-tag":"a","to-tag":"b","sdp":{callee}}}"#
    ));
    let expected = flows(&[("10.1.0.5:4000", "10.2.0.7:5000")]);
    world.until("after the answer", &expected).await;
    let deleted = post(r#"{"command":"delete","call-id":"p1","from-tag":"a"}"#);
    assert!(deleted.ends_with(r#"{"result":"ok"}"#), "{deleted}");
    world.until("after the delete", &[]).await;
    let bad = post("{}");
    assert!(
        bad.starts_with("HTTP/1.1 400") && bad.contains("no command"),
        "{bad}"
    );
}

fn gate(policy: &str) -> String {
    format!("[ng]\nudp = [\"127.0.0.1:0\"]\ngate = \"{policy}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_refuses_what_has_no_room_and_lets_it_in_when_others_end() {
    // Nine tenths of it are for ordinary calls: five of about 100 kbit/s.
    let mut world = World::with_budget(580_000).await;
    let agent = Program::configured(world.server.address, &gate("closed"), true);
    let kamailio = Kamailio::at(agent.ng.unwrap());
    let mut passed = Vec::new();
    for call in 0..12_u16 {
        let name = format!("g{call}");
        let caller = sdp("10.1.0.5", 4_000 + 2 * call);
        let began = Instant::now();
        let offered = kamailio.ask(&format!("9_{call}"), &offer(&name, &caller));
        assert!(began.elapsed() < Duration::from_secs(5));
        if offered.contains("6:result2:ok") {
            passed.push(call);
        } else {
            assert!(
                offered.contains("no room for the call on its way"),
                "{offered}"
            );
            for word in ["load limit", "Parallel session limit"] {
                assert!(!offered.contains(word), "{offered}");
            }
        }
    }
    assert_eq!(passed, [0, 1, 2, 3, 4]);
    let answered = |call: u16| {
        let callee = sdp("10.2.0.7", 5_000 + 2 * call);
        kamailio.ask(&format!("8_{call}"), &answer(&format!("g{call}"), &callee));
    };
    passed.iter().copied().for_each(answered);
    let ends: Vec<_> = passed
        .iter()
        .map(|call| {
            let caller = format!("10.1.0.5:{}", 4_000 + 2 * call);
            (caller, format!("10.2.0.7:{}", 5_000 + 2 * call))
        })
        .collect();
    let ends: Vec<_> = ends.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    world
        .until("all that passed are complete", &flows(&ends))
        .await;
    // One ends: there is room for another, as soon as its routers have let it go.
    let has_room = async |cookie: &str, call: &str, sdp: &str| {
        for attempt in 0..300 {
            let offered = kamailio.ask(&format!("{cookie}_{attempt}"), &offer(call, sdp));
            if offered.contains("6:result2:ok") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no room for {call}");
    };
    kamailio.ask("6_1", &delete(&format!("g{}", passed[0])));
    world.until("one ended", &flows(&ends[1..])).await;
    has_room("6_2", "last", &sdp("10.1.0.6", 6_000)).await;
    // Nobody answers it, and its delete gives the room back.
    kamailio.ask("6_3", &delete("last"));
    has_room("6_4", "later", &sdp("10.1.0.6", 6_002)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_server_the_policy_decides_in_time() {
    for (policy, answer) in [("open", "6:result2:ok"), ("closed", "6:result5:error")] {
        let nobody = "127.0.0.1:9".parse().unwrap();
        let agent = Program::configured(nobody, &gate(policy), false);
        let kamailio = Kamailio::at(agent.ng.unwrap());
        let began = Instant::now();
        let offered = kamailio.ask("5_1", &offer("c1", &sdp("10.1.0.5", 4_000)));
        assert!(offered.contains(answer), "{policy}: {offered}");
        // 200 ms are promised; a busy machine may take more.
        assert!(began.elapsed() < Duration::from_secs(3));
    }
    // No router has the address.
    let world = World::start().await;
    for (policy, answer) in [("open", "6:result2:ok"), ("closed", "6:result5:error")] {
        let agent = Program::configured(world.server.address, &gate(policy), true);
        let kamailio = Kamailio::at(agent.ng.unwrap());
        let offered = kamailio.ask("5_2", &offer("c1", &sdp("203.0.113.5", 4_000)));
        assert!(offered.contains(answer), "{policy}: {offered}");
    }
}
