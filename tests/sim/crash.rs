//! The node dies: the whole process at any moment of its work, or one shard by a panic. What of its
//! calls must be there again is decided here, from what the shards listed
//! before and at the end.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use callgate::base::Instant;
use callgate::base::hash::HashKey;
use callgate::net::owner;
use callgate::shard::mail::{Ask, CallRow, Mail};
use callgate::shard::{Capacity, NodePlan};

use crate::node::{Node, Start, prepare, torn};
use crate::world::{Event, World};

/// For so long a request or an answer may still be repeated.
pub const REPEATS: Duration = Duration::from_secs(40);

/// The crashes of a world, and what is between two processes.
pub struct Crashes {
    /// Datagrams that the process still takes before it dies.
    countdown: Option<usize>,
    /// The process works on its last batch: what it writes into its files stays, what it would
    /// have sent does not leave.
    pub is_dying: bool,
    /// When the process at work began, or a shard of it was replaced.
    pub restarted: Instant,
    pub count: usize,
    key: [u64; 2],
    listed_before: Vec<CallRow>,
    files: Vec<Vec<u8>>,
    died: Instant,
    /// Calls as they were listed by the process that died, before its last batch and at its end.
    survivors: Vec<(CallRow, CallRow)>,
    /// Calls that may be there again.
    known: BTreeSet<String>,
}

impl Crashes {
    pub fn new(key: [u64; 2]) -> Crashes {
        Crashes {
            countdown: None,
            is_dying: false,
            restarted: Instant::START,
            count: 0,
            key,
            listed_before: Vec::new(),
            files: Vec::new(),
            died: Instant::START,
            survivors: Vec::new(),
            known: BTreeSet::new(),
        }
    }
}

impl World {
    /// Decides how the node dies next, and when.
    pub fn doom(&mut self) {
        if self.closing {
            return;
        }
        if !self.is_out() {
            match self.dice.below(10) {
                0..=2 => self.panic_a_shard(),
                // Handed over between two turns, as to a process that takes over.
                3 | 4 => {
                    self.crashes.listed_before = self.listed();
                    self.kill();
                }
                _ => self.crashes.countdown = Some(self.dice.below(40)),
            }
        }
        let pause = self.dice.millis(30_000..900_000);
        self.after(pause, Event::Doom);
    }

    /// No process runs, or one that is as good as dead.
    pub fn is_out(&self) -> bool {
        self.node.is_down() || self.crashes.is_dying
    }

    /// A datagram comes in: the last batch of a doomed process may begin with it.
    pub fn count_down(&mut self) {
        if self.closing || self.crashes.is_dying {
            return;
        }
        match self.crashes.countdown {
            None => {}
            Some(0) => {
                self.crashes.countdown = None;
                self.begin_last_batch();
            }
            Some(left) => self.crashes.countdown = Some(left - 1),
        }
    }

    fn listed(&mut self) -> Vec<CallRow> {
        self.rows().into_iter().map(|(_, row)| row).collect()
    }

    fn begin_last_batch(&mut self) {
        self.crashes.listed_before = self.listed();
        self.crashes.is_dying = true;
        self.node.tapes.iter().for_each(|tape| tape.run());
        let left = Duration::from_micros(self.dice.below(4000) as u64);
        self.after(left, Event::Kill);
    }

    /// The process is gone: what is left is its files, the last write torn.
    pub fn kill(&mut self) {
        let mut files = Vec::new();
        for shard in 0..self.node.shards.len() {
            let region = self.node.shards[shard].leave_records();
            let octets = region.map_or_else(Vec::new, |region| region.octets().to_vec());
            let before = self.node.tapes[shard].stop();
            files.push(torn(&mut self.dice, before, octets));
        }
        self.crashes.files = files;
        let listed_after = self.listed();
        self.node.wind_up();
        let before = std::mem::take(&mut self.crashes.listed_before);
        self.note_survivors(before, listed_after, &|_| true);
        self.crashes.is_dying = false;
        self.crashes.died = self.now;
        self.crashes.count += 1;
        let down = self.throw_downtime();
        self.after(down, Event::Restart);
    }

    /// Polite peers repeat what they said for longer than the node is away.
    fn throw_downtime(&mut self) -> Duration {
        match self.dice.below(if self.climate.polite { 3 } else { 4 }) {
            0 => self.dice.millis(1..500),
            1 => self.dice.millis(500..8_000),
            2 => self.dice.millis(8_000..20_000),
            _ => self.dice.millis(20_000..90_000),
        }
    }

