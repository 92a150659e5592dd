//! What happened: one declaration per count and per reason of failure; latencies in microseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use callgate::io::DriverCounters;
use hdrhistogram::Histogram;

macro_rules! counts {
    ($($name:ident = $help:literal;)*) => {
        /// Events of one thread, or of all.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Counts { $(#[doc = $help] pub $name: u64,)* }

        impl Counts {
            /// Name and help text of each count.
            pub const ROWS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($name), $help),)*];

            /// Every count, in the order of [`Counts::ROWS`].
            pub fn values(&self) -> impl Iterator<Item = u64> {
                [$(self.$name,)*].into_iter()
            }

            /// Adds those of another thread.
            pub fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counts! {
    started = "Calls or other transactions started.";
    succeeded = "Of these, ended as they were meant to.";
    succeeded_in_time = "Of these, before the time to start calls was over.";
    failed = "Of these, ended otherwise or not at all.";
    not_started = "Calls that were due and found the caller's table full.";
    invites_sent = "INVITE sent.";
    invites_resent = "INVITE sent again (timer A).";
    trying_received = "100 received.";
    ringing_received = "180 to 199 received.";
    answers_received = "200 to INVITE received, the first of each call.";
    answers_again = "200 to INVITE received again.";
    refusals_received = "300 to 699 to INVITE received, the first of each call.";
    refusals_again = "300 to 699 to INVITE received again.";
    acks_sent = "ACK sent, for 200 and for refusals.";
    byes_sent = "BYE sent.";
    byes_resent = "BYE sent again (timer E).";
    bye_answers_received = "Final answers to BYE received.";
    cancels_sent = "CANCEL sent.";
    cancels_resent = "CANCEL sent again (timer E).";
    cancel_answers_received = "Final answers to CANCEL received.";
    requests_sent = "REGISTER or OPTIONS sent.";
    requests_resent = "REGISTER or OPTIONS sent again (timer E).";
    request_answers_received = "Final answers to REGISTER or OPTIONS received.";
    byes_received_by_caller = "BYE received by the caller: somebody else ended the call.";
    stray_responses = "Responses that belong to no call that lives.";
    invites_received = "INVITE received by the callee.";
    invites_received_again = "INVITE received again by the callee.";
    ringing_sent = "180 sent.";
    answers_sent = "200 to INVITE sent.";
    answers_resent = "200 to INVITE sent again for want of an ACK.";
    refusals_sent = "486 and 487 sent.";
    refusals_resent = "486 and 487 sent again for want of an ACK (timer G).";
    acks_received = "ACK received by the callee, the first of each call.";
    acks_received_again = "ACK received again.";
    byes_received = "BYE received by the callee, the first of each call.";
    byes_received_again = "BYE received again.";
    cancels_received = "CANCEL received by the callee.";
    requests_received = "REGISTER or OPTIONS received.";
    answers_unacknowledged = "Calls of the callee whose final answer was never acknowledged.";
    calls_refused_by_callee = "INVITE answered with 500: the callee's table is full.";
    unknown_dialog = "Requests answered with 481.";
    unknown_method = "Requests answered with 405.";
    malformed = "Datagrams that are not SIP.";
    foreign = "Datagrams from an address that is not permitted, dropped.";
    unreachable = "Datagrams that came back by ICMP.";
    outbox_full = "Messages that found no room to be sent; timers make up for them.";
    store_full = "Messages that could not be kept for sending again.";
    lingering_cut = "Ended calls forgotten early, since the table was full.";
}

macro_rules! failures {
    ($($variant:ident = $name:literal, $text:literal;)*) => {
        /// Why a call did not end as it was meant to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Failure { $($variant,)* /** A refusal with this status. */ Status(u16) }

        impl Failure {
            /// The name in JSON.
            pub fn name(self) -> String {
                match self {
                    $(Failure::$variant => $name.to_owned(),)*
                    Failure::Status(status) => format!("status_{status}"),
                }
            }

            /// What it is, for people.
            pub fn text(self) -> &'static str {
                match self {
                    $(Failure::$variant => $text,)*
                    Failure::Status(status) => callgate::sip::status::phrase(status),
                }
            }
        }
    };
}

