//! How calls are confirmed and how they end. `end_call` is the one place where a lease goes back.

use core::time::Duration;

use super::Shard;
use super::branch::{self, Branch};
use super::journal::Step;
use super::next_hop::uri_address;
use super::refusal::Refusal;
use super::relay::{Attempt, Setup};
use super::session_timer::{asked, lists};
use super::setup::{contact_uri, routes_to_callee};
use crate::base::{Cursor, Instant};
use crate::dialog::session::{self, Granted};
use crate::dialog::{CallKey, ForkKey, Part, Phase, Side, Words};
use crate::metrics::{Counter, Leg, TrunkCounter};
use crate::net::Outbox;
use crate::sip::{HeaderId, Message, Method, NameAddr, Uri, top_level_comma};
use crate::transaction::ServerId;

impl Shard {
    /// Ends a call: forgets its dialogs, stops its timers and gives its leases back. Every way in
    /// which a call can end leads here; ending twice is harmless.
    pub(super) fn end_call(&mut self, key: CallKey, why: &'static str) {
        self.note_call(key, Step::Ended { why });
        self.account_closed(key, why);
        let set_up = self.calls.end_set_up(key);
        let Some(call) = self.calls.end(key) else {
            return;
        };
        self.strike(call.record);
        self.strike_setup(set_up.and_then(|kept| kept.record));
        for kept in [call.lease_in, call.lease_out].into_iter().flatten() {
            self.shared.limits.give_back(self.leases.take(kept));
        }
        self.metrics.count(Counter::CallsEnded);
    }

    /// A BYE was answered, or never will be: the call ends unless another fork of it is talking.
    pub(super) fn end_fork(&mut self, key: CallKey, fork: ForkKey) {
        if let Some(fork) = self.calls.fork_mut(fork) {
            fork.ended = true;
        }
        self.end_when_silent(key);
        self.record(key);
    }

    /// Ends an answered call none of whose forks is talking. A call that rings is ended by the
    /// final answer to its INVITE, whatever became of its early dialogs.
    fn end_when_silent(&mut self, key: CallKey) {
        let is_answered = self
            .calls
            .call(key)
            .is_some_and(|call| call.phase != Phase::Ringing);
        if is_answered && !self.calls.is_talking(key) {
            self.session_completed(key);
            self.end_call(key, "BYE");
        } else {
            self.account_goes_on(key);
        }
    }

    /// A 2xx was received: the fork is confirmed, and with the first one the call is answered.
    pub(super) fn confirm(
        &mut self,
        now: Instant,
        server: ServerId,
        setup: &Setup,
        message: &Message<'_>,
    ) {
        let tag = self.secret.hash(message.to_tag().unwrap_or_default());
        // Full: sixteen other forks were answered; a BYE to one of them ends what is counted.
        let known = self.calls.confirm_fork(setup.call, tag).ok();
        // A BYE that overtook its 2xx is under way.
        let is_hung_up = known
            .and_then(|fork| self.calls.fork(fork))
            .is_some_and(|fork| fork.hung_up);
        let Some(call) = self.calls.call_mut(setup.call) else {
            return;
        };
        if call.answered.is_some() {
            return self.record(setup.call);
        }
        self.session_indicated(now, setup);
        self.session_answered(setup);
        let Some(call) = self.calls.call_mut(setup.call) else {
            return;
        };
        call.answered = Some(now);
        call.phase = match is_hung_up {
            true => Phase::Ending,
            false => Phase::Answered,
        };
        self.account_final(now, setup.call, message);
        self.metrics.count(Counter::CallsAnswered);
        self.metrics
            .count_trunk(setup.trunk_in, TrunkCounter::AnsweredIn);
        if let Some(slot) = setup.trunk_out {
            self.metrics.count_trunk(slot, TrunkCounter::AnsweredOut);
        }
        self.keep_callee(setup.call, message);
        self.arm_call_time(now, setup);
        let granted = self.granted(server, message);
        self.refresh_session(now, setup.call, granted);
        let set_up = self.calls.end_set_up(setup.call);
        self.strike_setup(set_up.and_then(|kept| kept.record));
        self.end_when_silent(setup.call);
    }

    /// What the callee's 2xx says that outlives it.
    fn keep_callee(&mut self, key: CallKey, message: &Message<'_>) {
        let nonce = self.calls.call(key).map(|call| call.nonce);
        // Of this passage: in a spiral the entries of a later one stand in front of it.
        let own = message.values(HeaderId::RecordRoute).position(|value| {
            let route = message.address_uri(&value);
            let uri = route.and_then(|(_, uri)| uri);
            let own = uri.and_then(|uri| self.own_route(message, &uri));
            let cookie = own.and_then(|own| own.cookie);
            cookie.map(|cookie| cookie.nonce) == nonce && nonce.is_some()
        });
        let mut routes = [0u8; 1024];
        let routes = routes_to_callee(message, own.unwrap_or(0), &mut routes);
        let to = message.value(HeaderId::To).unwrap_or_default();
        let contact = contact_uri(message);
        let parts = [
            (Part::To, to),
            (Part::CalleeContact, contact),
            (Part::CalleeRoute, routes),
        ];
        if !self.calls.keep_texts(key, &parts) {
            self.metrics.count(Counter::TextsNotKept);
        }
    }

