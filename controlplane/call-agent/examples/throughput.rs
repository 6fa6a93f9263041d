//! How fast HEP becomes sessions, and what calls cost in memory.
//!
//!     cargo run --release -p voicelane-call-agent --example throughput
//!
//! A call is what Kamailio mirrors of one through it: 13 frames, each request and response on both
//! hops, with local 100s and both ACKs.

use std::{fmt::Write as _, fs, hint::black_box, time::Instant};

use voicelane_call_agent::{
    call::{Change, Feed, Limits, Model},
    hep,
    rate::Configured,
    sip,
};

const SECOND: u64 = 1_000_000;
/// Calls a second, for the memory they take at the field's usual rate.
const CALL_RATE: u64 = 556;

fn main() {
    throughput();
    for relay in [false, true] {
        memory(100_000, relay, CALL_RATE);
    }
    // All at once: nothing is settled yet.
    memory(100_000, false, 100_000);
}

/// Whole calls, 400 of them going on at a time.
fn throughput() {
    const CALLS: u32 = 20_000;
    const AT_A_TIME: u32 = 400;

    let mut frames = Vec::new();
    for first in (0..CALLS).step_by(AT_A_TIME as usize) {
        let calls: Vec<_> = (first..first + AT_A_TIME)
            .map(|call| call_frames(call, false))
            .collect();
        for nth in 0..13 {
            frames.extend(calls.iter().map(|call| call[nth].clone()));
        }
    }
    let bytes: usize = frames.iter().map(Vec::len).sum();

    let start = Instant::now();
    for frame in &frames {
        if let Ok(packet) = hep::read(frame) {
            black_box(sip::read(&packet.payload).is_ok());
        }
    }
    let reading = start.elapsed();

    let mut model = model();
    let (mut now, mut added, mut removed) = (SECOND, 0, 0);
    let start = Instant::now();
    for frame in &frames {
        now += 100;
        take(&mut model, now, frame);
        for change in model.changes() {
            match change {
                Change::Add(_) => added += 1,
                Change::Remove { .. } => removed += 1,
                _ => {}
            }
        }
    }
    let all = start.elapsed();
    assert_eq!((added, removed), (CALLS, CALLS));
    let count = frames.len() as u128;
    println!(
        "{count} frames of {} bytes: {} ns a frame to read, {} ns with the model: {} frames a second on one core",
        bytes / frames.len(),
        reading.as_nanos() / count,
        all.as_nanos() / count,
        count * 1_000_000_000 / all.as_nanos(),
    );
}

/// Resident memory of calls that were answered and go on.
fn memory(calls: u32, relay: bool, rate: u64) {
    let before = resident();
    let mut model = model();
    let mut now = SECOND;
    for call in 0..calls {
        now += SECOND / rate;
        for frame in &call_frames(call, relay)[..9] {
            take(&mut model, now, frame);
            drop(model.changes());
        }
    }
    let sessions = model.counters().added;
    assert_eq!((model.calls(), sessions), (calls as usize, calls.into()));
    println!(
        "{calls} calls at {rate} a second, {}: {} MB",
        if relay {
            "four flows each by a relay"
        } else {
            "two flows each"
        },
        (resident() - before) >> 20
    );
}

fn model() -> Model {
    Model::new(Configured::default(), Limits::default(), 1)
}

fn take(model: &mut Model, now: u64, frame: &[u8]) {
    if let Ok(packet) = hep::read(frame)
        && let Ok(message) = sip::read(&packet.payload)
    {
        let feed = Feed {
            captured_us: None,
            source: packet.source,
            destination: packet.destination,
        };
        model.sip(now, &feed, &message);
    }
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}

