//! Answers to requests that this shard does not know: it has forgotten them, or another shard sent
//! them before a restart (RFC 3261 §16.7, steps 1 and 2).

use super::Shard;
use super::relay::Setup;
use crate::base::{Cursor, Instant};
use crate::dialog::session::Granted;
use crate::metrics::Counter;
use crate::net::{Flow, Outbox};
use crate::sip::{HeaderId, Message, Method, Via, response_address};
use crate::transaction::ServerId;

impl Shard {
    /// A response to a request that we have forgotten: the attempt was refused by the network or
    /// given up long ago. A 2xx that finds the call still being set up answers it all the same;
    /// without that the caller would hear a second final answer from the attempt under way.
    pub(super) fn on_forgotten(
        &mut self,
        now: Instant,
        from: Flow,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        let waiting = self.setup_that_waits_for(message);
        let Some((server, setup)) = waiting else {
            return match self.heir_until {
                Some(until) if now < until => self.pass_inherited(now, from, message, out),
                Some(_) | None => self.pass_late(message, out),
            };
        };
        let source = self.sources.lookup(from.remote);
        let trunk = source.map(|(trunk, _)| self.plan.routing.trunk(trunk).slot);
        if let Some(slot) = trunk.or(setup.trunk_out) {
            self.return_to(now, server, None, slot, Some(from), out);
        }
        if let Some(setup) = self.setup_of(server) {
            self.answered(now, server, &setup, message, out);
        }
    }

    /// The set-up without a final answer that a 2xx to an INVITE of ours is for, by the Via of its
    /// caller.
    fn setup_that_waits_for(&self, message: &Message<'_>) -> Option<(ServerId, Setup)> {
        if message.status() / 100 != 2 || message.method() != Method::Invite {
            return None;
        }
        let via = Via::parse(message.values(HeaderId::Via).nth(1)?.bytes).ok()?;
        let key = self.transactions.cancel_target_key(message, &via);
        let server = self.transactions.find_server(&key)?;
        let setup = self.setup_of(server)?;
        let call = self.calls.call(setup.call)?;
        // The Via is the callee's word; that the caller's tag fits keeps it to its own call.
        let is_its_call = call.call_id() == message.call_id_hash(&self.secret)
            && call.caller_tag() == self.secret.hash(message.from_tag().unwrap_or_default());
        (is_its_call && self.is_pending_setup(server)).then_some((server, setup))
    }

    /// A 2xx to an INVITE whose transactions are gone still has to reach the caller. Its second Via
    /// was written by the callee as likely as by us, so that it is followed to trunks only.
    //= rfc3261#16.7
    pub(super) fn pass_late(&mut self, message: &Message<'_>, out: &mut Outbox) {
        let is_2xx_to_invite = message.status() / 100 == 2 && message.method() == Method::Invite;
        let to = next_via(message)
            .filter(|address| self.sources.lookup(*address).is_some())
            .and_then(|address| self.flow_to(address));
        match to.filter(|_| is_2xx_to_invite) {
            Some(to) => self.pass_by_via(to, message, out),
            None => self.metrics.count(Counter::DroppedStrayResponse),
        }
    }

    /// An answer to a request that the shard before this one has sent: its branch proves it. It goes
    /// on by its Via as through a stateless proxy, to a trunk or a party of its call, and what it
    /// does to the call is done here.
    //= rfc3261#16.7
    fn pass_inherited(
        &mut self,
        now: Instant,
        from: Flow,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        let (status, method) = (message.status(), message.method());
        let tag = |tag: Option<&[u8]>| self.secret.hash(tag.unwrap_or_default());
        let matched = self.calls.find(
            message.call_id_hash(&self.secret),
            tag(message.from_tag()),
            tag(message.to_tag()),
            None,
        );
        let call = matched.and_then(|matched| self.calls.call(matched.call));
        let to = next_via(message)
            .filter(|address| self.is_party(*address, call))
            .and_then(|address| self.flow_to(address));
        let is_from_party = self.is_party(from.remote, call);
        let is_hop_by_hop = status == 100 || method == Method::Cancel;
        // From an attempt that was given up: the one in its place rings or was answered.
        let is_too_late = method == Method::Invite
            && status / 100 != 2
            && self.calls.is_known(
                message.call_id_hash(&self.secret),
                tag(message.from_tag()),
                message.cseq().map_or(0, |cseq| cseq.number),
            );
        match to.filter(|_| !is_hop_by_hop && !is_too_late) {
            Some(to) => {
                self.metrics.count(Counter::AnswersInherited);
                self.pass_by_via(to, message, out);
            }
            None => self.metrics.count(Counter::DroppedStrayResponse),
        }
        if method == Method::Invite && status >= 300 && is_from_party {
            self.acknowledge_inherited(from, message, out);
        }
        let Some(matched) = matched else { return };
        match method {
            Method::Bye if status >= 200 => self.end_fork(matched.call, matched.fork),
            Method::Invite | Method::Update if status / 100 == 2 => {
                // What was asked is not known; what is granted stands in the answer.
                if let Some(seconds) = super::session_timer::asked(message).session_expires_s {
                    self.refresh_session(now, matched.call, Granted::Seconds(seconds));
                }
            }
            _ => {}
        }
    }

    /// Stops the callee from repeating its refusal. The Request-URI of the INVITE is gone with the
    /// shard that sent it; the callee knows its transaction by our branch.
    //= rfc3261#17.1.1.3
    fn acknowledge_inherited(&mut self, to: Flow, message: &Message<'_>, out: &mut Outbox) {
        let value = |id| message.value(id).unwrap_or_default();
        let via = message.values(HeaderId::Via).next();
        let via = via.map_or(&b""[..], |via| via.bytes);
        let number = message.cseq().map_or(0, |cseq| u64::from(cseq.number));
        let sent = out.write(to, |cursor: &mut Cursor<'_>| {
            cursor.put(b"ACK sip:");
            crate::sip::compose::put_address(cursor, to.remote);
            cursor.put(b" SIP/2.0\r\nVia: ");
            cursor.put(via);
            for (name, id) in [
                (&b"\r\nFrom: "[..], HeaderId::From),
                (b"\r\nTo: ", HeaderId::To),
                (b"\r\nCall-ID: ", HeaderId::CallId),
            ] {
                cursor.put(name);
                cursor.put(value(id));
            }
            cursor.put(b"\r\nCSeq: ");
            cursor.put_decimal(number);
            cursor.put(b" ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n");
        });
        let sent = sent.is_ok();
        self.count_sent(sent);
    }

    fn pass_by_via(&mut self, to: Flow, message: &Message<'_>, out: &mut Outbox) {
        self.splice_response(message);
        let edit = &self.edit;
        let sent = out.write(to, |cursor| {
            if edit.write(message.bytes(), cursor).is_err() {
                cursor.spoil();
            }
        });
        let sent = sent.is_ok();
        self.count_sent(sent);
    }
}

/// Where the Via behind ours sends a response.
fn next_via(message: &Message<'_>) -> Option<core::net::SocketAddr> {
    let next = message.values(HeaderId::Via).nth(1)?;
    response_address(&Via::parse(next.bytes).ok()?)
}