    /// Which calls must go on, which may, and of which nothing is promised; only those that
    /// `concerns` names are touched.
    fn note_survivors(
        &mut self,
        before: Vec<CallRow>,
        after: Vec<CallRow>,
        concerns: &dyn Fn(&str) -> bool,
    ) {
        let after_of = |row: &CallRow| {
            let mut same = after.iter().filter(|one| one.call_id == row.call_id);
            same.next().cloned()
        };
        let pairs = before
            .iter()
            .filter_map(|row| Some((row.clone(), after_of(row)?)));
        let survivors: Vec<(CallRow, CallRow)> = pairs.collect();
        let all = before.iter().chain(&after);
        self.crashes.known = all.clone().map(|row| row.call_id.clone()).collect();
        let listed: BTreeSet<&str> = all.map(|row| row.call_id.as_str()).collect();
        let safe = survivors.iter().map(|(row, _)| row.call_id.as_str());
        let safe: BTreeSet<&str> = safe.collect();
        let rings = |row: &CallRow| row.state == "ringing";
        let ringing = survivors.iter().filter(|(before, _)| rings(before));
        let ringing: BTreeSet<&str> = ringing.map(|(row, _)| row.call_id.as_str()).collect();
        for call in 0..self.judge.calls() {
            let id = self.peers.calls[call].call_id.as_str();
            if !concerns(id) {
                continue;
            }
            let case = self.judge.case_mut(call);
            let is_busy = self.now.since(case.seen) < REPEATS;
            case.cross(self.now);
            if ringing.contains(id) {
                // It is there again, but an answer may be lost, or have died before its datagram.
                case.shaken = true;
            } else if safe.contains(id) {
                self.ladder.remark(self.now, call, "the node dies");
            } else if is_busy || listed.contains(id) {
                case.shaken = true;
                self.ladder
                    .remark(self.now, call, "the node dies; nothing is promised");
            }
        }
        self.crashes.survivors = survivors;
        self.judge.forget_owed();
    }

    /// The next process, from the files of the last: another number of shards, another plan, and
    /// sometimes without the secret under which the calls were hashed.
    pub fn restart(&mut self) {
        let before = self.climate.shards;
        self.climate.shards = self.dice.pick(&[before, before, 1, 2, 3, 4]);
        if self.climate.operators && self.dice.chance(300) {
            self.variant = self.dice.below(self.plans.variants.len());
        }
        let may_lose_key = !self.climate.polite && !self.climate.is_cramped();
        if may_lose_key && self.dice.chance(100) {
            self.crashes.key = [self.dice.number(), self.dice.number()];
            self.forget_what_needs_the_key();
            self.judge.forget_attempts();
        }
        let key = HashKey::new(self.crashes.key);
        let files = std::mem::take(&mut self.crashes.files);
        let dialogs = self.climate.capacity.dialogs;
        let prepared = prepare(files, &key, self.climate.shards, dialogs);
        let plan = self.plan_at_work().clone();
        let start = Start {
            plan: &plan,
            shards: self.climate.shards,
            capacity: Capacity {
                dialogs: prepared.dialogs_each,
                ..self.climate.capacity
            },
            letters_max: self.climate.letters_max(),
            key: self.crashes.key,
            life: self.node.life + 1,
        };
        self.node = Node::start(self.now, &start, &mut self.dice);
        self.node
            .keep_calls_in(self.now, prepared.files, &self.plans.variants[0]);
        self.returned = 0;
        if prepared.tally.damaged > 0 {
            let what = format!("a torn write damaged a record: {:?}", prepared.tally);
            self.judge.blame(self.now, None, what);
        }
        self.check_survivors(None);
    }

    /// A call whose words had no room is known by its hashes alone, and one that rings by its branch.
    fn forget_what_needs_the_key(&mut self) {
        let survivors = std::mem::take(&mut self.crashes.survivors);
        let needs_key = |row: &CallRow| row.call_id.is_empty() || row.state == "ringing";
        for (before, after) in survivors {
            if !needs_key(&before) && !needs_key(&after) {
                self.crashes.survivors.push((before, after));
            } else if let Some(call) = self.judge.call_of(&before.call_id) {
                self.judge.case_mut(call).shaken = true;
            }
        }
    }

    /// The plan that a process or shard starts with at this moment.
    pub fn plan_at_work(&self) -> &NodePlan {
        match self.closing {
            true => &self.plans.silent,
            false => &self.plans.variants[self.variant],
        }
    }

