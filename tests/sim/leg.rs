//! One end of one call: what every phone and gateway does, whichever side it is on. Requests are
//! repeated until answered, answers are kept for repeats, both by the timers of RFC 3261.

use std::net::SocketAddr;
use std::time::Duration;

use callgate::base::Instant;

use crate::dice::Dice;
use crate::script::{End, Reply, Script};
use crate::text::{Text, address_of, uri_of};

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVE_UP: Duration = Duration::from_secs(32);

/// Something that a leg wakes up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The request at this position may have to be sent again.
    Repeat(usize),
    /// The final answer at this position of that request may have to be sent again.
    RepeatFinal(usize, usize),
    Cancel,
    Trying,
    Ring(u8),
    Outcome,
    HangUp,
    Middle(usize),
    MiddleAnswer(usize),
    Refresh(usize, u32),
    Die,
    Forge,
    /// Its NAT gives it another port.
    Rebind,
}

/// What a leg does in one moment.
pub struct Turn<'w> {
    pub now: Instant,
    pub dice: &'w mut Dice,
    pub script: &'w Script,
    pub sent: Vec<(SocketAddr, SocketAddr, String)>,
    pub alarms: Vec<(Instant, Alarm)>,
    /// Something a well-behaved gate never makes happen.
    pub outrage: Option<String>,
}

impl Turn<'_> {
    pub fn wake_after(&mut self, span: Duration, alarm: Alarm) {
        self.alarms.push((self.now + span, alarm));
    }
}

/// A dialog as one end of it sees it.
pub struct Dialog {
    pub local_tag: String,
    pub remote_tag: String,
    /// From and To values without tags, as this end writes them.
    pub local: String,
    pub remote: String,
    pub target: String,
    pub routes: Vec<String>,
    pub cseq: u32,
    pub confirmed: bool,
    pub ended: bool,
    /// The ACK of the latest 2xx, with its CSeq number.
    pub ack: Option<(u32, String)>,
    pub hung_up: bool,
}

/// Where a request that was sent stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    Calling,
    Proceeding,
    Done,
}

/// A request that was sent.
pub struct Asked {
    pub branch: String,
    pub method: &'static str,
    pub text: String,
    pub to: SocketAddr,
    pub interval: Duration,
    pub give_up: Instant,
    pub state: Asking,
    pub dialog: Option<usize>,
    /// The final that came first.
    pub answer: Option<u16>,
}

/// A final answer that is repeated until its ACK.
pub struct Final {
    pub text: String,
    pub tag: String,
    pub status: u16,
    pub acked: bool,
    pub interval: Duration,
    pub give_up: Instant,
}

/// A request that was received.
pub struct Served {
    pub branch: String,
    pub method: String,
    pub cseq: u32,
    pub text: String,
    pub last: Option<String>,
    pub finals: Vec<Final>,
}

/// One end of one call.
pub struct Leg {
    pub end: End,
    /// Distinguishes the branches and tags of the legs of one call.
    pub name: String,
    pub call_id: String,
    pub at: SocketAddr,
    pub contact: SocketAddr,
    pub gate: SocketAddr,
    pub dialogs: Vec<Dialog>,
    pub asked: Vec<Asked>,
    pub served: Vec<Served>,
    pub dead: bool,
    /// The address that the world sees it under, once its NAT has changed that.
    pub bound: Option<SocketAddr>,
    /// CANCELs for its first INVITE, also those that its manners leave unanswered.
    pub cancels_heard: u32,
    pub gave_up_cancel: bool,
}

impl Leg {
    pub fn new(end: End, name: String, call_id: &str, at: SocketAddr, gate: SocketAddr) -> Leg {
        let mut contact = at;
        contact.set_port(at.port() + 10);
        Leg {
            end,
            name,
            call_id: call_id.to_owned(),
            at,
            contact,
            gate,
            dialogs: Vec::new(),
            asked: Vec::new(),
            served: Vec::new(),
            dead: false,
            bound: None,
            cancels_heard: 0,
            gave_up_cancel: false,
        }
    }

