//! Raw bindings to the installed DPDK, and to the C shim for its inline functions.
//!
//! Structures are opaque; the few fields of `rte_mbuf` that matter are reached by the offsets that
//! the C compiler found (`VL_MBUF_*`), so nothing here depends on a release's field names. Use the
//! safe crate `voicelane-dpdk` instead of this one.

#![no_std]
#![allow(
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub
)]
#![allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
