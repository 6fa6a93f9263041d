//! The torture messages of RFC 4475 and RFC 5118 (`tests/torture/NAME.sip`), and what the reader and
//! the model make of each.
//!
//! A tracker is no server: what a server must refuse with 400 is read if it can be told which call it
//! belongs to, as the call may go on all the same. Typed in from the RFCs' text; `longreq` and
//! `mpart01` are shortened.

use std::{fs, path::Path};

use voicelane_call_agent::{
    call::{Feed, Limits, Model},
    rate::Configured,
    sdp,
    sip::{self, Message, Refused},
};

/// What becomes of a message.
#[derive(Debug, PartialEq)]
enum Fate {
    /// Read, and the model keeps it; the number of its SDP's streams.
    Kept(usize),
    /// Read, and it says nothing of a call's media.
    Ignored,
    /// The parser refuses it.
    Refused(Refused),
}

use Fate::{Ignored, Kept};

/// In the order of the RFCs.
const TABLE: &[(&str, Fate)] = &[
    // RFC 4475, 3.1.1: valid
    ("wsinv", Kept(2)),
    ("intmeth", Ignored),
    ("esc01", Kept(2)),
    ("escnull", Ignored),
    ("esc02", Ignored),
    ("lwsdisp", Ignored),
    ("longreq", Kept(2)),
    ("dblreq", Ignored),
    ("semiuri", Ignored),
    ("transports", Ignored),
    ("mpart01", Ignored),
    ("unreason", Kept(2)),
    ("noreason", Ignored),
    // 3.1.2: invalid
    ("badinv01", Kept(2)),
    ("clerr", Kept(2)),
    ("ncl", Kept(2)),
    ("scalar02", Fate::Refused(Refused::CSeq)),
    ("scalarlg", Fate::Refused(Refused::CSeq)),
    ("quotbal", Kept(2)),
    ("ltgtruri", Kept(2)),
    ("lwsruri", Kept(2)),
    ("lwsstart", Kept(2)),
    ("trws", Ignored),
    ("escruri", Kept(2)),
    ("baddate", Kept(2)),
    ("regbadct", Ignored),
    ("badaspec", Ignored),
    ("baddn", Ignored),
    ("badvers", Fate::Refused(Refused::StartLine)),
    ("mismatch01", Fate::Refused(Refused::Method)),
    ("mismatch02", Fate::Refused(Refused::Method)),
    ("bigcode", Fate::Refused(Refused::Status)),
    // 3.2: transactions
    ("badbranch", Ignored),
    // 3.3: applications
    ("insuf", Fate::Refused(Refused::CallId)),
    ("unkscm", Ignored),
    ("novelsc", Ignored),
    ("unksm2", Ignored),
    ("bext01", Ignored),
    ("invut", Kept(0)),
    ("regaut01", Ignored),
    ("multi01", Kept(2)),
    ("mcl01", Ignored),
    ("bcast", Kept(2)),
    ("zeromf", Ignored),
    ("cparam01", Ignored),
    ("cparam02", Ignored),
    ("regescrt", Ignored),
    ("sdp01", Kept(2)),
    // 3.4: RFC 2543
    ("inv2543", Kept(1)),
    // RFC 5118
    ("ipv6-good", Ignored),
    ("ipv6-bad", Ignored),
    ("port-ambiguous", Ignored),
    ("port-unambiguous", Ignored),
    ("via-received-param-with-delim", Kept(0)),
    ("via-received-param-no-delim", Kept(0)),
    ("ipv6-in-sdp", Kept(2)),
    ("mult-ip-in-header", Kept(0)),
    ("mult-ip-in-sdp", Kept(2)),
    ("ipv4-mapped-ipv6", Kept(2)),
    ("ipv6-bug-abnf-3-colons", Ignored),
];

#[test]
fn each_torture_message_has_its_fate() {
    let files = fs::read_dir(folder()).unwrap().count();
    assert_eq!(files, TABLE.len());
    for (name, expected) in TABLE {
        assert_eq!(fate(&bytes(name)), *expected, "{name}");
    }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture")
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join(name).with_extension("sip")).unwrap()
}

fn fate(datagram: &[u8]) -> Fate {
    let message = match sip::read(datagram) {
        Ok(message) => message,
        Err(refused) => return Fate::Refused(refused),
    };
    let mut model = Model::new(Configured::default(), Limits::default(), 1);
    model.sip(1, &Feed::default(), &message);
    assert_eq!(model.counters().bad_sdp, 0);
    match model.calls() {
        0 => Ignored,
        _ => Kept(
            message
                .sdp
                .map_or(0, |text| sdp::read(text).unwrap().streams.len()),
        ),
    }
}

/// What the messages are there to show.
#[test]
fn torture_messages_say_what_they_say() {
    let check = |name: &str, check: &dyn Fn(&Message<'_>) -> bool| {
        let bytes = bytes(name);
        let message = sip::read(&bytes).unwrap();
        assert!(check(&message), "{name}: {message:?}");
    };
    check("wsinv", &|message| {
        let branches: Vec<_> = message.vias.iter().map(|via| via.branch).collect();
        message.call_id == b"wsinv.ndaksdj@192.0.2.1"
            && (message.from_tag, message.to_tag) == (b"98asjd8", b"1918181833n")
            && message.cseq == 9
            && branches == [b"390skdjuw".as_slice(), b"z9hG4bK9ikj8", b"z9hG4bK30239"]
            && message.vias[1].sent_by == b"spindle.example.com"
    });
    check("intmeth", &|message| {
        message.call_id == b"intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
            && message.from_tag == b"_token~1'+`*%!-."
            && message.vias[0].branch == b"z9hG4bK-.!%66*_+`'~"
    });
    check("longreq", &|message| {
        message.vias.len() == 34 && message.received().is_some()
    });
    check("dblreq", &|message| message.sdp.is_none());
    check("unreason", &|message| message.code() == Some(200));
    check("quotbal", &|message| {
        message.to_tag.is_empty() && message.from_tag == b"93334"
    });
    check("badinv01", &|message| message.vias[0].branch.is_empty());
    check("baddn", &|message| message.from_tag == b"43");
    check("inv2543", &|message| message.from_tag.is_empty());
    let received = Some("2001:db8::9:255".parse().unwrap());
    check("via-received-param-with-delim", &|message| {
        message.received() == received
    });
    check("via-received-param-no-delim", &|message| {
        message.received() == received
    });
    check("mult-ip-in-sdp", &|message| {
        let streams = sdp::read(message.sdp.unwrap()).unwrap().streams;
        let at = |at: usize, ip: &str| {
            streams[at].connection == Some(sdp::Connection::Address(ip.parse().unwrap()))
        };
        at(0, "192.0.2.1") && at(1, "2001:db8::1")
    });
}
