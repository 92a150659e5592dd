//! The storm's sockets, and just enough reading of messages to know which call is meant.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// A non-blocking UDP socket on loopback.
pub struct Wire {
    socket: UdpSocket,
    pub address: SocketAddr,
}

impl Wire {
    pub fn new() -> Wire {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port on loopback");
        socket
            .set_nonblocking(true)
            .expect("a socket can be non-blocking");
        socket2::SockRef::from(&socket)
            .set_recv_buffer_size(4 << 20)
            .expect("a receive buffer");
        let address = socket.local_addr().expect("a bound socket");
        Wire { socket, address }
    }

    /// A datagram that does not fit the send buffer is lost like any other; timers repeat it.
    pub fn send(&self, message: &[u8], to: SocketAddr) {
        let _ = self.socket.send_to(message, to);
    }

    pub fn take(&self, buffer: &mut [u8]) -> Option<usize> {
        self.socket.recv_from(buffer).ok().map(|(len, _)| len)
    }
}

/// Sleeps until one of the sockets has something, or `patience` ends.
pub fn wait(a: &Wire, b: &Wire, patience: Duration) {
    let poll = |wire: &Wire| libc::pollfd {
        fd: wire.socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut both = [poll(a), poll(b)];
    // SAFETY: the array lives through the call and its length is passed.
    unsafe {
        libc::poll(both.as_mut_ptr(), 2, patience.as_millis() as i32);
    }
}

/// One received message, as lines of text.
pub struct Heard<'a> {
    pub text: &'a str,
    pub call: usize,
    /// 0 for a request.
    pub status: u16,
    /// Of the request, or of what is answered.
    pub method: &'a str,
}

impl<'a> Heard<'a> {
    pub fn read(bytes: &'a [u8]) -> Option<Heard<'a>> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut heard = Heard {
            text,
            call: 0,
            status: 0,
            method: "",
        };
        let id = heard.value("Call-ID")?;
        heard.call = id.strip_prefix("storm-")?.split('-').next()?.parse().ok()?;
        heard.method = heard.value("CSeq")?.split(' ').nth(1)?;
        if let Some(rest) = text.strip_prefix("SIP/2.0 ") {
            heard.status = rest.get(..3)?.parse().ok()?;
        }
        Some(heard)
    }

    fn lines(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.text
            .split("\r\n")
            .take_while(|line| !line.is_empty())
            .filter_map(move |line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn value(&self, name: &'static str) -> Option<&'a str> {
        self.lines(name).next()
    }

    /// The whole lines of this header, each with its CRLF.
    pub fn copied(&self, name: &'static str) -> String {
        self.lines(name)
            .map(|value| format!("{name}: {value}\r\n"))
            .collect()
    }

    /// Elements of Record-Route from top to bottom.
    pub fn record_routes(&self) -> Vec<&'a str> {
        self.lines("Record-Route")
            .flat_map(|line| line.split(','))
            .map(str::trim)
            .collect()
    }

    pub fn contact(&self) -> &'a str {
        let value = self.value("Contact").unwrap_or_default();
        value
            .trim_start_matches('<')
            .split('>')
            .next()
            .unwrap_or_default()
    }
}
