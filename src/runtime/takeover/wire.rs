//! Lines of JSON and descriptors over a Unix socket: what both ends of a hand-over speak with.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use serde::Serialize;

/// Descriptors in one message; the kernel allows 253.
const FDS_EACH: usize = 64;
/// Octets of a line: the offer of a node with thousands of trunks.
const LINE_MAX: usize = 1 << 20;
/// How long the other end may take to make room for a line.
const SEND_TIME: Duration = Duration::from_secs(5);

/// One end of the conversation.
pub struct Wire {
    stream: UnixStream,
    waiting: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub process: u32,
    pub user: u32,
}

impl Wire {
    /// Speaks over a connected socket.
    pub fn new(stream: UnixStream) -> io::Result<Wire> {
        stream.set_write_timeout(Some(SEND_TIME))?;
        Ok(Wire {
            stream,
            waiting: Vec::new(),
            fds: VecDeque::new(),
        })
    }

    /// Who connected, or whom we connected to.
    pub fn peer(&self) -> io::Result<Peer> {
        let credentials = sockopt::socket_peercred(&self.stream)?;
        Ok(Peer {
            process: credentials.pid.as_raw_nonzero().get().unsigned_abs(),
            user: credentials.uid.as_raw(),
        })
    }

    /// Sends one message as a line.
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Sends descriptors, each message of them with a blank line.
    pub fn send_fds(&mut self, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        for part in fds.chunks(FDS_EACH) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_EACH))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(part)) {
                return Err(io::Error::other("no room for descriptors"));
            }
            let octets = [IoSlice::new(b"\n")];
            sendmsg(&self.stream, &octets, &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// The next line that is not blank; `None` = the other end has gone. Each part of it may take
    /// `patience`.
    pub fn receive(&mut self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.waiting) {
                let rest = self.waiting.split_off(end + 1);
                let line = std::mem::replace(&mut self.waiting, rest);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.waiting.len() > LINE_MAX {
                return Err(io::Error::other("a line without end"));
            }
            if !self.read(patience)? {
                return Ok(None);
            }
        }
    }

    /// So many descriptors, in the order in which they were sent.
    pub fn take_fds(&mut self, count: usize, patience: Duration) -> io::Result<Vec<OwnedFd>> {
        while self.fds.len() < count {
            if !self.read(patience)? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.fds.drain(..count).collect())
    }

    /// Reads what is there; false = the other end has gone.
    fn read(&mut self, patience: Duration) -> io::Result<bool> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut octets = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_EACH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut octets)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = loop {
            match recvmsg(&self.stream, &mut parts, &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "descriptors were lost: more than this process may open",
            ));
        }
        self.waiting.extend_from_slice(&octets[..got.bytes]);
        Ok(got.bytes > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn pair() -> (Wire, Wire) {
        let (a, b) = UnixStream::pair().expect("a pair");
        (Wire::new(a).expect("a wire"), Wire::new(b).expect("a wire"))
    }

    #[test]
    fn lines_and_more_descriptors_than_one_message_takes_arrive_in_order() {
        let (mut near, mut far) = pair();
        let (mut kept, given) = UnixStream::pair().expect("a pair");
        let (_kept, other) = UnixStream::pair().expect("a pair");
        let mut fds = vec![other.as_fd(); FDS_EACH + 6];
        fds[FDS_EACH + 5] = given.as_fd();
        near.send(&"before").expect("sent");
        near.send_fds(&fds).expect("sent");
        near.send(&"behind").expect("sent");
        let line = far.receive(SOON).expect("received").expect("a line");
        assert_eq!(line, b"\"before\"\n");
        let mut taken = far.take_fds(fds.len(), SOON).expect("descriptors");
        let mut stream = UnixStream::from(taken.pop().expect("the last"));
        stream.write_all(b"x").expect("written");
        let mut octet = [0];
        kept.read_exact(&mut octet).expect("it is the other end");
        let line = far.receive(SOON).expect("received").expect("a line");
        assert_eq!(line, b"\"behind\"\n");
        drop(near);
        assert_eq!(far.receive(SOON).expect("read"), None);
    }

    #[test]
    fn a_peer_that_says_nothing_is_not_waited_for() {
        let (_near, mut far) = pair();
        let fault = far.receive(Duration::from_millis(20)).expect_err("silence");
        assert!(matches!(
            fault.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut
        ));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let (mut near, mut far) = pair();
        let writer = std::thread::Builder::new()
            .spawn(move || near.stream.write_all(&vec![b'x'; LINE_MAX + 8192]))
            .expect("a thread");
        assert!(far.receive(SOON).is_err());
        drop(far);
        let _cut_off = writer.join();
    }

    #[test]
    fn the_peer_is_this_very_process() {
        let (near, _far) = pair();
        assert_eq!(near.peer().expect("known").process, std::process::id());
    }
}
