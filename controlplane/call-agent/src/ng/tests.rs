use super::*;

#[test]
fn commands_are_read_as_bencode_and_as_json() {
    let bencode = b"5323_1 d7:call-id3:c\xe9@3:sdp5:v=0\r\n8:to-tag 2:tb8:from-tag2:fa13:received-froml3:IP49:192.0.2.7e7:command6:answer5:flagsl4:x y 1:ai-7eee".to_vec();
    let bencode = String::from_utf8_lossy(&bencode).into_owned();
    // Keys of any order; "to-tag " with a space is another key.
    let request = bencode
        .replace("8:to-tag ", "6:to-tag")
        .replace('\u{fffd}', "x");
    let request = Request::read(request.as_bytes()).unwrap();
    let json = br#"c2 {"command":"answer","call_id":"cx@","from-tag":"fa","to-tag":"tb","received from":["IP4","192.0.2.7"],"sdp":"v=0\r\n","x":[null,true,1.5]}"#;
    let from_json = Request::read(json).unwrap();
    assert_eq!(request.command(), from_json.command());
    assert_eq!(
        (request.cookie, from_json.cookie),
        (b"5323_1".as_slice(), b"c2".as_slice())
    );
    let Ok(Command::Answer(media)) = request.command() else {
        panic!()
    };
    assert_eq!(media.received_from, Some("192.0.2.7".parse().unwrap()));
    assert_eq!(&*media.sdp, b"v=0\r\n");
    assert_eq!(media.dialog.to_tag.as_deref(), Some(b"tb".as_slice()));

    let read = |text: &'static str| Request::read(text.as_bytes()).unwrap().command();
    assert_eq!(read("1 d7:command4:pinge"), Ok(Command::Ping));
    assert_eq!(
        read("1 d7:command5:querye"),
        Ok(Command::Other(b"query".as_slice().into()))
    );
    assert!(matches!(
        read("1 d7:command6:delete7:call-id1:xe"),
        Ok(Command::Delete(_))
    ));
}

#[test]
fn refusals_say_why_and_can_be_answered() {
    for text in ["", " d7:command4:pinge", "nospace"] {
        assert_eq!(
            Request::read(text.as_bytes()),
            Err(Refused::Cookie),
            "{text}"
        );
    }
    assert_eq!(Request::read(b"1 7:command"), Err(Refused::Dictionary));
    let refused = |text: &str| {
        let request = Request::read(text.as_bytes()).unwrap();
        assert_eq!(request.cookie, b"1");
        request.command().unwrap_err()
    };
    for (text, expected) in [
        ("1 d7:command4:ping", Refused::Dictionary),
        (
            "1 d7:command99999999999999999999:pinge",
            Refused::Dictionary,
        ),
        ("1 d7:command4:pi", Refused::Dictionary),
        ("1 de", Refused::Command),
        ("1 d7:commandi4ee", Refused::Command),
        ("1 d7:command5:offere", Refused::CallId),
        ("1 d7:call-id1:x7:command5:offere", Refused::FromTag),
        (
            "1 d7:call-id1:x7:command5:offer8:from-tag1:fe",
            Refused::Sdp,
        ),
        (
            "1 d7:call-id1:x7:command6:answer8:from-tag1:f3:sdp1:ve",
            Refused::ToTag,
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
    let deep = format!("1 d1:a{}{}e", "l".repeat(100_000), "e".repeat(100_000));
    assert_eq!(refused(&deep), Refused::Size);
    let wide = format!("1 d1:al{}ee", "i1e".repeat(10_000));
    assert_eq!(refused(&wide), Refused::Size);
    let deep = format!("1 {{\"a\":{}{}}}", "[".repeat(60), "]".repeat(60));
    assert_eq!(refused(&deep), Refused::Size);
}

#[test]
fn answers_are_what_kamailio_accepts() {
    let written = |answer: Answer<'_>, encoding| {
        let mut dictionary = Vec::new();
        answer.write_dictionary(encoding, &mut dictionary);
        String::from_utf8(dictionary).unwrap()
    };
    let bencode = |answer: Answer<'_>| written(answer, Encoding::Bencode);
    let json = |answer: Answer<'_>| written(answer, Encoding::Json);
    assert_eq!(bencode(Answer::Pong), "d6:result4:ponge");
    assert_eq!(
        bencode(Answer::Sdp(b"v=0\r\n")),
        "d6:result2:ok3:sdp5:v=0\r\ne"
    );
    assert_eq!(
        bencode(Answer::Deleted { unknown: false }),
        "d6:result2:oke"
    );
    assert_eq!(
        bencode(Answer::Deleted { unknown: true }),
        "d6:result2:ok7:warning17:Call-ID not founde"
    );
    assert_eq!(
        bencode(Answer::Error("no")),
        "d12:error-reason2:no6:result5:errore"
    );
    assert_eq!(
        json(Answer::Sdp(b"v=0\r\n")),
        r#"{"result":"ok","sdp":"v=0\r\n"}"#
    );
    assert_eq!(
        json(Answer::Error("no")),
        r#"{"error-reason":"no","result":"error"}"#
    );
}
