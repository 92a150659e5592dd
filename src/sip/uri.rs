//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966); any other scheme stays opaque.

use super::error::{Malformed, MalformedKind};
use super::grammar::{Reader, is_uri_param, is_uric, is_user};
use super::host::{Host, read_host_port};

/// What kind of URI it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    Other,
}

/// A URI, split but not unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    pub scheme: Scheme,
    /// The scheme as written, without its colon.
    pub scheme_text: &'a [u8],
    /// The user without password; of a tel URI its number.
    pub user: Option<&'a [u8]>,
    pub password: Option<&'a [u8]>,
    /// An empty name for a tel URI or an unknown scheme.
    pub host: Host<'a>,
    pub port: Option<u16>,
    /// From the first semicolon behind the host (of a tel URI: the number), or empty.
    pub params: &'a [u8],
    /// Behind the question mark, or empty.
    pub headers: &'a [u8],
    /// All behind the scheme's colon.
    pub opaque: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Reads a URI without angle brackets around it.
    pub fn parse(text: &'a [u8]) -> Result<Uri<'a>, Malformed> {
        let colon = scheme_end(text).ok_or(Malformed::new(MalformedKind::Uri, 0))?;
        let scheme_text = &text[..colon];
        let opaque = &text[colon + 1..];
        let mut uri = Uri {
            scheme: scheme_of(scheme_text),
            scheme_text,
            user: None,
            password: None,
            host: Host::Name(b""),
            port: None,
            params: b"",
            headers: b"",
            opaque,
        };
        let read = match uri.scheme {
            Scheme::Sip | Scheme::Sips => read_sip(&mut uri),
            Scheme::Tel => read_tel(&mut uri),
            Scheme::Other if is_uric(opaque) => Ok(()),
            Scheme::Other => Err(Malformed::new(MalformedKind::Uri, 0)),
        };
        match read {
            Ok(()) => Ok(uri),
            Err(fault) => Err(fault.shifted(colon + 1)),
        }
    }

    /// The value of parameter `name` (any case): none when absent, `Some(None)` when it has no value.
    pub fn param(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        let mut rest = self.params;
        loop {
            // What stands in front of the first semicolon is empty: the text begins with one.
            let at = rest.iter().position(|&octet| octet == b';')?;
            rest = rest.get(at + 1..)?;
            let Some((key, behind)) = rest.split_at_checked(name.len()) else {
                continue;
            };
            if !key.eq_ignore_ascii_case(name) {
                continue;
            }
            match behind.first() {
                None | Some(b';') => return Some(None),
                Some(b'=') => {
                    let value = &behind[1..];
                    let end = value.iter().position(|&octet| octet == b';');
                    return Some(Some(&value[..end.unwrap_or(value.len())]));
                }
                Some(_) => {}
            }
        }
    }

    /// The host as it stands in `text`, which the URI was parsed from; IPv6 in its brackets.
    pub fn host_text<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let after_user = match self.user {
            Some(_) => memchr::memchr(b'@', text).map_or(0, |at| at + 1),
            None => self.scheme_text.len() + 1,
        };
        let host = text.get(after_user..).unwrap_or_default();
        let end = if host.first() == Some(&b'[') {
            memchr::memchr(b']', host).map_or(host.len(), |at| at + 1)
        } else {
            memchr::memchr3(b':', b';', b'?', host).unwrap_or(host.len())
        };
        &host[..end]
    }

    /// Whether the user part is a telephone number.
    //= rfc3261#19.1.6
    pub fn is_number(&self) -> bool {
        let says_so = || {
            let user = self.param(b"user").flatten();
            user.is_some_and(|user| user.eq_ignore_ascii_case(b"phone"))
        };
        self.scheme == Scheme::Tel || says_so()
    }

    /// Whether the URI belongs to a loose router (RFC 3261 §19.1.1).
    pub fn is_lr(&self) -> bool {
        self.param(b"lr").is_some()
    }
}

/// Where the colon behind `ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )` is.
fn scheme_end(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"sip:") {
        return Some(3);
    }
    let colon = memchr::memchr(b':', text)?;
    let scheme = &text[..colon];
    let starts_well = scheme.first().is_some_and(u8::is_ascii_alphabetic);
    let goes_on_well = scheme
        .iter()
        .all(|&octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet));
    (starts_well && goes_on_well).then_some(colon)
}

fn scheme_of(text: &[u8]) -> Scheme {
    if text.eq_ignore_ascii_case(b"sip") {
        Scheme::Sip
    } else if text.eq_ignore_ascii_case(b"sips") {
        Scheme::Sips
    } else if text.eq_ignore_ascii_case(b"tel") {
        Scheme::Tel
    } else {
        Scheme::Other
    }
}

