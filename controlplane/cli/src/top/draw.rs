//! Draws what is shown.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style, Stylize as _},
    text::Line,
    widgets::{Block, Paragraph, Row, Table, Wrap},
};
use voicelane_proto::v1;

use super::state::State;
use crate::text::{events, top};

/// Lines that routers, links and events get, with their titles.
const SIDE: u16 = 9;
const EVENTS: u16 = 8;
/// Calls keep so many, with their title and head.
const CALLS: u16 = 8;
/// The title and the head of those who send EF without a call, and how many are shown.
const CLAIMERS_FRAME: u16 = 3;
const EF_CLAIMERS: u16 = 3;

/// All of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let sentence = match &state.overview {
        Some(overview) => overview.sentence.clone(),
        None => "Waiting for the server.".to_owned(),
    };
    let sentence = Paragraph::new(sentence).bold().wrap(Wrap { trim: true });
    frame.render_widget(sentence, head);
    if state.call.is_some() {
        draw_call(frame, body, state);
    } else {
        draw_all(frame, body, state);
    }
    let keys = if state.types {
        format!("find: {}▏  Enter done  Esc all", state.search)
    } else if state.call.is_some() {
        "Esc back  ↑↓ scroll  q quit".to_owned()
    } else {
        "/ find  s sort  Enter explain  ↑↓ choose  q quit".to_owned()
    };
    frame.render_widget(Paragraph::new(keys).dim(), foot);
}

fn draw_call(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let name = state.call.as_ref();
    let name = name.map_or("", |key| key.session_id.as_str());
    let text = state.explained.as_deref();
    let text = text.unwrap_or("Asking the routers, for about a second.");
    let block = Block::bordered().title(format!(" call {name} "));
    let shown = Paragraph::new(text)
        .block(block)
        .scroll((state.scrolled, 0));
    frame.render_widget(shown, area);
}

fn draw_all(frame: &mut Frame<'_>, area: Rect, state: &mut State) {
    let Some(overview) = state.overview.take() else {
        return;
    };
    // Who sends EF without a call takes room only while somebody does, and there is some: it is in events, too.
    let room = area.height.saturating_sub(CALLS + SIDE + EVENTS);
    let claimers = match overview.ef_claimers.len() {
        0 => 0,
        _ if room <= CLAIMERS_FRAME => 0,
        some => room.min(u16::try_from(some).unwrap_or(u16::MAX).min(EF_CLAIMERS) + CLAIMERS_FRAME),
    };
    let [calls, side, claimers, last] = Layout::vertical([
        Constraint::Min(4),
        Constraint::Length(SIDE),
        Constraint::Length(claimers),
        Constraint::Length(EVENTS),
    ])
    .areas(area);
    draw_calls(frame, calls, &overview, state);
    let [routers, links] =
        Layout::horizontal([Constraint::Percentage(40), Constraint::Percentage(60)]).areas(side);
    draw_routers(frame, routers, &overview);
    draw_links(frame, links, &overview);
    draw_ef_claimers(frame, claimers, &overview);
    let lines = overview
        .events
        .iter()
        .map(|event| Line::styled(events::event(event), severity(event.severity())));
    let block = Block::bordered().title(" events ");
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), last);
    state.overview = Some(overview);
}

fn draw_calls(
    frame: &mut Frame<'_>,
    area: Rect,
    overview: &v1::WatchOverviewResponse,
    state: &mut State,
) {
    let rows = overview.calls.iter().map(|call| {
        let style = if call.badness > 0 {
            Style::new().red()
        } else {
            Style::new()
        };
        Row::new(top::call(call)).style(style)
    });
    let widths = [
        Constraint::Fill(3),
        // Three of the five parts may say what they lose.
        Constraint::Length(21),
        Constraint::Fill(3),
        Constraint::Fill(3),
        Constraint::Length(10),
        Constraint::Fill(4),
    ];
    let found = if state.search.is_empty() {
        format!(" {} calls, {} ", overview.total, state.sort.name())
    } else {
        let (found, search) = (overview.found, &state.search);
        format!(" {found} calls with \"{search}\", {} ", state.sort.name())
    };
    let table = Table::new(rows, widths)
        .header(Row::new(top::CALLS).bold())
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(
            Block::bordered()
                .title(found)
                .title_bottom(format!(" {} ", top::SIGNS)),
        );
    frame.render_stateful_widget(table, area, &mut state.selected);
}

fn draw_routers(frame: &mut Frame<'_>, area: Rect, overview: &v1::WatchOverviewResponse) {
    let rows = overview.routers.iter().map(|router| {
        let style = match router.state() {
            v1::RouterState::Synchronised => Style::new(),
            _ => Style::new().red(),
        };
        Row::new(top::router(router)).style(style)
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Length(14),
        Constraint::Length(8),
        Constraint::Fill(3),
    ];
    let title = format!(" {} routers ", overview.total_routers);
    let table = Table::new(rows, widths)
        .header(Row::new(top::ROUTERS).bold())
        .block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

fn draw_links(frame: &mut Frame<'_>, area: Rect, overview: &v1::WatchOverviewResponse) {
    let rows = overview.links.iter().map(|link| Row::new(top::link(link)));
    // On a screen of 80 columns the name keeps some.
    let number = Constraint::Length(if area.width < 60 { 10 } else { 14 });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(3),
        number,
        number,
        number,
    ];
    let title = format!(" {} links, the fullest first ", overview.total_links);
    let table = Table::new(rows, widths)
        .header(Row::new(top::LINKS).bold())
        .block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

fn draw_ef_claimers(frame: &mut Frame<'_>, area: Rect, overview: &v1::WatchOverviewResponse) {
    let rows = overview.ef_claimers.iter();
    let rows = rows.map(|it| Row::new(top::ef_claimer(it)).yellow());
    let widths = [Constraint::Fill(1); 3];
    let title = format!(" {} send EF without a call ", overview.total_ef_claimers);
    let table = Table::new(rows, widths)
        .header(Row::new(top::EF_CLAIMERS).bold())
        .block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

fn severity(severity: v1::Severity) -> Style {
    match severity {
        v1::Severity::Error => Style::new().red(),
        v1::Severity::Warning => Style::new().yellow(),
        v1::Severity::Info | v1::Severity::Unspecified => Style::new(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
