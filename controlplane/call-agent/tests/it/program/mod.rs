//! The program, beside a real QoS server and routers that do what they are told.

mod arguments;
mod codecs;
mod frames;
mod hep;
mod ng;
mod operator;
mod outages;
mod router;
mod world;
