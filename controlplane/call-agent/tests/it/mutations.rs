//! Damaged input: nothing panics, nothing takes long.
//!
//! The fuzz targets do the same for longer (`fuzz`), and so does the example `storm`.

use std::{fs, path::Path};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use voicelane_call_agent::{
    call::{Feed, Limits, Model, NgMedia},
    hep, ng,
    rate::Configured,
    sip,
};

#[path = "../../fuzz/entry/hep.rs"]
mod hep_entry;
#[path = "../../fuzz/entry/mutate.rs"]
mod mutate;
#[path = "../../fuzz/entry/ng.rs"]
mod ng_entry;
#[path = "../../fuzz/entry/sdp.rs"]
mod sdp_entry;
#[path = "../../fuzz/entry/sip.rs"]
mod sip_entry;

use mutate::mutate;

const ROUNDS: usize = 20_000;

#[test]
fn damaged_input_does_no_harm() {
    let mut random = SmallRng::seed_from_u64(4475);
    let corpus = corpus();
    let mut model = Model::new(
        Configured::default(),
        Limits {
            calls: 50,
            half_open: 20,
        },
        3,
    );
    let mut now = 0;
    let mut input = Vec::new();
    for _ in 0..ROUNDS {
        mutate(&mut random, &corpus, &mut input);
        now += random.random_range(0..1_000_000);
        for read in [
            hep_entry::run,
            sip_entry::run,
            sdp_entry::run,
            ng_entry::run,
        ] {
            read(&input);
        }
        tell(&mut model, now, &input);
        drop(model.changes());
        assert!(model.calls() <= 50);
    }
    assert!(model.counters().added > 0);
    model.tick(now + 1_000_000_000);
}

/// One model, on any bytes that can be read.
fn tell(model: &mut Model, now: u64, input: &[u8]) {
    let mut frames = hep::Frames::default();
    frames.push(input);
    while let Ok(Some(frame)) = frames.next_frame() {
        if let Ok(packet) = hep::read(frame)
            && let Ok(message) = sip::read(&packet.payload)
        {
            let feed = Feed {
                captured_us: packet.captured_us,
                source: packet.source,
                destination: packet.destination,
            };
            model.sip(now, &feed, &message);
        }
    }
    if let Ok(message) = sip::read(input) {
        model.sip(now, &Feed::default(), &message);
    }
    if let Ok(request) = ng::Request::read(input) {
        match request.command() {
            Ok(ng::Command::Offer(command)) => model.ng_offer(now, &media(&command)),
            Ok(ng::Command::Answer(command)) => model.ng_answer(now, &media(&command)),
            Ok(ng::Command::Delete(dialog)) => {
                model.ng_delete(now, &dialog);
            }
            Ok(ng::Command::Ping | ng::Command::Other(_)) | Err(_) => {}
        }
    }
}

fn media<'a>(command: &'a ng::Media<'a>) -> NgMedia<'a> {
    NgMedia {
        command,
        relayed: None,
    }
}

/// Messages and frames of the cases, the torture messages, and a few ng commands.
fn corpus() -> Vec<Vec<u8>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut corpus: Vec<Vec<u8>> = Vec::new();
    for folder in ["cases", "torture"] {
        for entry in fs::read_dir(tests.join(folder)).unwrap() {
            corpus.push(fs::read(entry.unwrap().path()).unwrap());
        }
    }
    let mut messages = Vec::new();
    for bytes in &corpus {
        let mut frames = hep::Frames::default();
        frames.push(bytes);
        while let Ok(Some(frame)) = frames.next_frame() {
            messages.push(hep::read(frame).unwrap().payload.into_owned());
        }
    }
    corpus.append(&mut messages);
    let sdp = "v=0\r\nc=IN IP4 10.1.0.5\r\nm=audio 4000 RTP/SAVPF 111 0\r\na=rtpmap:111 opus/48000/2\r\n\
        a=fmtp:111 maxaveragebitrate=20000\r\na=crypto:1 AEAD_AES_128_GCM inline:x|1:4\r\na=mid:0\r\n";
    let head = "7_1 d7:call-id1:c8:from-tag1:f6:to-tag1:t10:via-branch1:v";
    for command in ["offer", "answer", "delete", "query"] {
        let text = format!(
            "{head}7:command{}:{command}3:sdp{}:{sdp}e",
            command.len(),
            sdp.len()
        );
        corpus.push(text.into_bytes());
        let json = serde_json::json!({"command": command, "call-id": "c", "from-tag": "f", "to-tag": "t", "sdp": sdp});
        corpus.push(format!("7_2 {json}").into_bytes());
    }
    corpus
}
