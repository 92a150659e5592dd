//! What a shard remembers beside each transaction: the response context of RFC 3261 §16.7.

use crate::base::Instant;
use crate::base::bytes::Handle;
use crate::base::wheel::TimerId;
use crate::dialog::{CallKey, ForkKey};
use crate::net::Flow;
use crate::sip::Method;
use crate::transaction::{ClientId, ServerId};

/// Kept with a server transaction.
#[derive(Clone, Debug)]
pub struct Relay {
    pub method: Method,
    /// Where the request came from.
    pub from: Flow,
    /// The request as it came, for a further attempt and for an answer of our own.
    pub request: Handle,
    /// The client transaction of the attempt under way, and its token.
    pub client: Option<ClientId>,
    pub token: u64,
    pub loop_check: u64,
    pub purpose: Purpose,
    /// Whether the attempt under way got a provisional answer.
    pub provisional: bool,
    pub cancelled: bool,
    /// Cancelled by timer C: nobody asked for that, so that the answer of our own is 408.
    pub rang_out: bool,
    /// Reason of a CANCEL that waits for the first provisional answer.
    pub cancel_reason: Handle,
    /// Session-Expires that went out with the request, in seconds.
    pub session_sent_s: Option<u32>,
    /// Looked at where an interval went out.
    pub caller_knows_timers: bool,
    /// Auto-congest first, timer C later; of a request that is no INVITE, the 100 that it may need.
    pub timer: TimerId,
}

/// What a proxied request is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Answered by us; nothing was forwarded.
    Local,
    /// An INVITE that sets a call up.
    Setup(Setup),
    /// A request inside a live dialog.
    InDialog { call: CallKey, fork: ForkKey },
    /// A request outside of any dialog that we count: REGISTER, OPTIONS, SUBSCRIBE, MESSAGE …
    Outside {
        trunk_out: Option<u16>,
        address_index: u8,
    },
}

/// Where the set-up of a call stands.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub call: CallKey,
    pub trunk_in: u16,
    pub to: Destination,
    /// Members of the group that were tried or passed over, by position.
    pub tried: u64,
    /// The trunk and address of the attempt under way.
    pub trunk_out: Option<u16>,
    pub address_index: u8,
    pub addresses_tried: u16,
    /// When the attempt under way was sent.
    pub sent: Instant,
    pub passed: Passed,
}

/// The slot of the trunk or group that the route line named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    Trunk(u16),
    Group(u16),
}

/// Why candidates were passed over or failed; decides the answer when none is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub limit: bool,
    /// Seconds until the call rate allows another call.
    pub cps_retry_after_s: Option<u32>,
    pub codec: bool,
    pub down: bool,
    pub congested: bool,
    pub answered_503: bool,
    /// Answer in place of 486, from the last candidate whose limit was reached.
    pub over_limit: Option<u16>,
    /// It asked for fewer calls.
    pub held_back: bool,
}

/// Kept with a client transaction.
#[derive(Clone, Copy, Debug)]
pub enum Attempt {
    /// Forwards the request of this server transaction to this trunk, where it goes to one.
    Relay {
        server: ServerId,
        trunk_out: Option<u16>,
    },
    /// A CANCEL of ours; its answer means nothing.
    Cancel,
    /// An OPTIONS probe.
    Probe {
        slot: u16,
        address_index: u8,
        sent: Instant,
    },
    /// A BYE of ours for a call that an operator or a time limit ended.
    Bye,
}

/// A moment that the shard waits for; what calls wait for, once they are answered, they have
/// themselves.
#[derive(Clone, Copy, Debug)]
pub enum Alarm {
    /// No answer at all to an attempt.
    Congest(ServerId),
    /// RFC 3261 §16.8.
    TimerC(ServerId),
    /// RFC 4320 §4.1: a request that is no INVITE has waited long enough for a first answer.
    Trying(ServerId),
    /// A request that is no INVITE and gets no answer is over for its sender, too.
    Silence(ServerId),
    /// A set-up that was cancelled before a restart.
    CancelAgain(ServerId),
}
