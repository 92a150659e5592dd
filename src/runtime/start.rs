//! From a checked configuration to a running node, one step after the other; the first that fails
//! says why in one line and undoes nothing but what the process itself holds.

use core::time::Duration;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam::channel::{Receiver, unbounded};

use super::ahead::Ahead;
use super::cdr::Cdrs;
use super::clock::Clock;
use super::copying::Copying;
use super::crew::{Crew, Driving};
use super::helm::{self, Helm, Running, SLOTS_MAX};
use super::log::LevelLever;
use super::notify::{self, State};
use super::placement::{self, Placement};
use super::state::{Keeping, Records};
use super::supervisor::{Ending, Happening, Program, Supervisor};
use super::takeover::{Estate, Inheritance, Legacy, Likeness};
use super::{advertise, memory, os, signals};
use crate::base::hash::HashKey;
use crate::cdr::Ring;
use crate::config::{self, Config, IoChoice, SteeringChoice};
use crate::control::{self, CdrBoard, Facts, Node, Seat};
use crate::guard::bans::SharedBans;
use crate::io::steer::{self, Steering};
use crate::io::{Buffers, IoKind, Socket, bind_group};
use crate::limit::Limits;
use crate::metrics::Metrics;
use crate::route::{Board, SlotBook};
use crate::shard::mail::Mailroom;
use crate::shard::{NodePlan, Shard, Shared};

/// Letters and orders that wait for one shard: some milliseconds of hand-overs at full load.
const INBOX_MAX: usize = 8192;
/// How long shards may take to open their drivers.
const START_TIME: Duration = Duration::from_secs(30);
/// How long an address may be in use by a process that was just killed.
const BIND_PATIENCE: Duration = Duration::from_secs(1);
const BIND_EVERY: Duration = Duration::from_millis(5);
/// Sockets, rings and admin clients of a large node.
const OPEN_FILES: u64 = 65_536;
/// Rings and BPF maps of a large node, in octets.
const LOCKED_MEMORY: u64 = 1 << 30;

/// A configuration that is about to run, and where it came from.
pub struct Wish {
    pub config: Config,
    pub names: SlotBook,
    /// `None` = the embedded default.
    pub file: Option<PathBuf>,
    pub level: LevelLever,
    /// Go on with the node that runs already.
    pub takeover: bool,
}

