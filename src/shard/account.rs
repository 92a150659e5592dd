//! What a call's detail record needs beyond the call itself, from its admission to its end, and the
//! record that is made of it. `docs/cdr.md` says what the fields mean.
//!
//! The other files of the shard tell what happened by one line each; without a ring to write to, all
//! of this does nothing. Nothing here allocates once the shard runs.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use super::Shard;
use super::journal::reason_of;
use super::refusal::Refusal;
use super::request::Incoming;
use crate::base::slab::{Key, Slab};
use crate::base::{HashKey, Instant};
use crate::cdr::{
    ATTEMPTS_MAX, AttemptEnd, AttemptRecord, Cdr, Disposition, LimitHit, LimitKind, Party,
    Producer, Ring,
};
use crate::dialog::store::{Record, SetupRecord};
use crate::dialog::{Call, CallKey, Part, Side};
use crate::limit::{Lease, Refused, Why};
use crate::metrics::{Counter, Metrics};
use crate::route;
use crate::sip::{HeaderId, Message, Method, NameAddr, Uri};

/// Where a shard writes its call detail records, and what it needs for that.
#[derive(Clone, Debug)]
pub struct Accounting {
    pub ring: Ring,
    /// Wall-clock microseconds since 1970 at [`Instant::START`]; the runtime keeps it right.
    pub wall_start_us: Arc<AtomicU64>,
    /// When this process started.
    pub start_id: u64,
    /// Also INVITEs of sources that no trunk knows.
    pub strangers: bool,
}

/// The accounts of all live calls of a shard.
pub(super) struct Accounts {
    producer: Producer,
    wall: WallClock,
    strangers: bool,
    /// By the call's position in its table.
    book: Vec<Account>,
    attempts: Slab<Made>,
    /// By slot. A name stays when a reload takes its trunk away: calls may still go over it.
    names: Vec<Box<str>>,
    /// What was found out about the INVITE under way, for the case that it is refused.
    line: u32,
    limit: Option<(u16, LimitKind)>,
}

/// What is kept of one call.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// That of the call's key; 0 = no call has this account.
    generation: u32,
    line: u32,
    ringing: Option<Instant>,
    hung_up: Option<(Party, Instant)>,
    first: Option<Key>,
    current: Option<Key>,
    made: u16,
    code: u16,
    q850: u8,
    cancelled: bool,
    /// Our own final answer, by the counter of its reason.
    refused: Option<Counter>,
    limit: Option<(u16, LimitKind)>,
    end_reason: &'static str,
}

/// One INVITE that was sent on.
#[derive(Clone, Copy, Debug)]
struct Made {
    slot: u16,
    address: SocketAddr,
    start: Instant,
    end: Option<Instant>,
    outcome: AttemptEnd,
    code: u16,
    next: Option<Key>,
}

impl Accounts {
    fn new(accounting: Accounting, calls_max: usize) -> Accounts {
        Accounts {
            producer: accounting.ring.producer(),
            wall: WallClock {
                start_us: accounting.wall_start_us,
                start_id: accounting.start_id,
            },
            strangers: accounting.strangers,
            book: vec![Account::default(); calls_max],
            // One attempt for each call, and a quarter as many that failed before.
            attempts: Slab::new(calls_max + calls_max / 4),
            names: Vec::new(),
            line: 0,
            limit: None,
        }
    }

    /// Learns the names of the trunks and groups of a plan; names of others stay.
    pub(super) fn learn_names(&mut self, plan: &route::Plan) {
        let trunks = plan.trunks.iter().map(|trunk| (trunk.slot, &trunk.name));
        let groups = plan.groups.iter().map(|group| (group.slot, &group.name));
        for (slot, name) in trunks.chain(groups) {
            let slot = usize::from(slot);
            if self.names.len() <= slot {
                self.names.resize(slot + 1, Box::default());
            }
            if *self.names[slot] != **name {
                self.names[slot] = name.as_str().into();
            }
        }
    }

    /// The route table has chosen a line for the INVITE under way.
    pub(super) fn note_line(&mut self, line: u32) {
        self.line = line;
    }

