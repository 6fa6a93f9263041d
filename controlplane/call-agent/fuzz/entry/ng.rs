//! ng datagrams: commands, and a real rtpengine's answers.

use voicelane_call_agent::ng;

pub(crate) fn run(data: &[u8]) {
    let _ = ng::Request::read(data);
    let _ = ng::Reply::read(data);
}
