//! The turnstile: a BPF program on a socket that drops a share of the INVITEs that begin a call
//! before they are queued, for when even refusing them takes more than the calls that are carried.
//!
//! It looks for the To field and for a tag in it, as `guard::opens` does; whatever is out of the
//! ordinary is let through. `gate` is the one that is used where the process may load it, `classic`
//! needs no privilege, is dearer to move and to run, and takes more for out of the ordinary.

#[expect(unsafe_code, reason = "a filter is handed over by its address")]
mod classic;
#[expect(unsafe_code, reason = "the program shares memory with this process")]
mod gate;
mod program;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use self::gate::Gate;
use super::bpf::Fault;
use super::{Socket, sys};
use crate::guard::overload::TurnstileKind;

/// The turnstile of one driver's sockets.
#[derive(Debug)]
pub(super) struct Turnstile {
    kind: Kind,
    drop_below: u32,
}

#[derive(Debug)]
enum Kind {
    Gate(Gate),
    Classic {
        /// What the sockets had lost when it was put up.
        drops_before: u64,
        turned_away: u64,
    },
}

impl Turnstile {
    /// One that drops nothing yet: the better kind, if it is wanted and to be had.
    pub(super) fn new(sockets: &[Arc<Socket>], wants_gate: bool) -> Turnstile {
        let gate = match wants_gate.then(Gate::load) {
            Some(Ok(gate)) => Some(gate),
            // Said once already, of steering, which needs the same.
            Some(Err(Fault::Forbidden)) | None => None,
            Some(Err(fault)) => {
                tracing::info!(%fault, "the turnstile for overload is the classic one");
                None
            }
        };
        Turnstile::of(gate.map_or(Kind::CLASSIC, Kind::Gate), sockets)
    }

    fn of(kind: Kind, sockets: &[Arc<Socket>]) -> Turnstile {
        for socket in sockets {
            // What an earlier driver left there. Mostly there is nothing.
            let _none = detach(&**socket);
        }
        Turnstile {
            kind,
            drop_below: 0,
        }
    }

    /// Drops so many of 2^32 new INVITEs from here on, 0 = none.
    pub(super) fn set(&mut self, sockets: &[Arc<Socket>], drop_below: u32) -> TurnstileKind {
        if drop_below == self.drop_below {
            return self.kind.told();
        }
        let before = core::mem::replace(&mut self.drop_below, drop_below);
        let stands = sockets.iter().all(|socket| match drop_below {
            0 => detach(&**socket).is_ok(),
            _ => self.kind.stand(&**socket, before, drop_below).is_ok(),
        });
        self.kind.moved(sockets, before, drop_below);
        if !stands {
            self.set(sockets, 0);
            return TurnstileKind::Missing;
        }
        self.kind.told()
    }

    /// What was dropped.
    pub(super) fn turned_away(&self, sockets: &[Arc<Socket>]) -> u64 {
        match &self.kind {
            Kind::Gate(gate) => gate.dropped(),
            Kind::Classic {
                drops_before,
                turned_away,
            } => match self.drop_below {
                0 => *turned_away,
                // A datagram that found the queue full while it stood is among them: the kernel
                // counts both in one number.
                _ => turned_away + drops(sockets) - drops_before,
            },
        }
    }
}

impl Kind {
    const CLASSIC: Kind = Kind::Classic {
        drops_before: 0,
        turned_away: 0,
    };

    fn told(&self) -> TurnstileKind {
        match self {
            Kind::Gate(_) => TurnstileKind::Cheap,
            Kind::Classic { .. } => TurnstileKind::Dear,
        }
    }

    /// Stands on a socket where it stood with another share, or did not (`before` = 0).
    fn stand(&self, socket: &impl AsRawFd, before: u32, drop_below: u32) -> io::Result<()> {
        match self {
            Kind::Gate(gate) => {
                gate.set(drop_below);
                match before {
                    0 => gate.attach(socket),
                    _ => Ok(()),
                }
            }
            Kind::Classic { .. } => {
                let _was_there = before > 0 && detach(socket).is_ok();
                classic::attach(socket, drop_below)
            }
        }
    }

