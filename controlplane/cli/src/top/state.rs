//! What is shown, and what keys do.

use std::cmp::Reverse;

use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    widgets::TableState,
};
use voicelane_proto::v1;

/// The longest search, bytes: what the server takes.
const MAX_SEARCH: usize = 128;
/// Calls that a page key moves by.
const PAGE: usize = 10;

/// What a key asks for that the screen cannot do itself.
#[derive(Debug, PartialEq)]
pub(super) enum Wants {
    /// Nothing.
    Nothing,
    /// To end.
    End,
    /// What is searched for has changed.
    Search,
    /// Why a call has its lane or not.
    Explain(v1::SessionKey),
}

/// By what calls are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// As the server has them.
    Worst,
    Name,
    Latest,
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Worst => "the worst first",
            Self::Name => "by name",
            Self::Latest => "the latest first",
        }
    }
}

/// What is shown.
#[derive(Debug)]
pub(super) struct State {
    pub(super) overview: Option<v1::WatchOverviewResponse>,
    /// Its calls in the server's order.
    told: Vec<v1::OverviewCall>,
    pub(super) search: String,
    /// Whether keys go to the search.
    pub(super) types: bool,
    pub(super) sort: Sort,
    pub(super) selected: TableState,
    /// The call that is explained.
    pub(super) call: Option<v1::SessionKey>,
    /// What was found; absent while the routers are asked.
    pub(super) explained: Option<String>,
    /// How far that is scrolled.
    pub(super) scrolled: u16,
}

impl State {
    pub(super) fn new(search: String) -> Self {
        Self {
            overview: None,
            told: Vec::new(),
            search,
            types: false,
            sort: Sort::Worst,
            selected: TableState::default().with_selected(0),
            call: None,
            explained: None,
            scrolled: 0,
        }
    }

    /// Takes what the server tells. The selection stays on its call.
    pub(super) fn take(&mut self, overview: v1::WatchOverviewResponse) {
        let selected = self.selected_call();
        self.told.clone_from(&overview.calls);
        self.overview = Some(overview);
        self.sort_calls();
        self.select(selected);
    }

    fn sort_calls(&mut self) {
        if let Some(overview) = &mut self.overview {
            overview.calls.clone_from(&self.told);
            sort(&mut overview.calls, self.sort);
        }
    }

    fn calls(&self) -> &[v1::OverviewCall] {
        self.overview.as_ref().map_or(&[], |it| &it.calls)
    }

    fn selected_call(&self) -> Option<v1::SessionKey> {
        self.calls().get(self.selected.selected()?)?.key.clone()
    }

    fn select(&mut self, key: Option<v1::SessionKey>) {
        let at = self.calls().iter().position(|call| call.key == key);
        if let Some(at) = at.filter(|_| key.is_some()) {
            self.selected.select(Some(at));
        }
    }

    fn step(&mut self, by: isize) {
        let last = self.calls().len().saturating_sub(1);
        let at = self.selected.selected().unwrap_or(0);
        self.selected
            .select(Some(at.saturating_add_signed(by).min(last)));
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Wants {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Wants::End;
        }
        if self.types {
            return self.type_key(key.code);
        }
        if self.call.is_some() {
            match key.code {
                KeyCode::Char('q') => return Wants::End,
                KeyCode::Esc | KeyCode::Enter => {
                    self.call = None;
                    self.explained = None;
                }
                KeyCode::Down => self.scrolled = self.scrolled.saturating_add(1),
                KeyCode::Up => self.scrolled = self.scrolled.saturating_sub(1),
                _ => {}
            }
            return Wants::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Wants::End,
            KeyCode::Char('/') => self.types = true,
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Worst => Sort::Name,
                    Sort::Name => Sort::Latest,
                    Sort::Latest => Sort::Worst,
                };
                let selected = self.selected_call();
                self.sort_calls();
                self.select(selected);
            }
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(PAGE.cast_signed()),
            KeyCode::PageUp => self.step(-PAGE.cast_signed()),
            KeyCode::Enter => {
                if let Some(key) = self.selected_call() {
                    self.call = Some(key.clone());
                    self.scrolled = 0;
                    return Wants::Explain(key);
                }
            }
            KeyCode::Esc if !self.search.is_empty() => {
                self.search.clear();
                return Wants::Search;
            }
            _ => {}
        }
        Wants::Nothing
    }

    fn type_key(&mut self, key: KeyCode) -> Wants {
        match key {
            KeyCode::Enter => {
                self.types = false;
                return Wants::Nothing;
            }
            KeyCode::Esc => {
                self.types = false;
                self.search.clear();
            }
            KeyCode::Backspace => drop(self.search.pop()),
            KeyCode::Char(it) if self.search.len() + it.len_utf8() <= MAX_SEARCH => {
                self.search.push(it);
            }
            _ => return Wants::Nothing,
        }
        Wants::Search
    }
}

fn sort(calls: &mut [v1::OverviewCall], by: Sort) {
    fn name(call: &v1::OverviewCall) -> (&str, &str) {
        let key = call.key.as_ref();
        key.map_or(("", ""), |key| (&key.session_id, &key.agent_id))
    }
    match by {
        // The server's order.
        Sort::Worst => {}
        Sort::Name => calls.sort_by(|a, b| name(a).cmp(&name(b))),
        Sort::Latest => calls.sort_by_key(|call| Reverse(call.since_unix_ms)),
    }
}
