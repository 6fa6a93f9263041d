//! What others read, too, is read alike: ezk-sip-types for SIP heads, sdp-types for SDP.
//!
//! Both refuse much that is read here (bare LF, Latin-1, tel: URIs); only what both read is compared.

use std::{fs, path::Path};

use bytes::Bytes;
use ezk_sip_types::{
    Headers, Name,
    header::typed::{CSeq, CallID, FromTo, Via},
    msg::{Line, PullParser},
};
use sdp_types::Session;
use voicelane_call_agent::{hep, sdp, sip};

#[test]
fn heads_are_read_as_ezk_reads_them() {
    let mut compared = 0;
    for message in messages() {
        let (Ok(ours), Some(theirs)) = (sip::read(&message), theirs(&message)) else {
            continue;
        };
        compared += 1;
        let said = String::from_utf8_lossy(&message);
        if let Ok(CallID(call_id)) = theirs.get_named::<CallID>() {
            assert_eq!(call_id.as_bytes(), ours.call_id, "{said}");
        }
        if let Ok(cseq) = theirs.get_named::<CSeq>() {
            assert_eq!(cseq.cseq, ours.cseq, "{said}");
        }
        for (name, tag) in [(Name::FROM, ours.from_tag), (Name::TO, ours.to_tag)] {
            // It does not find a tag written in capitals.
            if let Some(theirs) = theirs.get::<FromTo>(name).ok().and_then(|of| of.tag) {
                assert_eq!(theirs.as_bytes(), tag, "{said}");
            }
        }
        if let Ok(vias) = theirs.get_named::<Vec<Via>>() {
            assert_eq!(vias.len(), ours.vias.len(), "{said}");
            // It takes % for an escape, which it is not in a branch (RFC 4475 section 3.1.1.2).
            let plain = ours.vias.iter().filter(|via| !via.branch.contains(&b'%'));
            for (theirs, ours) in vias.iter().zip(plain) {
                let branch = theirs.params.get_val("branch");
                let branch = branch.map_or(&b""[..], |branch| branch.as_bytes());
                assert_eq!(branch, ours.branch, "{said}");
            }
        }
    }
    assert!(compared > 40, "{compared}");
}

/// The headers by ezk-sip-types, if it reads every line.
fn theirs(message: &[u8]) -> Option<Headers> {
    let source = Bytes::copy_from_slice(message);
    let mut headers = Headers::new();
    for line in PullParser::new(&source, 0).skip(1) {
        let line = std::str::from_utf8(line.ok()?).ok()?;
        let (_, line) = Line::parse(&source, line).ok()?;
        headers.insert(line.name, line.value);
    }
    Some(headers)
}

#[test]
fn sdp_is_read_as_sdp_types_reads_it() {
    let mut compared = 0;
    for message in messages() {
        let Some(text) = sip::read(&message).ok().and_then(|message| message.sdp) else {
            continue;
        };
        let (Ok(ours), Ok(theirs)) = (sdp::read(text), Session::parse(text)) else {
            continue;
        };
        compared += 1;
        assert_eq!(theirs.medias.len(), ours.streams.len());
        assert_eq!(Some(theirs.origin.sess_version), ours.version);
        for (media, stream) in theirs.medias.iter().zip(&ours.streams) {
            assert_eq!(media.port, stream.port);
            assert_eq!(media.num_ports.unwrap_or(1), stream.ports);
            let connection = media.connections.first().or(theirs.connection.as_ref());
            let address = connection.and_then(|of| of.connection_address.parse().ok());
            assert_eq!(address.map(sdp::Connection::Address), stream.connection);
            if media.proto.starts_with("RTP") {
                let formats: Vec<_> = media.fmt.split(' ').map(str::to_owned).collect();
                let ours: Vec<_> = stream
                    .formats
                    .iter()
                    .map(|of| of.payload_type.to_string())
                    .collect();
                assert_eq!(formats, ours);
            }
        }
    }
    assert!(compared > 20, "{compared}");
}

/// The messages of the cases and the torture messages.
fn messages() -> Vec<Vec<u8>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = |folder: &str| {
        let entries = fs::read_dir(tests.join(folder)).unwrap();
        entries
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect::<Vec<_>>()
    };
    let mut messages = files("torture");
    for bytes in files("cases") {
        let mut frames = hep::Frames::default();
        frames.push(&bytes);
        while let Ok(Some(frame)) = frames.next_frame() {
            messages.push(hep::read(frame).unwrap().payload.into_owned());
        }
    }
    messages
}