    /// Writes a request; `dialog` gives its route set, tags and number.
    pub fn compose(&self, turn: &Turn<'_>, head: &Head<'_>) -> String {
        let compact = turn.script.compact;
        let name = |long: &'static str, short: &'static str| if compact { short } else { long };
        let mut text = format!(
            "{} {} SIP/2.0\r\n{}: SIP/2.0/UDP {};branch={}{}\r\nMax-Forwards: 70\r\n",
            head.method,
            head.uri,
            name("Via", "v"),
            self.at,
            head.branch,
            if turn.script.rport { ";rport" } else { "" }
        );
        for route in head.routes {
            text += &format!("Route: {route}\r\n");
        }
        text += &format!(
            "{}: {}\r\n{}: {}\r\n{}: {}\r\nCSeq: {} {}\r\n",
            name("From", "f"),
            head.from,
            name("To", "t"),
            head.to,
            name("Call-ID", "i"),
            self.call_id,
            head.cseq,
            head.method
        );
        if !matches!(head.method, "ACK" | "BYE" | "CANCEL") {
            text += &format!(
                "{}: <sip:{}@{}>\r\n",
                name("Contact", "m"),
                self.name,
                self.contact
            );
        }
        text += head.extra;
        text += &format!(
            "{}: {}\r\n\r\n{}",
            name("Content-Length", "l"),
            head.body.len(),
            head.body
        );
        text
    }

    /// Sends a request and repeats it until it is answered.
    pub fn ask(&mut self, turn: &mut Turn<'_>, asked: Asked) -> usize {
        turn.sent.push((self.at, asked.to, asked.text.clone()));
        self.asked.push(asked);
        let at = self.asked.len() - 1;
        turn.wake_after(T1, Alarm::Repeat(at));
        at
    }

    pub fn new_asked(
        &self,
        now: Instant,
        method: &'static str,
        branch: String,
        text: String,
        dialog: Option<usize>,
        to: SocketAddr,
    ) -> Asked {
        Asked {
            branch,
            method,
            text,
            to,
            interval: T1,
            give_up: now + GIVE_UP,
            state: Asking::Calling,
            dialog,
            answer: None,
        }
    }

    /// A branch that no other request of the world has.
    pub fn branch(&self, turn: &mut Turn<'_>) -> String {
        format!("z9hG4bK{}-{:016x}", self.name, turn.dice.number())
    }

    /// Sends a request inside a dialog.
    pub fn ask_inside(
        &mut self,
        turn: &mut Turn<'_>,
        at: usize,
        method: &'static str,
        extra: &str,
    ) {
        self.dialogs[at].cseq += 1;
        let dialog = &self.dialogs[at];
        let branch = self.branch(turn);
        let from = format!("{};tag={}", dialog.local, dialog.local_tag);
        let to = format!("{};tag={}", dialog.remote, dialog.remote_tag);
        let text = self.compose(
            turn,
            &Head {
                method,
                uri: &dialog.target,
                branch: &branch,
                routes: &dialog.routes,
                from: &from,
                to: &to,
                cseq: dialog.cseq,
                extra,
                body: "",
            },
        );
        let hop = self.next_hop(turn, at);
        let asked = self.new_asked(turn.now, method, branch, text, Some(at), hop);
        self.ask(turn, asked);
    }

    /// Where the requests of a dialog are sent: the gate must have put itself first.
    fn next_hop(&self, turn: &mut Turn<'_>, at: usize) -> SocketAddr {
        let dialog = &self.dialogs[at];
        let first = dialog.routes.first().map(|route| uri_of(route));
        match address_of(first.unwrap_or(&dialog.target)) {
            Some(hop) if hop == self.gate => hop,
            hop => {
                turn.outrage.get_or_insert(format!(
                    "the route set of {} leads to {hop:?} and not through the gate",
                    self.name
                ));
                self.gate
            }
        }
    }

    /// Its NAT gives it another port, as seen from the gate.
    pub fn rebind(&mut self, turn: &mut Turn<'_>) {
        let mut bound = self.at;
        bound.set_port(20_000 + turn.dice.below(40_000) as u16);
        self.bound = Some(bound);
    }

