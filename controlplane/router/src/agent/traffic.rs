//! Tells the server what ports carry: what they send of the strict-priority classes, and what telephony comes
//! in by them; and who claims EF without a call.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use voicelane_dataplane::{
    diffserv::Service,
    stats::{PortReport, Report},
    wire::TAG_BYTES,
};
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

/// What a port has carried since the start, bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Carried {
    /// Of the strict-priority classes.
    sent: u64,
    /// Telephony that went on.
    came: u64,
}

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
        let (now, carried, claimed) = (
            Instant::now(),
            carried(ports, &report),
            strays::claimed(&report),
        );
        if let Some((then, former, had_claimed)) =
            before.replace((now, carried.clone(), claimed.clone()))
        {
            let millis = u64::try_from((now - then).as_millis()).unwrap_or(u64::MAX);
            let bps = |bytes: u64, former: u64| {
                bytes.saturating_sub(former).saturating_mul(8_000) / millis.max(1)
            };
            let rates = ports.iter().zip(carried.iter().zip(former));
            let rate = |(port, (now, former)): (&PortConfig, (&Carried, Carried))| PortRate {
                port: port.name.clone(),
                out_bps: bps(now.sent, former.sent),
                in_bps: Some(bps(now.came, former.came)),
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

/// What each port has carried.
fn carried(ports: &[PortConfig], report: &Report) -> Vec<Carried> {
    let of = |(port, counted): (&PortConfig, &PortReport)| {
        let classes = port.classes.iter().zip(&counted.queues);
        let strict = classes.filter(|(class, _)| class.service == Service::Strict);
        let sent = strict.map(|(_, queue)| queue.sent_bytes).sum();
        Carried { sent, came: 0 }
    };
    let mut all: Vec<_> = ports.iter().zip(&report.ports).map(of).collect();
    for (interface, counted) in interfaces(ports).zip(&report.interfaces) {
        let tag = interface.vlan.map_or(0, |_| TAG_BYTES);
        let beside = u64::from(interface.port.overhead_bytes) + u64::from(tag);
        if let Some(port) = all.get_mut(interface.index.index()) {
            port.came += counted.telephony_bytes + counted.telephony_packets * beside;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use voicelane_dataplane::diffserv::Phb;

    use super::*;
    use crate::config::{Config, EXAMPLE};

    #[test]
    fn a_port_carries_what_its_interfaces_do_as_on_the_wire() {
        let config = Config::parse(Path::new("x"), EXAMPLE, &[0]).unwrap();
        let ports = &config.ports;
        let mut report = Report::new(ports.len(), interfaces(ports).count());
        let of = interfaces(ports).position(|it| it.vlan.is_some()).unwrap();
        let vlan = interfaces(ports).nth(of).unwrap();
        let (port, overhead) = (vlan.index.index(), u64::from(vlan.port.overhead_bytes));
        report.ports[port].queues[Phb::Telephony.index()].sent_bytes = 5_000;
        report.ports[port].queues[Phb::Standard.index()].sent_bytes = 70_000;
        for (interface, packets) in [(port, 10), (of, 3)] {
            let counted = &mut report.interfaces[interface];
            counted.telephony_packets = packets;
            counted.telephony_bytes = packets * 214;
        }
        let expected = Carried {
            sent: 5_000,
            came: 10 * (214 + overhead) + 3 * (214 + 4 + overhead),
        };
        for (index, carried) in carried(ports, &report).into_iter().enumerate() {
            let none = Carried { sent: 0, came: 0 };
            assert_eq!(carried, if index == port { expected } else { none });
        }
    }
}
