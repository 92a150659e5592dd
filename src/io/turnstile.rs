//! The turnstile: a classic BPF program on a socket that drops a share of the INVITEs that begin a
//! call before they are queued, for when even refusing them takes more than the calls that are
//! carried. It needs no privilege and no toolchain.
//!
//! It looks for the To field and for a tag in it, as `guard::opens` does; whatever is out of the
//! ordinary is let through. Classic BPF has no loops, so each offset has instructions of its own.

use core::mem::size_of;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::{Socket, sys};

/// Octets in front of the payload: a filter on a UDP socket sees the header.
const UDP_HEADER: u32 = 8;
/// Where the line end in front of To may stand, in the payload. No start line and Via are shorter,
/// and what has more fields in front is let through.
const LINE_END_LEAST: u32 = 60;
const LINE_END_MOST: u32 = 460;
/// How far a tag is looked for behind that line end; a longer To is let through.
const TO_MOST: u32 = 120;
/// Offsets between two looks at the length.
const CHUNK: u32 = 40;

const KEEP: u32 = u32::MAX;
const DROP: u32 = 0;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_OCTET: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_WORD_AT_X: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_IND) as u16;
const LOAD_LEN: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_LEN) as u16;
const LOAD_X: u16 = (libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM) as u16;
const LOAD_X_STORED: u16 = (libc::BPF_LDX | libc::BPF_W | libc::BPF_MEM) as u16;
const STORE_X: u16 = libc::BPF_STX as u16;
const X_TO_A: u16 = (libc::BPF_MISC | libc::BPF_TXA) as u16;
const A_TO_X: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const SHIFT_RIGHT: u16 = (libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K) as u16;
const ADD: u16 = (libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K) as u16;
const JUMP_NOT_BELOW_X: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_X) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// A random number, by a load from here (linux/filter.h, `SKF_AD_OFF + SKF_AD_RANDOM`).
const RANDOM: u32 = (-0x1000_i32 + 56) as u32;

/// Puts a turnstile on a socket that drops so many of 2^32 new INVITEs.
///
/// The kernel charges some 70 KB for it to the socket (`net.core.optmem_max`), so one that is there
/// already has to go first: two at once are more than the 128 KiB that newer kernels allow.
fn attach(socket: &impl AsRawFd, drop_below: u32) -> io::Result<()> {
    let mut program = program(drop_below);
    let wanted = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel reads one sock_fprog and the instructions that it points to, all of which
    // live until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const wanted).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    sys::check(result).map(drop)
}

/// Takes the turnstile away.
fn detach(socket: &impl AsRawFd) -> io::Result<()> {
    sys::set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
}

/// The turnstile of one driver's sockets.
#[derive(Debug, Default)]
pub(super) struct Turnstile {
    drop_below: u32,
    /// What the sockets had lost when it was put up.
    drops_before: u64,
    turned_away: u64,
}

impl Turnstile {
    /// Takes away what an earlier driver left on the sockets.
    pub(super) fn new(sockets: &[Arc<Socket>]) -> Turnstile {
        for socket in sockets {
            // Mostly there is none.
            let _none = detach(&**socket);
        }
        Turnstile::default()
    }

    /// Drops so many of 2^32 new INVITEs from here on, 0 = none; `false` when this kernel does not.
    pub(super) fn set(&mut self, sockets: &[Arc<Socket>], drop_below: u32) -> bool {
        if drop_below == self.drop_below {
            return true;
        }
        let before = self.drop_below;
        self.drop_below = drop_below;
        if before == 0 {
            self.drops_before = drops(sockets);
        }
        let changed = sockets.iter().all(|socket| match drop_below {
            0 => detach(&**socket).is_ok(),
            _ => {
                let _was_there = before > 0 && detach(&**socket).is_ok();
                attach(&**socket, drop_below).is_ok()
            }
        });
        if drop_below == 0 || !changed {
            self.turned_away += drops(sockets) - self.drops_before;
            *self = Turnstile {
                turned_away: self.turned_away,
                ..Turnstile::new(sockets)
            };
        }
        changed
    }

    /// What was dropped while it stood. A datagram that found the queue full in that time is among
    /// them: the kernel counts both in one number.
    pub(super) fn turned_away(&self, sockets: &[Arc<Socket>]) -> u64 {
        match self.drop_below {
            0 => self.turned_away,
            _ => self.turned_away + drops(sockets) - self.drops_before,
        }
    }
}

fn drops(sockets: &[Arc<Socket>]) -> u64 {
    sockets.iter().map(|socket| socket.drops()).sum()
}

