//! `trace`: messages of a call or of a trunk's calls, as a ladder, as JSON, or into a pcap file. The
//! file is written here, so that it belongs to who asked for it.

use core::time::Duration;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::args::Remote;
use super::client::{Client, Failure};
use super::ladder::Ladder;
use super::printer::Printer;
use crate::capture::{glance, pcap};
use crate::control::Fault;
use crate::control::answers::{MessageRow, TracePage, TraceRow, TraceStarted};

/// How long one question waits for a message: an interrupt is seen after so long at the latest.
const WAIT_MS: u64 = 200;

/// What to trace, for how long, and where to.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Name of a trunk, or a Call-ID; the call need not have come yet
    #[arg(value_name = "CALL-ID|TRUNK")]
    pub what: String,
    /// Write the messages to a pcap file, with IP and UDP headers made for them
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Stop after this time
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = span)]
    pub span: Duration,
    /// Stop after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Do not stop by time, only by --count or an interrupt
    #[arg(long, conflicts_with = "span")]
    pub follow: bool,
    #[command(flatten)]
    pub remote: Remote,
}

impl TraceArgs {
    /// Runs the command.
    pub fn run(&self, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let mut sink = Sink::open(self.pcap.as_ref(), printer)?;
        let started: TraceStarted = client.ask("trace.start", &json!({ "what": self.what }))?;
        let what = &self.what;
        eprintln!("callgate: tracing the {} {what}", started.kind);
        let mut seen = 0;
        let mut lost = 0;
        let mut done = false;
        while !done {
            done = interrupted.load(Ordering::Relaxed);
            let left = self.count.map_or(u64::MAX, |count| count - seen).min(512);
            let wait_ms = if done { 0 } else { WAIT_MS };
            let params =
                json!({ "trace": started.trace, "wait_ms": wait_ms, "messages_max": left });
            let page: TracePage = client.ask("trace.next", &params)?;
            seen += page.messages.len() as u64;
            lost = page.lost;
            sink.take(&page.messages)?;
            let ran = Duration::from_micros(page.now_us.saturating_sub(started.now_us));
            done |= self.count.is_some_and(|count| seen >= count)
                || !self.follow && ran >= self.span && page.messages.is_empty()
                || !self.follow && ran >= self.span * 2;
        }
        let _closed: u64 = client.ask("trace.stop", &json!({ "trace": started.trace }))?;
        let file = self
            .pcap
            .as_ref()
            .map(|path| format!(" in {}", path.display()));
        let gone = match lost {
            0 => String::new(),
            lost => format!(", {lost} lost since they came faster than they were fetched"),
        };
        eprintln!(
            "callgate: {seen} messages{}{gone}",
            file.unwrap_or_default()
        );
        Ok(())
    }
}

/// Where messages go.
enum Sink<'p, 'o> {
    Pcap(File),
    Json(&'p mut io::StdoutLock<'o>),
    Text(&'p mut io::StdoutLock<'o>, Vec<(String, Ladder)>),
}

impl<'p, 'o> Sink<'p, 'o> {
    fn open(pcap: Option<&PathBuf>, printer: &'p mut Printer<'o>) -> Result<Self, Failure> {
        let Some(path) = pcap else {
            return Ok(match printer.json {
                true => Sink::Json(&mut printer.out),
                false => Sink::Text(&mut printer.out, Vec::new()),
            });
        };
        let mut file = File::create(path).map_err(|fault| {
            let message = format!("{}: not written: {fault}", path.display());
            Failure::Refused(Fault::refused(message))
        })?;
        file.write_all(&pcap::FILE_HEADER)?;
        Ok(Sink::Pcap(file))
    }

    fn take(&mut self, rows: &[TraceRow]) -> Result<(), Failure> {
        for row in rows {
            let bytes = octets_of(&row.hex);
            match self {
                Sink::Pcap(file) => {
                    let mut record = Vec::new();
                    pcap::write(&packet(row, &bytes), &mut record);
                    file.write_all(&record)?;
                }
                Sink::Json(out) => {
                    let line = json!({
                        "unix_us": row.unix_us,
                        "received": row.received,
                        "local": row.local,
                        "remote": row.remote,
                        "octets": row.octets,
                        "call_id": String::from_utf8_lossy(glance(&bytes).call_id),
                        "message": String::from_utf8_lossy(&bytes),
                    });
                    writeln!(out, "{line}")?;
                }
                Sink::Text(out, ladders) => out.write_all(rung(ladders, row, &bytes).as_bytes())?,
            }
        }
        match self {
            Sink::Pcap(file) => file.flush()?,
            Sink::Json(out) | Sink::Text(out, _) => out.flush()?,
        }
        Ok(())
    }
}

