//! Counters of one shard: one declaration per metric, plain memory, one writer.
//!
//! A row of the table below is a metric with one set of labels. A shard adds with a load and a
//! store (it is the only writer), the control thread reads at any time.

pub mod histogram;
mod tally;

pub use histogram::{Histograms, Leg};
pub(crate) use tally::tally;

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $metric:literal $labels:literal, $help:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $(#[doc = $help] $variant,)* }

        impl $name {
            /// Every row in declaration order: (metric name, labels, help text).
            pub const ROWS: &'static [(&'static str, &'static str, &'static str)] =
                &[$(($metric, $labels, $help),)*];
        }
    };
}

counters! {
    /// Counters of a shard. Rows of one metric stand together, as the exposition format wants it.
    Counter {
        DatagramsReceived = "callgate_datagrams_received_total" "", "Datagrams taken from the sockets.";
        DatagramsSent = "callgate_datagrams_sent_total" "", "Datagrams put into the outbox.";
        HandedOver = "callgate_handed_over_total" "", "Datagrams mailed to the shard that owns their call.";
        RequestsReceived = "callgate_messages_received_total" r#"kind="request""#, "SIP messages that parsed.";
        ResponsesReceived = "callgate_messages_received_total" r#"kind="response""#, "SIP messages that parsed.";
        KeepAlives = "callgate_keep_alives_total" r#"kind="crlf""#, "Keep-alives answered.";
        StunBindings = "callgate_keep_alives_total" r#"kind="stun""#, "Keep-alives answered.";
        Retransmissions = "callgate_retransmissions_absorbed_total" "", "Requests and responses that had come before.";
        DroppedGarbage = "callgate_dropped_total" r#"reason="not_sip""#, "Datagrams dropped, by reason.";
        DroppedMalformedResponse = "callgate_dropped_total" r#"reason="malformed_response""#, "Datagrams dropped, by reason.";
        DroppedMalformedUnanswerable = "callgate_dropped_total" r#"reason="malformed_unanswerable""#, "Datagrams dropped, by reason.";
        DroppedStrayResponse = "callgate_dropped_total" r#"reason="stray_response""#, "Datagrams dropped, by reason.";
        DroppedForeignVia = "callgate_dropped_total" r#"reason="foreign_via""#, "Datagrams dropped, by reason.";
        DroppedStrayAck = "callgate_dropped_total" r#"reason="stray_ack""#, "Datagrams dropped, by reason.";
        DroppedOutboxFull = "callgate_dropped_total" r#"reason="outbox_full""#, "Datagrams dropped, by reason.";
        DroppedInboxFull = "callgate_dropped_total" r#"reason="hand_over_ring_full""#, "Datagrams dropped, by reason.";
        DroppedAnswerTooLarge = "callgate_dropped_total" r#"reason="answer_larger_than_allowed""#, "Datagrams dropped, by reason.";
        DroppedNonInviteAnswer = "callgate_dropped_total" r#"reason="non_invite_408_or_1xx""#, "Datagrams dropped, by reason.";
        DroppedOverload = "callgate_dropped_total" r#"reason="overload""#, "Datagrams dropped, by reason.";
        DroppedOverloadStranger = "callgate_dropped_total" r#"reason="overload_unknown_source""#, "Datagrams dropped, by reason.";
        DroppedDenied = "callgate_dropped_total" r#"reason="denied""#, "Datagrams dropped, by reason.";
        DroppedBannedOperator = "callgate_dropped_total" r#"reason="banned_operator""#, "Datagrams dropped, by reason.";
        DroppedBannedUnknownRate = "callgate_dropped_total" r#"reason="banned_unknown_rate""#, "Datagrams dropped, by reason.";
        DroppedBannedMalformed = "callgate_dropped_total" r#"reason="banned_malformed""#, "Datagrams dropped, by reason.";
        RefusedMalformed = "callgate_refused_total" r#"reason="malformed""#, "Requests refused, by reason.";
        RefusedUnknownSource = "callgate_refused_total" r#"reason="unknown_source""#, "Requests refused, by reason.";
        RefusedNoRoute = "callgate_refused_total" r#"reason="no_route""#, "Requests refused, by reason.";
        RefusedByRoute = "callgate_refused_total" r#"reason="route_reject""#, "Requests refused, by reason.";
        Redirected = "callgate_refused_total" r#"reason="route_redirect""#, "Requests refused, by reason.";
        RefusedNoDialog = "callgate_refused_total" r#"reason="no_such_dialog""#, "Requests refused, by reason.";
        RefusedNoTransaction = "callgate_refused_total" r#"reason="no_such_transaction""#, "Requests refused, by reason.";
        RefusedForeignCancel = "callgate_refused_total" r#"reason="cancel_from_elsewhere""#, "Requests refused, by reason.";
        RefusedTooManyHops = "callgate_refused_total" r#"reason="max_forwards""#, "Requests refused, by reason.";
        RefusedLoop = "callgate_refused_total" r#"reason="loop""#, "Requests refused, by reason.";
        RefusedMaxBreadth = "callgate_refused_total" r#"reason="max_breadth""#, "Requests refused, by reason.";
        RefusedExtension = "callgate_refused_total" r#"reason="proxy_require""#, "Requests refused, by reason.";
        RefusedScheme = "callgate_refused_total" r#"reason="uri_scheme""#, "Requests refused, by reason.";
        RefusedVersion = "callgate_refused_total" r#"reason="sip_version""#, "Requests refused, by reason.";
        RefusedTooLarge = "callgate_refused_total" r#"reason="too_large""#, "Requests refused, by reason.";
        RefusedMethod = "callgate_refused_total" r#"reason="method""#, "Requests refused, by reason.";
        RefusedTransactionsFull = "callgate_refused_total" r#"reason="transactions_full""#, "Requests refused, by reason.";
        RefusedDialogsFull = "callgate_refused_total" r#"reason="dialogs_full""#, "Requests refused, by reason.";
        RefusedLimitIn = "callgate_refused_total" r#"reason="limit_in""#, "Requests refused, by reason.";
        RefusedLimitOut = "callgate_refused_total" r#"reason="limit_out""#, "Requests refused, by reason.";
        RefusedCps = "callgate_refused_total" r#"reason="cps""#, "Requests refused, by reason.";
        RefusedCodec = "callgate_refused_total" r#"reason="codec""#, "Requests refused, by reason.";
        RefusedTrunkDown = "callgate_refused_total" r#"reason="trunk_down""#, "Requests refused, by reason.";
        RefusedCongested = "callgate_refused_total" r#"reason="auto_congest""#, "Requests refused, by reason.";
        RefusedOverload = "callgate_refused_total" r#"reason="overload""#, "Requests refused, by reason.";
        RefusedHeldBack = "callgate_refused_total" r#"reason="peer_overloaded""#, "Requests refused, by reason.";
        RefusedDraining = "callgate_refused_total" r#"reason="draining""#, "Requests refused, by reason.";
        RefusedSessionInterval = "callgate_refused_total" r#"reason="session_interval_too_small""#, "Requests refused, by reason.";
        RefusedCancelled = "callgate_refused_total" r#"reason="cancelled""#, "Requests refused, by reason.";
        RefusedTimedOut = "callgate_refused_total" r#"reason="timed_out""#, "Requests refused, by reason.";
        RefusedByOperator = "callgate_refused_total" r#"reason="ended_by_operator""#, "Requests refused, by reason.";
        RefusedCseq = "callgate_refused_total" r#"reason="cseq""#, "Requests refused, by reason.";
        BannedUnknownRate = "callgate_bans_total" r#"reason="unknown_rate""#, "Bans that the node made, by reason.";
        BannedMalformed = "callgate_bans_total" r#"reason="malformed""#, "Bans that the node made, by reason.";
        BansFull = "callgate_bans_not_kept_total" "", "Bans that found no room in the table.";
        FeedbackGarbage = "callgate_overload_feedback_ignored_total" "", "Answers whose RFC 7339 parameters made no sense.";
        AcksAbsorbed = "callgate_acks_absorbed_total" "", "ACKs of refusals that nothing was kept of.";
        CseqLower = "callgate_cseq_lower_total" "", "INVITEs in a dialog with a lower CSeq than the remembered one.";
        CallsAdmitted = "callgate_calls_admitted_total" "", "New calls that took a lease.";
        CallsAnswered = "callgate_calls_answered_total" "", "Calls that got their first 2xx.";
        CallsReturned = "callgate_calls_returned_total" "", "Calls that an attempt answered which had been given up: counted on its trunk even above a limit.";
        CallsEnded = "callgate_calls_ended_total" "", "Calls that gave their lease back.";
        CallsRecalled = "callgate_calls_recalled_total" "", "Calls that were up or being set up before a restart and go on.";
        CallsNotRecorded = "callgate_calls_not_recorded_total" "", "Answered calls without a place under state_dir: a restart forgets them.";
        SetupsNotRecorded = "callgate_setups_not_recorded_total" "", "Calls being set up without a place under state_dir, or with too long an INVITE: a restart forgets them.";
        AnswersInherited = "callgate_answers_inherited_total" "", "Answers passed on by their Via to requests that were sent before a restart.";
        RecordsCut = "callgate_call_records_cut_total" "", "Records of calls written without some of their words, which were too long.";
        TextsNotKept = "callgate_call_texts_not_kept_total" "", "Calls whose words did not fit; they cannot be ended by a BYE of ours.";
        CdrsMade = "callgate_cdr_records_total" "", "Call detail records handed to the writer.";
        CdrsLostRingFull = "callgate_cdr_lost_total" r#"reason="ring_full""#, "Call detail records that no file has, by reason.";
        CdrsCut = "callgate_cdr_cut_total" "", "Call detail records without some of their texts or attempts, which had no room.";
        Failovers = "callgate_failovers_total" "", "Attempts that moved on to the next member or address.";
        Unreachable = "callgate_icmp_unreachable_total" "", "ICMP refusals matched to a transaction.";
    }
}

