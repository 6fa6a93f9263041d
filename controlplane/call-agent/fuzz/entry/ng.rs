//! ng datagrams: commands, and a real rtpengine's answers.

use voicelane_call_agent::ng;

pub(crate) fn run(data: &[u8]) {
    if let Ok(request) = ng::Request::read(data) {
        let _ = request.command();
    }
    let _ = ng::Reply::read(data);
}
