//! From what was sent and what arrived to loss, delay, jitter and MOS.

mod emodel;
mod figures;
mod jitter;
mod loss;

pub use self::{
    emodel::{Codec, FIXED_DELAY_MS, mean_opinion_score, transmission_rating},
    figures::{Arrival, DRAIN, Delay, FlowFigures, flow_figures},
    jitter::Jitter,
    loss::LossPattern,
};