/// Starts a node and runs it to its end; an error is a line for a person.
pub fn run(mut wish: Wish) -> Result<Ending, String> {
    let clock = Clock::start();
    raise_limits();
    let placement = placement::place(&wish.config.node.shards);
    if wish.file.is_none() {
        let sizes = record_sizes(&wish.config);
        memory::shrink_to_fit(&mut wish.config, &placement, sizes);
    }
    warn_all(&wish.config, &placement)?;
    memory::check(&wish.config, &placement, record_sizes(&wish.config))?;
    let program = Program::own(wish.file.clone())?;
    let shards = placement.cpus.len();
    let mut past = past(&wish, shards)?;
    let doors = Doors::open(&wish.config.control, past.as_mut())?;
    let (events, happenings) = unbounded();
    signals::listen(events.clone()).map_err(|fault| format!("signals: {fault}"))?;

    let sockets = match &mut past {
        Some(past) => past
            .sockets()
            .map_err(|fault| format!("sockets: {fault}"))?,
        None => bind(&wish.config, shards, &clock)?,
    };
    let plan = effective_plan(&wish.config, &sockets);
    let state = match &mut past {
        Some(past) => Keeping::inherit(&wish.config.node, past.lock()),
        None => Keeping::open(&wish.config.node)?,
    };
    let key = match &past {
        Some(past) => past.key(),
        None => state.key()?,
    };
    let shared = shared(&plan, shards, &clock, key);
    let mut capacity = wish.config.capacity.per_shard(shards);
    let mut records = None;
    match &past {
        Some(past) => {
            capacity.dialogs = past.dialogs_each();
            past.learn_trunks(&mut wish.names);
        }
        None => {
            (capacity, records) = state.prepare(&clock, &shared.owner_key, capacity, shards)?;
        }
    }
    if let Some(records) = &records {
        records.learn_trunks(&mut wish.names);
    }
    let steering = match &past {
        Some(past) => ChosenSteering::inherited(past.steering()),
        None => steer(wish.config.node.steering, &sockets, &shared.owner_key),
    };
    let seats = seats(&placement);
    let driving = Driving {
        io: io_kind(wish.config.node.io),
        coalesce: wish.config.node.coalesce,
    };
    let mut crew = Crew::new(
        clock,
        Arc::clone(&shared),
        seats.clone(),
        sockets.clone(),
        driving,
        capacity,
        events.clone(),
    );
    crew.messages = wish.config.why.messages;
    crew.decisions = wish.config.why.calls;
    let board = Arc::new(CdrBoard::default());
    let cdrs = Arc::new(Cdrs::new(&wish.config, clock, shards, Arc::clone(&board)));
    crew.cdrs = Some(Arc::clone(&cdrs));
    let names = Arc::new(wish.names.clone());
    launch_shards(&mut crew, &plan, &names)?;
    if let Some(past) = &mut past {
        records = inherit(past, &crew, &state, &plan)?;
    }
    // A former process writes no more records from here on.
    cdrs.configure(&wish.config)?;
    let flushing = state.flush(records.as_ref())?;
    crew.gate.open(records.map(Arc::new));
    let patience = past
        .as_ref()
        .map_or(START_TIME, |past| past.time_left(clock.now()));
    let driver = await_shards(&crew, &happenings, patience)?;
    // A shard that is replaced later must not find calls that have ended since.
    crew.gate.forget_memory();

    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        config: wish.file.clone(),
        io: driver.name,
        io_why: driver.why,
        steering: steering.is_on,
        steering_why: steering.why,
    };
    let socket_path = wish.config.control.socket.clone();
    let text = banner(&wish.config, &plan, &facts, &placement);
    let config = wish.config.clone();
    let estate = doors
        .socket
        .as_ref()
        .map(|admin| -> Result<Estate, String> {
            Ok(Estate {
                likeness: Likeness::of(&wish.config, shards),
                sockets,
                admin: copy_of(admin)?,
                http: match (&doors.http, wish.config.control.http) {
                    (Some(http), Some(address)) => Some((address, copy_of(http)?)),
                    (_, _) => None,
                },
                lock: state.lock()?,
                key: shared.owner_key,
                dialogs_each: capacity.dialogs,
                steering: steering.is_on,
                events,
                is_busy: AtomicBool::new(false),
            })
        });
    let estate = estate.transpose()?;
    let running = Running {
        config: wish.config,
        names: wish.names,
    };
    let helm = Helm::new(
        clock,
        wish.level,
        running,
        wish.file,
        Arc::clone(&cdrs),
        estate,
    );
    let node = Arc::new(Node::new(
        facts,
        seats,
        shared,
        Arc::new(plan),
        Box::new(helm),
        board,
    ));
    control::watch::start(&node).map_err(|fault| format!("events: {fault}"))?;
    let copying =
        Copying::start(&node, clock).map_err(|fault| format!("capture: no thread: {fault}"))?;
    let ahead = Ahead::start(&node).map_err(|fault| format!("memory: no thread: {fault}"))?;
    helm::set_homer(&node, &config);
    let http = doors.serve(&node)?;
    let has_taken_over = past.is_some();
    if let Some(past) = past {
        past.serve(clock.now())?;
        notify::notify(State::MainProcess(std::process::id()));
    }
    announce(&text);
    // Now that the shards serve: it takes the kernel a while.
    if let Err(fault) = crew.load_turnstiles() {
        tracing::warn!(%fault, "no thread for the turnstiles: they are the classic ones");
    }

    let ending = Supervisor::new(node, crew, happenings, clock, program, has_taken_over).run();
    copying.close();
    ahead.close();
    if ending == Ending::HandedOver {
        // All of it is another process's: its socket file, its steering, its listeners.
        steering.guards.into_iter().for_each(Steering::leave);
        return Ok(ending);
    }
    if let Some(http) = http {
        http.close();
    }
    cdrs.stop();
    drop(steering.guards);
    drop(flushing);
    if let Some(path) = socket_path {
        let _already_gone = std::fs::remove_file(path);
    }
    Ok(ending)
}

