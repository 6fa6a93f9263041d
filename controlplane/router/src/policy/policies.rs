use std::{path::PathBuf, sync::Arc};

use thiserror::Error;
use tokio::sync::{Mutex, watch};
use tracing::{info, warn};
use voicelane_dataplane::{
    policy::{Policy, PolicyError},
    units::TickRate,
};

use super::{changes::changes, document};
use crate::{
    config::{Config, ConfigError},
    dataplane::{Client, WorkerGone},
};

/// The generation of the policy that a worker is started with.
pub const FIRST_GENERATION: u64 = 1;

/// What the worker applies.
#[derive(Debug)]
pub struct Installed {
    /// By which the worker's reports name it.
    pub generation: u64,
    /// The file of which it was made.
    pub config: Config,
}

/// Why the file was not taken, and everything is as before.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It differs in what is read at the start only.
    #[error(
        "{}: only rules, meters, trust, remark, reverse_path, police and kernel can change while the \
         router runs; restart it for these, or write them as they were:\n{}",
        file.display(),
        keys.join("\n")
    )]
    Differs {
        file: PathBuf,
        /// Each key, with what it was and what it is.
        keys: Vec<String>,
    },
    /// The dataplane does not take it.
    #[error("{}: {reason}", file.display())]
    Policy { file: PathBuf, reason: PolicyError },
    /// There is no worker to apply it.
    #[error(transparent)]
    Worker(#[from] WorkerGone),
}

/// The policy in force, and how it changes.
#[derive(Debug)]
pub struct Policies {
    client: Client,
    clock: TickRate,
    installed: watch::Sender<Arc<Installed>>,
    /// One change at a time.
    turn: Mutex<()>,
}

impl Policies {
    /// Of a worker that was started with this configuration.
    #[must_use]
    pub fn new(config: Config, client: Client, clock: TickRate) -> Self {
        let installed = Installed {
            generation: FIRST_GENERATION,
            config,
        };
        Self {
            client,
            clock,
            installed: watch::Sender::new(Arc::new(installed)),
            turn: Mutex::default(),
        }
    }

    /// The rate of the dataplane's ticks.
    #[must_use]
    pub fn clock(&self) -> TickRate {
        self.clock
    }

    /// What the worker applies.
    #[must_use]
    pub fn installed(&self) -> Arc<Installed> {
        Arc::clone(&self.installed.borrow())
    }

    /// Reads the file again and applies it; gives what has changed. Goes on when the caller does not
    /// wait for it.
    pub async fn reload(self: &Arc<Self>) -> Result<Vec<String>, ReloadError> {
        let policies = Arc::clone(self);
        let done = tokio::spawn(async move { policies.reload_in_turn().await }).await;
        done.unwrap_or(Err(ReloadError::Worker(WorkerGone)))
    }

    async fn reload_in_turn(&self) -> Result<Vec<String>, ReloadError> {
        let _turn = self.turn.lock().await;
        let done = self.exchange().await;
        match &done {
            Ok(changes) if changes.is_empty() => {
                info!("the configuration was read again: no change")
            }
            Ok(changes) => {
                info!(
                    changes = changes.join("; "),
                    "the configuration was read again"
                );
            }
            Err(error) => warn!(%error, "the configuration was read again and not taken"),
        }
        done
    }

    async fn exchange(&self) -> Result<Vec<String>, ReloadError> {
        let old = self.installed();
        let config = old.config.read_again()?;
        let file = || config.file.clone();
        let keys = document::differences(&old.config.document, &config.document);
        if !keys.is_empty() {
            return Err(ReloadError::Differs { file: file(), keys });
        }
        let changes = changes(&old.config, &config);
        if changes.is_empty() {
            return Ok(changes);
        }
        let generation = old.generation + 1;
        let policy = Policy::new(&config.policy(), generation, self.clock);
        let policy = policy.map_err(|reason| ReloadError::Policy {
            file: file(),
            reason,
        })?;
        self.client.set_policy(policy).await?;
        self.installed
            .send_replace(Arc::new(Installed { generation, config }));
        Ok(changes)
    }
}