    /// After a start: each call is there, as it was; none that had ended or never was.
    fn check_survivors(&mut self, shard: Option<usize>) {
        self.crashes.restarted = self.now;
        self.judge.restarted = self.now;
        self.missing.clear();
        self.lower_ceilings();
        let rows = self.rows();
        let survivors = std::mem::take(&mut self.crashes.survivors);
        let gone = self.now.since(self.crashes.died);
        if self.node.refused > 0 && !self.climate.is_cramped() {
            let what = format!("no room for {} calls of the files", self.node.refused);
            self.judge.blame(self.now, None, what);
        }
        for (before, after) in &survivors {
            let call = self.judge.call_of(&before.call_id);
            // A repeated INVITE may have made a second call of the same name.
            let same = rows.iter().filter(|(_, row)| row.call_id == before.call_id);
            let unlike = same
                .map(|(_, new)| difference(before, new, gone).and(difference(after, new, gone)));
            let unlike: Vec<Option<String>> = unlike.collect();
            // A small table of transactions may have no room for all set-ups of fewer shards.
            let may_be_refused = self.climate.is_cramped() && before.state == "ringing";
            if unlike.contains(&None) || may_be_refused {
                continue;
            }
            let lost = format!("a call is lost by the crash: {}", before.state);
            let what = unlike.into_iter().flatten().next().unwrap_or(lost);
            return self.judge.blame(self.now, call, what);
        }
        for (at, row) in &rows {
            let concerns = shard.is_none_or(|shard| shard == *at);
            if concerns && !self.crashes.known.contains(&row.call_id) {
                let call = self.judge.call_of(&row.call_id);
                let what = "a call is there again that had ended, or never was".to_owned();
                return self.judge.blame(self.now, call, what);
            }
        }
        self.look_once();
    }

    /// One shard panics and another takes its seat, as the supervisor does it.
    fn panic_a_shard(&mut self) {
        let id = self.dice.below(self.node.shards.len());
        let of_shard = |rows: Vec<(usize, CallRow)>| -> Vec<CallRow> {
            let own = rows.into_iter().filter(|(shard, _)| *shard == id);
            own.map(|(_, row)| row).collect()
        };
        let listed = of_shard(self.rows());
        self.read_mail(id);
        let posted = self
            .node
            .shared
            .mail
            .post(id, Mail::Ask(Box::new(Ask::Panic)));
        assert!(posted, "an inbox that was just read is not full");
        let clock = self.node.clock(self.now);
        let shard = &mut self.node.shards[id];
        let fallen = catch_unwind(AssertUnwindSafe(|| shard.on_mail(clock, &mut self.out)));
        assert!(fallen.is_err(), "it was told to panic");
        self.out.clear();
        let region = shard.leave_records();
        shard.wind_up();
        let (count, key) = (self.node.shards.len() as u16, self.crashes.key);
        let key = HashKey::new(key);
        self.crashes.died = self.now;
        self.crashes.count += 1;
        self.note_survivors(listed.clone(), listed, &|call_id| {
            usize::from(owner(call_id.as_bytes(), &key, count)) == id
        });
        let plan = self.plan_at_work().clone();
        let capacity = self.node.capacity;
        self.node.shards[id] = self
            .node
            .new_shard(self.now, id, &plan, capacity, &mut self.dice);
        if let Some(region) = region {
            self.node
                .hand_to(self.now, id, region, &self.plans.variants[0]);
        }
        self.check_survivors(Some(id));
    }
}

/// What of a call is not as it was when the process died.
fn difference(old: &CallRow, new: &CallRow, gone: Duration) -> Option<String> {
    let slots = |row: &CallRow| (row.trunk_in_slot, row.trunk_out_slot);
    if slots(old) != slots(new) {
        return Some(format!("trunks {:?} became {:?}", slots(old), slots(new)));
    }
    let ends = |row: &CallRow| (row.caller, row.callee);
    if ends(old) != ends(new) {
        return Some(format!("ends {:?} became {:?}", ends(old), ends(new)));
    }
    let talked = old.answered_for.map(|span| span + gone);
    let off = match (talked, new.answered_for) {
        (Some(old), Some(new)) => old.abs_diff(new) > Duration::from_millis(1),
        (old, new) => old.is_some() != new.is_some(),
    };
    off.then(|| {
        format!(
            "it talked for {talked:?}, and for {:?} now",
            new.answered_for
        )
    })
}
