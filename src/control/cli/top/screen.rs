//! What is on the screen, and what the keys do to it. No terminal here.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::feed::{Detail, News, Snapshot, Wanted};
use super::rates::Rates;
use super::view::Look;
use crate::control::answers::{CallRow, TrunkRow};

/// Lines that PgUp and PgDn move by.
const PAGE: usize = 10;
/// A filter longer than this is no filter.
const FILTER_MAX: usize = 60;

/// Which list the arrows move in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    Trunks,
    Calls,
}

/// What fills the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Overview,
    /// A call or a trunk that was opened.
    Detail,
    Help,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Nothing,
    Quit,
    Ask(Wanted),
}

/// The screen.
#[derive(Clone, Debug)]
pub struct Screen {
    pub look: Look,
    pub latest: Option<Snapshot>,
    pub rates: Rates,
    /// Why the last look brought nothing.
    pub trouble: Option<String>,
    pub focus: Focus,
    pub page: Page,
    pub wanted: Wanted,
    /// Only calls that have this somewhere in their row.
    pub filter: String,
    pub is_typing: bool,
    pub is_paused: bool,
    /// First line shown of a detail.
    pub scroll: usize,
    trunk: String,
    call: String,
}

impl Screen {
    /// An empty screen.
    pub fn new(look: Look) -> Screen {
        Screen {
            look,
            latest: None,
            rates: Rates::default(),
            trouble: None,
            focus: Focus::Calls,
            page: Page::Overview,
            wanted: Wanted::default(),
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            scroll: 0,
            trunk: String::new(),
            call: String::new(),
        }
    }

