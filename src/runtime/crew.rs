//! The shards' threads: how one starts, what it does when its driver breaks, how it ends.
//!
//! A driver that breaks is opened again over the same sockets and the shard keeps its calls. A
//! shard that panics gives its leases back, and the supervisor puts a new one on its seat, which
//! takes over what the other has recorded of its calls.

use core::time::Duration;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::Sender;

use super::cdr::Cdrs;
use super::clock::Clock;
use super::gate::{Gate, Order, Orders};
use super::shard_loop::{self, Ended, Surroundings};
use super::state;
use super::supervisor::Happening;
use super::{os, panics, placement, thread};
use crate::base::ring::Wake;
use crate::config::CoalesceChoice;
use crate::control::{Condition, Seat};
use crate::io::{self, BpfFault, IoKind, Socket, TurnstileProgram};
use crate::route::SlotBook;
use crate::shard::mail::Census;
use crate::shard::plan::Capacity;
use crate::shard::{NodePlan, Shard, Shared};

/// How often in a row a driver is opened again before its shard gives up.
const REOPENED_MAX: u32 = 5;
/// A driver that worked so long before it broke does not count as "in a row".
const GOOD_RUN: Duration = Duration::from_secs(60);
/// Pause before a driver is opened again: whatever broke it may need a moment.
const REOPEN_AFTER: Duration = Duration::from_millis(100);

/// What all shards' threads have in common, and the sockets of each.
pub struct Crew {
    pub clock: Clock,
    pub shared: Arc<Shared>,
    pub seats: Vec<Arc<Seat>>,
    /// By shard, then by listener; they outlive the restart of a shard.
    pub sockets: Vec<Vec<Arc<Socket>>>,
    /// By shard, for one driver of it after another.
    turnstiles: Vec<Arc<TurnstileProgram>>,
    pub driving: Driving,
    pub capacity: Capacity,
    /// Opened with the place where the calls of each shard outlive it.
    pub gate: Arc<Gate>,
    /// Messages that each shard remembers for `why`.
    pub messages: usize,
    /// Calls whose decisions each shard remembers for `why`.
    pub decisions: usize,
    pub cdrs: Option<Arc<Cdrs>>,
    pub events: Sender<Happening>,
    pub orders: Arc<Orders>,
    threads: Vec<Option<JoinHandle<()>>>,
}

/// Which driver a shard gets, and how it waits.
#[derive(Clone, Copy, Debug)]
pub struct Driving {
    pub io: IoKind,
    pub coalesce: CoalesceChoice,
}

/// What a shard's thread takes with it.
struct Berth {
    around: Surroundings,
    sockets: Vec<Arc<Socket>>,
    turnstile: Arc<TurnstileProgram>,
    driving: Driving,
    capacity: Capacity,
    gate: Arc<Gate>,
    messages: usize,
    decisions: usize,
    cdrs: Option<Arc<Cdrs>>,
    names: Arc<SlotBook>,
    plan: NodePlan,
    events: Sender<Happening>,
}

impl Crew {
    /// A crew without threads yet.
    pub fn new(
        clock: Clock,
        shared: Arc<Shared>,
        seats: Vec<Arc<Seat>>,
        sockets: Vec<Vec<Arc<Socket>>>,
        driving: Driving,
        capacity: Capacity,
        events: Sender<Happening>,
    ) -> Crew {
        let shards = seats.len();
        for seat in &seats {
            let waker: Arc<dyn Wake> = Arc::<Seat>::clone(seat);
            shared.mail.set_waker(seat.shard, waker);
        }
        Crew {
            threads: seats.iter().map(|_| None).collect(),
            turnstiles: seats.iter().map(|_| Arc::default()).collect(),
            clock,
            shared,
            seats,
            sockets,
            driving,
            capacity,
            gate: Arc::default(),
            messages: crate::shard::MESSAGES_MAX,
            decisions: crate::shard::DECISIONS_MAX,
            cdrs: None,
            events,
            orders: Arc::new(Orders::new(shards)),
        }
    }

