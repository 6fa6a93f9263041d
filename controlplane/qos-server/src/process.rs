//! The server's process: what it listens on, and the engine that it serves there.
//!
//! With several servers on one etcd a process has one engine after another: an empty one while it stands
//! by, and one with all sessions while it leads. Each has a Tokio runtime of its own. When a process leads
//! no more, that runtime goes, and with it all that the engine believed and was about to do.

use std::{
    fs, net,
    os::unix,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    time::timeout,
};
use tracing::{error, info, warn};
use voicelane_identity::{Files, server::Trust};
use voicelane_server::{
    cluster::{Etcd, Leadership, Member, Role},
    config::{Config, Data, Reloaded},
    engine::{self, Engine},
    identity::{Audit, Guard, Keeper, Quotas},
    journal::{StoreError, disk::Disk},
    records::{Homer, Records},
    serve,
    web::{self, Readers},
};
use voicelane_types::with_causes;

/// How long clients have to read the last answers of a server that leads no more.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// Reads the configuration again.
pub(crate) type Reread = Box<dyn Fn() -> anyhow::Result<Config> + Send>;

/// Serves until it is stopped.
pub(crate) fn run(config: &Config, keeper: Option<Keeper>, reread: Reread) -> anyhow::Result<()> {
    let runtime = Runtime::new().context("cannot start threads")?;
    // Before anything takes time, since SIGHUP ends a process that does not ask for it.
    let limits = {
        let _entered = runtime.enter();
        limits(config, reread)?
    };
    if config.etcd.is_empty() {
        runtime.block_on(alone(config, keeper, limits))
    } else {
        several(config, keeper, limits, &runtime)
    }
}

/// The only server of its store.
async fn alone(
    config: &Config,
    keeper: Option<Keeper>,
    limits: watch::Receiver<Reloaded>,
) -> anyhow::Result<()> {
    // Before anybody can connect: nothing is answered, and no router told anything, by a server that
    // has not read what it is to know.
    let engine = start(config, config.settings()?)?;
    // Until here signals end the process at once, as nothing of it is lost then.
    let process = Process::open(config, keeper, limits).await?;
    let served = tokio::select! {
        served = process.serve(engine.clone(), Role::Alone, process.stopped()) => served,
        error = engine.journal().failed() => return Err(error.into()),
    };
    process.close();
    served?;
    engine.journal().close().await?;
    Ok(())
}

fn start(config: &Config, settings: engine::Settings) -> Result<Arc<Engine>, StoreError> {
    let Data::Dir(dir) = &config.data else {
        info!("sessions are held in memory only (--data none)");
        return Ok(Engine::start(settings));
    };
    let began = Instant::now();
    let disk = Disk::serve(dir)?;
    let engine = Engine::restore(settings, disk)?;
    let (sessions, routers) = engine.size();
    info!(
        dir = %dir.display(), sessions, routers,
        took = ?began.elapsed(), "store read"
    );
    Ok(engine)
}

/// One of several servers.
fn several(
    config: &Config,
    keeper: Option<Keeper>,
    limits: watch::Receiver<Reloaded>,
    runtime: &Runtime,
) -> anyhow::Result<()> {
    let process = runtime.block_on(Process::open(config, keeper, limits))?;
    let url = process.url()?;
    let etcd = Etcd::new(&config.etcd);
    let mut member = Member::start(etcd, url, runtime.handle());
    let ended = loop {
        let elected = in_its_own_runtime(process.stand_by(&mut member))?;
        let leadership = match elected {
            Ok(Some(leadership)) => leadership,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        match in_its_own_runtime(process.lead(leadership, &mut member))? {
            Ok(End::Stopped) => break Ok(()),
            Ok(End::Lost) => {}
            Err(error) => break Err(error),
        }
    };
    process.close();
    ended
}

/// Runs something, and ends all that it has begun.
fn in_its_own_runtime<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = Runtime::new().context("cannot start threads")?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

/// How a lead ended.
enum End {
    /// This server is to stop.
    Stopped,
    /// Another one may lead.
    Lost,
}

/// What a process has whatever it serves.
struct Process<'a> {
    config: &'a Config,
    listener: net::TcpListener,
    metrics: Option<net::TcpListener>,
    page: Option<(net::TcpListener, Readers)>,
    socket: Option<(unix::net::UnixListener, PathBuf)>,
    trust: Option<watch::Receiver<Arc<Trust>>>,
    guard: Guard,
    limits: watch::Receiver<Reloaded>,
    stop: watch::Receiver<bool>,
    records: Option<Records>,
    homer: Option<Homer>,
    _flushes: [Option<voicelane_log::Flush>; 2],
}

