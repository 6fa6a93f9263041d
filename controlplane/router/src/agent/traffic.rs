//! Tells the server how much of the strict-priority classes ports send, and who claims EF without a call.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use voicelane_dataplane::{diffserv::Service, stats::Report};
use voicelane_proto::v1::{
    AttachRequest, PortRate, PortTraffic, StrayPackets, attach_request::Message,
};

use super::{
    attachment::{Detached, send},
    strays,
};
use crate::{
    config::{PortConfig, interfaces},
    sessions::Sessions,
};

/// How often it is told.
const EVERY: Duration = Duration::from_secs(10);

/// Tells until the attachment or the worker ends.
pub(super) async fn tell(
    sessions: Arc<Sessions>,
    ports: Arc<[PortConfig]>,
    outbox: mpsc::Sender<AttachRequest>,
) {
    // Ends by an error only.
    drop(tell_on(&sessions, &ports, &outbox).await);
}

async fn tell_on(
    sessions: &Sessions,
    ports: &[PortConfig],
    outbox: &mpsc::Sender<AttachRequest>,
) -> Result<(), Detached> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut report = Report::new(ports.len(), interfaces(ports).count());
    let mut before = None;
    loop {
        ticks.tick().await;
        report = sessions.client().report(report).await?;
        let (now, sent, claimed) = (
            Instant::now(),
            sent_bytes(ports, &report),
            strays::claimed(&report),
        );
        if let Some((then, former, had_claimed)) =
            before.replace((now, sent.clone(), claimed.clone()))
        {
            let millis = u64::try_from((now - then).as_millis()).unwrap_or(u64::MAX);
            let rates = ports.iter().zip(sent.iter().zip(former));
            let rate = |(port, (sent, former)): (&PortConfig, (&u64, u64))| PortRate {
                port: port.name.clone(),
                out_bps: sent.saturating_sub(former).saturating_mul(8_000) / millis.max(1),
            };
            let ports = rates.map(rate).collect();
            send(outbox, Message::Traffic(PortTraffic { ports })).await?;
            let strays = StrayPackets {
                ef_claims: strays::ef_claims(&had_claimed, &claimed, sessions.ways_in()),
                ..StrayPackets::default()
            };
            if !strays.ef_claims.is_empty() {
                send(outbox, Message::Strays(strays)).await?;
            }
        }
    }
}

/// Of each port's strict-priority classes, bytes on the wire.
fn sent_bytes(ports: &[PortConfig], report: &Report) -> Vec<u64> {
    let of = |(port, counted): (&PortConfig, &voicelane_dataplane::stats::PortReport)| {
        let classes = port.classes.iter().zip(&counted.queues);
        let strict = classes.filter(|(class, _)| class.service == Service::Strict);
        strict.map(|(_, queue)| queue.sent_bytes).sum()
    };
    ports.iter().zip(&report.ports).map(of).collect()
}
