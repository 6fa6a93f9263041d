//! `voicelane events`.

use std::pin::pin;

use voicelane_proto::v1::{self, operator_client::OperatorClient};

use crate::{
    args::{Global, Severity},
    client::{Connection, Failure},
    output::Output,
    text::events,
};

/// What is asked for.
pub(crate) fn wanted(follow: bool, last: u32, severity: Severity) -> v1::WatchEventsRequest {
    let min_severity = match severity {
        Severity::Info => v1::Severity::Info,
        Severity::Warning => v1::Severity::Warning,
        Severity::Error => v1::Severity::Error,
    };
    v1::WatchEventsRequest {
        after_sequence: 0,
        last,
        follow,
        min_severity: min_severity.into(),
    }
}

/// Carries a command out.
pub(crate) async fn run(
    global: &Global,
    wanted: v1::WatchEventsRequest,
    count: Option<u64>,
) -> Result<(), Failure> {
    let output = Output { json: global.json };
    let connection = Connection::to_server(global).await?;
    let mut client = OperatorClient::new(connection.channel.clone());
    let follow = wanted.follow;
    let mut parts = connection.answer(client.watch_events(wanted)).await?;
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut left = count.unwrap_or(u64::MAX);
    loop {
        let next = async {
            let part = parts.message();
            if follow {
                part.await.map_err(|status| connection.failure(&status))
            } else {
                connection.in_time(part).await
            }
        };
        let part = tokio::select! {
            part = next => part?,
            interrupted = &mut interrupted => return Ok(interrupted?),
        };
        let Some(part) = part else {
            break;
        };
        if part.missed > 0 {
            eprintln!(
                "voicelane: {} events are gone that came before these",
                part.missed
            );
        }
        for event in &part.events {
            if left == 0 {
                return Ok(());
            }
            output.print(event, events::event)?;
            left -= 1;
        }
        if left == 0 {
            return Ok(());
        }
    }
    if follow {
        return Err(Failure::ended());
    }
    Ok(())
}
