//! From what was sent and what arrived to loss, delay, jitter and MOS.

mod figures;
mod jitter;
mod loss;

pub use self::{
    figures::{Arrival, DRAIN, Delay, FlowFigures, flow_figures},
    jitter::Jitter,
    loss::LossPattern,
};
pub use voicelane_types::emodel::{Codec, FIXED_DELAY_MS, mean_opinion_score, transmission_rating};
