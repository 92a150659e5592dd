//! What reaches a shard from other threads: datagrams of its calls, and requests of the operator.
//!
//! Each shard has one bounded inbox that any thread may fill, and a bounded stock of letters that
//! its readers hand back, so that handing a datagram over allocates nothing once the stock is warm.

use std::sync::Arc;

use core::net::SocketAddr;
use core::time::Duration;
use crossbeam::channel::{Receiver, Sender};

use super::plan::NodePlan;
use crate::base::ring::{ArrayQueue, Wake};
use crate::base::sleep::Sleep;
use crate::dialog::Phase;
use crate::limit::SlotId;
use crate::net::Flow;
use crate::transaction::ServerState;

/// A datagram on its way to the shard that owns its call.
#[derive(Debug)]
pub struct Letter {
    pub from: Flow,
    /// Whether `bytes` is the quotation in an ICMP error about a datagram sent to `from`.
    pub bounced: bool,
    pub bytes: Vec<u8>,
}

/// What an inbox holds.
#[derive(Debug)]
pub enum Mail {
    Datagram(Letter),
    /// What a call to a trunk taught about it; read by the shard that keeps the trunk's health.
    Passive {
        slot: u16,
        address_index: u8,
        signal: crate::route::health::Passive,
    },
    Ask(Box<Ask>),
}

/// A request of the control thread; each is answered once over its channel.
#[derive(Debug)]
pub enum Ask {
    /// Work from this plan from the next datagram on.
    Swap {
        plan: Arc<NodePlan>,
        done: Sender<()>,
    },
    /// Make call detail records from here on, or no longer.
    Account {
        accounting: Option<Box<super::Accounting>>,
        done: Sender<()>,
    },
    /// One page of live calls, from table position `from_index` on; at most `rows_max` calls are
    /// looked at, so with a filter a page may be empty and not the last.
    Calls {
        from_index: u32,
        rows_max: usize,
        filter: CallFilter,
        reply: Sender<CallsPage>,
    },
    /// Everything known of the live calls with this Call-ID.
    Call {
        call_id: Vec<u8>,
        reply: Sender<Vec<CallDetail>>,
    },
    /// Change the state of a trunk; only the shard that keeps the trunk's health is asked.
    Trunk {
        slot: u16,
        order: TrunkOrder,
        done: Sender<Result<(), &'static str>>,
    },
    /// The transition log of the trunks whose health this shard keeps, oldest first.
    Transitions {
        reply: Sender<Vec<crate::route::health::Transition>>,
    },
    /// What the live calls hold of the limits, and which of them may be over.
    Recount { reply: Sender<Recount> },
    /// How full the tables are.
    Census { reply: Sender<Census> },
    /// Every decision still remembered for this Call-ID.
    Why {
        call_id: Vec<u8>,
        reply: Sender<Vec<WhyRow>>,
    },
    /// The messages still remembered for this Call-ID.
    Messages {
        call_id: Vec<u8>,
        reply: Sender<Vec<MessageRow>>,
    },
    /// Copy messages for these listeners from here on, or for nobody.
    Tap {
        tap: Option<Arc<crate::capture::Tap>>,
        done: Sender<()>,
    },
    /// End the call with this Call-ID: BYE to both sides, lease given back.
    EndCall {
        call_id: Vec<u8>,
        reply: Sender<bool>,
    },
    /// Panic on purpose, to show that the supervisor restarts the shard (`callgate debug panic-shard`).
    Panic,
    /// Do nothing until the other end has gone, to show that the supervisor notices
    /// (`callgate debug stall-shard`).
    Stall { until: Receiver<()> },
}

/// What an operator wants of a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrunkOrder {
    Drain,
    Enable,
    Disable,
    Probe,
}

/// Which calls are listed; the default is all.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallFilter {
    /// Came in or went out over this trunk.
    pub trunk_slot: Option<u16>,
    pub phase: Option<Phase>,
    /// Admitted at least so long ago.
    pub age_min: Duration,
}

/// Some live calls of one shard.
#[derive(Debug)]
pub struct CallsPage {
    pub rows: Vec<CallRow>,
    /// Where the next page starts; `None` = this was the last.
    pub next_index: Option<u32>,
}

/// One live call as an operator sees it.
#[derive(Clone, Debug)]
pub struct CallRow {
    pub call_id: String,
    /// `ringing`, `answered` or `ending`.
    pub state: &'static str,
    pub trunk_in_slot: u16,
    pub trunk_out_slot: Option<u16>,
    /// Time since the INVITE was admitted.
    pub age: Duration,
    /// Time since the first 2xx.
    pub answered_for: Option<Duration>,
    pub caller: SocketAddr,
    pub callee: Option<SocketAddr>,
    pub from: String,
    pub to: String,
}

/// Everything known of one live call.
#[derive(Clone, Debug)]
pub struct CallDetail {
    pub row: CallRow,
    pub invite_cseq: u32,
    /// What stands in our Record-Route for this passage of the call.
    pub nonce: u32,
    /// The slots that each lease counts in.
    pub lease_in: Option<Vec<SlotId>>,
    pub lease_out: Option<Vec<SlotId>>,
    /// Until nobody has refreshed the session, and until `call_time_max`.
    pub session_left: Option<Duration>,
    pub call_time_left: Option<Duration>,
    /// Whether a restart finds the call under `state_dir`.
    pub recorded: bool,
    pub caller_listener: u16,
    pub callee_listener: Option<u16>,
    /// Remote target and route set of each side.
    pub caller_contact: String,
    pub caller_route: String,
    pub callee_contact: String,
    pub callee_route: String,
    /// Oldest first.
    pub forks: Vec<ForkDetail>,
    /// The INVITE's transaction, as long as it lives.
    pub setup: Option<SetupDetail>,
}

