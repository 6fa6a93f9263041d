//! The calls that come and go: each is one flow of media in one direction.

use std::net::Ipv4Addr;

use voicelane_proto::v1::{
    self, AddSessionRequest, DeleteSessionRequest, Endpoint, FlowEntry, FlowKind, InstallSession,
    MediaFlow, RemoveSession, Rtcp, SessionKey, SessionSpec, command::Command, rtcp,
};

/// What a call may bring: far more than it does, as it is not about metering.
const RATE_BPS: u64 = 1_000_000_000;
const BURST_BYTES: u32 = 1_000_000;
const PORT: u16 = 4_000;
const UDP: u8 = 17;

/// A call by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call(pub(crate) u16);

impl Call {
    /// A G.711 packet of 20 ms, without FCS.
    pub(crate) const FRAME: usize = 214;
    /// The first byte of both neighbours' MAC addresses that packets may go to.
    pub(crate) const NEXT_HOP: u8 = 6;

    fn source(self) -> Ipv4Addr {
        let [high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(10, 1, high, low)
    }

    fn destination(self) -> Ipv4Addr {
        let [high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(10, 2, high, low)
    }

    /// Its packet, to the router's address; the IPv4 identification is the call's number.
    pub(crate) fn frame(self) -> [u8; Self::FRAME] {
        let mut frame = [0; Self::FRAME];
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 1, 1]);
        frame[12..14].copy_from_slice(&[8, 0]);
        #[allow(clippy::cast_possible_truncation, reason = "200 bytes")]
        let total = (Self::FRAME - 14) as u16;
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[18..20].copy_from_slice(&self.0.to_be_bytes());
        frame[22..24].copy_from_slice(&[64, UDP]);
        frame[26..30].copy_from_slice(&self.source().octets());
        frame[30..34].copy_from_slice(&self.destination().octets());
        let sum: u32 = frame[14..34]
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
            .sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        #[allow(clippy::cast_possible_truncation, reason = "folded")]
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        frame[34..36].copy_from_slice(&PORT.to_be_bytes());
        frame[36..38].copy_from_slice(&PORT.to_be_bytes());
        frame[38..40].copy_from_slice(&(total - 20).to_be_bytes());
        frame
    }

    fn key(self) -> Option<SessionKey> {
        Some(SessionKey {
            agent_id: "churn".to_owned(),
            session_id: format!("call-{}", self.0),
        })
    }

    fn endpoints(self) -> (Option<Endpoint>, Option<Endpoint>) {
        let endpoint = |address: Ipv4Addr| Endpoint {
            address: address.to_string(),
            port: PORT.into(),
        };
        (
            Some(endpoint(self.source())),
            Some(endpoint(self.destination())),
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
            protocol: UDP.into(),
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
