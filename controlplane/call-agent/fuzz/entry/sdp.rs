//! Two SDPs, and the rates of each pair of streams.

use voicelane_call_agent::{
    rate::{self, Configured},
    sdp,
};

pub(crate) fn run(data: &[u8]) {
    let (offer, answer) = data.split_at(data.len() / 2);
    if let (Ok(offer), Ok(answer)) = (sdp::read(offer), sdp::read(answer)) {
        for (offered, answered) in offer.streams.iter().zip(&answer.streams) {
            let _ = rate::bps(offered, answered, false, &Configured::default());
            let _ = rate::offered_bps(offered, true, &Configured::default());
        }
    }
}