/// What the running node gives, where it is to be taken over.
fn past(wish: &Wish, shards: usize) -> Result<Option<Inheritance>, String> {
    if !wish.takeover {
        return Ok(None);
    }
    let socket = wish.config.control.socket.as_deref();
    let socket =
        socket.ok_or("--takeover: [control] has no `socket`, over which it is asked for")?;
    let likeness = Likeness::of(&wish.config, shards);
    Inheritance::ask(socket, &likeness).map(Some)
}

/// Waits until all shards have their tables, has the running node stand still, and finds the
/// records of its calls.
fn inherit(
    past: &mut Inheritance,
    crew: &Crew,
    state: &Keeping,
    plan: &NodePlan,
) -> Result<Option<Records>, String> {
    let shards = crew.seats.len();
    if !crew.gate.is_reached_by(shards, START_TIME) {
        return Err("the shards did not get ready in time".to_owned());
    }
    let legacy = past.take(&|| crew.clock.now())?;
    let Legacy { memory, .. } = match legacy {
        Some(legacy) => {
            legacy.tell_health(&crew.shared, plan);
            legacy
        }
        None => {
            tracing::error!("the running node has died: going on as after a crash");
            Legacy::default()
        }
    };
    if !memory.is_empty() {
        return Ok(Some(Records::in_memory(&crew.clock, memory)));
    }
    state.reopen(
        &crew.clock,
        &crew.shared.owner_key,
        crew.capacity.dialogs,
        shards,
    )
}

fn copy_of(listener: &impl AsFd) -> Result<OwnedFd, String> {
    let copy = listener.as_fd().try_clone_to_owned();
    copy.map_err(|fault| format!("no descriptor: {fault}"))
}

fn raise_limits() {
    let limits = [
        (os::Resource::OpenFiles, OPEN_FILES),
        (os::Resource::LockedMemory, LOCKED_MEMORY),
    ];
    for (resource, wanted) in limits {
        match os::raise_limit(resource, wanted) {
            Ok(held) => tracing::debug!(?resource, held, "limit raised as far as allowed"),
            Err(fault) => tracing::warn!(?resource, %fault, "limit not raised"),
        }
    }
}

/// Tells what is odd, and fails for what this host does not let run.
fn warn_all(config: &Config, placement: &Placement) -> Result<(), String> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for warning in &placement.warnings {
        tracing::warn!("{warning}");
    }
    let faults = config::probe_host(config);
    match faults.as_slice() {
        [] => Ok(()),
        faults => {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Err(lines.join("\n"))
        }
    }
}

/// The operators' listeners: bound before the shards start, so that a second node on the same
/// configuration fails before it takes a datagram.
struct Doors {
    socket: Option<UnixListener>,
    http: Option<TcpListener>,
}

impl Doors {
    fn open(wish: &config::Control, past: Option<&mut Inheritance>) -> Result<Doors, String> {
        let (socket, http) = match past {
            Some(past) => (
                past.admin(),
                wish.http.and_then(|address| past.http(address)),
            ),
            None => (None, None),
        };
        Ok(Doors {
            socket: match (socket, wish.socket.as_deref()) {
                (Some(socket), _) => Some(socket),
                (None, path) => path.map(control::socket::bind).transpose()?,
            },
            http: match (http, wish.http) {
                (Some(http), _) => Some(http),
                (None, address) => address.map(control::http::bind).transpose()?,
            },
        })
    }

    /// Lets operators in; gives back what must be closed when the node ends.
    fn serve(self, node: &Arc<Node>) -> Result<Option<control::http::Serving>, String> {
        if let Some(listener) = self.socket {
            control::socket::serve(listener, node)
                .map_err(|fault| format!("admin socket: {fault}"))?;
        }
        self.http
            .map(|listener| control::http::serve(listener, node))
            .transpose()
            .map_err(|fault| format!("http: {fault}"))
    }
}

