//! Answered calls on their way into the store that outlives the shard, and back; calls that are
//! being set up are in `setup_ledger`.
//!
//! A call is recorded before the answer that confirms it leaves, and again whenever what a restart
//! must know has changed; ending it strikes its record. Without a ledger all of this does nothing.

use core::time::Duration;

use super::setup::Slots;
use super::{Shard, secret_of};
use crate::base::Instant;
use crate::base::hash::HashKey;
use crate::dialog::store::{
    End, FORKS_MAX, ForkRecord, Head, Position, Record, Region, Store, Tally, Wall,
};
use crate::dialog::{Call, CallKey, Calls, Fork, Part, Phase, Side};
use crate::limit::{Direction, KeptLease};
use crate::metrics::Counter;
use crate::net::{Flow, ListenerId};
use crate::route;
use crate::sip::NameAddr;

/// Where a shard records its calls.
pub(super) struct Ledger {
    pub store: Store,
    pub wall: Wall,
    /// By slot. A name stays when a reload takes its trunk away: calls may still go over it.
    pub names: Vec<Box<str>>,
}

/// What restoring calls needs besides the shard and a record.
pub(super) struct Restoring<'a> {
    wall: Wall,
    slot_of: &'a dyn Fn(&str) -> Option<u16>,
    /// What was looked up.
    names: Vec<(u16, Box<str>)>,
    /// Calls for which a table had no room.
    pub refused: usize,
}

impl Restoring<'_> {
    /// How long ago a moment of the wall clock is.
    pub(super) fn since(&self, now: Instant, us: u64) -> Duration {
        Duration::from_micros(self.wall.at(now).saturating_sub(us))
    }

    /// The slot of a trunk.
    pub(super) fn slot(&mut self, shard: &Shard, name: &[u8]) -> Option<u16> {
        let name = core::str::from_utf8(name).unwrap_or_default();
        let slot = shard.slot_named(name).or_else(|| (self.slot_of)(name))?;
        self.names.push((slot, name.into()));
        Some(slot)
    }
}

/// What became of the calls that a region held.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recalled {
    pub tally: Tally,
    /// Calls for which a table had no room.
    pub refused: usize,
}

/// A peer repeats a request for so long (RFC 3261, 64*T1): a session refresh or a BYE that was sent
/// while the node was down is heard within this time.
pub(super) const GRACE: Duration = Duration::from_secs(32);

impl Ledger {
    /// Learns the names of the trunks and groups of a plan; names of others stay.
    pub(super) fn learn_names(&mut self, plan: &route::Plan) {
        for trunk in &plan.trunks {
            self.learn_name(trunk.slot, &trunk.name);
        }
        for group in &plan.groups {
            self.learn_name(group.slot, &group.name);
        }
    }

    fn learn_name(&mut self, slot: u16, name: &str) {
        let slot = usize::from(slot);
        if self.names.len() <= slot {
            self.names.resize(slot + 1, Box::default());
        }
        if *self.names[slot] != *name {
            self.names[slot] = name.into();
        }
    }
}

/// A name by its slot; empty where there is none.
pub(super) fn name_of(names: &[Box<str>], slot: u16) -> &[u8] {
    names
        .get(usize::from(slot))
        .map_or(&[], |name| name.as_bytes())
}

impl Shard {
    /// Takes over a region: restores the calls that are in it, and records calls there from here on. `slot_of` knows the slots of trunks that the plan does not name.
    pub fn keep_calls_in(
        &mut self,
        now: Instant,
        region: Box<dyn Region>,
        wall: Wall,
        slot_of: &dyn Fn(&str) -> Option<u16>,
    ) -> Recalled {
        let mut restoring = Restoring {
            wall,
            slot_of,
            names: Vec::new(),
            refused: 0,
        };
        let (mut store, answered) = Store::open(region, |at, record| {
            let is_taken = self.restore(now, at, record, &mut restoring);
            if !is_taken {
                restoring.refused += 1;
                self.account_lost(now, record);
            }
            is_taken
        });
        // Answered calls first: one that has both records is answered.
        let setups =
            store.open_setups(|at, record| self.restore_setup(now, at, record, &mut restoring));
        let tally = answered.plus(setups);
        let was_at_work = tally != Tally::default();
        self.heir_until = was_at_work.then_some(now + GRACE);
        let Restoring { names, refused, .. } = restoring;
        let mut ledger = Ledger {
            store,
            wall,
            names: Vec::new(),
        };
        names
            .iter()
            .for_each(|(slot, name)| ledger.learn_name(*slot, name));
        ledger.learn_names(&self.plan.routing);
        self.ledger = Some(ledger);
        self.open_accounts();
        Recalled { tally, refused }
    }

