//! What callers and operators read: sessions and their events, explanations, overviews, and how calls
//! sound.

pub(super) mod events;
pub(super) mod explain;
pub(super) mod links;
pub(super) mod overview;
mod paths;
pub(super) mod quality;
pub(super) mod query;
pub(super) mod record;
pub(super) mod snapshot;
pub(super) mod strays;
pub(super) mod watch;
