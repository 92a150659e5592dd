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
use std::sync::{Arc, OnceLock};

use self::gate::Gate;
use super::bpf::Fault;
use super::{Socket, sys};
use crate::guard::overload::TurnstileKind;

/// The turnstile's program of one shard, for one driver after another. The kernel's verifier takes
/// some fifty milliseconds for it: that is no thread's time that has calls to carry.
#[derive(Debug, Default)]
pub struct TurnstileProgram(OnceLock<Gate>);

impl TurnstileProgram {
    /// Loads it, if it is not there. A driver has it from its next overload on.
    pub fn load(&self) -> Result<(), Fault> {
        if self.0.get().is_none() {
            let _other_was_faster = self.0.set(Gate::load()?);
        }
        Ok(())
    }
}

/// The turnstile of one driver's sockets.
#[derive(Debug)]
pub(super) struct Turnstile {
    program: Option<Arc<TurnstileProgram>>,
    stands: Stands,
    drop_below: u32,
    before: Before,
    /// What the classic one has dropped each time it stood.
    by_classic: u64,
}

/// What is on the sockets, or was last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Gate,
    /// With what the sockets had lost when it was put up.
    Classic(u64),
}

/// What earlier drivers of these sockets have told.
#[derive(Clone, Copy, Debug)]
struct Before {
    lost: u64,
    gate_dropped: u64,
}

/// Datagrams that never reached the driver, since its predecessor told what it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// They found the queue full.
    pub(super) by_kernel: u64,
    /// The turnstile dropped them.
    pub(super) turned_away: u64,
}

impl Turnstile {
    /// One that drops nothing yet.
    pub(super) fn new(
        sockets: &[Arc<Socket>],
        program: Option<&Arc<TurnstileProgram>>,
    ) -> Turnstile {
        for socket in sockets {
            // What an earlier driver left there. Mostly there is nothing.
            let _none = detach(&**socket);
        }
        let mut turnstile = Turnstile {
            program: program.map(Arc::clone),
            stands: Stands::Classic(0),
            drop_below: 0,
            before: Before {
                lost: sockets.iter().map(|socket| socket.drops_told()).sum(),
                gate_dropped: 0,
            },
            by_classic: 0,
        };
        turnstile.before.gate_dropped = turnstile.gate().map_or(0, Gate::told);
        turnstile
    }

    fn gate(&self) -> Option<&Gate> {
        self.program.as_ref().and_then(|program| program.0.get())
    }

    /// Drops so many of 2^32 new INVITEs from here on, 0 = none.
    pub(super) fn set(&mut self, sockets: &[Arc<Socket>], drop_below: u32) -> TurnstileKind {
        let before = core::mem::replace(&mut self.drop_below, drop_below);
        if drop_below == before {
            return self.told();
        }
        let stands = match drop_below {
            0 => self.take_down(sockets),
            _ => self.stand(sockets, before == 0, drop_below),
        };
        if stands.is_err() && drop_below > 0 {
            self.set(sockets, 0);
        }
        match stands {
            Ok(()) => self.told(),
            Err(_) => TurnstileKind::Missing,
        }
    }

    fn told(&self) -> TurnstileKind {
        match self.gate() {
            // While the classic one stands that was put up before there was the other.
            Some(_) if self.drop_below > 0 && self.stands != Stands::Gate => TurnstileKind::Dear,
            Some(_) => TurnstileKind::Cheap,
            None => TurnstileKind::Dear,
        }
    }

    fn take_down(&mut self, sockets: &[Arc<Socket>]) -> io::Result<()> {
        if let Some(gate) = self.gate() {
            gate.set(0);
        }
        let gone = sockets.iter().try_for_each(|socket| detach(&**socket));
        if let Stands::Classic(before) = self.stands {
            self.by_classic += drops(sockets).saturating_sub(before);
        }
        gone
    }

    /// Stands with this share, where it stood with another one or did not (`is_new`).
    fn stand(&mut self, sockets: &[Arc<Socket>], is_new: bool, drop_below: u32) -> io::Result<()> {
        if is_new {
            self.stands = match self.gate() {
                Some(_) => Stands::Gate,
                None => Stands::Classic(drops(sockets)),
            };
        }
        match (self.stands, self.gate()) {
            (Stands::Gate, Some(gate)) => {
                gate.set(drop_below);
                match is_new {
                    true => sockets.iter().try_for_each(|one| gate.attach(&**one)),
                    // It is on the sockets, and reads its share anew for each datagram.
                    false => Ok(()),
                }
            }
            _ => sockets.iter().try_for_each(|socket| {
                let _was_there = !is_new && detach(&**socket).is_ok();
                classic::attach(&**socket, drop_below)
            }),
        }
    }

