//! What is compared: after every step what is cheap, at quiet moments everything.

use std::time::Duration;

use callgate::limit::{Lease, SlotId};
use callgate::metrics::Counter;
use callgate::shard::mail::CallRow;

use crate::leg::{Asking, Leg};
use crate::node::SLOTS;
use crate::plans::TRUNKS;
use crate::script::{Acking, End};
use crate::world::{Event, World};

/// Timer C runs for three minutes, and an attempt at each of four addresses may need as long.
const RINGS_MAX: Duration = Duration::from_secs(15 * 60);
/// The longest call_time_max of the plans, the longest absence of the node, a BYE that nobody answers.
const TALKS_MAX: Duration = Duration::from_secs(30 * 60 + 90 + 60);

/// The highest that the counters of one slot may be at this moment.
#[derive(Clone, Copy)]
pub struct Ceiling {
    pub slot: u16,
    pub all: u64,
    pub inward: u64,
    pub outward: u64,
}

impl World {
    /// The limits of the plan at work; what is above them already may stay until it ends.
    pub fn lower_ceilings(&mut self) {
        let plan = match self.closing {
            true => &self.plans.silent.routing,
            false => &self.plans.variants[self.variant].routing,
        };
        let trunks = plan.trunks.iter().map(|trunk| (trunk.slot, trunk.limits));
        let groups = plan.groups.iter().map(|group| (group.slot, group.limits));
        let most =
            |max: Option<u32>, used: u64| max.map_or(u64::MAX, |max| used.max(u64::from(max)));
        let limits = &self.node.shared.limits;
        self.ceilings = trunks
            .chain(groups)
            .map(|(slot, maxima)| {
                let used = limits.used(SlotId(slot));
                Ceiling {
                    slot,
                    all: most(maxima.calls_max, used.total()),
                    inward: most(maxima.calls_in_max, u64::from(used.in_calls)),
                    outward: most(maxima.calls_out_max, u64::from(used.out_calls)),
                }
            })
            .collect();
    }

    /// Cheap: no limit is exceeded.
    pub fn check_step(&mut self) {
        // The one thing that may exceed a limit: a given-up attempt that is answered after all.
        let returned = self.node.count(Counter::CallsReturned);
        if returned != self.returned {
            self.returned = returned;
            self.lower_ceilings();
        }
        for ceiling in &self.ceilings {
            let used = self.node.shared.limits.used(SlotId(ceiling.slot));
            if used.total() > ceiling.all
                || u64::from(used.in_calls) > ceiling.inward
                || u64::from(used.out_calls) > ceiling.outward
            {
                let what = format!("slot {} has {used:?}, over its limit", ceiling.slot);
                return self.judge.blame(self.now, self.busy_with, what);
            }
        }
    }

    /// At a quiet moment: leases, tables, and what the peers think of their calls.
    pub fn look(&mut self) {
        let is_quiet = !self.is_out() && self.look_once();
        if !self.closing || !is_quiet {
            // A world with few calls is looked at less often.
            let pause = Duration::from_millis(5_000 + self.climate.pause_max / 8);
            self.after(pause, Event::Look);
        }
    }

    /// Looks; `true` = no call is up.
    pub fn look_once(&mut self) -> bool {
        let rows = self.rows();
        self.check_leases(&rows);
        self.check_recount();
        self.check_tables();
        self.check_ends(&rows);
        self.judge.check_owed(self.now);
        if !self.climate.is_cramped() {
            self.check_over(&rows);
        }
        if self.climate.polite {
            self.check_ghosts(&rows);
            self.check_lost(&rows);
        }
        rows.is_empty()
    }

    /// The leases of the calls that the shards list are what the counters say (invariant 8).
    fn check_leases(&mut self, rows: &[(usize, CallRow)]) {
        let routing = &self.plans.variants[0].routing;
        for trunk in &routing.trunks {
            let slot = trunk.slot;
            let count = |of: &dyn Fn(&CallRow) -> bool| {
                rows.iter().filter(|(_, row)| of(row)).count() as u32
            };
            let inward = count(&|row| row.trunk_in_slot == slot);
            let outward = count(&|row| row.trunk_out_slot == Some(slot));
            let used = self.node.shared.limits.used(SlotId(slot));
            if (used.in_calls, used.out_calls) != (inward, outward) {
                let name = &trunk.name;
                let what = format!("{name}: {inward} in and {outward} out are live, but {used:?}");
                return self.judge.blame(self.now, self.busy_with, what);
            }
        }
    }

