//! Each role may call what the README's table says, and the table has every call.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};
use voicelane_identity::Role;
use voicelane_proto::v1::{
    self, attach_request, operator_client::OperatorClient, routers_client::RoutersClient,
    session_change::Change, sessions_client::SessionsClient,
};
use voicelane_server::{
    engine::Settings,
    identity::{Access, METHODS},
};

use crate::common::*;

/// The table of the README: method, and whether router, agent and operator may call it.
fn readme() -> BTreeMap<String, [Access; 3]> {
    let access = |cell: &str| match cell {
        "no" => Access::No,
        "own" => Access::Own,
        "yes" | "yes (deletes)" => Access::All,
        other => panic!("{other:?} in the table"),
    };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let text = fs::read_to_string(file).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", method, router, agent, operator, ""] = cells[..] else {
            return None;
        };
        let method = method.strip_prefix('`')?.strip_suffix('`')?;
        let is_method = ["Sessions.", "Routers.", "Operator."]
            .iter()
            .any(|it| method.starts_with(it));
        is_method.then(|| (method.to_owned(), [router, agent, operator].map(access)))
    });
    rows.collect()
}

/// The methods of the proto files, less those of the services that routers and call agents have.
fn proto() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(v1::FILE_DESCRIPTOR_SET).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    let here = services.filter(|it| !["RouterOperator", "CallAgent"].contains(&it.name()));
    let methods = here.flat_map(|service| {
        let methods = service.method.iter();
        methods.map(|method| format!("{}.{}", service.name(), method.name()))
    });
    methods.collect()
}

/// Calls a method about an agent's session, or as a router; the status that it ends with.
async fn call(channel: &Channel, method: &str, agent: &str, router: &str) -> Result<(), Status> {
    let mut sessions = SessionsClient::new(channel.clone());
    let mut operator = OperatorClient::new(channel.clone());
    let key = Some(v1::SessionKey {
        agent_id: agent.into(),
        session_id: "nobody".into(),
    });
    let spec = Some(v1::SessionSpec {
        key: key.clone(),
        ..v1::SessionSpec::default()
    });
    let (agent_id, router_id) = (agent.to_owned(), router.to_owned());
    match method {
        "Sessions.AddSession" => {
            sessions.add_session(v1::AddSessionRequest { spec }).await?;
        }
        "Sessions.ModifySession" => {
            sessions
                .modify_session(v1::ModifySessionRequest { spec })
                .await?;
        }
        "Sessions.DeleteSession" => {
            sessions
                .delete_session(v1::DeleteSessionRequest { key })
                .await?;
        }
        "Sessions.ChangeSessions" => {
            let delete = v1::SessionChange {
                change: Some(Change::Delete(v1::DeleteSessionRequest { key })),
                ..v1::SessionChange::default()
            };
            let changes = vec![delete];
            let stream = tokio_stream::once(v1::ChangeSessionsRequest { changes });
            let mut outcomes = sessions.change_sessions(stream).await?.into_inner();
            let outcome = outcomes.message().await?.unwrap().outcomes.remove(0);
            return Err(Status::new(outcome.code.into(), outcome.message));
        }
        "Sessions.GetSession" => {
            sessions.get_session(v1::GetSessionRequest { key }).await?;
        }
        "Sessions.ListSessions" => {
            let request = v1::ListSessionsRequest {
                agent_id,
                ..v1::ListSessionsRequest::default()
            };
            sessions.list_sessions(request).await?;
        }
        "Sessions.WatchSessions" => {
            let request = v1::WatchSessionsRequest {
                agent_id,
                include_existing: false,
            };
            sessions.watch_sessions(request).await?;
        }
        "Sessions.KeepAgent" => {
            let request = v1::KeepAgentRequest {
                agent_id,
                ..v1::KeepAgentRequest::default()
            };
            let told = sessions.keep_agent(tokio_stream::once(request)).await?;
            told.into_inner().message().await?;
        }
        "Routers.Attach" => {
            let hello = attach_request::Message::Hello(v1::Hello {
                router_id,
                ..v1::Hello::default()
            });
            // Out of place: ends the stream.
            let latched = attach_request::Message::Latched(v1::LatchedSources::default());
            let messages = [hello, latched].map(|message| v1::AttachRequest {
                message: Some(message),
            });
            let stream = tokio_stream::iter(messages);
            let mut stream = RoutersClient::new(channel.clone())
                .attach(stream)
                .await?
                .into_inner();
            stream.message().await?;
        }
        "Operator.ListRouters" => {
            operator
                .list_routers(v1::ListRoutersRequest::default())
                .await?;
        }
        "Operator.GetRouter" => {
            operator
                .get_router(v1::GetRouterRequest { router_id })
                .await?;
        }
        "Operator.ForgetRouter" => {
            operator
                .forget_router(v1::ForgetRouterRequest { router_id })
                .await?;
        }
        "Operator.ListPrefixes" => {
            operator
                .list_prefixes(v1::ListPrefixesRequest::default())
                .await?;
        }
        "Operator.ExplainSession" => {
            operator
                .explain_session(v1::ExplainSessionRequest { key })
                .await?;
        }
        "Operator.ListLinks" => {
            operator.list_links(v1::ListLinksRequest::default()).await?;
        }
        "Operator.GetLink" => {
            operator.get_link(v1::GetLinkRequest::default()).await?;
        }
        "Operator.WatchEvents" => {
            operator
                .watch_events(v1::WatchEventsRequest::default())
                .await?;
        }
        "Operator.WatchOverview" => {
            operator
                .watch_overview(v1::WatchOverviewRequest::default())
                .await?;
        }
        other => panic!("{other} is not called here"),
    }
    Ok(())
}

async fn is_denied(channel: &Channel, method: &str, agent: &str, router: &str) -> bool {
    let called = timeout(PATIENCE, call(channel, method, agent, router)).await;
    let status = called.expect("an answer");
    status.is_err_and(|status| status.code() == Code::PermissionDenied)
}

#[tokio::test]
async fn each_role_may_call_what_the_table_of_the_readme_says() {
    let table = readme();
    let methods = METHODS.map(|it| (it.name.to_owned(), [it.router, it.agent, it.operator]));
    assert_eq!(table, BTreeMap::from(methods));
    assert_eq!(proto(), table.keys().cloned().collect(), "proto and table");

    let pki = Pki::new();
    let server = TestServer::with_transport(Settings::default(), pki.transport()).await;
    let roles = [Role::Router, Role::Agent, Role::Operator];
    for (index, role) in roles.into_iter().enumerate() {
        let channel = channel(server.address, Some(&pki.files(role, "own"))).await;
        for (method, access) in &table {
            let own = is_denied(&channel, method, "own", "own").await;
            let other = is_denied(&channel, method, "other", "other").await;
            let expected = match access[index] {
                Access::No => [true, true],
                Access::Own => [false, true],
                Access::All => [false, false],
            };
            assert_eq!([own, other], expected, "{role} {method}");
        }
    }
    let another = channel(server.address, Some(&pki.files(Role::Server, "own"))).await;
    for method in table.keys() {
        assert!(
            is_denied(&another, method, "own", "own").await,
            "server {method}"
        );
    }
    server.stop().await;

    // In plain text, on loopback, all roles are everybody's.
    let server = TestServer::start().await;
    let anybody = server.channel().await;
    for method in table.keys() {
        assert!(
            !is_denied(&anybody, method, "own", "own").await,
            "plain {method}"
        );
    }
}