fn bind(config: &Config, shards: usize, clock: &Clock) -> Result<Vec<Vec<Arc<Socket>>>, String> {
    let addresses: Vec<_> = config
        .plan
        .listeners
        .iter()
        .map(|listener| listener.bind)
        .collect();
    let by_shard = bind_when_free(&addresses, shards, clock).map_err(|fault| fault.to_string())?;
    warn_of_small_buffers(&by_shard);
    Ok(by_shard
        .into_iter()
        .map(|sockets| sockets.into_iter().map(Arc::new).collect())
        .collect())
}

/// The kernel takes the rings of a killed process apart after the process is gone, and the sockets
/// with them: what is in use at first may be free a moment later.
fn bind_when_free(
    addresses: &[SocketAddr],
    shards: usize,
    clock: &Clock,
) -> io::Result<Vec<Vec<Socket>>> {
    let deadline = clock.now() + BIND_PATIENCE;
    loop {
        match bind_group(addresses, shards, Buffers::default()) {
            Err(fault) if fault.kind() == io::ErrorKind::AddrInUse && clock.now() < deadline => {
                std::thread::sleep(BIND_EVERY);
            }
            done => return done,
        }
    }
}

fn warn_of_small_buffers(by_shard: &[Vec<Socket>]) {
    let wanted = Buffers::default().receive;
    let least = by_shard
        .iter()
        .flatten()
        .map(|socket| socket.granted().receive)
        .min();
    if let Some(granted) = least.filter(|granted| *granted < wanted) {
        tracing::warn!(
            granted,
            wanted,
            "receive queues are smaller than wanted: raise net.core.rmem_max, see `callgate check --host`"
        );
    }
}

/// The plan as it came true: real ports, and derived addresses where none is configured.
fn effective_plan(config: &Config, sockets: &[Vec<Arc<Socket>>]) -> NodePlan {
    let mut plan = config.plan.clone();
    let bound = sockets.first().map_or(&[][..], Vec::as_slice);
    for (listener, socket) in plan.listeners.iter_mut().zip(bound) {
        listener.bind = socket.local();
        if listener.advertise_port == 0 {
            listener.advertise_port = socket.local().port();
        }
    }
    for line in advertise::derive(&mut plan) {
        tracing::warn!("{line}");
    }
    plan
}

fn shared(plan: &NodePlan, shards: usize, clock: &Clock, key: HashKey) -> Arc<Shared> {
    let limits = Arc::new(Limits::new(usize::from(SLOTS_MAX)));
    helm::set_limits(&limits, plan);
    let board = Arc::new(Board::new(SLOTS_MAX));
    board.introduce(clock.now(), &plan.routing);
    Arc::new(Shared {
        limits,
        board,
        mail: Mailroom::new(shards, INBOX_MAX),
        draining: AtomicBool::new(false),
        owner_key: key,
        bans: SharedBans::new(key),
    })
}

/// Whether the kernel brings a datagram to the shard that owns its call. It does while the guards
/// live.
struct ChosenSteering {
    guards: Vec<Steering>,
    is_on: bool,
    why: String,
}

impl ChosenSteering {
    /// The program belongs to the group of sockets and goes on with them.
    fn inherited(is_on: bool) -> ChosenSteering {
        let why = match is_on {
            true => "taken over with the sockets",
            false => "the node that was taken over had none",
        };
        ChosenSteering {
            guards: Vec::new(),
            is_on,
            why: why.to_owned(),
        }
    }
}

/// Steers where it is wanted, of use and allowed; without it shards hand over more, nothing else.
fn steer(wish: SteeringChoice, sockets: &[Vec<Arc<Socket>>], key: &HashKey) -> ChosenSteering {
    let off = |why: String| ChosenSteering {
        guards: Vec::new(),
        is_on: false,
        why,
    };
    match wish {
        SteeringChoice::Off => off("turned off in the configuration".to_owned()),
        SteeringChoice::Auto if sockets.len() < 2 => off("one shard needs none".to_owned()),
        SteeringChoice::Auto => match steer::attach_all(sockets, key) {
            Ok(guards) => ChosenSteering {
                guards,
                is_on: true,
                why: "the kernel finds the Call-ID".to_owned(),
            },
            Err(fault) => off(fault.to_string()),
        },
    }
}

