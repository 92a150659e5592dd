//! Route processing of a request before its target is chosen (RFC 3261 §16.4).

use super::Shard;
use super::cookie::Cookie;
use crate::net::ListenerId;
use crate::sip::{HeaderId, Host, Message, NameAddr, Uri};

/// Where a request wants to go once our own entries are taken off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'m> {
    /// How many leading Route values name us; they are removed when the request goes on. Those of
    /// another passage of the call (a spiral) stay: the request comes back to us for them.
    pub own: usize,
    /// How many Route values there are.
    pub routes: usize,
    /// What our Record-Route said about the dialog, where the request carries it.
    pub cookie: Option<Cookie>,
    /// The Request-URI to go on with.
    pub target: &'m [u8],
    /// The Request-URI has an `maddr` that is ours; it goes on without.
    pub strips_maddr: bool,
    /// The listener that the last own entry names: our side towards the next hop.
    pub leaves_by: Option<ListenerId>,
    /// The last Route value became the Request-URI: the sender is a strict router.
    pub target_from_route: bool,
    /// URI of the first Route value that stays.
    pub next: Option<&'m [u8]>,
}

impl Path<'_> {
    /// Whether the Route header has to be written anew.
    pub fn changes_route(&self) -> bool {
        self.own > 0 || self.target_from_route || self.goes_to_strict_router()
    }

    /// Whether the next hop is a strict router: the Request-URI goes to the end of the Route
    /// header and the first Route becomes the Request-URI.
    //= rfc3261#16.6
    pub fn goes_to_strict_router(&self) -> bool {
        self.next
            .is_some_and(|next| Uri::parse(next).is_ok_and(|uri| !uri.is_lr()))
    }

    /// Positions of the Route values that stay.
    pub fn staying(&self) -> core::ops::Range<usize> {
        self.own..self.routes - usize::from(self.target_from_route)
    }

    /// Whether a Route of ours is of the passage that the request is on.
    fn is_same_passage(&self, cookie: Option<Cookie>) -> bool {
        match (self.cookie, cookie) {
            (Some(ours), Some(other)) => ours == other,
            (None, _) | (_, None) => true,
        }
    }

    /// The URI that decides where the request is sent.
    pub fn next_hop(&self) -> &[u8] {
        self.next.unwrap_or(self.target)
    }
}

/// A Route or Record-Route value that names us.
#[derive(Clone, Copy)]
pub(super) struct OwnRoute {
    /// What our Record-Route said, where this is one of them.
    pub cookie: Option<Cookie>,
    pub listener: Option<ListenerId>,
}

/// URIs of the Route header, in order.
pub(super) fn routes<'m>(message: &Message<'m>) -> impl Iterator<Item = &'m [u8]> {
    message
        .values(HeaderId::Route)
        .map(|value| NameAddr::parse(value.bytes).map_or(value.bytes, |route| route.uri))
}

impl Shard {
    /// Takes our own entries off the Route header and undoes what a strict router did.
    pub(super) fn path<'m>(&self, message: &Message<'m>) -> Path<'m> {
        let request_uri = message.request_uri();
        let placed = self
            .own_route(message, request_uri)
            .filter(|own| own.cookie.is_some());
        let mut path = Path {
            own: 0,
            routes: routes(message).count(),
            cookie: placed.and_then(|own| own.cookie),
            target: request_uri,
            strips_maddr: self.has_own_maddr(request_uri),
            leaves_by: placed.and_then(|own| own.listener),
            target_from_route: false,
            next: None,
        };
        //= rfc3261#16.4
        if path.cookie.is_some()
            && let Some(last) = routes(message).last()
        {
            path.target = last;
            path.target_from_route = true;
        }
        for route in routes(message).take(path.staying().end) {
            let own = self.own_route(message, route);
            let Some(own) = own.filter(|own| path.is_same_passage(own.cookie)) else {
                path.next = Some(route);
                break;
            };
            path.own += 1;
            path.cookie = path.cookie.or(own.cookie);
            path.leaves_by = own.listener.or(path.leaves_by);
        }
        path
    }

    /// Whether a Route names us, and what is in it.
    pub(super) fn own_route(&self, message: &Message<'_>, route: &[u8]) -> Option<OwnRoute> {
        let uri = Uri::parse(route).ok().filter(|uri| self.is_our_uri(uri))?;
        let value = uri.param(b"cg").flatten();
        Some(OwnRoute {
            cookie: value.and_then(|value| Cookie::verify(&self.secret, message.call_id(), value)),
            listener: self.listener_named(&uri.host, uri.port),
        })
    }

    //= rfc3261#16.4
    fn has_own_maddr(&self, request_uri: &[u8]) -> bool {
        let Ok(uri) = Uri::parse(request_uri) else {
            return false;
        };
        let maddr = uri.param(b"maddr").flatten();
        let host = maddr.and_then(|maddr| Host::parse(maddr).ok());
        host.is_some_and(|host| self.is_us(&host, uri.port))
    }
}