/// `[ user [ ":" password ] "@" ] host [ ":" port ] params [ "?" headers ]`
///
/// The user part may have `;`, `?` and `/`, while `@` must be escaped everywhere: the first `@` ends it.
fn read_sip(uri: &mut Uri<'_>) -> Result<(), Malformed> {
    let mut reader = Reader::new(uri.opaque);
    if let Some(at) = memchr::memchr(b'@', uri.opaque) {
        let user_info = &uri.opaque[..at];
        if user_info.is_empty() || !is_user(user_info) {
            return Err(reader.fault(MalformedKind::Uri));
        }
        let (user, password) = split_at_octet(user_info, b':');
        uri.user = Some(user);
        uri.password = password;
        reader.at = at + 1;
    }
    let start = reader.at;
    (uri.host, uri.port) = read_host_port(&mut reader)?;
    // A reader of hosts lets white space pass around the colon, as a Via may have it; a URI may not.
    let host_port = &uri.opaque[start..reader.at];
    if uri.port.is_some() && host_port.iter().any(u8::is_ascii_whitespace) {
        return Err(reader.fault(MalformedKind::Uri));
    }
    if reader.is_done() {
        return Ok(());
    }
    let (params, headers) = split_at_octet(reader.rest(), b'?');
    uri.params = params;
    uri.headers = headers.unwrap_or_default();
    let is_sound = (params.is_empty() || params.starts_with(b";") && are_params(params))
        && headers.is_none_or(is_uric);
    if is_sound {
        Ok(())
    } else {
        Err(reader.fault(MalformedKind::Uri))
    }
}

/// `number *( ";" parameter )`, global or local.
fn read_tel(uri: &mut Uri<'_>) -> Result<(), Malformed> {
    let end = memchr::memchr(b';', uri.opaque).unwrap_or(uri.opaque.len());
    let (number, params) = uri.opaque.split_at(end);
    let is_number = number
        .iter()
        .all(|&octet| octet.is_ascii_hexdigit() || b"+-.()*#".contains(&octet));
    if number.is_empty() || !is_number || !are_params(params) {
        return Err(Malformed::new(MalformedKind::Uri, 0));
    }
    uri.user = Some(number);
    uri.params = params;
    Ok(())
}

/// Whether `text` is `*( ";" name [ "=" value ] )`; a doubled or trailing semicolon, which some
/// devices send, changes nothing about the URI and is let through.
fn are_params(text: &[u8]) -> bool {
    text.split(|&octet| octet == b';')
        .map(split_param)
        .all(|(name, value)| is_uri_param(name) && value.is_none_or(is_uri_param))
}

fn split_param(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    split_at_octet(text, b'=')
}

fn split_at_octet(text: &[u8], octet: u8) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(octet, text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;

    #[test]
    fn a_user_part_may_have_separators() {
        let uri = Uri::parse(b"sip:user;par=u%40example.net@example.com").expect("well formed");
        assert_eq!(uri.user, Some(&b"user;par=u%40example.net"[..]));
        assert_eq!(uri.host, Host::Name(b"example.com"));
        let odd = b"sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com";
        let uri = Uri::parse(odd).expect("well formed");
        assert_eq!(
            uri.user,
            Some(&b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"[..])
        );
        assert_eq!(
            uri.password,
            Some(&b"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"[..])
        );
    }

    #[test]
    fn ports_parameters_and_headers_are_split() {
        let uri = Uri::parse(b"SIPS:[2001:db8::1]:5061;LR;transport=tcp?Route=%3Csip:a%3E")
            .expect("well formed");
        assert_eq!(uri.scheme, Scheme::Sips);
        assert_eq!(
            uri.host,
            Host::V6("2001:db8::1".parse::<Ipv6Addr>().expect("literal"))
        );
        assert_eq!(uri.port, Some(5061));
        assert!(uri.is_lr());
        assert_eq!(uri.param(b"Transport"), Some(Some(&b"tcp"[..])));
        assert_eq!(uri.param(b"maddr"), None);
        assert_eq!(uri.headers, b"Route=%3Csip:a%3E");
    }

    #[test]
    fn a_tel_uri_has_a_number_and_parameters() {
        let uri =
            Uri::parse(b"tel:+1-201-555-0123;phone-context=example.com").expect("well formed");
        assert_eq!(uri.scheme, Scheme::Tel);
        assert_eq!(uri.user, Some(&b"+1-201-555-0123"[..]));
        assert_eq!(uri.param(b"phone-context"), Some(Some(&b"example.com"[..])));
        assert!(Uri::parse(b"tel:").is_err());
        assert!(Uri::parse(b"tel:call me").is_err());
    }

    #[test]
    fn an_unknown_scheme_is_opaque() {
        let uri = Uri::parse(b"soap.beep://192.0.2.103:3002").expect("well formed");
        assert_eq!(uri.scheme, Scheme::Other);
        assert_eq!(uri.scheme_text, b"soap.beep");
    }

    #[test]
    fn what_is_not_a_uri_is_refused() {
        for text in [
            &b""[..],
            b"sip",
            b"sip:",
            b":a",
            b"sip:a@",
            b"sip:@a",
            b"sip:a b@c",
            b"sip:a@b c",
            b"sip:a@b@c",
            b"sip:a@b:x",
            b"sip:a@b:99999",
            b"sip:a%4@b",
            b"sip:a@b;x=%4",
            b"sip:a@b : 5060",
            b"sip:a@[::1",
            b"<sip:a@b>",
            b"sip:a@b\0",
            b"1sip:a@b",
            b"sip:a@b?",
            b"x:a b",
        ] {
            assert!(Uri::parse(text).is_err(), "{}", text.escape_ascii());
        }
    }
}
