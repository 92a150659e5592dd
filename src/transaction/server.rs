//! What happens to server transactions: a request arrives, comes again, is answered, is
//! acknowledged (RFC 3261 §17.2, RFC 6026 §7.1).

use super::clock::{Expiry, Owner, Running};
use super::expire::Notice;
use super::key::ServerKey;
use super::table::{Full, Role, ServerId, Transactions};
use super::timings::Timer;
use super::{server_invite, server_non_invite};
use crate::base::{Cursor, Handle, Instant};
use crate::net::{Flow, Outbox};

/// Where a server transaction stands in its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerState {
    Invite(server_invite::State),
    NonInvite(server_non_invite::State),
}

impl ServerState {
    /// The state's name in RFC 3261 §17.2 and RFC 6026, lower case.
    pub const fn word(self) -> &'static str {
        use {server_invite::State as Invite, server_non_invite::State as NonInvite};
        match self {
            ServerState::Invite(Invite::Proceeding)
            | ServerState::NonInvite(NonInvite::Proceeding) => "proceeding",
            ServerState::Invite(Invite::Accepted) => "accepted",
            ServerState::Invite(Invite::Completed)
            | ServerState::NonInvite(NonInvite::Completed) => "completed",
            ServerState::Invite(Invite::Confirmed) => "confirmed",
            ServerState::Invite(Invite::Terminated)
            | ServerState::NonInvite(NonInvite::Terminated) => "terminated",
            ServerState::NonInvite(NonInvite::Trying) => "trying",
        }
    }
}

/// A server transaction.
#[derive(Debug)]
pub(super) struct Server<S> {
    pub key: ServerKey,
    pub state: ServerState,
    pub flow: Flow,
    /// Zero before the first response.
    pub last_status: u16,
    pub last: Handle,
    pub running: Running,
    pub user: S,
}

/// What becomes of a response that the user gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answering {
    Ignore,
    Send,
    SendAndKeep,
}

impl<S, C> Transactions<S, C> {
    /// Makes the server transaction of a new request; its responses go to `reply_to`. A refusal
    /// leaves the table as it was.
    pub fn accept(
        &mut self,
        _now: Instant,
        key: ServerKey,
        role: Role,
        reply_to: Flow,
        user: S,
    ) -> Result<ServerId, Full> {
        let state = match role {
            Role::Invite => ServerState::Invite(server_invite::State::Proceeding),
            Role::NonInvite => ServerState::NonInvite(server_non_invite::State::Trying),
        };
        let server = Server {
            key,
            state,
            flow: reply_to,
            last_status: 0,
            last: Handle::default(),
            running: Running::default(),
            user,
        };
        let at = self.servers.insert(server).map_err(|_| Full::Servers)?;
        self.servers_by_key.insert(key.first, at.index);
        Ok(ServerId(at))
    }

    /// Remembers an answer that was sent before a restart, for the copies of its request.
    pub fn recall_answer(&mut self, id: ServerId, status: u16, answer: &[u8]) {
        if let Some(server) = self.servers.get_mut(id.0) {
            server.last_status = status;
            server.last = self.bytes.store(answer).unwrap_or_default();
        }
    }

    /// The request came again: sends the last response once more, if there is one.
    pub fn retransmitted(&mut self, now: Instant, id: ServerId, out: &mut Outbox) {
        let answer = match self.server_state(id) {
            Some(ServerState::Invite(_)) => {
                let action = self.step_server_invite(now, id, server_invite::Input::Request);
                action == Some(server_invite::Action::SendAgain)
            }
            Some(ServerState::NonInvite(_)) => {
                let input = server_non_invite::Input::Request;
                let action = self.step_server_non_invite(now, id, input);
                action == Some(server_non_invite::Action::SendAgain)
            }
            None => false,
        };
        if answer {
            self.send_last_response(id, out);
        }
    }

    /// The ACK for a non-2xx answer came.
    pub fn acked(&mut self, now: Instant, id: ServerId) {
        if let Some(ServerState::Invite(_)) = self.server_state(id) {
            self.step_server_invite(now, id, server_invite::Input::Ack);
        }
    }

