//! Why a request is refused, and what its sender is told: one row per reason.

use crate::metrics::Counter;
use crate::sip::HeaderId;

/// A final answer of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// Reason phrase where the standard one says too little.
    pub phrase: Option<&'static str>,
    /// Cause of a `Reason: Q.850` header.
    pub q850: Option<u8>,
    pub retry_after_s: Option<u32>,
    /// Min-SE of a 422.
    pub min_se_s: Option<u32>,
    /// The header whose option tags are listed in the Unsupported of a 420.
    pub unsupported: Option<HeaderId>,
    pub counter: Counter,
}

impl Refusal {
    /// A refusal without further headers.
    pub const fn new(status: u16, counter: Counter) -> Refusal {
        Refusal {
            status,
            phrase: None,
            q850: None,
            retry_after_s: None,
            min_se_s: None,
            unsupported: None,
            counter,
        }
    }

    const fn with_cause(self, cause: u8) -> Refusal {
        Refusal {
            q850: Some(cause),
            ..self
        }
    }

    /// With a reason phrase of its own.
    pub const fn because(self, phrase: &'static str) -> Refusal {
        Refusal {
            phrase: Some(phrase),
            ..self
        }
    }

    /// With a Retry-After header.
    pub const fn retry_after(self, seconds: u32) -> Refusal {
        Refusal {
            retry_after_s: Some(seconds),
            ..self
        }
    }

    /// With another status, where `over_limit` asks for one.
    pub const fn with_status(self, status: Option<u16>) -> Refusal {
        match status {
            Some(status) => Refusal { status, ..self },
            None => self,
        }
    }

    pub const UNKNOWN_SOURCE: Refusal = Refusal::new(403, Counter::RefusedUnknownSource);
    pub const NO_ROUTE: Refusal = Refusal::new(404, Counter::RefusedNoRoute);
    pub const REDIRECTED: Refusal = Refusal::new(302, Counter::Redirected);
    pub const NO_DIALOG: Refusal = Refusal::new(481, Counter::RefusedNoDialog);
    pub const NO_TRANSACTION: Refusal = Refusal::new(481, Counter::RefusedNoTransaction);
    /// A CANCEL for a transaction of somebody else: told as if there were none.
    pub const FOREIGN_CANCEL: Refusal = Refusal::new(481, Counter::RefusedForeignCancel);
    pub const UNRESOLVABLE: Refusal = Refusal::new(478, Counter::RefusedNoRoute);
    pub const TOO_MANY_HOPS: Refusal = Refusal::new(483, Counter::RefusedTooManyHops);
    pub const UNKNOWN_SCHEME: Refusal = Refusal::new(416, Counter::RefusedScheme);
    pub const MAX_BREADTH: Refusal = Refusal::new(440, Counter::RefusedMaxBreadth);
    pub const LOOP: Refusal = Refusal::new(482, Counter::RefusedLoop);
    pub const BAD_PROXY_REQUIRE: Refusal = Refusal::bad_extension(HeaderId::ProxyRequire);
    pub const BAD_REQUIRE: Refusal = Refusal::bad_extension(HeaderId::Require);
    pub const TOO_LARGE: Refusal = Refusal::new(513, Counter::RefusedTooLarge);
    pub const CSEQ_LOWER: Refusal =
        Refusal::new(500, Counter::RefusedCseq).because("CSeq Is Out Of Order");
    pub const CANCELLED: Refusal = Refusal::new(487, Counter::RefusedCancelled);
    pub const TIMED_OUT: Refusal = Refusal::new(408, Counter::RefusedTimedOut);
    /// Concurrent calls of the caller's trunk: Q.850 44, requested circuit not available.
    pub const LIMIT_IN: Refusal = Refusal::new(480, Counter::RefusedLimitIn).with_cause(44);
    /// Concurrent calls of every candidate: Q.850 17, user busy.
    pub const LIMIT_OUT: Refusal = Refusal::new(486, Counter::RefusedLimitOut).with_cause(17);
    pub const CPS: Refusal = Refusal::new(503, Counter::RefusedCps);
    /// No candidate takes a codec of the offer: Q.850 58, bearer capability not available.
    pub const CODEC: Refusal = Refusal::new(488, Counter::RefusedCodec).with_cause(58);
    /// Every candidate is down: Q.850 20, subscriber absent.
    pub const TRUNK_DOWN: Refusal = Refusal::new(480, Counter::RefusedTrunkDown).with_cause(20);
    /// No candidate answered in time: Q.850 34, no circuit available.
    pub const CONGESTED: Refusal = Refusal::new(503, Counter::RefusedCongested).with_cause(34);
    /// All candidates answered 503, which a proxy does not pass on (RFC 3261 §16.7 step 6).
    pub const ALL_503: Refusal = Refusal::new(500, Counter::RefusedCongested).with_cause(34);
    /// A table is full: Q.850 42, switching equipment congestion.
    pub const TRANSACTIONS_FULL: Refusal = Refusal::new(503, Counter::RefusedTransactionsFull)
        .with_cause(42)
        .retry_after(1);
    pub const DIALOGS_FULL: Refusal = Refusal::new(503, Counter::RefusedDialogsFull)
        .with_cause(42)
        .retry_after(1);
    /// The shard has more to do than it can: Q.850 42.
    pub const OVERLOADED: Refusal = Refusal::new(503, Counter::RefusedOverload).with_cause(42);
    /// Who would take the call has asked for fewer. No Retry-After: that would be about us.
    //= rfc7339#5.10.2
    pub const HELD_BACK: Refusal = Refusal::new(503, Counter::RefusedHeldBack).with_cause(42);
    pub const DRAINING: Refusal = Refusal::new(503, Counter::RefusedDraining)
        .because("Draining")
        .retry_after(10);

    const fn bad_extension(header: HeaderId) -> Refusal {
        Refusal {
            unsupported: Some(header),
            ..Refusal::new(420, Counter::RefusedExtension)
        }
    }

    /// 422 with the smallest interval that is accepted.
    pub const fn session_interval(min_se_s: u32) -> Refusal {
        Refusal {
            min_se_s: Some(min_se_s),
            ..Refusal::new(422, Counter::RefusedSessionInterval)
        }
    }
}