    /// Takes what the node said.
    pub fn show(&mut self, news: News) {
        match news {
            Ok(snapshot) => {
                self.trouble = None;
                self.rates.take(&snapshot);
                let is_new = self
                    .latest
                    .as_ref()
                    .is_none_or(|is| is.wanted != snapshot.wanted);
                if !self.is_paused || is_new {
                    self.latest = Some(snapshot);
                }
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    /// Trunks, in the order of the configuration.
    pub fn trunks(&self) -> &[TrunkRow] {
        self.latest.as_ref().map_or(&[], |latest| &latest.trunks)
    }

    /// Calls that the filter lets through.
    pub fn calls(&self) -> Vec<&CallRow> {
        let calls = self.latest.iter().flat_map(|latest| &latest.calls);
        calls.filter(|call| self.lets_through(call)).collect()
    }

    fn lets_through(&self, call: &CallRow) -> bool {
        let wanted = self.filter.to_lowercase();
        let columns = [
            &call.call_id,
            &call.from,
            &call.to,
            &call.state,
            &call.caller,
            &call.trunk_in,
        ];
        let more = [call.trunk_out.as_ref(), call.callee.as_ref()];
        let mut columns = columns.into_iter().chain(more.into_iter().flatten());
        columns.any(|column| column.to_lowercase().contains(&wanted))
    }

    /// Position of the selected trunk.
    pub fn trunk_at(&self) -> usize {
        let at = self.trunks().iter().position(|row| row.name == self.trunk);
        at.unwrap_or(0)
    }

    /// Position of the selected call among `calls`.
    pub fn call_at(&self, calls: &[&CallRow]) -> usize {
        let at = calls.iter().position(|row| row.call_id == self.call);
        at.unwrap_or(0)
    }

    /// Text of what is opened; none while it is asked for.
    pub fn detail(&self) -> Option<&str> {
        let latest = self.latest.as_ref()?;
        let is_wanted = latest.wanted.detail == self.wanted.detail;
        latest.detail.as_deref().filter(|_| is_wanted)
    }

    /// Does what a key says.
    pub fn on_key(&mut self, key: KeyEvent) -> Act {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Act::Quit;
        }
        if self.is_typing {
            return self.type_filter(key.code);
        }
        match self.page {
            Page::Overview => self.overview_key(key.code),
            Page::Detail => self.detail_key(key.code),
            Page::Help => {
                self.page = Page::Overview;
                Act::Nothing
            }
        }
    }

    fn type_filter(&mut self, code: KeyCode) -> Act {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if self.filter.chars().count() < FILTER_MAX => {
                self.filter.push(letter);
            }
            _ => {}
        }
        Act::Nothing
    }

    fn overview_key(&mut self, code: KeyCode) -> Act {
        match code {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('?' | 'h') => self.page = Page::Help,
            KeyCode::Char('/') => (self.is_typing, self.focus) = (true, Focus::Calls),
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('r') => return Act::Ask(self.wanted.clone()),
            KeyCode::Char('t') => return self.only_trunk(),
            KeyCode::Esc | KeyCode::Char('c') => return self.clear_filters(),
            KeyCode::Tab | KeyCode::BackTab => {
                self.focus = match self.focus {
                    Focus::Trunks => Focus::Calls,
                    Focus::Calls => Focus::Trunks,
                };
            }
            KeyCode::Up | KeyCode::Char('k') => self.select(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(|at, last| last.min(at + 1)),
            KeyCode::PageUp => self.select(|at, _| at.saturating_sub(PAGE)),
            KeyCode::PageDown => self.select(|at, last| last.min(at + PAGE)),
            KeyCode::Home => self.select(|_, _| 0),
            KeyCode::End => self.select(|_, last| last),
            KeyCode::Enter => return self.open(),
            _ => {}
        }
        Act::Nothing
    }

    fn detail_key(&mut self, code: KeyCode) -> Act {
        let lines = self.detail().map_or(0, |text| text.lines().count());
        let last = lines.saturating_sub(1);
        match code {
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace => {
                self.page = Page::Overview;
                self.wanted.detail = Detail::Nothing;
                return Act::Ask(self.wanted.clone());
            }
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('r') => return Act::Ask(self.wanted.clone()),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = last.min(self.scroll + 1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(PAGE),
            KeyCode::PageDown => self.scroll = last.min(self.scroll + PAGE),
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = last,
            _ => {}
        }
        Act::Nothing
    }

    /// Moves the selection of the list in focus; `to` is given where it is and the last position.
    fn select(&mut self, to: impl Fn(usize, usize) -> usize) {
        match self.focus {
            Focus::Trunks => {
                let at = to(self.trunk_at(), self.trunks().len().saturating_sub(1));
                let name = self.trunks().get(at).map(|row| row.name.clone());
                self.trunk = name.unwrap_or_default();
            }
            Focus::Calls => {
                let calls = self.calls();
                let at = to(self.call_at(&calls), calls.len().saturating_sub(1));
                let call_id = calls.get(at).map(|row| row.call_id.clone());
                self.call = call_id.unwrap_or_default();
            }
        }
    }

    fn selected_trunk(&self) -> Option<String> {
        self.trunks()
            .get(self.trunk_at())
            .map(|row| row.name.clone())
    }

    fn only_trunk(&mut self) -> Act {
        self.wanted.trunk = match self.wanted.trunk {
            Some(_) => None,
            None => self.selected_trunk(),
        };
        Act::Ask(self.wanted.clone())
    }

    fn clear_filters(&mut self) -> Act {
        self.filter.clear();
        match self.wanted.trunk.take() {
            Some(_) => Act::Ask(self.wanted.clone()),
            None => Act::Nothing,
        }
    }

    fn open(&mut self) -> Act {
        let detail = match self.focus {
            Focus::Trunks => self.selected_trunk().map(Detail::Trunk),
            Focus::Calls => {
                let calls = self.calls();
                let selected = calls.get(self.call_at(&calls));
                selected.map(|row| Detail::Call(row.call_id.clone()))
            }
        };
        let Some(detail) = detail else {
            return Act::Nothing;
        };
        self.page = Page::Detail;
        self.scroll = 0;
        self.wanted.detail = detail;
        Act::Ask(self.wanted.clone())
    }
}
