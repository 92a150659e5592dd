//! The table of a shard's transactions: what it holds, how it is found, how much is in use.
//! What happens to a server transaction is in `server.rs`, to a client in `client.rs`, with time
//! in `expire.rs`.

use std::collections::VecDeque;

use super::client::{Client, ClientState};
use super::clock::Clock;
use super::expire::Notice;
use super::key::ServerKey;
use super::listed::listed;
use super::server::{Server, ServerState};
use super::timings::Timings;
use crate::base::{ByteStore, Fresh, HashKey, Index, Instant, Key, Slab};
use crate::metrics::tally;
use crate::net::Flow;
use crate::sip::{Message, Method, Via};

/// Names a server transaction; stale once its `ServerGone` was returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId(pub Key);

/// Names a client transaction; stale once its `ClientGone` was returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(pub Key);

/// Which machine of its side a transaction follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Invite,
    NonInvite,
}

impl Role {
    /// The role of a transaction that a request with this method creates.
    pub fn of(method: Method) -> Role {
        if method == Method::Invite {
            Role::Invite
        } else {
            Role::NonInvite
        }
    }
}

/// The most that a table holds; all of it is taken at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Server transactions.
    pub servers: usize,
    /// Client transactions.
    pub clients: usize,
    /// Octets for copies of requests and responses that may be sent again.
    pub bytes: usize,
}

listed! {
    /// What had no room.
    pub enum Full {
        Servers,
        Clients,
        Bytes,
        Outbox,
    }
}

tally! {
    /// What the table did by itself, since the start.
    Counters {
        requests_resent = "Requests and ACKs sent again.";
        responses_resent = "Responses sent again.";
        resends_refused = "Repetitions for which the outbox had no room; the next timer or copy tries again.";
        copies_refused = "Responses and ACKs sent for which no copy could be kept.";
        acks_refused = "ACKs that could not be composed or had no room in the outbox.";
        responses_ignored = "Responses of the user that came too late for their transaction.";
    }
}

/// The transactions of one shard. `S` and `C` are what the shard keeps with each server and
/// client transaction.
#[derive(Debug)]
pub struct Transactions<S, C> {
    pub(super) hash: HashKey,
    pub(super) servers: Slab<Server<S>>,
    pub(super) servers_by_key: Index,
    pub(super) clients: Slab<Client<C>>,
    pub(super) clients_by_token: Index,
    pub(super) bytes: ByteStore,
    pub(super) clock: Clock,
    /// What the user has still to be told: at most one entry per record.
    pub(super) notices: VecDeque<Notice>,
    pub(super) counters: Counters,
}

impl<S, C> Transactions<S, C> {
    /// Takes all memory that the table will ever use.
    pub fn new(
        capacity: &Capacity,
        timings: Timings,
        hash: HashKey,
        now: Instant,
    ) -> Transactions<S, C> {
        let transactions_max = capacity.servers + capacity.clients;
        Transactions {
            hash,
            servers: Slab::new(capacity.servers),
            servers_by_key: Index::new(capacity.servers),
            clients: Slab::new(capacity.clients),
            clients_by_token: Index::new(capacity.clients),
            bytes: ByteStore::new(capacity.bytes),
            clock: Clock::new(transactions_max, timings, now),
            notices: VecDeque::with_capacity(transactions_max),
            counters: Counters::default(),
        }
    }

    /// Memory that no transaction ever took.
    pub fn fresh(&self) -> [Fresh; 4] {
        [
            self.servers.fresh(),
            self.clients.fresh(),
            self.bytes.fresh(),
            self.clock.fresh(),
        ]
    }

    /// Octets that one server and one client transaction take, without their messages.
    pub const fn octets_each() -> usize {
        // Per record: a timer (48), an index entry and a place among the free ones (11 and 4, as
        // 16) and a notice (16).
        size_of::<Server<S>>() + size_of::<Client<C>>() + 2 * (48 + 16 + 16)
    }

    /// How many server transactions fit; as many client transactions do.
    pub fn capacity(&self) -> usize {
        self.servers.capacity()
    }

    /// Takes other timer values; a timer that runs keeps its own.
    pub fn set_timings(&mut self, timings: Timings) {
        self.clock.set_timings(timings);
    }

    /// The key of the server transaction that `request` belongs to (RFC 3261 §17.2.3). For an
    /// ACK that is the INVITE's: its state says whether the ACK ends there.
    pub fn server_key(&self, request: &Message<'_>, via: &Via<'_>) -> ServerKey {
        ServerKey::of(&self.hash, request, via)
    }

    /// The key of the INVITE that `cancel` is for (RFC 3261 §9.2).
    pub fn cancel_target_key(&self, cancel: &Message<'_>, via: &Via<'_>) -> ServerKey {
        ServerKey::of_cancelled(&self.hash, cancel, via)
    }

