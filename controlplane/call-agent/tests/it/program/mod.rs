//! The program, beside a real QoS server and routers that do what they are told.

mod hep;
mod router;
mod world;
