//! A router that says yes at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use voicelane_proto::v1::{
    self, attach_request::Message, attach_response, command::Command, command_result, interface,
    routers_client::RoutersClient,
};

/// What a router has: revision and fingerprint, by agent and session.
pub(crate) type Table = Arc<Mutex<HashMap<(String, String), (u64, u64)>>>;

/// Sessions of a part of what a router has.
const PART: usize = 500;

/// Attaches one that reaches a prefix, for as long as the process lasts; returns when it is
/// synchronised. The task ends when the stream has ended.
pub(crate) async fn attach(
    url: &str,
    name: &str,
    prefix: &str,
    table: &Table,
) -> anyhow::Result<JoinHandle<()>> {
    let mut client = connect(url).await?;
    let (outbound, messages) = mpsc::channel(4_096);
    let hello = v1::Hello {
        router_id: name.to_owned(),
        epoch: 1,
        software_version: String::new(),
        entry_capacity: 0,
    };
    let lan = v1::Interface {
        name: "lan".to_owned(),
        role: interface::Role::Edge.into(),
        up: true,
        prefixes: vec![prefix.to_owned()],
        mtu_bytes: 1_500,
        ..v1::Interface::default()
    };
    let interfaces = vec![lan];
    for message in [
        Message::Hello(hello),
        Message::Interfaces(v1::InterfaceReport {
            interfaces,
            more: false,
        }),
    ] {
        outbound.send(say(message)).await?;
    }
    let telling = outbound.clone();
    let parts = installed(table);
    let told = tokio::spawn(async move {
        for part in parts {
            telling.send(say(Message::Installed(part))).await?;
        }
        anyhow::Ok(())
    });
    let inbound = client.attach(ReceiverStream::new(messages)).await?;
    told.await??;
    let mut inbound = inbound.into_inner();
    let table = table.clone();
    while let Some(response) = inbound.message().await? {
        match response.message {
            Some(attach_response::Message::Synchronised(_)) => break,
            Some(attach_response::Message::Command(command)) => {
                outbound.send(say(obey(&table, command))).await?;
            }
            _ => {}
        }
    }
    Ok(tokio::spawn(async move {
        while let Ok(Some(response)) = inbound.message().await {
            if let Some(attach_response::Message::Command(command)) = response.message
                && outbound.send(say(obey(&table, command))).await.is_err()
            {
                return;
            }
        }
    }))
}

fn say(message: Message) -> v1::AttachRequest {
    v1::AttachRequest {
        message: Some(message),
    }
}

/// Does what a command says, and says yes.
fn obey(table: &Table, command: v1::Command) -> Message {
    let name = |key: Option<v1::SessionKey>| {
        let key = key.unwrap_or_default();
        (key.agent_id, key.session_id)
    };
    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
    match command.command {
        Some(Command::Install(install)) => {
            let has = (install.revision, install.fingerprint);
            table.insert(name(install.key), has);
        }
        Some(Command::Remove(remove)) => drop(table.remove(&name(remove.key))),
        Some(Command::Read(_)) | None => {}
    }
    Message::Result(v1::CommandResult {
        command_id: command.command_id,
        code: command_result::Code::Ok.into(),
        ..v1::CommandResult::default()
    })
}

/// What a router has, in parts of which the last says so.
fn installed(table: &Table) -> Vec<v1::InstalledSessions> {
    let table = table.lock().unwrap_or_else(PoisonError::into_inner);
    let session =
        |((agent, session), (revision, fingerprint)): (&(String, String), &(u64, u64))| {
            v1::InstalledSession {
                key: Some(v1::SessionKey {
                    agent_id: agent.clone(),
                    session_id: session.clone(),
                }),
                revision: *revision,
                fingerprint: *fingerprint,
            }
        };
    let all: Vec<_> = table.iter().map(session).collect();
    let part = |sessions: &[v1::InstalledSession]| v1::InstalledSessions {
        sessions: sessions.to_vec(),
        last: false,
    };
    let mut parts: Vec<_> = all.chunks(PART).map(part).collect();
    parts.push(v1::InstalledSessions {
        sessions: Vec::new(),
        last: true,
    });
    parts
}

/// The server may be about to start.
pub(crate) async fn connect(url: &str) -> anyhow::Result<RoutersClient<tonic::transport::Channel>> {
    let mut tries = 0;
    loop {
        match RoutersClient::connect(url.to_owned()).await {
            Ok(client) => return Ok(client),
            Err(error) if tries == 100 => return Err(error.into()),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