    /// Says that a server transaction with this key will be looked for soon.
    pub fn expect_server(&self, key: &ServerKey) {
        self.servers_by_key.expect(key.first);
    }

    /// Says that a client transaction will be looked for or begun soon.
    pub fn expect_client(&self, token: u64, method: Method) {
        self.clients_by_token.expect(client_hash(token, method));
    }

    /// The live server transaction with this key.
    pub fn find_server(&self, key: &ServerKey) -> Option<ServerId> {
        let found = self.servers_by_key.find(key.first, |index| {
            let server = self.servers.at(index);
            server.is_some_and(|server| server.key == *key)
        });
        found
            .and_then(|index| self.servers.key_at(index))
            .map(ServerId)
    }

    /// The live client transaction whose branch carried `token`, for a response with this CSeq
    /// method: a CANCEL shares the branch of its INVITE and has a transaction of its own.
    pub fn find_client(&self, token: u64, method: Method) -> Option<ClientId> {
        //= rfc3261#17.1.3
        let hash = client_hash(token, method);
        let found = self.clients_by_token.find(hash, |index| {
            let client = self.clients.at(index);
            client.is_some_and(|client| client.token == token && client.method == method)
        });
        found
            .and_then(|index| self.clients.key_at(index))
            .map(ClientId)
    }

    /// Where a server transaction stands.
    pub fn server_state(&self, id: ServerId) -> Option<ServerState> {
        self.servers.get(id.0).map(|server| server.state)
    }

    /// What the user keeps with a server transaction.
    pub fn server_user(&self, id: ServerId) -> Option<&S> {
        self.servers.get(id.0).map(|server| &server.user)
    }

    /// What the user keeps with a server transaction, to change it.
    pub fn server_user_mut(&mut self, id: ServerId) -> Option<&mut S> {
        self.servers.get_mut(id.0).map(|server| &mut server.user)
    }

    /// Where the responses of a server transaction go.
    pub fn server_flow(&self, id: ServerId) -> Option<Flow> {
        self.servers.get(id.0).map(|server| server.flow)
    }

    /// The status of the response sent last; `None` before the first.
    pub fn last_status(&self, id: ServerId) -> Option<u16> {
        let server = self.servers.get(id.0)?;
        (server.last_status != 0).then_some(server.last_status)
    }

    /// Where a client transaction stands.
    pub fn client_state(&self, id: ClientId) -> Option<ClientState> {
        self.clients.get(id.0).map(|client| client.state)
    }

    /// What the user keeps with a client transaction.
    pub fn client_user(&self, id: ClientId) -> Option<&C> {
        self.clients.get(id.0).map(|client| &client.user)
    }

    /// What the user keeps with a client transaction, to change it.
    pub fn client_user_mut(&mut self, id: ClientId) -> Option<&mut C> {
        self.clients.get_mut(id.0).map(|client| &mut client.user)
    }

    /// Where the request of a client transaction went.
    pub fn client_flow(&self, id: ClientId) -> Option<Flow> {
        self.clients.get(id.0).map(|client| client.flow)
    }

    /// The request as it was sent; `None` once a final answer made it superfluous.
    pub fn client_request(&self, id: ClientId) -> Option<&[u8]> {
        let client = self.clients.get(id.0)?;
        let request = self.bytes.get(client.stored);
        (!client.stored_is_ack && !request.is_empty()).then_some(request)
    }

    /// All server transactions, for listing.
    pub fn servers(&self) -> impl Iterator<Item = (ServerId, &S)> {
        let records = self.servers.iter();
        records.map(|(key, server)| (ServerId(key), &server.user))
    }

    /// All client transactions, for listing.
    pub fn clients(&self) -> impl Iterator<Item = (ClientId, &C)> {
        let records = self.clients.iter();
        records.map(|(key, client)| (ClientId(key), &client.user))
    }

    /// Server transactions in the table.
    pub fn servers_len(&self) -> usize {
        self.servers.len()
    }

    /// Client transactions in the table.
    pub fn clients_len(&self) -> usize {
        self.clients.len()
    }

    /// Octets taken by copies of messages.
    pub fn stored_bytes(&self) -> usize {
        self.bytes.used()
    }

    /// Timers that are armed.
    pub fn timers_len(&self) -> usize {
        self.clock.len()
    }

    /// What the table did by itself, since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

/// A token is a keyed hash itself: no peer chooses those that are in the table, and one that a peer
/// asks for is only looked for. The index takes the low half.
pub(super) fn client_hash(token: u64, method: Method) -> u64 {
    let salt = match method {
        Method::Cancel => 0x5bd1_e995_7b7d_159d,
        _ => 0,
    };
    (token ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}
