//! Real phones: baresip without sound hardware, driven over its control socket.
//!
//! Each plays a tone from a file and throws away what it hears; its RTCP summary tells how many
//! packets of sound came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::tool::{self, Running, Scratch};
use super::{eventually, ms, port, seconds};

/// A running baresip.
pub struct Baresip {
    process: Running,
    control: TcpStream,
    /// Everything that the control socket said so far.
    heard: String,
    _scratch: Scratch,
    pub address: SocketAddr,
}

impl Baresip {
    /// A phone of `user` that sends its requests through `outbound`.
    pub fn start(user: &str, outbound: SocketAddr) -> Baresip {
        let scratch = Scratch::new("baresip");
        let address = SocketAddr::from(([127, 0, 0, 1], port::free()));
        let control = port::free();
        std::fs::write(scratch.file("tone.wav"), tone()).expect("a file in a temporary directory");
        scratch.write("config", &config(address, control, &scratch));
        scratch.write(
            "accounts",
            &format!("<sip:{user}@{address}>;regint=0;outbound=\"sip:{outbound}\"\n"),
        );
        scratch.write("contacts", "");
        let mut command = Command::new(tool::find("baresip"));
        command.arg("-f").arg(scratch.path());
        let mut process = Running::start("baresip", &mut command, &scratch, Stdio::null());
        assert!(
            process.says("baresip is ready", seconds(10)),
            "baresip: {}",
            process.output()
        );
        let control = TcpStream::connect(("127.0.0.1", control)).expect("baresip's control socket");
        control
            .set_read_timeout(Some(ms(20)))
            .expect("a positive time-out");
        Baresip {
            process,
            control,
            heard: String::new(),
            _scratch: scratch,
            address,
        }
    }

    pub fn dial(&mut self, uri: &str) {
        self.command("dial", uri);
    }

    pub fn accept(&mut self) {
        self.command("accept", "");
    }

    /// Ends a call, cancels an outgoing one, refuses an incoming one with 486.
    pub fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    fn command(&mut self, name: &str, params: &str) {
        let text = format!("{{\"command\":\"{name}\",\"params\":\"{params}\",\"token\":\"t\"}}");
        let framed = format!("{}:{text},", text.len());
        self.control
            .write_all(framed.as_bytes())
            .expect("baresip takes a command");
    }

    /// Waits for an event such as `CALL_ESTABLISHED`; what came before is forgotten.
    pub fn expect(&mut self, event: &str) {
        let marked = format!("\"type\":\"{event}\"");
        let came = eventually(seconds(8), || {
            self.listen();
            self.heard.contains(&marked)
        });
        assert!(
            came,
            "no {event}, but: {}\n{}",
            self.heard,
            self.process.output()
        );
        let at = self.heard.find(&marked).expect("it was just found");
        self.heard.drain(..at + marked.len());
    }

    /// Whether sound flows in both directions, by the bit rates that it shows during a call.
    pub fn hears_sound_within(&mut self, patience: Duration) -> bool {
        eventually(patience, || {
            let output = self.process.output();
            let rates = output.rsplit("audio=").next().unwrap_or_default();
            let mut numbers = rates
                .split(['/', ' '])
                .map(|text| text.parse::<u32>().unwrap_or(0));
            // G.711 is 64,000 bit/s; half of it is not silence.
            numbers.next() > Some(32_000) && numbers.next() > Some(32_000)
        })
    }

    pub fn output(&self) -> String {
        self.process.output()
    }

    fn listen(&mut self) {
        let mut buffer = [0; 8192];
        while let Ok(len) = self.control.read(&mut buffer) {
            if len == 0 {
                return;
            }
            self.heard
                .push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
    }
}

fn config(address: SocketAddr, control: u16, scratch: &Scratch) -> String {
    let dir = scratch.path().display();
    let rtp = port::free();
    let program = tool::find("baresip");
    let prefix = program
        .parent()
        .and_then(Path::parent)
        .expect("PREFIX/bin/baresip");
    let modules = prefix.join("lib/baresip/modules");
    let modules = modules.display();
    format!(
        "poll_method epoll\nsip_listen {address}\nsip_trans_def udp\nnet_interface 127.0.0.1\n\
         rtp_ports {rtp}-{}\ncall_local_timeout 120\ncall_max_calls 4\n\
         audio_source aufile,{dir}/tone.wav\naudio_player aubridge,nil\naudio_alert aubridge,nil\n\
         module_path {modules}\n\
         module g711.so\nmodule aubridge.so\nmodule aufile.so\nmodule rtcpsummary.so\n\
         module_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
         ctrl_tcp_listen 127.0.0.1:{control}\n",
        rtp + 3
    )
}

/// One minute of a 500 Hz tone: 8,000 samples a second of 16 bits in a WAV file.
fn tone() -> Vec<u8> {
    const PERIOD: [i16; 16] = [
        0, 3061, 5657, 7391, 8000, 7391, 5657, 3061, 0, -3061, -5657, -7391, -8000, -7391, -5657,
        -3061,
    ];
    let samples: Vec<u8> = PERIOD
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let sound = samples.repeat(60 * 500);
    let mut file = b"RIFF".to_vec();
    file.extend((36 + sound.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(8000u32.to_le_bytes());
    file.extend(16_000u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend((sound.len() as u32).to_le_bytes());
    file.extend(sound);
    file
}
