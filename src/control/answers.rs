//! The answers of the admin socket: written by `methods`, read back by the command line.
//!
//! Field names are what scripts rely on (`--json` prints them as they are).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Answer to `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    pub version: String,
    pub uptime_s: u64,
    /// Milliseconds since the start at which all of this was read: the clock of rates.
    pub now_ms: u64,
    /// `ready`, `draining` or `degraded` (a shard is missing).
    pub state: String,
    /// The configuration file; `null` = the embedded default.
    pub config: Option<String>,
    pub listeners: Vec<ListenerRow>,
    pub shards: Vec<ShardRow>,
    pub shards_running: usize,
    pub io: String,
    pub io_why: String,
    /// Whether the kernel steers datagrams to the shard that owns their call.
    pub steering: bool,
    pub steering_why: String,
    pub handed_over: u64,
    pub calls: usize,
    pub restarts: u64,
    /// The wait from which on new requests are turned away; `null` = none are.
    #[serde(default)]
    pub overload_target_ms: Option<f64>,
    /// Call detail records; `null` = none are made.
    pub cdr: Option<CdrStatus>,
}

/// How the writing of call detail records goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CdrStatus {
    pub files: Vec<CdrFileRow>,
    /// Records that wait for the slowest file.
    pub pending: u64,
    /// Records that found the ring full.
    pub lost: u64,
    /// Why records are not written now.
    pub alarm: Option<String>,
}

/// One file of records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CdrFileRow {
    pub path: String,
    /// `json` or `csv`.
    pub format: String,
    /// Records since the start.
    pub written: u64,
    pub alarm: Option<String>,
}

/// Answer to `why`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Why {
    /// Oldest first.
    pub decisions: Vec<WhyRow>,
    /// Oldest first; those of a call that is long over are overwritten before its decisions are, or
    /// after.
    pub messages: Vec<MessageRow>,
}

/// One message of a call in short.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MessageRow {
    /// Seconds since it came or went.
    pub age_s: f64,
    /// Whether this node received it; else it sent it.
    pub received: bool,
    /// Address of our listener.
    pub local: String,
    pub remote: String,
    /// The method, or status and phrase.
    pub text: String,
    /// Number and method.
    pub cseq: String,
    pub octets: u32,
    pub has_body: bool,
}

/// Answer to `trace.start`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TraceStarted {
    pub trace: u64,
    /// `trunk` or `call`: what the word was taken for.
    pub kind: String,
    pub now_us: u64,
}

/// Answer to `trace.next`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TracePage {
    pub messages: Vec<TraceRow>,
    /// Messages that were lost so far because this trace was not fetched in time.
    pub lost: u64,
    /// The node's clock, to measure how long the trace has run.
    pub now_us: u64,
}

/// One message of a trace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TraceRow {
    /// Microseconds since 1970.
    pub unix_us: u64,
    /// Whether this node received it; else it sent it.
    pub received: bool,
    pub local: String,
    pub remote: String,
    /// Length of the message; more than half of `hex` when it was cut off.
    pub octets: usize,
    /// The message, two digits per octet.
    pub hex: String,
}

/// One decision taken for a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WhyRow {
    /// Seconds since it was taken.
    pub age_s: f64,
    /// `source`, `route`, `limit`, `admitted`, `policy`, `passed-over`, `attempt`, `answer`, `failed`,
    /// `refused`, `cancelled`, `hung-up` or `ended`.
    pub step: String,
    pub text: String,
    /// What it was taken by; which there are depends on the step.
    pub facts: BTreeMap<String, serde_json::Value>,
}

/// One page of `ban.list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BansPage {
    pub rows: Vec<BanRow>,
    /// Where the next page starts; `null` = this was the last.
    pub next: Option<usize>,
}

/// One ban.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BanRow {
    pub block: String,
    /// `operator`, `unknown_rate` or `malformed`.
    pub reason: String,
    /// What the operator said.
    pub note: Option<String>,
    pub age_s: u64,
    pub left_s: u64,
}

/// One `[[listen]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerRow {
    pub udp: String,
    pub advertise: String,
}

