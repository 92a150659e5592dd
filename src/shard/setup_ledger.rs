//! Calls that are being set up, on their way into the store that outlives the shard, and back.
//!
//! A call is recorded before its INVITE leaves, and again with each attempt, with the first
//! provisional answer and with a CANCEL; it is struck when it is answered (`ledger` has it then) or
//! has ended. What is restored are both transactions of the attempt under way: the INVITE that was
//! sent is made again, octet for octet where the configuration is the same, so that the callee
//! takes ours for the one that it has.

use core::net::SocketAddr;

use super::Shard;
use super::branch::Branch;
use super::cookie::Cookie;
use super::forward::Forwarding;
use super::ledger::{Ledger, Restoring, end_of, name_of};
use super::relay::{Alarm, Attempt, Destination, Passed, Purpose, Relay, Setup};
use super::request::Incoming;
use crate::base::{Cursor, Instant};
use crate::dialog::store::{SetupPosition, SetupRecord, Taken};
use crate::dialog::{Call, Phase};
use crate::metrics::Counter;
use crate::net::{Flow, Outbox};
use crate::route::health::auto_congest;
use crate::sip::{self, Message, Method, compose, reply_address, validate_request};
use crate::transaction::{ClientId, Role, ServerId};

impl Shard {
    /// Records a call that is being set up as it is at this moment.
    pub(super) fn record_setup(&mut self, server: ServerId) {
        let Some(Ledger {
            store, wall, names, ..
        }) = &mut self.ledger
        else {
            return;
        };
        let Some(relay) = self.transactions.server_user(server) else {
            return;
        };
        let Purpose::Setup(setup) = relay.purpose else {
            return;
        };
        let callee = relay
            .client
            .and_then(|it| self.transactions.client_flow(it));
        let call = self.calls.call(setup.call);
        let call = call.filter(|call| call.phase == Phase::Ringing);
        let (Some(callee), Some(call)) = (callee, call) else {
            return;
        };
        let (to, to_is_group) = match setup.to {
            Destination::Trunk(slot) => (slot, false),
            Destination::Group(slot) => (slot, true),
        };
        let record = SetupRecord {
            owner: call.owner(),
            nonce: call.nonce,
            admitted_us: wall.at(call.admitted),
            token: relay.token,
            loop_check: relay.loop_check,
            tried: setup.tried,
            addresses_tried: setup.addresses_tried,
            address_index: setup.address_index,
            provisional: relay.provisional,
            cancelled: relay.cancelled,
            rang_out: relay.rang_out,
            passed: setup.passed.bits(),
            cps_retry_after_s: setup.passed.cps_retry_after_s,
            over_limit: setup.passed.over_limit,
            caller: end_of(&self.plan.listeners, relay.from),
            callee: end_of(&self.plan.listeners, callee),
            trunk_in: name_of(names, setup.trunk_in),
            trunk_out: setup.trunk_out.map_or(&[], |slot| name_of(names, slot)),
            to: name_of(names, to),
            to_is_group,
            invite: self.requests.get(relay.request),
        };
        let tried = setup
            .tried
            .count_ones()
            .max(setup.addresses_tried.count_ones());
        // Once for a call: with its first attempt, as long as nothing has become of that.
        let is_first = tried == 1 && !relay.provisional && !relay.cancelled;
        let earlier = self.calls.set_up(setup.call).and_then(|kept| kept.record);
        if let Some(written) = store.write_setup(earlier, &record) {
            if let Some(kept) = self.calls.set_up_mut(setup.call) {
                kept.record = Some(written);
            }
        } else if is_first {
            self.metrics.count(Counter::SetupsNotRecorded);
        }
    }

    /// Strikes the record of a call that is set up or has ended.
    pub(super) fn strike_setup(&mut self, record: Option<SetupPosition>) {
        if let (Some(ledger), Some(at)) = (&mut self.ledger, record) {
            ledger.store.end_setup(at);
        }
    }

    /// Makes a call and its transactions of a record.
    pub(super) fn restore_setup(
        &mut self,
        now: Instant,
        at: SetupPosition,
        record: &SetupRecord<'_>,
        restoring: &mut Restoring<'_>,
    ) -> Taken {
        let mut scratch = self.take_replay_scratch();
        let taken = match sip::parse(record.invite, &mut scratch) {
            Ok(message) => self.restore_invite(now, at, record, &message, restoring),
            Err(_) => None,
        };
        self.replay_scratch = Some(scratch);
        match taken {
            Some(()) => Taken::Yes,
            None => Taken::No,
        }
    }