    pub fn hang_up(&mut self, turn: &mut Turn<'_>, at: usize) {
        let dialog = &mut self.dialogs[at];
        if dialog.confirmed && !dialog.ended && !dialog.hung_up {
            dialog.hung_up = true;
            self.ask_inside(turn, at, "BYE", "");
        }
    }

    pub fn hang_up_all(&mut self, turn: &mut Turn<'_>) {
        for at in 0..self.dialogs.len() {
            self.hang_up(turn, at);
        }
    }

    /// A request that may have to be sent again.
    pub fn repeat(&mut self, turn: &mut Turn<'_>, at: usize) {
        let asked = &mut self.asked[at];
        let is_invite = asked.method == "INVITE";
        if asked.state == Asking::Done || (is_invite && asked.state == Asking::Proceeding) {
            return;
        }
        if turn.now >= asked.give_up {
            asked.state = Asking::Done;
            if let (Some(dialog), "BYE") = (asked.dialog, asked.method) {
                self.dialogs[dialog].ended = true;
            }
            return;
        }
        turn.sent.push((self.at, asked.to, asked.text.clone()));
        asked.interval *= 2;
        if !is_invite {
            asked.interval = asked.interval.min(T2);
        }
        let interval = asked.interval;
        turn.wake_after(interval, Alarm::Repeat(at));
    }

    /// A final answer that may have to be sent again.
    pub fn repeat_final(&mut self, turn: &mut Turn<'_>, at: usize, which: usize) {
        let last = &mut self.served[at].finals[which];
        if last.acked {
            return;
        }
        if turn.now >= last.give_up {
            let tag = last.tag.clone();
            // Nobody acknowledged the 2xx: RFC 3261 §13.3.1.4 says BYE.
            if last.status / 100 == 2
                && let Some(dialog) = self.dialogs.iter().position(|one| one.local_tag == tag)
            {
                self.hang_up(turn, dialog);
            }
            return;
        }
        turn.sent.push((self.at, self.gate, last.text.clone()));
        last.interval = (last.interval * 2).min(T2);
        let interval = last.interval;
        turn.wake_after(interval, Alarm::RepeatFinal(at, which));
    }

    /// Answers a request; a final to an INVITE is repeated until its ACK.
    pub fn answer(&mut self, turn: &mut Turn<'_>, at: usize, status: u16, tag: &str, extra: &str) {
        let text = response(&self.served[at].text, status, tag, extra);
        turn.sent.push((self.at, self.gate, text.clone()));
        let served = &mut self.served[at];
        let known = Text::new(&served.text).tag_of_to().map(str::to_owned);
        if served.method == "INVITE" && status >= 200 {
            served.finals.push(Final {
                text: text.clone(),
                tag: known.unwrap_or_else(|| tag.to_owned()),
                status,
                acked: false,
                interval: T1,
                give_up: turn.now + GIVE_UP,
            });
            let which = served.finals.len() - 1;
            turn.wake_after(T1, Alarm::RepeatFinal(at, which));
        }
        served.last = Some(text);
    }

    pub fn contact_header(&self) -> String {
        format!("Contact: <sip:{}@{}>\r\n", self.name, self.contact)
    }

    /// A request that came before is answered as before.
    pub fn answer_repeat(&mut self, turn: &mut Turn<'_>, text: Text<'_>) -> bool {
        let branch = text.branch().unwrap_or_default();
        let known = self
            .served
            .iter()
            .find(|served| served.branch == branch && served.method == text.method());
        let Some(served) = known else { return false };
        if let Some(last) = &served.last {
            turn.sent.push((self.at, self.gate, last.clone()));
        }
        true
    }

    pub fn remember(&mut self, text: Text<'_>, whole: &str) -> usize {
        self.served.push(Served {
            branch: text.branch().unwrap_or_default().to_owned(),
            method: text.method().to_owned(),
            cseq: text.cseq().map_or(0, |(number, _)| number),
            text: whole.to_owned(),
            last: None,
            finals: Vec::new(),
        });
        self.served.len() - 1
    }

