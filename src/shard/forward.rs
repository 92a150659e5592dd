//! Writes the request that goes on (RFC 3261 §16.6 steps 1 to 8): splices over the received bytes.

use core::ops::Range;

use super::Shard;
use super::branch::Branch;
use super::cookie::Cookie;
use super::path::Path;
use super::request::domain;
use crate::base::Cursor;
use crate::dialog::{CallKey, Part, Side};
use crate::net::{Flow, ListenerId};
use crate::sip::{self, Edit, HeaderId, Message, Uri, oc};

/// All that the forwarded request differs in.
pub(super) struct Forwarding<'a, 'm> {
    pub message: &'a Message<'m>,
    pub from: Flow,
    pub to: Flow,
    pub path: &'a Path<'m>,
    pub branch: Branch,
    pub target: Target,
    /// Put ourselves into the route set of the dialog that this request may make.
    pub record_route: Option<Cookie>,
    pub session: Option<sip_session::Headers>,
    /// The next hop is asked how loaded it is.
    pub asks_load: bool,
}

/// What stands in place of a Request-URI that named us.
//= rfc3261#16.5
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The Request-URI names somebody else: it stays.
    AsAsked,
    /// The same URI at this address: the trunk that was chosen.
    At(core::net::SocketAddr),
    /// The Contact of one end of a live call: its peer sends to us because it keeps no route set.
    Contact(CallKey, Side),
}

pub(super) mod sip_session {
    /// Values for the session timer headers of a forwarded message, in seconds.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Headers {
        pub session_expires_s: Option<u32>,
        pub min_se_s: Option<u32>,
    }
}

impl Shard {
    /// Registers the splices of a forwarded request in `self.edit`.
    pub(super) fn splice_request(&mut self, forwarding: &Forwarding<'_, '_>) {
        let mut edit = core::mem::take(&mut self.edit);
        edit.begin();
        let Forwarding { message, path, .. } = *forwarding;
        self.splice_request_uri(&mut edit, forwarding);
        self.splice_vias(&mut edit, forwarding);
        //= rfc3261#16.6
        edit.decrement_max_forwards(message);
        edit.limit_max_breadth(message);
        if let Some(cookie) = forwarding.record_route {
            self.splice_record_route(&mut edit, forwarding, cookie);
        }
        if path.changes_route() {
            splice_routes(&mut edit, message, path);
        }
        if let Some(session) = forwarding.session {
            splice_session(&mut edit, message, session);
        }
        self.edit = edit;
    }

    /// The Request-URI of the forwarded request, where it is another one than the received.
    fn splice_request_uri(&self, edit: &mut Edit, forwarding: &Forwarding<'_, '_>) {
        let Forwarding {
            message,
            path,
            target,
            ..
        } = *forwarding;
        let range = message.request_uri_range();
        match (path.next.filter(|_| path.goes_to_strict_router()), target) {
            (Some(strict), _) => edit.replace(range, strict),
            (None, Target::At(host)) => {
                edit.replace_with(range, |out| put_with_host(path.target, Some(host), out))
            }
            (None, Target::Contact(call, side)) => {
                let words = self.calls.words(call);
                edit.replace_with(range, |out| out.put(words.word(contact_of(side))));
            }
            (None, Target::AsAsked) if path.target_from_route => edit.replace(range, path.target),
            (None, Target::AsAsked) if path.strips_maddr => {
                edit.replace_with(range, |out| put_with_host(path.target, None, out));
            }
            (None, Target::AsAsked) => {}
        }
    }

    /// Our Via on top, and what the sender's Via lacks about where it really is.
    //= rfc3261#16.6
    //= rfc3581#4
    fn splice_vias(&self, edit: &mut Edit, forwarding: &Forwarding<'_, '_>) {
        let Forwarding {
            message,
            from,
            to,
            branch,
            ..
        } = *forwarding;
        edit.stamp_top_via(message, from.remote);
        edit.insert_top_via(message, |out| {
            out.put(b"SIP/2.0/UDP ");
            self.put_sent_by(to.listener, out);
            out.put(b";branch=");
            branch.put(out);
            if forwarding.asks_load {
                out.put(oc::ASK);
            }
        });
    }

    /// Host and port by which the peers of a listener reach us.
    pub(super) fn put_sent_by(&self, listener: ListenerId, out: &mut Cursor<'_>) {
        if let Some(listener) = self.plan.listeners.get(usize::from(listener.0)) {
            out.put(listener.advertise_host.as_bytes());
            out.put(b":");
            out.put_decimal(u64::from(listener.advertise_port));
        }
    }

    /// One Record-Route, or two where the request leaves by another listener than it came in.
    //= rfc3261#16.6
    fn splice_record_route(
        &self,
        edit: &mut Edit,
        forwarding: &Forwarding<'_, '_>,
        cookie: Cookie,
    ) {
        let Forwarding {
            message, from, to, ..
        } = *forwarding;
        edit.insert_with(message.record_route_position(), |out| {
            let mut put = |listener| {
                out.put(b"Record-Route: <sip:");
                self.put_sent_by(listener, out);
                out.put(b";lr;cg=");
                cookie.put(&self.secret, message.call_id_hash(&self.secret), out);
                out.put(b">\r\n");
            };
            put(to.listener);
            if from.listener != to.listener {
                put(from.listener);
            }
        });
    }
}

