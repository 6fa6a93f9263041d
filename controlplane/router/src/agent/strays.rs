//! Tells the server of packets that are no session's and may have been meant to be: near misses of silent flows, and
//! EF without a call.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};
use voicelane_dataplane::{
    diffserv::Dscp,
    policy::Offence,
    stats::Report,
    trace::{TraceFilter, TraceRecord, Tracer},
    units::InterfaceIndex,
};
use voicelane_proto::v1::{
    AttachRequest, EfClaim, NearMiss, StrayPackets, attach_request::Message,
};

use super::attachment::{Detached, send};
use crate::{
    dataplane::{Client, WorkerGone},
    sessions::{Sessions, WantedFlow, WaysIn, entries::unlatched},
};

/// Flows that are looked for at once: each packet without a session is compared with all of them.
const FLOWS: usize = 8;
/// For how long: several packets of any codec come.
const LOOK: Duration = Duration::from_millis(400);
/// The most packets that are looked at.
const PACKETS: usize = 64;
/// Who claims EF with fewer packets between two reports is not told.
const LEAST_CLAIMED: u64 = 50;
/// The most senders of a message.
const MOST_CLAIMS: usize = 8;

/// Looks for near misses of silent flows, and tells, until the attachment ends.
pub(super) async fn tell(sessions: Arc<Sessions>, outbox: mpsc::Sender<AttachRequest>) {
    // Fails when the attachment or the worker has ended.
    while tell_next(&sessions, &outbox).await.is_ok() {}
}

async fn tell_next(
    sessions: &Sessions,
    outbox: &mpsc::Sender<AttachRequest>,
) -> Result<(), Detached> {
    let wanted = sessions.wanted().next(FLOWS).await;
    let records = look(sessions.client().clone(), &wanted).await?;
    let near_misses = {
        let (table, ways_in) = (sessions.table(), sessions.ways_in());
        let latches = |destination| table.owner(&unlatched(destination)).is_some();
        let found = wanted.iter();
        let found = found.filter_map(|it| near_miss(it, &records, &latches, ways_in));
        found.collect()
    };
    let strays = StrayPackets {
        near_misses,
        ..StrayPackets::default()
    };
    if strays.near_misses.is_empty() {
        return Ok(());
    }
    send(outbox, Message::Strays(strays)).await
}

/// Some packets without a session that are nearly of these flows. Waits for its turn to trace.
async fn look(client: Client, wanted: &[WantedFlow]) -> Result<Vec<TraceRecord>, WorkerGone> {
    let filter = TraceFilter {
        near: wanted.iter().map(|it| it.flow).collect(),
        ..TraceFilter::default()
    };
    let turn = Arc::clone(client.tracing()).acquire_owned().await;
    let turn = turn.map_err(|_| WorkerGone)?;
    // In a task of its own, as nobody else would take the tracer back if this were cancelled.
    let looking = tokio::spawn(async move {
        let _turn = turn;
        client.trace(Some(Tracer::new(filter, PACKETS))).await?;
        sleep(LOOK).await;
        client.trace(None).await
    });
    let tracer = looking.await.map_err(|_| WorkerGone)??;
    Ok(tracer.map_or_else(Vec::new, |tracer| tracer.records))
}

/// What comes in a flow's place: of several packets the one that is most like it. What shares no end with it must
/// be RTP, as two hosts may have more to say to each other. What goes where another flow learns its source is that
/// one's, which has just not been installed.
fn near_miss(
    wanted: &WantedFlow,
    records: &[TraceRecord],
    latches: &dyn Fn(SocketAddr) -> bool,
    ways_in: &WaysIn,
) -> Option<NearMiss> {
    let near = records.iter().filter_map(|record| {
        let came = record.header.filter(|it| it.has_ports)?.flow;
        let shares_an_end =
            came.source == wanted.flow.source || came.destination == wanted.flow.destination;
        let is_rtp = is_rtp(&record.frame);
        let is_anothers = came.destination != wanted.flow.destination && latches(came.destination);
        let is_near = wanted.flow.is_near(&came) && (shares_an_end || is_rtp) && !is_anothers;
        let likeness = (wanted.flow.likeness(&came), is_rtp);
        is_near.then_some((likeness, came, record.ingress))
    });
    let (_, came, ingress) = near.max_by_key(|(likeness, ..)| *likeness)?;
    Some(NearMiss {
        key: Some((&wanted.key).into()),
        flow_index: wanted.flow_index,
        source: Some(came.source.into()),
        destination: Some(came.destination.into()),
        interface: ways_in.name(ingress).to_owned(),
    })
}

