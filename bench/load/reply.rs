//! Answers, written from the request they answer: its Via, Record-Route, From, To, Call-ID and
//! CSeq in one pass (RFC 3261 §8.2.6.2, §12.1.1; RFC 3581 §4).

use core::fmt::Write;
use core::net::{IpAddr, SocketAddr};

use callgate::base::Cursor;
use callgate::sip::{Field, HeaderId, Message, Via, status};

/// What is added to what the request says.
pub struct Reply<'a> {
    pub status: u16,
    /// The To tag, unless the request has one.
    pub tag: Option<u64>,
    /// A Contact field with its line end, or nothing.
    pub contact: &'a [u8],
    /// The body, or nothing.
    pub session: &'a [u8],
}

/// The text that says where a request came from, kept from one request to the next: most come from
/// the same place.
#[derive(Debug, Default)]
pub struct Stamp {
    source: Option<SocketAddr>,
    received: String,
    rport: String,
}

impl Stamp {
    /// Makes it say `source`.
    pub fn of(&mut self, source: SocketAddr) {
        if self.source == Some(source) {
            return;
        }
        self.source = Some(source);
        self.received.clear();
        self.rport.clear();
        // Writing to a String cannot fail.
        let _ = write!(self.received, ";received={}", source.ip());
        let _ = write!(self.rport, ";rport={}", source.port());
    }

    fn ip(&self) -> Option<IpAddr> {
        self.source.map(|source| source.ip())
    }
}

impl Reply<'_> {
    /// Writes the answer to `request`, whose top Via is `via`.
    pub fn write(&self, out: &mut Cursor<'_>, request: &Message<'_>, via: &Via<'_>, stamp: &Stamp) {
        out.put(b"SIP/2.0 ");
        out.put_decimal(self.status.into());
        out.put(b" ");
        out.put(status::phrase(self.status).as_bytes());
        out.put(b"\r\n");
        let mut is_top = true;
        for field in request.fields() {
            match field.id {
                HeaderId::Via if is_top => {
                    is_top = false;
                    put_top_via(out, request, field, via, stamp);
                }
                HeaderId::Via
                | HeaderId::RecordRoute
                | HeaderId::From
                | HeaderId::CallId
                | HeaderId::CSeq => out.put(&request.bytes()[field.line()]),
                HeaderId::To => self.put_to(out, request, field),
                _ => {}
            }
        }
        out.put(self.contact);
        if self.session.is_empty() {
            return out.put(b"Content-Length: 0\r\n\r\n");
        }
        out.put(b"Content-Type: application/sdp\r\nContent-Length: ");
        out.put_decimal(self.session.len() as u64);
        out.put(b"\r\n\r\n");
        out.put(self.session);
    }

    //= rfc3261#8.2.6.2 a To tag on every answer but 100
    fn put_to(&self, out: &mut Cursor<'_>, request: &Message<'_>, field: &Field) {
        out.put(b"To: ");
        out.put(field.value(request));
        if request.to_tag().is_none() {
            out.put(b";tag=");
            out.put_hex(self.tag.unwrap_or_default());
        }
        out.put(b"\r\n");
    }
}

/// The first Via field, which may have several values: the first one gets the source.
//= rfc3261#18.2.1
//= rfc3581#4
fn put_top_via(
    out: &mut Cursor<'_>,
    request: &Message<'_>,
    field: &Field,
    via: &Via<'_>,
    stamp: &Stamp,
) {
    let value = field.value(request);
    out.put(b"Via: ");
    match &via.rport_range {
        Some(rport) => {
            out.put(&value[..rport.start]);
            out.put(stamp.rport.as_bytes());
            out.put(stamp.received.as_bytes());
            out.put(&value[rport.end..]);
        }
        None if via.host.ip() == stamp.ip() => out.put(value),
        None => {
            let first = request.values(HeaderId::Via).next();
            let end = first.map_or(value.len(), |first| first.bytes.len());
            out.put(&value[..end]);
            out.put(stamp.received.as_bytes());
            out.put(&value[end..]);
        }
    }
    out.put(b"\r\n");
}

#[cfg(test)]
mod tests {
    use callgate::sip::{Scratch, parse};

    use super::*;

    fn answered(vias: &str) -> String {
        let text = format!(
            "INVITE sip:b@h SIP/2.0\r\n{vias}Record-Route: <sip:p;lr>\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:b@h>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        );
        let mut scratch = Scratch::new(32);
        let request = parse(text.as_bytes(), &mut scratch).expect("well formed");
        let via = request.top_via().expect("a Via");
        let mut stamp = Stamp::default();
        stamp.of("127.0.0.1:4000".parse().expect("literal"));
        let reply = Reply {
            status: 180,
            tag: Some(5),
            contact: b"Contact: <sip:b@127.0.0.2>\r\n",
            session: b"",
        };
        let mut buffer = [0; 1024];
        let mut out = Cursor::new(&mut buffer);
        reply.write(&mut out, &request, &via, &stamp);
        String::from_utf8_lossy(out.written()).into_owned()
    }

    #[test]
    fn an_answer_carries_all_vias_the_route_and_a_tag() {
        let text = answered(
            "Via: SIP/2.0/UDP h;branch=z9hG4bK2;rport, SIP/2.0/UDP g\r\nVia: SIP/2.0/UDP f\r\n",
        );
        assert_eq!(
            text,
            "SIP/2.0 180 Ringing\r\n\
             Via: SIP/2.0/UDP h;branch=z9hG4bK2;rport=4000;received=127.0.0.1, SIP/2.0/UDP g\r\n\
             Via: SIP/2.0/UDP f\r\nRecord-Route: <sip:p;lr>\r\nFrom: <sip:a@h>;tag=1\r\n\
             To: <sip:b@h>;tag=0000000000000005\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:b@127.0.0.2>\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn received_is_added_where_the_via_says_another_host() {
        let other = answered("Via: SIP/2.0/UDP h;branch=z9hG4bK2\r\n");
        assert!(
            other.contains("h;branch=z9hG4bK2;received=127.0.0.1\r\n"),
            "{other}"
        );
        let same = answered("Via: SIP/2.0/UDP 127.0.0.1:4000;branch=z9hG4bK2\r\n");
        assert!(same.contains("4000;branch=z9hG4bK2\r\n"), "{same}");
    }
}
