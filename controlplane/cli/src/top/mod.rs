//! `voicelane top`: how all stands, in a terminal.

mod draw;
mod state;

use std::{
    io::{self, IsTerminal as _},
    thread,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Streaming, transport::Channel};
use voicelane_proto::v1::{self, operator_client::OperatorClient};

use self::{
    draw::draw,
    state::{State, Wants},
};
use crate::{
    args::Global,
    client::{Connection, Failure},
    output::Output,
    text::{calls, top},
};

/// Keys that wait to be looked at.
const KEYS: usize = 64;

/// Carries the command out.
pub(crate) async fn run(
    global: &Global,
    search: String,
    calls: u32,
    once: bool,
) -> Result<(), Failure> {
    let connection = Connection::to_server(global).await?;
    let mut client = OperatorClient::new(connection.channel.clone());
    if once || global.json || !io::stdout().is_terminal() {
        let request = v1::WatchOverviewRequest {
            search,
            calls,
            once: true,
        };
        let mut overviews = connection.answer(client.watch_overview(request)).await?;
        let overview = connection.in_time(overviews.message()).await?;
        let output = Output { json: global.json };
        return output.print(&overview.unwrap_or_default(), top::overview);
    }
    let mut terminal = ratatui::try_init()?;
    let ended = show(
        &mut terminal,
        global,
        &connection,
        &mut client,
        search,
        calls,
    )
    .await;
    ratatui::try_restore()?;
    ended
}

async fn show(
    terminal: &mut DefaultTerminal,
    global: &Global,
    connection: &Connection,
    client: &mut OperatorClient<Channel>,
    search: String,
    calls: u32,
) -> Result<(), Failure> {
    let mut keys = keys();
    let mut state = State::new(search);
    let mut overviews = watch(connection, client, &state, calls).await?;
    loop {
        terminal.draw(|frame| draw(frame, &mut state))?;
        let wants = tokio::select! {
            overview = overviews.message() => {
                match overview.map_err(|status| connection.failure(&status))? {
                    Some(overview) => state.take(overview),
                    None => return Err(Failure::ended()),
                }
                continue;
            }
            key = keys.recv() => match key {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => state.press(key),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
        };
        match wants {
            Wants::Nothing => {}
            Wants::End => return Ok(()),
            Wants::Search => overviews = watch(connection, client, &state, calls).await?,
            Wants::Explain(key) => {
                terminal.draw(|frame| draw(frame, &mut state))?;
                let request = v1::ExplainSessionRequest { key: Some(key) };
                let explained = timeout(global.timeout, client.explain_session(request)).await;
                state.explained = Some(match explained {
                    Ok(Ok(answer)) => calls::explanation(answer.get_ref()),
                    Ok(Err(status)) => status.message().to_owned(),
                    Err(_) => format!("no answer within {:?}", global.timeout),
                });
            }
        }
    }
}

async fn watch(
    connection: &Connection,
    client: &mut OperatorClient<Channel>,
    state: &State,
    calls: u32,
) -> Result<Streaming<v1::WatchOverviewResponse>, Failure> {
    let request = v1::WatchOverviewRequest {
        search: state.search.clone(),
        calls,
        once: false,
    };
    let overviews = client.watch_overview(request).await;
    let overviews = overviews.map_err(|status| connection.failure(&status))?;
    Ok(overviews.into_inner())
}

/// Keys are read by a thread, which ends with the process.
fn keys() -> mpsc::Receiver<io::Result<Event>> {
    let (pressed, keys) = mpsc::channel(KEYS);
    thread::spawn(move || {
        loop {
            let event = event::read();
            let failed = event.is_err();
            if pressed.blocking_send(event).is_err() || failed {
                return;
            }
        }
    });
    keys
}