    /// Starts the thread of one shard, with a plan of its own: a regex shared by threads would
    /// have them wait for each other. `names` knows the slots of trunks that the plan does not name.
    pub fn launch(
        &mut self,
        shard: usize,
        plan: &NodePlan,
        names: &Arc<SlotBook>,
    ) -> std::io::Result<()> {
        let seat = &self.seats[shard];
        seat.beat(self.clock.now());
        seat.set_condition(Condition::Starting);
        let berth = Berth {
            around: Surroundings {
                clock: self.clock,
                seat: Arc::clone(seat),
                shared: Arc::clone(&self.shared),
                orders: Arc::clone(&self.orders),
            },
            sockets: self.sockets[shard].clone(),
            turnstile: Arc::clone(&self.turnstiles[shard]),
            driving: self.driving,
            capacity: self.capacity,
            gate: Arc::clone(&self.gate),
            messages: self.messages,
            decisions: self.decisions,
            cdrs: self.cdrs.clone(),
            names: Arc::clone(names),
            plan: plan.clone(),
            events: self.events.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || berth.live())?;
        self.threads[shard] = Some(thread);
        Ok(())
    }

    /// Loads the turnstiles' programs, on a thread of its own: an overload before it is done is
    /// met by the classic one.
    pub fn load_turnstiles(&self) -> std::io::Result<()> {
        let wanted = self.turnstiles.clone();
        let thread = std::thread::Builder::new().name("turnstiles".to_owned());
        thread.spawn(move || {
            match wanted.iter().try_for_each(|program| program.load()) {
                // The second was said already, of steering, which needs the same.
                Ok(()) | Err(BpfFault::Forbidden) => {}
                Err(fault) => {
                    tracing::info!(%fault, "the turnstile for overload is the classic one")
                }
            }
        })?;
        Ok(())
    }

