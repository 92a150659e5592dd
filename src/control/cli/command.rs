//! One function per command: ask the node, print its answer as JSON or for people.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::args::{
    CallArgs, CallCommand, CallsArgs, DebugCommand, LimitsArgs, LimitsCommand, LogCommand,
    NodeCommand, Remote, StatsArgs, TrunkCommand,
};
use super::client::{Client, Failure};
use super::{Outcome, render};
use crate::control::answers::{
    CallRow, CallsPage, Cursor, LimitRow, Reloaded, ShardRow, StatRow, Status, TrunkDetail,
    TrunkRow, Verified, WhyRow,
};

/// A command for a running node.
pub struct Request {
    pub remote: Remote,
    what: What,
}

enum What {
    Status,
    Shards,
    TrunkList,
    TrunkShow(String),
    TrunkOrder { method: &'static str, name: String },
    Limits,
    Verify,
    Calls { trunk: Option<String>, limit: usize },
    EndCall(String),
    Why(String),
    Reload,
    LogSet(String),
    Stats { all: bool },
    PanicShard(usize),
    StallShard { shard: usize, seconds: u64 },
}

impl Request {
    /// The request behind a command.
    pub fn of(command: NodeCommand) -> Request {
        let (remote, what) = match command {
            NodeCommand::Status(remote) => (remote, What::Status),
            NodeCommand::Shards(remote) => (remote, What::Shards),
            NodeCommand::Trunk(trunk) => of_trunk(trunk),
            NodeCommand::Limits(LimitsArgs {
                command: Some(LimitsCommand::Verify(remote)),
                ..
            }) => (remote, What::Verify),
            NodeCommand::Limits(LimitsArgs {
                command: None,
                remote,
            }) => (remote, What::Limits),
            NodeCommand::Calls(CallsArgs {
                trunk,
                limit,
                remote,
            }) => {
                let limit = limit.unwrap_or(usize::MAX);
                (remote, What::Calls { trunk, limit })
            }
            NodeCommand::Call(CallCommand::End { call_id, remote }) => {
                (remote, What::EndCall(call_id))
            }
            NodeCommand::Why(CallArgs { call_id, remote }) => (remote, What::Why(call_id)),
            NodeCommand::Reload(remote) => (remote, What::Reload),
            NodeCommand::Log(LogCommand::Set { level, remote }) => (remote, What::LogSet(level)),
            NodeCommand::Stats(StatsArgs { all, remote }) => (remote, What::Stats { all }),
            NodeCommand::Debug(DebugCommand::PanicShard { shard, remote }) => {
                (remote, What::PanicShard(shard))
            }
            NodeCommand::Debug(DebugCommand::StallShard {
                shard,
                seconds,
                remote,
            }) => (remote, What::StallShard { shard, seconds }),
        };
        Request { remote, what }
    }
}

fn of_trunk(command: TrunkCommand) -> (Remote, What) {
    let order = |method, name| What::TrunkOrder { method, name };
    match command {
        TrunkCommand::List(remote) => (remote, What::TrunkList),
        TrunkCommand::Show(args) => (args.remote, What::TrunkShow(args.name)),
        TrunkCommand::Probe(args) => (args.remote, order("trunk.probe", args.name)),
        TrunkCommand::Drain(args) => (args.remote, order("trunk.drain", args.name)),
        TrunkCommand::Enable(args) => (args.remote, order("trunk.enable", args.name)),
        TrunkCommand::Disable(args) => (args.remote, order("trunk.disable", args.name)),
    }
}

/// Runs a command against the node that listens on `socket`.
pub fn execute(socket: &Path, request: &Request) -> Outcome {
    let mut printer = Printer {
        out: io::stdout().lock(),
        json: request.remote.json,
    };
    let done = Client::connect(socket)
        .and_then(|mut client| run(&mut client, &request.what, &mut printer));
    match done {
        Ok(()) => Outcome::Done,
        // `callgate calls | head` is a reader that has seen enough.
        Err(Failure::Output(fault)) if fault.kind() == io::ErrorKind::BrokenPipe => Outcome::Done,
        Err(Failure::Output(fault)) => {
            eprintln!("callgate: output not written: {fault}");
            Outcome::Refused
        }
        Err(Failure::Differs) => Outcome::Refused,
        Err(Failure::Refused(fault)) => {
            eprintln!("callgate: {}", fault.message);
            fault.data.iter().for_each(|line| eprintln!("{line}"));
            Outcome::Refused
        }
        Err(Failure::NotReached { socket, why }) => {
            eprintln!("callgate: no node reached at {}: {why}", socket.display());
            eprintln!(
                "Start one by `callgate run`, or say where it is by --socket PATH or --config FILE."
            );
            Outcome::NotReached
        }
    }
}

fn run(client: &mut Client, what: &What, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let none = json!({});
    match what {
        What::Status => printer.one(client, "status", &none, |status: &Status| {
            render::status(status)
        }),
        What::Shards => printer.list(client, "shards", |rows: &[ShardRow]| render::shards(rows)),
        What::TrunkList => printer.list(client, "trunk.list", |rows: &[TrunkRow]| {
            render::trunks(rows)
        }),
        What::TrunkShow(name) => {
            let params = json!({ "name": name });
            printer.one(client, "trunk.show", &params, |trunk: &TrunkDetail| {
                render::trunk(trunk)
            })
        }
        What::TrunkOrder { method, name } => {
            let params = json!({ "name": name });
            printer.one(client, method, &params, |trunk: &TrunkRow| {
                format!("trunk {}: {}\n", trunk.name, trunk.state)
            })
        }
        What::Limits => printer.list(client, "limits", |rows: &[LimitRow]| render::limits(rows)),
        What::Verify => verify(client, printer),
        What::Calls { trunk, limit } => calls(client, printer, trunk.as_deref(), *limit),
        What::EndCall(call_id) => {
            let params = json!({ "call_id": call_id });
            printer.one(client, "call.end", &params, |ended: &Vec<String>| {
                format!("ended {}\n", ended.join(", "))
            })
        }
        What::Why(call_id) => {
            let params = json!({ "call_id": call_id });
            printer.one(client, "why", &params, |rows: &Vec<WhyRow>| {
                render::why(rows)
            })
        }
        What::Reload => printer.one(client, "reload", &none, |done: &Reloaded| {
            render::reloaded(done)
        }),
        What::LogSet(level) => {
            let params = json!({ "level": level });
            printer.one(client, "log.set", &params, |set: &String| {
                format!("log level is {set}\n")
            })
        }
        What::Stats { all } => {
            let all = *all;
            printer.list(client, "stats", move |rows: &[StatRow]| {
                render::stats(rows, all)
            })
        }
        What::PanicShard(shard) => {
            let params = json!({ "shard": shard });
            printer.one(client, "debug.panic_shard", &params, |shard: &usize| {
                format!("shard {shard} was told to panic\n")
            })
        }
        What::StallShard { shard, seconds } => {
            let params = json!({ "shard": shard, "seconds": seconds });
            printer.one(client, "debug.stall_shard", &params, |shard: &usize| {
                format!("shard {shard} was told to do nothing for {seconds} s\n")
            })
        }
    }
}

/// Prints what a recount found; a counter that is wrong makes the command fail.
fn verify(client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let verified: Verified = client.ask("limits.verify", &json!({}))?;
    let text = match printer.json {
        true => serde_json::to_string(&verified).map_err(io::Error::other)? + "\n",
        false => render::verified(&verified),
    };
    printer.out.write_all(text.as_bytes())?;
    match verified.differences.is_empty() {
        true => Ok(()),
        false => Err(Failure::Differs),
    }
}

/// Lists calls page by page, as they come.
fn calls(
    client: &mut Client,
    printer: &mut Printer<'_>,
    trunk: Option<&str>,
    limit: usize,
) -> Result<(), Failure> {
    let mut listing = Listing::start(printer)?;
    let mut table = render::calls_table();
    let mut cursor = Some(Cursor::default());
    let mut left = limit;
    while let Some(at) = cursor.filter(|_| left > 0) {
        let params =
            json!({ "cursor": at, "rows_max": left.min(usize::from(u16::MAX)), "trunk": trunk });
        let page: CallsPage = client.ask("calls", &params)?;
        let rows = &page.rows[..page.rows.len().min(left)];
        left -= rows.len();
        if listing.json {
            listing.rows(rows)?;
        } else {
            rows.iter()
                .for_each(|row: &CallRow| render::call(&mut table, row));
            listing.text(&table.take_text())?;
        }
        cursor = page.next;
    }
    listing.end()
}

/// Prints answers in the form that was asked for.
struct Printer<'o> {
    out: io::StdoutLock<'o>,
    json: bool,
}