counters! {
    /// Counters of one trunk within a shard; the label `trunk` is added when they are printed.
    TrunkCounter {
        CallsIn = "callgate_trunk_calls_total" r#"direction="in""#, "Calls admitted, by trunk.";
        CallsOut = "callgate_trunk_calls_total" r#"direction="out""#, "Calls admitted, by trunk.";
        AnsweredIn = "callgate_trunk_answered_total" r#"direction="in""#, "Calls answered, by trunk.";
        AnsweredOut = "callgate_trunk_answered_total" r#"direction="out""#, "Calls answered, by trunk.";
        RefusedIn = "callgate_trunk_over_limit_total" r#"direction="in""#, "Calls refused or passed over for a limit, by trunk.";
        RefusedOut = "callgate_trunk_over_limit_total" r#"direction="out""#, "Calls refused or passed over for a limit, by trunk.";
        Final1xx = "callgate_trunk_responses_total" r#"class="1xx""#, "Responses received from the trunk, by class.";
        Final2xx = "callgate_trunk_responses_total" r#"class="2xx""#, "Responses received from the trunk, by class.";
        Final3xx = "callgate_trunk_responses_total" r#"class="3xx""#, "Responses received from the trunk, by class.";
        Final4xx = "callgate_trunk_responses_total" r#"class="4xx""#, "Responses received from the trunk, by class.";
        Final5xx = "callgate_trunk_responses_total" r#"class="5xx""#, "Responses received from the trunk, by class.";
        Final6xx = "callgate_trunk_responses_total" r#"class="6xx""#, "Responses received from the trunk, by class.";
        AnsweredSessionIn = "callgate_trunk_sessions_total" r#"direction="in",result="answered""#, "Session attempts by the last answer to their INVITE, by trunk.";
        RedirectedSessionIn = "callgate_trunk_sessions_total" r#"direction="in",result="redirected""#, "Session attempts by the last answer to their INVITE, by trunk.";
        ChallengedSessionIn = "callgate_trunk_sessions_total" r#"direction="in",result="challenged""#, "Session attempts by the last answer to their INVITE, by trunk.";
        UnavailableSessionIn = "callgate_trunk_sessions_total" r#"direction="in",result="unavailable""#, "Session attempts by the last answer to their INVITE, by trunk.";
        CancelledSessionIn = "callgate_trunk_sessions_total" r#"direction="in",result="cancelled""#, "Session attempts by the last answer to their INVITE, by trunk.";
        IneffectiveSessionIn = "callgate_trunk_sessions_total" r#"direction="in",result="ineffective""#, "Session attempts by the last answer to their INVITE, by trunk.";
        FailedSessionIn = "callgate_trunk_sessions_total" r#"direction="in",result="failed""#, "Session attempts by the last answer to their INVITE, by trunk.";
        AnsweredSessionOut = "callgate_trunk_sessions_total" r#"direction="out",result="answered""#, "Session attempts by the last answer to their INVITE, by trunk.";
        RedirectedSessionOut = "callgate_trunk_sessions_total" r#"direction="out",result="redirected""#, "Session attempts by the last answer to their INVITE, by trunk.";
        ChallengedSessionOut = "callgate_trunk_sessions_total" r#"direction="out",result="challenged""#, "Session attempts by the last answer to their INVITE, by trunk.";
        UnavailableSessionOut = "callgate_trunk_sessions_total" r#"direction="out",result="unavailable""#, "Session attempts by the last answer to their INVITE, by trunk.";
        CancelledSessionOut = "callgate_trunk_sessions_total" r#"direction="out",result="cancelled""#, "Session attempts by the last answer to their INVITE, by trunk.";
        IneffectiveSessionOut = "callgate_trunk_sessions_total" r#"direction="out",result="ineffective""#, "Session attempts by the last answer to their INVITE, by trunk.";
        FailedSessionOut = "callgate_trunk_sessions_total" r#"direction="out",result="failed""#, "Session attempts by the last answer to their INVITE, by trunk.";
        CompletedIn = "callgate_trunk_sessions_completed_total" r#"direction="in""#, "Answered calls that were hung up, by trunk.";
        CompletedOut = "callgate_trunk_sessions_completed_total" r#"direction="out""#, "Answered calls that were hung up, by trunk.";
        TimedOut = "callgate_trunk_timeouts_total" "", "Requests to the trunk without a final answer.";
        HeldBack = "callgate_trunk_held_back_total" "", "Calls not sent to the trunk because it asked for fewer (RFC 7339).";
        ProbesSent = "callgate_trunk_probes_total" r#"outcome="sent""#, "OPTIONS probes, by trunk.";
        ProbesFailed = "callgate_trunk_probes_total" r#"outcome="failed""#, "OPTIONS probes, by trunk.";
    }
}

