//! What agents and routers send to the server, as far as it is checked before anything is done: the first byte
//! chooses the message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use voicelane_proto::v1;
use voicelane_server::grpc::parse;

fn read<T: prost::Message + Default>(bytes: &[u8], then: impl FnOnce(T)) {
    if let Ok(message) = T::decode(bytes) {
        then(message);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else {
        return;
    };
    match which % 6 {
        0 => read(bytes, |it: v1::AddSessionRequest| drop(parse::spec(it.spec))),
        1 => read(bytes, |it: v1::Hello| drop(parse::hello(it))),
        2 => read(bytes, |it: v1::InterfaceReport| drop(parse::interfaces(it))),
        3 => read(bytes, |it: v1::InstalledSession| drop(parse::installed(it))),
        4 => read(bytes, |it: v1::LatchedSources| drop(parse::latched(it))),
        _ => read(bytes, |it: v1::CommandResult| drop(parse::result(it))),
    }
});