/// Ladders of so many calls are kept apart; an older call is introduced again.
const LADDERS_MAX: usize = 1024;

/// One message on the ladder of its call; a call that is new is named.
fn rung(ladders: &mut Vec<(String, Ladder)>, row: &TraceRow, bytes: &[u8]) -> String {
    let found = glance(bytes);
    let call_id = String::from_utf8_lossy(found.call_id).into_owned();
    let mut text = String::new();
    let at = ladders.iter().position(|(is, _)| *is == call_id);
    let at = at.unwrap_or_else(|| {
        if ladders.len() == LADDERS_MAX {
            ladders.remove(0);
        }
        text = format!("call {}\n", printable(&call_id));
        ladders.push((call_id, Ladder::default()));
        ladders.len() - 1
    });
    let line = bytes
        .split(|octet| *octet == b'\r' || *octet == b'\n')
        .next();
    let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
    let words = match line.strip_prefix("SIP/2.0 ") {
        Some(status) => status.to_owned(),
        None => line.split(' ').next().unwrap_or_default().to_owned(),
    };
    let message = MessageRow {
        age_s: 0.0,
        received: row.received,
        local: row.local.clone(),
        remote: row.remote.clone(),
        text: printable(&words),
        cseq: printable(&String::from_utf8_lossy(found.cseq)),
        octets: row.octets as u32,
        has_body: !bytes.ends_with(b"\r\n\r\n"),
    };
    // Minutes and seconds of the hour: enough to find it in a log.
    let (minute, second) = (row.unix_us / 60_000_000 % 60, row.unix_us / 1_000 % 60_000);
    let at_text = format!("{minute:02}:{:06.3}", second as f64 / 1000.0);
    let ladder = ladders.get_mut(at).map(|(_, ladder)| ladder);
    text + &ladder.map_or_else(String::new, |ladder| ladder.rung(&at_text, &message))
}

/// What a peer wrote must not move the cursor of a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|letter| (' '..='~').contains(letter))
        .collect()
}

fn packet<'b>(row: &TraceRow, bytes: &'b [u8]) -> pcap::Packet<'b> {
    let address = |text: &str| text.parse().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let (local, remote) = (address(&row.local), address(&row.remote));
    let (source, destination) = match row.received {
        true => (remote, local),
        false => (local, remote),
    };
    pcap::Packet {
        unix_us: row.unix_us,
        source,
        destination,
        payload: bytes,
        octets: row.octets,
    }
}

fn octets_of(hex: &str) -> Vec<u8> {
    let digit = |octet: &u8| char::from(*octet).to_digit(16).unwrap_or(0) as u8;
    let pairs = hex.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| digit(&pair[0]) << 4 | digit(&pair[1]))
        .collect()
}

/// Reads a time as `500ms`, `30s`, `5m` or `1h`.
fn span(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let read = units.iter().find_map(|(unit, ms)| {
        let number = text.strip_suffix(unit)?.parse::<u32>().ok()?;
        Some(Duration::from_millis(u64::from(number) * ms))
    });
    let bounds = Duration::from_millis(1)..=Duration::from_secs(7 * 86_400);
    read.filter(|span| bounds.contains(span))
        .ok_or_else(|| "a time such as 500ms, 30s, 5m or 1h, a week at most".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_its_unit() {
        assert_eq!(span("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "30", "s", "-1s", "0s", "1e3s", "99999h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn octets_come_back_from_their_digits() {
        assert_eq!(octets_of("00ff7a"), [0, 255, b'z']);
    }

    #[test]
    fn each_call_has_its_ladder_and_a_terminal_is_not_moved() {
        let row = TraceRow {
            unix_us: 3_723_004_000,
            received: true,
            local: "192.0.2.1:5060".to_owned(),
            remote: "192.0.2.9:5060".to_owned(),
            octets: 3,
            hex: String::new(),
        };
        let mut ladders = Vec::new();
        let text = "BYE\x1b[2J sip:a SIP/2.0\r\nCall-ID: a\x1b]@b\r\nCSeq: 1 BYE\r\n\r\n";
        let first = rung(&mut ladders, &row, text.as_bytes());
        assert!(first.starts_with("call a]@b\n"), "{first}");
        assert!(first.contains("02:03.004 |-- BYE[2J ---"), "{first}");
        let second = rung(&mut ladders, &row, text.as_bytes());
        assert_eq!(second.lines().count(), 1, "{second}");
    }
}
