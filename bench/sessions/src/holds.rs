//! How long the engine's lock is held at a time.

mod meter;

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ipnet::{IpNet, Ipv4Net};
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

use self::meter::Meter;
use crate::agent;

/// Operations of the agent at once.
const AT_ONCE: usize = 256;

pub(crate) async fn measure(sessions: u32, prefixes: u32) -> anyhow::Result<()> {
    let mut meter = Meter::start()?;
    rows(&mut meter, sessions, prefixes).await?;
    println!("{sessions} sessions, {prefixes} prefixes of a router; times of a hold, us");
    meter::print(&meter.rows);
    Ok(())
}

async fn rows(meter: &mut Meter, sessions: u32, prefixes: u32) -> anyhow::Result<()> {
    let engine = Engine::start(Settings {
        adopt_for: Duration::ZERO,
        holds: Some(Holds {
            taken: meter::taken,
            given: meter::given,
        }),
        ..Settings::default()
    });
    let b = attach(&engine, "b", lan(2), BTreeMap::new()).await?;
    let a = attach(&engine, "a", lan(1), BTreeMap::new()).await?;
    meter.row("idle")?;
    calls(sessions)
        .map(|spec| async { engine.add(spec?).await.map(drop) })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    meter.row("sessions are added")?;
    let mut has = BTreeMap::new();
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
    meter.row("all are listed")?;
    let _snapshot = engine.snapshot().await;
    meter.row("metrics are scraped")?;
    let mut watcher = engine.watch(None, true)?;
    for _ in 0..sessions {
        watcher.next().await?;
    }
    drop(watcher);
    meter.row("a watcher is told of all")?;
    a.leave(&engine);
    let a = attach(&engine, "a", lan(1), has).await?;
    meter.row("their router comes back and is synchronised")?;
    let hosts = || hosts(prefixes);
    let wide = attach(&engine, "wide", vec![edge("lan", hosts())], BTreeMap::new()).await?;
    meter.row("a router with all prefixes attaches")?;
    engine.report(&wide.link, vec![edge("other", hosts())]);
    let id = router("wide")?;
    while &*engine.router(&id)?.router.interfaces[0].name != "other" {
        sleep(Duration::from_millis(10)).await;
    }
    // Until the old ones are swept and all sessions have been looked at.
    sleep(Duration::from_secs(10)).await;
    meter.row("it reports them on another interface")?;
    wide.leave(&engine);
    engine.forget_router(&id).await?;
    sleep(Duration::from_secs(10)).await;
    meter.row("it is lost and forgotten")?;
    calls(sessions)
        .map(|spec| async { engine.delete(spec?.key).await.map(drop) })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    meter.row("sessions are deleted")?;
    a.leave(&engine);
    b.leave(&engine);
    engine.stop();
    Ok(())
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
    has: BTreeMap<SessionKey, Reported>,
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
        refused: Vec::new(),
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
