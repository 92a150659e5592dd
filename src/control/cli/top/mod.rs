//! `top`: the node on one screen, and a call's ladder one key away.
//!
//! `feed` asks the node on a thread of its own, `screen` is what the keys do, `view` is what one
//! sees. A node that stalls or restarts never freezes the screen.

mod feed;
mod rates;
mod screen;
mod view;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use crossbeam::channel::TryRecvError;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGTERM};

use super::args::Remote;
use super::client::{Client, Failure};
use crate::base::duration;
use feed::{Feed, Wanted};
use screen::{Act, Screen};
use view::Look;

/// How the screen is refreshed.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Time between two looks at the node, as 500ms, 1s or 1m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Print one screen as text and end; so does an output that is no terminal
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub remote: Remote,
}

/// A node is not asked more often than this.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// How soon a signal is heeded and what the node said is shown.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a signal may go unheeded.
const HEED_MAX: Duration = Duration::from_millis(500);
/// The screen where no terminal says its size.
const COLUMNS: u16 = 80;
const LINES: u16 = 24;

fn interval(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).map_err(|fault| fault.to_string())?;
    match (INTERVAL_MIN..=INTERVAL_MAX).contains(&time) {
        true => Ok(time),
        false => Err("from 100ms to 1h".to_owned()),
    }
}

impl TopArgs {
    /// Runs the command.
    pub fn run(&self, client: &mut Client) -> Result<(), Failure> {
        let mut out = io::stdout();
        // The first look says whether there is a node, before the terminal is changed.
        let first = feed::fetch(client, &Wanted::default())?;
        if self.remote.json {
            writeln!(out, "{}", first.json())?;
            return Ok(());
        }
        let mut screen = Screen::new(Look::of_environment());
        screen.show(Ok(first));
        let feed = Feed::start(client.hang_up(), self.interval)?;
        if self.once || !out.is_terminal() {
            // A second look, so that there are rates.
            if let Ok(news) = feed.news.recv() {
                screen.show(news);
            }
            out.write_all(frame(&screen, size_told()).as_bytes())?;
            return Ok(());
        }
        interactive(&mut screen, &feed)?;
        Ok(())
    }
}

fn interactive(screen: &mut Screen, feed: &Feed) -> io::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let mut terminal = ratatui::try_init()?;
    let done = Arc::new(AtomicBool::new(false));
    let watched = (Arc::clone(&ended), Arc::clone(&done));
    std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || watch(&watched.0, &watched.1))?;
    let result = turns(&mut terminal, screen, feed, &ended);
    done.store(true, Ordering::Relaxed);
    ratatui::try_restore()?;
    result
}

/// Ends the program when a signal or the end of its terminal is not heeded: reading from a terminal
/// that is gone, as when an ssh connection breaks, never comes back and never rests.
fn watch(ended: &AtomicBool, done: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) && !is_terminal_gone() {
        std::thread::sleep(LOOK_EVERY);
        if done.load(Ordering::Relaxed) {
            return;
        }
    }
    std::thread::sleep(HEED_MAX);
    if !done.load(Ordering::Relaxed) {
        ratatui::restore();
        std::process::exit(1);
    }
}

fn is_terminal_gone() -> bool {
    let out = io::stdout();
    let mut told = [PollFd::new(&out, PollFlags::empty())];
    let at_once = Timespec::default();
    poll(&mut told, Some(&at_once)).is_ok()
        && told[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::ERR)
}

fn turns(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut Screen,
    feed: &Feed,
    ended: &AtomicBool,
) -> io::Result<()> {
    while !ended.load(Ordering::Relaxed) {
        match feed.news.try_recv() {
            Ok(news) => screen.show(news),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(io::Error::other("the thread that asks the node has ended"));
            }
        }
        terminal.draw(|frame| view::draw(screen, frame))?;
        if !event::poll(LOOK_EVERY)? {
            continue;
        }
        let Event::Key(key) = event::read()? else {
            continue;
        };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match screen.on_key(key) {
            Act::Nothing => {}
            Act::Quit => return Ok(()),
            Act::Ask(wanted) => feed.want(wanted),
        }
    }
    Ok(())
}

/// Columns and lines as the environment tells them to a program without a terminal.
fn size_told() -> (u16, u16) {
    let told = |name: &str, otherwise: u16| {
        let value = std::env::var(name).ok();
        let number = value.and_then(|value| value.parse::<u16>().ok());
        number
            .filter(|number| (20..=1000).contains(number))
            .unwrap_or(otherwise)
    };
    (told("COLUMNS", COLUMNS), told("LINES", LINES))
}

/// One screen as text.
fn frame(screen: &Screen, (columns, lines): (u16, u16)) -> String {
    let mut terminal = match Terminal::new(TestBackend::new(columns, lines)) {
        Ok(terminal) => terminal,
        Err(never) => match never {},
    };
    match terminal.draw(|frame| view::draw(screen, frame)) {
        Ok(drawn) => text_of(drawn.buffer),
        Err(never) => match never {},
    }
}

fn text_of(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in 0..buffer.area.height {
        let cells = (0..buffer.area.width).map(|column| buffer[(column, row)].symbol());
        let line: String = cells.collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
