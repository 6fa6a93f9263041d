//! How fast HEP becomes sessions, and what calls cost in memory and beside Kamailio.
//!
//!     cargo run --release -p voicelane-call-agent --example throughput
//!     cargo run --release -p voicelane-call-agent --example throughput sockets
//!     cargo run --release -p voicelane-call-agent --example throughput memory
//!     cargo run --release -p voicelane-call-agent --example throughput kamailio
//!
//! The first reads and models in memory; the second is the whole agent on one core, from a UDP socket to
//! a server that says yes; the third is the memory of such an agent, in a process of its
//! own; the last is its CPU beside Kamailio's for the same INVITEs.
//!
//! A call is what Kamailio mirrors of one through it: 13 frames, each request and response on both
//! hops, with local 100s and both ACKs.

mod calls;
mod kamailio;
mod sockets;

use std::{env, hint::black_box, time::Instant};

use calls::call_frames;
use tikv_jemalloc_ctl::background_thread;
use voicelane_call_agent::{
    call::{Change, Feed, Limits, Model},
    hep,
    rate::Configured,
    sip,
};

// As the agent's program has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SECOND: u64 = 1_000_000;

fn main() {
    if let Err(error) = background_thread::write(true) {
        eprintln!("throughput: memory is not given back in the background: {error}");
    }
    match env::args().nth(1).as_deref() {
        Some("sockets") => return sockets::run(),
        Some("memory") => return sockets::memory(),
        Some("kamailio") => return kamailio::run(),
        Some(sockets::AGENT) => return sockets::agent(),
        _ => {}
    }
    throughput();
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