    /// A limit stood in the way of the INVITE under way, or of one candidate for a call.
    pub(super) fn note_limit(&mut self, key: Option<CallKey>, refused: Refused) {
        let kind = match refused.why {
            Why::CallsMax => LimitKind::CallsMax,
            Why::CallsInMax => LimitKind::CallsInMax,
            Why::CallsOutMax => LimitKind::CallsOutMax,
            Why::Cps { .. } => LimitKind::Cps,
        };
        let hit = Some((refused.slot.0, kind));
        match key.map(|key| self.account(key)) {
            Some(Some(account)) => account.limit = hit,
            Some(None) => {}
            None => self.limit = hit,
        }
    }

    fn account(&mut self, key: CallKey) -> Option<&mut Account> {
        let account = self.book.get_mut(key.0.index as usize)?;
        (account.generation == key.0.generation).then_some(account)
    }

    fn current(&mut self, key: CallKey) -> Option<&mut Made> {
        let current = self.account(key)?.current?;
        self.attempts.get_mut(current)
    }

    /// Takes an account out of the book, with its attempts in `made`; they are free again.
    fn take(&mut self, key: CallKey, made: &mut [Option<Made>; ATTEMPTS_MAX]) -> Option<Account> {
        let account = core::mem::take(self.account(key)?);
        let mut next = account.first;
        let mut at = 0;
        while let Some(attempt) = next.and_then(|key| self.attempts.remove(key)) {
            next = attempt.next;
            // The last place is for the last one.
            made[at] = Some(attempt);
            at = (at + 1).min(ATTEMPTS_MAX - 1);
        }
        Some(account)
    }
}

/// Turns the node's time into wall-clock time.
struct WallClock {
    start_us: Arc<AtomicU64>,
    start_id: u64,
}

impl WallClock {
    fn us(&self, moment: Instant) -> u64 {
        let start_us = self.start_us.load(Ordering::Relaxed);
        start_us.saturating_add(moment.as_micros())
    }

    /// So long before a moment.
    fn us_before(&self, moment: Instant, earlier: Duration) -> u64 {
        let earlier_us = u64::try_from(earlier.as_micros()).unwrap_or(u64::MAX);
        self.us(moment).saturating_sub(earlier_us)
    }
}

impl Shard {
    /// Writes call detail records from here on; `None` = no longer. Calls that are live already get
    /// theirs when they end.
    pub fn account_to(&mut self, accounting: Option<Accounting>) {
        let Some(accounting) = accounting else {
            self.accounts = None;
            return;
        };
        match &mut self.accounts {
            // The same ring as before: what the accounts know stays.
            Some(accounts) if accounts.wall.start_id == accounting.start_id => {
                accounts.producer = accounting.ring.producer();
                accounts.strangers = accounting.strangers;
            }
            accounts => {
                *accounts = Some(Box::new(Accounts::new(accounting, self.calls.capacity())));
            }
        }
        if let Some(accounts) = &mut self.accounts {
            accounts.learn_names(&self.plan.routing);
        }
        self.open_accounts();
    }

    /// Opens the accounts of live calls that have none: they were restored, or are older than the
    /// accounting.
    pub(super) fn open_accounts(&mut self) {
        if self.accounts.is_none() {
            return;
        }
        let mut from = 0;
        while let Some(call) = self.calls.next_from(from) {
            from = call.0.index + 1;
            let is_open = |accounts: &mut Box<Accounts>| accounts.account(call).is_some();
            if !self.accounts.as_mut().is_some_and(is_open) {
                self.account_opened(call);
            }
        }
    }

    fn account_of(&mut self, key: CallKey) -> Option<&mut Account> {
        self.accounts.as_mut()?.account(key)
    }

    /// An INVITE came in: what stood in the way of the one before it is forgotten.
    pub(super) fn account_arrival(&mut self) {
        if let Some(accounts) = &mut self.accounts {
            accounts.line = 0;
            accounts.limit = None;
        }
    }

    /// A call was admitted.
    pub(super) fn account_opened(&mut self, key: CallKey) {
        let Some(accounts) = &mut self.accounts else {
            return;
        };
        let (line, limit) = (accounts.line, accounts.limit.take());
        if let Some(account) = accounts.book.get_mut(key.0.index as usize) {
            *account = Account {
                generation: key.0.generation,
                line,
                limit,
                ..Account::default()
            };
        }
    }

