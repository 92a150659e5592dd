//! `events`: what happened to the node, and what happens while one looks.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::args::Remote;
use super::client::{Client, Failure};
use super::printer::{Listing, Printer};
use super::table::utc;
use crate::control::answers::{EventRow, EventsPage};

/// Which events.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Go on until interrupted; over restarts of the node, too
    #[arg(long, short)]
    pub follow: bool,
    /// Only events after this number; 0 = all that the node still has
    #[arg(long, value_name = "SEQ")]
    pub since: Option<u64>,
    /// Only the last so many of the events that are there [default with --follow: 10]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub remote: Remote,
}

/// How often a follower asks.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Events that a follower begins with.
const FOLLOW_FROM: usize = 10;

impl EventsArgs {
    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let (mut pages, mut reader) = self.catch_up(client)?;
        if self.follow {
            for page in &mut pages {
                self.write_page(printer, page)?;
            }
            return self.go_on(client, printer, &mut reader);
        }
        if printer.json {
            let mut listing = Listing::start(printer)?;
            for page in &pages {
                listing.rows(&page.rows)?;
            }
            return listing.end();
        }
        pages
            .iter()
            .try_for_each(|page| self.write_page(printer, page))
    }

    /// What is there already, at most as many as are wanted.
    fn catch_up(&self, client: &mut Client) -> Result<(Vec<EventsPage>, Reader), Failure> {
        let mut reader = Reader {
            epoch: None,
            since: self.since.unwrap_or(0),
        };
        let mut pages = Vec::new();
        loop {
            let mut page = reader.ask(client)?;
            if self.since.is_none() {
                // Who asks for no number has lost nothing.
                page.lost = 0;
            }
            if page.rows.is_empty() && page.lost == 0 {
                break;
            }
            pages.push(page);
        }
        let default = (self.follow && self.since.is_none()).then_some(FOLLOW_FROM);
        if let Some(limit) = self.limit.or(default) {
            let count: usize = pages.iter().map(|page| page.rows.len()).sum();
            let mut skip = count.saturating_sub(limit);
            for page in &mut pages {
                let here = skip.min(page.rows.len());
                page.rows.drain(..here);
                skip -= here;
            }
        }
        Ok((pages, reader))
    }

    fn go_on(
        &self,
        client: &mut Client,
        printer: &mut Printer<'_>,
        reader: &mut Reader,
    ) -> Result<(), Failure> {
        let mut is_lost = false;
        loop {
            printer.out.flush()?;
            std::thread::sleep(ASK_EVERY);
            let page = match client.reconnect().and_then(|()| reader.ask(client)) {
                Ok(page) => page,
                Err(Failure::NotReached { socket, why }) => {
                    if !std::mem::replace(&mut is_lost, true) {
                        let socket = socket.display();
                        eprintln!("callgate: no node reached at {socket}: {why}; waiting for one");
                    }
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            is_lost = false;
            self.write_page(printer, &page)?;
        }
    }

    fn write_page(&self, printer: &mut Printer<'_>, page: &EventsPage) -> Result<(), Failure> {
        if page.lost > 0 {
            match printer.json {
                true => writeln!(printer.out, "{}", json!({ "lost": page.lost }))?,
                false => writeln!(printer.out, "lost {} events: they came too fast", page.lost)?,
            }
        }
        for row in &page.rows {
            match printer.json {
                true => writeln!(printer.out, "{}", json!(row))?,
                false => printer.out.write_all(line(row).as_bytes())?,
            }
        }
        Ok(())
    }
}

/// Where a reader stands.
struct Reader {
    epoch: Option<u64>,
    since: u64,
}

impl Reader {
    fn ask(&mut self, client: &mut Client) -> Result<EventsPage, Failure> {
        let mut page: EventsPage = client.ask("events", &json!({ "since": self.since }))?;
        if self.epoch.is_some_and(|epoch| epoch != page.epoch) {
            eprintln!("callgate: the node was started again");
            page = client.ask("events", &json!({ "since": 0 }))?;
        }
        self.epoch = Some(page.epoch);
        self.since = page.next;
        Ok(page)
    }
}

fn line(row: &EventRow) -> String {
    let about = if row.about.is_empty() {
        String::new()
    } else {
        format!("{}: ", row.about)
    };
    format!(
        "{} {:>6}  {:<8} {about}{}\n",
        utc(row.time_ms),
        row.seq,
        row.kind,
        row.text
    )
}