/// One dialog of a call.
#[derive(Clone, Copy, Debug)]
pub struct ForkDetail {
    pub confirmed: bool,
    pub ended: bool,
    pub caller_cseq: Option<u32>,
    pub callee_cseq: Option<u32>,
}

/// Where the set-up of a call stands.
#[derive(Clone, Copy, Debug)]
pub struct SetupDetail {
    pub transaction: ServerState,
    pub last_status: Option<u16>,
    /// The slot of the trunk or group that the route line named.
    pub to_slot: u16,
    pub address_index: u8,
    /// Since the attempt under way was sent.
    pub sent_for: Duration,
    pub cancelled: bool,
}

/// One decision taken for a call.
#[derive(Clone, Debug, Default)]
pub struct WhyRow {
    /// Time since it was taken.
    pub age: Duration,
    /// What kind of decision it is, in one word.
    pub step: &'static str,
    /// For people.
    pub text: String,
    /// The same for scripts.
    pub facts: Vec<(&'static str, Fact)>,
}

/// What a decision was taken by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Number(u64),
    Text(String),
}

/// One message of a call in short.
#[derive(Clone, Debug)]
pub struct MessageRow {
    /// Time since it came or went.
    pub age: Duration,
    pub direction: crate::capture::Direction,
    /// Over which of our listeners.
    pub listener: u16,
    pub remote: SocketAddr,
    /// The method, or status and phrase.
    pub text: String,
    /// Number and method.
    pub cseq: String,
    pub octets: u32,
    pub has_body: bool,
}

/// What the live calls of a shard hold of the limits.
#[derive(Clone, Debug, Default)]
pub struct Recount {
    pub calls: usize,
    /// In and out, by slot; slots that hold nothing are left out.
    pub held: Vec<(SlotId, u32, u32)>,
    /// The first of the calls that may be over.
    pub suspects: Vec<Suspect>,
}

/// A call that may be over, and why one may think so.
#[derive(Clone, Debug)]
pub struct Suspect {
    pub why: &'static str,
    pub row: CallRow,
}

/// How full a shard's tables are, in records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    pub calls: usize,
    pub dialogs: usize,
    pub dialogs_max: usize,
    pub server_transactions: usize,
    pub client_transactions: usize,
    pub transactions_max: usize,
    pub stored_bytes: usize,
    pub stored_bytes_max: usize,
    pub timers: usize,
    pub overload: crate::guard::overload::Shown,
}

/// The inboxes of all shards.
pub struct Mailroom {
    boxes: Vec<Inbox>,
}

/// Neighbours share no cache line: an owner says on each turn whether it sleeps.
#[repr(align(128))]
struct Inbox {
    mail: ArrayQueue<Mail>,
    /// Letters that were read; writers take one in place of allocating.
    stock: ArrayQueue<Vec<u8>>,
    sleep: Sleep,
    waker: std::sync::OnceLock<Arc<dyn Wake>>,
}

const _: () = assert!(size_of::<Inbox>().is_multiple_of(128));

impl Mailroom {
    /// Inboxes for `shards` shards of `letters_max` entries each.
    pub fn new(shards: usize, letters_max: usize) -> Mailroom {
        let inbox = || Inbox {
            mail: ArrayQueue::new(letters_max.max(1)),
            stock: ArrayQueue::new(letters_max.max(1)),
            sleep: Sleep::default(),
            waker: std::sync::OnceLock::new(),
        };
        Mailroom {
            boxes: (0..shards).map(|_| inbox()).collect(),
        }
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.boxes.len()
    }

    /// Says how shard `to` is woken; the first call for a shard wins.
    pub fn set_waker(&self, to: usize, waker: Arc<dyn Wake>) {
        let _first_wins = self.boxes[to].waker.set(waker);
    }

    /// Puts a copy of a datagram into the inbox of shard `to`; `false` when it is full.
    pub fn hand_over(&self, to: usize, from: Flow, bounced: bool, bytes: &[u8]) -> bool {
        let inbox = &self.boxes[to];
        let mut text = inbox.stock.pop().unwrap_or_default();
        text.clear();
        text.extend_from_slice(bytes);
        self.post(
            to,
            Mail::Datagram(Letter {
                from,
                bounced,
                bytes: text,
            }),
        )
    }

    /// Puts mail into the inbox of shard `to` and wakes it where it sleeps; `false` when it is full.
    pub fn post(&self, to: usize, mail: Mail) -> bool {
        let inbox = &self.boxes[to];
        let taken = inbox.mail.push(mail).is_ok();
        if inbox.sleep.needs_waking()
            && let Some(waker) = inbox.waker.get()
        {
            waker.wake();
        }
        taken
    }

    /// Takes the oldest mail of shard `of`.
    pub fn take(&self, of: usize) -> Option<Mail> {
        self.boxes[of].mail.pop()
    }

    /// Whether nothing waits for shard `of`.
    pub fn is_empty(&self, of: usize) -> bool {
        self.boxes[of].mail.is_empty()
    }

    /// Hands a read letter's buffer back to the stock of shard `of`.
    pub fn hand_back(&self, of: usize, bytes: Vec<u8>) {
        let _dropped_when_full = self.boxes[of].stock.push(bytes);
    }

    /// Announces that shard `of` is about to wait; `false` when mail came in, so that it must not.
    pub fn fall_asleep(&self, of: usize) -> bool {
        let inbox = &self.boxes[of];
        inbox.sleep.fall_asleep(|| inbox.mail.is_empty())
    }

    /// Announces that shard `of` is running again.
    pub fn wake_up(&self, of: usize) {
        self.boxes[of].sleep.wake_up();
    }
}