    /// The INVITE was sent to a candidate.
    pub(super) fn account_attempt(
        &mut self,
        now: Instant,
        key: CallKey,
        slot: u16,
        address: SocketAddr,
    ) {
        let Some(accounts) = &mut self.accounts else {
            return;
        };
        let Some(account) = accounts.account(key) else {
            return;
        };
        account.made = account.made.saturating_add(1);
        let (before, is_first) = (account.current, account.first.is_none());
        let made = Made {
            slot,
            address,
            start: now,
            end: None,
            outcome: AttemptEnd::Pending,
            code: 0,
            next: None,
        };
        // Full: more attempts than calls have failed at this moment; they are counted in `made`.
        let Ok(new) = accounts.attempts.insert(made) else {
            return self.metrics.count(Counter::CdrsCut);
        };
        let last = before.and_then(|before| accounts.attempts.get_mut(before));
        if let Some(last) = last {
            last.next = Some(new);
        }
        if let Some(account) = accounts.account(key) {
            account.current = Some(new);
            if is_first {
                account.first = Some(new);
            }
        }
    }

    /// The attempt under way is over.
    pub(super) fn account_attempt_over(
        &mut self,
        now: Instant,
        key: CallKey,
        outcome: AttemptEnd,
        code: u16,
    ) {
        let made = self
            .accounts
            .as_mut()
            .and_then(|accounts| accounts.current(key));
        if let Some(made) = made {
            made.end = Some(now);
            made.outcome = outcome;
            made.code = code;
        }
    }

    /// An attempt that had been given up was answered: it is the one under way again.
    pub(super) fn account_returned(&mut self, now: Instant, key: CallKey, slot: u16) {
        self.account_attempt_over(now, key, AttemptEnd::Overtaken, 0);
        let Some(accounts) = &mut self.accounts else {
            return;
        };
        let mut next = accounts.account(key).and_then(|account| account.first);
        let mut found = None;
        while let Some((at, made)) = next.and_then(|at| Some((at, accounts.attempts.get(at)?))) {
            next = made.next;
            if made.slot == slot {
                found = Some(at);
            }
        }
        if let (Some(found), Some(account)) = (found, accounts.account(key)) {
            account.current = Some(found);
        }
    }

    /// The callee rings, or answers early.
    pub(super) fn account_ringing(&mut self, now: Instant, key: CallKey) {
        if let Some(account) = self.account_of(key) {
            account.ringing.get_or_insert(now);
        }
    }

    /// The caller gave up.
    pub(super) fn account_cancelled(&mut self, key: CallKey) {
        if let Some(account) = self.account_of(key) {
            account.cancelled = true;
        }
    }

    /// The callee's final answer to the call, which is the caller's.
    pub(super) fn account_final(&mut self, now: Instant, key: CallKey, message: &Message<'_>) {
        let code = message.status();
        let outcome = match code {
            200..=299 => AttemptEnd::Answered,
            _ => AttemptEnd::Status,
        };
        self.account_attempt_over(now, key, outcome, code);
        if let Some(account) = self.account_of(key) {
            account.code = code;
            account.q850 = q850_of(message).unwrap_or(0);
        }
    }

    /// The call ends by an answer of our own.
    pub(super) fn account_refused(&mut self, key: CallKey, refusal: Refusal) {
        if let Some(account) = self.account_of(key) {
            account.code = refusal.status;
            account.q850 = refusal.q850.unwrap_or(0);
            account.refused = Some(refusal.counter);
        }
    }

    /// One side has hung up.
    pub(super) fn account_bye(
        &mut self,
        now: Instant,
        key: CallKey,
        from: Side,
        message: &Message<'_>,
    ) {
        if let Some(account) = self.account_of(key) {
            let party = match from {
                Side::Caller => Party::Caller,
                Side::Callee => Party::Callee,
            };
            account.hung_up.get_or_insert((party, now));
            account.q850 = q850_of(message).unwrap_or(account.q850);
        }
    }

