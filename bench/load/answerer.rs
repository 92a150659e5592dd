//! The UAS: rings, answers, refuses what the Request-URI asks it to refuse, and sends its final
//! answer again until it is acknowledged (RFC 3261 §13.3.1.4, §17.2).
//!
//! A call's place in the table is its To tag. Ended calls stay for 32 s, so that a late copy of an
//! INVITE is no new call and a late copy of a BYE gets its 200.

use core::net::SocketAddr;

use callgate::base::{ByteStore, Cursor, Handle, HashKey, Index, Key, Random, Slab, TimerId};
use callgate::net::{Flow, ListenerId};
use callgate::sip::{HeaderId, Message, Method, Scratch, Uri, Via, parse, reply_address};

use crate::desk::{Desk, Due, Resend, key_of, number_of};
use crate::linger::Linger;
use crate::plan::Plan;
use crate::reply::{Reply, Stamp};
use crate::span::Span;
use crate::template::read_hex;
use crate::wording::session;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// 180 is sent; the INVITE is kept for the final answer.
    Ringing,
    /// 200 is sent and not acknowledged.
    Answered,
    /// 486 or 487 is sent and not acknowledged.
    Refused,
    /// Acknowledged 200.
    Up,
    /// Nothing more is to come.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Answer,
    Busy,
    RingForEver,
}

#[derive(Debug)]
struct Leg {
    state: State,
    /// Of Call-ID, From tag and branch: an INVITE, its copies and its CANCEL share it.
    hash: u64,
    call_id_hash: u32,
    timer: TimerId,
    resend: Resend,
    source: SocketAddr,
    reply_to: SocketAddr,
    listener: ListenerId,
    /// The INVITE while it rings, then the final answer until it is acknowledged.
    kept: Handle,
}

/// The calls that one thread answers.
pub struct Answerer {
    ring: Span,
    legs: Slab<Leg>,
    index: Index,
    hash: HashKey,
    kept: ByteStore,
    linger: Linger,
    random: Random,
    /// For kept messages; taken out while one is read.
    scratch: Option<Scratch>,
    stamp: Stamp,
    /// Contact field by listener, with its line end.
    contact: Vec<String>,
    session: String,
    /// Calls not yet acknowledged or ended.
    pending: usize,
    ended: u64,
}

/// Octets kept per call that is not acknowledged. Most are at once, so a share of the table is
/// enough; without room a lost 200 is not sent again, and counted.
const KEPT_BYTES: usize = 1024;
const KEPT_SHARE: usize = 4;

/// Header fields of the longest request.
const FIELDS_MAX: usize = 64;

impl Answerer {
    /// A callee at these addresses, by listener.
    pub fn new(plan: &Plan, locals: &[SocketAddr], mut random: Random) -> Answerer {
        let table = plan.table_each();
        let contact = locals
            .iter()
            .map(|local| format!("Contact: <sip:load@{local}>\r\n"));
        Answerer {
            ring: plan.ring,
            legs: Slab::new(table),
            index: Index::new(table),
            hash: HashKey::new([random.next_u64(), random.next_u64()]),
            kept: ByteStore::new((table / KEPT_SHARE).max(4096) * KEPT_BYTES),
            linger: Linger::new(table),
            random,
            scratch: Some(Scratch::new(FIELDS_MAX)),
            stamp: Stamp::default(),
            contact: contact.collect(),
            session: locals
                .last()
                .map(|local| session(*local))
                .unwrap_or_default(),
            pending: 0,
            ended: 0,
        }
    }

    /// Calls whose ACK, answer or BYE is still to come.
    pub fn busy(&self) -> usize {
        self.pending
    }

    /// Calls that have ended.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Takes a request.
    pub fn on_request(&mut self, desk: &mut Desk<'_>, from: Flow, request: &Message<'_>) {
        let Ok(via) = request.top_via() else {
            desk.tally.counts.malformed += 1;
            return;
        };
        let context = Context {
            from,
            reply_to: reply_address(&via, from.remote),
            request: *request,
            via,
        };
        match (request.method(), request.to_tag()) {
            (Method::Ack, Some(tag)) => self.on_ack(desk, &context, tag),
            (Method::Ack, None) => {}
            (Method::Invite, None) => self.on_invite(desk, &context),
            (Method::Cancel, _) => self.on_cancel(desk, &context),
            (Method::Bye, Some(tag)) => self.on_bye(desk, &context, tag),
            (Method::Options | Method::Register, _) => {
                desk.tally.counts.requests_received += 1;
                self.answer_plainly(desk, &context, 200);
            }
            (Method::Invite | Method::Bye, _) => {
                desk.tally.counts.unknown_dialog += 1;
                self.answer_plainly(desk, &context, 481);
            }
            _ => {
                desk.tally.counts.unknown_method += 1;
                self.answer_plainly(desk, &context, 405);
            }
        }
    }

