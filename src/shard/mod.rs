//! The machine of one shard: (now, datagram) in, datagrams out. One file per step of the RFC.
//!
//! `owner` decides whose datagram it is, `request` walks RFC 3261 §16.3 to §16.6, `setup` and
//! `attempt` find a trunk for a new call, `dialog` carries requests inside a call, `response` walks
//! §16.7, `deadline` does what time asks for. Nothing here reads a clock, entropy or a socket.

mod account;
mod ack;
mod ask;
mod attempt;
mod branch;
mod cancel;
mod cookie;
mod deadline;
mod detail;
mod ending;
mod feedback;
mod forward;
mod gate;
mod health;
mod identity;
mod in_dialog;
mod journal;
mod late;
mod ledger;
mod local;
pub mod mail;
mod messages;
mod next_hop;
mod overload;
mod owner;
mod path;
pub mod plan;
mod recount;
mod refusal;
mod refuse;
mod relay;
mod request;
mod response;
mod session_timer;
mod sessions;
mod setup;
mod setup_ledger;
mod tap;
mod tell;

pub use account::Accounting;
pub use journal::DECISIONS_MAX;
pub use ledger::{Recalled, rehashed};
pub use overload::Turnstile;
pub use plan::{Capacity, Listener, NodePlan};

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::base::bytes::ByteStore;
use crate::base::hash::HashKey;
use crate::base::random::Random;
use crate::base::wheel::Wheel;
use crate::base::{Fresh, Instant};
use crate::capture::Tap;
use crate::dialog::Calls;
use crate::dialog::store::Wall;
use crate::guard::bans::SharedBans;
use crate::guard::overload::Overload;
use crate::limit::{KeptLease, LeaseBook, Limits};
use crate::metrics::{Counter, Metrics};
use crate::net::{Flow, ListenerId, Outbox};
use crate::route::health::{Board, Keeper};
use crate::route::sources::Sources;
use crate::route::{Group, Trunk, TrunkId};
use crate::sip::{self, Edit, Scratch};
use crate::transaction::{self, Transactions};
use account::Accounts;
use feedback::Asked;
use gate::Gate;
use identity::Identity;
use journal::Journal;
use ledger::Ledger;
use mail::Mailroom;
use messages::Messages;
use relay::{Alarm, Attempt, Relay};

/// What all shards of a node share; the design's invariant 5 says why there is nothing else.
pub struct Shared {
    pub limits: Arc<Limits>,
    pub board: Arc<Board>,
    pub mail: Mailroom,
    /// The node takes no new calls.
    pub draining: AtomicBool,
    /// Decides which shard owns a Call-ID. Made anew at each start, unless calls outlive it.
    pub owner_key: HashKey,
    /// Who is not served; docs/decisions say why it is shared.
    pub bans: SharedBans,
}

/// One shard.
pub struct Shard {
    id: u16,
    plan: Box<NodePlan>,
    sources: Sources,
    identity: Identity,
    /// Trunk and group by slot: records keep slots, since ids change with a reload.
    trunk_of_slot: Vec<Option<TrunkId>>,
    group_of_slot: Vec<Option<u16>>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    transactions: Transactions<Relay, Attempt>,
    calls: Calls<KeptLease>,
    leases: LeaseBook,
    /// Where calls outlive the shard.
    ledger: Option<Ledger>,
    /// Until then answers may come to requests of the shard before this one.
    heir_until: Option<Instant>,
    /// Where call detail records are written.
    accounts: Option<Box<Accounts>>,
    alarms: Wheel<Alarm>,
    /// Requests as they came, for a further attempt and for late answers of our own.
    requests: ByteStore,
    keeper: Keeper,
    overload: Overload,
    gate: Gate,
    /// What each trunk asked for in its answers, by slot.
    asked: Vec<Asked>,
    wall: Wall,
    journal: Journal,
    messages: Messages,
    /// Who wants copies of messages; `None` = nobody.
    tap: Option<Arc<Tap>>,
    /// When each trunk last answered anything to this shard, by slot.
    heard: Vec<Option<Instant>>,
    random: Random,
    /// Keys tags, branches and cookies. The same in all shards, so that a restarted shard knows its own.
    secret: HashKey,
    /// Rotating counters of the groups' policies, by group slot.
    turns: Vec<u32>,
    /// Taken out while a message that borrows it is worked on.
    scratch: Option<Box<Scratch>>,
    replay_scratch: Option<Box<Scratch>>,
    /// A stored request while it is forwarded again.
    replay: Vec<u8>,
    edit: Edit,
    /// An answer while it is written and weighed.
    scrap: Box<[u8]>,
}

/// Regions of memory that a shard takes as calls come.
pub const FRESH_COUNT: usize = 11;