    /// An ACK came: for a 2xx by its number and tag, for another final by its branch.
    pub fn acknowledged(&mut self, text: Text<'_>) {
        let number = text.cseq().map_or(0, |(number, _)| number);
        for served in &mut self.served {
            let is_hop = Some(served.branch.as_str()) == text.branch();
            for last in &mut served.finals {
                let is_success = last.status / 100 == 2;
                let own = Some(last.tag.as_str()) == text.tag_of_to();
                if (is_success && served.cseq == number && own) || (!is_success && is_hop) {
                    last.acked = true;
                }
            }
        }
    }

    /// A request inside the dialog, as either end answers it.
    pub fn serve_inside(&mut self, turn: &mut Turn<'_>, text: Text<'_>, whole: &str) {
        if self.answer_repeat(turn, text) {
            return;
        }
        let dialog = self.dialogs.iter().position(|dialog| {
            Some(dialog.local_tag.as_str()) == text.tag_of_to()
                && Some(dialog.remote_tag.as_str()) == text.tag_of_from()
        });
        let at = self.remember(text, whole);
        let Some(dialog) = dialog else {
            return self.answer(turn, at, 481, "", "");
        };
        match text.method() {
            "BYE" => self.serve_bye(turn, at, dialog),
            "INVITE" => {
                if let Some(contact) = text.contact() {
                    self.dialogs[dialog].target = contact.to_owned();
                }
                let delay = turn.dice.millis(0..2000);
                turn.wake_after(delay, Alarm::MiddleAnswer(at));
                if turn.dice.chance(500) {
                    self.answer(turn, at, 100, "", "");
                }
            }
            _ => self.serve_middle(turn, at),
        }
    }

    fn serve_bye(&mut self, turn: &mut Turn<'_>, at: usize, dialog: usize) {
        self.dialogs[dialog].ended = true;
        let reply = turn.script.bye_reply[usize::from(self.end == End::Callee)];
        if let Reply::Status(status) = reply {
            self.answer(turn, at, status, "", "");
        }
    }

    /// Answers what stands in the middle of a talk.
    pub fn serve_middle(&mut self, turn: &mut Turn<'_>, at: usize) {
        if !self.served[at].finals.is_empty() {
            return;
        }
        let Reply::Status(status) = turn.script.middle_reply else {
            return;
        };
        let request = Text::new(&self.served[at].text);
        let mut extra = String::new();
        if status / 100 == 2 && matches!(request.method(), "INVITE" | "UPDATE") {
            extra = self.contact_header();
            extra += &granted(request, turn.script.knows_timers);
        }
        self.answer(turn, at, status, "", &extra);
    }
}

/// The Session-Expires of a 2xx.
pub fn granted(request: Text<'_>, knows_timers: bool) -> String {
    match request.value("Session-Expires") {
        Some(value) if knows_timers => {
            let seconds = value.split(';').next().unwrap_or("1800");
            format!("Session-Expires: {seconds};refresher=uac\r\nRequire: timer\r\n")
        }
        _ => String::new(),
    }
}

/// The parts of a request that differ.
pub struct Head<'h> {
    pub method: &'static str,
    pub uri: &'h str,
    pub branch: &'h str,
    pub routes: &'h [String],
    pub from: &'h str,
    pub to: &'h str,
    pub cseq: u32,
    pub extra: &'h str,
    pub body: &'h str,
}

/// Writes the answer to a request.
pub fn response(request: &str, status: u16, tag: &str, extra: &str) -> String {
    let request = Text::new(request);
    let mut text = format!("SIP/2.0 {status} {}\r\n", phrase(status));
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in request.values(name) {
            let tagless = name == "To" && !tag.is_empty() && request.tag_of_to().is_none();
            text += name;
            text += ": ";
            text += value;
            if tagless && status > 100 {
                text += ";tag=";
                text += tag;
            }
            text += "\r\n";
        }
    }
    text += extra;
    text + "Content-Length: 0\r\n\r\n"
}

fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        200 => "OK",
        486 => "Busy Here",
        487 => "Request Terminated",
        _ => "Simulated",
    }
}
