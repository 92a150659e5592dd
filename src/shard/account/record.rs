//! The record that is made of a call and its account when it is over, however it ends.

use super::{Account, Accounts, Made};
use crate::base::{HashKey, Instant};
use crate::cdr::{
    ATTEMPTS_MAX, AttemptEnd, AttemptRecord, Cdr, Disposition, LimitHit, LimitKind, Party, Producer,
};
use crate::dialog::store::{Record, SetupRecord};
use crate::dialog::{Call, CallKey, Part};
use crate::limit::KeptLease;
use crate::metrics::{Counter, Metrics};
use crate::shard::Shard;
use crate::shard::journal::reason_of;
use crate::shard::refusal::Refusal;
use crate::shard::request::Incoming;
use crate::sip::{HeaderId, Message, Method, NameAddr, Uri};

impl Shard {
    /// Writes the record of a call that is about to end.
    pub(in crate::shard) fn account_closed(&mut self, key: CallKey, why: &'static str) {
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
        let kept = self.calls.words(key);
        let words = |part| kept.word(part);
        let Accounts {
            producer,
            names,
            wall,
            ..
        } = &mut **accounts;
        let ended = account.hung_up.map_or(now, |(_, at)| at);
        let talk = call.answered.map(|answered| ended.since(answered));
        let (from_user, from_tag) = user_and_tag(words(Part::From));
        let (to_user, to_tag) = user_and_tag(words(Part::To));
        let outcome = Outcome::of(&account, call, why);
        let mut cdr = Cdr {
            start_id: wall.start_id,
            shard: self.id,
            attempt_id: attempt_id(
                &self.secret,
                call.call_id(),
                call.caller_tag(),
                u64::from(call.nonce),
            ),
            start_us: wall.us(call.admitted),
            ringing_us: account.ringing.map(|at| wall.us(at)),
            answer_us: call.answered.map(|at| wall.us(at)),
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
            resumed: call.restored,
            caller: self.calls.caller(call).map(|caller| caller.remote),
            callee: self.calls.callee(call).map(|callee| callee.remote),
            trunk_in: name_of(names, call.trunk_in),
            trunk_out: call.trunk_out().map_or(&[], |slot| name_of(names, slot)),
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
        if cdr.resumed && cdr.attempts_len == 0 && call.trunk_out().is_some() {
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
    pub(in crate::shard) fn account_turned_away(
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
    pub(in crate::shard) fn account_lost(&mut self, now: Instant, record: &Record<'_>) {
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
    pub(in crate::shard) fn account_lost_setup(
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
    pub(in crate::shard) fn account_left(&mut self, key: CallKey) {
        let is_recorded = self
            .calls
            .call(key)
            .is_some_and(|call| call.record.is_some());
        let set_up = self.calls.set_up(key);
        let is_recorded = is_recorded || set_up.is_some_and(|kept| kept.record.is_some());
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
pub(in crate::shard) const LOST: &str = "its shard went out of service";

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
    fn of(account: &Account, call: &Call<KeptLease>, why: &'static str) -> Outcome {
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
fn setup_delay_ms(account: &Account, call: &Call<KeptLease>, now: Instant) -> Option<u32> {
    if call.restored {
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
