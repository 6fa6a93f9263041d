//! The calls that come and go: each is one flow of media in one direction.

use std::net::SocketAddr;

use voicelane_bench::flows::headers;
use voicelane_dataplane::session::{FiveTuple, Protocol};
use voicelane_proto::v1::{
    self, AddSessionRequest, DeleteSessionRequest, Endpoint, FlowEntry, FlowKind, InstallSession,
    MediaFlow, RemoveSession, Rtcp, SessionKey, SessionSpec, command::Command, rtcp,
};

/// What a call may bring: far more than it does, as it is not about metering.
const RATE_BPS: u64 = 1_000_000_000;
const BURST_BYTES: u32 = 1_000_000;
const PORT: u16 = 4_000;

/// A call by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call(pub(crate) u16);

impl Call {
    /// A G.711 packet of 20 ms, without FCS.
    pub(crate) const FRAME: u16 = 214;
    /// The first byte of both neighbours' MAC addresses that packets may go to.
    pub(crate) const NEXT_HOP: u8 = 6;

    fn flow(self) -> FiveTuple {
        let [high, low] = self.0.to_be_bytes();
        let end = |network| SocketAddr::from(([10, network, high, low], PORT));
        FiveTuple {
            source: end(1),
            destination: end(2),
            protocol: Protocol::UDP,
        }
    }

    /// Its packet, to the router's address; the IPv4 identification is the call's number.
    pub(crate) fn frame(self) -> Vec<u8> {
        let headers = headers(&self.flow(), 0, self.0, Self::FRAME - 14);
        let mut frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 1], &headers[..]].concat();
        frame.resize(Self::FRAME.into(), 0);
        frame
    }

    fn key(self) -> Option<SessionKey> {
        Some(SessionKey {
            agent_id: "churn".to_owned(),
            session_id: format!("call-{}", self.0),
        })
    }

    fn endpoints(self) -> (Option<Endpoint>, Option<Endpoint>) {
        let endpoint = |end: SocketAddr| Endpoint {
            address: end.ip().to_string(),
            port: end.port().into(),
        };
        let flow = self.flow();
        (
            Some(endpoint(flow.source)),
            Some(endpoint(flow.destination)),
        )
    }

    /// What a call agent asks for.
    pub(crate) fn add(self) -> AddSessionRequest {
        let (source, destination) = self.endpoints();
        let flow = MediaFlow {
            source,
            destination,
            max_bitrate_bps: RATE_BPS,
            max_burst_bytes: BURST_BYTES,
            rtcp: Some(Rtcp {
                mode: rtcp::Mode::None.into(),
                ..Rtcp::default()
            }),
            ..MediaFlow::default()
        };
        let spec = SessionSpec {
            key: self.key(),
            revision: 1,
            flows: vec![flow],
            service_class: v1::ServiceClass::Telephony.into(),
            ..SessionSpec::default()
        };
        AddSessionRequest { spec: Some(spec) }
    }

    /// What it asks for at the call's end.
    pub(crate) fn delete(self) -> DeleteSessionRequest {
        DeleteSessionRequest { key: self.key() }
    }

    /// What a server tells the router at its beginning.
    pub(crate) fn install(self) -> Command {
        let (source, destination) = self.endpoints();
        let entry = FlowEntry {
            flow_index: 0,
            kind: FlowKind::Rtp.into(),
            source,
            destination,
            protocol: Protocol::UDP.0.into(),
            dscp: 46,
            rate_bps: RATE_BPS,
            burst_bytes: BURST_BYTES,
            ingress_interface: "a".to_owned(),
            ..FlowEntry::default()
        };
        Command::Install(InstallSession {
            key: self.key(),
            revision: 1,
            fingerprint: 1,
            entries: vec![entry],
        })
    }

    /// And at its end.
    pub(crate) fn remove(self) -> Command {
        Command::Remove(RemoveSession { key: self.key() })
    }
}