/// The frames of one call.
fn call_frames(call: u32, relay: bool) -> Vec<Vec<u8>> {
    let [_, high, middle, low] = call.to_be_bytes();
    let caller = format!("10.{}.{middle}.{low}", 16 + high);
    let callee = format!("10.{}.{middle}.{low}", 32 + high);
    let port = 20_000 + (call % 10_000) * 4;
    let (to_callee, to_caller) = if relay {
        (("10.9.0.1".to_owned(), port), ("10.9.0.2".to_owned(), port))
    } else {
        ((caller.clone(), 4_000), (callee.clone(), 5_000))
    };
    let offers = [
        sdp(&caller, 4_000),
        sdp(&to_callee.0, to_callee.1 + call / 10_000 % 2),
    ];
    let answers = [
        sdp(&to_caller.0, to_caller.1 + call / 10_000 % 2),
        sdp(&callee, 5_000),
    ];
    let request = |method: &str, cseq: u32, hop: usize, body: &str| {
        message(
            call,
            &format!("{method} sip:bob@example.net SIP/2.0"),
            method,
            cseq,
            hop,
            body,
        )
    };
    let response = |code: &str, method: &str, cseq: u32, hop: usize, body: &str| {
        message(call, &format!("SIP/2.0 {code}"), method, cseq, hop, body)
    };
    vec![
        request("INVITE", 1, 0, &offers[0]),
        response("100 trying", "INVITE", 1, 0, ""),
        request("INVITE", 1, 1, &offers[1]),
        response("180 Ringing", "INVITE", 1, 1, ""),
        response("180 Ringing", "INVITE", 1, 0, ""),
        response("200 OK", "INVITE", 1, 1, &answers[1]),
        response("200 OK", "INVITE", 1, 0, &answers[0]),
        request("ACK", 1, 0, ""),
        request("ACK", 1, 1, ""),
        request("BYE", 2, 0, ""),
        request("BYE", 2, 1, ""),
        response("200 OK", "BYE", 2, 1, ""),
        response("200 OK", "BYE", 2, 0, ""),
    ]
}

fn sdp(ip: &str, port: u32) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 9 8 0 101\r\n\
         a=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    )
}

fn message(call: u32, start: &str, method: &str, cseq: u32, hop: usize, body: &str) -> Vec<u8> {
    let mut text = format!("{start}\r\n");
    if hop == 1 {
        let _ = write!(
            text,
            "Via: SIP/2.0/UDP 10.9.0.1:5060;branch=z9hG4bKcydzigwkX{call}p{method}\r\n"
        );
    }
    let to_tag = if method == "INVITE" && !start.starts_with("SIP") {
        ""
    } else {
        ";tag=8f2ab"
    };
    let _ = write!(
        text,
        "Via: SIP/2.0/UDP 10.1.0.5:5060;rport=5060;branch=z9hG4bK-{call}-{method}\r\n\
         Record-Route: <sip:10.9.0.1;lr;ftag=77a1>\r\nMax-Forwards: 70\r\n\
         From: \"Alice\" <sip:alice@example.net>;tag=77a1\r\nTo: <sip:bob@example.net>{to_tag}\r\n\
         Call-ID: {call:08}-4f1c2a@10.1.0.5\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:alice@10.1.0.5:5060>\r\nUser-Agent: phone 1.0\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK\r\nSupported: timer, 100rel\r\n"
    );
    if !body.is_empty() {
        text += "Content-Type: application/sdp\r\n";
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
    frame(text.as_bytes())
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(b"HEP3\0\0");
    let mut chunk = |kind: u16, value: &[u8]| {
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(&kind.to_be_bytes());
        frame.extend_from_slice(&short(value.len() + 6));
        frame.extend_from_slice(value);
    };
    chunk(1, &[2]);
    chunk(2, &[17]);
    chunk(3, &[10, 1, 0, 5]);
    chunk(4, &[10, 9, 0, 1]);
    chunk(7, &5060_u16.to_be_bytes());
    chunk(8, &5060_u16.to_be_bytes());
    chunk(9, &1_700_000_000_u32.to_be_bytes());
    chunk(10, &0_u32.to_be_bytes());
    chunk(11, &[1]);
    chunk(12, &2001_u32.to_be_bytes());
    chunk(14, b"secret");
    chunk(15, payload);
    let length = short(frame.len());
    frame[4..6].copy_from_slice(&length);
    frame
}

fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}