failures! {
    InviteTimeout = "invite_timeout", "no answer at all to INVITE for 32 s (timer B)";
    NoFinalAnswer = "no_final_answer", "rang, but neither 200 nor a refusal came";
    CancelTimeout = "cancel_timeout", "no 487 within 32 s of the CANCEL";
    ByeTimeout = "bye_timeout", "no answer to BYE for 32 s (timer F)";
    RequestTimeout = "request_timeout", "no answer to REGISTER or OPTIONS for 32 s (timer F)";
    ByeRefused = "bye_refused", "BYE was answered, but not with 200";
    AnsweredAnyway = "answered_anyway", "answered, though it was to be busy or unanswered";
    EndedByPeer = "ended_by_peer", "BYE came from the other side";
    BadAnswer = "bad_answer", "200 without a Contact or with a route that cannot be read";
    RouteNotPermitted = "route_not_permitted", "Contact or Record-Route leads to an address that is not permitted";
    Unreachable = "unreachable", "the request came back by ICMP: nobody listens there";
    StoreFull = "store_full", "no room to keep the dialog";
    Unfinished = "unfinished", "still going on when the drain was over";
}

/// Latencies from one message to another.
#[derive(Clone, Debug)]
pub struct Latencies {
    pub invite_180: Histogram<u64>,
    pub invite_200: Histogram<u64>,
    pub bye_200: Histogram<u64>,
    pub request_200: Histogram<u64>,
    /// How much later than planned calls started: the generator's own slowness.
    pub start_late: Histogram<u64>,
}

/// The longest latency told apart, two minutes; what is longer counts as this.
const LATENCY_MAX_US: u64 = 120_000_000;

impl Latencies {
    fn new() -> Latencies {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("bounds that are in order");
        Latencies {
            invite_180: histogram(),
            invite_200: histogram(),
            bye_200: histogram(),
            request_200: histogram(),
            start_late: histogram(),
        }
    }

    /// Each with its name.
    pub fn rows(&self) -> [(&'static str, &Histogram<u64>); 5] {
        [
            ("invite_180", &self.invite_180),
            ("invite_200", &self.invite_200),
            ("bye_200", &self.bye_200),
            ("request_200", &self.request_200),
            ("start_late", &self.start_late),
        ]
    }

    fn add(&mut self, other: &Latencies) {
        let own = [
            &mut self.invite_180,
            &mut self.invite_200,
            &mut self.bye_200,
            &mut self.request_200,
            &mut self.start_late,
        ];
        for (own, (_, other)) in own.into_iter().zip(other.rows()) {
            own.add(other).expect("all histograms have the same bounds");
        }
    }
}

/// Records a latency.
pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(us.max(1));
}

/// All that one thread, or the whole run, has to tell.
#[derive(Clone, Debug)]
pub struct Tally {
    pub counts: Counts,
    pub failures: BTreeMap<Failure, u64>,
    pub latencies: Latencies,
    pub driver: DriverCounters,
    pub driver_name: &'static str,
}

impl Tally {
    /// Nothing has happened.
    pub fn new() -> Tally {
        Tally {
            counts: Counts::default(),
            failures: BTreeMap::new(),
            latencies: Latencies::new(),
            driver: DriverCounters::default(),
            driver_name: "",
        }
    }

    /// Counts a call that failed.
    pub fn fail(&mut self, why: Failure) {
        self.counts.failed += 1;
        *self.failures.entry(why).or_default() += 1;
    }

    /// Adds those of another thread.
    pub fn add(&mut self, other: &Tally) {
        self.counts.add(&other.counts);
        self.latencies.add(&other.latencies);
        for (why, count) in &other.failures {
            *self.failures.entry(*why).or_default() += count;
        }
        self.driver.received += other.driver.received;
        self.driver.sent += other.driver.sent;
        self.driver.turns += other.driver.turns;
        self.driver.system_calls += other.driver.system_calls;
        self.driver.dropped_by_kernel += other.driver.dropped_by_kernel;
        self.driver.send_full += other.driver.send_full;
        self.driver_name = other.driver_name;
    }
}