/// Whether an untagged frame has a UDP payload of RTP, by its first two bytes (RFC 7983 section 7, RFC 5761
/// section 4).
fn is_rtp(frame: &[u8]) -> bool {
    let payload = |frame: &[u8]| {
        let packet = frame.get(14..)?;
        let header = match *packet.first()? {
            first @ 0x40..=0x4f => usize::from(first & 15) * 4,
            _ => 40,
        };
        packet.get(header + 8..)?.first_chunk::<2>().copied()
    };
    matches!(payload(frame), Some([128..=191, second]) if !(192..=223).contains(&second))
}

/// With how many packets senders have claimed EF without a call, at least, since the start.
pub(super) type Claimed = HashMap<(InterfaceIndex, IpAddr), u64>;

/// Of those that the workers tell apart.
pub(super) fn claimed(report: &Report) -> Claimed {
    let interfaces = (0..=u8::MAX).map(InterfaceIndex);
    let interfaces = interfaces.zip(&report.policy.interfaces);
    let all = interfaces.flat_map(|(index, interface)| {
        let senders = interface.senders.iter();
        let claims = senders.filter(|it| (it.offence, it.claims) == (Offence::Claim, Dscp::EF));
        claims.map(move |it| ((index, it.address), it.packets.saturating_sub(it.error)))
    });
    all.collect()
}

/// Who has claimed EF between two reports, the greatest first.
pub(super) fn ef_claims(before: &Claimed, now: &Claimed, ways_in: &WaysIn) -> Vec<EfClaim> {
    let claims = now.iter().map(|(name, packets)| {
        let (interface, address) = name;
        // Less than before: it was pushed out of the list meanwhile, and counts anew.
        let former = before.get(name).filter(|former| *former <= packets);
        EfClaim {
            interface: ways_in.name(*interface).to_owned(),
            address: address.to_string(),
            packets: packets - former.unwrap_or(&0),
        }
    });
    let mut claims: Vec<_> = claims.filter(|it| it.packets >= LEAST_CLAIMED).collect();
    claims.sort_by_key(|claim| Reverse(claim.packets));
    claims.truncate(MOST_CLAIMS);
    claims
}

#[cfg(test)]
mod tests {
    use voicelane_dataplane::{
        session::{FiveTuple, Protocol},
        trace::{Fate, TracedHeader},
        units::Ticks,
    };
    use voicelane_types::SessionKey;

    use super::*;
    use crate::sessions::entries::tests::ways_in;

