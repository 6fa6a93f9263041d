//! Who is who between the QoS server, its routers, its call agents and its operators.
//!
//! A [`Name`] is a SPIFFE ID in a certificate. [`Files`] are the certificate, key and authority of one
//! of them; [`client`] connects and [`server`] accepts with them by TLS 1.3, and [`Authority`] issues them.
//! [`Servers`] are those that a client may ask.

#![forbid(unsafe_code)]

mod name;
mod leaf;
mod files;
pub mod client;
pub mod servers;
pub mod server;
pub mod authority;

pub use authority::Authority;
pub use files::{Files, FilesError};
pub use leaf::{Leaf, LeafError, utc};
pub use name::{Name, NameError, Role};
pub use servers::Servers;
