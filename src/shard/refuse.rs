//! Answers of our own that end a request: how a refusal is written and which of them are remembered.
//!
//! A refused INVITE of a known trunk gets a server transaction, so that its answer is repeated until
//! the ACK; everything else is answered without state, and an answer to a stranger is never more
//! than half as large again as what it answers.

use core::net::SocketAddr;

use super::Shard;
use super::journal::Step;
use super::refusal::Refusal;
use super::relay::{Purpose, Relay};
use super::request::Incoming;
use crate::base::bytes::Handle;
use crate::base::wheel::TimerId;
use crate::base::{Cursor, Instant};
use crate::guard::strangers::Offence;
use crate::metrics::Counter;
use crate::net::{Flow, Outbox};
use crate::sip::{
    HeaderId, Malformed, MalformedKind, Message, Method, Via, compose, reply_address, status,
};
use crate::transaction::{Role, ServerId};

impl Shard {
    /// Answers a request that did not parse, where enough of it did.
    pub(super) fn refuse_malformed(
        &mut self,
        from: Flow,
        fault: Malformed,
        partial: Option<Message<'_>>,
        out: &mut Outbox,
    ) {
        let Some(request) = partial.filter(Message::is_request) else {
            return self.metrics.count(Counter::DroppedMalformedResponse);
        };
        //= rfc3261#17.1.1.3
        if request.method() == Method::Ack || request.value(HeaderId::Via).is_none() {
            return self.metrics.count(Counter::DroppedMalformedUnanswerable);
        }
        let refusal = match fault.what {
            MalformedKind::Version => Refusal::new(505, Counter::RefusedVersion),
            other => Refusal::new(400, Counter::RefusedMalformed).because(other.text()),
        };
        self.refuse_stateless(from, &request, refusal, out);
    }

    /// Refuses a request that has no transaction yet.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        refusal: Refusal,
        out: &mut Outbox,
    ) {
        self.account_turned_away(now, incoming, refusal);
        let Incoming { message, from, .. } = *incoming;
        if incoming.trunk.is_none() {
            self.note_stranger(now, from, Offence::Unasked);
        }
        if message.method() == Method::Invite && incoming.trunk.is_none() {
            let from = from.remote;
            self.note(message, Step::Stranger { from });
            self.note_refusal(message, refusal);
        }
        if incoming.trunk.is_none() || message.method() != Method::Invite {
            return self.refuse_stateless(from, message, refusal, out);
        }
        self.session_refused(incoming.trunk, message, refusal.status);
        let relay = Relay::local(message.method(), from);
        match self
            .transactions
            .accept(now, incoming.key, Role::Invite, incoming.reply_to, relay)
        {
            Ok(server) => self.refuse_server(now, server, message, refusal, out),
            Err(_) => self.refuse_stateless(from, message, refusal, out),
        }
    }

    /// Ends a server transaction with an answer of our own. `message` is the request as it came.
    pub(super) fn refuse_server(
        &mut self,
        now: Instant,
        server: ServerId,
        message: &Message<'_>,
        refusal: Refusal,
        out: &mut Outbox,
    ) {
        self.metrics.count(refusal.counter);
        self.note_refusal(message, refusal);
        let tag = self.own_tag(message);
        let Some(from) = self
            .transactions
            .server_user(server)
            .map(|relay| relay.from)
        else {
            return;
        };
        let asker = self.asker(from);
        let sent = self.transactions.respond(
            now,
            server,
            refusal.status,
            |cursor| put_refusal(cursor, message, asker, refusal, &tag),
            out,
        );
        self.count_sent(sent.is_ok());
        if sent.is_err() {
            self.transactions.abandon_server(server);
        }
    }

    /// Answers without keeping anything.
    pub(super) fn refuse_stateless(
        &mut self,
        from: Flow,
        message: &Message<'_>,
        refusal: Refusal,
        out: &mut Outbox,
    ) {
        self.metrics.count(refusal.counter);
        let tag = self.own_tag(message);
        let asker = self.asker(from);
        self.answer_stateless(from, message, out, |cursor| {
            put_refusal(cursor, message, asker, refusal, &tag);
        });
    }

    /// Sends an answer to the sender of `message`; one that would amplify a stranger's datagram is
    /// dropped. Tells whether it was sent.
    pub(super) fn answer_stateless(
        &mut self,
        from: Flow,
        message: &Message<'_>,
        out: &mut Outbox,
        compose: impl FnOnce(&mut Cursor<'_>),
    ) -> bool {
        let to = Flow {
            remote: reply_to(message, from),
            ..from
        };
        let octets_max = match self.sources.lookup(from.remote) {
            Some(_) => Outbox::DATAGRAM_MAX,
            None => message.bytes().len() * 3 / 2,
        };
        let scrap = &mut self.scrap[..octets_max.min(Outbox::DATAGRAM_MAX)];
        let mut cursor = Cursor::new(scrap);
        compose(&mut cursor);
        if cursor.overflowed() {
            self.metrics.count(Counter::DroppedAnswerTooLarge);
            return false;
        }
        let pushed = out.push(to, cursor.written()).is_ok();
        self.count_sent(pushed);
        pushed
    }

    /// Whom an answer of our own is for.
    pub(super) fn asker(&self, from: Flow) -> compose::Asker {
        compose::Asker {
            source: from.remote,
            feedback: Some(self.feedback()),
        }
    }

    /// Counts a datagram that went into the outbox, or one that did not.
    pub(super) fn count_sent(&self, sent: bool) {
        self.metrics.count(if sent {
            Counter::DatagramsSent
        } else {
            Counter::DroppedOutboxFull
        });
    }
}

