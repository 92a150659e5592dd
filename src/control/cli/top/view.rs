//! How the screen looks: made for 80 columns and 24 lines, more room shows more rows.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::super::table::{of, or_dash, span};
use super::feed::Detail;
use super::screen::{Focus, Page, Screen};
use crate::control::answers::{CallRow, LimitRow, ShardRow, TrunkRow};
use crate::sip::{NameAddr, Uri};

/// Colours and letters that this terminal has.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// `false` where NO_COLOR is set.
    pub has_colour: bool,
    /// Blocks for bars; `false` where the locale is not UTF-8.
    pub has_blocks: bool,
}

impl Look {
    /// What the environment says (<https://no-color.org>).
    pub fn of_environment() -> Look {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|value| !value.is_empty())
            .unwrap_or_default()
            .to_uppercase();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Look {
            has_colour: !no_colour,
            has_blocks: locale.contains("UTF-8") || locale.contains("UTF8"),
        }
    }

    fn colour(self, colour: Color) -> Style {
        match self.has_colour {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// A state that is well, one that is on its way, one that is not well.
    fn state(self, state: &str) -> Style {
        match state {
            "up" | "running" | "ready" | "answered" => self.colour(Color::Green),
            "probing" | "draining" | "ringing" | "ending" | "starting" => {
                self.colour(Color::Yellow)
            }
            _ => self.colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    fn letters(self) -> (&'static str, &'static str) {
        match self.has_blocks {
            true => ("█", "░"),
            false => ("#", "."),
        }
    }
}

const HEADING: Style = Style::new().add_modifier(Modifier::BOLD);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Shards and trunks that are shown before the calls get the room.
const SHARDS_SHOWN: usize = 4;
const TRUNKS_SHOWN: usize = 6;
const BAR: usize = 10;
/// What stands before the words of a decision.
const TIME_WIDTH: usize = 18;

const HELP: &str = "\
  Tab          from the list of trunks to the list of calls, and back
  Up Down      select; PgUp PgDn Home End too, and k j
  Enter        open: a trunk and its transitions, a call, its decisions and messages
  /            filter calls by a part of any column; Enter keeps it, Esc drops it
  t            only calls over the selected trunk; again: all calls
  c Esc        drop both filters
  Space p      hold the picture still, and let it go on
  r            look now
  q Ctrl-C     quit

  CALLS        in use of the trunk's calls_max; the bar is the same
  CPS          calls admitted per second, both directions, since the last look
  ASR          answered of those admitted in the last minute
  RTT          round trip of the last probe that was answered
  RX/s TX/s    datagrams per second
  WAIT         block: a datagram wakes the shard; tick: it looks once in that time
  DELAY        how long datagrams waited in the socket at the least
  SHED         new calls turned away

  Any key goes back.
";

/// Draws the screen.
pub fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let area = frame.area();
    let [title, body, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(title_line(screen), title);
    match screen.page {
        Page::Overview => overview(screen, frame, body),
        Page::Detail => detail(screen, frame, body),
        Page::Help => frame.render_widget(Paragraph::new(HELP), body),
    }
    frame.render_widget(keys_line(screen), keys);
}

fn title_line(screen: &Screen) -> Line<'_> {
    if let Some(trouble) = &screen.trouble {
        return Line::styled(format!("{trouble}; trying again"), SELECTED);
    }
    let Some(latest) = &screen.latest else {
        return Line::raw("asking the node");
    };
    let status = &latest.status;
    let paused = if screen.is_paused { "  PAUSED" } else { "" };
    Line::from(vec![
        Span::styled(format!("callgate {}", plain(&status.name)), HEADING),
        Span::raw("  "),
        Span::styled(status.state.clone(), screen.look.state(&status.state)),
        Span::raw(format!(
            "  up {}  {} calls  {} of {} shards{paused}",
            span(status.uptime_s),
            status.calls,
            status.shards_running,
            status.shards.len()
        )),
    ])
}

fn keys_line(screen: &Screen) -> Line<'_> {
    let keys = match (screen.is_typing, screen.page) {
        (true, _) => return Line::raw(format!("filter: {}_", plain(&screen.filter))),
        (false, Page::Overview) => {
            "Tab list  Enter open  / filter  t this trunk  c all  Space hold  ? help  q quit"
        }
        (false, Page::Detail) => "Up Down PgUp PgDn scroll  Space hold  r look now  Esc back",
        (false, Page::Help) => "any key: back",
    };
    Line::styled(keys, Style::new().add_modifier(Modifier::DIM))
}

fn overview(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let Some(latest) = &screen.latest else {
        return;
    };
    let lines = |rows: usize, most: usize| Constraint::Length(rows.min(most) as u16 + 1);
    let [shards, trunks, calls] = Layout::vertical([
        lines(latest.status.shards.len(), SHARDS_SHOWN),
        lines(latest.trunks.len(), TRUNKS_SHOWN),
        Constraint::Fill(1),
    ])
    .areas(area);
    frame.render_widget(shard_table(screen, &latest.status.shards), shards);
    let mut state = TableState::new().with_selected(Some(screen.trunk_at()));
    frame.render_stateful_widget(trunk_table(screen), trunks, &mut state);
    call_list(screen, frame, calls);
}

fn shard_table<'s>(screen: &Screen, rows: &'s [ShardRow]) -> Table<'s> {
    let row = |shard: &'s ShardRow| {
        let rate = screen.rates.shard(shard.shard);
        let fill = shard.dialogs * 100 / shard.dialogs_max.max(1);
        Row::new([
            right(shard.shard.to_string()),
            right(or_dash(shard.cpu)),
            Cell::new(shard.state.clone()).style(screen.look.state(&shard.state)),
            right(shard.calls.to_string()),
            right(format!("{fill}%")),
            right(or_dash(rate.map(|(received, _)| format!("{received:.0}")))),
            right(or_dash(rate.map(|(_, sent)| format!("{sent:.0}")))),
            Cell::new(match shard.tick_us {
                0 => "block".to_owned(),
                tick_us => format!("tick {tick_us} us"),
            }),
            right(format!("{:.1}ms", shard.queue_wait_ms)),
            right(format!("{:.0}%", shard.shed * 100.0)),
        ])
    };
    let heading = [
        "SHARD", "CPU", "STATE", "CALLS", "FULL", "RX/s", "TX/s", "WAIT", "DELAY", "SHED",
    ];
    table(
        rows.iter().map(row),
        heading,
        [5, 3, 8, 7, 4, 8, 8, 12, 8, 5],
        &[0, 1, 3, 4, 5, 6, 8, 9],
    )
}

