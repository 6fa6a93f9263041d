//! What a call agent says.

use std::fmt::Write as _;

use voicelane_proto::v1;

use super::{endpoint, lines, rate, table};

pub(crate) fn status(answer: &v1::GetAgentStatusResponse) -> String {
    let connected = if answer.server_connected {
        "connected"
    } else {
        "NOT CONNECTED: calls wait; see the agent's log"
    };
    let sessions = answer.sessions.unwrap_or_default();
    let mut text = format!(
        "agent     {} {}, up for {} s\nserver    {}: {connected}\ncalls     {}\n\
         sessions  {} installed, {} pending, {} refused, {} adopted, {} reserved\n\
         lost      {} datagrams dropped by the kernel, {} messages of unknown senders\n",
        answer.agent_id,
        answer.software_version,
        answer.uptime_s,
        answer.server,
        answer.calls,
        sessions.installed,
        sessions.pending,
        sessions.refused,
        sessions.adopted,
        sessions.reserved,
        answer.kernel_dropped_datagrams,
        answer.unknown_sender_messages,
    );
    if !answer.refusals.is_empty() {
        let _ = writeln!(text, "refusals  {}", counts(&answer.refusals));
    }
    let senders = answer
        .senders
        .iter()
        .map(|sender| [sender.name.clone(), counts(&sender.messages)]);
    text + &table(["sender", "messages"], senders)
}

fn counts(counts: &[v1::AgentCount]) -> String {
    let some = counts.iter().filter(|of| of.count > 0);
    let some: Vec<_> = some.map(|of| format!("{} {}", of.count, of.name)).collect();
    some.join(", ")
}

pub(crate) fn calls(answer: &v1::ListCallsResponse) -> String {
    let dialogs = answer
        .calls
        .iter()
        .flat_map(|call| call.dialogs.iter().map(move |dialog| (call, dialog)));
    let rows = dialogs.map(|(call, dialog)| {
        [
            call.call_id.clone(),
            dialog.state.clone(),
            session(dialog),
            lines(&dialog.flows, flow),
        ]
    });
    let shown = answer.calls.len();
    let table = table(["call", "dialog", "session", "flows"], rows);
    format!("{table}\n{shown} of {} calls", answer.total)
}

fn session(dialog: &v1::AgentDialog) -> String {
    let mut parts = vec![match dialog.session_state.as_str() {
        "" => "none".to_owned(),
        state => state.to_owned(),
    }];
    parts.extend(Some(dialog.refusal.clone()).filter(|refusal| !refusal.is_empty()));
    parts.extend(dialog.not_placed.iter().cloned());
    parts.join("\n")
}

fn flow(flow: &v1::AgentFlow) -> String {
    let source = match &flow.source {
        Some(source) => endpoint(Some(source)),
        None => "learned".into(),
    };
    let held = if flow.held { ", held" } else { "" };
    format!(
        "{source} -> {} {}{held}",
        endpoint(flow.destination.as_ref()),
        rate(flow.rate_bps)
    )
}

pub(crate) fn explanation(answer: &v1::ExplainCallResponse) -> String {
    let call = answer.call.clone().unwrap_or_default();
    let mut text = format!("call {}\n", call.call_id);
    let messages = answer.messages.iter().map(|message| {
        [
            format!(
                "{}.{:03}",
                message.after_ms / 1_000,
                message.after_ms % 1_000
            ),
            message.what.clone(),
            message.cseq.to_string(),
            message.hop.to_string(),
            message.sdp.clone(),
        ]
    });
    text += &table(["s", "message", "CSeq", "hop", "SDP"], messages);
    text.push('\n');
    if answer.missing.is_empty() {
        text += "no message is missing\n";
    }
    for missing in &answer.missing {
        let _ = writeln!(text, "not seen: {missing}");
    }
    for dialog in &call.dialogs {
        let _ = writeln!(
            text,
            "\ndialog {} ({})",
            dialog.tags.join(" "),
            dialog.state
        );
        let _ = writeln!(text, "session {}: {}", dialog.session_id, session(dialog));
        for of in &dialog.flows {
            let _ = writeln!(text, "  {}", flow(of));
        }
    }
    if call.dialogs.is_empty() {
        text += "nobody has answered, so there is no session\n";
    }
    text
}
