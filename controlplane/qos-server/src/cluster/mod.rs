//! Several servers on one etcd: one leads, the others stand by.
//!
//! [`lead`] decides who leads, and [`member`] carries that out. [`mirror`] is what etcd holds, as a watch
//! tells it; [`store`] commits to it while this server leads, each commit on the condition that it still
//! does. [`tenure`] is until when, for those who answer; [`standby`] answers those who ask a server that does
//! not lead.

mod etcd;
mod history;
mod keys;
pub mod lead;
mod member;
mod mirror;
pub mod standby;
mod store;
mod tenure;

#[cfg(test)]
mod simulation;

pub use self::{
    etcd::{Etcd, EtcdError},
    member::{Leadership, Member, Seat},
    standby::Role,
    store::EtcdStore,
    tenure::Tenure,
};

/// The server that leads, as the leader key in etcd says.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Leader {
    /// How many leaders there have been, with this one; 0: there is one server only.
    pub term: u64,
    /// Where clients reach it.
    pub url: String,
}
