use super::*;

const INVITE: &str = "INVITE sip:bob@example.net SIP/2.0\r\n\
    Via: SIP/2.0/UDP 10.9.0.1;branch=z9hG4bKp1, SIP/2.0/TCP [2001:db8::5]:5060 ; branch = z9hG4bKa ;received=203.0.113.9\r\n\
    v: SIP / 2.0 / TLS host.example.net\r\n\
    From: \"A, \\\"b\\\" <x>;tag=no\" <sip:alice;tag=no@example.net>;x=\"y;tag=no\";TAG=fa\r\n\
    To: <tel:+15551234;phone-context=example.net>\r\n\
    Call-ID: c1@x\r\n\
    CSeq: 0007 INVITE\r\n\
    x: 1800;refresher=uac\r\n\
    no colon here\r\n\
    Content-Type: application/sdp\r\n\r\n\
    v=0\r\n";

#[test]
fn a_message_is_read() {
    let message = read(INVITE.as_bytes()).unwrap();
    assert_eq!(message.call_id, b"c1@x");
    assert_eq!(message.from_tag, b"fa");
    assert_eq!(message.to_tag, b"");
    assert_eq!((message.cseq, message.method), (7, Method::Invite));
    assert_eq!(message.session_expires, Some(1800));
    assert_eq!(message.bad_lines, 1);
    assert_eq!(message.sdp, Some(b"v=0\r\n".as_slice()));
    let vias: Vec<_> = message
        .vias
        .iter()
        .map(|via| {
            (
                via.sent_by,
                via.branch,
                via.received.map(|ip| ip.to_string()),
            )
        })
        .collect();
    assert_eq!(
        vias,
        [
            (b"10.9.0.1".as_slice(), b"z9hG4bKp1".as_slice(), None),
            (
                b"[2001:db8::5]:5060",
                b"z9hG4bKa",
                Some("203.0.113.9".into())
            ),
            (b"host.example.net", b"", None),
        ]
    );
}

#[test]
fn content_length_is_believed_where_it_can_be_true() {
    let body = |length: &str, body: &str, with_type: bool| {
        let with_type = if with_type {
            "c: application/sdp\r\n"
        } else {
            ""
        };
        let text = format!(
            "BYE sip:b SIP/2.0\r\nv: SIP/2.0/UDP h\r\nf: <sip:a>\r\nt: <sip:b>\r\ni: 1\r\nCSeq: 1 BYE\r\n\
             {with_type}{length}\r\n{body}"
        );
        let message = read(text.as_bytes()).unwrap();
        message
            .sdp
            .map(|sdp| String::from_utf8_lossy(sdp).into_owned())
    };
    for (length, text, with_type, expected) in [
        ("", "v=0\r\ns=-\r\n", true, Some("v=0\r\ns=-\r\n")),
        ("l: 5\r\n", "v=0\r\nINVITE x\r\n", true, Some("v=0\r\n")),
        ("l: 4\r\n", "v=0\r\ns=-\r\n", true, Some("v=0\r\ns=-\r\n")),
        ("l: 0\r\n", "v=0\r\ns=-\r\n", true, Some("v=0\r\ns=-\r\n")),
        ("l: 0\r\n", "v=0\r\ns=-\r\n", false, None),
        ("l: 9999\r\n", "v=0\r\n", true, Some("v=0\r\n")),
        ("l: -7\r\n", "v=0\r\n", true, Some("v=0\r\n")),
        (
            "l: 99999999999999999999999\r\n",
            "v=0\r\n",
            true,
            Some("v=0\r\n"),
        ),
        ("", "", true, None),
        ("", "v=0\n", false, Some("v=0\n")),
    ] {
        assert_eq!(
            body(length, text, with_type).as_deref(),
            expected,
            "{length:?} {text:?}"
        );
    }
}

#[test]
fn sdp_is_found_in_nested_parts() {
    let text = "INVITE sip:b SIP/2.0\r\nv: SIP/2.0/UDP h\r\nf: <sip:a>;tag=\r\nt: <sip:b>\r\ni: 1\r\nCSeq: 1 INVITE\r\n\
        Content-Type: MULTIPART/mixed;\r\n boundary=\"o o\"\r\n\r\n\
        --o o\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n\
        --in\r\ncontent-type: text/plain\r\n\r\nno --o o here\r\n\
        --in  \r\nContent-ID: <1>\r\nc:\r\n application/SDP ; charset=utf-8\r\nx: y\r\n\r\nv=0\r\n--in--\r\n\
        --o o--\r\n";
    let message = read(text.as_bytes()).unwrap();
    assert_eq!(message.sdp, Some(b"v=0".as_slice()));
    let unnamed = text.replace("\r\n boundary=\"o o\"", "");
    assert_eq!(
        read(unnamed.as_bytes()).unwrap().sdp,
        Some(b"v=0".as_slice())
    );
}

#[test]
fn refusals_say_why() {
    let refused = |text: &str| read(text.as_bytes()).unwrap_err();
    let without = |name: &str| {
        let lines = INVITE
            .split_inclusive("\r\n")
            .filter(|line| !(line.starts_with(name) || name == "Via" && line.starts_with("v:")));
        refused(&lines.collect::<String>())
    };
    assert_eq!(refused("\r\n\r\n"), Refused::KeepAlive);
    assert_eq!(refused(""), Refused::KeepAlive);
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), Refused::StartLine);
    assert_eq!(refused("INVITE SIP/2.0\r\n\r\n"), Refused::StartLine);
    assert_eq!(refused("SIP/2.0 99 x\r\n\r\n"), Refused::Status);
    assert_eq!(refused("SIP/2.0 4294967301 x\r\n\r\n"), Refused::Status);
    assert_eq!(without("Call-ID"), Refused::CallId);
    assert_eq!(without("From"), Refused::From);
    assert_eq!(without("To"), Refused::To);
    assert_eq!(without("CSeq"), Refused::CSeq);
    assert_eq!(without("Via"), Refused::Via);
    assert_eq!(
        refused(&INVITE.replace("0007 INVITE", "7 BYE")),
        Refused::Method
    );
    assert_eq!(
        refused(&INVITE.replace("c1@x", &"c".repeat(1025))),
        Refused::CallId
    );
    assert_eq!(
        refused(&INVITE.replace("TAG=fa", &"tag=f".repeat(400))),
        Refused::Tag
    );
}