    /// The same by the shards' own count of their leases, groups included.
    fn check_recount(&mut self) {
        let mut held = [(0, 0); SLOTS];
        for shard in 0..self.node.shards.len() {
            for (slot, inward, outward) in self.recount(shard).held {
                let sum = &mut held[usize::from(slot.0)];
                *sum = (sum.0 + inward, sum.1 + outward);
            }
        }
        for (slot, held) in (0..).zip(held) {
            let used = self.node.shared.limits.used(SlotId(slot));
            if (used.in_calls, used.out_calls) != held {
                let what = format!("slot {slot}: leases for {held:?} calls are held, but {used:?}");
                return self.judge.blame(self.now, self.busy_with, what);
            }
        }
    }

    /// Every call has a way to end: timer C while it rings, call_time_max when it talks.
    fn check_ends(&mut self, rows: &[(usize, CallRow)]) {
        for (_, row) in rows {
            let is_late = match row.answered_for {
                None => row.age > RINGS_MAX,
                Some(talked) => talked > TALKS_MAX,
            };
            if is_late {
                let call = self.judge.call_of(&row.call_id);
                let what = format!("a call without an end: {} for {:?}", row.state, row.age);
                return self.judge.blame(self.now, call, what);
            }
        }
    }

    fn check_tables(&mut self) {
        for shard in &self.node.shards {
            let census = shard.census();
            let capacity = self.node.capacity;
            if census.calls > capacity.dialogs
                || census.client_transactions > capacity.transactions
                || census.server_transactions > capacity.transactions
                || census.stored_bytes > census.stored_bytes_max
            {
                return self
                    .judge
                    .blame(self.now, None, format!("a table overflows: {census:?}"));
            }
        }
    }

    /// A call that the wire has seen the end of is not listed any more, however bad the network.
    fn check_over(&mut self, rows: &[(usize, CallRow)]) {
        for (_, row) in rows {
            let Some(call) = self.judge.call_of(&row.call_id) else {
                continue;
            };
            if self.judge.is_over(call, self.now, self.crashes.restarted) {
                let what = format!("a ghost: all has ended, and the call is {}", row.state);
                return self.judge.blame(self.now, Some(call), what);
            }
        }
    }

    /// A call that its caller knows to be over is not listed any more.
    fn check_ghosts(&mut self, rows: &[(usize, CallRow)]) {
        for (_, row) in rows {
            let call = self.judge.call_of(&row.call_id);
            let Some(call) = call.filter(|call| !self.judge.case(*call).shaken) else {
                continue;
            };
            let legs = &self.peers.calls[call].legs;
            let invite = &legs[0].asked[0];
            let refused = invite.answer.is_some_and(|answer| answer >= 300);
            let byes = legs.iter().flat_map(|leg| &leg.asked);
            let hung_up = byes
                .filter(|asked| asked.method == "BYE")
                .any(|asked| asked.answer.is_some());
            if refused || hung_up {
                let what = "a ghost: the call has ended and is still counted".to_owned();
                return self.judge.blame(self.now, Some(call), what);
            }
        }
    }

    /// A call in which both ends talk is listed, unless the node itself ended it.
    fn check_lost(&mut self, rows: &[(usize, CallRow)]) {
        let missing = std::mem::take(&mut self.missing);
        self.peers.forget_ended();
        for at in 0..self.peers.live.len() {
            let call = self.peers.live[at];
            let legs = &self.peers.calls[call].legs;
            let talks = |end: End| {
                let mut dialogs = legs
                    .iter()
                    .filter(|leg| leg.end == end)
                    .flat_map(|leg| &leg.dialogs);
                dialogs.any(|dialog| dialog.confirmed && !dialog.ended && !dialog.hung_up)
            };
            if !talks(End::Caller) || !talks(End::Callee) {
                continue;
            }
            let id = &self.peers.calls[call].call_id;
            let listed = rows.iter().any(|(_, row)| row.call_id == *id);
            let case = self.judge.case(call);
            if listed || case.ended_by_operator || case.shaken {
                continue;
            }
            // The node's own BYE may be on its way: only who is still missing at the next look is lost.
            if missing.contains(&call) {
                let what = "lost: both ends talk, and the node does not know the call".to_owned();
                return self.judge.blame(self.now, Some(call), what);
            }
            self.missing.push(call);
        }
    }

