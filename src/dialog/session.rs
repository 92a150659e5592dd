//! Session timers as a proxy applies them (RFC 4028 §8): which interval a request may carry, when a
//! request is refused with 422, and what a 2xx without the header gets.

use core::time::Duration;

/// No session interval is shorter (RFC 4028 §4).
pub const INTERVAL_MIN_S: u32 = 90;

/// What a request says about session timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Session-Expires, in seconds.
    pub session_expires_s: Option<u32>,
    /// Min-SE, in seconds.
    pub min_se_s: Option<u32>,
    /// Whether `Supported` lists `timer`.
    pub supported: bool,
}

/// What the proxy does to a request's Session-Expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to change.
    Pass,
    /// Insert or lower Session-Expires to this many seconds.
    Set { session_expires_s: u32 },
    /// 422 with this Min-SE.
    TooSmall { min_se_s: u32 },
    /// The interval is below our minimum, but the sender knows no 422: raise Min-SE in the request.
    Raise {
        session_expires_s: u32,
        min_se_s: u32,
    },
}

/// Decides about a request, where a trunk of the call wants `wanted` as the interval.
pub fn request(asked: Asked, wanted: Option<Duration>, min_se: Duration) -> Step {
    let min_se_s = seconds(min_se);
    let floor_s = asked.min_se_s.unwrap_or(0).max(min_se_s);
    let wanted_s = wanted.map(|wanted| seconds(wanted).max(floor_s));
    match (asked.session_expires_s, wanted_s) {
        //= rfc4028#8.1
        (Some(asked_s), Some(_)) if asked_s < min_se_s && asked.supported => {
            Step::TooSmall { min_se_s }
        }
        (Some(asked_s), Some(_)) if asked_s < min_se_s => Step::Raise {
            session_expires_s: floor_s,
            min_se_s: floor_s,
        },
        (Some(asked_s), Some(wanted_s)) if wanted_s < asked_s => Step::Set {
            session_expires_s: wanted_s,
        },
        (None, Some(wanted_s)) => Step::Set {
            session_expires_s: wanted_s,
        },
        (Some(_), Some(_)) | (_, None) => Step::Pass,
    }
}

/// What a 2xx to a request with session timers means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// No session timer runs.
    None,
    /// The response carries the interval.
    Seconds(u32),
    /// The callee knows no session timers, the caller does: the proxy adds the header with
    /// `refresher=uac` and `Require: timer`.
    Insert(u32),
}

/// Decides about a 2xx. `sent_s` is the interval that the forwarded request carried.
//= rfc4028#8.2
pub fn response(answered_s: Option<u32>, sent_s: Option<u32>, caller_supports: bool) -> Granted {
    match (answered_s, sent_s) {
        (Some(seconds), _) => Granted::Seconds(seconds),
        (None, Some(seconds)) if caller_supports => Granted::Insert(seconds),
        (None, _) => Granted::None,
    }
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN_SE: Duration = Duration::from_secs(90);
    const WANTED: Option<Duration> = Some(Duration::from_secs(1800));

    fn asked(session_expires_s: Option<u32>, min_se_s: Option<u32>, supported: bool) -> Asked {
        Asked {
            session_expires_s,
            min_se_s,
            supported,
        }
    }

    #[test]
    fn an_interval_is_inserted_where_the_trunk_wants_one() {
        assert_eq!(
            request(asked(None, None, false), WANTED, MIN_SE),
            Step::Set {
                session_expires_s: 1800
            }
        );
        assert_eq!(request(asked(None, None, true), None, MIN_SE), Step::Pass);
    }

    #[test]
    fn an_inserted_interval_respects_the_requests_min_se() {
        let step = request(asked(None, Some(3600), true), WANTED, MIN_SE);
        assert_eq!(
            step,
            Step::Set {
                session_expires_s: 3600
            }
        );
    }

    #[test]
    fn a_longer_interval_is_lowered_and_a_shorter_one_kept() {
        assert_eq!(
            request(asked(Some(7200), None, true), WANTED, MIN_SE),
            Step::Set {
                session_expires_s: 1800
            }
        );
        assert_eq!(
            request(asked(Some(600), None, true), WANTED, MIN_SE),
            Step::Pass
        );
    }

    #[test]
    fn too_short_is_422_for_who_knows_it_and_raised_for_who_does_not() {
        assert_eq!(
            request(asked(Some(60), None, true), WANTED, MIN_SE),
            Step::TooSmall { min_se_s: 90 }
        );
        assert_eq!(
            request(asked(Some(60), None, false), WANTED, MIN_SE),
            Step::Raise {
                session_expires_s: 90,
                min_se_s: 90
            }
        );
    }

    #[test]
    fn a_2xx_without_the_header_gets_it_only_for_a_caller_who_knows_session_timers() {
        assert_eq!(response(Some(900), Some(1800), true), Granted::Seconds(900));
        assert_eq!(response(None, Some(1800), true), Granted::Insert(1800));
        assert_eq!(response(None, Some(1800), false), Granted::None);
        assert_eq!(response(None, None, true), Granted::None);
    }
}
