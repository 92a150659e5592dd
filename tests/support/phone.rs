//! A SIP phone played by a test: one UDP socket, and one call at a time with its texts visible.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::message::{Message, bare_uri};
use super::{ms, now, seconds};

/// How long a phone waits for a message that must come.
pub const PATIENCE: Duration = seconds(5);
/// How long it listens for one that must not.
pub const SILENCE: Duration = ms(300);

static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// A number that no other call of this process has.
pub fn unique() -> String {
    format!(
        "{}x{}",
        std::process::id(),
        NUMBERS.fetch_add(1, Ordering::Relaxed)
    )
}

/// An offer of one audio stream with these payload types and rtpmap lines.
pub fn offer(formats: &str, maps: &[&str]) -> String {
    let mut body = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP {formats}\r\n"
    );
    for map in maps {
        body.push_str(&format!("a=rtpmap:{map}\r\n"));
    }
    body
}

/// A user agent on its own UDP port.
pub struct Phone {
    socket: UdpSocket,
    pub address: SocketAddr,
}

impl Phone {
    /// On a free port of 127.0.0.1.
    pub fn new() -> Phone {
        Phone::on("127.0.0.1:0")
    }

    pub fn on(address: &str) -> Phone {
        let socket = UdpSocket::bind(address)
            .unwrap_or_else(|fault| panic!("no UDP socket on {address}: {fault}"));
        let address = socket.local_addr().expect("a bound socket");
        Phone { socket, address }
    }

    pub fn send(&self, message: &[u8], to: SocketAddr) {
        // A refusal of an earlier datagram (ICMP) is reported by the next send: try once more.
        if self.socket.send_to(message, to).is_err() {
            self.socket
                .send_to(message, to)
                .expect("a datagram can be sent");
        }
    }

