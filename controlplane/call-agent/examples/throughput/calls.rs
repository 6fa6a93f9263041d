//! Calls as Kamailio mirrors them.

use std::fmt::Write as _;

/// The frames of one call.
pub(crate) fn call_frames(call: u32, relay: bool) -> Vec<Vec<u8>> {
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