    /// Another fork of the call goes on: the BYE was not the end.
    pub(super) fn account_goes_on(&mut self, key: CallKey) {
        if let Some(account) = self.account_of(key) {
            account.hung_up = None;
        }
    }

    /// Says why this node is about to end a call.
    pub(super) fn account_reason(&mut self, key: CallKey, why: &'static str) {
        if let Some(account) = self.account_of(key) {
            account.end_reason = why;
        }
    }

    /// The call goes on in another shard or process, which will write its record.
    pub(super) fn account_handed_on(&mut self, key: CallKey) {
        if let Some(accounts) = &mut self.accounts {
            accounts.take(key, &mut [None; ATTEMPTS_MAX]);
        }
    }

    /// Writes the record of a call that is about to end.
    pub(super) fn account_closed(&mut self, key: CallKey, why: &'static str) {
        let now = self.journal.now();
        let Some(accounts) = &mut self.accounts else {
            return;
        };
        let mut made = [None; ATTEMPTS_MAX];
        let Some(account) = accounts.take(key, &mut made) else {
            return;
        };
        let Some(call) = self.calls.call(key) else {
            return;
        };
        let words = |part| self.calls.text(key, part);
        let Accounts {
            producer,
            names,
            wall,
            ..
        } = &mut **accounts;
        let ended = account.hung_up.map_or(now, |(_, at)| at);
        let talk = call
            .answered
            .map(|answered| ended.since(answered) + call.talk_before);
        let (from_user, from_tag) = user_and_tag(words(Part::From));
        let (to_user, to_tag) = user_and_tag(words(Part::To));
        let outcome = Outcome::of(&account, call, why);
        let mut cdr = Cdr {
            start_id: wall.start_id,
            shard: self.id,
            attempt_id: attempt_id(
                &self.secret,
                call.call_id,
                call.caller_tag,
                u64::from(call.nonce),
            ),
            start_us: wall.us_before(call.admitted, call.age_before),
            ringing_us: account.ringing.map(|at| wall.us(at)),
            answer_us: call.answered.map(|at| wall.us_before(at, call.talk_before)),
            end_us: wall.us(ended),
            setup_delay_ms: setup_delay_ms(&account, call, now),
            duration_ms: talk.map_or(0, |talk| u64::try_from(talk.as_millis()).unwrap_or(0)),
            code: outcome.code,
            q850: outcome.q850,
            disposition: outcome.disposition,
            hung_up_by: outcome.hung_up_by,
            end_reason: outcome.reason.as_bytes(),
            limit: account.limit.map(|hit| limit_hit(names, hit)),
            route_line: account.line,
            resumed: !call.age_before.is_zero(),
            caller: Some(call.caller.remote),
            callee: call.callee.map(|callee| callee.remote),
            trunk_in: name_of(names, call.trunk_in),
            trunk_out: call.trunk_out.map_or(&[], |slot| name_of(names, slot)),
            attempts_made: account.made,
            call_id: words(Part::CallId),
            request_uri: words(Part::RequestUri),
            from_user,
            from_tag,
            to_user,
            to_tag,
            ..Cdr::BLANK
        };
        for made in made.iter().flatten() {
            cdr.attempts[cdr.attempts_len] = made.record(names, call.admitted, now, &account);
            cdr.attempts_len += 1;
        }
        if cdr.resumed && cdr.attempts_len == 0 && call.trunk_out.is_some() {
            cdr.attempts[0] = AttemptRecord {
                trunk: cdr.trunk_out,
                address: cdr.callee,
                code: if call.answered.is_some() { 200 } else { 0 },
                end: AttemptEnd::Restored,
                ..AttemptRecord::NONE
            };
            cdr.attempts_len = 1;
            cdr.attempts_made = cdr.attempts_made.max(1);
        }
        push(producer, &mut cdr, &self.metrics);
    }

