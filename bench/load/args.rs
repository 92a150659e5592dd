//! The command line, as clap reads it.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::span::{Span, duration};

const EXAMPLES: &str = "\
Examples:
  load --rate 5000                                          calls itself for 10 s, no proxy between
  load --rate 2000 --to 127.0.0.1:5060 --listen 127.0.0.2:5080   through a proxy that routes to --listen
  load --uac --to 127.0.0.1:5060 --rate 500 --calls 10000   caller only; another UAS answers
  load --uas --listen 127.0.0.1:5080                        callee only
  load --to 127.0.0.1:5060 --listen 127.0.0.2:5080 --rfc7502     highest rate without a failed call
  load relay --listen 127.0.0.1:5060 --to 127.0.0.2:5080    moves datagrams, reads no SIP

Exit codes: 0 nothing failed, 1 something failed, 2 usage or refused target.";

/// A SIP load generator: caller and callee in one, open loop, with the reasons of failures.
#[derive(Debug, Parser)]
#[command(name = "load", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub calls: CallArgs,
}

/// What to do besides calls.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Move datagrams between a caller and --to without reading them: what the kernel alone costs
    Relay(RelayArgs),
}

/// What each transaction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// INVITE, ACK, BYE
    #[default]
    Call,
    /// REGISTER, one address of record after another
    Register,
    /// OPTIONS
    Options,
}

/// Which driver moves the datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Io {
    /// The node's, and at high rates (see --tick) `grouped`
    #[default]
    Auto,
    /// The node's driver over io_uring
    Uring,
    /// The node's driver over recvmmsg and sendmmsg
    Mmsg,
    /// Equal datagrams to one peer leave and arrive as one (UDP_SEGMENT, UDP_GRO)
    Grouped,
}

/// Which of the node's drivers a relay uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NodeIo {
    #[default]
    Auto,
    Uring,
    Mmsg,
}

impl From<NodeIo> for callgate::io::IoKind {
    fn from(io: NodeIo) -> callgate::io::IoKind {
        match io {
            NodeIo::Auto => callgate::io::IoKind::Auto,
            NodeIo::Uring => callgate::io::IoKind::Uring,
            NodeIo::Mmsg => callgate::io::IoKind::Mmsg,
        }
    }
}

/// When a thread sleeps between two looks at its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Not at low rates, 500 us at high ones.
    Auto,
    /// Each datagram wakes the thread.
    Off,
    Every(Duration),
}

fn tick(text: &str) -> Result<Tick, String> {
    match text {
        "auto" => Ok(Tick::Auto),
        "off" => Ok(Tick::Off),
        _ => duration(text).map(Tick::Every),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is no percentage from 0 to 100")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "`{text}` is no rate from 0.001 to 10000000 per second"
        )),
    }
}

/// How calls are made and answered.
#[derive(Clone, Debug, Args)]
pub struct CallArgs {
    /// Where requests go [default: straight to --listen]
    #[arg(long, value_name = "IP:PORT")]
    pub to: Option<SocketAddr>,
    /// Where calls are answered; thread n listens n ports higher [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where calls come from; thread n uses n ports more [default: a free port of --to's family]
    #[arg(long, value_name = "IP:PORT")]
    pub from: Option<SocketAddr>,
    /// Caller only
    #[arg(long, requires = "to", conflicts_with_all = ["uas", "listen"])]
    pub uac: bool,
    /// Callee only
    #[arg(long, requires = "listen", conflicts_with_all = ["to", "rfc7502"])]
    pub uas: bool,
    /// New calls (or other transactions) per second, whatever the answers
    #[arg(long, value_name = "PER_S", default_value = "100", value_parser = rate)]
    pub rate: f64,
    /// Calls to start at most; a callee alone ends after so many
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub calls: u64,
    /// How long to start calls [default: 10s; 10m for --uas]
    #[arg(long, value_name = "SPAN", value_parser = duration)]
    pub time: Option<Duration>,
    /// How long calls may take to end after that [default: the longest hold and ring and 34s]
    #[arg(long, value_name = "SPAN", value_parser = duration)]
    pub drain: Option<Duration>,
    /// Threads, each with sockets and calls of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// CPUs to pin threads to, one thread each, such as 0,1
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "threads"
    )]
    pub cpus: Vec<usize>,
    /// From answer to BYE: 0, 5s, exp:5s
    #[arg(long, value_name = "SPAN", default_value = "0")]
    pub hold: Span,
    /// From 180 to 200, at the callee: 0, 2s, exp:2s
    #[arg(long, value_name = "SPAN", default_value = "0")]
    pub ring: Span,
    /// Share of calls that the caller cancels as soon as it rings
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent)]
    pub cancel: f64,
    /// Share of calls that the callee answers with 486
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent)]
    pub busy: f64,
    /// Share of calls that nobody answers: the caller cancels after --patience
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent)]
    pub no_answer: f64,
    /// How long a call that nobody answers rings
    #[arg(long, value_name = "SPAN", default_value = "2s", value_parser = duration)]
    pub patience: Duration,
    /// What is sent
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// Addresses of record that REGISTER goes through
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub users: u32,
    /// User part of the Request-URI; `-busy` and `-ring` are added for the callee
    #[arg(long, value_name = "USER", default_value = "load")]
    pub user: String,
    /// Host part of the Request-URI [default: that of --to]
    #[arg(long, value_name = "HOST")]
    pub domain: Option<String>,
    /// Send every request of a call to --to, whatever Contact and Record-Route say
    #[arg(long)]
    pub sticky: bool,
    /// Sleep between two looks at the sockets: auto, off, 250us. Batches save CPU, cost latency
    #[arg(long, value_name = "SPAN", default_value = "auto", value_parser = tick)]
    pub tick: Tick,
    /// Driver
    #[arg(long, value_enum, default_value_t)]
    pub io: Io,
    /// Calls a thread keeps at once [default: from rate, hold and ring]
    #[arg(long, value_name = "N")]
    pub table: Option<usize>,
    /// An address besides loopback that is yours to load; may be repeated
    #[arg(long, value_name = "IP")]
    pub permit: Vec<IpAddr>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// No progress line
    #[arg(long, short)]
    pub quiet: bool,
    /// Search the session establishment rate as RFC 7502 does, from --rate on
    #[arg(long)]
    pub rfc7502: bool,
    /// Sessions that must pass without a failure at the rate found
    #[arg(long, value_name = "N", default_value_t = 50_000, requires = "rfc7502")]
    pub sessions: u64,
    /// How close the search comes
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percent, requires = "rfc7502")]
    pub resolution: f64,
}

/// How datagrams are relayed.
#[derive(Clone, Debug, Args)]
pub struct RelayArgs {
    /// Where the caller sends to
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,
    /// Where everything of the caller goes; what comes from there goes to the latest caller
    #[arg(long, value_name = "IP:PORT")]
    pub to: SocketAddr,
    /// How long to run
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = duration)]
    pub time: Duration,
    /// CPU to pin the thread to
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<usize>,
    /// Sleep between two looks at the sockets: off, 250us
    #[arg(long, value_name = "SPAN", default_value = "off", value_parser = tick)]
    pub tick: Tick,
    /// Driver
    #[arg(long, value_enum, default_value_t)]
    pub io: NodeIo,
    /// An address besides loopback that is yours to load; may be repeated
    #[arg(long, value_name = "IP")]
    pub permit: Vec<IpAddr>,
}
