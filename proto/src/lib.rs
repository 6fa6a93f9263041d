//! The `voicelane.v1` gRPC interface. The `.proto` files beside this crate are its documentation.

#![forbid(unsafe_code)]

pub mod codec;
mod convert;
pub mod limits;

/// Messages, clients and servers of package `voicelane.v1`. The messages serialize as proto3 JSON
/// (serde), fields with default values included.
#[allow(missing_docs, unreachable_pub, unused_qualifications)]
#[allow(clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("voicelane.v1");
    include!(concat!(env!("OUT_DIR"), "/voicelane.v1.serde.rs"));

    /// The encoded file descriptor set, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/voicelane.v1.fds"));
}