    fn restore_invite(
        &mut self,
        now: Instant,
        at: SetupPosition,
        record: &SetupRecord<'_>,
        message: &Message<'_>,
        restoring: &mut Restoring<'_>,
    ) -> Option<()> {
        let via = validate_request(message).ok()?;
        let from = self.flow_of(record.caller);
        let call_id = message.call_id_hash(&self.secret);
        let caller_tag = self.secret.hash(message.from_tag().unwrap_or_default());
        if self
            .calls
            .find_passage(call_id, caller_tag, record.nonce)
            .is_some()
        {
            // Answered: the kill came between its two records.
            return None;
        }
        let setup_slots = self.setup_slots(record, restoring);
        let incoming = Incoming {
            message,
            from,
            reply_to: Flow {
                remote: reply_address(&via, from.remote),
                ..from
            },
            key: self.transactions.server_key(message, &via),
            trunk: None,
            loop_check: record.loop_check,
        };
        let admitted = now.before(restoring.since(now, record.admitted_us));
        let mut call = Call::ringing(record.owner, call_id, caller_tag, record.nonce, admitted);
        call.restored = true;
        call.trunk_in = setup_slots.trunk_in;
        call.set_trunk_out(setup_slots.trunk_out);
        call.invite_cseq = message.cseq().map_or(0, |cseq| cseq.number);
        let Ok(call) = self.calls.insert(call, from) else {
            restoring.refused += 1;
            self.account_lost_setup(now, record, message);
            return None;
        };
        let callee = self.flow_of(record.callee);
        self.calls.set_callee(call, Some(callee));
        if let Some(kept) = self.calls.set_up_mut(call) {
            kept.record = Some(at);
        }
        self.keep_caller(call, &incoming);
        let setup = Setup {
            call,
            trunk_in: setup_slots.trunk_in,
            to: setup_slots.to,
            tried: record.tried,
            trunk_out: setup_slots.trunk_out,
            address_index: record.address_index,
            addresses_tried: record.addresses_tried,
            sent: now,
            passed: Passed::of(record),
        };
        if self
            .restore_transactions(now, record, &incoming, setup)
            .is_none()
        {
            restoring.refused += 1;
            self.account_lost_setup(now, record, message);
            // Its position is freed by the one who asks.
            self.calls.end_set_up(call);
            self.end_call(call, "no room for its transactions");
            return None;
        }
        self.restore_leases(call, true, true);
        self.metrics.count(Counter::CallsRecalled);
        Some(())
    }

    fn restore_transactions(
        &mut self,
        now: Instant,
        record: &SetupRecord<'_>,
        incoming: &Incoming<'_>,
        setup: Setup,
    ) -> Option<()> {
        let message = incoming.message;
        let server = self.restore_server(now, record, incoming, setup)?;
        let Some(client) = self.restore_client(now, server, record, incoming, &setup) else {
            self.transactions.abandon_server(server);
            return None;
        };
        let (_, session_sent_s) = self.session_headers(message, setup.trunk_in, setup.trunk_out);
        let wait = setup.trunk_out.and_then(|slot| self.trunk_at(slot));
        let wait = wait.map(|trunk| auto_congest(trunk, &self.shared.board));
        let (wait, alarm) = match (record.provisional, record.cancelled) {
            (true, true) => (Some(Default::default()), Alarm::CancelAgain(server)),
            (true, false) => (Some(self.plan.timings.timer_c), Alarm::TimerC(server)),
            (false, _) => (wait, Alarm::Congest(server)),
        };
        let timer = wait.and_then(|wait| self.alarms.arm(now + wait, alarm).ok());
        if let Some(relay) = self.transactions.server_user_mut(server) {
            relay.client = Some(client);
            relay.session_sent_s = session_sent_s;
            relay.timer = timer.unwrap_or_default();
        }
        if let Some(kept) = self.calls.set_up_mut(setup.call) {
            kept.invite = Some(server);
        }
        Some(())
    }

    /// The caller's transaction: its INVITE, repeated, is answered with a 100.
    fn restore_server(
        &mut self,
        now: Instant,
        record: &SetupRecord<'_>,
        incoming: &Incoming<'_>,
        setup: Setup,
    ) -> Option<ServerId> {
        let Incoming { message, from, .. } = *incoming;
        let request = self.requests.store(message.bytes())?;
        let relay = Relay {
            request,
            token: record.token,
            loop_check: record.loop_check,
            purpose: Purpose::Setup(setup),
            provisional: record.provisional,
            cancelled: record.cancelled,
            rang_out: record.rang_out,
            caller_knows_timers: super::session_timer::knows_timers(message),
            ..Relay::local(Method::Invite, from)
        };
        let accepted =
            self.transactions
                .accept(now, incoming.key, Role::Invite, incoming.reply_to, relay);
        let Ok(server) = accepted else {
            self.requests.free(request);
            return None;
        };
        let asker = self.asker(from);
        let mut cursor = Cursor::new(&mut self.scrap);
        compose::response(&mut cursor, message, asker, 100, "Trying", None, &[]);
        if !cursor.overflowed() {
            self.transactions
                .recall_answer(server, 100, cursor.written());
        }
        Some(server)
    }