    /// The shorter `call_time_max` of the call's two trunks.
    fn arm_call_time(&mut self, now: Instant, setup: &Setup) {
        let of = |slot| self.trunk_at(slot).and_then(|trunk| trunk.call_time_max);
        let span = [of(setup.trunk_in), setup.trunk_out.and_then(of)]
            .into_iter()
            .flatten()
            .min();
        let Some(span) = span else { return };
        self.calls.set_call_time_due(setup.call, Some(now + span));
    }

    /// What a 2xx grants as session interval.
    pub(super) fn granted(&self, server: ServerId, message: &Message<'_>) -> Granted {
        let Some(relay) = self.transactions.server_user(server) else {
            return Granted::None;
        };
        session::response(
            asked(message).session_expires_s,
            relay.session_sent_s,
            relay.caller_knows_timers,
        )
    }

    /// Starts the session timer again, or stops it where nothing was granted. What an UPDATE grants
    /// while the phone rings is no session yet.
    //= rfc4028#8.2
    pub(super) fn refresh_session(&mut self, now: Instant, key: CallKey, granted: Granted) {
        let is_answered = self
            .calls
            .call(key)
            .is_some_and(|call| call.answered.is_some());
        if !is_answered {
            return;
        }
        // A callee that grants a second would have its lease back while it talks.
        let at_least = |seconds: u32| seconds.max(session::INTERVAL_MIN_S);
        let interval_s = match granted {
            Granted::None => None,
            Granted::Seconds(seconds) | Granted::Insert(seconds) => Some(at_least(seconds)),
        };
        let due = interval_s.map(|seconds| now + Duration::from_secs(u64::from(seconds)));
        self.calls.set_session_due(key, due);
        self.record(key);
    }

    /// A 2xx to a caller who asked for session timers, from a callee who knows none.
    pub(super) fn splice_granted(&mut self, server: ServerId, message: &Message<'_>) {
        let refreshes = matches!(message.method(), Method::Invite | Method::Update);
        if message.status() / 100 != 2 || !refreshes {
            return;
        }
        let Granted::Insert(seconds) = self.granted(server, message) else {
            return;
        };
        self.edit.append_field(message, "Session-Expires", |out| {
            out.put_decimal(u64::from(seconds));
            out.put(b";refresher=uac");
        });
        match message.field(HeaderId::Require) {
            Some(_) if lists(message, HeaderId::Require, b"timer") => {}
            Some(require) => self.edit.insert(require.value_range().end, b", timer"),
            None => self
                .edit
                .append_field(message, "Require", |out| out.put(b"timer")),
        }
    }

    /// Ends a call from our side: BYE to both ends, or CANCEL and a final answer while it rings.
    pub(super) fn hang_up(&mut self, now: Instant, key: CallKey, cause: &[u8], out: &mut Outbox) {
        let Some(call) = self.calls.call(key) else {
            return;
        };
        match call.phase {
            Phase::Ringing => {
                if let Some(server) = self.calls.set_up(key).and_then(|kept| kept.invite) {
                    self.stop_ringing(now, server, out);
                }
            }
            Phase::Answered | Phase::Ending => {
                self.send_bye(now, key, Side::Callee, cause, out);
                self.send_bye(now, key, Side::Caller, cause, out);
            }
        }
        self.end_call(key, "by this node");
    }

    fn stop_ringing(&mut self, now: Instant, server: ServerId, out: &mut Outbox) {
        self.give_up_attempt(now, server, out);
        let refusal = Refusal::new(480, Counter::RefusedByOperator).because("Ended By Operator");
        self.with_request(server, |shard, message| {
            if let Some(setup) = shard
                .setup_of(server)
                .filter(|_| shard.is_pending_setup(server))
            {
                shard.session_ended(setup.trunk_out, Leg::Out, 487);
                shard.fail_setup(now, server, &setup, message, refusal, out);
            }
        });
    }