    /// Whether the shard records its calls.
    pub fn keeps_records(&self) -> bool {
        self.ledger.is_some()
    }

    /// How many positions a region must have for all calls of this moment.
    pub fn positions_needed(&self) -> usize {
        let (mut answered, mut ringing, mut from) = (0, 0, 0);
        while let Some(key) = self.calls.next_from(from) {
            from = key.0.index + 1;
            match self.calls.call(key).map(|call| call.phase) {
                Some(Phase::Ringing) => ringing += 1,
                Some(Phase::Answered | Phase::Ending) | None => answered += 1,
            }
        }
        Head::positions_for(answered, ringing)
    }

    /// Records every call as it is at this moment.
    pub fn record_all(&mut self) {
        let mut from = 0;
        while let Some(key) = self.calls.next_from(from) {
            from = key.0.index + 1;
            let Some(call) = self.calls.call(key) else {
                continue;
            };
            match call.phase {
                Phase::Ringing => {
                    if let Some(server) = self.calls.set_up(key).and_then(|kept| kept.invite) {
                        self.record_setup(server);
                    }
                }
                Phase::Answered | Phase::Ending => self.record(key),
            }
        }
    }

    /// Stops to record calls and gives the region back, as a process that ends would leave it.
    pub fn leave_records(&mut self) -> Option<Box<dyn Region>> {
        let ledger = self.ledger.take()?;
        let mut from = 0;
        while let Some(key) = self.calls.next_from(from) {
            from = key.0.index + 1;
            // In another region these would be other calls' positions.
            if let Some(call) = self.calls.call_mut(key) {
                call.record = None;
            }
            if self.calls.set_up(key).is_some()
                && let Some(kept) = self.calls.set_up_mut(key)
            {
                kept.record = None;
            }
        }
        Some(ledger.store.into_region())
    }

    /// Records a call as it is at this moment, where it is answered.
    pub(super) fn record(&mut self, key: CallKey) {
        let Some(Ledger { store, wall, names }) = &mut self.ledger else {
            return;
        };
        let Some(call) = self
            .calls
            .call(key)
            .filter(|call| call.phase != Phase::Ringing)
        else {
            return;
        };
        let Some(caller) = self.calls.caller(call) else {
            return;
        };
        let mut forks = [ForkRecord::default(); FORKS_MAX];
        let forks_len = describe_forks(&self.calls, key, &mut forks);
        let end = |flow: Flow| end_of(&self.plan.listeners, flow);
        let words = self.calls.words(key);
        let record = Record {
            owner: call.owner(),
            call_id: call.call_id(),
            caller_tag: call.caller_tag(),
            nonce: call.nonce,
            invite_cseq: call.invite_cseq,
            // Another fork that talks goes on.
            ending: self.calls.is_hanging_up(key),
            admitted_us: wall.at(call.admitted),
            answered_us: wall.at(call.answered.unwrap_or(call.admitted)),
            session_due_us: call.session_due().map(|due| wall.at(due)),
            call_time_due_us: call.call_time_due().map(|due| wall.at(due)),
            caller: end(caller),
            callee: self.calls.callee(call).map(end),
            trunk_in: name_of(names, call.trunk_in),
            trunk_out: call.trunk_out().map_or(&[], |slot| name_of(names, slot)),
            leased_in: call.lease_in.is_some(),
            leased_out: call.lease_out.is_some(),
            forks,
            forks_len,
            words: Part::ALL.map(|part| words.word(part)),
        };
        let written = store.write(call.record, &record);
        match written {
            Some(written) if written.is_cut => self.metrics.count(Counter::RecordsCut),
            Some(_) => {}
            None => self.metrics.count(Counter::CallsNotRecorded),
        }
        if let Some(call) = self.calls.call_mut(key) {
            call.record = written.map(|written| written.at);
        }
        let set_up = self.calls.end_set_up(key);
        self.strike_setup(set_up.and_then(|kept| kept.record));
    }

