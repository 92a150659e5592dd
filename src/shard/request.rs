//! The walk of a request (RFC 3261 §16.3): is it well-formed, has it come before, may it pass, and
//! which of the steps that follow is it for.

use super::Shard;
use super::branch::Branch;
use super::path::Path;
use super::refusal::Refusal;
use crate::base::Instant;
use crate::guard::strangers::Offence;
use crate::metrics::Counter;
use crate::net::{Flow, Outbox};
use crate::route::TrunkId;
use crate::sip::{
    HeaderId, Message, Method, Misbehaved, Scheme, Uri, Via, reply_address, validate_request_and,
};
use crate::transaction::ServerKey;

/// A request that parsed, with what the first steps found out about it.
pub(super) struct Incoming<'m> {
    pub message: &'m Message<'m>,
    pub from: Flow,
    /// Where its answers go.
    pub reply_to: Flow,
    pub key: ServerKey,
    /// The trunk that the source address belongs to.
    pub trunk: Option<TrunkId>,
    pub loop_check: u64,
}

impl Shard {
    /// Takes one request.
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        from: Flow,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        // The transaction is looked for while the rest of the message is read.
        let mut key = None;
        let valid = validate_request_and(message, |via| {
            let found = self.transactions.server_key(message, via);
            self.transactions.expect_server(&found);
            key = Some(found);
        });
        let via = match valid {
            Ok(via) => via,
            Err(fault) => {
                self.note_stranger(now, from, Offence::Malformed);
                return self.refuse_misbehaved(from, message, fault, out);
            }
        };
        let key = key.unwrap_or_else(|| self.transactions.server_key(message, &via));
        match message.method() {
            Method::Ack => return self.on_ack(now, from, message, &key, out),
            Method::Cancel => return self.on_cancel(now, from, message, &via, out),
            _ => {}
        }
        if let Some(server) = self.transactions.find_server(&key) {
            self.metrics.count(Counter::Retransmissions);
            return self.transactions.retransmitted(now, server, out);
        }
        if self.sheds(now, from, message, out) {
            return;
        }
        let incoming = self.incoming(from, message, &via, key);
        self.account_arrival();
        if let Err(refusal) = self.pass(now, &incoming, out) {
            self.refuse(now, &incoming, refusal, out);
        }
    }

    fn incoming<'m>(
        &self,
        from: Flow,
        message: &'m Message<'m>,
        via: &Via<'_>,
        key: ServerKey,
    ) -> Incoming<'m> {
        let trunk = self.sources.lookup(from.remote).map(|(trunk, _)| trunk);
        Incoming {
            message,
            from,
            reply_to: Flow {
                remote: reply_address(via, from.remote),
                ..from
            },
            key,
            trunk,
            loop_check: self.loop_check(message, trunk),
        }
    }

    fn refuse_misbehaved(
        &mut self,
        from: Flow,
        message: &Message<'_>,
        fault: Misbehaved,
        out: &mut Outbox,
    ) {
        //= rfc3261#17.1.1.3
        if message.method() == Method::Ack || message.value(HeaderId::Via).is_none() {
            return self.metrics.count(Counter::DroppedMalformedUnanswerable);
        }
        let counter = match fault.status {
            416 => Counter::RefusedScheme,
            501 => Counter::RefusedMethod,
            505 => Counter::RefusedVersion,
            _ => Counter::RefusedMalformed,
        };
        self.refuse_stateless(
            from,
            message,
            Refusal::new(fault.status, counter).because(fault.reason),
            out,
        );
    }

    /// The checks of §16.3 in the RFC's order, then the way on.
    fn pass(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let message = incoming.message;
        if message.bytes().len() > self.plan.message_max {
            return Err(Refusal::TOO_LARGE);
        }
        let path = self.path(message);
        check_scheme(message, &path)?;
        if self.is_for_us(message, &path) {
            return self.answer_local(now, incoming, out);
        }
        check_max_forwards(message)?;
        check_max_breadth(message)?;
        self.check_loop(incoming)?;
        check_proxy_require(message)?;
        if message.to_tag().is_some() || self.is_in_tagless_dialog(message, &path) {
            self.pass_in_dialog(now, incoming, &path, out)
        } else {
            self.pass_new(now, incoming, &path, out)
        }
    }

    /// A callee of RFC 2543 answers without a tag, and a tag that is missing counts as empty.
    //= rfc3261#12.1.2
    pub(super) fn is_in_tagless_dialog(&self, message: &Message<'_>, path: &Path<'_>) -> bool {
        let may_be = message.method() != Method::Invite || path.cookie.is_some();
        may_be && self.match_dialog(message, path).is_some()
    }

    /// A request outside of any dialog: a trunk's, or nobody's.
    pub(super) fn pass_new(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        path: &Path<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let trunk = incoming.trunk.ok_or(Refusal::UNKNOWN_SOURCE)?;
        match incoming.message.method() {
            Method::Invite => self.set_up(now, incoming, path, trunk, out),
            Method::Ack
            | Method::Bye
            | Method::Cancel
            | Method::Options
            | Method::Register
            | Method::Prack
            | Method::Update
            | Method::Info
            | Method::Refer
            | Method::Subscribe
            | Method::Notify
            | Method::Publish
            | Method::Message
            | Method::Other => self.pass_outside(now, incoming, path, trunk, out),
        }
    }

    /// A request that comes back unchanged through our own Via is a loop; changed, it is a spiral.
    //= rfc5393#4.2
    fn check_loop(&self, incoming: &Incoming<'_>) -> Result<(), Refusal> {
        let looped = incoming.message.values(HeaderId::Via).any(|value| {
            let Some(via) = Branch::is_in(value.bytes)
                .then(|| incoming.message.via(&value).ok())
                .flatten()
            else {
                return false;
            };
            let branch = via.branch.and_then(Branch::parse);
            branch.is_some_and(|branch| branch.loop_check == incoming.loop_check)
                && self.is_us(&via.host, via.port)
        });
        if looped { Err(Refusal::LOOP) } else { Ok(()) }
    }
}