/// Messages that a shard remembers for `why`, unless told otherwise: the last four thousand calls.
pub const MESSAGES_MAX: usize = 65_536;

/// Headers that one message may have; more is malformed.
const FIELDS_MAX: usize = 256;

/// Octets kept of a proxied request on average.
const REQUEST_OCTETS_EACH: usize = 1536;

/// A byte store is dealt out in pages of one size class each; with less than a few pages for each
/// class a small node would run out of the wrong one.
const STORE_OCTETS_MIN: usize = 2 << 20;

impl Shard {
    /// A shard with empty tables. `capacity` is this shard's part, `seed` its own entropy.
    pub fn new(
        id: u16,
        plan: &NodePlan,
        shared: Arc<Shared>,
        capacity: Capacity,
        seed: [u64; 4],
        metrics: Arc<Metrics>,
        now: Instant,
    ) -> Shard {
        let secret = secret_of(&shared.owner_key);
        let shards = shared.mail.shards() as u16;
        let mut random = Random::new(seed);
        let table = transaction::Capacity {
            servers: capacity.transactions,
            clients: capacity.transactions,
            bytes: (capacity.transactions * Self::TRANSACTION_OCTETS_EACH).max(STORE_OCTETS_MIN),
        };
        let transaction_key = HashKey::new([random.next_u64(), random.next_u64()]);
        let mut shard = Shard {
            id,
            plan: Box::new(plan.clone()),
            sources: Sources::default(),
            identity: Identity::default(),
            trunk_of_slot: Vec::new(),
            group_of_slot: Vec::new(),
            metrics,
            transactions: Transactions::new(&table, plan.timings, transaction_key, now),
            calls: Calls::new(capacity.dialogs),
            leases: LeaseBook::new(shared.limits.slots_max()),
            ledger: None,
            heir_until: None,
            accounts: None,
            alarms: Wheel::new(capacity.transactions, now),
            requests: ByteStore::new(
                (capacity.transactions * REQUEST_OCTETS_EACH).max(STORE_OCTETS_MIN),
            ),
            journal: Journal::of_calls(DECISIONS_MAX),
            messages: Messages::new(MESSAGES_MAX),
            tap: None,
            heard: Vec::new(),
            overload: Overload::new(plan.overload, now),
            gate: Gate::new(secret),
            asked: Vec::new(),
            wall: Wall { start_us: 0 },
            keeper: Keeper::new(id, shards, Arc::clone(&shared.board)),
            shared,
            random,
            secret,
            turns: Vec::new(),
            scratch: None,
            replay_scratch: None,
            replay: Vec::with_capacity(Outbox::DATAGRAM_MAX + 28),
            edit: Edit::new(64, 16 * 1024),
            scrap: vec![0; Outbox::DATAGRAM_MAX].into_boxed_slice(),
        };
        shard.scratch = Some(shard.take_scratch());
        shard.replay_scratch = Some(shard.take_replay_scratch());
        shard.adopt(now);
        shard
    }

    /// Octets kept of the messages of one transaction on average.
    const TRANSACTION_OCTETS_EACH: usize = 2048;

    /// Memory of the tables that was never used, for whoever provides it ahead of its use.
    pub fn fresh(&self) -> [Fresh; FRESH_COUNT] {
        let [servers, clients, bytes, clock] = self.transactions.fresh();
        let [calls, set_ups, texts] = self.calls.fresh();
        let (requests, alarms) = (self.requests.fresh(), self.alarms.fresh());
        let (notes, messages) = (self.journal.fresh(), self.messages.fresh());
        [
            servers, clients, bytes, clock, calls, set_ups, texts, requests, alarms, notes,
            messages,
        ]
    }

    /// Octets that one dialog and one transaction take at most, for the memory budget.
    pub const fn octets_each() -> (usize, usize) {
        let transaction = Transactions::<Relay, Attempt>::octets_each()
            + Self::TRANSACTION_OCTETS_EACH
            + REQUEST_OCTETS_EACH
            + 2 * size_of::<Alarm>();
        (Calls::<KeptLease>::octets_each(), transaction)
    }

    /// Takes one datagram; what it leads to is in `out`.
    pub fn on_datagram(&mut self, now: Instant, from: Flow, bytes: &[u8], out: &mut Outbox) {
        self.journal.set_time(now);
        self.metrics.count(Counter::DatagramsReceived);
        self.receive(now, from, bytes, owner::Door::Socket, out);
    }

    /// Hears that a datagram to `to` was refused on the way; `quoted` is the front of its payload.
    pub fn on_unreachable(&mut self, now: Instant, to: Flow, quoted: &[u8], out: &mut Outbox) {
        self.journal.set_time(now);
        let mark = out.len();
        self.bounced(now, to, quoted, owner::Door::Socket, out);
        self.observe_sent(now, mark, out);
    }

