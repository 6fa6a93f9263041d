//! `voicelane agent`.

use voicelane_proto::v1::{self, call_agent_client::CallAgentClient};

use crate::{
    args::{Agent, Global},
    client::{Connection, Failure},
    output::Output,
    text::agent,
};

/// Carries a command out.
pub(crate) async fn run(global: &Global, command: Agent) -> Result<(), Failure> {
    let output = Output { json: global.json };
    let (Agent::Status { api } | Agent::Calls { api, .. } | Agent::Explain { api, .. }) = &command;
    let connection = Connection::open(&api.url, global.timeout).await?;
    let mut client = CallAgentClient::new(connection.channel.clone());
    match command {
        Agent::Status { .. } => {
            let request = v1::GetAgentStatusRequest {};
            let answer = connection.answer(client.get_agent_status(request)).await?;
            output.print(&answer, agent::status)
        }
        Agent::Calls {
            contains,
            troubled,
            limit,
            ..
        } => {
            let request = v1::ListCallsRequest {
                limit,
                contains,
                only_troubled: troubled,
            };
            let answer = connection.answer(client.list_calls(request)).await?;
            output.print(&answer, agent::calls)
        }
        Agent::Explain { call_id, .. } => {
            let request = v1::ExplainCallRequest { call_id };
            let answer = connection.answer(client.explain_call(request)).await?;
            output.print(&answer, agent::explanation)
        }
    }
}