impl TrunkCounter {
    /// The row of a session attempt that ended with this answer. The classes are those that the
    /// ratios of RFC 6076 are made of (docs/metrics.md).
    pub const fn of_session(leg: Leg, status: u16) -> TrunkCounter {
        let rows = match status {
            200..=299 => (Self::AnsweredSessionIn, Self::AnsweredSessionOut),
            300..=399 => (Self::RedirectedSessionIn, Self::RedirectedSessionOut),
            401 | 402 | 407 => (Self::ChallengedSessionIn, Self::ChallengedSessionOut),
            480 | 486 | 600 | 603 => (Self::UnavailableSessionIn, Self::UnavailableSessionOut),
            487 => (Self::CancelledSessionIn, Self::CancelledSessionOut),
            408 | 500 | 503 | 504 => (Self::IneffectiveSessionIn, Self::IneffectiveSessionOut),
            _ => (Self::FailedSessionIn, Self::FailedSessionOut),
        };
        match leg {
            Leg::In => rows.0,
            Leg::Out => rows.1,
        }
    }
}

/// One shard's counters.
#[derive(Debug)]
pub struct Metrics {
    pub histograms: Histograms,
    node: Cells,
    trunks: Cells,
}

/// Counters with their cache lines to themselves: what one shard counts must not take a line away
/// from another. 128, since the hardware fetches lines in pairs.
#[derive(Debug)]
struct Cells(Box<[Line]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; Line::CELLS]);