    /// An answer without a dialog of ours.
    pub fn answer_plainly(&mut self, desk: &mut Desk<'_>, context: &Context<'_>, status: u16) {
        self.stamp.of(context.from.remote);
        let reply = Reply {
            status,
            tag: None,
            contact: match (status, context.request.method()) {
                (200, Method::Options) => self.contact_of(context.from.listener),
                // A registrar lists what is bound: here, what the request says.
                (200, Method::Register) => bindings(&context.request),
                _ => b"",
            },
            session: b"",
        };
        let (listener, to) = (context.from.listener, context.reply_to);
        desk.send(listener, to, |out| {
            reply.write(out, &context.request, &context.via, &self.stamp);
        });
    }

    fn contact_of(&self, listener: ListenerId) -> &[u8] {
        let line = self.contact.get(usize::from(listener.0));
        line.map_or(b"", |line| line.as_bytes())
    }

    // INVITE.

    fn on_invite(&mut self, desk: &mut Desk<'_>, context: &Context<'_>) {
        let hash = self.hash_of(context);
        if let Some(key) = self.find(hash) {
            desk.tally.counts.invites_received_again += 1;
            return self.on_invite_again(desk, context, key);
        }
        desk.tally.counts.invites_received += 1;
        let Some(key) = self.open(desk, context, hash) else {
            desk.tally.counts.calls_refused_by_callee += 1;
            return self.answer_plainly(desk, context, 500);
        };
        self.index.insert(hash, key.index);
        self.pending += 1;
        match wish(&context.request) {
            Wish::Busy => self.finish(desk, context, key, 486),
            Wish::Answer => {
                desk.tally.counts.ringing_sent += 1;
                self.reply(desk, context, key, 180);
                let ring = self.ring.draw(&mut self.random);
                if ring.is_zero() {
                    self.finish(desk, context, key, 200);
                } else {
                    self.keep_ringing(desk, context, key, Some(ring));
                }
            }
            Wish::RingForEver => {
                desk.tally.counts.ringing_sent += 1;
                self.reply(desk, context, key, 180);
                self.keep_ringing(desk, context, key, None);
            }
        }
    }

    fn open(&mut self, desk: &mut Desk<'_>, context: &Context<'_>, hash: u64) -> Option<Key> {
        if self.legs.len() == self.legs.capacity() {
            let oldest = self.linger.pop_oldest()?;
            self.forget(oldest);
            desk.tally.counts.lingering_cut += 1;
        }
        let leg = Leg {
            state: State::Ringing,
            hash,
            call_id_hash: self.hash.hash(context.request.call_id()) as u32,
            timer: TimerId::NONE,
            resend: Resend::default(),
            source: context.from.remote,
            reply_to: context.reply_to,
            listener: context.from.listener,
            kept: Handle::default(),
        };
        self.legs.insert(leg).ok()
    }

    /// Keeps the INVITE for the final answer; without room nobody will ever answer it.
    fn keep_ringing(
        &mut self,
        desk: &mut Desk<'_>,
        context: &Context<'_>,
        key: Key,
        ring: Option<core::time::Duration>,
    ) {
        let Some(leg) = self.legs.get_mut(key) else {
            return;
        };
        match self.kept.store(context.request.bytes()) {
            Some(kept) => leg.kept = kept,
            None => desk.tally.counts.store_full += 1,
        }
        if let Some(ring) = ring {
            let at = desk.now + ring;
            desk.arm(&mut leg.timer, at, Due::Callee(key));
        }
    }

    fn on_invite_again(&mut self, desk: &mut Desk<'_>, context: &Context<'_>, key: Key) {
        let Some(leg) = self.legs.get(key) else {
            return;
        };
        match leg.state {
            State::Ringing => self.reply(desk, context, key, 180),
            State::Answered | State::Refused => {
                desk.resend(leg.listener, leg.reply_to, self.kept.get(leg.kept));
            }
            State::Up | State::Over => {}
        }
    }

