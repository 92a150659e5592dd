//! What a call's detail record needs beyond the call itself, from its admission to its end, and the
//! record that is made of it. `docs/cdr.md` says what the fields mean.
//!
//! The other files of the shard tell what happened by one line each; without a ring to write to, all
//! of this does nothing. Nothing here allocates once the shard runs.

mod record;

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::Shard;
use super::refusal::Refusal;
use crate::base::Instant;
use crate::base::slab::{Key, Slab};
use crate::cdr::{ATTEMPTS_MAX, AttemptEnd, LimitKind, Party, Producer, Ring};
use crate::dialog::{CallKey, Side};
use crate::limit::{Refused, Why};
use crate::metrics::Counter;
use crate::route;
use crate::sip::{HeaderId, Message};

pub(super) use record::LOST;

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
        (account.generation == key.0.generation.get()).then_some(account)
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
        start_us.saturating_add_signed(moment.offset_us())
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

    /// Octets that the account of one call takes, for the memory budget.
    pub const fn octets_of_an_account() -> usize {
        size_of::<Account>() + size_of::<Made>() * 5 / 4
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
                generation: key.0.generation.get(),
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