/// Row of `shards`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardRow {
    pub shard: usize,
    pub cpu: Option<usize>,
    pub state: String,
    pub beat_age_ms: u64,
    pub calls: usize,
    pub dialogs: usize,
    pub dialogs_max: usize,
    pub server_transactions: usize,
    pub client_transactions: usize,
    pub transactions_max: usize,
    pub stored_bytes: usize,
    pub stored_bytes_max: usize,
    pub timers: usize,
    pub datagrams_received: u64,
    pub datagrams_sent: u64,
    pub handed_over: u64,
    pub restarts: u64,
    /// How long the shard lets datagrams gather before it looks; 0 = each may wake it.
    pub tick_us: u64,
    /// Waits that were over in the last second.
    pub wakes_per_s: f64,
    pub datagrams_per_wake: f64,
    /// The least that any datagram waited in the shard's sockets during the last interval.
    pub queue_wait_ms: f64,
    /// How full the fullest of its sockets was.
    pub queue_fill_percent: u8,
    /// The share of new requests that it turns away, 0 to 1.
    pub shed: f64,
    /// The part of it that gets no answer.
    pub shed_silently: f64,
}

/// Use and maxima of one trunk or group; `null` = not limited.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitRow {
    /// `trunk` or `group`.
    pub kind: String,
    pub name: String,
    pub calls: u32,
    /// Most calls at the same time since the start.
    pub calls_peak: u32,
    pub calls_max: Option<u32>,
    pub calls_in: u32,
    pub calls_in_max: Option<u32>,
    pub calls_out: u32,
    pub calls_out_max: Option<u32>,
    pub cps_sustain: Option<f64>,
    pub cps_burst: Option<u32>,
}

/// Answer to `limits.verify`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Live calls of all shards.
    pub calls: usize,
    /// Limits whose counter is not what the live calls hold; none = all is well.
    pub differences: Vec<Difference>,
    /// Calls that may be over without anybody having said so.
    pub ghosts: Vec<Ghost>,
}

/// A counter that is not what the live calls hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Difference {
    pub name: String,
    pub counted_in: u32,
    pub live_in: u32,
    pub counted_out: u32,
    pub live_out: u32,
}

/// A call that may be over, and why one may think so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ghost {
    pub why: String,
    pub call: CallRow,
}

/// Row of `trunk.list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrunkRow {
    pub name: String,
    pub state: String,
    /// Seconds in this state.
    pub since_s: u64,
    /// Round trip of the last probe that was answered.
    pub rtt_ms: Option<f64>,
    pub addresses: Vec<String>,
    pub limits: LimitRow,
    /// Calls since the start.
    pub admitted_in: u64,
    pub admitted_out: u64,
    pub answered_in: u64,
    pub answered_out: u64,
}

/// Answer to `trunk.show`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrunkDetail {
    #[serde(flatten)]
    pub row: TrunkRow,
    pub groups: Vec<String>,
    pub probe_s: Option<f64>,
    pub codecs: Vec<String>,
    /// Oldest first.
    pub transitions: Vec<TransitionRow>,
    /// Why the transitions are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transitions_missing: Option<String>,
    pub counters: BTreeMap<String, u64>,
}

/// One change of a trunk's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TransitionRow {
    pub ago_s: u64,
    pub from: String,
    pub to: String,
    pub why: String,
}

/// Where a page of `calls` goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub shard: usize,
    pub index: u32,
}

/// Answer to `calls`: one page; `next` = `null` after the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallsPage {
    pub rows: Vec<CallRow>,
    pub next: Option<Cursor>,
    /// Why the calls of the cursor's shard are missing; `next` goes on behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// One live call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallRow {
    pub call_id: String,
    pub state: String,
    pub trunk_in: String,
    pub trunk_out: Option<String>,
    pub age_s: f64,
    pub answered_s: Option<f64>,
    pub caller: String,
    pub callee: Option<String>,
    pub from: String,
    pub to: String,
    pub shard: usize,
}

/// Answer to `call.show`: one element for each passage of the call through the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallDetail {
    #[serde(flatten)]
    pub row: CallRow,
    pub invite_cseq: u32,
    /// What tells this passage of the call from another, in our Record-Route.
    pub passage: String,
    /// The trunk and groups in whose limits the call counts; `null` = it holds no lease there.
    pub lease_in: Option<Vec<String>>,
    pub lease_out: Option<Vec<String>>,
    /// Until the session is over for want of a refresh (RFC 4028); `null` = no timer.
    pub session_left_s: Option<f64>,
    /// Until `call_time_max`; `null` = no maximum.
    pub call_time_left_s: Option<f64>,
    /// Whether a restart finds the call under `state_dir`.
    pub recorded: bool,
    pub caller_listener: Option<String>,
    pub callee_listener: Option<String>,
    pub caller_contact: String,
    pub caller_route: String,
    pub callee_contact: String,
    pub callee_route: String,
    /// Dialogs that the call grew, oldest first.
    pub forks: Vec<ForkRow>,
    /// How the set-up stands, as long as the INVITE's transaction lives.
    pub setup: Option<SetupRow>,
}

