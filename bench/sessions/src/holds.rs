//! How long the engine's lock is held at a time.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use ipnet::{IpNet, Ipv4Net};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;
use voicelane_server::{
    engine::{Engine, Holds, Link, Outgoing, SessionView, Settings, ToRouter},
    grpc::parse,
    model::{
        entries::expand,
        error::Error,
        ids::{RouterId, SessionKey},
        placement::shares,
        registry::{Identity, Interface, Role},
        session::SessionSpec,
        store::Reported,
    },
};

use crate::agent;

/// Operations of the agent at once.
const AT_ONCE: usize = 256;

/// Of the holds since the last row, ns.
static HOLDS: Mutex<Option<Histogram<u64>>> = Mutex::new(None);

fn took(nanos: u64) {
    let mut holds = HOLDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(holds) = &mut *holds {
        holds.saturating_record(nanos);
    }
}

fn clock(id: ClockId) -> u64 {
    let now = clock_gettime(id);
    let nanos = |value: i64| u64::try_from(value).unwrap_or(0);
    nanos(now.tv_sec) * 1_000_000_000 + nanos(now.tv_nsec)
}

fn wall() -> u64 {
    clock(ClockId::Monotonic)
}

/// The other programs of the machine take none of it.
fn cpu() -> u64 {
    clock(ClockId::ThreadCPUTime)
}

pub(crate) async fn measure(sessions: u32, prefixes: u32) -> anyhow::Result<()> {
    let by_time = rows(wall, sessions, prefixes).await?;
    let by_cpu = rows(cpu, sessions, prefixes).await?;
    println!("{sessions} sessions, {prefixes} prefixes of a router; times of a hold, us");
    println!("| while | holds | p50 / p99 / max | CPU time: p50 / p99 / max |");
    println!("|---|---|---|---|");
    for ((what, time), (_, cpu)) in by_time.iter().zip(&by_cpu) {
        println!(
            "| {what} | {} | {} | {} |",
            time.len(),
            text(time),
            text(cpu)
        );
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "to be printed")]
fn text(holds: &Histogram<u64>) -> String {
    let micros = |nanos: u64| nanos as f64 / 1_000.0;
    let at = |quantile| micros(holds.value_at_quantile(quantile));
    let max = micros(holds.max());
    format!("{:.1} / {:.1} / {max:.1}", at(0.5), at(0.99))
}

