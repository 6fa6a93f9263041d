//! What became of messages: everything that is dropped, ignored or refused has a counter.

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that the model looked at.
    pub messages: u64,
    /// Requests, and responses to them, that say nothing of a call's media: REGISTER, OPTIONS, CANCEL,
    /// 100, ACK without SDP.
    pub of_no_interest: u64,
    /// Messages of exchanges that are settled long since.
    pub late: u64,
    /// Bodies that should be SDP and are not, or are too long.
    pub bad_sdp: u64,
    /// Messages of new calls while the limit of calls was reached.
    pub calls_full: u64,
    /// Half-open calls that made room for others.
    pub evicted: u64,
    /// Flows that a call wanted and a newer call has.
    pub taken: u64,
    /// Flows that a call lost to a newer one.
    pub lost: u64,
    /// Sessions that the server was asked to add.
    pub added: u64,
    /// Sessions that the server was asked to modify.
    pub modified: u64,
    /// Sessions whose lease was renewed at the server.
    pub renewed: u64,
    /// Sessions that the server was asked to delete.
    pub removed: u64,
}
