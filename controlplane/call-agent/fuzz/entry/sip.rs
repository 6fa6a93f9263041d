//! SIP messages, and the SDP in them.

use voicelane_call_agent::{sdp, sip};

pub(crate) fn run(data: &[u8]) {
    if let Ok(message) = sip::read(data)
        && let Some(text) = message.sdp
    {
        let _ = sdp::read(text);
    }
}