/// Writes the program.
fn program(drop_below: u32) -> Vec<libc::sock_filter> {
    let mut text = Text(Vec::with_capacity(4_096));
    text.keep_below(UDP_HEADER + 8);
    text.keep_unless(LOAD_WORD, UDP_HEADER, u32::from_be_bytes(*b"INVI"));
    text.keep_unless(
        LOAD_HALF,
        UDP_HEADER + 4,
        u32::from(u16::from_be_bytes(*b"TE")),
    );
    text.keep_unless(LOAD_OCTET, UDP_HEADER + 6, u32::from(b' '));
    text.push(LOAD_WORD, 0, 0, RANDOM);
    text.push(JUMP_NOT_BELOW, 0, 1, drop_below);
    text.push(RETURN, 0, 0, KEEP);
    text.find_to();
    text.judge_to();
    text.0
}

struct Text(Vec<libc::sock_filter>);

impl Text {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.0.push(libc::sock_filter { code, jt, jf, k });
    }

    fn keep_unless(&mut self, load: u16, at: u32, wanted: u32) {
        self.push(load, 0, 0, at);
        self.push(JUMP_EQUAL, 1, 0, wanted);
        self.push(RETURN, 0, 0, KEEP);
    }

    /// Lets through what is shorter: a load behind the end of a datagram would drop it.
    fn keep_below(&mut self, len: u32) {
        self.push(LOAD_LEN, 0, 0, 0);
        self.push(JUMP_NOT_BELOW, 1, 0, len);
        self.push(RETURN, 0, 0, KEEP);
    }

    /// Leaves in X where the line end in front of To is; lets through what has none.
    ///
    /// Four octets are looked at with one load: where a card leaves the payload in pages of its own,
    /// a load is a call that takes longer than all else in here.
    fn find_to(&mut self) {
        let mut found = Vec::new();
        for at in (LINE_END_LEAST..LINE_END_MOST).step_by(4) {
            if (at - LINE_END_LEAST).is_multiple_of(CHUNK) {
                self.keep_below(UDP_HEADER + at + CHUNK + 8);
            }
            let at = UDP_HEADER + at;
            self.push(LOAD_WORD, 0, 0, at);
            self.found_if(u32::from_be_bytes(*b"\nTo:"), at, &mut found);
            self.push(AND, 0, 0, 0x00ff_ffff);
            // Each of these is followed by its own rest; the next mask looks at the same octets.
            self.push(JUMP_EQUAL, 0, 4, u32::from_be_bytes(*b"\0\nTo"));
            self.push(LOAD_OCTET, 0, 0, at + 4);
            self.found_if(u32::from(b':'), at + 1, &mut found);
            self.push(AND, 0, 0, 0xffff);
            self.push(JUMP_EQUAL, 0, 4, u32::from_be_bytes(*b"\0\0\nT"));
            self.push(LOAD_HALF, 0, 0, at + 4);
            let rest = u32::from(u16::from_be_bytes(*b"o:"));
            self.found_if(rest, at + 2, &mut found);
            self.push(AND, 0, 0, 0xff);
            self.push(JUMP_EQUAL, 0, 5, u32::from(b'\n'));
            self.push(LOAD_WORD, 0, 0, at + 4);
            self.push(AND, 0, 0, 0xffff_ff00);
            let rest = u32::from_be_bytes(*b"To:\0");
            self.found_if(rest, at + 3, &mut found);
        }
        self.push(RETURN, 0, 0, KEEP);
        let behind = self.0.len();
        for at in found {
            // From the instruction behind the jump on; a program has at most 4,096.
            self.0[at].k = (behind - at - 1) as u32;
        }
    }

    /// Goes on behind the search with `at` in X where A is `wanted`.
    fn found_if(&mut self, wanted: u32, at: u32, found: &mut Vec<usize>) {
        self.push(JUMP_EQUAL, 0, 2, wanted);
        self.push(LOAD_X, 0, 0, at);
        found.push(self.0.len());
        self.push(JUMP, 0, 0, 0);
    }

    /// Lets through what does not reach as far behind X as is looked.
    fn keep_if_to_is_last(&mut self) {
        self.push(STORE_X, 0, 0, 0);
        self.push(X_TO_A, 0, 0, 0);
        self.push(ADD, 0, 0, 4 + TO_MOST + 4);
        self.push(A_TO_X, 0, 0, 0);
        self.push(LOAD_LEN, 0, 0, 0);
        self.push(JUMP_NOT_BELOW_X, 1, 0, 0);
        self.push(RETURN, 0, 0, KEEP);
        self.push(LOAD_X_STORED, 0, 0, 0);
    }

    /// Drops where the line at X ends without a tag.
    fn judge_to(&mut self) {
        self.keep_if_to_is_last();
        for at in 4..4 + TO_MOST {
            self.push(LOAD_WORD_AT_X, 0, 0, at);
            self.push(JUMP_EQUAL, 0, 1, u32::from_be_bytes(*b";tag"));
            self.push(RETURN, 0, 0, KEEP);
            self.push(SHIFT_RIGHT, 0, 0, 24);
            self.push(JUMP_EQUAL, 0, 1, u32::from(b'\n'));
            self.push(RETURN, 0, 0, DROP);
        }
        self.push(RETURN, 0, 0, KEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::socket::{Buffers, bind};
    use crate::net::ListenerId;
    use std::net::UdpSocket;

    fn request(method: &str, to: &str) -> String {
        let via = "x".repeat(60);
        let rest = "y".repeat(700);
        format!(
            "{method} sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP a;branch={via}\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: {to}\r\nCSeq: 1 {method}\r\nX: {rest}\r\n\r\n"
        )
    }

    /// How many of these come through a turnstile.
    fn come_through(drop_below: u32, text: &str, times: usize) -> usize {
        let at = ([127, 0, 0, 1], 0).into();
        let socket = bind(ListenerId(0), at, Buffers::default()).expect("bound");
        attach(&socket, drop_below).expect("attached");
        let peer = UdpSocket::bind("127.0.0.1:0").expect("bound");
        for _ in 0..times {
            peer.send_to(text.as_bytes(), socket.local()).expect("sent");
        }
        let through = times - usize::try_from(socket.drops()).expect("a few");
        detach(&socket).expect("detached");
        peer.send_to(text.as_bytes(), socket.local()).expect("sent");
        assert_eq!(socket.drops() as usize, times - through, "it is gone");
        through
    }

    #[test]
    fn only_invites_that_begin_a_call_are_dropped() {
        assert_eq!(
            come_through(u32::MAX, &request("INVITE", "<sip:b@c>"), 20),
            0
        );
        for text in [
            request("INVITE", "<sip:b@c>;tag=77"),
            request("INVITE", &format!("<sip:{}@c>", "b".repeat(200))),
            request("INVITE", "<sip:b@c>").replace("To:", "t:"),
            request("BYE", "<sip:b@c>"),
            request("REGISTER", "<sip:b@c>"),
            request("INVITED", "<sip:b@c>"),
            "SIP/2.0 200 OK\r\nTo: <sip:b@c>\r\n\r\n".to_owned(),
            "INVITE sip:b@c SIP/2.0\r\nTo: <sip:b@c>\r\n\r\n".to_owned(),
            "INVITE".to_owned(),
            String::new(),
        ] {
            assert_eq!(come_through(u32::MAX, &text, 20), 20, "{text}");
        }
    }

    #[test]
    fn to_is_found_wherever_it_lies() {
        for pad in 0..8 {
            let pad = "v".repeat(pad);
            let padded =
                |to: &str| request("INVITE", to).replace("a;branch", &format!("{pad};branch"));
            assert_eq!(come_through(u32::MAX, &padded("<sip:b@c>"), 2), 0, "{pad}");
            for to in ["<sip:b@c>;tag=7", "<sip:b@c>\t;tag=7"] {
                assert_eq!(come_through(u32::MAX, &padded(to), 2), 2, "{pad}");
            }
            // Nearly To, just in front of it.
            for near in ["T", "To", "Tom: 1", "T\r\nTo", "\n"] {
                let text = padded("<sip:b@c>").replace("\r\nTo:", &format!("\r\n{near}\r\nTo:"));
                assert_eq!(come_through(u32::MAX, &text, 2), 0, "{near:?}");
            }
        }
    }

    #[test]
    fn the_share_is_kept() {
        let invite = request("INVITE", "<sip:b@c>");
        assert_eq!(come_through(0, &invite, 100), 100);
        let half = come_through(u32::MAX / 2, &invite, 1_000);
        // Ten standard deviations.
        assert!((340..660).contains(&half), "{half}");
    }

    #[test]
    fn it_is_moved_as_often_as_it_takes() {
        let at = ([127, 0, 0, 1], 0).into();
        let socket = bind(ListenerId(0), at, Buffers::default()).expect("bound");
        let sockets = [Arc::new(socket)];
        let mut turnstile = Turnstile::new(&sockets);
        for step in [1, 2, 3, 4, 3, 2, 1, 0, 4, 0] {
            let drop_below = step << 29;
            assert!(turnstile.set(&sockets, drop_below), "step {step}");
            assert_eq!(turnstile.drop_below, drop_below);
        }
    }

    #[test]
    fn the_program_is_short_enough_for_the_kernel() {
        assert!(program(1).len() <= 4_096);
    }
}