    fn reply(&mut self, desk: &mut Desk<'_>, context: &Context<'_>, key: Key, status: u16) {
        self.stamp.of(context.from.remote);
        desk.send(context.from.listener, context.reply_to, |out| {
            self.compose(out, context, key, status);
        });
    }

    fn compose(&self, out: &mut Cursor<'_>, context: &Context<'_>, key: Key, status: u16) {
        let is_session = status == 200;
        let reply = Reply {
            status,
            tag: Some(number_of(key)),
            contact: self.contact_of(context.from.listener),
            session: if is_session {
                self.session.as_bytes()
            } else {
                b""
            },
        };
        reply.write(out, &context.request, &context.via, &self.stamp);
    }

    /// Sends the final answer, keeps it, and waits for the ACK.
    fn finish(&mut self, desk: &mut Desk<'_>, context: &Context<'_>, key: Key, status: u16) {
        self.stamp.of(context.from.remote);
        let to = Flow::udp(context.from.listener, context.reply_to);
        let mut kept = None;
        let written = desk.out.write(to, |out| {
            self.compose(out, context, key, status);
        });
        if let Ok(bytes) = written {
            kept = self.kept.store(bytes);
        } else {
            desk.tally.counts.outbox_full += 1;
        }
        desk.tally.counts.store_full += u64::from(kept.is_none());
        let Some(leg) = self.legs.get_mut(key) else {
            return;
        };
        self.kept.free(leg.kept);
        leg.kept = kept.unwrap_or_default();
        leg.resend = Resend::other(desk.now);
        let due = leg.resend.due(desk.now);
        desk.arm(&mut leg.timer, due, Due::Callee(key));
        let counts = &mut desk.tally.counts;
        if status < 300 {
            leg.state = State::Answered;
            counts.answers_sent += 1;
        } else {
            leg.state = State::Refused;
            counts.refusals_sent += 1;
        }
    }

    /// Sends the final answer to an INVITE that is kept.
    fn finish_kept(&mut self, desk: &mut Desk<'_>, key: Key, status: u16) {
        let Some(leg) = self.legs.get(key) else {
            return;
        };
        let mut invite = [0; INVITE_MAX];
        let bytes = self.kept.get(leg.kept);
        let Some(copy) = invite.get_mut(..bytes.len()) else {
            return;
        };
        copy.copy_from_slice(bytes);
        let from = Flow::udp(leg.listener, leg.source);
        let reply_to = leg.reply_to;
        let Some(mut scratch) = self.scratch.take() else {
            return;
        };
        if let Ok(request) = parse(copy, &mut scratch)
            && let Ok(via) = request.top_via()
        {
            let context = Context {
                from,
                reply_to,
                request,
                via,
            };
            self.finish(desk, &context, key, status);
        }
        self.scratch = Some(scratch);
    }

    // What follows.

    fn on_ack(&mut self, desk: &mut Desk<'_>, context: &Context<'_>, tag: &[u8]) {
        let key = self.find_by_tag(tag, &context.request);
        let Some(leg) = key.and_then(|key| self.legs.get_mut(key)) else {
            return;
        };
        let next = match leg.state {
            State::Answered => State::Up,
            State::Refused => State::Over,
            State::Ringing | State::Up | State::Over => {
                desk.tally.counts.acks_received_again += 1;
                return;
            }
        };
        desk.tally.counts.acks_received += 1;
        desk.wheel.cancel(leg.timer);
        self.kept.free(leg.kept);
        leg.kept = Handle::default();
        leg.state = next;
        if let (State::Over, Some(key)) = (next, key) {
            self.retire(desk, key);
        }
    }

    fn on_bye(&mut self, desk: &mut Desk<'_>, context: &Context<'_>, tag: &[u8]) {
        let Some(key) = self.find_by_tag(tag, &context.request) else {
            desk.tally.counts.unknown_dialog += 1;
            return self.answer_plainly(desk, context, 481);
        };
        self.answer_plainly(desk, context, 200);
        let Some(leg) = self.legs.get_mut(key) else {
            return;
        };
        match leg.state {
            // An ACK that was lost or overtaken makes no difference to the end.
            State::Up | State::Answered | State::Ringing | State::Refused => {
                desk.tally.counts.byes_received += 1;
                desk.wheel.cancel(leg.timer);
                self.kept.free(leg.kept);
                leg.kept = Handle::default();
                leg.state = State::Over;
                self.retire(desk, key);
            }
            State::Over => desk.tally.counts.byes_received_again += 1,
        }
    }