    /// Sends the user's response, keeps a copy where it may have to be repeated, and moves the
    /// machine. On `Err` nothing was sent and the transaction is as before. A response for which
    /// the state has no use is counted and ignored. Without room for the copy the response is
    /// sent all the same: the call goes on, only a lost datagram is not repeated.
    pub fn respond(
        &mut self,
        now: Instant,
        id: ServerId,
        status: u16,
        compose: impl FnOnce(&mut Cursor<'_>),
        out: &mut Outbox,
    ) -> Result<(), Full> {
        let answering = match self.server_state(id) {
            Some(state) => answering(state, status),
            None => Answering::Ignore,
        };
        let Some(server) = self.servers.get_mut(id.0) else {
            self.counters.responses_ignored += 1;
            return Ok(());
        };
        if answering == Answering::Ignore {
            self.counters.responses_ignored += 1;
            return Ok(());
        }
        let sent = out.write(server.flow, compose).map_err(|_| Full::Outbox)?;
        self.bytes.free(core::mem::take(&mut server.last));
        if answering == Answering::SendAndKeep {
            match self.bytes.store(sent) {
                Some(copy) => server.last = copy,
                None => self.counters.copies_refused += 1,
            }
        }
        server.last_status = status;
        self.answered(now, id, status);
        Ok(())
    }

    /// Ends a server transaction that will not be answered; `ServerGone` follows. One that was
    /// answered runs to its own end.
    pub fn abandon_server(&mut self, id: ServerId) {
        // The machines arm nothing on this input, so that any moment serves.
        let now = Instant::START;
        match self.server_state(id) {
            Some(ServerState::Invite(_)) => {
                self.step_server_invite(now, id, server_invite::Input::Abandoned);
            }
            Some(ServerState::NonInvite(_)) => {
                self.step_server_non_invite(now, id, server_non_invite::Input::Abandoned);
            }
            None => {}
        }
    }

    /// One of the timers of a server transaction fired.
    pub(super) fn server_timer(
        &mut self,
        now: Instant,
        id: ServerId,
        timer: Timer,
        out: &mut Outbox,
    ) {
        match self.server_state(id) {
            Some(ServerState::Invite(_)) => {
                let input = server_invite::Input::fired(timer);
                let action = input.and_then(|input| self.step_server_invite(now, id, input));
                if action == Some(server_invite::Action::Retransmit) {
                    self.send_last_response(id, out);
                }
            }
            Some(ServerState::NonInvite(_)) => {
                if let Some(input) = server_non_invite::Input::fired(timer) {
                    self.step_server_non_invite(now, id, input);
                }
            }
            None => {}
        }
    }

    fn answered(&mut self, now: Instant, id: ServerId, status: u16) {
        match self.server_state(id) {
            Some(ServerState::Invite(_)) => {
                self.step_server_invite(now, id, server_invite::Input::response(status));
            }
            Some(ServerState::NonInvite(_)) => {
                let input = server_non_invite::Input::response(status);
                self.step_server_non_invite(now, id, input);
            }
            None => {}
        }
    }

    /// Moves the machine and does what concerns timers and the record; datagrams are the
    /// caller's.
    fn step_server_invite(
        &mut self,
        now: Instant,
        id: ServerId,
        input: server_invite::Input,
    ) -> Option<server_invite::Action> {
        use server_invite::Action;
        let server = self.servers.get_mut(id.0)?;
        let ServerState::Invite(state) = server.state else {
            return None;
        };
        let (next, action) = server_invite::step(state, input);
        server.state = ServerState::Invite(next);
        let over = server.flow.transport;
        let running = &mut server.running;
        let expiry = |timer| Expiry {
            owner: Owner::Server(id),
            timer,
        };
        match action {
            Action::Nothing | Action::Send | Action::PassOn | Action::SendAgain => {}
            Action::Accept => self.clock.end_after(now, running, expiry(Timer::L), over),
            Action::Complete => {
                *running = self.clock.start_repeat(now, expiry(Timer::G), over);
                self.clock.end_after(now, running, expiry(Timer::H), over);
            }
            Action::Retransmit => {
                self.clock
                    .repeat_doubled_to_t2(now, running, expiry(Timer::G));
            }
            Action::Confirm => {
                self.bytes.free(core::mem::take(&mut server.last));
                self.clock.stop(running);
                self.clock.end_after(now, running, expiry(Timer::I), over);
            }
            Action::TimeOut => self.end_server(id, Notice::ServerTimedOut(id)),
            Action::End => self.end_server(id, Notice::ServerGone(id)),
        }
        Some(action)
    }

    fn step_server_non_invite(
        &mut self,
        now: Instant,
        id: ServerId,
        input: server_non_invite::Input,
    ) -> Option<server_non_invite::Action> {
        use server_non_invite::Action;
        let server = self.servers.get_mut(id.0)?;
        let ServerState::NonInvite(state) = server.state else {
            return None;
        };
        let (next, action) = server_non_invite::step(state, input);
        server.state = ServerState::NonInvite(next);
        match action {
            Action::Nothing | Action::Send | Action::SendAgain => {}
            Action::Complete => {
                let expiry = Expiry {
                    owner: Owner::Server(id),
                    timer: Timer::J,
                };
                let over = server.flow.transport;
                self.clock.end_after(now, &mut server.running, expiry, over);
            }
            Action::End => self.end_server(id, Notice::ServerGone(id)),
        }
        Some(action)
    }

    /// A terminated transaction matches nothing; its record waits for the user to hear of it.
    fn end_server(&mut self, id: ServerId, notice: Notice) {
        let Some(server) = self.servers.get_mut(id.0) else {
            return;
        };
        self.clock.stop(&mut server.running);
        self.bytes.free(core::mem::take(&mut server.last));
        self.servers_by_key
            .remove(server.key.first, |index| index == id.0.index);
        self.notices.push_back(notice);
    }

    fn send_last_response(&mut self, id: ServerId, out: &mut Outbox) {
        let Some(server) = self.servers.get(id.0) else {
            return;
        };
        let response = self.bytes.get(server.last);
        if response.is_empty() {
            return;
        }
        match out.push(server.flow, response) {
            Ok(()) => self.counters.responses_resent += 1,
            Err(_) => self.counters.resends_refused += 1,
        }
    }
}

fn answering(state: ServerState, status: u16) -> Answering {
    match state {
        ServerState::Invite(state) => {
            use server_invite::Action;
            match server_invite::step(state, server_invite::Input::response(status)).1 {
                Action::Send | Action::Complete => Answering::SendAndKeep,
                Action::Accept | Action::PassOn => Answering::Send,
                Action::Nothing | Action::SendAgain | Action::Retransmit => Answering::Ignore,
                Action::Confirm | Action::TimeOut | Action::End => Answering::Ignore,
            }
        }
        ServerState::NonInvite(state) => {
            use server_non_invite::Action;
            match server_non_invite::step(state, server_non_invite::Input::response(status)).1 {
                Action::Send | Action::Complete => Answering::SendAndKeep,
                Action::Nothing | Action::SendAgain | Action::End => Answering::Ignore,
            }
        }
    }
}
