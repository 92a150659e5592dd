//! How a request finds its server transaction (RFC 3261 §17.2.3), as a keyed 128-bit hash.
//!
//! The Call-ID is mixed in beyond the RFC: a request, its ACK and its CANCEL share it, and it
//! keeps apart the calls of a peer that reuses branches and of one that guesses another's.

use crate::base::hash::{Digest, HashKey};
use crate::sip::{DEFAULT_PORT, HeaderId, Host, Message, Method, StartLine, Via};

/// Names a server transaction; peers cannot make two that are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey {
    pub(super) first: u64,
    pub(super) second: u64,
}

/// RFC 3261 §8.1.1.7: a branch that starts with it is unique to its transaction.
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// What a digest begins with, so that no request can be built to match by both rules.
const BY_BRANCH: u64 = 1;
const BY_HEADERS: u64 = 2;

impl ServerKey {
    /// The key of the transaction that `request` belongs to; an ACK belongs to its INVITE.
    pub(super) fn of(hash: &HashKey, request: &Message<'_>, via: &Via<'_>) -> ServerKey {
        //= rfc3261#17.2.3
        if matches!(request.method(), Method::Invite | Method::Ack) {
            matching(hash, request, via, b"INVITE")
        } else {
            matching(hash, request, via, method_text(request))
        }
    }

    /// The key of the INVITE that `cancel` is for.
    pub(super) fn of_cancelled(hash: &HashKey, cancel: &Message<'_>, via: &Via<'_>) -> ServerKey {
        //= rfc3261#9.2
        matching(hash, cancel, via, b"INVITE")
    }
}

fn matching(hash: &HashKey, request: &Message<'_>, via: &Via<'_>, method: &[u8]) -> ServerKey {
    match via.branch.filter(|branch| is_unique(branch)) {
        Some(branch) => by_branch(hash, request, via, branch, method),
        None => by_headers(hash, request, method),
    }
}

/// A branch that is nothing but the cookie names no transaction.
fn is_unique(branch: &[u8]) -> bool {
    branch.len() > MAGIC_COOKIE.len()
        && branch[..MAGIC_COOKIE.len()].eq_ignore_ascii_case(MAGIC_COOKIE)
}

//= rfc3261#17.2.3
fn by_branch(
    hash: &HashKey,
    request: &Message<'_>,
    via: &Via<'_>,
    branch: &[u8],
    method: &[u8],
) -> ServerKey {
    let mut fields = Fields::new(hash, BY_BRANCH);
    fields.text(branch);
    fields.host(&via.host);
    fields.number(u64::from(via.port.unwrap_or(DEFAULT_PORT)));
    fields.text(method);
    fields.text(request.call_id());
    fields.finish()
}

/// The matching of RFC 2543. The To tag of an INVITE, its ACK and its CANCEL is left out: the
/// ACK carries the one of the response, the INVITE often none.
//= rfc3261#17.2.3
fn by_headers(hash: &HashKey, request: &Message<'_>, method: &[u8]) -> ServerKey {
    let mut fields = Fields::new(hash, BY_HEADERS);
    fields.text(request.request_uri());
    fields.text(request.from_tag().unwrap_or_default());
    fields.text(request.call_id());
    fields.number(request.cseq().map_or(0, |cseq| u64::from(cseq.number)));
    let top = request.values(HeaderId::Via).next();
    fields.text(top.map_or(b"".as_slice(), |value| value.bytes));
    fields.text(method);
    if !matches!(method, b"INVITE" | b"CANCEL") {
        fields.text(request.to_tag().unwrap_or_default());
    }
    fields.finish()
}

fn method_text<'a>(request: &Message<'a>) -> &'a [u8] {
    match request.start() {
        StartLine::Request { method_text, .. } => method_text,
        StartLine::Response { .. } => b"",
    }
}

/// A hash of fields.
struct Fields(Digest);

impl Fields {
    fn new(hash: &HashKey, rule: u64) -> Fields {
        let mut fields = Fields(hash.digest());
        fields.number(rule);
        fields
    }

    fn number(&mut self, number: u64) {
        self.0.number(number);
    }

    fn text(&mut self, text: &[u8]) {
        self.0.text(text);
    }

    /// Names compare without regard to case, and an address however it was spelt.
    fn host(&mut self, host: &Host<'_>) {
        match host {
            Host::Name(name) => {
                self.number(name.len() as u64);
                for part in name.chunks(64) {
                    let mut lower = [0; 64];
                    let lower = &mut lower[..part.len()];
                    lower.copy_from_slice(part);
                    lower.make_ascii_lowercase();
                    self.text(lower);
                }
            }
            Host::V4(address) => self.text(&address.octets()),
            Host::V6(address) => self.text(&address.octets()),
        }
    }

    fn finish(self) -> ServerKey {
        let (first, second) = self.0.finish_pair();
        ServerKey { first, second }
    }
}
