//! Time passes: timers repeat messages by themselves; what the user must know comes out as
//! events, one per call, in the order in which it happened.

use super::clock::Owner;
use super::table::{ClientId, ServerId, Transactions};
use crate::base::Instant;
use crate::net::Outbox;

/// What the user of the transactions must know. Each record that was made ends with exactly one
/// `ClientGone` or `ServerGone`, which gives back what the user kept with it.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<S, C> {
    /// No final answer came in time. The record can be looked at until its `ClientGone`.
    ClientTimedOut(ClientId),
    /// The network refused the request. The record can be looked at until its `ClientGone`.
    ClientFailed(ClientId),
    /// The record was freed.
    ClientGone(ClientId, C),
    /// No ACK came for a non-2xx answer. The record can be looked at until its `ServerGone`.
    ServerTimedOut(ServerId),
    /// The record was freed.
    ServerGone(ServerId, S),
}

/// An event that waits to be told; a time-out or failure is followed by its own `Gone`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notice {
    ClientTimedOut(ClientId),
    ClientFailed(ClientId),
    ClientGone(ClientId),
    ServerTimedOut(ServerId),
    ServerGone(ServerId),
}

impl<S, C> Transactions<S, C> {
    /// When `expire` is to be called next; never later than that, possibly a little before
    /// anything is due. The start of time while events wait.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.notices.is_empty() {
            self.clock.next_deadline()
        } else {
            Some(Instant::START)
        }
    }

    /// Fires what is due until there is something to tell; to be called until `None`.
    pub fn expire(&mut self, now: Instant, out: &mut Outbox) -> Option<Event<S, C>> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                let event = self.tell(notice);
                if event.is_some() {
                    return event;
                }
            }
            let expiry = self.clock.pop_expired(now)?;
            self.look_ahead();
            match expiry.owner {
                Owner::Server(id) => self.server_timer(now, id, expiry.timer, out),
                Owner::Client(id) => self.client_timer(now, id, expiry.timer, out),
            }
        }
    }

    /// Has what the next timers are for fetched while this one is dealt with. It was not touched for
    /// half a minute, and all that it needs is known beforehand: the record of the one after the next,
    /// and the bucket of the next, whose record has come meanwhile.
    fn look_ahead(&self) {
        let [next, further] = self.clock.upcoming();
        match further {
            Some(Owner::Server(id)) => self.servers.expect(id.0.index),
            Some(Owner::Client(id)) => self.clients.expect(id.0.index),
            None => {}
        }
        match next {
            Some(Owner::Server(id)) => {
                if let Some(server) = self.servers.get(id.0) {
                    self.expect_server(&server.key);
                }
            }
            Some(Owner::Client(id)) => {
                if let Some(client) = self.clients.get(id.0) {
                    self.expect_client(client.token, client.method);
                }
            }
            None => {}
        }
    }

    fn tell(&mut self, notice: Notice) -> Option<Event<S, C>> {
        match notice {
            Notice::ClientTimedOut(id) => {
                self.notices.push_front(Notice::ClientGone(id));
                Some(Event::ClientTimedOut(id))
            }
            Notice::ClientFailed(id) => {
                self.notices.push_front(Notice::ClientGone(id));
                Some(Event::ClientFailed(id))
            }
            Notice::ServerTimedOut(id) => {
                self.notices.push_front(Notice::ServerGone(id));
                Some(Event::ServerTimedOut(id))
            }
            Notice::ClientGone(id) => {
                let client = self.clients.remove(id.0)?;
                self.bytes.free(client.stored);
                Some(Event::ClientGone(id, client.user))
            }
            Notice::ServerGone(id) => {
                let server = self.servers.remove(id.0)?;
                Some(Event::ServerGone(id, server.user))
            }
        }
    }
}