    /// The attempt under way, as it stands with the callee.
    fn restore_client(
        &mut self,
        now: Instant,
        server: ServerId,
        record: &SetupRecord<'_>,
        incoming: &Incoming<'_>,
        setup: &Setup,
    ) -> Option<ClientId> {
        let message = incoming.message;
        let to = self.flow_of(record.callee);
        let path = self.path(message);
        let branch = Branch {
            token: record.token,
            loop_check: record.loop_check,
        };
        let (session, _) = self.session_headers(message, setup.trunk_in, setup.trunk_out);
        self.splice_request(&Forwarding {
            message,
            from: incoming.from,
            to,
            path: &path,
            branch,
            target: Shard::target_at(&path, to.remote),
            record_route: Some(Cookie {
                nonce: record.nonce,
            }),
            session,
            asks_load: setup.trunk_out.is_some_and(|slot| self.asks_load(slot)),
        });
        let mut cursor = Cursor::new(&mut self.scrap[..Outbox::DATAGRAM_MAX]);
        self.edit.write(message.bytes(), &mut cursor).ok()?;
        let attempt = Attempt::Relay {
            server,
            trunk_out: setup.trunk_out,
        };
        let invite = cursor.written();
        let client = self
            .transactions
            .recall_invite(now, record.token, to, attempt, invite)
            .ok()?;
        if record.provisional {
            self.transactions.recall_ringing(now, client);
        }
        Some(client)
    }

    /// Slots of the trunks and of what the route line named.
    fn setup_slots(&self, record: &SetupRecord<'_>, restoring: &mut Restoring<'_>) -> SetupSlots {
        let trunk_in = restoring.slot(self, record.trunk_in);
        let trunk_out = restoring.slot(self, record.trunk_out);
        let group = || {
            let mut groups = self.plan.routing.groups.iter();
            let group = groups.find(|group| group.name.as_bytes() == record.to);
            group.map(|group| Destination::Group(group.slot))
        };
        let to = match record.to_is_group {
            true => group(),
            false => restoring.slot(self, record.to).map(Destination::Trunk),
        };
        SetupSlots {
            trunk_in: trunk_in.unwrap_or(u16::MAX),
            trunk_out,
            // Gone from the configuration: there is no further candidate.
            to: to.unwrap_or(Destination::Trunk(u16::MAX)),
        }
    }

    /// A set-up was cancelled before a restart: whether the CANCEL went out is not known, and a
    /// second one does no harm.
    pub(super) fn cancel_again(&mut self, now: Instant, server: ServerId, out: &mut Outbox) {
        let relay = self.transactions.server_user(server);
        if let Some(client) = relay.and_then(|relay| relay.client) {
            self.send_cancel(now, client, None, out);
        }
    }

    /// Whether an address is a party of this call, or a trunk.
    pub(super) fn is_party(
        &self,
        address: SocketAddr,
        call: Option<&Call<crate::limit::KeptLease>>,
    ) -> bool {
        let is_of_call = call.is_some_and(|call| {
            let ends = [self.calls.caller(call), self.calls.callee(call)];
            ends.into_iter().flatten().any(|end| end.remote == address)
        });
        is_of_call || self.sources.lookup(address).is_some()
    }
}

struct SetupSlots {
    trunk_in: u16,
    trunk_out: Option<u16>,
    to: Destination,
}

impl Passed {
    const LIMIT: u8 = 1;
    const CODEC: u8 = 2;
    const DOWN: u8 = 4;
    const CONGESTED: u8 = 8;
    const ANSWERED_503: u8 = 16;
    const HELD_BACK: u8 = 32;

    fn bits(&self) -> u8 {
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        bit(self.limit, Self::LIMIT)
            | bit(self.codec, Self::CODEC)
            | bit(self.down, Self::DOWN)
            | bit(self.congested, Self::CONGESTED)
            | bit(self.answered_503, Self::ANSWERED_503)
            | bit(self.held_back, Self::HELD_BACK)
    }

    fn of(record: &SetupRecord<'_>) -> Passed {
        let is = |bit: u8| record.passed & bit != 0;
        Passed {
            limit: is(Self::LIMIT),
            cps_retry_after_s: record.cps_retry_after_s,
            codec: is(Self::CODEC),
            down: is(Self::DOWN),
            congested: is(Self::CONGESTED),
            answered_503: is(Self::ANSWERED_503),
            over_limit: record.over_limit,
            held_back: is(Self::HELD_BACK),
        }
    }
}
