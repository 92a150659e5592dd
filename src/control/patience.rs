//! Reading and writing with one deadline for the whole of it: a client that sends or takes one
//! octet now and then gets no more time than one that does nothing.

use core::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use crate::base::Instant;

/// The time that a client has left.
#[derive(Clone, Copy)]
pub struct Patience<'c> {
    now: &'c dyn Fn() -> Instant,
    deadline: Instant,
}

impl<'c> Patience<'c> {
    /// Patience for `span` from now on.
    pub fn starting(now: &'c dyn Fn() -> Instant, span: Duration) -> Patience<'c> {
        Patience {
            now,
            deadline: now() + span,
        }
    }

    /// Reads what is there, once; 0 = the client has closed.
    pub fn read(&self, stream: &mut UnixStream, into: &mut [u8]) -> io::Result<usize> {
        self.retry(stream, |stream| stream.read(into))
    }

    /// Writes all of `bytes`.
    pub fn write_all(&self, stream: &mut UnixStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.retry(stream, |stream| stream.write(bytes))? {
                0 => return Err(ErrorKind::WriteZero.into()),
                count => bytes = &bytes[count..],
            }
        }
        Ok(())
    }

    /// Reads on without keeping anything until the client closes or its time is over: closing on
    /// octets that were not read would take back the answer that is on its way.
    pub fn see_off(&self, stream: &mut UnixStream) {
        let mut ignored = [0; 4096];
        while matches!(self.read(stream, &mut ignored), Ok(1..)) {}
    }

    fn retry(
        &self,
        stream: &mut UnixStream,
        mut step: impl FnMut(&mut UnixStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let left = self.deadline.since((self.now)());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            stream.set_write_timeout(Some(left))?;
            match step(stream) {
                Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                done => return done,
            }
        }
    }
}
