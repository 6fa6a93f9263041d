//! Peers that are slow, mute or gone, that flood, or that take answers and do nothing with them.

mod connections;
mod fairness;
mod flood;
mod gate;
mod keepalive;
mod wire;