/// Where the Contact of one end is kept.
pub(super) fn contact_of(side: Side) -> Part {
    match side {
        Side::Caller => Part::CallerContact,
        Side::Callee => Part::CalleeContact,
    }
}

/// The URI with another host and port, or with its own host and without port; `transport`, `maddr`
/// and `ttl` belonged to the old one.
fn put_with_host(uri_text: &[u8], host: Option<core::net::SocketAddr>, out: &mut Cursor<'_>) {
    let Ok(uri) = Uri::parse(uri_text) else {
        return out.put(uri_text);
    };
    out.put(uri.scheme_text);
    out.put(b":");
    if let Some(user) = uri.user {
        out.put(user);
        if let Some(password) = uri.password {
            out.put(b":");
            out.put(password);
        }
        out.put(b"@");
    }
    match host {
        Some(host) => sip::compose::put_address(out, host),
        None => out.put(domain(&uri, uri_text)),
    }
    for param in uri.params.split(|octet| *octet == b';').skip(1) {
        let name = param.split(|octet| *octet == b'=').next().unwrap_or(param);
        let is_gone = [&b"transport"[..], b"maddr", b"ttl"]
            .iter()
            .any(|gone| name.eq_ignore_ascii_case(gone));
        if !is_gone {
            out.put(b";");
            out.put(param);
        }
    }
    if !uri.headers.is_empty() {
        out.put(b"?");
        out.put(uri.headers);
    }
}

/// The Route header without our own entries, without the one that became the Request-URI, and
/// around a strict router.
fn splice_routes(edit: &mut Edit, message: &Message<'_>, path: &Path<'_>) {
    let strict = path.goes_to_strict_router();
    let staying = path.staying();
    let kept = staying.start + usize::from(strict)..staying.end;
    let mut line: Option<RouteLine> = None;
    for (position, value) in message.values(HeaderId::Route).enumerate() {
        if line.as_ref().is_none_or(|line| line.field != value.field) {
            close_route_line(edit, message, line.take());
        }
        let line = line.get_or_insert(RouteLine {
            field: value.field,
            kept: None,
        });
        if kept.contains(&position) {
            let start = line
                .kept
                .as_ref()
                .map_or(value.range.start, |kept| kept.start);
            line.kept = Some(start..value.range.end);
        }
    }
    let last = line.as_ref().map(|line| line.field);
    close_route_line(edit, message, line);
    if let Some(last) = last
        .and_then(|last| message.fields().get(last))
        .filter(|_| strict)
    {
        edit.insert_with(last.line().end, |out| {
            out.put(b"Route: <");
            out.put(path.target);
            out.put(b">\r\n");
        });
    }
}

/// A Route field and the part of it that stays.
struct RouteLine {
    field: usize,
    kept: Option<Range<usize>>,
}

fn close_route_line(edit: &mut Edit, message: &Message<'_>, line: Option<RouteLine>) {
    let Some(line) = line else { return };
    let Some(field) = message.fields().get(line.field) else {
        return;
    };
    let Some(kept) = line.kept else {
        return edit.remove(field.line());
    };
    let whole = field.value_range();
    for gone in [whole.start..kept.start, kept.end..whole.end] {
        if !gone.is_empty() {
            edit.remove(gone);
        }
    }
}

/// Session-Expires and Min-SE in place of those that came.
fn splice_session(edit: &mut Edit, message: &Message<'_>, session: sip_session::Headers) {
    let headers = [
        (
            HeaderId::SessionExpires,
            &b"Session-Expires: "[..],
            session.session_expires_s,
        ),
        (HeaderId::MinSe, &b"Min-SE: "[..], session.min_se_s),
    ];
    for (id, name, seconds) in headers {
        let Some(seconds) = seconds else { continue };
        match message.field(id) {
            Some(field) => {
                // The refresher that the sender asked for stays.
                let params = message
                    .value(id)
                    .and_then(|value| memchr::memchr(b';', value).map(|at| &value[at..]));
                edit.replace_with(field.value_range(), |out| {
                    out.put_decimal(u64::from(seconds));
                    out.put(params.unwrap_or_default());
                });
            }
            None => edit.insert_with(message.header_end(), |out| {
                out.put(name);
                out.put_decimal(u64::from(seconds));
                out.put(b"\r\n");
            }),
        }
    }
}

/// Whether a request with this method, outside a dialog, may make one.
pub(super) fn makes_dialog(method: sip::Method) -> bool {
    use sip::Method;
    match method {
        Method::Invite | Method::Subscribe | Method::Refer | Method::Notify => true,
        Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Options
        | Method::Register
        | Method::Prack
        | Method::Update
        | Method::Info
        | Method::Publish
        | Method::Message
        | Method::Other => false,
    }
}
