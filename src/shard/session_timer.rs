//! Session timers of RFC 4028 on the way through: reads the headers, lets `dialog::session` decide.

use super::Shard;
use super::forward::sip_session::Headers;
use super::refusal::Refusal;
use super::relay::Destination;
use core::time::Duration;

use crate::dialog::session::{self, Asked, Step};
use crate::route::TrunkId;
use crate::sip::{HeaderId, Message};

impl Shard {
    /// 422 for an INVITE whose interval is too small, where a trunk of the call wants session timers.
    pub(super) fn check_session_interval(
        &self,
        message: &Message<'_>,
        trunk_in: TrunkId,
        to: Destination,
    ) -> Result<(), Refusal> {
        let routing = &self.plan.routing;
        let out = match to {
            Destination::Trunk(slot) => Some(slot),
            // Whichever member takes the call, the answer cannot wait until that is known.
            Destination::Group(slot) => self.group_at(slot).and_then(|group| {
                let mut members = group
                    .members
                    .iter()
                    .map(|member| routing.trunk(member.trunk));
                let wants = members.find(|trunk| trunk.session_expires.is_some());
                wants.map(|trunk| trunk.slot)
            }),
        };
        self.check_refresh(message, routing.trunk(trunk_in).slot, out)
    }

    /// The same for a request that refreshes the session of a live call.
    //= rfc4028#8.1
    pub(super) fn check_refresh(
        &self,
        message: &Message<'_>,
        slot_in: u16,
        slot_out: Option<u16>,
    ) -> Result<(), Refusal> {
        let wanted = self.wanted_interval(slot_in, slot_out);
        match session::request(asked(message), wanted, self.plan.min_se) {
            Step::TooSmall { min_se_s } => Err(Refusal::session_interval(min_se_s)),
            Step::Pass | Step::Set { .. } | Step::Raise { .. } => Ok(()),
        }
    }

    /// The headers that a forwarded INVITE or UPDATE gets, and the interval it then carries.
    pub(super) fn session_headers(
        &self,
        message: &Message<'_>,
        slot_in: u16,
        slot_out: Option<u16>,
    ) -> (Option<Headers>, Option<u32>) {
        let asked = asked(message);
        match session::request(
            asked,
            self.wanted_interval(slot_in, slot_out),
            self.plan.min_se,
        ) {
            Step::Pass => (None, asked.session_expires_s),
            Step::Set { session_expires_s } => {
                let headers = Headers {
                    session_expires_s: Some(session_expires_s),
                    min_se_s: None,
                };
                (Some(headers), Some(session_expires_s))
            }
            Step::Raise {
                session_expires_s,
                min_se_s,
            } => {
                let headers = Headers {
                    session_expires_s: Some(session_expires_s),
                    min_se_s: Some(min_se_s),
                };
                (Some(headers), Some(session_expires_s))
            }
            Step::TooSmall { min_se_s } => {
                let headers = Headers {
                    session_expires_s: Some(min_se_s),
                    min_se_s: Some(min_se_s),
                };
                (Some(headers), Some(min_se_s))
            }
        }
    }

    /// The shorter of the intervals that the call's trunks ask for.
    fn wanted_interval(&self, slot_in: u16, slot_out: Option<u16>) -> Option<Duration> {
        let of = |slot| self.trunk_at(slot).and_then(|trunk| trunk.session_expires);
        [of(slot_in), slot_out.and_then(of)]
            .into_iter()
            .flatten()
            .min()
    }
}

/// What a message says about session timers.
pub(super) fn asked(message: &Message<'_>) -> Asked {
    let session_expires_s = message.value(HeaderId::SessionExpires).and_then(seconds);
    Asked {
        session_expires_s,
        min_se_s: message.value(HeaderId::MinSe).and_then(seconds),
        // Nobody asks where there is no interval.
        supported: session_expires_s.is_some() && knows_timers(message),
    }
}

/// Whether the sender of a message knows session timers.
pub(super) fn knows_timers(message: &Message<'_>) -> bool {
    lists(message, HeaderId::Supported, b"timer")
}

/// Whether a header's list has this option tag.
pub(super) fn lists(message: &Message<'_>, id: HeaderId, tag: &[u8]) -> bool {
    message
        .values(id)
        .any(|value| value.bytes.eq_ignore_ascii_case(tag))
}

fn seconds(value: &[u8]) -> Option<u32> {
    let digits = value.split(|octet| *octet == b';').next()?.trim_ascii();
    core::str::from_utf8(digits).ok()?.parse().ok()
}
