//! A router that says yes at once.

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use voicelane_proto::v1::{
    self, attach_request::Message, attach_response, command_result, interface,
    routers_client::RoutersClient,
};

/// Attaches one that reaches a prefix, for as long as the process lasts; returns when it is
/// synchronised. The task ends when the stream has ended.
pub(crate) async fn attach(url: &str, name: &str, prefix: &str) -> anyhow::Result<JoinHandle<()>> {
    let mut client = connect(url).await?;
    let (outbound, messages) = mpsc::channel(4_096);
    let say = |message| v1::AttachRequest {
        message: Some(message),
    };
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
    let none = v1::InstalledSessions {
        sessions: Vec::new(),
        last: true,
    };
    for message in [
        Message::Hello(hello),
        Message::Interfaces(v1::InterfaceReport { interfaces }),
        Message::Installed(none),
    ] {
        outbound.send(say(message)).await?;
    }
    let inbound = client.attach(ReceiverStream::new(messages)).await?;
    let mut inbound = inbound.into_inner();
    while let Some(response) = inbound.message().await? {
        if let Some(attach_response::Message::Synchronised(_)) = response.message {
            break;
        }
    }
    Ok(tokio::spawn(async move {
        while let Ok(Some(response)) = inbound.message().await {
            if let Some(attach_response::Message::Command(command)) = response.message {
                let yes = v1::CommandResult {
                    command_id: command.command_id,
                    code: command_result::Code::Ok.into(),
                    ..v1::CommandResult::default()
                };
                let yes = v1::AttachRequest {
                    message: Some(Message::Result(yes)),
                };
                if outbound.send(yes).await.is_err() {
                    return;
                }
            }
        }
    }))
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
