//! What routers are told on their streams.

use voicelane_proto::v1;

use super::{codec, endpoint, key, kind, latch, meter, narrow};
use crate::{
    engine::{Command, Summary, ToRouter},
    model::entries::{FiveTuple, FlowEntry},
};

/// What goes to a router.
pub fn to_router(message: ToRouter) -> v1::AttachResponse {
    use v1::attach_response::Message;

    let message = match message {
        ToRouter::Welcome {
            server_epoch,
            leader,
        } => Message::Welcome(v1::Welcome {
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            server_epoch,
            term: leader.term,
            leader_url: leader.url,
        }),
        ToRouter::Command { id, command: it } => Message::Command(v1::Command {
            command_id: id,
            command: Some(command(it)),
        }),
        ToRouter::Synchronised(Summary {
            installed,
            replaced,
            removed,
            unchanged,
        }) => Message::Synchronised(v1::Synchronised {
            installed,
            replaced,
            removed,
            unchanged,
        }),
    };
    v1::AttachResponse {
        message: Some(message),
    }
}

fn command(command: Command) -> v1::command::Command {
    use v1::command::Command as To;

    match command {
        Command::Install {
            key: whose,
            revision,
            fingerprint,
            entries,
        } => To::Install(v1::InstallSession {
            key: Some(key(&whose)),
            revision: revision.get(),
            fingerprint: fingerprint.0,
            entries: entries.iter().map(entry).collect(),
        }),
        Command::Remove(whose) => To::Remove(v1::RemoveSession {
            key: Some(key(&whose)),
        }),
        Command::Read(whose) => To::Read(v1::ReadSession {
            key: Some(key(&whose)),
        }),
    }
}

fn entry(entry: &FlowEntry) -> v1::FlowEntry {
    v1::FlowEntry {
        flow_index: narrow(entry.flow),
        kind: kind(entry.kind).into(),
        source: match entry.latch {
            None => Some(endpoint(entry.tuple.0.source())),
            Some(_) => None,
        },
        destination: Some(endpoint(entry.tuple.0.destination())),
        protocol: FiveTuple::PROTOCOL,
        dscp: entry.dscp.number().into(),
        rate_bps: entry.rate_bps,
        burst_bytes: entry.burst_bytes,
        meter: entry.meter.as_ref().map(meter),
        ingress_interface: entry.ingress.as_deref().unwrap_or_default().to_owned(),
        latch: entry.latch.as_ref().map(latch),
        codecs: entry.codecs.iter().map(codec).collect(),
    }
}
