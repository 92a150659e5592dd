//! Attempts of a call set-up: which trunk is next, may it take the call, and the INVITE to it.
//!
//! Candidates are tried one after the other: the addresses of a trunk in order, then the next
//! member of the group. When none is left, the reasons for which they were passed over decide the
//! answer.

use core::mem;
use core::net::SocketAddr;

use super::Shard;
use super::branch::{self, Branch};
use super::cookie::Cookie;
use super::forward::{Forwarding, Target};
use super::journal::{Obstacle, Step};
use super::path::Path;
use super::refusal::Refusal;
use super::relay::{Alarm, Attempt, Destination, Passed, Purpose, Setup};
use super::session_timer::knows_timers;
use super::setup::Slots;
use crate::base::Instant;
use crate::base::hash::HashKey;
use crate::dialog::CallKey;
use crate::limit::{Direction, Why};
use crate::metrics::{Counter, Leg, TrunkCounter};
use crate::net::{Flow, Outbox};
use crate::route::health::auto_congest;
use crate::route::policy::{Choice, next_member};
use crate::route::{Member, Trunk, TrunkId};
use crate::sip::{self, Message, Method, sdp};
use crate::transaction::ServerId;

/// A trunk that took its lease, and which of its addresses comes first.
struct Candidate {
    slot: u16,
    address_index: usize,
}

impl Shard {
    /// Sends the INVITE to the next candidate, or ends the call with an answer when none is left.
    /// `message` is the request as it came.
    pub(super) fn attempt(
        &mut self,
        now: Instant,
        server: ServerId,
        message: &Message<'_>,
        path: &Path<'_>,
        out: &mut Outbox,
    ) {
        let Some(mut setup) = self.setup_of(server) else {
            return;
        };
        let mut refusal = None;
        while refusal.is_none() {
            let Some(candidate) = self.next_candidate(now, &mut setup, message) else {
                refusal = Some(self.exhausted(&setup));
                break;
            };
            match self.launch(now, server, &setup, &candidate, message, path, out) {
                Ok(()) => return,
                Err(Launch::Unreachable) => setup.passed.down = true,
                Err(Launch::Full) => refusal = Some(Refusal::TRANSACTIONS_FULL),
                Err(Launch::TooLarge) => refusal = Some(Refusal::TOO_LARGE),
            }
        }
        if let Some(refusal) = refusal {
            self.fail_setup(now, server, &setup, message, refusal, out);
        }
    }

    /// The set-up that a server transaction is for, as a copy.
    pub(super) fn setup_of(&self, server: ServerId) -> Option<Setup> {
        match self.transactions.server_user(server)?.purpose {
            Purpose::Setup(setup) => Some(setup),
            Purpose::Local | Purpose::InDialog { .. } | Purpose::Outside { .. } => None,
        }
    }

    /// Tries again with the stored request after an attempt failed.
    pub(super) fn fail_over(&mut self, now: Instant, server: ServerId, out: &mut Outbox) {
        self.metrics.count(Counter::Failovers);
        self.with_request(server, |shard, message| {
            let path = shard.path(message);
            shard.attempt(now, server, message, &path, out);
        });
    }

