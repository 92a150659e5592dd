//! The changes a proxy makes, by name: Via, Record-Route, Max-Forwards, Route, Request-URI
//! (RFC 3261 §16.4, §16.6, §16.7; RFC 3581).

use core::net::SocketAddr;
use core::ops::Range;

use super::Edit;
use crate::base::Cursor;
use crate::sip::compose::put_ip;
use crate::sip::message::Stamp;
use crate::sip::oc::{Feedback, Places, may_be_in};
use crate::sip::{HeaderId, Message, Value};

/// Branches that a request may have at once, everywhere downstream: the value that RFC 5393
/// §5.3.3 recommends both where none came and as the most that is taken.
const MAX_BREADTH: u64 = 60;

impl Edit {
    /// Writes one field line in front of all Via fields: `compose` writes the value.
    //= rfc3261#16.6 step 8
    pub fn insert_top_via(&mut self, message: &Message<'_>, compose: impl FnOnce(&mut Cursor<'_>)) {
        self.insert_field(message.via_position(), "Via", compose);
    }

    /// Writes one field line in front of all Record-Route fields, or behind the last Via.
    //= rfc3261#16.6 step 4
    pub fn insert_record_route(
        &mut self,
        message: &Message<'_>,
        compose: impl FnOnce(&mut Cursor<'_>),
    ) {
        self.insert_field(message.record_route_position(), "Record-Route", compose);
    }

    /// Writes one field line in front of the empty line.
    pub fn append_field(
        &mut self,
        message: &Message<'_>,
        name: &str,
        compose: impl FnOnce(&mut Cursor<'_>),
    ) {
        self.insert_field(message.header_end(), name, compose);
    }

    /// Replaces the value of the first field of this id, or appends one.
    pub fn set_field(&mut self, message: &Message<'_>, id: HeaderId, value: &[u8]) {
        match message.field(id) {
            Some(field) => self.replace(field.value_range(), value),
            None => self.append_field(message, id.name(), |out| out.put(value)),
        }
    }

    /// Leaves out all fields of this id.
    pub fn remove_fields(&mut self, message: &Message<'_>, id: HeaderId) {
        for field in message.fields_of(id) {
            self.remove(field.line());
        }
    }

    /// Puts `uri` in the place of the Request-URI.
    pub fn replace_request_uri(&mut self, message: &Message<'_>, uri: &[u8]) {
        self.replace(message.request_uri_range(), uri);
    }

    /// Sets Max-Forwards to `hops`, adding the field when it is missing.
    //= rfc3261#16.6 step 3
    pub fn set_max_forwards(&mut self, message: &Message<'_>, hops: u8) {
        match message.field(HeaderId::MaxForwards) {
            Some(field) => {
                self.replace_with(field.value_range(), |out| out.put_decimal(hops.into()));
            }
            None => self.insert_field(message.after_vias(), "Max-Forwards", |out| {
                out.put_decimal(hops.into());
            }),
        }
    }

    /// Counts Max-Forwards down by one, or adds `70`; a value that cannot be read becomes `70` too.
    pub fn decrement_max_forwards(&mut self, message: &Message<'_>) {
        const RECOMMENDED: u8 = 70;
        let hops = match message.max_forwards() {
            Ok(Some(hops)) => hops.saturating_sub(1),
            Ok(None) | Err(_) => RECOMMENDED,
        };
        self.set_max_forwards(message, hops);
    }

    /// Adds Max-Breadth, or lowers one that is above what we allow.
    //= rfc5393#5.3.3
    pub fn limit_max_breadth(&mut self, message: &Message<'_>) {
        match (message.max_breadth(), message.field(HeaderId::MaxBreadth)) {
            (Ok(Some(breadth)), Some(_)) if breadth <= MAX_BREADTH => {}
            (Ok(_) | Err(_), Some(field)) => {
                self.replace_with(field.value_range(), |out| out.put_decimal(MAX_BREADTH));
            }
            (Ok(_) | Err(_), None) => {
                let hops = message.field(HeaderId::MaxForwards);
                let at = hops.map_or(message.via_position(), |hops| hops.line().end);
                self.insert_field(at, "Max-Breadth", |out| out.put_decimal(MAX_BREADTH));
            }
        }
    }

    /// Leaves out one element of a list with its comma, or the whole field when it was alone.
    pub fn remove_value(&mut self, message: &Message<'_>, value: &Value<'_>) {
        let Some(field) = message.fields().get(value.field) else {
            return;
        };
        let mut before = None;
        let mut after = None;
        for other in message
            .values(field.id)
            .filter(|other| other.field == value.field)
        {
            if other.range.start < value.range.start {
                before = Some(other.range.end);
            } else if other.range.start > value.range.start {
                after = after.or(Some(other.range.start));
            }
        }
        self.remove(match (before, after) {
            (_, Some(after)) => value.range.start..after,
            (Some(before), None) => before..value.range.end,
            (None, None) => field.line(),
        });
    }

    /// Leaves out the first `count` elements of this id, whole fields where none of theirs is left.
    pub fn remove_first_values(&mut self, message: &Message<'_>, id: HeaderId, count: usize) {
        let mut open: Option<(usize, Range<usize>)> = None;
        for value in message.values(id).take(count) {
            match &mut open {
                Some((field, range)) if *field == value.field => range.end = value.range.end,
                _ => {
                    self.remove_open(message, open.take(), None);
                    open = Some((value.field, value.range.clone()));
                }
            }
        }
        let kept = message.values(id).nth(count);
        self.remove_open(message, open, kept);
    }

    /// Leaves out the elements in `open`: up to `kept` when that is in the same field, else all of it.
    fn remove_open(
        &mut self,
        message: &Message<'_>,
        open: Option<(usize, Range<usize>)>,
        kept: Option<Value<'_>>,
    ) {
        let Some((index, range)) = open else {
            return;
        };
        match kept {
            Some(kept) if kept.field == index => self.remove(range.start..kept.range.start),
            _ => {
                if let Some(field) = message.fields().get(index) {
                    self.remove(field.line());
                }
            }
        }
    }

    /// Leaves out the first Route element.
    //= rfc3261#16.4
    pub fn remove_top_route(&mut self, message: &Message<'_>) {
        self.remove_first_values(message, HeaderId::Route, 1);
    }

    /// Leaves out the first Via element: our own, in a response that goes on.
    //= rfc3261#16.7 step 3
    pub fn remove_top_via(&mut self, message: &Message<'_>) {
        self.remove_first_values(message, HeaderId::Via, 1);
    }

    /// Writes where the request came from into its top Via: `received`, and `rport` when asked for.
    //= rfc3261#18.2.1
    //= rfc3581#4
    pub fn stamp_top_via(&mut self, message: &Message<'_>, source: SocketAddr) {
        let Some(stamp) = message.stamp() else {
            return;
        };
        // What the sender says about its own address is not to be believed.
        if let Some(received) = stamp.received {
            self.remove(received.range());
        }
        if let Some(rport) = stamp.rport {
            self.replace_with(rport.range(), |out| put_rport(out, source));
        }
        if needs_received(&stamp, source) {
            self.insert_with(stamp.value.range().end, |out| put_received(out, source));
        }
    }

    /// Writes our load into the second Via of a response, whose sender asked for it; what stands
    /// there of it is somebody else's word, or the question.
    //= rfc7339#5.6
    pub fn tell_load(&mut self, message: &Message<'_>, feedback: &Feedback) {
        let Some(value) = message.values(HeaderId::Via).nth(1) else {
            return;
        };
        if !may_be_in(value.bytes) {
            return;
        }
        let Ok(via) = message.via(&value) else {
            return;
        };
        let Some(places) = Places::find(via.params) else {
            return;
        };
        let params_at = value.range.start + value.bytes.len() - via.params.len();
        for range in places.ranges() {
            self.remove(range.start + params_at..range.end + params_at);
        }
        self.insert_with(value.range.end, |out| feedback.put(out));
    }

    fn insert_field(&mut self, at: usize, name: &str, compose: impl FnOnce(&mut Cursor<'_>)) {
        self.insert_with(at, |out| {
            out.put(name.as_bytes());
            out.put(b": ");
            compose(out);
            out.put(b"\r\n");
        });
    }
}

impl Message<'_> {
    /// Where a new top Via goes: in front of the first Via field, else behind the start line.
    pub fn via_position(&self) -> usize {
        self.line_start(HeaderId::Via)
            .unwrap_or(self.header_start())
    }

    /// Where a new Record-Route goes: in front of the first one, else behind the Via fields.
    pub fn record_route_position(&self) -> usize {
        self.line_start(HeaderId::RecordRoute)
            .unwrap_or(self.after_vias())
    }

    /// Behind the last Via field, else behind the start line.
    pub fn after_vias(&self) -> usize {
        self.fields_of(HeaderId::Via)
            .last()
            .map_or(self.header_start(), |field| field.line().end)
    }

    fn line_start(&self, id: HeaderId) -> Option<usize> {
        self.field(id).map(|field| field.line().start)
    }
}

/// Whether a Via must say which address its request came from.
pub(in crate::sip) fn needs_received(via: &Stamp, source: SocketAddr) -> bool {
    via.rport.is_some() || via.ip != Some(source.ip())
}

pub(in crate::sip) fn put_received(out: &mut Cursor<'_>, source: SocketAddr) {
    out.put(b";received=");
    put_ip(out, source.ip());
}

pub(in crate::sip) fn put_rport(out: &mut Cursor<'_>, source: SocketAddr) {
    out.put(b";rport=");
    out.put_decimal(source.port().into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Scratch, parse};

    fn edited(text: &str, change: impl FnOnce(&mut Edit, &Message<'_>)) -> String {
        let mut scratch = Scratch::new(32);
        let message = parse(text.as_bytes(), &mut scratch).expect("well formed");
        let mut edit = Edit::new(16, 1024);
        edit.begin();
        change(&mut edit, &message);
        let mut buffer = [0u8; 2048];
        let mut out = Cursor::new(&mut buffer);
        edit.write(message.bytes(), &mut out).expect("a sound edit");
        String::from_utf8(out.written().to_vec()).expect("text")
    }

    #[test]
    fn a_request_is_forwarded_with_each_step_of_the_proxy() {
        let text = "INVITE sip:a@b SIP/2.0\r\nTo: <sip:a@b>\r\nVia: SIP/2.0/UDP h:5070;rport\r\n\
            Max-Forwards: 70\r\nRoute: <sip:us;lr>, <sip:p2;lr>\r\nVia: SIP/2.0/UDP i\r\n\r\nbody";
        let source = "192.0.2.9:40000".parse().expect("a literal");
        let forwarded = edited(text, |edit, message| {
            edit.replace_request_uri(message, b"sip:c@d");
            edit.stamp_top_via(message, source);
            edit.insert_top_via(message, |out| out.put(b"SIP/2.0/UDP us"));
            edit.insert_record_route(message, |out| out.put(b"<sip:us;lr>"));
            edit.decrement_max_forwards(message);
            edit.remove_top_route(message);
            edit.append_field(message, "Session-Expires", |out| out.put(b"1800"));
        });
        assert_eq!(
            forwarded,
            "INVITE sip:c@d SIP/2.0\r\nTo: <sip:a@b>\r\nVia: SIP/2.0/UDP us\r\n\
            Via: SIP/2.0/UDP h:5070;rport=40000;received=192.0.2.9\r\nMax-Forwards: 69\r\n\
            Route: <sip:p2;lr>\r\nVia: SIP/2.0/UDP i\r\nRecord-Route: <sip:us;lr>\r\n\
            Session-Expires: 1800\r\n\r\nbody"
        );
    }

    #[test]
    fn a_new_record_route_stands_in_front_of_the_others() {
        let text = "BYE sip:a SIP/2.0\r\nRecord-Route: <sip:x>\r\nVia: SIP/2.0/UDP h\r\n\r\n";
        let changed = edited(text, |edit, message| {
            edit.insert_record_route(message, |out| out.put(b"<sip:us>"));
            edit.decrement_max_forwards(message);
        });
        assert_eq!(
            changed,
            "BYE sip:a SIP/2.0\r\nRecord-Route: <sip:us>\r\nRecord-Route: <sip:x>\r\n\
            Via: SIP/2.0/UDP h\r\nMax-Forwards: 70\r\n\r\n"
        );
    }

    #[test]
    fn the_top_via_leaves_with_its_line_or_with_its_comma() {
        let gone = |text: &str| edited(text, |edit, message| edit.remove_top_via(message));
        assert_eq!(
            gone("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\nVia: SIP/2.0/UDP b\r\n\r\n"),
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP b\r\n\r\n"
        );
        assert_eq!(
            gone("SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a,\r\n SIP/2.0/UDP b\r\n\r\n"),
            "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP b\r\n\r\n"
        );
    }

    #[test]
    fn values_leave_one_by_one_or_several_at_once() {
        let text = "BYE sip:a SIP/2.0\r\nRoute: <sip:1>, <sip:2>\r\nX: y\r\nRoute: <sip:3>,<sip:4>\r\n\r\n";
        let first = |count: usize| {
            edited(text, |edit, message| {
                edit.remove_first_values(message, HeaderId::Route, count)
            })
        };
        assert_eq!(first(0), text);
        assert_eq!(first(1), text.replace("<sip:1>, ", ""));
        assert_eq!(first(2), text.replace("Route: <sip:1>, <sip:2>\r\n", ""));
        assert_eq!(
            first(3),
            "BYE sip:a SIP/2.0\r\nX: y\r\nRoute: <sip:4>\r\n\r\n"
        );
        assert_eq!(first(4), "BYE sip:a SIP/2.0\r\nX: y\r\n\r\n");
        assert_eq!(first(9), first(4));
        let nth = |n: usize| {
            edited(text, |edit, message| {
                let value = message.values(HeaderId::Route).nth(n).expect("one of four");
                edit.remove_value(message, &value);
            })
        };
        assert_eq!(nth(0), text.replace("<sip:1>, ", ""));
        assert_eq!(nth(1), text.replace(", <sip:2>", ""));
        assert_eq!(nth(3), text.replace(",<sip:4>", ""));
    }

    #[test]
    fn a_field_is_set_or_added_and_all_of_an_id_can_leave() {
        let text = "BYE sip:a SIP/2.0\r\nMin-SE: 90\r\nRoute: <sip:1>\r\nRoute: <sip:2>\r\n\r\n";
        let changed = edited(text, |edit, message| {
            edit.set_field(message, HeaderId::MinSe, b"120");
            edit.set_field(message, HeaderId::SessionExpires, b"1800");
            edit.remove_fields(message, HeaderId::Route);
        });
        assert_eq!(
            changed,
            "BYE sip:a SIP/2.0\r\nMin-SE: 120\r\nSession-Expires: 1800\r\n\r\n"
        );
    }
}