    /// A BYE of ours to one end, as if the other end had sent it.
    fn send_bye(
        &mut self,
        now: Instant,
        key: CallKey,
        towards: Side,
        cause: &[u8],
        out: &mut Outbox,
    ) {
        let Some(call) = self.calls.call(key) else {
            return;
        };
        let (target, routes, learned) = match towards {
            Side::Callee => (
                Part::CalleeContact,
                Part::CalleeRoute,
                self.calls.callee(call),
            ),
            Side::Caller => (
                Part::CallerContact,
                Part::CallerRoute,
                self.calls.caller(call),
            ),
        };
        let (from, to) = match towards {
            Side::Callee => (Part::From, Part::To),
            Side::Caller => (Part::To, Part::From),
        };
        let kept = self.calls.words(key);
        let words = |part| kept.word(part);
        let route_uri = NameAddr::parse(words(routes)).ok().map(|route| route.uri);
        let hop = Uri::parse(route_uri.unwrap_or(words(target))).ok();
        let literal = hop
            .and_then(|uri| uri_address(&uri))
            .and_then(|address| self.flow_to(address));
        let is_known = !words(target).is_empty() && names_its_dialog(&kept);
        let Some(to_flow) = literal.or(learned).filter(|_| is_known) else {
            return;
        };
        let number = self.next_cseq(key, words(Part::To), towards.other());
        let nonce = self.random.next_u64() as u32;
        let branch = Branch {
            token: branch::token(&self.secret, nonce, self.secret.hash(words(Part::CallId))),
            loop_check: 0,
        };
        let bye = Bye {
            shard: self,
            kept: &kept,
            target,
            routes,
            from,
            to,
            number,
            branch,
            cause,
        };
        let mut scrap = [0u8; 8192];
        let mut cursor = Cursor::new(&mut scrap);
        bye.put(to_flow, &mut cursor);
        if cursor.overflowed() {
            return self.metrics.count(Counter::TextsNotKept);
        }
        let text = cursor.written();
        let sent = self.transactions.send(
            now,
            branch.token,
            Method::Bye,
            to_flow,
            Attempt::Bye,
            |out| out.put(text),
            out,
        );
        self.count_sent(sent.is_ok());
    }

    /// One more than the highest CSeq that `side` has sent.
    fn next_cseq(&self, key: CallKey, to: &[u8], side: Side) -> u32 {
        // The fork that the kept To names, which the BYE is for.
        let to = NameAddr::parse(to).ok();
        let tag = to.as_ref().and_then(NameAddr::tag).unwrap_or_default();
        let fork = self.calls.fork_of(key, self.secret.hash(tag));
        let highest = fork.and_then(|fork| fork.cseq(side));
        //= rfc3261#8.1.1.5
        (highest.unwrap_or(0) + 1).min(CSEQ_MAX)
    }
}

/// Whether all that names the dialog was kept: a BYE without it would be nobody's.
fn names_its_dialog(kept: &Words) -> bool {
    let is_tagged =
        |part| NameAddr::parse(kept.word(part)).is_ok_and(|value| value.tag().is_some());
    !kept.word(Part::CallId).is_empty() && is_tagged(Part::From) && is_tagged(Part::To)
}

/// The words of a BYE of ours.
struct Bye<'s> {
    shard: &'s Shard,
    kept: &'s Words,
    target: Part,
    routes: Part,
    from: Part,
    to: Part,
    number: u32,
    branch: Branch,
    cause: &'s [u8],
}

impl Bye<'_> {
    //= rfc3261#15.1.1
    fn put(&self, to: crate::net::Flow, out: &mut Cursor<'_>) {
        let words = |part| self.kept.word(part);
        let (request_uri, rest) = around_strict_router(words(self.target), words(self.routes));
        out.put(b"BYE ");
        out.put(request_uri);
        out.put(b" SIP/2.0\r\nVia: SIP/2.0/UDP ");
        self.shard.put_sent_by(to.listener, out);
        out.put(b";branch=");
        self.branch.put(out);
        out.put(b"\r\nMax-Forwards: 70\r\n");
        if !rest.is_empty() {
            put_line(out, b"Route: ", rest);
        }
        if request_uri != words(self.target) {
            out.put(b"Route: <");
            out.put(words(self.target));
            out.put(b">\r\n");
        }
        put_line(out, b"From: ", words(self.from));
        put_line(out, b"To: ", words(self.to));
        put_line(out, b"Call-ID: ", words(Part::CallId));
        out.put(b"CSeq: ");
        out.put_decimal(u64::from(self.number));
        out.put(b" BYE\r\n");
        put_line(out, b"Reason: ", self.cause);
        out.put(b"Content-Length: 0\r\n\r\n");
    }
}

/// The Request-URI and the Route values of a request to `target` by this route set; where the first
/// router is a strict one, its URI is the Request-URI and the target goes behind the last Route.
//= rfc3261#12.2.1.1
fn around_strict_router<'t>(target: &'t [u8], routes: &'t [u8]) -> (&'t [u8], &'t [u8]) {
    let Ok(first) = NameAddr::parse(routes) else {
        return (target, routes);
    };
    if routes.is_empty() || Uri::parse(first.uri).is_ok_and(|uri| uri.is_lr()) {
        return (target, routes);
    }
    let rest = top_level_comma(routes, first.uri_range.end + 1);
    let rest = rest.and_then(|comma| routes.get(comma + 1..));
    (first.uri, rest.unwrap_or_default().trim_ascii())
}

/// CSeq numbers are less than 2^31.
const CSEQ_MAX: u32 = (1 << 31) - 1;

fn put_line(out: &mut Cursor<'_>, name: &[u8], value: &[u8]) {
    out.put(name);
    out.put(value);
    out.put(b"\r\n");
}