type Row = (&'static str, Histogram<u64>);

/// Takes the holds since the last row.
fn row(rows: &mut Vec<Row>, what: &'static str) -> anyhow::Result<()> {
    let mut holds = HOLDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(holds) = holds.replace(Histogram::new_with_bounds(1, 60_000_000_000, 3)?) {
        rows.push((what, holds));
    }
    Ok(())
}

async fn rows(clock: fn() -> u64, sessions: u32, prefixes: u32) -> anyhow::Result<Vec<Row>> {
    let engine = Engine::start(Settings {
        adopt_for: Duration::ZERO,
        holds: Some(Holds { clock, took }),
        ..Settings::default()
    });
    let mut rows = Vec::new();
    row(&mut rows, "")?;
    rows.clear();
    let b = attach(&engine, "b", lan(2), HashMap::new()).await?;
    let a = attach(&engine, "a", lan(1), HashMap::new()).await?;
    row(&mut rows, "idle")?;
    calls(sessions)
        .map(|spec| async { engine.add(spec?).await.map(drop) })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    row(&mut rows, "sessions are added")?;
    let mut has = HashMap::new();
    let mut after: Option<SessionKey> = None;
    loop {
        let page = engine.sessions(None, after.as_ref(), 64);
        for session in &page.sessions {
            has.insert(session.spec.key.clone(), on(session, "a")?);
            after = Some(session.spec.key.clone());
        }
        if !page.more {
            break;
        }
    }
    row(&mut rows, "all are listed")?;
    let _snapshot = engine.snapshot().await;
    row(&mut rows, "metrics are scraped")?;
    let mut watcher = engine.watch(None, true)?;
    for _ in 0..sessions {
        watcher.next().await?;
    }
    drop(watcher);
    row(&mut rows, "a watcher is told of all")?;
    a.leave(&engine);
    let a = attach(&engine, "a", lan(1), has).await?;
    row(&mut rows, "their router comes back and is synchronised")?;
    let hosts = || hosts(prefixes);
    let wide = attach(&engine, "wide", vec![edge("lan", hosts())], HashMap::new()).await?;
    row(&mut rows, "a router with all prefixes attaches")?;
    engine.report(&wide.link, vec![edge("other", hosts())]);
    let id = router("wide")?;
    while &*engine.router(&id)?.router.interfaces[0].name != "other" {
        sleep(Duration::from_millis(10)).await;
    }
    // Until the old ones are swept and all sessions have been looked at.
    sleep(Duration::from_secs(10)).await;
    row(&mut rows, "it reports them on another interface")?;
    wide.leave(&engine);
    engine.forget_router(&id).await?;
    sleep(Duration::from_secs(10)).await;
    row(&mut rows, "it is lost and forgotten")?;
    calls(sessions)
        .map(|spec| async { engine.delete(spec?.key).await.map(drop) })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    row(&mut rows, "sessions are deleted")?;
    a.leave(&engine);
    b.leave(&engine);
    engine.stop();
    Ok(rows)
}

/// A router in this process, which acknowledges at once.
struct Attached {
    link: Arc<Link>,
    task: tokio::task::JoinHandle<()>,
}

impl Attached {
    fn leave(self, engine: &Engine) {
        self.task.abort();
        engine.detach(&self.link, "it left");
    }
}

fn router(name: &str) -> anyhow::Result<RouterId> {
    Ok(RouterId::parse("id", name)?)
}

async fn attach(
    engine: &Arc<Engine>,
    name: &str,
    interfaces: Vec<Interface>,
    has: HashMap<SessionKey, Reported>,
) -> anyhow::Result<Attached> {
    let identity = Identity {
        id: router(name)?,
        epoch: 1,
        software_version: String::new(),
        entry_capacity: 0,
    };
    let attached = engine.attach(identity, String::new(), interfaces, has);
    let (link, mut messages) = attached.await?;
    loop {
        match messages.recv().await.context("the stream ended")? {
            ToRouter::Synchronised(_) => break,
            message => obey(&link, &message),
        }
    }
    let answering = link.clone();
    let task = tokio::spawn(async move { answer(&answering, messages).await });
    Ok(Attached { link, task })
}

async fn answer(link: &Link, mut messages: Outgoing) {
    while let Some(message) = messages.recv().await {
        obey(link, &message);
    }
    pending().await
}

fn obey(link: &Link, message: &ToRouter) {
    if let ToRouter::Command { id, .. } = message {
        link.answer(*id, Ok(Vec::new()));
    }
}

fn edge(name: &str, prefixes: Vec<IpNet>) -> Interface {
    Interface {
        name: name.into(),
        role: Role::Edge,
        up: true,
        addresses: Vec::new(),
        prefixes,
        rate_bps: 0,
        ef_budget_bps: 0,
        ef_ingress_budget_bps: 0,
        mtu_bytes: 1_500,
        overhead_bytes: 0,
        vlan_id: 0,
        port: name.into(),
    }
}

fn lan(net: u8) -> Vec<Interface> {
    let prefix = Ipv4Net::new_assert([10, net, 0, 0].into(), 16);
    vec![edge("lan", vec![prefix.into()])]
}

/// Prefixes from 16.0.0.0 on, 2,048 addresses apart.
fn hosts(count: u32) -> Vec<IpNet> {
    let net = |index: u32| Ipv4Net::new_assert((0x1000_0000 + (index << 11)).into(), 21);
    (0..count).map(|index| net(index).into()).collect()
}

fn calls(count: u32) -> impl futures_util::Stream<Item = Result<SessionSpec, Error>> {
    stream::iter((0..count).map(|call| parse::spec(Some(agent::spec(call)))))
}

/// What a router has of a session.
fn on(session: &SessionView, name: &str) -> anyhow::Result<Reported> {
    let mut shares = shares(&session.placement, &expand(&session.spec));
    let share = shares.remove(&router(name)?).context("it is not there")?;
    Ok(Reported {
        revision: session.spec.revision.get(),
        fingerprint: share.fingerprint,
    })
}
