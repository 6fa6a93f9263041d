//! Calls through two routers and the QoS server, and what becomes of them when something dies.

mod cores;
mod identity;
mod latching;
mod meters;
mod server;
mod store;