/// One dialog of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForkRow {
    /// `early`, `confirmed` or `ended`.
    pub state: String,
    pub caller_cseq: Option<u32>,
    pub callee_cseq: Option<u32>,
}

/// How the set-up of a call stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SetupRow {
    /// State of the INVITE's server transaction (RFC 3261 §17.2.1, RFC 6026).
    pub transaction: String,
    /// Last status sent to the caller.
    pub last_status: Option<u16>,
    /// The trunk or group that the route line names.
    pub to: String,
    /// Which address of the trunk the attempt goes to, from 1.
    pub address: u32,
    /// Since the attempt under way was sent.
    pub sent_s: f64,
    pub cancelled: bool,
}

/// Row of `group.list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupRow {
    pub name: String,
    pub policy: String,
    pub members: Vec<MemberRow>,
    /// Answered in place of 480 or 486 over a limit.
    pub over_limit: Option<u16>,
    pub limits: LimitRow,
}

/// A trunk in a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberRow {
    pub trunk: String,
    pub weight: u32,
    pub state: String,
    pub calls_out: u32,
}

/// Answer to `log.show` and `log.set`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogState {
    /// The level or directives at work.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
    /// Whether user parts of SIP URIs are written above `debug`.
    pub numbers: bool,
}

/// Answer to `config.show`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigShown {
    /// The configuration file; `null` = the embedded default.
    pub file: Option<String>,
    /// Its text as it was read, secrets taken out.
    pub text: String,
    /// The same as values.
    pub values: serde_json::Value,
}

/// Parameters of `config.plan`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanWish {
    /// Names the text in faults.
    pub file: String,
    pub text: String,
    /// Recorded requests to be routed by both configurations; at most 1000.
    #[serde(default)]
    pub requests: Vec<RecordedRequest>,
}

/// What routing looks at in a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedRequest {
    /// IP and port that it came from.
    pub source: String,
    /// User and host of its Request-URI.
    pub user: String,
    /// Whether the user is a telephone number: a tel URI, or `user=phone`.
    #[serde(default)]
    pub is_number: bool,
    pub domain: String,
}

/// Answer to `config.plan`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Planned {
    /// What a reload would apply.
    pub applied: Vec<String>,
    /// What only a restart applies; a reload would be refused.
    pub needs_restart: Vec<String>,
    pub warnings: Vec<String>,
    /// Trunks and groups that change or go, with the calls that are up over them.
    pub affected: Vec<AffectedRow>,
    /// One element for each request that was asked about.
    pub routed: Vec<RoutedRow>,
}

/// A trunk or group that a reload would change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AffectedRow {
    /// `trunk` or `group`.
    pub kind: String,
    pub name: String,
    /// `added`, `changed` or `removed`.
    pub change: String,
    pub calls: u32,
}

/// Where both configurations send a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoutedRow {
    pub old: String,
    pub new: String,
}

/// Answer to `events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventsPage {
    /// Another number is another start of the node, with sequence numbers from 1.
    pub epoch: u64,
    pub rows: Vec<EventRow>,
    /// What to give as `since` next.
    pub next: u64,
    /// Events after `since` that the ring no longer holds.
    pub lost: u64,
}

/// Something that happened to the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// From 1, without gaps.
    pub seq: u64,
    /// Milliseconds since 1970, UTC.
    pub time_ms: u64,
    /// `trunk`, `shard`, `reload`, `drain`, `limit` and others.
    pub kind: String,
    /// The trunk, group, shard or address that it is about; empty = the node.
    pub about: String,
    pub text: String,
}

/// Answer to `reload`: what took effect, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    pub changed: Vec<String>,
}

/// Row of `stats`: one counter, summed over the shards.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatRow {
    pub name: String,
    pub labels: String,
    pub value: u64,
}

/// Answer to `ready`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    pub ready: bool,
    pub why: String,
}
