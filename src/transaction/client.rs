//! What happens to client transactions: a request is sent, answered, refused by the network,
//! cancelled, given up (RFC 3261 §17.1, RFC 6026 §7.2).

use super::clock::{Expiry, Owner, Running};
use super::expire::Notice;
use super::table::{ClientId, Full, Role, Transactions, client_hash};
use super::timings::Timer;
use super::{client_invite, client_non_invite};
use crate::base::{Cursor, Handle, Instant};
use crate::net::{Flow, Outbox};
use crate::sip::{self, Message, Method, Scratch, compose};

/// Where a client transaction stands in its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientState {
    Invite(client_invite::State),
    NonInvite(client_non_invite::State),
}

/// Whether the user is to look at a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    PassUp,
    Absorb,
}

/// A client transaction.
#[derive(Debug)]
pub(super) struct Client<C> {
    pub token: u64,
    pub method: Method,
    pub state: ClientState,
    pub flow: Flow,
    /// The request, then the ACK for a non-2xx final answer.
    pub stored: Handle,
    pub stored_is_ack: bool,
    pub running: Running,
    pub user: C,
}

impl<S, C> Transactions<S, C> {
    /// Composes a request into the outbox, keeps a copy and makes its client transaction. `token`
    /// is what its branch carries. On `Err` nothing was made and nothing is sent.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different fact about the request; a struct would be made at each call only to be taken apart here"
    )]
    pub fn send(
        &mut self,
        now: Instant,
        token: u64,
        method: Method,
        to: Flow,
        user: C,
        compose: impl FnOnce(&mut Cursor<'_>),
        out: &mut Outbox,
    ) -> Result<ClientId, Full> {
        if self.clients.len() == self.clients.capacity() {
            return Err(Full::Clients);
        }
        let request = out.write(to, compose).map_err(|_| Full::Outbox)?;
        let Some(stored) = self.bytes.store(request) else {
            out.take_back();
            return Err(Full::Bytes);
        };
        let begun = self.begin_client(now, token, method, to, stored, user);
        if begun.is_err() {
            out.take_back();
            self.bytes.free(stored);
        }
        begun
    }

    /// Makes the client transaction of an INVITE that was sent before a restart, or was about to be:
    /// it is repeated until it is answered. On `Err` nothing was made.
    pub fn recall_invite(
        &mut self,
        now: Instant,
        token: u64,
        to: Flow,
        user: C,
        invite: &[u8],
    ) -> Result<ClientId, Full> {
        let stored = self.bytes.store(invite).ok_or(Full::Bytes)?;
        self.begin_client(now, token, Method::Invite, to, stored, user)
            .inspect_err(|_| self.bytes.free(stored))
    }

    /// Remembers that a provisional answer to a recalled INVITE had come before the restart.
    pub fn recall_ringing(&mut self, now: Instant, id: ClientId) {
        self.step_client_invite(now, id, client_invite::Input::Provisional);
    }

    fn begin_client(
        &mut self,
        now: Instant,
        token: u64,
        method: Method,
        to: Flow,
        stored: Handle,
        user: C,
    ) -> Result<ClientId, Full> {
        let client = Client {
            token,
            method,
            state: first_state(Role::of(method)),
            flow: to,
            stored,
            stored_is_ack: false,
            running: Running::default(),
            user,
        };
        let at = self.clients.insert(client).map_err(|_| Full::Clients)?;
        let hash = client_hash(token, method);
        self.clients_by_token.insert(hash, at.index);
        self.start_client_timers(now, ClientId(at));
        Ok(ClientId(at))
    }

    /// A response matched: moves the machine, acknowledges a non-2xx answer to an INVITE, and
    /// says whether the user is to see it. `scratch` serves to read the stored request.
    pub fn received(
        &mut self,
        now: Instant,
        id: ClientId,
        response: &Message<'_>,
        scratch: &mut Scratch,
        out: &mut Outbox,
    ) -> Verdict {
        let passes_up = match self.client_state(id) {
            Some(ClientState::Invite(_)) => {
                let input = client_invite::Input::response(response.status());
                let action = self.step_client_invite(now, id, input);
                if action.is_some_and(client_invite::Action::acknowledges) {
                    self.acknowledge(id, response, scratch, out);
                }
                action.is_some_and(client_invite::Action::passes_up)
            }
            Some(ClientState::NonInvite(_)) => {
                let input = client_non_invite::Input::response(response.status());
                let action = self.step_client_non_invite(now, id, input);
                action.is_some_and(client_non_invite::Action::passes_up)
            }
            None => false,
        };
        if passes_up {
            Verdict::PassUp
        } else {
            Verdict::Absorb
        }
    }

    /// The network refused a datagram of this transaction (ICMP). Where a request was being sent,
    /// `ClientFailed` and `ClientGone` follow.
    pub fn unreachable(&mut self, now: Instant, id: ClientId) {
        self.step_client(
            now,
            id,
            client_invite::Input::TransportError,
            client_non_invite::Input::TransportError,
        );
    }

    /// A CANCEL was sent for this INVITE: without a final answer within 64*T1, `ClientTimedOut`
    /// follows and counts as a 487 (RFC 3261 §9.1). Of use only after a provisional answer.
    pub fn cancelled(&mut self, now: Instant, id: ClientId) {
        if let Some(ClientState::Invite(_)) = self.client_state(id) {
            self.step_client_invite(now, id, client_invite::Input::Cancelled);
        }
    }

    /// The user goes on without this transaction: nothing is repeated and no time-out raised,
    /// late answers are still dealt with for a while, then `ClientGone` follows.
    pub fn abandon_client(&mut self, now: Instant, id: ClientId) {
        self.step_client(
            now,
            id,
            client_invite::Input::Abandoned,
            client_non_invite::Input::Abandoned,
        );
    }

    /// One of the timers of a client transaction fired.
    pub(super) fn client_timer(
        &mut self,
        now: Instant,
        id: ClientId,
        timer: Timer,
        out: &mut Outbox,
    ) {
        let again = match self.client_state(id) {
            Some(ClientState::Invite(_)) => {
                let input = client_invite::Input::fired(timer);
                let action = input.and_then(|input| self.step_client_invite(now, id, input));
                action == Some(client_invite::Action::Retransmit)
            }
            Some(ClientState::NonInvite(_)) => {
                let input = client_non_invite::Input::fired(timer);
                let action = input.and_then(|input| self.step_client_non_invite(now, id, input));
                action.is_some_and(client_non_invite::Action::retransmits)
            }
            None => false,
        };
        if again {
            self.send_stored(id, out);
        }
    }

    fn start_client_timers(&mut self, now: Instant, id: ClientId) {
        let Some(client) = self.clients.get_mut(id.0) else {
            return;
        };
        let expiry = |timer| Expiry {
            owner: Owner::Client(id),
            timer,
        };
        let (repeat, ending) = match client.state {
            //= rfc3261#17.1.1.2
            ClientState::Invite(_) => (Timer::A, Timer::B),
            //= rfc3261#17.1.2.2
            ClientState::NonInvite(_) => (Timer::E, Timer::F),
        };
        let over = client.flow.transport;
        client.running = self.clock.start_repeat(now, expiry(repeat), over);
        self.clock
            .end_after(now, &mut client.running, expiry(ending), over);
    }

    /// Moves whichever machine the transaction follows, for inputs that send nothing.
    fn step_client(
        &mut self,
        now: Instant,
        id: ClientId,
        invite: client_invite::Input,
        non_invite: client_non_invite::Input,
    ) {
        match self.client_state(id) {
            Some(ClientState::Invite(_)) => {
                self.step_client_invite(now, id, invite);
            }
            Some(ClientState::NonInvite(_)) => {
                self.step_client_non_invite(now, id, non_invite);
            }
            None => {}
        }
    }

    /// Moves the machine and does what concerns timers and the record; datagrams are the
    /// caller's.
    fn step_client_invite(
        &mut self,
        now: Instant,
        id: ClientId,
        input: client_invite::Input,
    ) -> Option<client_invite::Action> {
        use client_invite::Action;
        let client = self.clients.get_mut(id.0)?;
        let ClientState::Invite(state) = client.state else {
            return None;
        };
        let (next, action) = client_invite::step(state, input);
        client.state = ClientState::Invite(next);
        match action {
            Action::Nothing | Action::Absorb | Action::PassUp | Action::AckAgain => {}
            Action::Retransmit => {
                let expiry = Expiry {
                    owner: Owner::Client(id),
                    timer: Timer::A,
                };
                self.clock.repeat_doubled(now, &mut client.running, expiry);
            }
            Action::StopPassUp => self.clock.stop(&mut client.running),
            Action::AcceptPassUp => {
                self.bytes.free(core::mem::take(&mut client.stored));
                self.wait_out(now, id, Timer::M);
            }
            Action::AckPassUp | Action::AckAbsorb => self.wait_out(now, id, Timer::D),
            Action::Wait => self.wait_out(now, id, Timer::Wait),
            Action::TimeOut => self.end_client(id, Notice::ClientTimedOut(id)),
            Action::Fail => self.end_client(id, Notice::ClientFailed(id)),
            Action::End => self.end_client(id, Notice::ClientGone(id)),
        }
        Some(action)
    }

    fn step_client_non_invite(
        &mut self,
        now: Instant,
        id: ClientId,
        input: client_non_invite::Input,
    ) -> Option<client_non_invite::Action> {
        use client_non_invite::Action;
        let client = self.clients.get_mut(id.0)?;
        let ClientState::NonInvite(state) = client.state else {
            return None;
        };
        let (next, action) = client_non_invite::step(state, input);
        client.state = ClientState::NonInvite(next);
        let running = &mut client.running;
        let expiry = Expiry {
            owner: Owner::Client(id),
            timer: Timer::E,
        };
        match action {
            Action::Nothing | Action::Absorb | Action::PassUp => {}
            Action::Retransmit => self.clock.repeat_doubled_to_t2(now, running, expiry),
            Action::RetransmitSlowly => self.clock.repeat_at_t2(now, running, expiry),
            Action::CompletePassUp | Action::Complete => {
                self.bytes.free(core::mem::take(&mut client.stored));
                self.wait_out(now, id, Timer::K);
            }
            Action::TimeOut => self.end_client(id, Notice::ClientTimedOut(id)),
            Action::Fail => self.end_client(id, Notice::ClientFailed(id)),
            Action::End => self.end_client(id, Notice::ClientGone(id)),
        }
        Some(action)
    }

    /// Stops what runs and arms the timer that ends the state.
    fn wait_out(&mut self, now: Instant, id: ClientId, timer: Timer) {
        if let Some(client) = self.clients.get_mut(id.0) {
            let expiry = Expiry {
                owner: Owner::Client(id),
                timer,
            };
            self.clock.stop(&mut client.running);
            let over = client.flow.transport;
            self.clock.end_after(now, &mut client.running, expiry, over);
        }
    }

    /// A terminated transaction matches nothing; its record waits for the user to hear of it.
    //= rfc3261#17.1.1.2
    fn end_client(&mut self, id: ClientId, notice: Notice) {
        let Some(client) = self.clients.get_mut(id.0) else {
            return;
        };
        self.clock.stop(&mut client.running);
        let hash = client_hash(client.token, client.method);
        self.clients_by_token
            .remove(hash, |index| index == id.0.index);
        self.notices.push_back(notice);
    }

    /// Sends the ACK for a non-2xx final answer to where the INVITE went. The first time it is
    /// composed and takes the place of the INVITE; where that had no room, the INVITE stays and
    /// the next copy of the answer tries again.
    //= rfc3261#17.1.1.3
    fn acknowledge(
        &mut self,
        id: ClientId,
        response: &Message<'_>,
        scratch: &mut Scratch,
        out: &mut Outbox,
    ) {
        let Some(client) = self.clients.get_mut(id.0) else {
            return;
        };
        if client.stored_is_ack {
            self.send_stored(id, out);
            return;
        }
        let Ok(request) = sip::parse(self.bytes.get(client.stored), scratch) else {
            self.counters.acks_refused += 1;
            return;
        };
        let Ok(ack) = out.write(client.flow, |text| compose::ack(text, &request, response)) else {
            self.counters.acks_refused += 1;
            return;
        };
        match self.bytes.store(ack) {
            Some(copy) => {
                self.bytes
                    .free(core::mem::replace(&mut client.stored, copy));
                client.stored_is_ack = true;
            }
            None => self.counters.copies_refused += 1,
        }
    }

    fn send_stored(&mut self, id: ClientId, out: &mut Outbox) {
        let Some(client) = self.clients.get(id.0) else {
            return;
        };
        match out.push(client.flow, self.bytes.get(client.stored)) {
            Ok(()) => self.counters.requests_resent += 1,
            Err(_) => self.counters.resends_refused += 1,
        }
    }
}

fn first_state(role: Role) -> ClientState {
    match role {
        Role::Invite => ClientState::Invite(client_invite::State::Calling),
        Role::NonInvite => ClientState::NonInvite(client_non_invite::State::Trying),
    }
}