fn seats(placement: &Placement) -> Vec<Arc<Seat>> {
    let seat = |(shard, cpu): (usize, &Option<usize>)| {
        let metrics = Arc::new(Metrics::new(usize::from(SLOTS_MAX)));
        Arc::new(Seat::new(shard, *cpu, metrics))
    };
    placement.cpus.iter().enumerate().map(seat).collect()
}

fn io_kind(choice: IoChoice) -> IoKind {
    match choice {
        IoChoice::Auto => IoKind::Auto,
        IoChoice::Uring => IoKind::Uring,
        IoChoice::Mmsg => IoKind::Mmsg,
    }
}

/// Which driver the shards run on, and why.
struct ChosenDriver {
    name: &'static str,
    why: String,
}

/// Starts all shards: they make their tables, and wait at the gate.
fn launch_shards(crew: &mut Crew, plan: &NodePlan, names: &Arc<SlotBook>) -> Result<(), String> {
    for shard in 0..crew.seats.len() {
        crew.launch(shard, plan, names)
            .map_err(|fault| format!("shard {shard}: no thread: {fault}"))?;
    }
    Ok(())
}

/// Waits until each shard takes traffic.
fn await_shards(
    crew: &Crew,
    happenings: &Receiver<Happening>,
    patience: Duration,
) -> Result<ChosenDriver, String> {
    let mut chosen = None;
    let mut waiting = crew.seats.len();
    while waiting > 0 {
        match happenings.recv_timeout(patience) {
            Ok(Happening::ShardRunning {
                driver: name, why, ..
            }) => {
                waiting -= 1;
                chosen = Some(ChosenDriver { name, why });
            }
            Ok(Happening::ShardFallen { shard, cause }) => {
                return Err(format!("shard {shard} did not start: {cause}"));
            }
            Ok(Happening::StopWanted) => return Err("told to stop while starting".to_owned()),
            Ok(
                Happening::ReloadWanted
                | Happening::RotationWanted
                | Happening::HeirWanted
                | Happening::StandStill { .. }
                | Happening::GoOn
                | Happening::HandedOver { .. },
            ) => {}
            Err(_late) => return Err(format!("{waiting} shards did not start in time")),
        }
    }
    chosen.ok_or_else(|| "there is no shard to start".to_owned())
}

/// What the start prints: where it listens, what it runs on, what it takes.
fn banner(config: &Config, plan: &NodePlan, facts: &Facts, placement: &Placement) -> String {
    let mut effective = config.clone();
    effective.plan = plan.clone();
    let shards = placement.cpus.len();
    let pinned: Vec<usize> = placement.cpus.iter().flatten().copied().collect();
    let steering = if facts.steering { "on" } else { "off" };
    format!(
        "callgate {}\n{}{shards} shards on CPUs {}; io {} ({}); steering {steering} ({})\n{}\n",
        facts.version,
        config::summary(&effective),
        match pinned.as_slice() {
            [] => "of the kernel's choice".to_owned(),
            cpus => placement::cpu_list(cpus),
        },
        facts.io,
        facts.io_why,
        facts.steering_why,
        config::budget(config, shards, record_sizes(config)),
    )
}

fn record_sizes(config: &Config) -> config::RecordSizes {
    let (dialog, transaction) = Shard::octets_each();
    let has_cdrs = !config.cdr.files.is_empty();
    let (account, ring) = match has_cdrs {
        true => (Shard::octets_of_an_account(), Ring::octets(config.cdr.ring)),
        false => (0, 0),
    };
    let remembered = config.why.messages * Shard::octets_of_a_message()
        + config.why.calls * Shard::octets_of_decisions();
    config::RecordSizes {
        dialog: dialog + account,
        transaction,
        // Ring buffers as `io::Options` has them by default, outbox, inbox, what `why` remembers,
        // call detail records.
        shard: (12 << 20) + (INBOX_MAX * 64) + remembered + ring,
        trunk: 1024,
    }
}

/// A reader that has closed our stdout is no reason to stop.
fn announce(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = writeln!(out, "{text}callgate: ready").and_then(|()| out.flush());
    notify::notify(State::Ready("ready"));
}
