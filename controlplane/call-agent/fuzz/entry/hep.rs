//! HEP frames, from a datagram and from a stream.

use voicelane_call_agent::hep;

pub(crate) fn run(data: &[u8]) {
    let _ = hep::read(data);
    let mut frames = hep::Frames::default();
    for part in data.chunks(1 + usize::from(data.first().copied().unwrap_or(0))) {
        frames.push(part);
        while let Ok(Some(frame)) = frames.next_frame() {
            let _ = hep::read(frame);
        }
    }
}