impl<'a> Process<'a> {
    /// Takes its addresses. From here on SIGINT and SIGTERM stop it well.
    async fn open(
        config: &'a Config,
        keeper: Option<Keeper>,
        limits: watch::Receiver<Reloaded>,
    ) -> anyhow::Result<Self> {
        let stop = signals()?;
        let (audit, flush) = match &config.audit {
            Some(file) => {
                let opened =
                    Audit::to(file).with_context(|| format!("--audit {}", file.display()))?;
                (opened.0, Some(opened.1))
            }
            None => (Audit::default(), None),
        };
        let records = config
            .records
            .as_ref()
            .map(|file| Records::to(file).with_context(|| format!("--records {}", file.display())));
        let (records, records_flush) = records.transpose()?.unzip();
        let homer = config
            .homer
            .map(|address| Homer::to(address).with_context(|| format!("--homer {address}")));
        let homer = homer.transpose()?;
        let listener = serve::bind(config.listen).await?.into_std()?;
        let address = listener.local_addr().context("the listening address")?;
        info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
        let guard = Guard {
            quotas: Arc::new(Quotas::new(config.quota())),
            audit,
        };
        let socket = match &config.socket {
            Some(path) => Some((serve::bind_socket(path)?.into_std()?, path.clone())),
            None => None,
        };
        let trust = keeper.as_ref().map(Keeper::trust);
        if let Some(keeper) = keeper {
            tokio::spawn(keeper.run());
        } else if !address.ip().to_canonical().is_loopback() {
            warn!(
                %address,
                "plain text: anybody who reaches this address may do anything (--allow-plain-text)"
            );
        }
        let metrics = match config.metrics {
            Some(address) => {
                let listener = serve::bind_metrics(address).await?.into_std()?;
                let address = listener.local_addr().context("the metrics' address")?;
                info!(%address, "serving GET /metrics");
                Some(listener)
            }
            None => None,
        };
        let page = match config.web {
            Some(address) => {
                let listener = serve::bind_web(address)?.into_std()?;
                let address = listener.local_addr().context("the page's address")?;
                let is_local = address.ip().to_canonical().is_loopback();
                let in_plain_text = is_local || config.allow_plain_text;
                let readers = Readers {
                    trust: trust.clone().filter(|_| !in_plain_text),
                    read_timeout: config.transport().limits.read_timeout,
                    tenure: None,
                };
                let scheme = readers.trust.as_ref().map_or("http", |_| "https");
                info!("the page is at {scheme}://{address}/");
                if readers.trust.is_none() && !is_local {
                    warn!(
                        %address,
                        "plain text: anybody who reaches this address may read the page (--allow-plain-text)"
                    );
                }
                Some((listener, readers))
            }
            None => None,
        };
        Ok(Self {
            config,
            listener,
            metrics,
            page,
            socket,
            trust,
            guard,
            limits,
            stop,
            records,
            homer,
            _flushes: [flush, records_flush],
        })
    }