    /// Writes the record of an INVITE that never became a call.
    pub(super) fn account_turned_away(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        refusal: Refusal,
    ) {
        let Incoming { message, from, .. } = *incoming;
        let is_attempt = message.method() == Method::Invite
            && self
                .accounts
                .as_ref()
                .is_some_and(|accounts| accounts.strangers || incoming.trunk.is_some())
            && self.match_dialog(message, &self.path(message)).is_none();
        if !is_attempt {
            return;
        }
        let secret = |text: Option<&[u8]>| self.secret.hash(text.unwrap_or_default());
        let cseq = message.cseq().map_or(0, |cseq| cseq.number);
        let attempt_id = attempt_id(
            &self.secret,
            self.secret.hash(message.call_id()),
            secret(message.from_tag()),
            secret(message.value(HeaderId::Via)) ^ u64::from(cseq),
        );
        let trunk_in = incoming.trunk.map(|id| self.plan.routing.trunk(id).slot);
        let Some(accounts) = &mut self.accounts else {
            return;
        };
        let Accounts {
            producer,
            names,
            wall,
            line,
            limit,
            ..
        } = &mut **accounts;
        let (from_user, from_tag) = user_and_tag(message.value(HeaderId::From).unwrap_or_default());
        let (to_user, to_tag) = user_and_tag(message.value(HeaderId::To).unwrap_or_default());
        let at = wall.us(now);
        let mut cdr = Cdr {
            start_id: wall.start_id,
            shard: self.id,
            attempt_id,
            start_us: at,
            end_us: at,
            setup_delay_ms: Some(0),
            code: refusal.status,
            q850: refusal.q850.unwrap_or_else(|| cause_of(refusal.status)),
            disposition: match refusal.status {
                300..=399 => Disposition::Redirected,
                _ => Disposition::Refused,
            },
            hung_up_by: Some(Party::Node),
            end_reason: reason_of(refusal.counter).as_bytes(),
            limit: limit.take().map(|hit| limit_hit(names, hit)),
            route_line: core::mem::take(line),
            caller: Some(from.remote),
            trunk_in: trunk_in.map_or(&[], |slot| name_of(names, slot)),
            call_id: message.call_id(),
            request_uri: message.request_uri(),
            from_user,
            from_tag,
            to_user,
            to_tag,
            ..Cdr::BLANK
        };
        push(producer, &mut cdr, &self.metrics);
    }

    /// Writes the record of a call that was live before a restart and could not be taken up again.
    pub(super) fn account_lost(&mut self, now: Instant, record: &Record<'_>) {
        let attempt_id = attempt_id(
            &self.secret,
            record.call_id,
            record.caller_tag,
            u64::from(record.nonce),
        );
        let Some(accounts) = &mut self.accounts else {
            return;
        };
        let Accounts { producer, wall, .. } = &mut **accounts;
        let (from_user, from_tag) = user_and_tag(record.word(Part::From));
        let (to_user, to_tag) = user_and_tag(record.word(Part::To));
        let end_us = wall.us(now);
        let mut cdr = Cdr {
            start_id: wall.start_id,
            shard: self.id,
            attempt_id,
            start_us: record.admitted_us,
            answer_us: Some(record.answered_us).filter(|us| *us > 0),
            end_us,
            duration_ms: end_us.saturating_sub(record.answered_us) / 1000,
            code: 200,
            disposition: Disposition::Lost,
            hung_up_by: Some(Party::Node),
            end_reason: NO_ROOM.as_bytes(),
            caller: Some(record.caller.remote),
            callee: record.callee.map(|end| end.remote),
            trunk_in: record.trunk_in,
            trunk_out: record.trunk_out,
            call_id: record.word(Part::CallId),
            request_uri: record.word(Part::RequestUri),
            from_user,
            from_tag,
            to_user,
            to_tag,
            ..Cdr::BLANK
        };
        push(producer, &mut cdr, &self.metrics);
    }

