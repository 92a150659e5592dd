//! The other end of the admin socket: connect, ask, read the answer.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::control::rpc::{self, Fault};

/// A reload waits for every shard, which takes the node a few seconds at the very worst.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The node answered, and says no.
    Refused(Fault),
    /// It answered, and what it found is not as it should be.
    Differs,
    /// A part of the answer is missing, and why.
    Incomplete(String),
    /// Nobody answers on this path.
    NotReached { socket: PathBuf, why: String },
    /// Our own output could not be written: the reader of a pipe has gone.
    Output(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(fault) => f.write_str(&fault.message),
            Failure::Differs => f.write_str("what the node found is not as it should be"),
            Failure::Incomplete(why) => write!(f, "incomplete: {why}"),
            Failure::NotReached { socket, why } => {
                write!(f, "no node reached at {}: {why}", socket.display())
            }
            Failure::Output(fault) => write!(f, "output not written: {fault}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(fault: io::Error) -> Failure {
        Failure::Output(fault)
    }
}

/// A connection to a node.
pub struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
    asked: u64,
}

impl Client {
    /// Connects to the node that listens on `socket`.
    pub fn connect(socket: &Path) -> Result<Client, Failure> {
        let lost = |fault: io::Error| not_reached(socket, &fault);
        let stream = UnixStream::connect(socket).map_err(lost)?;
        stream.set_read_timeout(Some(ANSWER_TIME)).map_err(lost)?;
        stream.set_write_timeout(Some(ANSWER_TIME)).map_err(lost)?;
        Ok(Client {
            socket: socket.to_owned(),
            stream: BufReader::new(stream),
            asked: 0,
        })
    }

    /// Connects anew: a connection keeps a worker of the node busy, which one who waits must not.
    pub fn reconnect(&mut self) -> Result<(), Failure> {
        *self = Client::connect(&self.socket.clone())?;
        Ok(())
    }

    /// Ends the connection and tells where it led to, for one who connects only now and then.
    pub fn hang_up(&mut self) -> PathBuf {
        // A connection that is gone already is what is wanted.
        let _gone = self.stream.get_ref().shutdown(Shutdown::Both);
        self.socket.clone()
    }

    /// Calls a method and returns its result as it came.
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, Failure> {
        self.asked += 1;
        let request = rpc::write_request(self.asked, method, params);
        let mut line = Vec::new();
        self.stream
            .get_mut()
            .write_all(&request)
            .and_then(|()| self.stream.read_until(b'\n', &mut line))
            .map_err(|fault| not_reached(&self.socket, &fault))?;
        if line.is_empty() {
            let gone = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the node closed the connection",
            );
            return Err(not_reached(&self.socket, &gone));
        }
        rpc::read_answer(&line)
            .map_err(|fault| self.strange(&fault))?
            .map_err(Failure::Refused)
    }

    /// Calls a method and reads its result as a `T`.
    pub fn ask<T: DeserializeOwned>(&mut self, method: &str, params: &Value) -> Result<T, Failure> {
        let result = self.call(method, params)?;
        T::deserialize(result).map_err(|fault| self.strange(&fault))
    }

    /// An answer in another form: most often a node of another version.
    fn strange(&self, fault: &serde_json::Error) -> Failure {
        Failure::NotReached {
            socket: self.socket.clone(),
            why: format!(
                "the answer is not understood ({fault}); is it a node of another version?"
            ),
        }
    }
}

fn not_reached(socket: &Path, fault: &io::Error) -> Failure {
    let why = match fault.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "no node listens on it".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied; are you in its group?".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "the node does not answer".to_owned()
        }
        _ => fault.to_string(),
    };
    Failure::NotReached {
        socket: socket.to_owned(),
        why,
    }
}