    /// Resolves when it is to stop.
    fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.stop.clone();
        async move {
            // Fails when the runtime that waits for signals is gone, which is as good a reason.
            drop(stop.wait_for(|stop| *stop).await);
        }
    }

    /// Where clients reach it.
    fn url(&self) -> anyhow::Result<String> {
        if let Some(url) = &self.config.advertise {
            return Ok(url.clone());
        }
        let address = self.listener.local_addr()?;
        Ok(format!("{}://{address}", self.config.scheme()))
    }

    /// Serves an engine until `stop` resolves.
    async fn serve(
        &self,
        engine: Arc<Engine>,
        role: Role,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        if let Some((listener, readers)) = &self.page {
            let listener = TcpListener::from_std(listener.try_clone()?)?;
            let (engine, role, readers) = (engine.clone(), role.clone(), readers.clone());
            tokio::spawn(async move {
                let served = match role {
                    // Over TLS a browser waits until this server leads.
                    Role::StandsBy(_) if readers.trust.is_some() => return,
                    Role::StandsBy(leader) => web::stand_by(engine, listener, leader).await,
                    Role::Alone => web::serve(engine, listener, readers).await,
                    Role::Leads(tenure) => {
                        let tenure = Some(tenure);
                        let readers = Readers { tenure, ..readers };
                        web::serve(engine, listener, readers).await
                    }
                };
                if let Err(error) = served {
                    warn!(%error, "the page is served no more");
                }
            });
        }
        if !role.stands_by()
            && let Some(webhook) = self.config.webhook()?
        {
            tokio::spawn(webhook.run(engine.clone()));
        }
        let (records, homer) = (self.records.clone(), self.homer.clone());
        if records.is_some() || homer.is_some() {
            engine.record_to(move |call| {
                if let Some(records) = &records {
                    records.note(call);
                }
                if let Some(homer) = &homer {
                    homer.report(call);
                }
            });
        }
        if let Some(listener) = &self.metrics {
            let listener = TcpListener::from_std(listener.try_clone()?)?;
            tokio::spawn(engine.clone().watch_paths());
            let (engine, role) = (engine.clone(), role.clone());
            tokio::spawn(async move {
                if let Err(error) = serve::serve_metrics(engine, role, listener).await {
                    warn!(%error, "metrics are served no more");
                }
            });
        }
        tokio::spawn(follow(
            engine.clone(),
            self.guard.quotas.clone(),
            self.limits.clone(),
        ));
        let mut transport = self.config.transport();
        transport.guard = self.guard.clone();
        transport.trust = self.trust.clone();
        transport.role = role;
        if let Some((socket, _)) = &self.socket {
            transport.socket = Some(UnixListener::from_std(socket.try_clone()?)?);
        }
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        Ok(serve::serve(engine, listener, transport, stop).await?)
    }

    /// Says who leads until this server is elected; `None`: until it is to stop.
    async fn stand_by(&self, member: &mut Member) -> anyhow::Result<Option<Leadership>> {
        let engine = Engine::start(engine::Settings {
            stands_by: true,
            ..self.config.settings()?
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let role = Role::StandsBy(member.leader());
        let serving = self.serve(engine, role, async { drop(stopped.await) });
        let mut serving = std::pin::pin!(serving);
        info!("standing by");
        let elected = tokio::select! {
            // It ends by itself only with an error.
            served = &mut serving => return served.map(|()| None),
            elected = member.elected() => Some(elected?),
            () = self.stopped() => None,
        };
        if elected.is_none() {
            // Before anything takes time: nobody would serve if it were elected meanwhile.
            member.leave().await?;
        }
        drop(stop);
        // Whoever waits for an answer is to have it.
        drop(timeout(LAST_ANSWERS, serving).await);
        Ok(elected)
    }

    /// Serves as leader until another server may lead, or this one is to stop.
    async fn lead(&self, leadership: Leadership, member: &mut Member) -> anyhow::Result<End> {
        let Leadership {
            leader,
            store,
            tenure,
            lost,
            seat,
        } = leadership;
        let began = Instant::now();
        let engine = Engine::restore(self.config.settings()?, store)?;
        let (sessions, routers) = engine.size();
        info!(
            term = leader.term, url = leader.url, sessions, routers,
            took = ?began.elapsed(), "leads"
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let role = Role::Leads(tenure.clone());
        let serving = self.serve(engine.clone(), role, async { drop(stopped.await) });
        let mut serving = std::pin::pin!(serving);
        let end = tokio::select! {
            // It ends by itself only with an error.
            served = &mut serving => return served.map(|()| End::Stopped),
            _ = lost => End::Lost,
            error = engine.journal().failed() => {
                // Another server may have committed.
                tenure.end();
                error!(%error, term = leader.term, "leads no more: all streams end, routers keep their calls");
                End::Lost
            }
            () = self.stopped() => End::Stopped,
        };
        drop(stop);
        let leave = async {
            engine.stopped().await;
            match end {
                End::Lost => drop(seat),
                End::Stopped => {
                    engine.journal().close().await?;
                    seat.resign();
                    member.leave().await?;
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        let patience = match end {
            End::Lost => LAST_ANSWERS,
            End::Stopped => Duration::MAX,
        };
        let (left, served) = tokio::join!(leave, timeout(patience, serving));
        left?;
        if let Ok(served) = served {
            served?;
        }
        Ok(end)
    }

    fn close(&self) {
        if let Some((_, path)) = &self.socket {
            // Fails when it is gone already.
            drop(fs::remove_file(path));
        }
    }
}

/// Becomes true at SIGINT or SIGTERM.
fn signals() -> anyhow::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
    });
    Ok(stopped)
}

/// The limits of the configuration, as it is at the start and when it is read again, at each SIGHUP.
fn limits(config: &Config, reread: Reread) -> anyhow::Result<watch::Receiver<Reloaded>> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let (sender, limits) = watch::channel(config.reloaded()?);
    let former = config.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let read = reread().and_then(|config| Ok((config.reloaded()?, config)));
            let (limits, config) = match read {
                Ok(read) => read,
                Err(error) => {
                    let reason = with_causes(error.as_ref());
                    error!(
                        reason,
                        "the new configuration is not used; the one before is kept"
                    );
                    continue;
                }
            };
            if former.with_limits_of(&config) != config {
                warn!(
                    "what else has changed in the configuration than may_claim, changes_per_s, \
                     changes_burst, streams_per_agent and max_sessions_per_agent counts from the next \
                     start on"
                );
            }
            if sender.send_if_modified(|it| {
                let changes = *it != limits;
                *it = limits;
                changes
            }) {
                info!("read may_claim and quotas");
            }
        }
    });
    Ok(limits)
}

/// Gives an engine the limits as they change.
async fn follow(engine: Arc<Engine>, quotas: Arc<Quotas>, mut limits: watch::Receiver<Reloaded>) {
    loop {
        let now = limits.borrow_and_update().clone();
        quotas.set(now.quota);
        engine.limit(now.engine);
        if limits.changed().await.is_err() {
            return;
        }
    }
}

/// Whom the server trusts; absent: everybody, in plain text.
pub(crate) fn keeper(config: &Config) -> anyhow::Result<Option<Keeper>> {
    let files = config.files()?;
    Ok(files
        .map(|files: Files| Keeper::new(files, config.crl.clone()))
        .transpose()?)
}
