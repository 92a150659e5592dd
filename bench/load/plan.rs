//! What a run does: the command line, checked, with every default filled in.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use crate::args::{CallArgs, Io, Mode, Tick};
use crate::permit::Permit;
use crate::span::Span;

/// RFC 3261 §17.1.1.1: the round-trip estimate, and how long a request may stay unanswered.
pub const T1: Duration = Duration::from_millis(500);
pub const T2: Duration = Duration::from_secs(4);
pub const GIVE_UP: Duration = Duration::from_secs(32);

/// Drain beyond the longest hold and ring: a transaction's whole life and a little.
const DRAIN: Duration = Duration::from_secs(34);
/// From this rate per thread on, waking up for each datagram would be most of the work.
const TICK_FROM_RATE: f64 = 5_000.0;
const TICK: Duration = Duration::from_micros(500);
/// Bounds of a thread's table when it is not given.
const TABLE: (f64, f64) = (4_096.0, 2_000_000.0);

/// Shares of calls by what becomes of them, in 1/10,000.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix {
    pub cancel: u64,
    pub busy: u64,
    pub no_answer: u64,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub mode: Mode,
    pub calls_out: bool,
    pub calls_in: bool,
    pub to: Option<SocketAddr>,
    pub listen: SocketAddr,
    pub from: SocketAddr,
    pub rate: f64,
    pub calls_max: u64,
    pub time: Duration,
    pub drain: Duration,
    /// One thread each; none is not pinned.
    pub cpus: Vec<Option<usize>>,
    pub hold: Span,
    pub ring: Span,
    pub mix: Mix,
    pub patience: Duration,
    pub users: u32,
    pub user: String,
    pub domain: Option<String>,
    pub sticky: bool,
    pub tick: Tick,
    pub io: Io,
    pub table: Option<usize>,
    pub permit: Permit,
    pub quiet: bool,
}

impl Plan {
    /// Checks a command line; the error says what is wrong with it.
    pub fn of(args: &CallArgs) -> Result<Plan, String> {
        let permit = Permit::new(&args.permit);
        let to = args.to.map(|to| permit.check(to)).transpose()?;
        let listen = permit.check(args.listen.unwrap_or(any_port(None)))?;
        let from = args.from.unwrap_or(any_port(Some(to.unwrap_or(listen))));
        let from = permit.check(from)?;
        let time = if args.uas { 600 } else { 10 };
        Ok(Plan {
            mode: args.mode,
            calls_out: !args.uas,
            calls_in: !args.uac,
            to,
            listen,
            from,
            rate: args.rate,
            calls_max: args.calls,
            time: args.time.unwrap_or(Duration::from_secs(time)),
            drain: args
                .drain
                .unwrap_or(args.hold.longest() + args.ring.longest() + args.patience + DRAIN),
            cpus: cpus(args),
            hold: args.hold,
            ring: args.ring,
            mix: mix(args)?,
            patience: args.patience,
            users: args.users,
            user: args.user.clone(),
            domain: args.domain.clone(),
            sticky: args.sticky,
            tick: args.tick,
            io: args.io,
            table: args.table,
            permit,
            quiet: args.quiet,
        })
    }

    /// Calls per second of each thread.
    pub fn rate_each(&self) -> f64 {
        self.rate / self.cpus.len() as f64
    }

    /// How long a thread sleeps between two looks; none when datagrams wake it.
    pub fn tick_each(&self) -> Option<Duration> {
        match self.tick {
            Tick::Off => None,
            Tick::Every(tick) => Some(tick),
            Tick::Auto => (self.calls_out && self.rate_each() >= TICK_FROM_RATE).then_some(TICK),
        }
    }

    /// Calls that one thread keeps, ended ones included as long as late messages may come.
    pub fn table_each(&self) -> usize {
        if let Some(table) = self.table {
            return table.max(1);
        }
        if !self.calls_out {
            // A callee does not know the rate; what is not used is never touched.
            return TABLE.1 as usize;
        }
        let kept = self.hold.mean() + self.ring.mean() + GIVE_UP + GIVE_UP;
        let calls = self.rate_each() * kept.as_secs_f64();
        calls
            .min(self.calls_max as f64 * 1.01)
            .clamp(TABLE.0, TABLE.1) as usize
    }
}

fn any_port(like: Option<SocketAddr>) -> SocketAddr {
    match like.map(|address| address.ip()) {
        Some(IpAddr::V6(ip)) if ip.is_loopback() => SocketAddr::new(ip.into(), 0),
        // A permitted address may be one of this host's own; a remote one needs --from.
        _ => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
    }
}

fn cpus(args: &CallArgs) -> Vec<Option<usize>> {
    if args.cpus.is_empty() {
        return vec![None; args.threads.into()];
    }
    args.cpus.iter().copied().map(Some).collect()
}

fn mix(args: &CallArgs) -> Result<Mix, String> {
    if args.cancel + args.busy + args.no_answer > 100.0 {
        return Err("--cancel, --busy and --no-answer are more than 100 % together".to_owned());
    }
    let share = |percent: f64| (percent * 100.0).round() as u64;
    Ok(Mix {
        cancel: share(args.cancel),
        busy: share(args.busy),
        no_answer: share(args.no_answer),
    })
}