    /// When [`Shard::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let dues = [
            self.transactions.next_deadline(),
            self.alarms.next_deadline(),
            self.calls.next_due(),
            self.keeper.next_due(),
        ];
        dues.into_iter().flatten().min()
    }

    /// Gives all leases back: the last act of a shard that is taken out of service. What it has
    /// recorded of its calls stays, for the one that comes after it.
    pub fn wind_up(&mut self) {
        self.ledger = None;
        let mut from = 0;
        while let Some(call) = self.calls.next_from(from) {
            self.account_left(call);
            self.end_call(call, account::LOST);
            from = call.0.index + 1;
        }
    }

    /// The parser's memory; made anew where it was lost in a panic.
    fn take_scratch(&mut self) -> Box<Scratch> {
        self.scratch
            .take()
            .unwrap_or_else(|| Box::new(Scratch::new(FIELDS_MAX)))
    }

    /// The same for messages of our own: a forwarded request has a few fields more than it came with.
    fn take_replay_scratch(&mut self) -> Box<Scratch> {
        self.replay_scratch
            .take()
            .unwrap_or_else(|| Box::new(Scratch::new(FIELDS_MAX + 16)))
    }

    /// Builds what is derived from the plan.
    fn adopt(&mut self, now: Instant) {
        self.sources = Sources::build(&self.plan.routing);
        self.leases.expect(self.plan.routing.trunks.len());
        self.identity = Identity::of(&self.plan);
        let slots = self.plan.slots_end();
        self.trunk_of_slot.clear();
        self.trunk_of_slot.resize(slots, None);
        self.group_of_slot.clear();
        self.group_of_slot.resize(slots, None);
        self.turns.resize(slots.max(self.turns.len()), 0);
        self.heard.resize(slots.max(self.heard.len()), None);
        self.asked
            .resize(slots.max(self.asked.len()), Asked::default());
        for (at, trunk) in self.plan.routing.trunks.iter().enumerate() {
            self.trunk_of_slot[usize::from(trunk.slot)] = Some(TrunkId(at as u16));
        }
        for (at, group) in self.plan.routing.groups.iter().enumerate() {
            self.group_of_slot[usize::from(group.slot)] = Some(at as u16);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.learn_names(&self.plan.routing);
        }
        if let Some(accounts) = &mut self.accounts {
            accounts.learn_names(&self.plan.routing);
        }
        self.transactions.set_timings(self.plan.timings);
        self.overload.adopt(self.plan.overload);
        self.keeper.adopt(now, &self.plan.routing);
    }

    /// The trunk that has this slot in the plan at work; none when a reload took it away.
    fn trunk_at(&self, slot: u16) -> Option<&Trunk> {
        let id = self
            .trunk_of_slot
            .get(usize::from(slot))
            .copied()
            .flatten()?;
        Some(self.plan.routing.trunk(id))
    }

    /// The group that has this slot in the plan at work.
    fn group_at(&self, slot: u16) -> Option<&Group> {
        let at = self
            .group_of_slot
            .get(usize::from(slot))
            .copied()
            .flatten()?;
        self.plan.routing.groups.get(usize::from(at))
    }

    /// The flow over which an address is reached: the first listener of its family.
    fn flow_to(&self, address: core::net::SocketAddr) -> Option<Flow> {
        let same_family = |listener: &Listener| listener.bind.is_ipv4() == address.is_ipv4();
        let at = self.plan.listeners.iter().position(same_family)?;
        Some(Flow::udp(ListenerId(at as u16), address))
    }

    /// Our own To tag for an answer to this request: the same for each retransmission.
    fn own_tag(&self, request: &sip::Message<'_>) -> [u8; 16] {
        let mut tag = [0u8; 16];
        crate::base::Cursor::new(&mut tag).put_hex(self.tag_number(request));
        tag
    }

    /// The number that our tag shows.
    fn tag_number(&self, request: &sip::Message<'_>) -> u64 {
        let mut hasher = self.secret.hasher();
        hasher.write(request.call_id());
        hasher.write(request.from_tag().unwrap_or_default());
        // The number alone: the answer to a CANCEL carries the tag of the INVITE's.
        hasher.write_u64(request.cseq().map_or(0, |cseq| u64::from(cseq.number)));
        hasher.finish()
    }
}

/// What keys tags, branches and cookies: derived, so that all shards have the same.
fn secret_of(owner_key: &HashKey) -> HashKey {
    HashKey::new([
        owner_key.hash(b"callgate secret 0"),
        owner_key.hash(b"callgate secret 1"),
    ])
}
