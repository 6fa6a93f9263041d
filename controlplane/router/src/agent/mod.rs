//! The QoS server's client: attaches, reports interfaces, carries out commands, and comes back when
//! the connection is lost. What is installed stays installed whatever becomes of the server.

pub mod report;

mod attachment;
mod silence;
mod strays;
mod terms;
mod traffic;
mod trouble;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tonic::transport::Endpoint;
use tracing::{debug, warn};
use voicelane_identity::{Files, Servers, client, servers::LONGEST_WAIT};
use voicelane_proto::v1::InterfaceReport;

use crate::{
    config::PortConfig,
    dataplane::WorkerGone,
    mirror::View,
    sessions::{Commands, Sessions},
};
use attachment::{Attachment, Detached, LEARN};
use report::Seen;
use terms::Terms;

/// An attachment that lasted so long was a success: longer than the longest wait, because two
/// routers with the same id each stay attached for as long as the other one waits.
const LASTING: Duration = Duration::from_secs(15);
const _: () = assert!(LASTING.as_secs() > LONGEST_WAIT.as_secs());

/// What the server may send before it is read, bytes. Half of the second is what h2 charges small
/// frames that wait against, before it ends the connection: a full window of them must fit.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// Who this router is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `router.id` of the configuration.
    pub router_id: String,
    /// Differs for each start of the process.
    pub epoch: u64,
    /// How many entries its session table holds.
    pub entry_capacity: u64,
}

/// What the interfaces look like now.
#[derive(Clone, Debug)]
pub struct Interfaces {
    /// The ports, as configured.
    pub ports: Arc<[PortConfig]>,
    /// As the kernel sees them.
    pub view: watch::Receiver<Arc<View>>,
    /// As the devices see them.
    pub links: watch::Receiver<Vec<bool>>,
}

impl Interfaces {
    /// As they are now, to be reported.
    fn look(&mut self) -> Seen {
        Seen {
            view: Arc::clone(&self.view.borrow_and_update()),
            links: self.links.borrow_and_update().clone(),
        }
    }

    /// The report, as of now, for others than the server.
    #[must_use]
    pub fn now(&self) -> InterfaceReport {
        let seen = Seen {
            view: Arc::clone(&self.view.borrow()),
            links: self.links.borrow().clone(),
        };
        seen.report(&self.ports)
    }

    /// Waits until something may be different from the last report.
    pub async fn changed(&mut self) {
        let changed = tokio::select! {
            changed = self.view.changed() => changed,
            changed = self.links.changed() => changed,
        };
        if changed.is_err() {
            // Nobody will say anything any more: the router is ending.
            std::future::pending::<()>().await;
        }
    }
}

/// How an attempt to attach went.
struct Attempt {
    /// Whether the server sent all that the router lacked.
    synchronised: bool,
    /// How long it was attached.
    lasted: Duration,
    /// Why it is so no more.
    end: Detached,
}

impl Attempt {
    /// It never came to be attached.
    fn failed(end: Detached) -> Self {
        Self {
            synchronised: false,
            lasted: Duration::ZERO,
            end,
        }
    }
}

/// The client of the QoS server, which attaches and carries out commands.
#[derive(Debug)]
pub struct Agent {
    servers: Servers,
    terms: Terms,
    files: Option<Files>,
    identity: Identity,
    interfaces: Interfaces,
    sessions: Arc<Sessions>,
    commands: Commands,
    attached: watch::Sender<bool>,
}

impl Agent {
    /// Does not connect before [`run`](Self::run). The files are read at each attach.
    #[must_use]
    pub fn new(
        servers: Servers,
        files: Option<Files>,
        identity: Identity,
        interfaces: Interfaces,
        sessions: Arc<Sessions>,
    ) -> Self {
        let (attached, _) = watch::channel(false);
        let commands = Commands::new(Arc::clone(&sessions));
        Self {
            servers,
            terms: Terms::default(),
            files,
            identity,
            interfaces,
            sessions,
            commands,
            attached,
        }
    }

    /// Whether the server has sent all that the router lacked, as it changes.
    #[must_use]
    pub fn attached(&self) -> watch::Receiver<bool> {
        self.attached.subscribe()
    }

    /// Attaches again and again, until the worker ends.
    pub async fn run(mut self) -> WorkerGone {
        let mut last_words = String::new();
        loop {
            let endpoint = self.servers.endpoint();
            let endpoint = endpoint
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW);
            let Attempt {
                synchronised,
                lasted,
                end,
            } = self.attach(&endpoint).await;
            // What the worker was told is still done, and must be known before the next report.
            if self.commands.drain().await.is_err() || matches!(end, Detached::Worker(_)) {
                return WorkerGone;
            }
            self.attached
                .send_if_modified(|now| std::mem::replace(now, false));
            count_success(&mut self.servers, lasted);
            let words = end.to_string();
            let server = self.servers.now().clone();
            let wait = self.servers.fails(end.status(), &mut rand::rng());
            // The same failure again and again is said once.
            if matches!(end, Detached::Replaced(_)) {
                warn!(
                    %server,
                    id = self.identity.router_id,
                    reason = words,
                    ?wait,
                    "lost the attachment to the QoS server; what is installed stays"
                );
                last_words = words;
            } else if synchronised || words != last_words {
                warn!(
                    %server,
                    reason = words,
                    "the QoS server is out of reach; what is installed stays"
                );
                last_words = words;
            } else {
                debug!(
                    reason = words,
                    ?wait,
                    "the QoS server is still out of reach"
                );
            }
            if self.wait(wait).await.is_err() {
                return WorkerGone;
            }
        }
    }

    /// Lets time pass, in which sources are learned.
    async fn wait(&mut self, time: Duration) -> Result<(), WorkerGone> {
        let end = Instant::now() + time;
        while self.commands.has_waiting() && Instant::now() + LEARN < end {
            sleep(LEARN).await;
            self.commands.learn().await?;
            // The server hears of it when it is back.
            drop(self.commands.drain().await?);
        }
        sleep_until(end).await;
        Ok(())
    }

    /// Attaches, and stays so while it can.
    async fn attach(&mut self, endpoint: &Endpoint) -> Attempt {
        let channel = match client::connect(endpoint, self.files.as_ref()).await {
            Ok(channel) => channel,
            Err(error) => return Attempt::failed(Detached::Connect(error)),
        };
        let attachment = Attachment::open(
            channel,
            &self.identity,
            &mut self.interfaces,
            &self.sessions,
        );
        let mut attachment = match attachment.await {
            Ok(attachment) => attachment,
            Err(end) => return Attempt::failed(end),
        };
        let opened = Instant::now();
        let mut was_synchronised = false;
        let state = &self.attached;
        let server = self.servers.now();
        let end = attachment.run(
            &mut self.commands,
            &mut self.interfaces,
            &mut self.terms,
            |synchronised| {
                tracing::info!(
                    installed = synchronised.installed,
                    replaced = synchronised.replaced,
                    removed = synchronised.removed,
                    unchanged = synchronised.unchanged,
                    "attached to {}",
                    server.to_string().trim_end_matches('/')
                );
                was_synchronised = true;
                state.send_replace(true);
            },
        );
        let end = end.await;
        self.terms.left(Instant::now());
        Attempt {
            synchronised: was_synchronised,
            lasted: opened.elapsed(),
            end,
        }
    }
}

/// Waits begin short again after an attachment that has lasted.
fn count_success(servers: &mut Servers, lasted: Duration) {
    if lasted >= LASTING {
        servers.works();
    }
}

#[cfg(test)]
mod tests;
