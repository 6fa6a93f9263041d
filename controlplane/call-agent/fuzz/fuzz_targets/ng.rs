//! ng datagrams.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voicelane_call_agent::ng;

fuzz_target!(|data: &[u8]| {
    let _ = ng::Request::read(data);
});