    /// Ends all threads; one that does not end in time is left behind.
    pub fn dismiss(&mut self, patience: Duration) {
        self.give(Order::Stop);
        let deadline = self.clock.now() + patience;
        for thread in self.threads.iter_mut().filter_map(Option::take) {
            while !thread.is_finished() && self.clock.now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _caught_inside = thread.join();
            }
        }
    }

    fn give(&self, order: Order) {
        self.orders.give(order);
        self.seats.iter().for_each(|seat| seat.wake());
    }

    /// Has all shards take nothing more from the sockets, finish what they have taken, and leave
    /// their records; gives those that are in memory. Where one of them does not do so in time the
    /// caller has the others [go on](Crew::go_on).
    pub fn stand_still(&mut self, patience: Duration) -> Option<Vec<OwnedFd>> {
        self.give(Order::StandStill);
        let deadline = self.clock.now() + patience;
        loop {
            if let Some(memory) = self.orders.all_left() {
                return Some(memory);
            }
            if self.clock.now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Has the shards run again: those that have left are made anew from their records.
    pub fn go_on(
        &mut self,
        plan: &NodePlan,
        names: &Arc<SlotBook>,
        patience: Duration,
    ) -> Result<(), String> {
        self.give(Order::Run);
        let deadline = self.clock.now() + patience;
        for shard in 0..self.seats.len() {
            // One that was not asked in time runs on by itself; one that fell is replaced elsewhere.
            while self.orders.has_left(shard)
                && self.seats[shard].condition() != Condition::Stopped
                && self.clock.now() < deadline
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            if self.seats[shard].condition() == Condition::Stopped {
                self.launch(shard, plan, names)
                    .map_err(|fault| format!("shard {shard}: no thread: {fault}"))?;
            }
        }
        Ok(())
    }
}

impl Berth {
    /// The top of a shard's thread: nothing that goes wrong inside leaves it.
    fn live(self) {
        let number = self.around.seat.shard;
        let mut shard = None;
        let ended = catch_unwind(AssertUnwindSafe(|| self.serve(&mut shard)));
        let cause = match ended {
            Ok(Ok(())) => None,
            Ok(Err(cause)) => Some(cause),
            Err(_panic) => Some(panics::take_last()),
        };
        let Some(cause) = cause else {
            self.around.seat.set_condition(Condition::Stopped);
            return;
        };
        self.around.seat.set_condition(Condition::Fallen);
        if let Some(shard) = shard {
            self.clear_away(shard);
        }
        let fallen = Happening::ShardFallen {
            shard: number,
            cause,
        };
        // The receiver is gone only when the process is ending anyway.
        let _ending = self.events.send(fallen);
    }

    /// Makes the shard and runs it, over one driver after another where that must be.
    fn serve(&self, place: &mut Option<Shard>) -> Result<(), String> {
        let seat = &self.around.seat;
        seat.take(thread::own_number());
        if let Some(cpu) = seat.cpu
            && !placement::pin(cpu)
        {
            tracing::warn!(shard = seat.shard, cpu, "the shard could not be pinned");
        }
        let seed = os::random_words::<4>().map_err(|fault| format!("no entropy: {fault}"))?;
        let shard = place.insert(Shard::new(
            u16::try_from(seat.shard).map_err(|_beyond| "too many shards".to_owned())?,
            &self.plan,
            Arc::clone(&self.around.shared),
            self.capacity,
            seed,
            Arc::clone(&seat.metrics),
            self.around.clock.now(),
        ));
        shard.keep_messages(self.messages);
        shard.keep_decisions(self.decisions);
        shard.set_tap(seat.tap());
        shard.tell_wall(self.around.clock.wall());
        // The rings of call detail records are a former process's until the gate opens.
        let records = self.gate.pass();
        // First: a call that cannot be restored leaves a record.
        let accounting = self.cdrs.as_ref().map(|cdrs| cdrs.accounting(seat.shard));
        shard.account_to(accounting.flatten());
        if let Some(records) = records {
            records.hand_to(shard, seat.shard, self.around.clock.now(), &self.names)?;
        }
        let mut reopened = 0;
        loop {
            let opened_at = self.around.clock.now();
            let fault = match self.run_over_a_driver(shard) {
                Ok(Ended::Stopped) => {
                    shard.close_accounts(self.around.clock.now());
                    return Ok(());
                }
                Ok(Ended::StoodStill) => return self.leave(shard),
                Err(fault) => fault,
            };
            if self.around.clock.now().since(opened_at) > GOOD_RUN {
                reopened = 0;
            }
            if reopened == REOPENED_MAX || seat.condition() == Condition::Starting {
                return Err(format!("its driver failed: {fault}"));
            }
            reopened += 1;
            seat.count_restart();
            tracing::error!(shard = seat.shard, %fault, "the driver failed; it is opened again");
            std::thread::sleep(REOPEN_AFTER);
        }
    }

    /// Leaves what the shard knows of its calls to whoever reads its sockets next: in its file, or
    /// in memory. Its leases are given back after that, since nobody waits for it.
    fn leave(&self, shard: &mut Shard) -> Result<(), String> {
        let memory = match shard.keeps_records() {
            true => {
                shard.close_accounts(self.around.clock.now());
                None
            }
            false => {
                let kept = state::keep_in_memory(shard, &self.around);
                Some(kept.map_err(|fault| format!("no memory for its records: {fault}"))?)
            }
        };
        // The ring of call detail records is another process's from here on.
        shard.account_to(None);
        self.around.orders.note_left(self.around.seat.shard, memory);
        shard.wind_up();
        self.around.seat.publish_census(Census::default());
        Ok(())
    }

    fn run_over_a_driver(&self, shard: &mut Shard) -> std::io::Result<Ended> {
        let seat = &self.around.seat;
        let options = io::Options {
            turnstile: Some(Arc::clone(&self.turnstile)),
            ..io::Options::default()
        };
        let (mut driver, why) = io::open(self.driving.io, &self.sockets, options)?;
        seat.set_waker(driver.waker());
        let running = Happening::ShardRunning {
            shard: seat.shard,
            driver: driver.name(),
            why,
        };
        seat.set_condition(Condition::Running);
        let _ending = self.events.send(running);
        shard_loop::run(shard, &mut *driver, self.driving.coalesce, &self.around)
    }

    /// Gives back what a fallen shard held; its tables may be torn, so a second panic is expected.
    fn clear_away(&self, mut shard: Shard) {
        let seat = &self.around.seat;
        let cleared = catch_unwind(AssertUnwindSafe(move || {
            seat.publish_transactions(shard.transaction_counters());
            shard.wind_up();
            drop(shard);
        }));
        if cleared.is_err() {
            let cause = panics::take_last();
            tracing::error!(shard = seat.shard, %cause, "not all leases of the fallen shard could be given back");
        }
        seat.publish_census(Census::default());
    }
}
