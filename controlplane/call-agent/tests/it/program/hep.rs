//! HEP in, sessions out.

use std::{fs, net::UdpSocket, path::Path};

use voicelane_call_agent::hep::Frames;

use super::world::{Program, World};
use crate::cases::expected;

/// The frames of a case.
fn frames(case: &Path) -> Vec<Vec<u8>> {
    let mut frames = Frames::default();
    frames.push(&fs::read(case).unwrap());
    let mut all = Vec::new();
    while let Some(frame) = frames.next_frame().unwrap() {
        all.push(frame.to_vec());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_case_has_its_flows_at_the_server() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "hep") {
            continue;
        }
        let name = path.display().to_string();
        let expected = expected(&fs::read_to_string(path.with_extension("txt")).unwrap());
        let mut world = World::start().await;
        let agent = Program::start(world.server.address, &[]);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (at, frame) in frames(&path).iter().enumerate() {
            socket.send_to(frame, agent.hep).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            for step in expected.iter().filter(|step| step.after == at + 1) {
                let mut flows = step.flows.clone();
                flows.sort();
                let what = format!("{name}, after {}: {}", at + 1, step.what);
                world.until(&what, &flows).await;
            }
        }
        agent.terminate();
    }
}
