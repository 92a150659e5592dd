//! The way of requests inside a dialog: Contact and Record-Route of the answer (RFC 3261 §12.1.2,
//! §12.2.1.1), and the address of the first hop.

use core::net::SocketAddr;

use callgate::sip::{DEFAULT_PORT, HeaderId, Message, NameAddr, Scheme, Uri};

use crate::permit::Permit;
use crate::tally::Failure;

/// Hops of a route set; an answer with more is refused.
const HOPS_MAX: usize = 16;

/// What later requests of a call need, as text in a row: the lengths of the first two, then
/// Request-URI, Route fields, To.
#[derive(Clone, Debug, Default)]
pub struct RouteText {
    text: Vec<u8>,
}

/// Octets of the two lengths.
const HEAD: usize = 4;

impl RouteText {
    /// Reads the answer; gives the address of the first hop. The text is in [`RouteText::bytes`].
    pub fn read(&mut self, answer: &Message<'_>, permit: &Permit) -> Result<SocketAddr, Failure> {
        let contact = answer
            .address(HeaderId::Contact)
            .map_err(|_| Failure::BadAnswer)?;
        let mut hops: [&[u8]; HOPS_MAX] = [b""; HOPS_MAX];
        let mut count = 0;
        for hop in answer.values(HeaderId::RecordRoute) {
            *hops.get_mut(count).ok_or(Failure::BadAnswer)? = hop.bytes;
            count += 1;
        }
        // The caller's route set is the Record-Route backwards.
        hops[..count].reverse();
        let first = self.compose(contact.uri, &hops[..count])?;
        self.text
            .extend_from_slice(answer.value(HeaderId::To).unwrap_or_default());
        match permit.allows(first.ip()) {
            true => Ok(first),
            false => Err(Failure::RouteNotPermitted),
        }
    }

    /// Writes the Request-URI and the Route fields, and gives the address of the first hop.
    //= rfc3261#12.2.1.1
    fn compose(&mut self, contact: &[u8], hops: &[&[u8]]) -> Result<SocketAddr, Failure> {
        self.text.clear();
        self.text.extend_from_slice(&[0; HEAD]);
        let Some((first, rest)) = hops.split_first() else {
            self.text.extend_from_slice(contact);
            self.mark(contact.len())?;
            return address(&uri(contact)?);
        };
        let first_name = NameAddr::parse(first).map_err(|_| Failure::BadAnswer)?;
        let first_uri = uri(first_name.uri)?;
        if first_uri.is_lr() {
            self.text.extend_from_slice(contact);
            for hop in hops {
                self.put_route(hop);
            }
            self.mark(contact.len())?;
        } else {
            // A strict router takes the Request-URI for its own; the target goes last.
            self.text.extend_from_slice(first_name.uri);
            for hop in rest {
                self.put_route(hop);
            }
            self.put_route(&[b"<", contact, b">"].concat());
            self.mark(first_name.uri.len())?;
        }
        address(&first_uri)
    }

    fn put_route(&mut self, hop: &[u8]) {
        self.text.extend_from_slice(b"Route: ");
        self.text.extend_from_slice(hop);
        self.text.extend_from_slice(b"\r\n");
    }

    /// Remembers that the text so far is a target of this length and routes.
    fn mark(&mut self, target_len: usize) -> Result<(), Failure> {
        let lengths = [target_len, self.text.len() - HEAD - target_len];
        for (place, len) in self.text.as_chunks_mut::<2>().0.iter_mut().zip(lengths) {
            let len = u16::try_from(len).map_err(|_| Failure::BadAnswer)?;
            *place = len.to_be_bytes();
        }
        Ok(())
    }

    /// The text, to be stored; see [`split`].
    pub fn bytes(&self) -> &[u8] {
        &self.text
    }
}

/// Request-URI, Route fields and To of a stored [`RouteText`].
pub fn split(bytes: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let Some((head, text)) = bytes.split_at_checked(HEAD) else {
        return (b"", b"", b"");
    };
    let target_len = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let routes_len = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let (target, rest) = text.split_at(target_len);
    let (routes, to) = rest.split_at(routes_len);
    (target, routes, to)
}

fn uri(text: &[u8]) -> Result<Uri<'_>, Failure> {
    match Uri::parse(text) {
        Ok(uri) if uri.scheme == Scheme::Sip => Ok(uri),
        _ => Err(Failure::BadAnswer),
    }
}

/// The address of a URI; names are not looked up.
fn address(uri: &Uri<'_>) -> Result<SocketAddr, Failure> {
    let ip = uri.host.ip().ok_or(Failure::BadAnswer)?;
    Ok(SocketAddr::new(ip, uri.port.unwrap_or(DEFAULT_PORT)))
}

#[cfg(test)]
mod tests {
    use callgate::sip::{Scratch, parse};

    use super::*;

    fn routed(fields: &str) -> Result<(String, String, String, String), Failure> {
        let text = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:b@h>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{fields}Content-Length: 0\r\n\r\n"
        );
        let mut scratch = Scratch::new(32);
        let answer = parse(text.as_bytes(), &mut scratch).expect("well formed");
        let mut route = RouteText::default();
        let first = route.read(&answer, &Permit::default())?;
        let (target, routes, to) = split(route.bytes());
        let owned = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        Ok((first.to_string(), owned(target), owned(routes), owned(to)))
    }

    #[test]
    fn without_record_route_requests_go_to_the_contact() {
        let (first, target, routes, to) =
            routed("Contact: <sip:b@127.0.0.2:5080>\r\n").expect("a way");
        assert_eq!(first, "127.0.0.2:5080");
        assert_eq!(target, "sip:b@127.0.0.2:5080");
        assert_eq!(routes, "");
        assert_eq!(to, "<sip:b@h>;tag=2");
    }

    #[test]
    fn the_route_set_is_record_route_backwards() {
        let (first, target, routes, _) = routed(
            "Record-Route: <sip:127.0.0.9;lr>, <sip:127.0.0.8:5062;lr>\r\nContact: sip:b@127.0.0.2\r\n",
        )
        .expect("a way");
        assert_eq!(first, "127.0.0.8:5062");
        assert_eq!(target, "sip:b@127.0.0.2");
        assert_eq!(
            routes,
            "Route: <sip:127.0.0.8:5062;lr>\r\nRoute: <sip:127.0.0.9;lr>\r\n"
        );
    }

    #[test]
    fn a_strict_router_is_the_request_uri_and_the_target_goes_last() {
        let (first, target, routes, _) =
            routed("Record-Route: <sip:127.0.0.8:5062>\r\nContact: <sip:b@127.0.0.2>\r\n")
                .expect("a way");
        assert_eq!(first, "127.0.0.8:5062");
        assert_eq!(target, "sip:127.0.0.8:5062");
        assert_eq!(routes, "Route: <sip:b@127.0.0.2>\r\n");
    }

    #[test]
    fn no_route_leads_to_an_address_that_is_not_permitted() {
        let away = "Record-Route: <sip:192.0.2.1;lr>\r\nContact: <sip:b@127.0.0.2>\r\n";
        assert_eq!(routed(away), Err(Failure::RouteNotPermitted));
        assert_eq!(
            routed("Contact: <sip:b@host.example>\r\n"),
            Err(Failure::BadAnswer)
        );
        assert_eq!(routed(""), Err(Failure::BadAnswer));
    }
}
