//! Transactions against exact times. A [`Desk`] plays the shard: it lets time pass from deadline
//! to deadline and writes down what was sent and told, one line each: `500 INVITE`.

mod client;
mod key;
mod server;
mod storm;

use super::*;
use crate::base::{Cursor, HashKey, Instant};
use crate::net::{Flow, ListenerId, Outbox, Transport};
use crate::sip::{self, Method, Scratch};

type Table = Transactions<u32, u32>;

struct Desk {
    table: Table,
    out: Outbox,
    now: Instant,
}

const ROOMY: Capacity = Capacity {
    servers: 8,
    clients: 8,
    bytes: 1 << 20,
};

impl Desk {
    fn new() -> Desk {
        Desk::with(&ROOMY)
    }

    fn with(capacity: &Capacity) -> Desk {
        let hash = HashKey::new([1, 2]);
        Desk {
            table: Table::new(capacity, Timings::default(), hash, Instant::START),
            out: Outbox::new(64, 1 << 18),
            now: Instant::START,
        }
    }

    /// Lets time pass up to `until_ms` and tells what happened.
    fn run(&mut self, until_ms: u64) -> Vec<String> {
        let mut story = self.sent();
        while let Some(deadline) = self.table.next_deadline() {
            if deadline > at(until_ms) {
                break;
            }
            self.now = self.now.max(deadline);
            let before = story.len();
            while let Some(event) = self.table.expire(self.now, &mut self.out) {
                story.extend(self.sent());
                story.push(format!("{} {}", self.now.as_millis(), name(&event)));
            }
            story.extend(self.sent());
            if story.len() == before && self.now == deadline {
                self.now = at(self.now.as_millis() + 1);
            }
        }
        self.now = self.now.max(at(until_ms));
        story
    }

    /// Takes what waits in the outbox: the first word of each datagram, of a response its status.
    fn sent(&mut self) -> Vec<String> {
        let now_ms = self.now.as_millis();
        let lines = self.out.iter().map(|datagram| {
            let text = String::from_utf8_lossy(datagram.bytes).into_owned();
            let text = text.strip_prefix("SIP/2.0 ").unwrap_or(&text).to_owned();
            let word = text.split([' ', '\r']).next().unwrap_or_default();
            format!("{now_ms} {word}")
        });
        let lines = lines.collect();
        self.out.clear();
        lines
    }

    fn is_empty(&self) -> bool {
        let table = &self.table;
        let records = table.servers_len() + table.clients_len();
        let indexed = table.servers_by_key.len() + table.clients_by_token.len();
        records + indexed + table.stored_bytes() + table.timers_len() + table.notices.len() == 0
    }

    fn fill_outbox(&mut self) {
        while self.out.push(flow(), b"").is_ok() {}
    }
}

fn name(event: &Event<u32, u32>) -> String {
    match event {
        Event::ClientTimedOut(_) => "ClientTimedOut".to_string(),
        Event::ClientFailed(_) => "ClientFailed".to_string(),
        Event::ClientGone(_, user) => format!("ClientGone {user}"),
        Event::ServerTimedOut(_) => "ServerTimedOut".to_string(),
        Event::ServerGone(_, user) => format!("ServerGone {user}"),
    }
}

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn flow() -> Flow {
    let remote = "192.0.2.1:5060".parse().expect("a literal address");
    Flow::udp(ListenerId(0), remote)
}

fn reliable_flow() -> Flow {
    Flow {
        transport: Transport::Tcp,
        ..flow()
    }
}

/// A request as the shard forwards it.
fn request(method: &str) -> impl FnOnce(&mut Cursor<'_>) {
    let text = format!(
        "{method} sip:bob@192.0.2.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1\r\n\
         Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKcaller\r\n\
         Route: <sip:192.0.2.1;lr>\r\n\
         Max-Forwards: 69\r\n\
         From: <sip:alice@example.com>;tag=a\r\n\
         To: <sip:bob@example.com>\r\n\
         Call-ID: call\r\n\
         CSeq: 7 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    move |cursor: &mut Cursor<'_>| cursor.put(text.as_bytes())
}

fn response_text(status: u16, method: &str) -> String {
    format!(
        "SIP/2.0 {status} Text\r\n\
         Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1\r\n\
         Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKcaller\r\n\
         From: <sip:alice@example.com>;tag=a\r\n\
         To: <sip:bob@example.com>;tag=b\r\n\
         Call-ID: call\r\n\
         CSeq: 7 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// A response as the shard composes it.
fn response(status: u16) -> impl FnOnce(&mut Cursor<'_>) {
    let text = response_text(status, "INVITE");
    move |cursor: &mut Cursor<'_>| cursor.put(text.as_bytes())
}

fn server_key(number: u64) -> ServerKey {
    ServerKey {
        first: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        second: number,
    }
}
