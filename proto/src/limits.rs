//! Limits that server and routers share.

/// The greatest burst of a policer or meter, bytes.
///
/// A router counts a byte as its clock's frequency times 8, and half of an `i64`'s range holds a
/// bucket; at the fastest clock that it takes, 2^33 Hz, this many bytes fit.
pub const MAX_BURST_BYTES: u32 = (1 << 26) - 1;
