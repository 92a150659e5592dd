//! Turns what changes on the board, on the seats and in the counters into events, a few times a
//! second, without a word to the datapath. A trunk's reasons come from the shard that keeps its
//! health; where that does not answer, the change is told without them.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::node::Node;
use super::seat::{Condition, Seat};
use crate::base::Instant;
use crate::guard::Block;
use crate::metrics::TrunkCounter;
use crate::route::health::{State, Transition};
use crate::shard::NodePlan;
use crate::shard::mail::Ask;

/// How often it looks.
const ROUND: Duration = Duration::from_millis(250);
/// Refusals at a limit are told once for so many rounds, with their number.
const LIMIT_ROUNDS: u32 = 4;

/// Bans that are told one by one in a round; of more, their number.
const BANS_TOLD_MAX: usize = 20;
/// A shard that has turned nothing away for so many rounds is no longer overloaded.
const CALM_ROUNDS: u32 = 8;

/// Starts the watcher; it looks until the process ends.
pub fn start(node: &Arc<Node>) -> io::Result<()> {
    let node = Arc::clone(node);
    let watch = move || {
        let mut seen = Seen::of(&node);
        loop {
            std::thread::sleep(ROUND);
            seen.look(&node);
        }
    };
    let thread = std::thread::Builder::new().name("events".into());
    thread.spawn(watch).map(drop)
}

/// What was there at the last look.
struct Seen {
    trunks: Vec<SeenTrunk>,
    seats: Vec<(Condition, u64)>,
    overloads: Vec<SeenOverload>,
    /// The version of the bans, and the blocks.
    bans: (u64, BTreeSet<Block>),
    draining: bool,
    /// Call detail records are not written.
    cdr_alarm: bool,
    rounds: u32,
}

/// Whether a shard turns new requests away.
#[derive(Clone, Copy, Default)]
struct SeenOverload {
    is_on: bool,
    calm_rounds: u32,
}

/// By name: a reload may give an id to another trunk.
struct SeenTrunk {
    name: String,
    slot: u16,
    state: State,
    /// Transitions up to here have been told.
    since: Instant,
    refused: [u64; 2],
}

impl Seen {
    fn of(node: &Node) -> Seen {
        let plan = node.plan();
        let trunks = plan.routing.trunks.iter();
        Seen {
            trunks: trunks
                .map(|trunk| SeenTrunk::of(node, &trunk.name, trunk.slot))
                .collect(),
            seats: node
                .seats
                .iter()
                .map(|seat| (seat.condition(), seat.restarts()))
                .collect(),
            overloads: vec![SeenOverload::default(); node.seats.len()],
            // Bans from before the start are none.
            bans: (0, BTreeSet::new()),
            draining: node.is_draining(),
            cdr_alarm: false,
            rounds: 0,
        }
    }

    fn look(&mut self, node: &Node) {
        self.rounds = self.rounds.wrapping_add(1);
        self.look_at_seats(node);
        self.look_at_trunks(node, &node.plan());
        self.look_at_bans(node);
        let alarm = node.cdr.alarm(node.levers.now());
        if std::mem::replace(&mut self.cdr_alarm, alarm.is_some()) != alarm.is_some() {
            let text = alarm.map(|why| format!("records are not written: {why}"));
            node.note(
                "cdr",
                "",
                text.unwrap_or_else(|| "records are written again".to_owned()),
            );
        }
        for (seat, seen) in node.seats.iter().zip(&mut self.overloads) {
            seen.look(node, seat);
        }
        if !std::mem::replace(&mut self.draining, node.is_draining()) && self.draining {
            let calls = node.calls();
            node.note("drain", "", format!("no new calls; {calls} calls are left"));
        }
    }

    fn look_at_seats(&mut self, node: &Node) {
        for (seat, (condition, restarts)) in node.seats.iter().zip(&mut self.seats) {
            let about = seat.shard.to_string();
            let now = (seat.condition(), seat.restarts());
            if now.1 != std::mem::replace(restarts, now.1) {
                node.note("shard", &about, format!("replaced, {} times by now", now.1));
            }
            let before = std::mem::replace(condition, now.0);
            if before != now.0 {
                let (before, now) = (before.word(), now.0.word());
                node.note("shard", &about, format!("{before} -> {now}"));
            }
        }
    }