    /// Strikes the record of a call that has ended.
    pub(super) fn strike(&mut self, record: Option<Position>) {
        if let (Some(ledger), Some(at)) = (&mut self.ledger, record) {
            ledger.store.end(at);
        }
    }

    /// Makes a call of its record; `false` when the table has no room for it.
    fn restore(
        &mut self,
        now: Instant,
        at: Position,
        record: &Record<'_>,
        restoring: &mut Restoring<'_>,
    ) -> bool {
        let wall_us = restoring.wall.at(now);
        let since = |us: u64| Duration::from_micros(wall_us.saturating_sub(us));
        let trunk_in = restoring.slot(self, record.trunk_in);
        let trunk_out = restoring.slot(self, record.trunk_out);
        let caller = self.flow_of(record.caller);
        let mut call: Call<KeptLease> = Call::ringing(
            record.owner,
            record.call_id,
            record.caller_tag,
            record.nonce,
            now.before(since(record.admitted_us)),
        );
        call.restored = true;
        call.phase = match record.ending {
            true => Phase::Ending,
            false => Phase::Answered,
        };
        call.trunk_in = trunk_in.unwrap_or(u16::MAX);
        call.set_trunk_out(trunk_out);
        call.answered = Some(now.before(since(record.answered_us)));
        call.invite_cseq = record.invite_cseq;
        call.record = Some(at);
        let Ok(key) = self.calls.insert(call, caller) else {
            return false;
        };
        let callee = record.callee.map(|end| self.flow_of(end));
        self.calls.set_callee(key, callee);
        self.restore_forks(key, record);
        let words = Part::ALL.map(|part| (part, record.word(part)));
        if !self.calls.keep_texts(key, &words) {
            self.metrics.count(Counter::TextsNotKept);
        }
        self.restore_leases(key, record.leased_in, record.leased_out);
        self.restore_timers(now, key, record, wall_us);
        self.metrics.count(Counter::CallsRecalled);
        true
    }

    fn restore_forks(&mut self, key: CallKey, record: &Record<'_>) {
        // Each is put in front of those before it.
        for kept in record.forks().iter().rev() {
            // Full: as many further forks as the capacity allows are there already.
            let Ok(fork) = self.calls.learn_fork(key, kept.callee_tag) else {
                continue;
            };
            if let Some(fork) = self.calls.fork_mut(fork) {
                fork.confirmed = kept.confirmed;
                fork.ended = kept.ended;
                fork.set_cseq(Side::Caller, kept.caller_cseq);
                fork.set_cseq(Side::Callee, kept.callee_cseq);
            }
        }
    }

    /// Counts the call again, whatever the limits say: it is there.
    pub(super) fn restore_leases(&mut self, key: CallKey, leased_in: bool, leased_out: bool) {
        let slots_max = self.shared.limits.slots_max();
        let lease = |slot: Option<u16>, direction| {
            let slot = slot.filter(|slot| usize::from(*slot) < slots_max)?;
            let slots = self
                .trunk_at(slot)
                .map_or_else(|| Slots::alone(slot), Slots::of);
            Some(self.shared.limits.restore(direction, slots.as_slice()))
        };
        let Some((trunk_in, trunk_out)) = self
            .calls
            .call(key)
            .map(|call| (Some(call.trunk_in), call.trunk_out()))
        else {
            return;
        };
        let lease_in = lease(trunk_in.filter(|_| leased_in), Direction::In);
        let lease_out = lease(trunk_out.filter(|_| leased_out), Direction::Out);
        if let Some(call) = self.calls.call_mut(key) {
            call.lease_in = lease_in.map(|lease| self.leases.keep(lease));
            call.lease_out = lease_out.map(|lease| self.leases.keep(lease));
        }
    }

