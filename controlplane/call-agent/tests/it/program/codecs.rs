//! What sessions say of their payload types.

use std::net::UdpSocket;

use super::{
    frames::frame,
    world::{PATIENCE, Program, World},
};

const OFFER: &str = "m=audio 4000 RTP/AVP 8 96 101\r\na=rtpmap:96 opus/48000/2\r\n\
                     a=fmtp:96 useinbandfec=1\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n";

/// `TYPE ENCODING CLOCK PTIME FMTP` of what is sent to the callee and to the caller.
async fn codecs(call: &str, answer: &str) -> [Vec<String>; 2] {
    let mut world = World::start().await;
    let agent = Program::start(world.server.address, &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ends = [
        ("INVITE sip:b@x SIP/2.0", "", "10.1.0.5", OFFER),
        ("SIP/2.0 200 OK", ";tag=b", "10.2.0.7", answer),
    ];
    for (start, tag, address, media) in ends {
        let sdp = format!("v=0\r\nc=IN IP4 {address}\r\n{media}");
        let message = format!(
            "{start}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{call}\r\nFrom: <sip:a@x>;tag=a\r\n\
             To: <sip:b@x>{tag}\r\nCall-ID: {call}\r\nCSeq: 1 INVITE\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        socket.send_to(&frame(&message, b""), agent.hep).unwrap();
    }
    let added = async {
        loop {
            if let Some(session) = world.sessions().await.pop() {
                return session.spec.unwrap().flows;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let flows = tokio::time::timeout(PATIENCE, added).await.unwrap();
    ["10.2.0.7", "10.1.0.5"].map(|to| {
        let is_it = |end: &voicelane_proto::v1::Endpoint| end.address == to;
        let flow = flows
            .iter()
            .find(|flow| flow.destination.as_ref().is_some_and(is_it));
        let codecs = flow.unwrap().codecs.iter().map(|of| {
            let (payload_type, encoding) = (of.payload_type, &of.encoding);
            format!(
                "{payload_type} {encoding} {} {} {}",
                of.clock_rate, of.ptime_ms, of.fmtp
            )
        });
        codecs.collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn payload_types_mean_what_the_answer_says() {
    let answer = "m=audio 5000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
                  a=ptime:30\r\n";
    let [to_callee, to_caller] = codecs("alike", answer).await;
    assert_eq!(
        to_callee,
        ["8 PCMA 8000 30 ", "101 telephone-event 8000 30 0-15"]
    );
    // The caller wants another packet time.
    assert_eq!(
        to_caller,
        ["8 PCMA 8000 20 ", "101 telephone-event 8000 20 0-15"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_side_has_numbers_of_its_own() {
    let answer = "m=audio 5000 RTP/AVP 111\r\na=rtpmap:111 OPUS/48000/2\r\n";
    let [to_callee, to_caller] = codecs("numbers", answer).await;
    assert_eq!(to_callee, ["111 OPUS 48000 0 "]);
    let offered = [
        "8 PCMA 8000 20 ",
        "96 opus 48000 20 useinbandfec=1",
        "101 telephone-event 8000 20 ",
    ];
    assert_eq!(to_caller, offered);
}
