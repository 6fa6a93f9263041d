//! One of several servers: stands by, is elected, leads, and stands by again.

use std::{pin::pin, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{
    Etcd, EtcdError, EtcdStore, Leader, Tenure,
    etcd::Watch,
    lead::{Action, Boot, Lead, Lost, View},
    mirror::Mirror,
};
use crate::journal::StoreError;

/// Between attempts to read all that etcd has.
const READ_AGAIN: Duration = Duration::from_millis(250);
/// How long a new leader waits for its watch to have come to its own election.
const BARRIER: Duration = Duration::from_secs(1);
/// How often the time is looked at at least: a sleep does not go on while the machine is suspended.
const LOOK: Duration = Duration::from_millis(250);

/// One of several servers.
#[derive(Debug)]
pub struct Member {
    elected: mpsc::Receiver<Leadership>,
    leader: watch::Receiver<Option<Leader>>,
    task: Option<JoinHandle<Result<(), StoreError>>>,
}

/// This server leads, until it has lost that or gives up its seat.
#[derive(Debug)]
pub struct Leadership {
    /// Its term, and the URL under which clients find it.
    pub leader: Leader,
    /// What it commits to.
    pub store: EtcdStore,
    /// Until when it may answer.
    pub tenure: Tenure,
    /// Resolves when it leads no more.
    pub lost: oneshot::Receiver<Lost>,
    /// While it is kept, nobody else is elected as long as renewals succeed.
    pub seat: Seat,
}

/// Held by whoever serves as leader, and dropped when nobody is served any more: then this server stands
/// by.
#[derive(Debug)]
pub struct Seat(oneshot::Sender<Leaves>);

/// The server goes for good.
#[derive(Debug)]
struct Leaves;

impl Seat {
    /// Gives the lead to another server, and does not stand by.
    pub fn resign(self) {
        // Fails when the lead is lost already.
        let _: Result<(), Leaves> = self.0.send(Leaves);
    }
}

impl Member {
    /// Begins to stand by. `url` is where clients reach this server.
    pub fn start(etcd: Etcd, url: String, runtime: &Handle) -> Self {
        let (elections, elected) = mpsc::channel(1);
        let (told, leader) = watch::channel(None);
        let running = Running {
            etcd,
            url,
            lead: Lead::default(),
            leader: told,
            elections,
            runtime: runtime.clone(),
            said: String::new(),
        };
        Self {
            elected,
            leader,
            task: Some(runtime.spawn(running.run())),
        }
    }

    /// Who leads, as far as is known.
    pub fn leader(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.clone()
    }

    /// Waits until this server is elected.
    ///
    /// # Errors
    ///
    /// If what etcd holds cannot be used.
    pub async fn elected(&mut self) -> Result<Leadership, StoreError> {
        if let Some(leadership) = self.elected.recv().await {
            return Ok(leadership);
        }
        self.ended().await?;
        std::future::pending().await
    }

    /// Stands by no more, and gives up a lead that nobody has taken: then another server may lead.
    ///
    /// # Errors
    ///
    /// If what etcd holds cannot be used.
    pub async fn leave(&mut self) -> Result<(), StoreError> {
        self.elected.close();
        while let Some(leadership) = self.elected.recv().await {
            leadership.seat.resign();
        }
        self.ended().await
    }

    async fn ended(&mut self) -> Result<(), StoreError> {
        match self.task.take() {
            Some(task) => task.await.unwrap_or_else(|error| {
                Err(StoreError::Thread {
                    reason: error.to_string(),
                })
            }),
            None => Ok(()),
        }
    }
}

struct Running {
    etcd: Etcd,
    url: String,
    lead: Lead,
    leader: watch::Sender<Option<Leader>>,
    elections: mpsc::Sender<Leadership>,
    runtime: Handle,
    /// The last trouble with etcd, which is said once.
    said: String,
}

/// An election that was won.
struct Won {
    term: u64,
    lease: i64,
    mirror: Mirror,
    watch: Watch,
}

impl Running {
    async fn run(mut self) -> Result<(), StoreError> {
        loop {
            let Some(won) = self.stand_by().await? else {
                return Ok(());
            };
            let lease = won.lease;
            let ended = self.serve(won).await;
            self.etcd.revoke(lease).await;
            if ended?.is_some() {
                return Ok(());
            }
        }
    }

    /// Follows what etcd holds until this server is elected; `None`: it leaves.
    async fn stand_by(&mut self) -> Result<Option<Won>, StoreError> {
        while !self.elections.is_closed() {
            let error = match self.follow().await {
                Ok(Ok(won)) => return Ok(won),
                Ok(Err(error)) => return Err(error),
                Err(error) => error,
            };
            let error = error.to_string();
            if error != self.said {
                warn!(error, "etcd cannot be followed; trying again");
                self.said = error;
            }
            // It ends early when this server leaves.
            drop(timeout(READ_AGAIN, self.elections.closed()).await);
        }
        Ok(None)
    }

    /// The same until etcd fails.
    async fn follow(&mut self) -> Result<Result<Option<Won>, StoreError>, EtcdError> {
        let reading = async {
            let (mirror, revision) = self.etcd.list().await?;
            Ok::<_, EtcdError>((mirror, self.etcd.watch(revision).await?))
        };
        let (mut mirror, mut watch) = tokio::select! {
            read = reading => read?,
            () = self.elections.closed() => return Ok(Ok(None)),
        };
        self.said.clear();
        while !self.elections.is_closed() {
            if let Some(found) = mirror.strange_format() {
                return Ok(Err(StoreError::EtcdFormat { found }));
            }
            self.show(mirror.leader());
            let now = Boot::now();
            if let Some(Action::Campaign { after }) = self.lead.next(now, mirror.view()) {
                let campaign = self.etcd.campaign(after, &self.url).await;
                let is_won = campaign.as_ref().is_ok_and(|it| it.is_won);
                self.lead.campaigned(Boot::now(), now, is_won);
                let campaign = campaign?;
                if is_won {
                    return Ok(Ok(Some(Won {
                        term: after + 1,
                        lease: campaign.lease,
                        mirror,
                        watch,
                    })));
                }
                continue;
            }
            let wake = async {
                match self.lead.wake(now) {
                    Some(at) => sleep(at.since(now)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                followed = watch.next(&mut mirror) => followed?,
                () = wake => {}
                () = self.elections.closed() => {}
            }
        }
        Ok(Ok(None))
    }

    /// Leads until that is over. An error: what etcd holds cannot be used.
    async fn serve(&mut self, won: Won) -> Result<Option<Leaves>, StoreError> {
        let Won {
            term,
            lease,
            mirror,
            watch,
        } = won;
        let Some(until) = self.lead.until() else {
            return Ok(None);
        };
        info!(term, "elected");
        let tenure = Tenure::until(until);
        let (etcd, elections) = (self.etcd.clone(), self.elections.clone());
        let mut taking_over = pin!(async {
            tokio::select! {
                taken = take_over(etcd, term, mirror, watch) => taken.map(Some),
                () = elections.closed() => Ok(None),
            }
        });
        let mirror = match self.hold(lease, &tenure, &mut taking_over).await {
            Ok(Ok(Some(mirror))) => mirror,
            Ok(Ok(None)) => return Ok(Some(Leaves)),
            Ok(Err(error)) => return Err(error),
            Err(lost) => {
                warn!(term, reason = %lost, "lost the lead before it was taken");
                return Ok(None);
            }
        };
        let leader = Leader {
            term,
            url: self.url.clone(),
        };
        self.show(Some(&leader));
        let store = EtcdStore::new(
            self.etcd.clone(),
            leader.clone(),
            mirror,
            self.runtime.clone(),
        );
        let (tell, lost) = oneshot::channel();
        let (seat, mut left) = oneshot::channel();
        let leadership = Leadership {
            leader,
            store,
            tenure: tenure.clone(),
            lost,
            seat: Seat(seat),
        };
        if self.elections.send(leadership).await.is_err() {
            return Ok(Some(Leaves));
        }
        let left = match self.hold(lease, &tenure, &mut left).await {
            Ok(left) => {
                self.lead.lose(Lost::Resigned);
                self.lead.next(Boot::now(), View::default());
                left
            }
            Err(reason) => {
                warn!(term, %reason, "leads no more: all streams end, routers keep their calls");
                // Fails when nobody serves any more.
                let _: Result<(), Lost> = tell.send(reason);
                left.await
            }
        };
        tenure.end();
        self.show(None);
        Ok(left.ok())
    }

    /// Renews the lease until something is done, or the lead is lost.
    async fn hold<T>(
        &mut self,
        lease: i64,
        tenure: &Tenure,
        work: &mut (impl Future<Output = T> + Unpin),
    ) -> Result<T, Lost> {
        let mut renewal = None;
        loop {
            let now = Boot::now();
            match self.lead.next(
                now,
                View {
                    term: 0,
                    has_leader: true,
                },
            ) {
                Some(Action::Renew) => {
                    let etcd = self.etcd.clone();
                    renewal = Some((now, Box::pin(async move { etcd.renew(lease).await })));
                }
                Some(Action::StepDown(lost)) => {
                    tenure.end();
                    return Err(lost);
                }
                Some(Action::Campaign { .. }) | None => {}
            }
            let wait = self
                .lead
                .wake(now)
                .map_or(LOOK, |at| at.since(now).min(LOOK));
            let answer = async {
                match &mut renewal {
                    Some((sent, renewal)) => (*sent, renewal.await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                done = &mut *work => return Ok(done),
                (sent, answer) = answer => {
                    renewal = None;
                    self.lead.renewed(Boot::now(), sent, answer);
                    if let Some(until) = self.lead.until() {
                        tenure.extend(until);
                    }
                }
                () = sleep(wait) => {}
            }
        }
    }

    fn show(&self, leader: Option<&Leader>) {
        self.leader.send_if_modified(|shown| {
            let changes = shown.as_ref() != leader;
            if changes {
                *shown = leader.cloned();
            }
            changes
        });
    }
}

/// What was committed before this term: from the watch if that has all of it, else read anew.
async fn take_over(
    etcd: Etcd,
    term: u64,
    mut mirror: Mirror,
    mut watch: Watch,
) -> Result<Mirror, StoreError> {
    let barrier = async {
        // Nothing of earlier terms comes behind the election in a watch.
        while mirror.view().term < term {
            watch.next(&mut mirror).await?;
        }
        Ok::<_, EtcdError>(())
    };
    if matches!(timeout(BARRIER, barrier).await, Ok(Ok(()))) && mirror.is_whole() {
        return Ok(mirror);
    }
    warn!("the watch lacks something: reading all that etcd has");
    drop((watch, mirror));
    loop {
        match etcd.list().await {
            Ok((mirror, _)) if mirror.is_whole() => return Ok(mirror),
            Ok((mirror, _)) => {
                let (found, committed) = mirror.counts();
                return Err(StoreError::EtcdDamaged { found, committed });
            }
            Err(error) => {
                warn!(%error, "etcd cannot be read; trying again");
                sleep(READ_AGAIN).await;
            }
        }
    }
}
