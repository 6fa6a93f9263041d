//! `voicelane router`.

use tonic::transport::Channel;
use voicelane_proto::v1::{
    self, operator_client::OperatorClient, router_operator_client::RouterOperatorClient,
};

use crate::{
    args::{Global, Router},
    client::{Connection, Failure},
    json,
    output::Output,
    policy::{Reloaded, Rules, Senders},
    stats::Stats,
    text,
};

/// Carries a command out.
pub(crate) async fn run(global: &Global, router: Router) -> Result<(), Failure> {
    let output = Output { json: global.json };
    match router {
        Router::List => {
            let connection = Connection::open(&global.server, global.timeout).await?;
            let mut client = operator(&connection);
            let (mut routers, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = v1::ListRoutersRequest {
                    page_token,
                    ..Default::default()
                };
                let answer = connection.answer(client.list_routers(request)).await?;
                routers.extend(answer.routers.into_iter().map(Into::into));
                page_token = answer.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            output.print(&json::Routers { routers }, |all| {
                text::routers(&all.routers)
            })
        }
        Router::Show { id } => {
            let connection = Connection::open(&global.server, global.timeout).await?;
            let mut client = operator(&connection);
            let request = v1::GetRouterRequest { router_id: id };
            let answer = connection.answer(client.get_router(request)).await?;
            let router: json::Router = answer.router.unwrap_or_default().into();
            output.print(&router, text::router)
        }
        Router::Forget { id } => {
            let connection = Connection::open(&global.server, global.timeout).await?;
            let mut client = operator(&connection);
            let request = v1::ForgetRouterRequest {
                router_id: id.clone(),
            };
            let answer = connection.answer(client.forget_router(request)).await?;
            let forgotten = json::Forgotten {
                router_id: id,
                sessions: answer.sessions,
            };
            output.print(&forgotten, |it| {
                format!("forgot router {} with {} calls", it.router_id, it.sessions)
            })
        }
        Router::Prefixes { id, interface } => {
            let connection = Connection::open(&global.server, global.timeout).await?;
            let mut client = operator(&connection);
            let (mut prefixes, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = v1::ListPrefixesRequest {
                    router_id: id.clone(),
                    interface: interface.clone(),
                    page_token,
                    ..Default::default()
                };
                let answer = connection.answer(client.list_prefixes(request)).await?;
                prefixes.extend(answer.prefixes);
                page_token = answer.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            let all = json::Prefixes {
                router_id: id,
                interface,
                prefixes,
            };
            output.print(&all, text::all_prefixes)
        }
        Router::Stats { api } => {
            let connection = Connection::open(&api.url, global.timeout).await?;
            let mut client = RouterOperatorClient::new(connection.channel.clone());
            let status = connection
                .answer(client.get_status(v1::GetStatusRequest {}))
                .await?;
            let ports = ports(&connection).await?;
            output.print(&Stats::new(status, ports), Stats::text)
        }
        Router::Rules { api } => {
            let connection = Connection::open(&api.url, global.timeout).await?;
            let mut client = RouterOperatorClient::new(connection.channel.clone());
            let rules = connection
                .answer(client.list_rules(v1::ListRulesRequest {}))
                .await?;
            let ports = ports(&connection).await?;
            output.print(&Rules::new(rules, ports), Rules::text)
        }
        Router::Senders { api } => {
            let connection = Connection::open(&api.url, global.timeout).await?;
            let ports = ports(&connection).await?;
            output.print(&Senders::new(ports), Senders::text)
        }
        Router::Reload { api } => {
            let connection = Connection::open(&api.url, global.timeout).await?;
            let mut client = RouterOperatorClient::new(connection.channel.clone());
            let answer = connection
                .answer(client.reload(v1::ReloadRequest {}))
                .await?;
            output.print(&Reloaded::new(answer), Reloaded::text)
        }
        Router::Entries { api } => {
            let connection = Connection::open(&api.url, global.timeout).await?;
            let mut client = RouterOperatorClient::new(connection.channel.clone());
            let request = v1::ListEntriesRequest {};
            let mut parts = connection.answer(client.list_entries(request)).await?;
            let mut entries = Vec::new();
            loop {
                let part = async { parts.message().await.map(tonic::Response::new) };
                match connection.answer(part).await? {
                    Some(part) => entries.extend(part.entries.into_iter().map(Into::into)),
                    None => break,
                }
            }
            output.print(&json::Entries { entries }, |all| {
                text::entries(&all.entries)
            })
        }
    }
}

/// What a router says of its ports.
async fn ports(connection: &Connection) -> Result<v1::ListPortsResponse, Failure> {
    let mut client = RouterOperatorClient::new(connection.channel.clone());
    connection
        .answer(client.list_ports(v1::ListPortsRequest {}))
        .await
}

fn operator(connection: &Connection) -> OperatorClient<Channel> {
    OperatorClient::new(connection.channel.clone())
}