    fn look_at_bans(&mut self, node: &Node) {
        let bans = &node.shared.bans;
        let version = bans.version();
        if version == self.bans.0 {
            return;
        }
        let now = node.levers.now();
        let list = bans.change_nothing(|bans| bans.list(now));
        let before = std::mem::take(&mut self.bans.1);
        let mut told = 0;
        let mut tell = |about: &str, text: String| {
            told += 1;
            if told <= BANS_TOLD_MAX {
                node.note("ban", about, text);
            }
        };
        for ban in list.iter().filter(|ban| !before.contains(&ban.block)) {
            let left = ban.until.since(now).as_secs();
            let note = ban
                .note
                .as_ref()
                .map_or_else(String::new, |note| format!(", {note}"));
            let text = format!("banned for {left} s: {}{note}", ban.reason.text());
            tell(&ban.block.to_string(), text);
        }
        self.bans = (version, list.into_iter().map(|ban| ban.block).collect());
        for block in before.difference(&self.bans.1) {
            tell(&block.to_string(), "no longer banned".to_owned());
        }
        if let Some(more) = told.checked_sub(BANS_TOLD_MAX).filter(|more| *more > 0) {
            node.note("ban", "", format!("and {more} more"));
        }
    }

    fn look_at_trunks(&mut self, node: &Node, plan: &NodePlan) {
        let trunks = &plan.routing.trunks;
        let is_same = |(seen, trunk): (&SeenTrunk, &crate::route::Trunk)| {
            seen.slot == trunk.slot && seen.name == trunk.name
        };
        if self.trunks.len() != trunks.len() || !self.trunks.iter().zip(trunks).all(is_same) {
            // What a reload brings and takes is told by the reload.
            let mut former = std::mem::take(&mut self.trunks);
            self.trunks.extend(trunks.iter().map(|trunk| {
                let known = former.iter().position(|seen| seen.slot == trunk.slot);
                known.map_or_else(
                    || SeenTrunk::of(node, &trunk.name, trunk.slot),
                    |at| former.swap_remove(at),
                )
            }));
        }
        let tell_limits = self.rounds.is_multiple_of(LIMIT_ROUNDS);
        for seen in &mut self.trunks {
            seen.look_at_state(node);
            if tell_limits {
                seen.look_at_limits(node);
            }
        }
    }
}

impl SeenOverload {
    fn look(&mut self, node: &Node, seat: &Seat) {
        let shown = seat.census().overload;
        let about = seat.shard.to_string();
        if shown.shed > 0.0 {
            self.calm_rounds = 0;
            if !std::mem::replace(&mut self.is_on, true) {
                let (share, waited) = (shown.shed * 100.0, shown.waited.as_secs_f64() * 1e3);
                let text =
                    format!("turns {share:.0} % of new requests away: they wait {waited:.1} ms");
                node.note("overload", &about, text);
            }
        } else if self.is_on {
            self.calm_rounds += 1;
            if self.calm_rounds >= CALM_ROUNDS {
                self.is_on = false;
                node.note("overload", &about, "takes every new request again");
            }
        }
    }
}

impl SeenTrunk {
    fn of(node: &Node, name: &str, slot: u16) -> SeenTrunk {
        SeenTrunk {
            name: name.to_owned(),
            slot,
            state: node.shared.board.state(slot),
            since: node.levers.now(),
            refused: refused(node, slot),
        }
    }

    fn look_at_state(&mut self, node: &Node) {
        let board = &node.shared.board;
        let state = board.state(self.slot);
        if state == self.state && board.since(self.slot) <= self.since {
            return;
        }
        let keeper = super::trunks::keeper(node, self.slot);
        let log: Vec<Transition> = node
            .ask(keeper, |reply| Ask::Transitions { reply })
            .unwrap_or_default();
        let now = node.levers.now();
        let mut told = false;
        for change in log
            .iter()
            .filter(|change| change.slot == self.slot && change.at > self.since)
        {
            let (from, to, why) = (change.from.text(), change.to.text(), change.why.text());
            node.note_at(
                change.at,
                "trunk",
                &self.name,
                format!("{from} -> {to}: {why}"),
            );
            told = true;
        }
        if !told && state != self.state {
            let (from, to) = (self.state.text(), state.text());
            node.note("trunk", &self.name, format!("{from} -> {to}"));
        }
        self.since = log
            .iter()
            .map(|change| change.at)
            .max()
            .unwrap_or(now)
            .max(board.since(self.slot));
        self.state = state;
    }

    fn look_at_limits(&mut self, node: &Node) {
        let now = refused(node, self.slot);
        let before = std::mem::replace(&mut self.refused, now);
        for (way, (now, before)) in ["in", "out"].iter().zip(now.iter().zip(before)) {
            // A shard that was replaced counts on, so a sum never falls.
            let more = now.saturating_sub(before);
            if more > 0 {
                let text = format!("{more} calls {way} over a limit");
                node.note("limit", &self.name, text);
            }
        }
    }
}

/// Calls refused or passed over for a limit, in and out.
fn refused(node: &Node, slot: u16) -> [u64; 2] {
    let sum = |counter: TrunkCounter| {
        let seats = node.seats.iter();
        seats
            .map(|seat| seat.metrics.trunk_row(slot, counter as usize))
            .sum()
    };
    [sum(TrunkCounter::RefusedIn), sum(TrunkCounter::RefusedOut)]
}