impl Line {
    const CELLS: usize = 16;
}

const _: () = assert!(size_of::<Line>() == align_of::<Line>());

impl Cells {
    fn new(count: usize) -> Cells {
        Cells(
            (0..count.div_ceil(Line::CELLS))
                .map(|_| Line::default())
                .collect(),
        )
    }

    fn get(&self, at: usize) -> Option<&AtomicU64> {
        self.0
            .get(at / Line::CELLS)
            .map(|line| &line.0[at % Line::CELLS])
    }
}

impl Metrics {
    /// Counters for a shard, with room for trunk slots below `slots_max`.
    pub fn new(slots_max: usize) -> Metrics {
        Metrics {
            histograms: Histograms::new(slots_max),
            node: Cells::new(Counter::ROWS.len()),
            trunks: Cells::new(slots_max * TrunkCounter::ROWS.len()),
        }
    }

    /// Adds to a counter of the shard.
    pub fn add(&self, counter: Counter, count: u64) {
        if let Some(cell) = self.node.get(counter as usize) {
            bump(cell, count);
        }
    }

    /// Adds one to a counter of the shard.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds one to a counter of the trunk with this slot; a slot beyond the table counts nowhere.
    pub fn count_trunk(&self, slot: u16, counter: TrunkCounter) {
        if let Some(cell) = self.trunks.get(Self::trunk_cell(slot, counter)) {
            bump(cell, 1);
        }
    }

