//! A Kamailio of Debian's package, run as a record-routing proxy with one next hop.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use super::tool::{self, Running, Scratch};
use super::{eventually, ms, port, seconds};

/// Runs until it is dropped.
pub struct Kamailio {
    process: Running,
    _scratch: Scratch,
    pub address: SocketAddr,
}

/// An address for [`Kamailio::start`].
pub fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port::free()))
}

impl Kamailio {
    /// Listens on `address`, sends every new call on to `next_hop`, and is ready on return.
    pub fn start(address: SocketAddr, next_hop: SocketAddr) -> Kamailio {
        let scratch = Scratch::new("kamailio");
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/loopback/kamailio.cfg");
        let mut command = Command::new(tool::find("kamailio"));
        command
            .arg("-f")
            .arg(config)
            .args(["-A", &format!("LISTEN=udp:{address}")])
            .args(["-A", &format!("NEXT_HOP=\"sip:{next_hop}\"")])
            .args(["-x", "fm", "-m", "64", "-M", "8", "-DD", "-E"])
            .arg("-Y")
            .arg(scratch.path())
            .arg("-P")
            .arg(scratch.file("pid"));
        let mut process = Running::start("kamailio", &mut command, &scratch, Stdio::null());
        let ready = eventually(seconds(10), || {
            process.has_ended().is_some() || answers_options(address)
        });
        assert!(
            ready && process.has_ended().is_none(),
            "kamailio: {}",
            process.output()
        );
        Kamailio {
            process,
            _scratch: scratch,
            address,
        }
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // Its children end with it only when it is asked, not when it is killed.
        self.process.end(libc::SIGTERM);
    }
}

fn answers_options(address: SocketAddr) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket on loopback");
    let local = socket.local_addr().expect("a bound socket");
    let request = format!(
        "OPTIONS sip:{address} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKk\r\n\
         Max-Forwards: 70\r\nFrom: <sip:t@{local}>;tag=1\r\nTo: <sip:{address}>\r\n\
         Call-ID: k@{local}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    let mut buffer = [0; 2048];
    socket
        .set_read_timeout(Some(ms(100)))
        .expect("a positive time-out");
    socket.send_to(request.as_bytes(), address).is_ok() && socket.recv(&mut buffer).is_ok()
}
