//! Calls that trackers of others got wrong.
//!
//! `tests/cases/*.hep` are HEPv3 frames one after the other, 20 ms apart; `*.txt` says which flows must
//! be installed after which message, no other.

use std::{fs, path::Path};

use voicelane_call_agent::{
    call::{Feed, Limits, Model},
    hep,
    rate::Configured,
    sip,
};

use crate::server::Server;

/// What must be installed after a message.
pub(crate) struct Expected {
    pub(crate) after: usize,
    pub(crate) what: String,
    pub(crate) flows: Vec<String>,
}

#[test]
fn each_case_has_the_flows_it_must() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hep") {
            let text = fs::read_to_string(path.with_extension("txt")).unwrap();
            run(
                &path.display().to_string(),
                &fs::read(&path).unwrap(),
                &expected(&text),
            );
            count += 1;
        }
    }
    assert!(count >= 6);
}

pub(crate) fn expected(text: &str) -> Vec<Expected> {
    let mut all: Vec<Expected> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("after ") {
            let (after, what) = rest.split_once(": ").unwrap();
            all.push(Expected {
                after: after.parse().unwrap(),
                what: what.into(),
                flows: Vec::new(),
            });
        } else {
            // What stands behind the four words is for people.
            let flow: Vec<_> = line.split_whitespace().take(5).collect();
            all.last_mut().unwrap().flows.push(flow.join(" "));
        }
    }
    all
}

fn run(name: &str, bytes: &[u8], expected: &[Expected]) {
    let mut model = Model::new(Configured::default(), Limits::default(), 1);
    let mut server = Server::default();
    let mut frames = hep::Frames::default();
    frames.push(bytes);
    let mut now = 5_000_000;
    let mut message = 0;
    while let Some(frame) = frames.next_frame().unwrap() {
        message += 1;
        now += 20_000;
        let packet = hep::read(frame).unwrap();
        let feed = Feed {
            captured_us: packet.captured_us,
            source: packet.source,
            destination: packet.destination,
        };
        model.sip(now, &feed, &sip::read(&packet.payload).unwrap());
        server.take(model.changes());
        for step in expected.iter().filter(|step| step.after == message) {
            let mut flows = step.flows.clone();
            flows.sort();
            assert_eq!(
                server.flows(),
                flows,
                "{name}, after {message}: {}",
                step.what
            );
        }
    }
    assert!(expected.iter().all(|step| step.after <= message), "{name}");
}
