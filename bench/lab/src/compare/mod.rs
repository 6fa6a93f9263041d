//! Voicelane beside Linux `tc` HTB: the same network, calls and bulk traffic; only what forwards
//! and shapes the core link differs.
//!
//! HTB is what a Linux user would take for this, set up as a careful administrator would. It has to
//! know calls by something in their packets: by the mark that phones put on them, or by the port
//! range that RTP is sent to. Both are tried, honestly and with a bulk sender that does the same.

mod htb;
mod report;
mod run;

pub use self::{
    htb::Classifier,
    report::{Candidate, Figures, Report},
    run::{Options, run},
};
pub use crate::demo::Check;

/// The third phase: bulk marks itself EF and sends from and to a port of the calls' range.
pub(crate) const CHEAT: &str = "cheat";
