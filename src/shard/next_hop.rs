//! The address that a request inside a dialog is sent to (RFC 3261 §16.6 step 7, RFC 5658 §4), and
//! whether we may send it there at all.

use core::net::SocketAddr;

use super::Shard;
use super::forward::{Target, contact_of};
use super::path::Path;
use crate::dialog::{Match, Side};
use crate::net::{Flow, ListenerId};
use crate::route::TrunkId;
use crate::route::sources::Rule;
use crate::sip::{DEFAULT_PORT, Method, Uri, is_one_host, parse_ip};

/// Where a request goes and what its Request-URI becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    pub to: Flow,
    pub target: Target,
}

impl Hop {
    /// A hop for a request whose Request-URI names somebody else than us.
    pub(super) fn as_asked(to: Flow) -> Hop {
        Hop {
            to,
            target: Target::AsAsked,
        }
    }
}

impl Shard {
    /// Where a request goes that belongs to no live call: only if our own Record-Route proves its
    /// dialog, or from a trunk to the address of a trunk where it cannot begin anything.
    pub(super) fn proven_next_flow(
        &self,
        from: Option<TrunkId>,
        method: Method,
        path: &Path<'_>,
    ) -> Option<Flow> {
        let to = self.next_flow(path, None)?;
        let between_trunks = || {
            let found = from.and(self.sources.lookup(to.remote));
            matches!(found, Some((_, Rule::Address))) && is_inside_only(method)
        };
        (path.cookie.is_some() || between_trunks()).then_some(to)
    }

    /// Where a request of a live call goes. One that names us, for want of a route set, goes to the
    /// Contact of the other end at the address where that end was learned.
    pub(super) fn hop_in_call(&self, matched: Match, path: &Path<'_>) -> Option<Hop> {
        let call = self.calls.call(matched.call)?;
        let learned = match matched.from {
            Side::Caller => self.calls.callee(call),
            Side::Callee => self.calls.caller(call),
        };
        if path.next.is_some() || !path.target_is_us {
            let to = self.next_flow(path, learned)?;
            return Some(Hop::as_asked(to));
        }
        let to = learned?;
        let end = matched.from.other();
        let words = self.calls.words(matched.call);
        let target = match words.word(contact_of(end)) {
            b"" => Target::At(to.remote),
            _ => Target::Contact(matched.call, end),
        };
        Some(Hop { to, target })
    }

    /// The flow to the next hop of a path. Host names are not looked up on the path of a call: the
    /// address where the peer was `learned` stands for them.
    pub(super) fn next_flow(&self, path: &Path<'_>, learned: Option<Flow>) -> Option<Flow> {
        let uri = path.next_hop()?;
        if path.next.is_none() && path.target_is_us {
            // It would only come back; `hop_in_call` knows better where it is one of a live call.
            return None;
        }
        if !names_address(&uri) {
            return learned;
        }
        let to = uri_address(&uri).filter(|to| self.is_in_reach(*to))?;
        // The interface that our own Record-Route names for that side, else the one that the peer
        // is known by: it may accept requests from no other address of ours.
        let leaves_by = path.leaves_by.or(learned.map(|flow| flow.listener));
        match leaves_by.filter(|listener| self.is_of_family(*listener, to)) {
            Some(listener) => Some(Flow::udp(listener, to)),
            None => self.flow_to(to),
        }
    }

    /// Addresses of this host itself are for those who are configured there: nobody else's Contact
    /// may have us send datagrams to what listens on loopback.
    fn is_in_reach(&self, to: SocketAddr) -> bool {
        !to.ip().is_loopback() || self.sources.lookup(to).is_some()
    }

    fn is_of_family(&self, listener: ListenerId, to: SocketAddr) -> bool {
        let listener = self.plan.listeners.get(usize::from(listener.0));
        listener.is_some_and(|listener| listener.bind.is_ipv4() == to.is_ipv4())
    }
}

/// Whether a method is of use inside a dialog only: it cannot be sent past the route table with a
/// To tag that was made up.
fn is_inside_only(method: Method) -> bool {
    match method {
        Method::Ack | Method::Bye | Method::Prack | Method::Update | Method::Info => true,
        Method::Notify => true,
        Method::Invite | Method::Cancel | Method::Options | Method::Register => false,
        Method::Refer | Method::Subscribe | Method::Publish | Method::Message => false,
        Method::Other => false,
    }
}

/// Whether a URI says by itself which address it means.
fn names_address(uri: &Uri<'_>) -> bool {
    uri.host.ip().is_some() || maddr(uri).is_some()
}

/// The address that a URI names, where it is one that a single host can have.
pub(super) fn uri_address(uri: &Uri<'_>) -> Option<SocketAddr> {
    let ip = maddr(uri).or(uri.host.ip())?;
    let port = uri.port.unwrap_or(DEFAULT_PORT);
    (is_one_host(ip) && port != 0).then_some(SocketAddr::new(ip, port))
}

//= rfc3261#19.1.1
fn maddr(uri: &Uri<'_>) -> Option<core::net::IpAddr> {
    uri.param(b"maddr").flatten().and_then(parse_ip)
}
