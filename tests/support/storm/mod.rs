//! A storm of calls through a node: one thread plays the caller and the callee of every call.
//!
//! A call's number, which stands in its Call-ID, picks how it ends; so each side knows what to do
//! from the number alone, and a run is the same every time but for the order on the wire. Lost
//! datagrams are sent again as RFC 3261 §17 says.

mod callee;
mod caller;
mod wire;

use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::callee::Callee;
use self::caller::Caller;
use self::wire::Wire;
use super::{ms, now, seconds};

/// How a call comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    CallerHangsUp,
    CalleeHangsUp,
    Busy,
    CancelBeforeRinging,
    CancelAfterRinging,
    /// Rings until the gate's timer C ends it.
    NoAnswer,
    RefusedAfterRinging,
    ByeGets481,
    BothHangUp,
    AnswerAfterCancel,
    ByeUnanswered,
    EverythingTwice,
    /// Says nothing at all. Rare, since a trunk that is silent too often is taken out of service.
    Silent,
}

impl Ending {
    /// The endings that take turns.
    pub const ALL: [Ending; 12] = [
        Ending::CallerHangsUp,
        Ending::CalleeHangsUp,
        Ending::Busy,
        Ending::CancelBeforeRinging,
        Ending::CancelAfterRinging,
        Ending::NoAnswer,
        Ending::RefusedAfterRinging,
        Ending::ByeGets481,
        Ending::BothHangUp,
        Ending::AnswerAfterCancel,
        Ending::ByeUnanswered,
        Ending::EverythingTwice,
    ];

    fn of(call: usize) -> Ending {
        match call % 1200 {
            700 => Ending::Silent,
            other => Self::ALL[other % Self::ALL.len()],
        }
    }

    /// Final answers to the INVITE that the caller may see.
    fn allowed(self) -> &'static [u16] {
        match self {
            Ending::CallerHangsUp
            | Ending::CalleeHangsUp
            | Ending::ByeGets481
            | Ending::BothHangUp
            | Ending::AnswerAfterCancel
            | Ending::ByeUnanswered
            | Ending::EverythingTwice => &[200],
            Ending::Busy => &[486],
            Ending::CancelBeforeRinging | Ending::CancelAfterRinging => &[487],
            Ending::NoAnswer => &[408, 480, 487],
            Ending::Silent => &[408, 503],
            Ending::RefusedAfterRinging => &[603],
        }
    }
}

/// What the storm saw.
#[derive(Debug, Default)]
pub struct Tally {
    pub finished: usize,
    /// Answers to INVITE by ending and status.
    pub answers: BTreeMap<(Ending, u16), usize>,
    /// Datagrams that this side had to send again.
    pub sent_again: usize,
    /// What should not have happened; the first few.
    pub faults: Vec<String>,
    /// Calls that did not end in time, and how they were to end.
    pub unfinished: Vec<(usize, Ending)>,
}

impl Tally {
    fn fault(&mut self, what: String) {
        if self.faults.len() < 20 {
            self.faults.push(what);
        }
    }

    /// How many calls of `ending` were answered at all.
    pub fn answered(&self, ending: Ending) -> usize {
        let rows = self.answers.iter().filter(|((of, _), _)| *of == ending);
        rows.map(|(_, count)| count).sum()
    }
}

/// Who is woken by a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Caller,
    Callee,
}

/// Requests and answers waiting to be sent again, by their time.
#[derive(Default)]
struct Timers(BinaryHeap<std::cmp::Reverse<(Instant, Side, usize)>>);

impl Timers {
    fn arm(&mut self, at: Instant, side: Side, call: usize) {
        self.0.push(std::cmp::Reverse((at, side, call)));
    }

    fn due(&mut self, at: Instant) -> Option<(Side, usize)> {
        let std::cmp::Reverse((first, side, call)) = *self.0.peek()?;
        (first <= at).then(|| {
            self.0.pop();
            (side, call)
        })
    }
}

/// A message that is sent again until something clears it.
struct Pending {
    bytes: Vec<u8>,
    at: Instant,
    interval: Duration,
}

/// First interval between two sends; longer than anything but a loss takes.
const AGAIN: Duration = ms(500);

pub struct Storm {
    caller: Caller,
    callee: Callee,
    timers: Timers,
    tally: Tally,
}

impl Storm {
    /// Two agents on loopback; their addresses go into the node's configuration.
    pub fn new() -> Storm {
        Storm {
            caller: Caller::new(Wire::new()),
            callee: Callee::new(Wire::new()),
            timers: Timers::default(),
            tally: Tally::default(),
        }
    }

    pub fn caller_address(&self) -> SocketAddr {
        self.caller.wire.address
    }

    pub fn callee_address(&self) -> SocketAddr {
        self.callee.wire.address
    }

    /// Makes `calls` calls through `gate`, at most `window` at a time, and ends each.
    pub fn run(mut self, gate: SocketAddr, calls: usize, window: usize) -> Tally {
        self.caller.gate = gate;
        self.callee.gate = gate;
        let mut progress = now();
        let mut finished_before = 0;
        while self.caller.finished < calls || self.callee.is_busy() {
            while self.caller.started < calls && self.caller.started - self.caller.finished < window
            {
                self.caller.start(&mut self.timers);
            }
            wire::wait(&self.caller.wire, &self.callee.wire, ms(5));
            self.take_messages();
            self.fire_timers();
            let at = now();
            if self.caller.finished > finished_before {
                finished_before = self.caller.finished;
                progress = at;
            }
            if at.saturating_duration_since(progress) > seconds(40) {
                break;
            }
        }
        self.tally.finished = self.caller.finished;
        self.tally.unfinished = self.caller.unfinished();
        self.tally
    }

    fn take_messages(&mut self) {
        let mut buffer = [0; 8192];
        for _ in 0..64 {
            let Some(len) = self.caller.wire.take(&mut buffer) else {
                break;
            };
            self.caller
                .hears(&buffer[..len], &mut self.timers, &mut self.tally);
        }
        for _ in 0..64 {
            let Some(len) = self.callee.wire.take(&mut buffer) else {
                break;
            };
            self.callee
                .hears(&buffer[..len], &mut self.timers, &mut self.tally);
        }
    }

    fn fire_timers(&mut self) {
        let at = now();
        while let Some((side, call)) = self.timers.due(at) {
            let sent = match side {
                Side::Caller => self.caller.on_timer(call, at, &mut self.timers),
                Side::Callee => self.callee.on_timer(call, at, &mut self.timers),
            };
            self.tally.sent_again += usize::from(sent);
        }
    }
}
