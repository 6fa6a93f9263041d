//! Every service class of RFC 4594 at once through two real routers: what each is offered, what
//! arrives, what is lost and how long it takes, under several loads.
//!
//! Telephony and admitted telephony are calls with sessions, from the phones' LAN; all else comes
//! from the bulk host with its own marks, on a port that believes them. One thread sends, from one
//! schedule; each load begins with routers of its own, so that their own figures are of this load.

mod checks;
mod figures;
mod plan;
mod report;
mod router;
mod run;
mod traffic;

pub use self::{
    figures::{ClassFigures, Quantiles},
    report::{LoadReport, Report},
    router::{EfFigures, QueueFigures, RouterFigures},
    run::{Options, run},
};