    /// What was lost. What the classic one drops and what finds the queue full while it stands is
    /// one number of the kernel's: it counts as turned away.
    pub(super) fn lost(&self, sockets: &[Arc<Socket>]) -> Lost {
        let lost = drops(sockets);
        let standing = match self.stands {
            Stands::Classic(before) if self.drop_below > 0 => lost.saturating_sub(before),
            Stands::Gate | Stands::Classic(_) => 0,
        };
        let by_gate = self.gate().map_or(0, Gate::tell) - self.before.gate_dropped;
        let turned_away = by_gate + self.by_classic + standing;
        for socket in sockets {
            socket.tell_drops();
        }
        Lost {
            by_kernel: (lost - self.before.lost).saturating_sub(turned_away),
            turned_away,
        }
    }
}

/// What was lost on these sockets since this process has them.
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
        fn new(program: Option<Arc<TurnstileProgram>>) -> Entrance {
            let at = ([127, 0, 0, 1], 0).into();
            let socket = bind(ListenerId(0), at, Buffers::default()).expect("bound");
            let sockets = [Arc::new(socket)];
            Entrance {
                turnstile: Turnstile::new(&sockets, program.as_ref()),
                sockets,
                peer: UdpSocket::bind("127.0.0.1:0").expect("bound"),
            }
        }

        /// Of each kind there is here.
        fn each() -> Vec<Entrance> {
            let program = Arc::new(TurnstileProgram::default());
            let gate = match program.load() {
                Ok(()) => Some(Some(program)),
                Err(Fault::Forbidden) => {
                    eprintln!("NOT TESTED: this process may not load BPF programs");
                    None
                }
                Err(fault) => panic!("{fault}"),
            };
            let kinds = gate.into_iter().chain([None]);
            kinds.map(Entrance::new).collect()
        }

        fn set(&mut self, drop_below: u32) {
            let kind = self.turnstile.set(&self.sockets, drop_below);
            assert_ne!(kind, TurnstileKind::Missing);
        }

        fn turned_away(&self) -> u64 {
            self.turnstile.lost(&self.sockets).turned_away
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
            let is_gate = entrance.turnstile.program.is_some();
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

    /// What stands is not taken away under a share; the next overload has what came meanwhile.
    #[test]
    fn a_program_that_comes_late_is_used_from_the_next_overload_on() {
        let invite = request("INVITE", "<sip:b@c>");
        let program = Arc::new(TurnstileProgram::default());
        let mut entrance = Entrance::new(Some(Arc::clone(&program)));
        let mut set = |drop_below| {
            let kind = entrance.turnstile.set(&entrance.sockets, drop_below);
            (kind, entrance.through(&invite, 10))
        };
        assert_eq!(set(u32::MAX), (TurnstileKind::Dear, 0));
        match program.load() {
            Err(Fault::Forbidden) => {
                return eprintln!("NOT TESTED: this process may not load BPF programs");
            }
            loaded => loaded.expect("a program that the kernel takes"),
        }
        assert_eq!(set(u32::MAX - 1), (TurnstileKind::Dear, 0));
        assert_eq!(set(0), (TurnstileKind::Cheap, 10));
        assert_eq!(set(u32::MAX), (TurnstileKind::Cheap, 0));
        assert_eq!(entrance.turned_away(), 30);
    }

    /// A driver that follows another one tells what came after the other's last word, also what
    /// was lost while there was none.
    #[test]
    fn drivers_in_turn_tell_each_loss_once() {
        let invite = request("INVITE", "<sip:b@c>");
        for mut entrance in Entrance::each() {
            entrance.set(u32::MAX);
            entrance.through(&invite, 7);
            let told = entrance.turnstile.lost(&entrance.sockets);
            assert_eq!((told.by_kernel, told.turned_away), (0, 7));
            // The first one dies here; what it stood with stays up.
            let sent = entrance
                .peer
                .send_to(invite.as_bytes(), entrance.sockets[0].local());
            sent.expect("sent");
            let program = entrance.turnstile.program.take();
            let next = Turnstile::new(&entrance.sockets, program.as_ref());
            let is_gate = program.is_some();
            entrance.turnstile = next;
            let told = entrance.turnstile.lost(&entrance.sockets);
            // The kernel's count alone does not say which it was.
            let expected = if is_gate { (0, 1) } else { (1, 0) };
            assert_eq!((told.by_kernel, told.turned_away), expected);
            entrance.set(u32::MAX);
            entrance.through(&invite, 3);
            let told = entrance.turnstile.lost(&entrance.sockets);
            assert_eq!(told.by_kernel + told.turned_away, 4);
        }
    }
}
