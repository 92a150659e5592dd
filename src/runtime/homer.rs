//! The link to Homer: UDP datagrams, or a TCP connection that is opened again with growing pauses.
//! Nothing here waits; what cannot be sent is kept in a bounded backlog (TCP) or counted as lost.

use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use socket2::{Domain, Protocol, Socket, Type};

use crate::base::Instant;
use crate::capture::hep::Homer;
use crate::control::HepCounters;

/// First pause before a connection is tried again, and the longest.
const PAUSE_LEAST: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(10);
/// How long a connection may take to come about.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Octets of reports that wait for the connection.
const BACKLOG_OCTETS: usize = 1 << 20;

/// Why a report was lost, as positions in `HEP_DROPS`.
const UNREACHABLE: usize = 0;
const BACKLOG_FULL: usize = 1;
const SEND_FAILED: usize = 2;

/// The way to one Homer.
pub struct Link {
    homer: Arc<Homer>,
    wire: Wire,
    backlog: VecDeque<Vec<u8>>,
    backlog_octets: usize,
    /// Octets of the first report that the present connection has taken.
    begun: usize,
    pause: Duration,
}

enum Wire {
    /// Nothing is open; the next try is at this moment.
    Down {
        retry: Instant,
    },
    Udp(UdpSocket),
    Connecting {
        stream: TcpStream,
        until: Instant,
    },
    Tcp(TcpStream),
}

impl Link {
    /// A link that is opened when it is tended first.
    pub fn new(homer: Arc<Homer>) -> Link {
        Link {
            homer,
            wire: Wire::Down {
                retry: Instant::START,
            },
            backlog: VecDeque::new(),
            backlog_octets: 0,
            begun: 0,
            pause: PAUSE_LEAST,
        }
    }

    /// Whom the link is to.
    pub fn homer(&self) -> Arc<Homer> {
        Arc::clone(&self.homer)
    }

    /// Sends a report or keeps it for later.
    pub fn send(&mut self, report: &[u8], now: Instant, counters: &HepCounters) {
        if self.homer.tcp {
            if self.backlog_octets + report.len() > BACKLOG_OCTETS {
                let why = match self.wire {
                    Wire::Tcp(_) => BACKLOG_FULL,
                    Wire::Down { .. } | Wire::Connecting { .. } | Wire::Udp(_) => UNREACHABLE,
                };
                return add(&counters.dropped[why]);
            }
            self.backlog_octets += report.len();
            self.backlog.push_back(report.to_vec());
            return self.tend(now, counters);
        }
        self.tend(now, counters);
        let Wire::Udp(socket) = &self.wire else {
            return add(&counters.dropped[UNREACHABLE]);
        };
        match send_datagram(socket, report) {
            Ok(()) => add(&counters.sent),
            Err(why) => add(&counters.dropped[why]),
        }
    }

    /// Opens what is due to be opened and sends what waits, as far as that goes at once.
    pub fn tend(&mut self, now: Instant, counters: &HepCounters) {
        match &mut self.wire {
            Wire::Down { retry } if *retry <= now => self.open(now, counters),
            Wire::Connecting { stream, until } => match connected(stream) {
                Ok(true) => {
                    if let Ok(stream) = stream.try_clone() {
                        add(&counters.connects);
                        self.pause = PAUSE_LEAST;
                        self.wire = Wire::Tcp(stream);
                    }
                }
                Ok(false) if now < *until => {}
                Ok(false) | Err(_) => self.fail(now, counters),
            },
            Wire::Down { .. } | Wire::Udp(_) | Wire::Tcp(_) => {}
        }
        if let Wire::Tcp(stream) = &mut self.wire
            && push(
                stream,
                &mut self.backlog,
                &mut self.backlog_octets,
                &mut self.begun,
                counters,
            )
            .is_err()
        {
            tracing::warn!(target = %self.homer.target, "the connection to Homer is lost");
            self.fail(now, counters);
        }
    }

    fn open(&mut self, now: Instant, counters: &HepCounters) {
        let opened = match self.homer.tcp {
            true => connect(self.homer.target).map(|stream| Wire::Connecting {
                stream,
                until: now + CONNECT_TIME,
            }),
            false => udp(self.homer.target).map(Wire::Udp),
        };
        match opened {
            Ok(wire) => self.wire = wire,
            Err(_) => self.fail(now, counters),
        }
    }

    /// The connection is no more, or did not come about: a pause, each time twice as long.
    fn fail(&mut self, now: Instant, counters: &HepCounters) {
        add(&counters.connect_failures);
        // A report that was cut off in the middle is sent whole over the next connection.
        self.begun = 0;
        self.wire = Wire::Down {
            retry: now + self.pause,
        };
        self.pause = (self.pause * 2).min(PAUSE_MOST);
    }
}

fn add(counter: &AtomicU64) {
    HepCounters::add(counter, 1);
}

fn udp(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A first error may be the ICMP answer to an earlier report; then this one is tried again.
fn send_datagram(socket: &UdpSocket, report: &[u8]) -> Result<(), usize> {
    let mut why = SEND_FAILED;
    for _ in 0..2 {
        match socket.send(report) {
            Ok(_) => return Ok(()),
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Err(BACKLOG_FULL),
            Err(fault) => {
                why = match fault.kind() {
                    ErrorKind::ConnectionRefused
                    | ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable => UNREACHABLE,
                    _ => SEND_FAILED,
                }
            }
        }
    }
    Err(why)
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(fault) if fault.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(fault) => return Err(fault),
    }
    Ok(socket.into())
}

/// Whether a connection has come about; an error when it will not.
fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(fault) = stream.take_error()? {
        return Err(fault);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(fault) if fault.kind() == ErrorKind::NotConnected => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Writes what the connection takes at once.
fn push(
    stream: &mut TcpStream,
    backlog: &mut VecDeque<Vec<u8>>,
    backlog_octets: &mut usize,
    begun: &mut usize,
    counters: &HepCounters,
) -> io::Result<()> {
    see_whether_open(stream)?;
    while let Some(first) = backlog.front() {
        match stream.write(&first[*begun..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => *begun += count,
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(fault) if fault.kind() == ErrorKind::Interrupted => continue,
            Err(fault) => return Err(fault),
        }
        if *begun == first.len() {
            *backlog_octets -= first.len();
            *begun = 0;
            backlog.pop_front();
            add(&counters.sent);
        }
    }
    Ok(())
}

/// Homer says nothing; an end of its stream means that it has gone.
fn see_whether_open(stream: &mut TcpStream) -> io::Result<()> {
    let mut nothing = [0; 64];
    match stream.read(&mut nothing) {
        Ok(0) => Err(ErrorKind::ConnectionAborted.into()),
        Ok(_) => Ok(()),
        Err(fault) if fault.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(fault) if fault.kind() == ErrorKind::Interrupted => Ok(()),
        Err(fault) => Err(fault),
    }
}