    /// Runs `act` with the request that a server transaction is for, as it came.
    pub(super) fn with_request(
        &mut self,
        server: ServerId,
        act: impl FnOnce(&mut Shard, &Message<'_>),
    ) {
        let Some(request) = self
            .transactions
            .server_user(server)
            .map(|relay| relay.request)
        else {
            return;
        };
        let mut bytes = mem::take(&mut self.replay);
        let mut scratch = self.take_replay_scratch();
        bytes.clear();
        bytes.extend_from_slice(self.requests.get(request));
        if let Ok(message) = sip::parse(&bytes, &mut scratch) {
            act(self, &message);
        }
        self.replay = bytes;
        self.replay_scratch = Some(scratch);
    }

    /// The next address of the trunk under way, or the first of the next trunk that takes the call.
    fn next_candidate(
        &mut self,
        now: Instant,
        setup: &mut Setup,
        message: &Message<'_>,
    ) -> Option<Candidate> {
        if let Some(slot) = setup.trunk_out {
            let count = self.trunk_at(slot).map_or(0, |trunk| trunk.addresses.len());
            if let Some(at) =
                self.shared
                    .board
                    .first_alive_address(slot, count, setup.addresses_tried)
            {
                setup.addresses_tried |= 1 << at;
                setup.address_index = at as u8;
                return Some(Candidate {
                    slot,
                    address_index: at,
                });
            }
            self.leave_trunk(setup);
        }
        let mut passed_over = 0;
        loop {
            let before = setup.tried;
            let trunk = self.next_trunk(now, setup, message.call_id())?;
            if let Some(candidate) = self.consider(now, setup, trunk, message) {
                // Who is full now may have room when this one has failed.
                setup.tried &= !passed_over;
                return Some(candidate);
            }
            passed_over |= setup.tried & !before;
        }
    }

    /// Moves a call to a trunk that has taken it already, in place of the one that it is counted on.
    pub(super) fn move_call(&mut self, key: CallKey, slot: u16, callee: Option<Flow>) {
        let trunk = self.trunk_at(slot);
        let own = Slots::alone(slot);
        let slots = trunk.map_or(own, Slots::of);
        self.calls.set_callee(key, callee);
        let Some(call) = self.calls.call_mut(key) else {
            return;
        };
        call.set_trunk_out(Some(slot));
        let lease = self.shared.limits.restore(Direction::Out, slots.as_slice());
        let kept = self.leases.keep(lease);
        if let Some(overtaken) = call.lease_out.replace(kept) {
            self.shared.limits.give_back(self.leases.take(overtaken));
        }
    }

    /// Gives the outgoing lease of a failed trunk back.
    fn leave_trunk(&mut self, setup: &mut Setup) {
        setup.trunk_out = None;
        setup.addresses_tried = 0;
        let Some(call) = self.calls.call_mut(setup.call) else {
            return;
        };
        call.set_trunk_out(None);
        if let Some(kept) = call.lease_out.take() {
            self.shared.limits.give_back(self.leases.take(kept));
        }
    }

    /// The next trunk that was not tried, by the group's policy; marks it as tried.
    fn next_trunk(&mut self, now: Instant, setup: &mut Setup, call_id: &[u8]) -> Option<TrunkId> {
        match setup.to {
            Destination::Trunk(slot) if setup.tried == 0 => {
                setup.tried = 1;
                self.trunk_of_slot.get(usize::from(slot)).copied().flatten()
            }
            Destination::Trunk(_) => None,
            Destination::Group(slot) => self.next_member(now, setup, slot, call_id),
        }
    }

    fn next_member(
        &mut self,
        now: Instant,
        setup: &mut Setup,
        slot: u16,
        call_id: &[u8],
    ) -> Option<TrunkId> {
        let random = self.random.next_u64();
        let turn = self.turns.get(usize::from(slot)).copied().unwrap_or(0);
        let group = self.group_at(slot)?;
        let routing = &self.plan.routing;
        let slot_of = |trunk: TrunkId| routing.trunk(trunk).slot;
        let usable = |member: &Member| self.shared.board.usable(slot_of(member.trunk));
        let calls = |trunk: TrunkId| {
            let used = self
                .shared
                .limits
                .used(crate::limit::SlotId(slot_of(trunk)));
            used.in_calls.saturating_add(used.out_calls)
        };
        let share = |trunk: TrunkId| self.shared.board.share(slot_of(trunk), now);
        let choice = Choice {
            plan: routing,
            group,
            tried: setup.tried,
            call_id_hash: fixed_hash(call_id),
            random,
            turn,
            usable: &usable,
            calls: &calls,
            share: &share,
        };
        let next = next_member(&choice);
        let is_first = setup.tried == 0;
        let Some(position) = next else {
            let untried = |at: usize| setup.tried & (1 << at) == 0;
            setup.passed.down |= (0..group.members.len()).any(untried);
            if is_first {
                self.note_unusable(setup.call, slot);
            }
            return None;
        };
        let trunk = group.members.get(position)?.trunk;
        setup.tried |= 1 << position;
        if let Some(turn) = self.turns.get_mut(usize::from(slot)) {
            *turn = turn.wrapping_add(1);
        }
        if is_first {
            self.note_unusable(setup.call, slot);
        }
        let chosen = self.plan.routing.trunk(trunk).slot;
        self.note_call(
            setup.call,
            Step::Chosen {
                group: slot,
                trunk: chosen,
            },
        );
        Some(trunk)
    }

    /// Notes the members that no policy looks at, and why.
    fn note_unusable(&mut self, call: CallKey, group: u16) {
        let members = self.group_at(group).map_or(0, |group| group.members.len());
        for at in 0..members {
            let member = self.group_at(group).and_then(|group| group.members.get(at));
            let Some(trunk) = member.map(|member| self.plan.routing.trunk(member.trunk).slot)
            else {
                return;
            };
            if !self.shared.board.usable(trunk) {
                let why = self.obstacle(trunk);
                self.note_call(call, Step::PassedOver { trunk, why });
            }
        }
    }

    /// Why a trunk takes no calls.
    fn obstacle(&self, slot: u16) -> Obstacle {
        match self.shared.board.state(slot) {
            state if !state.takes_calls() => Obstacle::State(state),
            _ => Obstacle::AddressesDown,
        }
    }

    /// Whether a trunk takes this call; it then holds the outgoing lease.
    fn consider(
        &mut self,
        now: Instant,
        setup: &mut Setup,
        id: TrunkId,
        message: &Message<'_>,
    ) -> Option<Candidate> {
        let trunk = self.plan.routing.trunk(id);
        let slot = trunk.slot;
        let address = self
            .shared
            .board
            .first_alive_address(slot, trunk.addresses.len(), 0);
        let Some(address_index) = address.filter(|_| self.shared.board.usable(slot)) else {
            setup.passed.down = true;
            let why = self.obstacle(slot);
            self.note_call(setup.call, Step::PassedOver { trunk: slot, why });
            return None;
        };
        if self.is_held_back(now, slot) {
            setup.passed.held_back = true;
            let why = Obstacle::AsksForLess;
            self.note_call(setup.call, Step::PassedOver { trunk: slot, why });
            return None;
        }
        let trunk = self.plan.routing.trunk(id);
        if !takes_codec(trunk, message) {
            setup.passed.codec = true;
            self.note_call(
                setup.call,
                Step::PassedOver {
                    trunk: slot,
                    why: Obstacle::Codec,
                },
            );
            return None;
        }
        let slots = Slots::of(trunk);
        let limits = &self.shared.limits;
        let admitted = limits.admit(Direction::Out, slots.as_slice(), now);
        if let Some(call) = self.calls.call(setup.call) {
            let refused = admitted.as_ref().err().copied();
            let call_id = call.call_id();
            self.note_limits(now, call_id, Direction::Out, slots.as_slice(), refused);
        }
        let trunk = self.plan.routing.trunk(id);
        match admitted {
            Ok(lease) => {
                if let Some(call) = self.calls.call_mut(setup.call) {
                    call.lease_out = Some(self.leases.keep(lease));
                    call.set_trunk_out(Some(slot));
                } else {
                    self.shared.limits.give_back(lease);
                }
            }
            Err(refused) => {
                if let Some(accounts) = &mut self.accounts {
                    accounts.note_limit(Some(setup.call), refused);
                }
                self.metrics.count_trunk(slot, TrunkCounter::RefusedOut);
                let why = match refused.why {
                    Why::Cps { retry_after_s } => {
                        setup.passed.cps_retry_after_s = Some(retry_after_s);
                        Obstacle::Rate
                    }
                    Why::CallsMax | Why::CallsInMax | Why::CallsOutMax => {
                        setup.passed.limit = true;
                        setup.passed.over_limit = self.over_limit(trunk, refused);
                        Obstacle::CallsLimit
                    }
                };
                self.note_call(setup.call, Step::PassedOver { trunk: slot, why });
                return None;
            }
        }
        setup.trunk_out = Some(slot);
        setup.addresses_tried = 1 << address_index;
        setup.address_index = address_index as u8;
        self.metrics.count_trunk(slot, TrunkCounter::CallsOut);
        Some(Candidate {
            slot,
            address_index,
        })
    }

    /// Sends the INVITE to a candidate.
    #[expect(
        clippy::too_many_arguments,
        reason = "the step has that many inputs; a struct would name them once more"
    )]
    fn launch(
        &mut self,
        now: Instant,
        server: ServerId,
        setup: &Setup,
        candidate: &Candidate,
        message: &Message<'_>,
        path: &Path<'_>,
        out: &mut Outbox,
    ) -> Result<(), Launch> {
        let address = self.address_of(candidate).ok_or(Launch::Unreachable)?;
        let to = self.flow_to(address).ok_or(Launch::Unreachable)?;
        self.calls.set_callee(setup.call, Some(to));
        let nonce = self.calls.call(setup.call).ok_or(Launch::Full)?.nonce;
        let (session, session_sent_s) =
            self.session_headers(message, setup.trunk_in, Some(candidate.slot));
        let caller_knows_timers = session_sent_s.is_some() && knows_timers(message);
        let relay = self.transactions.server_user(server).ok_or(Launch::Full)?;
        let (from, loop_check) = (relay.from, relay.loop_check);
        let branch = self.new_branch(message, loop_check);
        let asks_load = self.asks_load(candidate.slot);
        self.splice_request(&Forwarding {
            message,
            from,
            to,
            path,
            branch,
            target: Shard::target_at(path, address),
            record_route: Some(Cookie { nonce }),
            session,
            asks_load,
        });
        let attempt = Attempt::Relay {
            server,
            trunk_out: Some(candidate.slot),
        };
        let client = self.send_spliced(now, branch, message, to, attempt, out)?;
        self.note(
            message,
            Step::Sent {
                trunk: candidate.slot,
                to: address,
                state: self.shared.board.state(candidate.slot),
            },
        );
        self.account_attempt(now, setup.call, candidate.slot, address);
        let wait = self
            .trunk_at(candidate.slot)
            .map(|trunk| auto_congest(trunk, &self.shared.board));
        let alarm = wait.and_then(|wait| self.alarms.arm(now + wait, Alarm::Congest(server)).ok());
        if let Some(relay) = self.transactions.server_user_mut(server) {
            relay.client = Some(client);
            relay.token = branch.token;
            relay.provisional = false;
            relay.session_sent_s = session_sent_s;
            relay.caller_knows_timers = caller_knows_timers;
            relay.purpose = Purpose::Setup(Setup {
                sent: now,
                ..*setup
            });
            relay.timer = alarm.unwrap_or_default();
        }
        self.record_setup(server);
        Ok(())
    }

    fn address_of(&self, candidate: &Candidate) -> Option<SocketAddr> {
        self.trunk_at(candidate.slot)?
            .addresses
            .get(candidate.address_index)
            .copied()
    }

    /// The trunk's address, where the Request-URI names us: we are responsible for it.
    //= rfc3261#16.5
    pub(super) fn target_at(path: &Path<'_>, address: SocketAddr) -> Target {
        if path.target_is_us {
            Target::At(address)
        } else {
            Target::AsAsked
        }
    }

    /// A branch that nobody can guess, for one attempt.
    pub(super) fn new_branch(&mut self, message: &Message<'_>, loop_check: u64) -> Branch {
        let nonce = self.random.next_u64() as u32;
        let token = branch::token(&self.secret, nonce, message.call_id_hash(&self.secret));
        self.transactions.expect_client(token, message.method());
        Branch { token, loop_check }
    }

    /// Hashes what decides where a request goes: its own words, and the trunk that it came from,
    /// since the route table asks for that.
    //= rfc5393#4.2.1
    pub(super) fn loop_check(&self, message: &Message<'_>, from: Option<TrunkId>) -> u64 {
        let slot = from.map(|trunk| self.plan.routing.trunk(trunk).slot);
        branch::loop_check(&self.secret, message, slot)
    }

    /// Sends what `self.edit` describes as a client transaction.
    pub(super) fn send_spliced(
        &mut self,
        now: Instant,
        branch: Branch,
        message: &Message<'_>,
        to: Flow,
        attempt: Attempt,
        out: &mut Outbox,
    ) -> Result<crate::transaction::ClientId, Launch> {
        let len = self.edit.written_len(message.bytes().len());
        if len.is_ok_and(|len| len > Outbox::DATAGRAM_MAX) || len.is_err() {
            return Err(Launch::TooLarge);
        }
        let edit = &self.edit;
        let sent = self.transactions.send(
            now,
            branch.token,
            message.method(),
            to,
            attempt,
            |cursor| {
                if edit.write(message.bytes(), cursor).is_err() {
                    cursor.spoil();
                }
            },
            out,
        );
        self.count_sent(sent.is_ok());
        sent.map_err(|_| Launch::Full)
    }

    /// What the caller is told when no candidate is left.
    fn exhausted(&self, setup: &Setup) -> Refusal {
        let Passed {
            limit,
            cps_retry_after_s,
            codec,
            down,
            congested,
            answered_503,
            over_limit,
            held_back,
        } = setup.passed;
        // What was tried and failed says more than what was passed over; a codec that no member
        // takes is the answer only if nothing else stood in the way.
        if congested {
            Refusal::CONGESTED
        } else if answered_503 {
            Refusal::ALL_503
        } else if limit {
            Refusal::LIMIT_OUT.with_status(over_limit)
        } else if let Some(seconds) = cps_retry_after_s {
            Refusal::CPS.retry_after(seconds)
        } else if held_back {
            Refusal::HELD_BACK
        } else if down || !codec {
            Refusal::TRUNK_DOWN
        } else {
            Refusal::CODEC
        }
    }

    /// Ends a set-up that failed with an answer of our own.
    pub(super) fn fail_setup(
        &mut self,
        now: Instant,
        server: ServerId,
        setup: &Setup,
        message: &Message<'_>,
        refusal: Refusal,
        out: &mut Outbox,
    ) {
        self.disarm(server);
        self.refuse_server(now, server, message, refusal, out);
        self.account_refused(setup.call, refusal);
        self.session_ended(Some(setup.trunk_in), Leg::In, refusal.status);
        self.end_call(setup.call, "refused");
    }

    /// Stops the alarm of a server transaction.
    pub(super) fn disarm(&mut self, server: ServerId) {
        if let Some(relay) = self.transactions.server_user_mut(server) {
            self.alarms.cancel(mem::take(&mut relay.timer));
        }
    }

    /// Whether a request with this method is the INVITE of a set-up that got no final answer yet.
    pub(super) fn is_pending_setup(&self, server: ServerId) -> bool {
        let is_invite = self
            .transactions
            .server_user(server)
            .is_some_and(|relay| relay.method == Method::Invite);
        is_invite
            && self
                .transactions
                .last_status(server)
                .is_none_or(|status| status < 200)
    }
}

/// Why a request could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Launch {
    /// No address or no listener of its family.
    Unreachable,
    /// A table or the outbox is full.
    Full,
    /// With what we add it is longer than a datagram can be.
    TooLarge,
}

/// The same for a Call-ID on every node and after every start, so that a call's place in a group
/// does not move.
fn fixed_hash(call_id: &[u8]) -> u64 {
    HashKey::new([0x6361_6c6c_6761_7465, 0x6861_7368]).hash(call_id)
}

/// Whether the trunk allows an audio codec of the offer; an INVITE without offer passes.
fn takes_codec(trunk: &Trunk, message: &Message<'_>) -> bool {
    if trunk.codecs.is_empty() || message.body().is_empty() {
        return true;
    }
    let mut offered = false;
    let mut allowed = false;
    sdp::audio_codecs(message.body(), |name| {
        // Tones and comfort noise carry no speech: alone they do not make a call possible.
        if !name.eq_ignore_ascii_case(b"telephone-event") && !name.eq_ignore_ascii_case(b"CN") {
            offered = true;
            allowed |= trunk
                .codecs
                .iter()
                .any(|codec| codec.as_bytes().eq_ignore_ascii_case(name));
        }
    });
    allowed || !offered
}