    /// Everything has ended and all timers have run out.
    pub fn check_end(&mut self) {
        if !self.climate.is_cramped() {
            self.judge.check_answers(self.now);
        }
        if self.climate.is_plain() {
            self.check_ringing();
        }
        if self.climate.polite {
            for call in 0..self.peers.calls.len() {
                self.check_outcome(call);
            }
        }
        let used = self.node.shared.limits.total_used();
        if used != 0 {
            let left: Vec<String> = self
                .rows()
                .iter()
                .map(|(_, row)| format!("{row:?}"))
                .collect();
            let call = self
                .rows()
                .first()
                .and_then(|(_, row)| self.judge.call_of(&row.call_id));
            let what = format!("{used} calls are still counted at the end: {left:#?}");
            self.judge.blame(self.now, call, what);
        }
        for (id, shard) in self.node.shards.iter().enumerate() {
            let census = shard.census();
            let left = census.calls
                + census.dialogs
                + census.server_transactions
                + census.client_transactions
                + census.stored_bytes
                + census.timers;
            if left != 0 {
                let what = format!("shard {id} is not empty at the end: {census:?}");
                return self.judge.blame(self.now, None, what);
            }
        }
        let admitted = self.node.count(Counter::CallsAdmitted);
        let ended = self.node.count(Counter::CallsEnded);
        let recalled = self.node.count(Counter::CallsRecalled);
        if ended < admitted + recalled || Lease::lost() != 0 {
            let what = format!(
                "{admitted} calls admitted, {recalled} recalled, {ended} ended, {} lost",
                Lease::lost()
            );
            self.judge.blame(self.now, None, what);
        }
    }

    /// Where nothing is lost, a phone that nobody answers is told to stop, however its call ended.
    fn check_ringing(&mut self) {
        for call in 0..self.peers.calls.len() {
            let forgets_port = self.peers.calls[call].script.forgets_port;
            let legs = &self.peers.calls[call].legs;
            // Nothing reaches an address behind which an end of the call has another port now.
            let is_left = |at| legs.iter().any(|leg| leg.at == at && leg.bound.is_some());
            let rings = |leg: &&Leg| {
                if forgets_port && is_left(leg.at) {
                    return false;
                }
                let mut served = leg.served.iter();
                let invite = served
                    .next()
                    .filter(|_| leg.end == End::Callee && !leg.dead);
                invite.is_some_and(|invite| invite.last.is_some() && invite.finals.is_empty())
            };
            let told = |leg: &Leg| leg.cancels_heard > 0;
            if let Some(leg) = legs.iter().filter(rings).find(|leg| !told(leg)) {
                let what = format!("{} rings for ever: no CANCEL came", leg.name);
                return self.judge.blame(self.now, Some(call), what);
            }
        }
    }

    /// On a calm network what the callee said is what the caller heard.
    fn check_outcome(&mut self, call: usize) {
        if self.judge.case(call).shaken {
            return;
        }
        if let Err(what) = self.outcome(call) {
            self.judge.blame(self.now, Some(call), what);
        }
    }

    fn outcome(&self, call: usize) -> Result<(), String> {
        let peer = &self.peers.calls[call];
        let heard = peer.legs[0].asked[0].answer;
        let Some(heard) = heard else {
            return Err("the caller never heard a final answer".to_owned());
        };
        let said = |leg: &Leg| leg.served.first()?.finals.first().map(|last| last.status);
        let stopped = self.judge.case(call).ended_by_operator;
        let expected: &[u16] = match peer.legs[1..].last().map(said) {
            _ if stopped => return Ok(()),
            None if peer.user.starts_with(['7', '8']) => &[404, 503],
            None if peer.user.starts_with('9') => &[302, 503],
            None => &[480, 486, 488, 503],
            Some(Some(503)) => &[500, 487, 480, 486, 488, 503],
            Some(Some(status)) => &[status],
            Some(None) => return Err("an INVITE that the callee never finished".to_owned()),
        };
        if !expected.contains(&heard) {
            return Err(format!(
                "the caller heard {heard}, expected was one of {expected:?}"
            ));
        }
        self.loose_ends(call)
    }

    /// What is left open between polite peers.
    fn loose_ends(&self, call: usize) -> Result<(), String> {
        for leg in &self.peers.calls[call].legs {
            let script = &self.peers.calls[call].script;
            if leg.asked.iter().any(|asked| asked.state != Asking::Done) {
                return Err(format!("{} still waits for an answer", leg.name));
            }
            if let Some(asked) = leg.asked.iter().find(|asked| asked.answer.is_none()) {
                return Err(format!(
                    "{} never got an answer to its {}",
                    leg.name, asked.method
                ));
            }
            let unacked = leg
                .served
                .iter()
                .flat_map(|one| &one.finals)
                .any(|last| !last.acked);
            if unacked && script.acking == Acking::Proper {
                return Err(format!(
                    "{} never got the ACK of its final answer",
                    leg.name
                ));
            }
            if leg.dialogs.iter().any(|dialog| !dialog.ended) {
                return Err(format!("{} still thinks that it talks", leg.name));
            }
        }
        Ok(())
    }

    /// Names of trunks, for a report.
    pub fn describe(&self) -> String {
        let names: Vec<&str> = TRUNKS.iter().map(|(name, _)| *name).collect();
        format!("{:?}, trunks in slot order {names:?}", self.climate)
    }
}