fn trunk_table<'s>(screen: &'s Screen) -> Table<'s> {
    let row = |trunk: &'s TrunkRow| {
        let limits = &trunk.limits;
        let percent = |ratio: f64| format!("{ratio:.0}%");
        Row::new([
            Cell::new(plain(&trunk.name)),
            Cell::new(trunk.state.clone()).style(screen.look.state(&trunk.state)),
            Cell::new(bar(screen.look, limits)).style(bar_style(screen.look, limits)),
            right(of(limits.calls, limits.calls_max)),
            right(or_dash(
                screen
                    .rates
                    .calls(&trunk.name)
                    .map(|cps| format!("{cps:.1}")),
            )),
            right(or_dash(screen.rates.asr(&trunk.name).map(percent))),
            right(or_dash(trunk.rtt_ms.map(|rtt| format!("{rtt:.1}ms")))),
        ])
    };
    let heading = ["TRUNK", "STATE", "", "CALLS", "CPS", "ASR", "RTT"];
    let table = table(
        screen.trunks().iter().map(row),
        heading,
        [19, 8, BAR as u16, 13, 8, 5, 9],
        &[3, 4, 5, 6],
    );
    match screen.focus {
        Focus::Trunks => table.row_highlight_style(SELECTED),
        Focus::Calls => table,
    }
}

/// Use of the narrowest limit: `███░░░░░░░`; blank where there is none.
fn bar(look: Look, limits: &LimitRow) -> String {
    let Some(share) = share(limits) else {
        return String::new();
    };
    let (full, empty) = look.letters();
    // One call is seen, and only a limit that is reached is a full bar.
    let filled = (share * BAR as f64).floor() as usize;
    let filled = filled.max(usize::from(share > 0.0)).min(BAR);
    full.repeat(filled) + &empty.repeat(BAR - filled)
}

fn bar_style(look: Look, limits: &LimitRow) -> Style {
    match share(limits) {
        Some(1.0..) => look.colour(Color::Red),
        Some(0.8..) => look.colour(Color::Yellow),
        _ => look.colour(Color::Green),
    }
}

/// Calls in use of the maximum that is nearest to be reached, from 0 to 1.
fn share(limits: &LimitRow) -> Option<f64> {
    let pairs = [
        (limits.calls, limits.calls_max),
        (limits.calls_in, limits.calls_in_max),
        (limits.calls_out, limits.calls_out_max),
    ];
    let shares = pairs.into_iter().filter_map(|(used, max)| match max? {
        0 => Some(1.0),
        max => Some(f64::from(used) / f64::from(max)),
    });
    shares.reduce(f64::max)
}