    fn restore_timers(&mut self, now: Instant, key: CallKey, record: &Record<'_>, wall_us: u64) {
        let left = |due_us: u64| Duration::from_micros(due_us.saturating_sub(wall_us));
        let session = match (record.ending, record.session_due_us) {
            (true, _) => Some(GRACE),
            (false, due_us) => due_us.map(|due_us| left(due_us).max(GRACE)),
        };
        self.calls
            .set_session_due(key, session.map(|left| now + left));
        let call_time_due = record.call_time_due_us.map(|due_us| now + left(due_us));
        self.calls.set_call_time_due(key, call_time_due);
    }

    fn slot_named(&self, name: &str) -> Option<u16> {
        let mut trunks = self.plan.routing.trunks.iter();
        trunks
            .find(|trunk| trunk.name == name)
            .map(|trunk| trunk.slot)
    }

    /// A flow over the listener that has this address in the present plan, else over one of the
    /// same family.
    pub(super) fn flow_of(&self, end: End) -> Flow {
        let mut listeners = self.plan.listeners.iter();
        let same = listeners.position(|listener| listener.bind == end.local);
        match same {
            Some(at) => Flow::udp(ListenerId(at as u16), end.remote),
            None => self
                .flow_to(end.remote)
                .unwrap_or(Flow::udp(ListenerId(0), end.remote)),
        }
    }
}

/// Forks of a call, those that talk first.
fn describe_forks(
    calls: &Calls<KeptLease>,
    key: CallKey,
    records: &mut [ForkRecord; FORKS_MAX],
) -> usize {
    let talks = |fork: &Fork| fork.confirmed && !fork.ended;
    let forks = || calls.forks_of(key).map(|(_, fork)| fork);
    let talking = forks().filter(|fork| talks(fork));
    let others = forks().filter(|fork| !talks(fork));
    let mut len = 0;
    for (record, fork) in records.iter_mut().zip(talking.chain(others)) {
        *record = ForkRecord {
            callee_tag: fork.callee_tag(),
            confirmed: fork.confirmed,
            ended: fork.ended,
            caller_cseq: fork.cseq(Side::Caller),
            callee_cseq: fork.cseq(Side::Callee),
        };
        len += 1;
    }
    len
}

/// An end by the address of its listener.
pub(super) fn end_of(listeners: &[super::Listener], flow: Flow) -> End {
    let listener = listeners.get(usize::from(flow.listener.0));
    End {
        local: listener.map_or(flow.remote, |listener| listener.bind),
        remote: flow.remote,
    }
}

/// A record as it must be under another key: where the key is lost, its words tell what was hashed.
/// `None` = it was cut and cannot say. Only the fork that its To names stays. One that was hashed
/// under this very key stays as it is.
pub fn rehashed<'r>(record: &Record<'r>, owner_key: &HashKey) -> Option<Record<'r>> {
    let call_id = record.word(Part::CallId);
    if !call_id.is_empty() && owner_key.hash(call_id) == record.owner {
        return Some(*record);
    }
    let secret = secret_of(owner_key);
    let tag = |part| {
        let value = NameAddr::parse(record.word(part)).ok();
        value.and_then(|value| value.tag().map(|tag| secret.hash(tag)))
    };
    let mut forks = [ForkRecord::default(); FORKS_MAX];
    let first = record.forks().first()?;
    forks[0] = ForkRecord {
        callee_tag: tag(Part::To)?,
        ..*first
    };
    (!call_id.is_empty()).then_some(Record {
        owner: owner_key.hash(call_id),
        call_id: secret.hash(call_id),
        caller_tag: tag(Part::From)?,
        forks,
        forks_len: 1,
        ..*record
    })
}