impl Printer<'_> {
    /// Prints an answer that is one thing.
    fn one<T: DeserializeOwned>(
        &mut self,
        client: &mut Client,
        method: &str,
        params: &Value,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let value = client.call(method, params)?;
            writeln!(self.out, "{value}")?;
        } else {
            let answer: T = client.ask(method, params)?;
            self.out.write_all(text(&answer).as_bytes())?;
        }
        Ok(())
    }

    /// Prints an answer that is a list.
    fn list<T: DeserializeOwned>(
        &mut self,
        client: &mut Client,
        method: &str,
        text: impl FnOnce(&[T]) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let rows: Vec<Value> = client.ask(method, &json!({}))?;
            let mut listing = Listing::start(self)?;
            listing.rows(&rows)?;
            return listing.end();
        }
        let rows: Vec<T> = client.ask(method, &json!({}))?;
        self.out.write_all(text(&rows).as_bytes())?;
        Ok(())
    }
}

/// A JSON array that is written while it comes in: one element per line.
struct Listing<'p, 'o> {
    out: &'p mut io::StdoutLock<'o>,
    json: bool,
    is_empty: bool,
}

impl<'p, 'o> Listing<'p, 'o> {
    fn start(printer: &'p mut Printer<'o>) -> io::Result<Listing<'p, 'o>> {
        if printer.json {
            printer.out.write_all(b"[")?;
        }
        Ok(Listing {
            out: &mut printer.out,
            json: printer.json,
            is_empty: true,
        })
    }

    fn rows(&mut self, rows: &[impl Serialize]) -> io::Result<()> {
        for row in rows {
            let comma = if std::mem::take(&mut self.is_empty) {
                ""
            } else {
                ","
            };
            let row = serde_json::to_string(row).map_err(io::Error::other)?;
            write!(self.out, "{comma}\n{row}")?;
        }
        self.out.flush()
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    fn end(self) -> Result<(), Failure> {
        if self.json {
            self.out.write_all(b"\n]\n")?;
        }
        Ok(self.out.flush()?)
    }
}
