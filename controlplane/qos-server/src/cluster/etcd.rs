//! Questions to etcd, each with a time by which it is answered or given up.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, EventType, GetOptions, PutOptions, Txn,
    TxnOp, TxnResponse, WatchOptions, WatchStream,
};
use tokio::time::timeout;
use tracing::debug;

use super::{
    Leader, keys,
    lead::{Renewal, TTL_S},
    mirror::{FORMAT, Mirror},
};
use crate::{
    journal::Totals,
    model::ids::{UnixMs, new_epoch},
};

/// How long an answer is waited for: two more attempts fit in before a leader has to step down.
pub(super) const PATIENCE: Duration = Duration::from_millis(700);
/// The same with a page of records.
const PAGE_PATIENCE: Duration = Duration::from_secs(10);
/// How soon a member that says nothing is noticed by who watches. etcd closes a connection that is idle and pinged
/// more often than every 5 s (`--grpc-keepalive-min-time`).
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(2));
/// Records of a page: with the largest, 50 MiB.
const PAGE: i64 = 200;
/// What is read of etcd in one message, bytes.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Why etcd has not done something, or why nobody knows whether it has.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum EtcdError {
    #[error("etcd member {member}: {error}")]
    Failed { member: String, error: Error },
    #[error("etcd member {member}: no answer within {patience:?}")]
    Slow { member: String, patience: Duration },
    #[error("etcd member {member}: the watch ended: {reason}")]
    Watch { member: String, reason: String },
}

/// An etcd. One of its members is asked until it fails; then the next one is.
#[derive(Clone)]
pub struct Etcd {
    members: Arc<[String]>,
    options: ConnectOptions,
    current: Arc<Mutex<Current>>,
}

struct Current {
    member: usize,
    client: Option<Client>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd")
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// What became of a transaction that was to make a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Campaign {
    pub(super) lease: i64,
    pub(super) is_won: bool,
}

impl Etcd {
    /// Of these members, `http://ADDRESS:PORT`; connects to nobody yet.
    pub fn new(members: &[String]) -> Self {
        let options = ConnectOptions::new()
            .with_connect_timeout(PATIENCE)
            .with_keep_alive(KEEPALIVE.0, KEEPALIVE.1)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        Self {
            members: members.into(),
            options,
            current: Arc::new(Mutex::new(Current {
                member: 0,
                client: None,
            })),
        }
    }

