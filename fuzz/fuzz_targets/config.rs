//! The router's configuration.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use voicelane_router::config::Config;

fuzz_target!(|text: &str| {
    let _ = Config::parse(Path::new("router.toml"), text, &[0, 1, 2, 3]);
});
