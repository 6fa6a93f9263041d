//! Calls that come and go by SIP alone: SIPp's phones, Kamailio, the call agent, the QoS server and two
//! routers.

mod calls;
mod gate;
mod hep;
mod media;
mod relay;
mod report;
mod sessions;
mod site;

pub(crate) use self::{calls::Gated, hep::wait_until_gone};
pub use self::{
    calls::{Call, read},
    gate::gate,
    hep::{HepOptions, Trouble, hep},
    relay::relay,
    report::{Figures, Report},
    sessions::{Life, Watch, now},
    site::{CALLEE, CALLER, Callers, Feed, HEP_PORT, NG_PORT, Ng, SIP_SERVER, SipServer, SipSite},
};
