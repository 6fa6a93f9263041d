//! Calls that come and go by SIP alone. Needs root, the built programs, Kamailio, SIPp and rtpengine.

use std::{
    collections::BTreeSet,
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::network::Network;
use voicelane_lab::{
    demo::Check,
    sip::{self, Figures, HEP_PORT, HepOptions, Report, SipSite, Trouble},
};
use voicelane_proto::v1::{MediaFlow, Session, router_installation::State, rtcp::Mode};
use voicelane_testbed::{
    RouterOptions, Site, TwoSites,
    topology::addresses::{self, AGENT},
};
use voicelane_types::codec::with_clock_room;

/// In what must hold; what is about time, where the machine was quiet.
fn failed(figures: Figures) -> Vec<Check> {
    let longest_stall_ms = figures.longest_stall_ms;
    let report = Report::new(vec![figures]);
    println!("{report}");
    let checks = report.checks();
    for check in &checks {
        println!("{} {}: {}", check.pass, check.name, check.detail);
    }
    crate::judged::failed(checks, longest_stall_ms)
}

fn some_calls(trouble: Trouble) -> HepOptions {
    HepOptions {
        calls: 100,
        media: 10,
        per_second: 20,
        hold: Duration::from_secs(5),
        trouble,
    }
}

#[test]
fn mirrored_calls_have_their_lane() {
    assert_eq!(failed(sip::hep(some_calls(Trouble::None)).unwrap()), []);
}

#[test]
fn lost_and_doubled_messages_leave_nothing() {
    assert_eq!(
        failed(sip::hep(some_calls(Trouble::Datagrams)).unwrap()),
        []
    );
}

#[test]
fn a_killed_agent_leaves_nothing_and_takes_no_lane() {
    assert_eq!(failed(sip::hep(some_calls(Trouble::Kill)).unwrap()), []);
}

#[test]
fn all_four_flows_through_a_relay_are_marked() {
    assert_eq!(failed(sip::relay().unwrap()), []);
}

#[test]
fn a_full_link_refuses_calls_before_they_ring() {
    assert_eq!(failed(sip::gate(Duration::from_secs(10)).unwrap()), []);
}

/// Calls that trackers of others got wrong, each through a real agent, server and two routers.
#[test]
fn hard_calls_have_their_flows_in_both_routers() {
    let sites = TwoSites::with_ip("hard", voicelane_testbed::IpVersion::V6).unwrap();
    let options = RouterOptions {
        ipv6: true,
        ..RouterOptions::default()
    };
    let network = Network::on(sites, |_| options.clone());
    let sip = SipSite::new(&network.sites).unwrap();
    let _agent = sip.start_agent(None, "").unwrap();
    let socket = network
        .sites
        .agent
        .enter(|| UdpSocket::bind((AGENT, 0)))
        .unwrap()
        .unwrap();
    socket.connect((AGENT, HEP_PORT)).unwrap();
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../controlplane/call-agent/tests/cases");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "hep"));
    cases.sort();
    assert!(cases.len() >= 7, "{cases:?}");
    for case in cases {
        run_case(&network, &socket, &case);
    }
}

/// Of three calls without Session-Expires and without a BYE, the one ends that neither talks nor is held.
#[test]
fn a_call_whose_bye_is_lost_ends_when_its_wire_is_silent() {
    // The first look at a session is after 24 to 36 s of its 60; 30 s of silence must pass, and up to
    // 15 s until it is looked at again.
    const ALL_LOOKED_AT: Duration = Duration::from_secs(100);

    let network = Network::new("silence", &RouterOptions::default());
    let sip = SipSite::new(&network.sites).unwrap();
    let _agent = sip
        .start_agent(None, "[sessions]\nlifetime_s = 60\n")
        .unwrap();
    let began = Instant::now();
    let socket = network
        .sites
        .agent
        .enter(|| UdpSocket::bind((AGENT, 0)))
        .unwrap()
        .unwrap();
    let calls = [
        ("over", 4_000, ""),
        ("held", 4_010, "a=inactive\r\n"),
        ("talks", 4_020, ""),
    ];
    for (name, port, line) in calls {
        for message in answered_call(name, port, line) {
            socket
                .send_to(&hep_frame(&message), (AGENT, HEP_PORT))
                .unwrap();
        }
    }
    let stand = || {
        let sessions = network.agent.sessions().unwrap();
        let names = sessions.into_iter().map(|session| session.spec.unwrap());
        names
            .map(|spec| spec.correlation_id)
            .collect::<BTreeSet<_>>()
    };
    let [talker, hearer] = Site::BOTH.map(addresses::phone);
    let phone = network
        .sites
        .caller
        .enter(|| UdpSocket::bind((talker, 4_020)))
        .unwrap()
        .unwrap();
    let mut all = 0;
    while began.elapsed() < ALL_LOOKED_AT || stand().contains("over") {
        all = all.max(stand().len());
        phone.send_to(&[0x80; 172], (hearer, 4_020)).unwrap();
        assert!(began.elapsed() < 2 * ALL_LOOKED_AT, "{:?}", stand());
        thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(all, 3);
    assert_eq!(stand(), ["held", "talks"].map(str::to_owned).into());
}

/// INVITE and 200 between the phones; `line` is in both SDPs.
fn answered_call(name: &str, port: u16, line: &str) -> [String; 2] {
    let [offer, answer] = Site::BOTH.map(|site| {
        let phone = addresses::phone(site);
        format!("v=0\r\nc=IN IP4 {phone}\r\nm=audio {port} RTP/AVP 8\r\n{line}")
    });
    let message = |start: &str, to_tag: &str, sdp: &str| {
        format!(
            "{start}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{name}\r\nFrom: <sip:a@x>;tag=a\r\n\
             To: <sip:b@x>{to_tag}\r\nCall-ID: {name}\r\nCSeq: 1 INVITE\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
    };
    [
        message("INVITE sip:b@x SIP/2.0", "", &offer),
        message("SIP/2.0 200 OK", ";tag=b", &answer),
    ]
}

/// A SIP message as HEP, with chunks 11, 15 and 14.
fn hep_frame(message: &str) -> Vec<u8> {
    let length = u16::try_from(message.len() + 6).unwrap().to_be_bytes();
    let mut frame = b"HEP3\0\0\0\0\0\x0b\0\x07\x01\0\0\0\x0f".to_vec();
    frame.extend(length);
    frame.extend(message.as_bytes());
    with_key(&frame)
}

/// Sends a case's frames, and looks at server and routers where its text says what must be there.
fn run_case(network: &Network, socket: &UdpSocket, case: &Path) {
    let frames = fs::read(case).unwrap();
    let text = fs::read_to_string(case.with_extension("txt")).unwrap();
    let mut steps = text.split("after ").skip(1).map(|step| {
        let (after, rest) = step.split_once(": ").unwrap();
        let mut lines = rest.lines();
        let what = lines.next().unwrap();
        let flows: BTreeSet<_> = lines
            .map(|line| {
                let words: Vec<_> = line.split_whitespace().take(5).collect();
                let [source, to, destination, rate, rtcp] = words[..] else {
                    panic!("{line}")
                };
                let rate = with_clock_room(rate.parse().unwrap());
                format!("{source} {to} {destination} {rate} {rtcp}")
            })
            .collect();
        (after.parse::<usize>().unwrap(), what, flows)
    });
    // What a case that does not end has left.
    let before = flows(network);
    let mut step = steps.next();
    let mut rest = &frames[..];
    let mut sent = 0;
    while !rest.is_empty() {
        // Chunk 0: "HEP3" and the length of all.
        let length = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
        let (frame, more) = rest.split_at(length);
        socket.send(&with_key(frame)).unwrap();
        rest = more;
        sent += 1;
        thread::sleep(Duration::from_millis(20));
        while let Some((after, what, flows)) = step.take_if(|step| step.0 == sent) {
            let what = format!("{}, after {after}: {what}", case.display());
            eventually(&what, network, &(&flows | &before));
            step = steps.next();
        }
    }
    assert!(step.is_none(), "{}", case.display());
}

/// The frame with the key that the agent expects, as chunk 14.
fn with_key(frame: &[u8]) -> Vec<u8> {
    let mut keyed = frame.to_vec();
    keyed.extend([0, 0, 0, 14, 0, 12]);
    keyed.extend(b"secret");
    let length = u16::try_from(keyed.len()).unwrap();
    keyed[4..6].copy_from_slice(&length.to_be_bytes());
    keyed
}

/// Waits until server and both routers have these flows, no other.
fn eventually(what: &str, network: &Network, expected: &BTreeSet<String>) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let sessions = network.agent.sessions().unwrap();
        let installed = sessions.iter().all(|session| {
            session.routers.len() == 2
                && session
                    .routers
                    .iter()
                    .all(|of| of.state() == State::Installed)
        });
        let flows = flows_of(&sessions);
        // RTP and RTCP of each flow.
        let entries = Site::BOTH.map(|site| network.agent.router_entries(site).unwrap().len());
        if installed && flows == *expected && entries == [2 * expected.len(); 2] {
            return;
        }
        assert!(
            Instant::now() < end,
            "{what}: {flows:#?}, {entries:?} entries in the routers"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn flows(network: &Network) -> BTreeSet<String> {
    flows_of(&network.agent.sessions().unwrap())
}

fn flows_of(sessions: &[Session]) -> BTreeSet<String> {
    let specs = sessions.iter().filter_map(|session| session.spec.as_ref());
    specs.flat_map(|spec| &spec.flows).map(described).collect()
}

fn described(flow: &MediaFlow) -> String {
    let end = |end: &Option<voicelane_proto::v1::Endpoint>| {
        let end = end.as_ref().unwrap();
        format!("{}:{}", end.address, end.port)
    };
    let rtcp = match flow
        .rtcp
        .as_ref()
        .map_or(Mode::NextPort, |rtcp| rtcp.mode())
    {
        Mode::Mux => "mux",
        Mode::Explicit => "explicit",
        Mode::None => "none",
        Mode::NextPort | Mode::Unspecified => "next",
    };
    let (source, destination) = (end(&flow.source), end(&flow.destination));
    format!("{source} > {destination} {} {rtcp}", flow.max_bitrate_bps)
}

/// The lines that the README tells operators to write are those that these tests run with.
#[test]
fn the_readme_quotes_the_configurations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("../../README.md")).unwrap();
    for name in ["hep.cfg", "ng.cfg"] {
        let text = fs::read_to_string(root.join("sip").join(name)).unwrap();
        for line in text.lines() {
            // The README says where the agent is in words of its own.
            let line = line.replace("172.30.0.2", "AGENT");
            assert!(
                readme.contains(&line),
                "{name}: {line:?} is not in the README"
            );
        }
    }
}
