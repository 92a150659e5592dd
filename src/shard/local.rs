//! Requests that the node answers itself: OPTIONS, keep-alives (RFC 5626 §4.4), STUN (RFC 5389).

use super::Shard;
use super::path::Path;
use super::refusal::Refusal;
use super::refuse::is_known_extension;
use super::request::Incoming;
use crate::base::Instant;
use crate::guard::strangers::Offence;
use crate::guard::{KEEP_ALIVE_ANSWER, stun};
use crate::metrics::Counter;
use crate::net::{Flow, Outbox};
use crate::sip::{HeaderId, Host, Message, Method, Uri, compose};

/// Methods that pass through or end here.
const ALLOW: &[u8] =
    b"INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, SUBSCRIBE, NOTIFY, MESSAGE, PUBLISH, REGISTER";

impl Shard {
    /// A double CRLF is answered with a single one.
    //= rfc5626#4.4.1
    pub(super) fn answer_keep_alive(&self, from: Flow, out: &mut Outbox) {
        self.metrics.count(Counter::KeepAlives);
        self.count_sent(out.push(from, KEEP_ALIVE_ANSWER).is_ok());
    }

    /// A STUN binding request on the SIP port is told its own address.
    //= rfc5626#8
    pub(super) fn answer_stun(&mut self, from: Flow, bytes: &[u8], out: &mut Outbox) {
        let mut cursor = crate::base::Cursor::new(&mut self.scrap);
        if stun::answer(bytes, from.remote, &mut cursor).is_none() || cursor.overflowed() {
            return self.metrics.count(Counter::DroppedGarbage);
        }
        self.metrics.count(Counter::StunBindings);
        let sent = out.push(from, cursor.written()).is_ok();
        self.count_sent(sent);
    }

    /// Whether a request is for the node itself: OPTIONS to our host without a user.
    pub(super) fn is_for_us(&self, message: &Message<'_>, path: &Path<'_>) -> bool {
        if message.method() != Method::Options || path.next.is_some() || message.to_tag().is_some()
        {
            return false;
        }
        let Some(uri) = path.target_uri else {
            return false;
        };
        uri.user.is_none_or(<[u8]>::is_empty)
            && (self.is_our_uri(&uri) || self.may_be_our_address(&uri))
    }

    /// A listener on all addresses is asked under any of them.
    fn may_be_our_address(&self, uri: &Uri<'_>) -> bool {
        let port = uri.port.unwrap_or(5060);
        let is_address = matches!(uri.host, Host::V4(_) | Host::V6(_));
        let wildcard = |listener: &super::Listener| {
            listener.bind.ip().is_unspecified() && listener.bind.port() == port
        };
        is_address && self.plan.listeners.iter().any(wildcard)
    }

    /// 200 with what we can, shorter for a stranger whose request is short.
    //= rfc3261#11.2
    pub(super) fn answer_local(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let Incoming { message, from, .. } = *incoming;
        if incoming.trunk.is_none() {
            self.note_stranger(now, from, Offence::Unasked);
        }
        //= rfc3261#8.2.2.3
        if message
            .values(HeaderId::Require)
            .any(|tag| !is_known_extension(tag.bytes))
        {
            return Err(Refusal::BAD_REQUIRE);
        }
        let tag = self.own_tag(message);
        let asker = self.asker(from);
        let abilities: [(&[u8], &[u8]); 3] = [
            (b"Allow", ALLOW),
            (b"Accept", b"application/sdp"),
            (b"Supported", b"timer"),
        ];
        let mut put = |shard: &mut Shard, extra: &[(&[u8], &[u8])]| {
            shard.answer_stateless(from, message, out, |cursor| {
                compose::response(cursor, message, asker, 200, "OK", Some(&tag), extra);
            })
        };
        if !put(self, &abilities) {
            put(self, &[]);
        }
        Ok(())
    }
}