    //= rfc3261#9.2
    fn on_cancel(&mut self, desk: &mut Desk<'_>, context: &Context<'_>) {
        desk.tally.counts.cancels_received += 1;
        let Some(key) = self.find(self.hash_of(context)) else {
            desk.tally.counts.unknown_dialog += 1;
            return self.answer_plainly(desk, context, 481);
        };
        self.answer_plainly(desk, context, 200);
        if self
            .legs
            .get(key)
            .is_some_and(|leg| leg.state == State::Ringing)
        {
            self.finish_kept(desk, key, 487);
        }
    }

    /// A call's timer has fired.
    pub fn on_timer(&mut self, desk: &mut Desk<'_>, key: Key) {
        let Some(leg) = self.legs.get_mut(key) else {
            return;
        };
        leg.timer = TimerId::NONE;
        match leg.state {
            State::Ringing => self.finish_kept(desk, key, 200),
            State::Answered | State::Refused if leg.resend.is_over(desk.now) => {
                desk.tally.counts.answers_unacknowledged += 1;
                self.kept.free(leg.kept);
                leg.kept = Handle::default();
                leg.state = State::Over;
                self.retire(desk, key);
            }
            State::Answered | State::Refused => {
                let counts = &mut desk.tally.counts;
                *if leg.state == State::Answered {
                    &mut counts.answers_resent
                } else {
                    &mut counts.refusals_resent
                } += 1;
                leg.resend.lengthen();
                let due = leg.resend.due(desk.now);
                desk.arm(&mut leg.timer, due, Due::Callee(key));
                desk.resend(leg.listener, leg.reply_to, self.kept.get(leg.kept));
            }
            State::Up | State::Over => {}
        }
    }

    // The table.

    fn hash_of(&self, context: &Context<'_>) -> u64 {
        let mut hasher = self.hash.hasher();
        hasher.write(context.request.call_id());
        hasher.write(context.request.from_tag().unwrap_or_default());
        hasher.write(context.via.branch.unwrap_or_default());
        hasher.finish()
    }

    fn find(&self, hash: u64) -> Option<Key> {
        let is_it = |index| self.legs.at(index).is_some_and(|leg| leg.hash == hash);
        self.index
            .find(hash, is_it)
            .and_then(|index| self.legs.key_at(index))
    }

    fn find_by_tag(&self, tag: &[u8], request: &Message<'_>) -> Option<Key> {
        let key = key_of(read_hex(tag)?);
        let leg = self.legs.get(key)?;
        (leg.call_id_hash == self.hash.hash(request.call_id()) as u32).then_some(key)
    }

    fn retire(&mut self, desk: &mut Desk<'_>, key: Key) {
        self.pending -= 1;
        self.ended += 1;
        self.linger.keep(desk.now, key);
    }

    fn forget(&mut self, key: Key) {
        if let Some(leg) = self.legs.remove(key) {
            self.index.remove(leg.hash, |index| index == key.index);
        }
    }

    /// Forgets calls that nothing can come for any more.
    pub fn sweep(&mut self, now: callgate::base::Instant) {
        while let Some(key) = self.linger.pop_over(now) {
            self.forget(key);
        }
    }
}

/// A request with what was read of it.
pub struct Context<'a> {
    pub from: Flow,
    pub reply_to: SocketAddr,
    pub request: Message<'a>,
    pub via: Via<'a>,
}

/// The Contact field of a REGISTER, with its line end.
fn bindings<'a>(request: &Message<'a>) -> &'a [u8] {
    let field = request.field(HeaderId::Contact);
    field.map_or(b"", |field| &request.bytes()[field.line()])
}

/// A larger INVITE cannot ring: it is answered at once or never.
const INVITE_MAX: usize = 8192;

/// What the Request-URI asks for, by the end of its user part.
fn wish(request: &Message<'_>) -> Wish {
    let user = Uri::parse(request.request_uri())
        .ok()
        .and_then(|uri| uri.user);
    match user {
        Some(user) if user.ends_with(b"-busy") => Wish::Busy,
        Some(user) if user.ends_with(b"-ring") => Wish::RingForEver,
        _ => Wish::Answer,
    }
}
