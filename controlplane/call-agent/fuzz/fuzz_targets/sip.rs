//! SIP messages, and the SDP in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voicelane_call_agent::{sdp, sip};

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = sip::read(data)
        && let Some(text) = message.sdp
    {
        let _ = sdp::read(text);
    }
});