/// Where an answer goes: by the top Via as far as it can be read, never to another host than the
/// request came from.
fn reply_to(message: &Message<'_>, from: Flow) -> SocketAddr {
    let top = message
        .values(HeaderId::Via)
        .next()
        .map(|value| value.bytes);
    let sent_by = |top: &[u8]| top.split(|octet| *octet == b';').next().map(<[u8]>::len);
    let whole = top.and_then(|top| Via::parse(top).ok());
    let front = || top.and_then(|top| Via::parse(&top[..sent_by(top)?]).ok());
    match whole.or_else(front) {
        Some(via) => reply_address(&via, from.remote),
        None => from.remote,
    }
}

impl Relay {
    /// The record of a request that we answer ourselves.
    pub(super) fn local(method: Method, from: Flow) -> Relay {
        Relay {
            method,
            from,
            request: Handle::EMPTY,
            client: None,
            token: 0,
            loop_check: 0,
            purpose: Purpose::Local,
            provisional: false,
            cancelled: false,
            rang_out: false,
            cancel_reason: Handle::EMPTY,
            session_sent_s: None,
            caller_knows_timers: false,
            timer: TimerId::NONE,
        }
    }
}

/// Writes the answer with the headers that the reason asks for.
fn put_refusal(
    out: &mut Cursor<'_>,
    message: &Message<'_>,
    asker: compose::Asker,
    refusal: Refusal,
    tag: &[u8],
) {
    let mut buffers = [[0u8; 32]; 3];
    let [reason, retry_after, min_se] = &mut buffers;
    let reason = text(reason, b"Q.850;cause=", refusal.q850.map(u32::from));
    let retry_after = text(retry_after, b"", refusal.retry_after_s);
    let min_se = text(min_se, b"", refusal.min_se_s);
    let mut tags = [0u8; UNSUPPORTED_OCTETS_MAX];
    let unsupported = refusal
        .unsupported
        .map(|header| join_values(message, header, &mut tags));
    let headers: [(&[u8], Option<&[u8]>); 4] = [
        (b"Reason", reason),
        (b"Retry-After", retry_after),
        (b"Min-SE", min_se),
        (b"Unsupported", unsupported),
    ];
    let mut extra: [(&[u8], &[u8]); 4] = [(b"", b""); 4];
    let mut count = 0;
    for (name, value) in headers {
        if let Some(value) = value {
            extra[count] = (name, value);
            count += 1;
        }
    }
    let phrase = refusal
        .phrase
        .unwrap_or_else(|| status::phrase(refusal.status));
    compose::response(
        out,
        message,
        asker,
        refusal.status,
        phrase,
        Some(tag),
        &extra[..count],
    );
}

/// Room for the option tags of a 420; those that do not fit are left out.
const UNSUPPORTED_OCTETS_MAX: usize = 1024;

/// Whether we know an extension that a request to us may require.
pub(super) fn is_known_extension(tag: &[u8]) -> bool {
    tag.eq_ignore_ascii_case(b"timer")
}

/// The option tags of a header that we do not know, in one line.
//= rfc3261#8.2.2.3
fn join_values<'b>(message: &Message<'_>, header: HeaderId, buffer: &'b mut [u8]) -> &'b [u8] {
    let mut used = 0;
    let known = |tag: &[u8]| header == HeaderId::Require && is_known_extension(tag);
    for value in message.values(header).filter(|tag| !known(tag.bytes)) {
        let comma: &[u8] = if used == 0 { b"" } else { b", " };
        let end = used + comma.len() + value.bytes.len();
        let Some(room) = buffer.get_mut(used..end) else {
            break;
        };
        let (separator, text) = room.split_at_mut(comma.len());
        separator.copy_from_slice(comma);
        text.copy_from_slice(value.bytes);
        used = end;
    }
    &buffer[..used]
}

fn text<'b>(buffer: &'b mut [u8; 32], prefix: &[u8], number: Option<u32>) -> Option<&'b [u8]> {
    let number = number?;
    let mut cursor = Cursor::new(buffer);
    cursor.put(prefix);
    cursor.put_decimal(u64::from(number));
    let len = cursor.len();
    Some(&buffer[..len])
}