    /// Keeps count.
    fn moved(&mut self, sockets: &[Arc<Socket>], before: u32, drop_below: u32) {
        match self {
            Kind::Gate(gate) => gate.set(drop_below),
            Kind::Classic {
                drops_before,
                turned_away,
            } => match (before, drop_below) {
                (0, _) => *drops_before = drops(sockets),
                (_, 0) => *turned_away += drops(sockets) - *drops_before,
                _ => {}
            },
        }
    }
}

fn drops(sockets: &[Arc<Socket>]) -> u64 {
    sockets.iter().map(|socket| socket.drops()).sum()
}

/// Takes away what stands on a socket.
fn detach(socket: &impl AsRawFd) -> io::Result<()> {
    sys::set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::opens;
    use crate::io::socket::{Buffers, bind};
    use crate::net::ListenerId;
    use std::net::UdpSocket;

    /// A socket, what may stand on it, and one who sends to it.
    struct Entrance {
        sockets: [Arc<Socket>; 1],
        turnstile: Turnstile,
        peer: UdpSocket,
    }

    impl Entrance {
        fn new(kind: Kind) -> Entrance {
            let at = ([127, 0, 0, 1], 0).into();
            let socket = bind(ListenerId(0), at, Buffers::default()).expect("bound");
            let sockets = [Arc::new(socket)];
            Entrance {
                turnstile: Turnstile::of(kind, &sockets),
                sockets,
                peer: UdpSocket::bind("127.0.0.1:0").expect("bound"),
            }
        }

        /// Of each kind there is here.
        fn each() -> Vec<Entrance> {
            let gate = match Gate::load() {
                Ok(gate) => Some(Kind::Gate(gate)),
                Err(Fault::Forbidden) => {
                    eprintln!("NOT TESTED: this process may not load BPF programs");
                    None
                }
                Err(fault) => panic!("{fault}"),
            };
            let kinds = gate.into_iter().chain([Kind::CLASSIC]);
            kinds.map(Entrance::new).collect()
        }

        fn set(&mut self, drop_below: u32) {
            let kind = self.turnstile.set(&self.sockets, drop_below);
            assert_ne!(kind, TurnstileKind::Missing);
        }

        fn turned_away(&self) -> u64 {
            self.turnstile.turned_away(&self.sockets)
        }

        /// How many of these come through.
        fn through(&self, text: &str, times: u64) -> u64 {
            let (before, lost) = (self.turned_away(), drops(&self.sockets));
            for _ in 0..times {
                let sent = self.peer.send_to(text.as_bytes(), self.sockets[0].local());
                sent.expect("sent");
            }
            let away = self.turned_away() - before;
            assert_eq!(
                drops(&self.sockets) - lost,
                away,
                "all that is lost is counted"
            );
            times - away
        }
    }

    fn request(method: &str, to: &str) -> String {
        let via = "x".repeat(60);
        let rest = "y".repeat(700);
        format!(
            "{method} sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP a;branch={via}\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: {to}\r\nCSeq: 1 {method}\r\nX: {rest}\r\n\r\n"
        )
    }

    #[test]
    fn only_invites_that_begin_a_call_are_dropped() {
        for mut entrance in Entrance::each() {
            entrance.set(u32::MAX);
            assert_eq!(entrance.through(&request("INVITE", "<sip:b@c>"), 20), 0);
            for text in [
                request("INVITE", "<sip:b@c>;tag=77"),
                request("BYE", "<sip:b@c>"),
                request("REGISTER", "<sip:b@c>"),
                request("INVITED", "<sip:b@c>"),
                "SIP/2.0 200 OK\r\nTo: <sip:b@c>\r\n\r\n".to_owned(),
                "INVITE".to_owned(),
                "INVITE ".to_owned(),
                String::new(),
            ] {
                assert_eq!(entrance.through(&text, 20), 20, "{text}");
            }
            entrance.set(0);
            assert_eq!(entrance.through(&request("INVITE", "<sip:b@c>"), 1), 1);
        }
    }

    /// The classic one lets some through that the guard would not, and never the other way round.
    #[test]
    fn what_begins_a_call_is_told_as_the_guard_tells_it() {
        for mut entrance in Entrance::each() {
            entrance.set(u32::MAX);
            let is_gate = matches!(entrance.turnstile.kind, Kind::Gate(_));
            let long = format!("<sip:{}@c>", "b".repeat(200));
            let invite = |to: &str| request("INVITE", "<sip:b@c>").replace("To: <sip:b@c>", to);
            let proxies = "Via: SIP/2.0/UDP p.example.com;branch=z9hG4bK1\r\n".repeat(20);
            for text in [
                invite(&format!("To: {long}")),
                invite("t: <sip:b@c>"),
                invite("T:<sip:b@c;tagged=1>;x=y"),
                invite("TO \t: sip:b@c"),
                invite("t: sip:b@c ; TAG=1"),
                invite("to:sip:b@c;\ttag=1"),
                invite("To: <sip:b@c;transport=udp>;tags"),
                invite("To: <sip:b@c>; tag=1"),
                invite("To: <sip:b@c>; x=1"),
                invite("To: <sip:b@c>;\ttag=1"),
                invite("To: <sip:b@c>;Tag=1"),
                invite("To: <sip:b@c>\r\n\t;tag=1"),
                invite("To: \"a;tag=\" <sip:b@c>"),
                invite("To: <sip:b@c>\r\n ;tag=1"),
                invite("To <sip:b@c>"),
                invite("Top: 1\r\nTo: <sip:b@c>"),
                invite(&format!("{proxies}To: <sip:b@c>")),
                invite(&format!("{proxies}To: <sip:b@c>;tag=1")),
                "INVITE sip:b@c SIP/2.0\r\nTo: <sip:b@c>\r\n\r\n".to_owned(),
                "INVITE sip:b@c SIP/2.0\r\nTo: <sip:b@c>".to_owned(),
                "\r\nINVITE sip:b@c SIP/2.0\r\nTo: <sip:b@c>\r\n\r\n".to_owned(),
            ] {
                let dropped = entrance.through(&text, 1) == 0;
                let opens = opens(text.as_bytes());
                assert!(!dropped || opens, "{text}");
                assert!(
                    dropped || !opens || !is_gate || text.contains("; "),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn octets_of_an_earlier_datagram_decide_nothing() {
        for mut entrance in Entrance::each() {
            entrance.set(u32::MAX);
            // Where the first one is cut, the second one's octets still stand.
            let text = request("INVITE", "<sip:b@c>");
            for len in 0..text.len() {
                entrance.through(&text, 1);
                let cut = &text[..len];
                let dropped = entrance.through(cut, 1) == 0;
                assert!(!dropped || opens(cut.as_bytes()), "{cut}");
            }
        }
    }

    #[test]
    fn to_is_found_wherever_it_lies() {
        for mut entrance in Entrance::each() {
            entrance.set(u32::MAX);
            for pad in 0..8 {
                let pad = "v".repeat(pad);
                let padded =
                    |to: &str| request("INVITE", to).replace("a;branch", &format!("{pad};branch"));
                assert_eq!(entrance.through(&padded("<sip:b@c>"), 2), 0, "{pad}");
                for to in ["<sip:b@c>;tag=7", "<sip:b@c>\t;tag=7"] {
                    assert_eq!(entrance.through(&padded(to), 2), 2, "{pad}");
                }
                // Nearly To, just in front of it.
                for near in ["T", "To", "Tom: 1", "T\r\nTo", "Xo"] {
                    let near = format!("\r\n{near}\r\nTo:");
                    let text = padded("<sip:b@c>").replace("\r\nTo:", &near);
                    assert_eq!(entrance.through(&text, 2), 0, "{near:?}");
                }
            }
        }
    }

    #[test]
    fn the_share_is_kept() {
        let invite = request("INVITE", "<sip:b@c>");
        for mut entrance in Entrance::each() {
            assert_eq!(entrance.through(&invite, 100), 100);
            entrance.set(u32::MAX / 2);
            let half = entrance.through(&invite, 1_000);
            // Ten standard deviations.
            assert!((340..660).contains(&half), "{half}");
            entrance.set(u32::MAX);
            assert_eq!(entrance.through(&invite, 100), 0);
        }
    }

    #[test]
    fn it_is_moved_as_often_as_it_takes() {
        let invite = request("INVITE", "<sip:b@c>");
        for mut entrance in Entrance::each() {
            for step in [1, 2, 3, 4, 3, 2, 1, 0, 4, 0] {
                entrance.set(step << 29);
                let through = entrance.through(&invite, 100);
                assert_eq!(through == 100, step == 0, "step {step}");
            }
        }
    }
}