    /// The next datagram, if one comes within `patience`.
    pub fn hears_raw(&self, patience: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 65_536];
        if patience.is_zero() {
            return self.takes_waiting(&mut buffer);
        }
        let end = now() + patience;
        loop {
            let left = end.saturating_duration_since(now()).max(ms(1));
            self.socket
                .set_read_timeout(Some(left))
                .expect("a positive time-out");
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => return Some((buffer[..len].to_vec(), from)),
                Err(_) if now() < end => {}
                Err(_) => return None,
            }
        }
    }

    /// A datagram that is there already.
    fn takes_waiting(&self, buffer: &mut [u8]) -> Option<(Vec<u8>, SocketAddr)> {
        self.socket
            .set_nonblocking(true)
            .expect("a socket can be non-blocking");
        let taken = self.socket.recv_from(buffer);
        self.socket
            .set_nonblocking(false)
            .expect("a socket can block");
        taken.ok().map(|(len, from)| (buffer[..len].to_vec(), from))
    }

    pub fn hears(&self, patience: Duration) -> Option<Message> {
        self.hears_raw(patience)
            .map(|(bytes, _)| Message::new(bytes))
    }

    /// The next message, which must be `kind`: a method, or a status.
    pub fn expect(&self, kind: &str) -> Message {
        let message = self.hears(PATIENCE);
        let message =
            message.unwrap_or_else(|| panic!("{} waits for {kind}, nothing came", self.address));
        assert_eq!(
            message.kind(),
            kind,
            "{} waits for {kind}, got {message:?}",
            self.address
        );
        message
    }

    /// The next message of this kind; others before it are left out.
    pub fn until(&self, kind: &str) -> Message {
        let end = now() + PATIENCE;
        let mut others = Vec::new();
        while let Some(message) = self.hears(end.saturating_duration_since(now())) {
            if message.kind() == kind {
                return message;
            }
            others.push(message.start_line());
        }
        panic!("{} waits for {kind}, got {others:?}", self.address)
    }

    /// Fails if anything comes within [`SILENCE`].
    pub fn hears_nothing(&self) {
        if let Some(message) = self.hears(SILENCE) {
            panic!("{} should hear nothing, got {message:?}", self.address);
        }
    }

    /// Throws away what waits in the socket.
    pub fn forget(&self) {
        while self.hears_raw(Duration::ZERO).is_some() {}
    }

    pub fn uri(&self) -> String {
        format!("sip:phone@{}", self.address)
    }

    /// Answers `request` as a UAS: `text` is the status line's rest, such as "486 Busy Here".
    pub fn answer(&self, request: &Message, text: &str, to: SocketAddr) -> Message {
        self.answer_with(request, text, "", "", to)
    }

    /// The same with header lines (each ended by CRLF) and a body.
    pub fn answer_with(
        &self,
        request: &Message,
        text: &str,
        headers: &str,
        body: &str,
        to: SocketAddr,
    ) -> Message {
        let response = self.compose_answer(request, text, headers, body);
        self.send(&response.bytes, to);
        response
    }

    pub fn compose_answer(
        &self,
        request: &Message,
        text: &str,
        headers: &str,
        body: &str,
    ) -> Message {
        let mut out = format!("SIP/2.0 {text}\r\n");
        for name in ["Via", "Record-Route"] {
            for value in request.all(name) {
                out.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        let to = request.value("To");
        let tag = if request.to_tag().is_some() || text.starts_with("100") {
            String::new()
        } else {
            format!(";tag=b{}", self.address.port())
        };
        out.push_str(&format!(
            "From: {}\r\nTo: {to}{tag}\r\n",
            request.value("From")
        ));
        out.push_str(&format!(
            "Call-ID: {}\r\nCSeq: {}\r\n",
            request.call_id(),
            request.value("CSeq")
        ));
        out.push_str(&format!("Contact: <{}>\r\n{headers}", self.uri()));
        if !body.is_empty() {
            out.push_str("Content-Type: application/sdp\r\n");
        }
        out.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        Message::new(out)
    }
}

/// One side of one call: what a user agent remembers to compose requests.
#[derive(Clone)]
pub struct Dialog {
    pub call_id: String,
    /// Own and other party, with their tags, as they stand in From and To of a request.
    pub local: String,
    pub remote: String,
    pub cseq: u32,
    /// Where requests point to: the Request-URI, and the Route lines before it.
    pub target: String,
    pub routes: Vec<String>,
    /// The first hop of every request.
    pub hop: SocketAddr,
    pub address: SocketAddr,
}

impl Dialog {
    /// A call that `phone` is about to make to `target` through `gate`.
    pub fn to(phone: &Phone, target: &str, gate: SocketAddr) -> Dialog {
        let number = unique();
        Dialog {
            call_id: format!("{number}@test"),
            local: format!("<sip:alice@example.org>;tag=a{number}"),
            remote: format!("<{target}>"),
            cseq: 0,
            target: target.to_owned(),
            routes: Vec::new(),
            hop: gate,
            address: phone.address,
        }
    }

    /// The callee's side of the call that `invite` starts.
    pub fn from_invite(
        phone: &Phone,
        invite: &Message,
        response: &Message,
        gate: SocketAddr,
    ) -> Dialog {
        Dialog {
            call_id: invite.call_id(),
            local: response.value("To"),
            remote: invite.value("From"),
            cseq: 100,
            target: invite.contact_uri(),
            routes: invite.list("Record-Route"),
            hop: gate,
            address: phone.address,
        }
    }

    /// Takes over what a 1xx or 2xx says about the other side.
    pub fn learn(&mut self, response: &Message) {
        self.remote = response.value("To");
        self.routes = response.list("Record-Route");
        self.routes.reverse();
        if response.has("Contact") {
            self.target = response.contact_uri();
        }
    }

    /// The next new request of this dialog.
    pub fn request(&mut self, method: &str) -> String {
        self.request_with(method, "", "")
    }

    pub fn request_with(&mut self, method: &str, headers: &str, body: &str) -> String {
        self.cseq += 1;
        self.compose(method, &format!("z9hG4bK{}", unique()), headers, body)
    }

    /// ACK for a 2xx: a transaction of its own (RFC 3261 §13.2.2.4).
    pub fn ack(&self) -> String {
        self.compose("ACK", &format!("z9hG4bK{}", unique()), "", "")
    }

    /// ACK for a refusal, or CANCEL: belongs to the transaction of `invite`.
    pub fn of_transaction(method: &str, invite: &str, to: &str) -> String {
        let invite = Message::new(invite.as_bytes());
        let mut out = format!("{method} {} SIP/2.0\r\n", invite.uri());
        out.push_str(&format!(
            "Via: {}\r\nMax-Forwards: 70\r\n",
            invite.value("Via")
        ));
        for route in invite.all("Route") {
            out.push_str(&format!("Route: {route}\r\n"));
        }
        out.push_str(&format!("From: {}\r\nTo: {to}\r\n", invite.value("From")));
        out.push_str(&format!("Call-ID: {}\r\n", invite.call_id()));
        out.push_str(&format!(
            "CSeq: {} {method}\r\nContent-Length: 0\r\n\r\n",
            invite.cseq()
        ));
        out
    }

    pub fn compose(&self, method: &str, branch: &str, headers: &str, body: &str) -> String {
        let mut out = format!("{method} {} SIP/2.0\r\n", self.target);
        out.push_str(&format!(
            "Via: SIP/2.0/UDP {};branch={branch}\r\n",
            self.address
        ));
        out.push_str("Max-Forwards: 70\r\n");
        for route in &self.routes {
            out.push_str(&format!("Route: {route}\r\n"));
        }
        out.push_str(&format!("From: {}\r\nTo: {}\r\n", self.local, self.remote));
        out.push_str(&format!(
            "Call-ID: {}\r\nCSeq: {} {method}\r\n",
            self.call_id, self.cseq
        ));
        out.push_str(&format!(
            "Contact: <sip:phone@{}>\r\n{headers}",
            self.address
        ));
        if !body.is_empty() {
            out.push_str("Content-Type: application/sdp\r\n");
        }
        out.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        out
    }
}

/// Whether the Route or Record-Route element points to `address`.
pub fn names(route: &str, address: SocketAddr) -> bool {
    let uri = bare_uri(route);
    let rest = uri.trim_start_matches("sip:");
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    rest.split(';').next().unwrap_or_default() == address.to_string()
}
