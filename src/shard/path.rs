//! Route processing of a request before its target is chosen (RFC 3261 §16.4).

use super::Shard;
use super::cookie::Cookie;
use crate::net::ListenerId;
use crate::sip::{HeaderId, Host, Message, NameAddr, Scheme, Uri};

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
    /// The Request-URI to go on with, as text and read.
    pub target: &'m [u8],
    pub target_uri: Option<Uri<'m>>,
    /// It names us.
    pub target_is_us: bool,
    /// The Request-URI has an `maddr` that is ours; it goes on without.
    pub strips_maddr: bool,
    /// The listener that the last own entry names: our side towards the next hop.
    pub leaves_by: Option<ListenerId>,
    /// The last Route value became the Request-URI: the sender is a strict router.
    pub target_from_route: bool,
    /// URI of the first Route value that stays, as text and read.
    pub next: Option<&'m [u8]>,
    pub next_uri: Option<Uri<'m>>,
}

impl<'m> Path<'m> {
    /// Whether the Route header has to be written anew.
    pub fn changes_route(&self) -> bool {
        self.own > 0 || self.target_from_route || self.goes_to_strict_router()
    }

    /// Whether the next hop is a strict router: the Request-URI goes to the end of the Route
    /// header and the first Route becomes the Request-URI.
    //= rfc3261#16.6
    pub fn goes_to_strict_router(&self) -> bool {
        self.next_uri
            .is_some_and(|uri| matches!(uri.scheme, Scheme::Sip | Scheme::Sips) && !uri.is_lr())
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

    /// The URI that decides where the request is sent; none when it cannot be read.
    pub fn next_hop(&self) -> Option<Uri<'m>> {
        match self.next {
            Some(_) => self.next_uri,
            None => self.target_uri,
        }
    }
}

/// A Route or Record-Route value that names us.
#[derive(Clone, Copy)]
pub(super) struct OwnRoute {
    /// What our Record-Route said, where this is one of them.
    pub cookie: Option<Cookie>,
    pub listener: Option<ListenerId>,
}

/// The URI of a Route value, as text and read; what is no address is taken as a URI.
fn route_uri<'m>(
    message: &Message<'m>,
    route: &crate::sip::Value<'m>,
) -> (&'m [u8], Option<Uri<'m>>) {
    message.address_uri(route).unwrap_or_else(|| {
        let uri = NameAddr::parse(route.bytes).map_or(route.bytes, |address| address.uri);
        (uri, Uri::parse(uri).ok())
    })
}

impl Shard {
    /// Takes our own entries off the Route header and undoes what a strict router did.
    pub(super) fn path<'m>(&self, message: &Message<'m>) -> Path<'m> {
        let request_uri = message.request_uri();
        let uri = message.read_request_uri().ok();
        let own = uri.and_then(|uri| self.own_route(message, &uri));
        let placed = own.filter(|own| own.cookie.is_some());
        let mut path = Path {
            own: 0,
            routes: 0,
            cookie: placed.and_then(|own| own.cookie),
            target: request_uri,
            target_uri: uri,
            target_is_us: own.is_some(),
            strips_maddr: uri.is_some_and(|uri| self.has_own_maddr(&uri)),
            leaves_by: placed.and_then(|own| own.listener),
            target_from_route: false,
            next: None,
            next_uri: None,
        };
        if message.field(HeaderId::Route).is_some() {
            self.follow_routes(message, &mut path);
        }
        path
    }

    fn follow_routes<'m>(&self, message: &Message<'m>, path: &mut Path<'m>) {
        let routes = || message.values(HeaderId::Route);
        path.routes = routes().count();
        //= rfc3261#16.4
        if path.cookie.is_some()
            && let Some(last) = routes().last()
        {
            (path.target, path.target_uri) = route_uri(message, &last);
            path.target_is_us = path.target_uri.is_some_and(|uri| self.is_our_uri(&uri));
            path.target_from_route = true;
        }
        for route in routes().take(path.staying().end) {
            let (route, uri) = route_uri(message, &route);
            let own = uri.and_then(|uri| self.own_route(message, &uri));
            let Some(own) = own.filter(|own| path.is_same_passage(own.cookie)) else {
                path.next = Some(route);
                path.next_uri = uri;
                break;
            };
            path.own += 1;
            path.cookie = path.cookie.or(own.cookie);
            path.leaves_by = own.listener.or(path.leaves_by);
        }
    }

    /// Whether a Route names us, and what is in it.
    pub(super) fn own_route(&self, message: &Message<'_>, uri: &Uri<'_>) -> Option<OwnRoute> {
        let us = self.identity.find(&uri.host, uri.port)?;
        let value = uri.param(b"cg").flatten();
        Some(OwnRoute {
            cookie: value.and_then(|value| {
                Cookie::verify(&self.secret, message.call_id_hash(&self.secret), value)
            }),
            listener: us.listener(),
        })
    }

    //= rfc3261#16.4
    fn has_own_maddr(&self, uri: &Uri<'_>) -> bool {
        let maddr = uri.param(b"maddr").flatten();
        let host = maddr.and_then(|maddr| Host::parse(maddr).ok());
        host.is_some_and(|host| self.is_us(&host, uri.port))
    }
}