fn call_list(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let calls = screen.calls();
    let [heading, list] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(calls_line(screen, calls.len()), heading);
    let row = |call: &&CallRow| {
        Row::new([
            Cell::new(call.state.clone()).style(screen.look.state(&call.state)),
            right(span(call.age_s as u64)),
            right(or_dash(call.answered_s.map(|time| span(time as u64)))),
            Cell::new(plain(&call.trunk_in)),
            Cell::new(plain(call.trunk_out.as_deref().unwrap_or("-"))),
            Cell::new(plain(&party(&call.from))),
            Cell::new(plain(&party(&call.to))),
        ])
    };
    let table = table_with(
        calls.iter().map(row),
        ["STATE", "AGE", "TALK", "IN", "OUT", "FROM", "TO"],
        [
            Constraint::Length(8),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(10),
            Constraint::Length(10),
            Constraint::Fill(1),
            Constraint::Fill(1),
        ],
        &[1, 2],
    );
    let table = match screen.focus {
        Focus::Calls => table.row_highlight_style(SELECTED),
        Focus::Trunks => table,
    };
    let selected = (!calls.is_empty()).then(|| screen.call_at(&calls));
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, list, &mut state);
}

/// Who stands in a From or To: the user of its URI, else the URI, else the value as it is.
fn party(value: &str) -> String {
    let Ok(address) = NameAddr::parse(value.as_bytes()) else {
        return value.to_owned();
    };
    let uri = Uri::parse(address.uri).ok();
    let user = uri.and_then(|uri| uri.user).unwrap_or(address.uri);
    String::from_utf8_lossy(user).into_owned()
}

/// What the list of calls holds.
fn calls_line(screen: &Screen, shown: usize) -> Line<'static> {
    let cut = screen
        .latest
        .as_ref()
        .is_some_and(|latest| latest.calls_cut);
    let mut words = format!("{shown} calls");
    if let Some(trunk) = &screen.wanted.trunk {
        words += &format!(" over {}", plain(trunk));
    }
    if !screen.filter.is_empty() {
        words += &format!(" with \"{}\"", plain(&screen.filter));
    }
    if cut {
        words += " of those that fit here; `callgate calls` lists all";
    }
    Line::styled(words, Style::new().add_modifier(Modifier::UNDERLINED))
}

fn detail(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let [heading, body] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let opened = match &screen.wanted.detail {
        Detail::Nothing => String::new(),
        Detail::Call(call_id) => format!("call {}", plain(call_id)),
        Detail::Trunk(name) => format!("trunk {}", plain(name)),
    };
    frame.render_widget(Line::styled(opened, HEADING), heading);
    let text = screen.detail().unwrap_or("asking the node");
    let mut lines = Vec::new();
    for line in text.lines().skip(screen.scroll) {
        folded(&plain(line), body.width.into(), &mut lines);
    }
    frame.render_widget(Paragraph::new(lines), body);
}

/// Adds a line in pieces of at most `width`, parted at blanks; what follows the first stands below
/// the words behind its time.
fn folded(line: &str, width: usize, lines: &mut Vec<Line<'static>>) {
    let (mut rest, mut indent) = (line.to_owned(), 0);
    while rest.chars().count() > width {
        let blanks = rest.char_indices().enumerate().take(width);
        let last = blanks
            .filter(|(at, (_, letter))| *letter == ' ' && *at > indent.max(TIME_WIDTH))
            .last();
        let Some((_, (at, _))) = last else { break };
        indent = TIME_WIDTH;
        let behind = format!("{:indent$}{}", "", rest[at..].trim_start());
        rest.truncate(at);
        lines.push(Line::raw(std::mem::replace(&mut rest, behind)));
    }
    lines.push(Line::raw(rest));
}

fn table<'t, const N: usize>(
    rows: impl Iterator<Item = Row<'t>>,
    heading: [&'static str; N],
    widths: [u16; N],
    to_the_right: &[usize],
) -> Table<'t> {
    table_with(rows, heading, widths.map(Constraint::Length), to_the_right)
}

fn table_with<'t, const N: usize>(
    rows: impl Iterator<Item = Row<'t>>,
    heading: [&'static str; N],
    widths: [Constraint; N],
    to_the_right: &[usize],
) -> Table<'t> {
    let cells =
        heading
            .into_iter()
            .enumerate()
            .map(|(at, name)| match to_the_right.contains(&at) {
                true => right(name.to_owned()),
                false => Cell::new(name),
            });
    let heading = Row::new(cells.collect::<Vec<_>>()).style(HEADING);
    Table::new(rows, widths).header(heading).column_spacing(1)
}

fn right<'c>(text: String) -> Cell<'c> {
    Cell::new(Line::raw(text).right_aligned())
}

/// What peers wrote must not steer the terminal.
fn plain(text: &str) -> String {
    let letter = |letter: char| if letter.is_control() { '?' } else { letter };
    text.chars().map(letter).collect()
}
