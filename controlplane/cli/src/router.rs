//! `voicelane router`.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use voicelane_proto::v1::{
    self, operator_client::OperatorClient, router_operator_client::RouterOperatorClient,
};

use crate::{
    args::{Global, Router, RouterApi},
    client::{Connection, Failure},
    output::Output,
    text::{self, ef, policy, routers, stats},
};

/// Carries a command out.
pub(crate) async fn run(global: &Global, router: Router) -> Result<(), Failure> {
    let output = Output { json: global.json };
    match router {
        Router::List => {
            let (connection, mut client) = server(global).await?;
            let mut all = v1::ListRoutersResponse::default();
            loop {
                let request = v1::ListRoutersRequest {
                    page_token: all.next_page_token,
                    ..Default::default()
                };
                let page = connection.answer(client.list_routers(request)).await?;
                all.routers.extend(page.routers);
                (all.total, all.next_page_token) = (page.total, page.next_page_token);
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            output.print(&all, routers::routers)
        }
        Router::Show { id } => {
            let (connection, mut client) = server(global).await?;
            let request = v1::GetRouterRequest { router_id: id };
            let answer = connection.answer(client.get_router(request)).await?;
            output.print(&answer.router.unwrap_or_default(), routers::router)
        }
        Router::Forget { id } => {
            let (connection, mut client) = server(global).await?;
            let request = v1::ForgetRouterRequest {
                router_id: id.clone(),
            };
            let answer = connection.answer(client.forget_router(request)).await?;
            output.print(&answer, |it| {
                format!("forgot router {id} with {} calls", it.sessions)
            })
        }
        Router::Prefixes { id, interface } => {
            let (connection, mut client) = server(global).await?;
            let mut all = v1::ListPrefixesResponse::default();
            loop {
                let request = v1::ListPrefixesRequest {
                    router_id: id.clone(),
                    interface: interface.clone(),
                    page_token: all.next_page_token,
                    ..Default::default()
                };
                let page = connection.answer(client.list_prefixes(request)).await?;
                all.prefixes.extend(page.prefixes);
                (all.total, all.next_page_token) = (page.total, page.next_page_token);
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            output.print(&all, routers::all_prefixes)
        }
        Router::Stats { api } => {
            let (connection, mut client) = itself(global, &api, Duration::ZERO).await?;
            let request = v1::GetStatusRequest {};
            let status = connection.answer(client.get_status(request)).await?;
            let v1::ListPortsResponse { ports, definitions } =
                ports(&connection, &mut client).await?;
            let stats = stats::Stats {
                status,
                ports,
                definitions,
            };
            output.print(&stats, stats::stats)
        }
        Router::Rules { api } => {
            let (connection, mut client) = itself(global, &api, Duration::ZERO).await?;
            let request = v1::ListRulesRequest {};
            let rules = connection.answer(client.list_rules(request)).await?;
            let ports = ports(&connection, &mut client).await?.ports;
            output.print(&policy::Rules { rules, ports }, policy::rules)
        }
        Router::Senders { api } => {
            let (connection, mut client) = itself(global, &api, Duration::ZERO).await?;
            let ports = ports(&connection, &mut client).await?;
            output.print(&ports, policy::senders)
        }
        Router::Reload { api } => {
            let (connection, mut client) = itself(global, &api, Duration::ZERO).await?;
            let request = v1::ReloadRequest {};
            let answer = connection.answer(client.reload(request)).await?;
            output.print(&answer, policy::reloaded)
        }
        Router::EfReport { api, window, svg } => {
            let window_s = window.unwrap_or(0);
            let window = Duration::from_secs(window_s.into());
            let (connection, mut client) = itself(global, &api, window).await?;
            let report = client.report_ef(v1::ReportEfRequest { window_s });
            let report = tokio::select! {
                report = connection.answer(report) => report?,
                never = progress(window) => match never {},
            };
            output.print(&report, ef::report)?;
            match svg {
                Some(file) => text::draw(&report, &file).map_err(|reason| Failure::File {
                    file: file.display().to_string(),
                    reason,
                }),
                None => Ok(()),
            }
        }
        Router::Entries { api } => {
            let (connection, mut client) = itself(global, &api, Duration::ZERO).await?;
            let request = v1::ListEntriesRequest {};
            let mut parts = connection.answer(client.list_entries(request)).await?;
            let mut all = v1::ListEntriesResponse::default();
            while let Some(part) = connection.in_time(parts.message()).await? {
                all.entries.extend(part.entries);
            }
            output.print(&all, routers::entries)
        }
    }
}

/// Connects to the QoS server.
async fn server(global: &Global) -> Result<(Connection, OperatorClient<Channel>), Failure> {
    let connection = Connection::to_server(global).await?;
    let client = OperatorClient::new(connection.channel.clone());
    Ok((connection, client))
}

/// Connects to a router itself, which measures for `window` before it answers.
async fn itself(
    global: &Global,
    api: &RouterApi,
    window: Duration,
) -> Result<(Connection, RouterOperatorClient<Channel>), Failure> {
    let connection = Connection::open(&api.url, global.timeout + window).await?;
    let client = RouterOperatorClient::new(connection.channel.clone());
    Ok((connection, client))
}

async fn ports(
    connection: &Connection,
    client: &mut RouterOperatorClient<Channel>,
) -> Result<v1::ListPortsResponse, Failure> {
    let request = v1::ListPortsRequest {};
    connection.answer(client.list_ports(request)).await
}

/// Shows on a terminal how long the measurement still takes; never returns.
async fn progress(window: Duration) -> std::convert::Infallible {
    let end = Instant::now() + window;
    while io::stderr().is_terminal() && Instant::now() < end {
        eprint!("\rmeasuring, {} s to go ", (end - Instant::now()).as_secs());
        sleep(Duration::from_secs(1).min(end - Instant::now())).await;
        if Instant::now() >= end {
            eprint!("\r\x1b[K");
        }
    }
    std::future::pending().await
}
