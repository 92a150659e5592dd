//! The turnstile as a classic BPF program, which needs no privilege. It has no loops and no memory
//! beside it: each offset has instructions of its own, and the share that it drops is one of them.

use core::mem::size_of;
use std::io;
use std::os::fd::AsRawFd;

use super::super::sys;

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
const OR: u16 = (libc::BPF_ALU | libc::BPF_OR | libc::BPF_K) as u16;
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
pub(super) fn attach(socket: &impl AsRawFd, drop_below: u32) -> io::Result<()> {
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

    /// Drops where the line at X ends without a tag and is not folded.
    fn judge_to(&mut self) {
        self.keep_if_to_is_last();
        for at in 4..4 + TO_MOST {
            self.push(LOAD_WORD_AT_X, 0, 0, at);
            // In lower case; a tab becomes a closing bracket, and some other octets what is kept.
            self.push(OR, 0, 0, 0x0020_2020);
            self.push(JUMP_EQUAL, 7, 0, u32::from_be_bytes(*b";tag"));
            self.push(SHIFT_RIGHT, 0, 0, 16);
            for (nth, out_of_the_ordinary) in (0..).zip([b"; ", b";)", b"\n ", b"\n)"]) {
                let octets = u32::from(u16::from_be_bytes(*out_of_the_ordinary));
                self.push(JUMP_EQUAL, 5 - nth, 0, octets);
            }
            self.push(SHIFT_RIGHT, 0, 0, 8);
            self.push(JUMP_EQUAL, 1, 2, u32::from(b'\n'));
            self.push(RETURN, 0, 0, KEEP);
            self.push(RETURN, 0, 0, DROP);
        }
        self.push(RETURN, 0, 0, KEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_short_enough_for_the_kernel() {
        assert!(program(1).len() <= 4_096);
    }
}