    /// Reads a counter of the shard.
    pub fn value(&self, counter: Counter) -> u64 {
        self.row(counter as usize)
    }

    /// Reads a counter by its row number in [`Counter::ROWS`].
    pub fn row(&self, row: usize) -> u64 {
        self.node
            .get(row)
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Reads a trunk's counter by its row number in [`TrunkCounter::ROWS`].
    pub fn trunk_row(&self, slot: u16, row: usize) -> u64 {
        let at = usize::from(slot) * TrunkCounter::ROWS.len() + row;
        self.trunks
            .get(at)
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    fn trunk_cell(slot: u16, counter: TrunkCounter) -> usize {
        usize::from(slot) * TrunkCounter::ROWS.len() + counter as usize
    }
}

/// Adds without a locked instruction: the shard's thread is the only writer.
fn bump(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_metric_stand_together_and_share_their_help() {
        for rows in [Counter::ROWS, TrunkCounter::ROWS] {
            let mut closed: Vec<&str> = Vec::new();
            for pair in rows.windows(2) {
                let [(earlier, _, earlier_help), (later, _, later_help)] = pair else {
                    continue;
                };
                if earlier == later {
                    assert_eq!(earlier_help, later_help, "{later}");
                } else {
                    closed.push(earlier);
                    assert!(!closed.contains(later), "{later} stands in two places");
                }
            }
        }
    }

    #[test]
    fn two_shards_never_count_on_one_cache_line() {
        let all: Vec<Metrics> = (0..8).map(|_| Metrics::new(3)).collect();
        let mut lines: Vec<usize> = all
            .iter()
            .flat_map(|metrics| [&metrics.node, &metrics.trunks])
            .flat_map(|cells| cells.0.iter().map(|line| (&raw const *line).addr()))
            .collect();
        assert!(lines.iter().all(|line| line.is_multiple_of(128)));
        let count = lines.len();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), count);
        let trunks = TrunkCounter::ROWS.len();
        assert_eq!(all[0].trunks.0.len(), (3 * trunks).div_ceil(16));
    }

    #[test]
    fn a_counter_counts_for_itself_and_its_trunk_only() {
        let metrics = Metrics::new(2);
        metrics.count(Counter::KeepAlives);
        metrics.count_trunk(1, TrunkCounter::CallsIn);
        metrics.count_trunk(9, TrunkCounter::CallsIn);
        assert_eq!(metrics.value(Counter::KeepAlives), 1);
        assert_eq!(metrics.value(Counter::StunBindings), 0);
        assert_eq!(metrics.trunk_row(1, TrunkCounter::CallsIn as usize), 1);
        assert_eq!(metrics.trunk_row(0, TrunkCounter::CallsIn as usize), 0);
    }
}