    /// The same for one that was being set up.
    pub(super) fn account_lost_setup(
        &mut self,
        now: Instant,
        record: &SetupRecord<'_>,
        message: &Message<'_>,
    ) {
        let attempt_id = attempt_id(
            &self.secret,
            self.secret.hash(message.call_id()),
            self.secret.hash(message.from_tag().unwrap_or_default()),
            u64::from(record.nonce),
        );
        let Some(accounts) = &mut self.accounts else {
            return;
        };
        let Accounts { producer, wall, .. } = &mut **accounts;
        let (from_user, from_tag) = user_and_tag(message.value(HeaderId::From).unwrap_or_default());
        let (to_user, to_tag) = user_and_tag(message.value(HeaderId::To).unwrap_or_default());
        let mut cdr = Cdr {
            start_id: wall.start_id,
            shard: self.id,
            attempt_id,
            start_us: record.admitted_us,
            end_us: wall.us(now),
            disposition: Disposition::Lost,
            hung_up_by: Some(Party::Node),
            end_reason: NO_ROOM.as_bytes(),
            caller: Some(record.caller.remote),
            callee: Some(record.callee.remote),
            trunk_in: record.trunk_in,
            trunk_out: record.trunk_out,
            call_id: message.call_id(),
            request_uri: message.request_uri(),
            from_user,
            from_tag,
            to_user,
            to_tag,
            ..Cdr::BLANK
        };
        push(producer, &mut cdr, &self.metrics);
    }

    /// Closes the accounts of all calls that nobody will take up: the node stops. Those that are
    /// recorded under `state_dir` go on in the process that comes after this one.
    pub fn close_accounts(&mut self, now: Instant) {
        self.journal.set_time(now);
        let mut from = 0;
        while let Some(call) = self.calls.next_from(from) {
            from = call.0.index + 1;
            self.account_left(call);
        }
    }

    /// The shard goes out of service: a recorded call goes on elsewhere, any other is lost.
    pub(super) fn account_left(&mut self, key: CallKey) {
        let is_recorded = self
            .calls
            .call(key)
            .is_some_and(|call| call.record.is_some() || call.setup_record.is_some());
        match is_recorded {
            true => self.account_handed_on(key),
            false => self.account_closed(key, LOST),
        }
    }
}

/// The same for one attempt wherever its record is written.
fn attempt_id(secret: &HashKey, call_id: u64, caller_tag: u64, passage: u64) -> u64 {
    let mut hasher = secret.hasher();
    hasher.write_u64(call_id);
    hasher.write_u64(caller_tag);
    hasher.write_u64(passage);
    hasher.finish()
}

/// Why a call of before a restart does not go on.
const NO_ROOM: &str = "no room for it after a restart";

/// Why a call ends that its shard cannot carry on.
pub(super) const LOST: &str = "its shard went out of service";

impl Made {
    fn record<'n>(
        &self,
        names: &'n [Box<str>],
        admitted: Instant,
        now: Instant,
        account: &Account,
    ) -> AttemptRecord<'n> {
        AttemptRecord {
            trunk: name_of(names, self.slot),
            address: Some(self.address),
            code: self.code,
            end: match self.outcome {
                AttemptEnd::Pending if account.cancelled => AttemptEnd::Cancelled,
                outcome => outcome,
            },
            start_ms: span_ms(admitted, self.start),
            end_ms: span_ms(admitted, self.end.unwrap_or(now)),
        }
    }
}

/// How a call ended.
struct Outcome {
    code: u16,
    q850: u8,
    disposition: Disposition,
    hung_up_by: Option<Party>,
    reason: &'static str,
}

impl Outcome {
    fn of(account: &Account, call: &Call<Lease>, why: &'static str) -> Outcome {
        let is_answered = call.answered.is_some();
        let code = if is_answered { 200 } else { account.code };
        let disposition = match code {
            _ if why == LOST => Disposition::Lost,
            _ if is_answered => Disposition::Answered,
            _ if account.cancelled => Disposition::Cancelled,
            300..=399 => Disposition::Redirected,
            _ => match account.refused {
                Some(Counter::RefusedCongested | Counter::RefusedTimedOut) => Disposition::NoAnswer,
                Some(_) => Disposition::Refused,
                None => of_callee(code),
            },
        };
        let hung_up_by = match account.hung_up {
            Some((party, _)) => party,
            None if is_answered || disposition == Disposition::Lost => Party::Node,
            None if account.cancelled => Party::Caller,
            None if account.refused.is_none() && code > 0 => Party::Callee,
            None => Party::Node,
        };
        let cause = match (account.q850, account.hung_up) {
            (0, Some(_)) => NORMAL_CLEARING,
            (0, None) if account.cancelled => NORMAL_CLEARING,
            (0, None) => cause_of(code),
            (cause, _) => cause,
        };
        let reason = match (account.end_reason, account.refused) {
            ("", _) if account.cancelled && !is_answered => "CANCEL",
            ("", Some(counter)) if !is_answered => reason_of(counter),
            ("", _) => why,
            (reason, _) => reason,
        };
        Outcome {
            code,
            q850: cause,
            disposition,
            hung_up_by: Some(hung_up_by),
            reason,
        }
    }
}

