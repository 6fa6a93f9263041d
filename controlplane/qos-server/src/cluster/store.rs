//! The store of a leader: commits to etcd, each on the condition that this server still leads.
//!
//! A commit compares the head, too, and writes the next one. So however often it is sent, it is made once,
//! and only behind those before it: whoever does not know what became of it sends it again. If it was
//! made, the head tells.

use std::{collections::BTreeMap, time::Instant};

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse, TxnResponse};
use tokio::{runtime::Handle, time::sleep};
use tracing::warn;

use super::{
    Etcd, EtcdError, Leader,
    etcd::{put, term_is},
    history::History,
    keys,
    lead::{AGAIN_AFTER, Boot, STEP_DOWN_AFTER},
    mirror::Mirror,
};
use crate::journal::{Backend, Change, Each, StoreError, Totals};

/// The most changes of a commit: etcd takes 128 operations.
pub(super) const MAX_CHANGES: usize = 120;
/// The longest record, bytes. A batch may be so much longer than a mebibyte, and etcd takes one and a half.
const LONGEST: usize = 256 * 1024;
/// What a change takes in etcd beside its key and value, bytes.
const BESIDE: usize = 128;

/// The store of a leader.
#[derive(Debug)]
pub struct EtcdStore {
    etcd: Etcd,
    leader: Leader,
    /// What was there when it became leader, until it is loaded.
    mirror: Option<Mirror>,
    head: Totals,
    epoch: u64,
    is_new: bool,
    runtime: Handle,
    history: History,
}

/// What a commit's answer says.
enum Answer {
    Made,
    /// It was made by an earlier attempt.
    WasMade,
    Fenced(u64),
    /// Somebody else has written.
    Foreign,
}

impl EtcdStore {
    pub(super) fn new(etcd: Etcd, leader: Leader, mirror: Mirror, runtime: Handle) -> Self {
        Self {
            etcd,
            leader,
            head: mirror.head(),
            epoch: mirror.epoch(),
            is_new: mirror.head().commit == 0,
            mirror: Some(mirror),
            runtime,
            history: History::new(Boot::now()),
        }
    }

    fn transaction(&self, batch: &[Change], after: &Totals) -> Txn {
        // etcd takes each key once in a transaction; what comes last counts.
        let mut last = BTreeMap::new();
        for change in batch {
            last.insert((change.space(), change.key()), change);
        }
        let operation = |change: &Change| {
            let key = keys::of_record(change.space(), change.key());
            match change.value() {
                Some(value) => put(key, value),
                None => TxnOp::delete(key, None),
            }
        };
        let mut operations: Vec<TxnOp> = last.into_values().map(operation).collect();
        operations.push(put(keys::HEAD, after.encode()));
        Txn::new()
            .when([
                term_is(self.leader.term),
                Compare::value(keys::HEAD, CompareOp::Equal, self.head.encode()),
            ])
            .and_then(operations)
            .or_else([TxnOp::get(keys::TERM, None), TxnOp::get(keys::HEAD, None)])
    }

    fn read(&self, answer: &TxnResponse, after: &Totals) -> Answer {
        if answer.succeeded() {
            return Answer::Made;
        }
        let mut values = answer
            .op_responses()
            .into_iter()
            .map(|answer| match answer {
                TxnOpResponse::Get(got) => got.kvs().first().map(|kv| kv.value().to_vec()),
                _ => None,
            });
        let (term, head) = (values.next().flatten(), values.next().flatten());
        let term = term.and_then(|it| str::from_utf8(&it).ok()?.parse().ok());
        match term {
            Some(term) if term != self.leader.term => Answer::Fenced(term),
            Some(_) if head.as_deref() == Some(after.encode().as_slice()) => Answer::WasMade,
            _ => Answer::Foreign,
        }
    }

    async fn make(&mut self, batch: &[Change]) -> Result<(), StoreError> {
        let after = self.head.after(batch);
        let txn = self.transaction(batch, &after);
        let began = Instant::now();
        let answer = loop {
            match self.etcd.transact(txn.clone()).await {
                Ok(answer) => break answer,
                Err(error) => self.bear(error, began)?,
            }
            sleep(AGAIN_AFTER).await;
        };
        match self.read(&answer, &after) {
            Answer::Made | Answer::WasMade => self.head = after,
            Answer::Fenced(term) => return Err(StoreError::Fenced { term }),
            Answer::Foreign => return Err(StoreError::Foreign),
        }
        if let Some(header) = answer.header()
            && let Some(revision) =
                self.history
                    .committed(Boot::now(), header.revision(), bytes_of(batch))
        {
            let etcd = self.etcd.clone();
            self.runtime
                .spawn(async move { etcd.compact(revision).await });
        }
        Ok(())
    }

    /// Whether to try again.
    fn bear(&self, error: EtcdError, since: Instant) -> Result<(), StoreError> {
        // By then this server leads no more, or etcd takes no writes: whoever leads next reads what is there.
        if since.elapsed() >= STEP_DOWN_AFTER {
            return Err(StoreError::Etcd(error));
        }
        warn!(%error, term = self.leader.term, "a commit has no answer; trying again");
        Ok(())
    }
}

/// What a commit takes in etcd, about.
fn bytes_of(batch: &[Change]) -> usize {
    let of = |change: &Change| BESIDE + change.key().len() + change.value().map_or(0, <[u8]>::len);
    BESIDE + batch.iter().map(of).sum::<usize>()
}

impl Backend for EtcdStore {
    fn load(&mut self, each: &mut Each<'_>) -> Result<(), StoreError> {
        let records = self
            .mirror
            .take()
            .into_iter()
            .flat_map(Mirror::into_records);
        for (space, key, value) in records {
            each(space, &key, &value).map_err(|reason| StoreError::EtcdRecord { reason })?;
        }
        Ok(())
    }

    fn commit(&mut self, batch: &[Change]) -> Result<(), StoreError> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.make(batch))
    }

    fn most_changes(&self) -> usize {
        MAX_CHANGES
    }

    fn longest_record(&self) -> usize {
        LONGEST
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn leader(&self) -> Leader {
        self.leader.clone()
    }

    fn is_new(&self) -> bool {
        self.is_new
    }
}