    fn flow(source: &str, destination: &str) -> FiveTuple {
        FiveTuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: Protocol::UDP,
        }
    }

    /// A packet with this payload.
    fn record(source: &str, destination: &str, payload: &[u8]) -> TraceRecord {
        let flow = flow(source, destination);
        let mut frame = vec![0; 14];
        frame.push(0x45);
        frame.resize(14 + 20 + 8, 0);
        frame.extend(payload);
        TraceRecord {
            at: Ticks(0),
            ingress: InterfaceIndex(0),
            frame: frame.iter().copied().collect(),
            frame_bytes: 60,
            header: Some(TracedHeader {
                flow,
                has_ports: true,
                dscp: Dscp::DF,
                ttl: 64,
                ip_bytes: 46,
            }),
            session: None,
            spoofed: None,
            rule: None,
            marked: None,
            exit: None,
            fate: Fate::Queued,
            queue_end: None,
            place: 0,
        }
    }

    /// The ends of the near miss of a call among these packets.
    fn missed(records: &[TraceRecord]) -> Option<(SocketAddr, SocketAddr)> {
        missed_from("10.1.0.5:4000", records)
    }

    /// Of one from this source.
    fn missed_from(source: &str, records: &[TraceRecord]) -> Option<(SocketAddr, SocketAddr)> {
        let wanted = WantedFlow {
            key: SessionKey::new("x", "1").unwrap(),
            flow_index: 3,
            flow: flow(source, "10.2.0.7:4000"),
        };
        let latches = |destination: SocketAddr| destination.port() == 4006;
        let miss = near_miss(&wanted, records, &latches, &ways_in())?;
        assert_eq!(miss.flow_index, 3);
        let end = |end: Option<voicelane_proto::v1::Endpoint>| {
            let end = end.unwrap();
            let port = u16::try_from(end.port).unwrap();
            SocketAddr::new(end.address.parse().unwrap(), port)
        };
        Some((end(miss.source), end(miss.destination)))
    }

    #[test]
    fn the_packet_that_is_most_like_the_flow_is_told() {
        let rtp = [0x80, 8];
        let stranger = record("203.0.113.9:9", "10.2.0.7:4000", &rtp);
        let another_port = record("10.1.0.5:4002", "10.2.0.7:4000", &[0]);
        let others = [stranger.clone(), another_port.clone(), stranger.clone()];
        assert_eq!(
            missed(&others),
            Some((
                "10.1.0.5:4002".parse().unwrap(),
                "10.2.0.7:4000".parse().unwrap()
            ))
        );
        let to_others = record("10.1.0.5:4000", "192.0.2.1:3478", &[0, 1]);
        let both_ports = |payload: &[u8]| record("10.1.0.5:4002", "10.2.0.7:4002", payload);
        let told = missed(&[both_ports(&rtp), to_others.clone()]).unwrap();
        assert_eq!(told.0, "10.1.0.5:4002".parse().unwrap(), "RTP first");
        assert!(missed(&[to_others]).is_some());
        // Signalling, or RTCP, between the same hosts.
        for payload in [&b"INVITE"[..], &[0x81, 200], &[0x80]] {
            assert_eq!(missed(&[both_ports(payload)]), None);
        }
        assert_eq!(
            missed(&[record("10.1.0.5:4000", "10.2.0.7:4000", &rtp)]),
            None
        );
        let mut part = another_port;
        part.header.as_mut().unwrap().has_ports = false;
        assert_eq!(missed(&[part]), None);
    }

    /// Its source is to be learned.
    #[test]
    fn media_to_another_port_of_the_destination_are_told() {
        let rtp = [0x80, 8];
        let any_port = "10.1.0.5:0";
        let to = |destination: &str, payload: &[u8]| record("10.1.0.5:4000", destination, payload);
        let to_another_port = [to("10.2.0.7:4002", &rtp)];
        let told = missed_from(any_port, &to_another_port).unwrap();
        assert_eq!(told.1, "10.2.0.7:4002".parse().unwrap());
        let of_another_flow = to("10.2.0.7:4006", &rtp);
        let signalling = to("10.2.0.7:5060", b"INVITE");
        for other in [of_another_flow, signalling, to("10.2.0.8:4000", &rtp)] {
            assert_eq!(missed_from(any_port, &[other]), None);
        }
        // It may be learned from one address alone.
        let only = "10.1.0.9:0";
        assert_eq!(missed_from(only, &to_another_port), None);
        assert!(missed_from(only, &[to("10.2.0.7:4000", &rtp)]).is_some());
        let there = record("10.1.0.9:4000", "10.2.0.7:4002", &rtp);
        assert!(missed_from(only, &[there]).is_some());
    }

    #[test]
    fn who_claims_most_is_told_first() {
        let name = |last: u8| (InterfaceIndex(0), IpAddr::from([10, 1, 0, last]));
        let before = Claimed::from([(name(1), 1_000), (name(2), 900), (name(3), 10)]);
        let now = Claimed::from([
            (name(1), 1_020),
            (name(2), 1_000),
            (name(3), 510),
            (name(4), 70),
        ]);
        let told = |before, now| {
            let claims = ef_claims(before, now, &ways_in());
            let claims = claims.into_iter().map(|it| (it.address, it.packets));
            claims.collect::<Vec<_>>()
        };
        let [two, three, four] = [2, 3, 4].map(|last| format!("10.1.0.{last}"));
        assert_eq!(told(&before, &now), [(three, 500), (two, 100), (four, 70)]);
        let anew = Claimed::from([(name(1), 60)]);
        assert_eq!(told(&before, &anew), [("10.1.0.1".to_owned(), 60)]);
        let many: Claimed = (0..200).map(|last| (name(last), 500)).collect();
        assert_eq!(told(&before, &many).len(), MOST_CLAIMS);
    }
}
