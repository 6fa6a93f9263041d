//! `voicelane call`.

use std::{pin::pin, time::Duration};

use tonic::transport::Channel;
use voicelane_proto::v1::{self, operator_client::OperatorClient, sessions_client::SessionsClient};

use crate::{
    args::{Call, Global},
    client::{Connection, Failure},
    media::spec,
    output::Output,
    text::{calls, quality, top},
};

/// Sessions of one page.
const PAGE: u32 = 500;

/// Carries a command out.
pub(crate) async fn run(global: &Global, call: Call) -> Result<(), Failure> {
    let output = Output { json: global.json };
    let connection = Connection::to_server(global).await?;
    let mut client = SessionsClient::new(connection.channel.clone());
    let key = |id: String| v1::SessionKey {
        agent_id: global.agent.clone(),
        session_id: id,
    };
    let agent_id = |all_agents| match all_agents {
        true => String::new(),
        false => global.agent.clone(),
    };
    match call {
        Call::Add {
            id,
            media,
            revision,
        } => {
            let spec = Some(spec(key(id), revision, &media)?);
            let request = v1::AddSessionRequest { spec };
            let answer = connection.answer(client.add_session(request)).await?;
            print_session(output, answer.session)
        }
        Call::Modify {
            id,
            media,
            revision,
        } => {
            let revision = match revision {
                Some(revision) => revision,
                None => current_revision(&connection, &mut client, key(id.clone())).await? + 1,
            };
            let spec = Some(spec(key(id), revision, &media)?);
            let request = v1::ModifySessionRequest { spec };
            let answer = connection.answer(client.modify_session(request)).await?;
            print_session(output, answer.session)
        }
        Call::Delete { id } => {
            let request = v1::DeleteSessionRequest { key: Some(key(id)) };
            let answer = connection.answer(client.delete_session(request)).await?;
            output.print(&answer, calls::deleted)
        }
        Call::Get { id } => {
            let request = v1::GetSessionRequest { key: Some(key(id)) };
            let answer = connection.answer(client.get_session(request)).await?;
            print_session(output, answer.session)
        }
        Call::List {
            worst: true, limit, ..
        } => {
            let request = v1::WatchOverviewRequest {
                once: true,
                ..Default::default()
            };
            let mut client = OperatorClient::new(connection.channel.clone());
            let mut overviews = connection.answer(client.watch_overview(request)).await?;
            let overview = connection.in_time(overviews.message()).await?;
            let mut calls = overview.unwrap_or_default().calls;
            calls.retain(|call| call.badness > 0);
            calls.truncate(limit.unwrap_or(usize::MAX));
            output.print(&calls, |calls| top::calls(calls))
        }
        Call::List {
            all_agents, limit, ..
        } => {
            let sessions = list(&connection, &mut client, agent_id(all_agents), limit).await?;
            output.print(&sessions, calls::sessions)
        }
        Call::Watch {
            all_agents,
            existing,
            count,
            duration,
        } => {
            let request = v1::WatchSessionsRequest {
                agent_id: agent_id(all_agents),
                include_existing: existing,
            };
            watch(&connection, &mut client, request, output, count, duration).await
        }
        Call::Quality { id } => {
            let mut client = OperatorClient::new(connection.channel.clone());
            let request = v1::ExplainSessionRequest { key: Some(key(id)) };
            let answer = connection.answer(client.explain_session(request)).await?;
            output.print(&answer, quality::quality)
        }
        Call::Explain { id } => {
            let mut client = OperatorClient::new(connection.channel.clone());
            let request = v1::ExplainSessionRequest { key: Some(key(id)) };
            let answer = connection.answer(client.explain_session(request)).await?;
            output.print(&answer, calls::explanation)?;
            match (answer.first_broken, answer.first_unknown) {
                (Some(_), _) => Err(Failure::Broken),
                (None, Some(_)) => Err(Failure::Unknown),
                (None, None) => Ok(()),
            }
        }
    }
}

fn print_session(output: Output, session: Option<v1::Session>) -> Result<(), Failure> {
    output.print(&session.unwrap_or_default(), calls::session)
}

async fn current_revision(
    connection: &Connection,
    client: &mut SessionsClient<Channel>,
    key: v1::SessionKey,
) -> Result<u64, Failure> {
    let request = v1::GetSessionRequest { key: Some(key) };
    let answer = connection.answer(client.get_session(request)).await?;
    Ok(answer
        .session
        .and_then(|session| session.spec)
        .map_or(0, |spec| spec.revision))
}

async fn list(
    connection: &Connection,
    client: &mut SessionsClient<Channel>,
    agent_id: String,
    limit: Option<usize>,
) -> Result<v1::ListSessionsResponse, Failure> {
    let limit = limit.unwrap_or(usize::MAX);
    let mut sessions = Vec::new();
    let mut page_token = String::new();
    loop {
        let page_size = u32::try_from(limit - sessions.len())
            .unwrap_or(PAGE)
            .clamp(1, PAGE);
        let request = v1::ListSessionsRequest {
            agent_id: agent_id.clone(),
            page_size,
            page_token,
        };
        let answer = connection.answer(client.list_sessions(request)).await?;
        sessions.extend(answer.sessions);
        sessions.truncate(limit);
        page_token = answer.next_page_token;
        if page_token.is_empty() || sessions.len() >= limit {
            return Ok(v1::ListSessionsResponse {
                sessions,
                total: answer.total,
                next_page_token: page_token,
                server_epoch: answer.server_epoch,
            });
        }
    }
}

async fn watch(
    connection: &Connection,
    client: &mut SessionsClient<Channel>,
    request: v1::WatchSessionsRequest,
    output: Output,
    count: Option<u64>,
    duration: Option<Duration>,
) -> Result<(), Failure> {
    let mut events = connection.answer(client.watch_sessions(request)).await?;
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut over = pin!(async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    });
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let event = tokio::select! {
            event = events.message() => event.map_err(|status| connection.failure(&status))?,
            interrupted = &mut interrupted => return Ok(interrupted?),
            () = &mut over => return Ok(()),
        };
        let Some(event) = event else {
            return Err(Failure::ended());
        };
        output.print(&event, calls::event)?;
        left -= 1;
    }
    Ok(())
}
