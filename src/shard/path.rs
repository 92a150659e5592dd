//! Route processing of a request before its target is chosen (RFC 3261 §16.4).

use super::Shard;
use super::cookie::Cookie;
use crate::sip::{HeaderId, Message, NameAddr, Uri};

/// Where a request wants to go once our own entries are taken off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'m> {
    /// How many leading Route values name us; they are removed when the request goes on.
    pub own: usize,
    /// How many Route values there are.
    pub routes: usize,
    /// What our Record-Route said about the dialog, where the request carries it.
    pub cookie: Option<Cookie>,
    /// The Request-URI to go on with.
    pub target: &'m [u8],
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

    /// The URI that decides where the request is sent.
    pub fn next_hop(&self) -> &[u8] {
        self.next.unwrap_or(self.target)
    }
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
        let count = routes(message).count();
        let mut path = Path {
            own: 0,
            routes: count,
            cookie: self.own_route(message, request_uri).flatten(),
            target: request_uri,
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
            match self.own_route(message, route) {
                Some(cookie) => {
                    path.own += 1;
                    path.cookie = path.cookie.or(cookie);
                }
                None => {
                    path.next = Some(route);
                    break;
                }
            }
        }
        path
    }

    /// Whether a Route names us, and the cookie of our Record-Route in it.
    fn own_route(&self, message: &Message<'_>, route: &[u8]) -> Option<Option<Cookie>> {
        let uri = Uri::parse(route).ok().filter(|uri| self.is_our_uri(uri))?;
        let value = uri.param(b"cg").flatten();
        Some(value.and_then(|value| Cookie::verify(&self.secret, message.call_id(), value)))
    }
}