/// What a callee's final answer says about a call.
fn of_callee(code: u16) -> Disposition {
    match code {
        486 | 600 => Disposition::Busy,
        408 | 480 | 504 => Disposition::NoAnswer,
        _ => Disposition::Failed,
    }
}

const NORMAL_CLEARING: u8 = 16;

/// The Q.850 cause of an answer that names none, after RFC 3398 section 8.2.6.1.
fn cause_of(code: u16) -> u8 {
    match code {
        401 | 402 | 403 | 407 | 603 => 21,
        404 | 485 | 604 => 1,
        405 | 501 => 63,
        406 | 415 | 420 | 488 | 505 | 606 => 127,
        408 | 504 => 102,
        410 => 22,
        413 | 414 | 416 | 421 | 423 | 513 => 127,
        480 => 18,
        481 | 400 | 500 | 503 => 41,
        482 | 483 => 25,
        484 => 28,
        486 | 600 => 17,
        502 => 38,
        _ => 0,
    }
}

/// From the INVITE to the first sign of the callee, or to the final answer (RFC 6076 section 4.3).
fn setup_delay_ms(account: &Account, call: &Call<Lease>, now: Instant) -> Option<u32> {
    if !call.age_before.is_zero() {
        return None;
    }
    let first = account.ringing.or(call.answered);
    let end = first.or((account.code > 0).then_some(now))?;
    Some(span_ms(call.admitted, end))
}

/// Milliseconds between two moments, as far as they fit.
fn span_ms(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.since(from).as_millis()).unwrap_or(u32::MAX)
}

/// A name by its slot; empty where there is none.
fn name_of(names: &[Box<str>], slot: u16) -> &[u8] {
    names
        .get(usize::from(slot))
        .map_or(&[], |name| name.as_bytes())
}

fn limit_hit(names: &[Box<str>], (slot, kind): (u16, LimitKind)) -> LimitHit<'_> {
    LimitHit {
        name: name_of(names, slot),
        kind,
    }
}

/// User and tag of a From or To value.
fn user_and_tag(value: &[u8]) -> (&[u8], &[u8]) {
    let Ok(parsed) = NameAddr::parse(value) else {
        return (b"", b"");
    };
    let user = Uri::parse(parsed.uri).ok().and_then(|uri| uri.user);
    (user.unwrap_or_default(), parsed.tag().unwrap_or_default())
}

/// The cause in a `Reason: Q.850;cause=16` header (RFC 3326).
fn q850_of(message: &Message<'_>) -> Option<u8> {
    message.values(HeaderId::Reason).find_map(|value| {
        let mut parts = value.bytes.split(|octet| *octet == b';');
        let protocol = parts.next()?.trim_ascii();
        if !protocol.eq_ignore_ascii_case(b"Q.850") {
            return None;
        }
        let cause = parts.find_map(|part| {
            let (name, cause) = part.split_at_checked(part.iter().position(|is| *is == b'=')?)?;
            let is_cause = name.trim_ascii().eq_ignore_ascii_case(b"cause");
            is_cause.then(|| cause[1..].trim_ascii())
        })?;
        core::str::from_utf8(cause).ok()?.parse().ok()
    })
}

fn push(producer: &mut Producer, cdr: &mut Cdr<'_>, metrics: &Metrics) {
    match producer.push(cdr) {
        Ok(pushed) => {
            metrics.count(Counter::CdrsMade);
            if pushed.is_cut {
                metrics.count(Counter::CdrsCut);
            }
        }
        Err(_full) => metrics.count(Counter::CdrsLostRingFull),
    }
}