/// A URI that decides where the request goes has to be one that we can send to. Each hop towards a
/// SIPS URI has to be secured, and UDP is all that we have; a dialog with such a remote target is let
/// through, since nothing else would end it.
//= rfc3261#16.3
//= rfc3261#26.2.2
fn check_scheme(message: &Message<'_>, path: &Path<'_>) -> Result<(), Refusal> {
    let scheme = |uri: Option<Uri<'_>>| uri.map(|uri| uri.scheme);
    let has_way = match scheme(path.next_uri) {
        Some(Scheme::Sip | Scheme::Sips) | None => true,
        Some(Scheme::Tel | Scheme::Other) => false,
    };
    let has_target = match scheme(path.target_uri) {
        Some(Scheme::Sips) => message.to_tag().is_some(),
        Some(Scheme::Sip | Scheme::Tel) | None => true,
        Some(Scheme::Other) => false,
    };
    if has_way && has_target {
        Ok(())
    } else {
        Err(Refusal::UNKNOWN_SCHEME)
    }
}

//= rfc3261#16.3
fn check_max_forwards(message: &Message<'_>) -> Result<(), Refusal> {
    match message.max_forwards() {
        Ok(Some(0)) => Err(Refusal::TOO_MANY_HOPS),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// One branch at a time needs a breadth of one. An attempt that was given up counts as answered
/// with 408 (RFC 3261 §16.8), so that the next one may have the whole breadth again.
//= rfc5393#5.3.3
fn check_max_breadth(message: &Message<'_>) -> Result<(), Refusal> {
    match message.max_breadth() {
        Ok(Some(0)) => Err(Refusal::MAX_BREADTH),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// We implement no extension that a proxy could be required to know.
//= rfc3261#16.3
fn check_proxy_require(message: &Message<'_>) -> Result<(), Refusal> {
    match message.values(HeaderId::ProxyRequire).next() {
        Some(_) => Err(Refusal::BAD_PROXY_REQUIRE),
        None => Ok(()),
    }
}

/// Whether the user part of a URI is a telephone number.
pub(super) fn is_number(uri: &Uri<'_>) -> bool {
    uri.is_number()
}

/// Host part of a URI as text, for the route table.
pub(super) fn domain<'u>(uri: &Uri<'u>, text: &'u [u8]) -> &'u [u8] {
    uri.host_text(text)
}