    /// Asks the current member.
    async fn ask<T, F>(
        &self,
        patience: Duration,
        question: impl FnOnce(Client) -> F,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (member, client) = {
            let current = self.current();
            (current.member, current.client.clone())
        };
        let asking = async {
            let client = match client {
                Some(client) => client,
                None => self.connect(member).await?,
            };
            question(client).await
        };
        let name = || self.members.get(member).cloned().unwrap_or_default();
        let error = match timeout(patience, asking).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => EtcdError::Failed {
                member: name(),
                error,
            },
            Err(_) => EtcdError::Slow {
                member: name(),
                patience,
            },
        };
        debug!(%error, "turning to the next member");
        self.turn_from(member);
        Err(error)
    }

    async fn connect(&self, member: usize) -> Result<Client, Error> {
        let url = self.members.get(member).map_or("", String::as_str);
        let client = Client::connect([url], Some(self.options.clone())).await?;
        let mut current = self.current();
        if current.member == member {
            current.client = Some(client.clone());
        }
        Ok(client)
    }

    /// Turns to the next member, unless somebody has already.
    fn turn_from(&self, member: usize) {
        let mut current = self.current();
        if current.member == member {
            current.member = (member + 1) % self.members.len().max(1);
            current.client = None;
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries a transaction once. After an error nobody knows whether it was made, nor whether it will be.
    pub(super) async fn transact(&self, txn: Txn) -> Result<TxnResponse, EtcdError> {
        self.ask(PATIENCE, async move |mut client: Client| {
            client.txn(txn).await
        })
        .await
    }

    /// Makes this server leader if there is none and the term is still `after`; makes the store if there is
    /// none.
    pub(super) async fn campaign(&self, after: u64, url: &str) -> Result<Campaign, EtcdError> {
        let lease = self
            .ask(PATIENCE, async move |mut client: Client| {
                client.lease_grant(TTL_S, None).await
            })
            .await?
            .id();
        let leader = Leader {
            term: after.saturating_add(1),
            url: url.to_owned(),
        };
        let value = serde_json::to_vec(&leader).unwrap_or_default();
        let begin = Txn::new()
            .when([Compare::version(keys::FORMAT, CompareOp::Equal, 0)])
            .and_then([
                put(keys::FORMAT, FORMAT.to_string()),
                put(keys::EPOCH, new_epoch(UnixMs::now()).to_string()),
                put(keys::HEAD, Totals::default().encode()),
            ]);
        let term = if after == 0 {
            Compare::version(keys::TERM, CompareOp::Equal, 0)
        } else {
            term_is(after)
        };
        let txn = Txn::new()
            .when([Compare::version(keys::LEADER, CompareOp::Equal, 0), term])
            .and_then([
                TxnOp::txn(begin),
                put(keys::TERM, leader.term.to_string()),
                TxnOp::put(
                    keys::LEADER,
                    value,
                    Some(PutOptions::new().with_lease(lease)),
                ),
            ]);
        match self.transact(txn).await {
            Ok(answer) => Ok(Campaign {
                lease,
                is_won: answer.succeeded(),
            }),
            Err(error) => {
                // If it was made, nobody is to wait for its end.
                self.revoke(lease).await;
                Err(error)
            }
        }
    }

    pub(super) async fn renew(&self, lease: i64) -> Renewal {
        let renewing = self.ask(PATIENCE, async move |mut client: Client| {
            match client.lease_keep_alive(lease).await {
                Ok(_) => Ok(Renewal::Kept),
                Err(Error::LeaseKeepAliveError(_)) => Ok(Renewal::Gone),
                Err(error) => Err(error),
            }
        });
        renewing.await.unwrap_or(Renewal::Unknown)
    }

    /// Gives a lease back; the leader's key goes with it. What cannot be reached forgets it by itself.
    pub(super) async fn revoke(&self, lease: i64) {
        let revoking = self.ask(PATIENCE, async move |mut client: Client| {
            client.lease_revoke(lease).await
        });
        if let Err(error) = revoking.await {
            debug!(%error, "the lease is left to run out");
        }
    }

    /// All there is at one revision, and that.
    pub(super) async fn list(&self) -> Result<(Mirror, i64), EtcdError> {
        let mut mirror = Mirror::default();
        let (mut from, mut revision) = (keys::ALL.as_bytes().to_vec(), 0);
        // What comes after all that begins with it.
        let end = [&keys::ALL.as_bytes()[..keys::ALL.len() - 1], b"0"].concat();
        loop {
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(PAGE)
                .with_revision(revision);
            let asked = from.clone();
            let page = self.ask(PAGE_PATIENCE, async move |client: Client| {
                let mut client = client.kv_client().max_decoding_message_size(MAX_MESSAGE);
                client.get(asked, Some(options)).await
            });
            let page = page.await?;
            if revision == 0 {
                revision = page.header().map_or(0, |header| header.revision());
            }
            for kv in page.kvs() {
                mirror.set(kv.key(), Some(kv.value()));
            }
            match page.kvs().last() {
                Some(last) if page.more() => from = [last.key(), &[0]].concat(),
                _ => return Ok((mirror, revision)),
            }
        }
    }

    /// Tells what changes after a revision.
    pub(super) async fn watch(&self, after: i64) -> Result<Watch, EtcdError> {
        let member = self.current().member;
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(after + 1);
        let stream = self.ask(PATIENCE, async move |client: Client| {
            let mut client = client.watch_client().max_decoding_message_size(MAX_MESSAGE);
            client.watch(keys::ALL, Some(options)).await
        });
        Ok(Watch {
            stream: stream.await?,
            etcd: self.clone(),
            member,
        })
    }

    /// Forgets what was before a revision, so that etcd's disk does not fill.
    pub(super) async fn compact(&self, revision: i64) {
        let compacting = self.ask(PAGE_PATIENCE, async move |mut client: Client| {
            client.compact(revision, None).await
        });
        if let Err(error) = compacting.await {
            debug!(%error, revision, "not compacted");
        }
    }
}

/// A condition of transactions: nobody has become leader after `term`.
pub(super) fn term_is(term: u64) -> Compare {
    Compare::value(keys::TERM, CompareOp::Equal, term.to_string())
}

pub(super) fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> TxnOp {
    TxnOp::put(key, value, None)
}

/// What changes in etcd.
pub(super) struct Watch {
    stream: WatchStream,
    etcd: Etcd,
    member: usize,
}

impl Watch {
    /// Waits for the next changes, and applies them. After an error there is nothing more to come. May be
    /// given up at any time.
    pub(super) async fn next(&mut self, mirror: &mut Mirror) -> Result<(), EtcdError> {
        let reason = match self.stream.message().await {
            Ok(Some(message)) if !message.canceled() => {
                for event in message.events() {
                    let Some(kv) = event.kv() else {
                        continue;
                    };
                    let is_there = event.event_type() == EventType::Put;
                    mirror.set(kv.key(), is_there.then(|| kv.value()));
                }
                return Ok(());
            }
            Ok(Some(message)) if message.compact_revision() > 0 => {
                format!(
                    "what it missed is forgotten up to {}",
                    message.compact_revision()
                )
            }
            Ok(Some(message)) => message.cancel_reason().to_owned(),
            Ok(None) => "the member closed it".to_owned(),
            Err(error) => error.to_string(),
        };
        self.etcd.turn_from(self.member);
        let member = self.etcd.members.get(self.member).cloned();
        Err(EtcdError::Watch {
            member: member.unwrap_or_default(),
            reason,
        })
    }
}
