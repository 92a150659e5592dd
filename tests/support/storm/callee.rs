//! The storm's called side.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::wire::{Heard, Wire};
use super::{AGAIN, Ending, Pending, Side, Tally, Timers};
use crate::support::{ms, now};

/// What the callee remembers of a call.
struct Call {
    invite: String,
    /// The last answer to the INVITE, for when it comes again.
    answer: Option<String>,
    pending: Option<Pending>,
    has_hung_up: bool,
}

pub struct Callee {
    pub wire: Wire,
    pub gate: SocketAddr,
    calls: HashMap<usize, Call>,
    waiting: usize,
}

impl Callee {
    pub fn new(wire: Wire) -> Callee {
        Callee {
            gate: wire.address,
            wire,
            calls: HashMap::new(),
            waiting: 0,
        }
    }

    /// Whether it still waits for an ACK, or for an answer to a BYE.
    pub fn is_busy(&self) -> bool {
        self.waiting > 0
    }

    pub fn hears(&mut self, bytes: &[u8], timers: &mut Timers, tally: &mut Tally) {
        let Some(heard) = Heard::read(bytes) else {
            return tally.fault(format!(
                "callee cannot read {}",
                String::from_utf8_lossy(bytes)
            ));
        };
        match (heard.status, heard.method) {
            (0, "INVITE") => self.is_invited(&heard, timers),
            (0, "ACK") => self.is_acknowledged(&heard, timers),
            (0, "CANCEL") => self.is_cancelled(&heard, timers, tally),
            (0, "BYE") => self.is_hung_up(&heard),
            (200..=699, "BYE") => self.clear(heard.call),
            (100..=199, "BYE") => {}
            _ => tally.fault(format!("callee got {}", heard.text)),
        }
    }

    fn is_invited(&mut self, heard: &Heard<'_>, timers: &mut Timers) {
        if let Some(known) = self.calls.get(&heard.call) {
            if let Some(answer) = &known.answer {
                self.wire.send(answer.as_bytes(), self.gate);
            }
            return;
        }
        self.calls.insert(
            heard.call,
            Call {
                invite: heard.text.to_owned(),
                answer: None,
                pending: None,
                has_hung_up: false,
            },
        );
        match Ending::of(heard.call) {
            Ending::Silent => {}
            // The 100 that allows the gate to pass the CANCEL on comes late.
            Ending::CancelBeforeRinging => timers.arm(now() + ms(20), Side::Callee, heard.call),
            Ending::NoAnswer | Ending::CancelAfterRinging | Ending::AnswerAfterCancel => {
                self.answer(heard.call, "180 Ringing")
            }
            Ending::Busy => self.answer_until_cleared(heard.call, "486 Busy Here", timers),
            Ending::RefusedAfterRinging => {
                self.answer(heard.call, "180 Ringing");
                self.answer_until_cleared(heard.call, "603 Decline", timers);
            }
            Ending::CallerHangsUp
            | Ending::CalleeHangsUp
            | Ending::ByeGets481
            | Ending::BothHangUp
            | Ending::ByeUnanswered
            | Ending::EverythingTwice => {
                self.answer(heard.call, "180 Ringing");
                self.answer_until_cleared(heard.call, "200 OK", timers);
            }
        }
    }

    fn is_acknowledged(&mut self, heard: &Heard<'_>, timers: &mut Timers) {
        let hangs_up = matches!(
            Ending::of(heard.call),
            Ending::CalleeHangsUp | Ending::BothHangUp
        );
        let Some(call) = self.calls.get(&heard.call) else {
            return;
        };
        if call.has_hung_up {
            return;
        }
        self.clear(heard.call);
        if hangs_up {
            let bye = self.bye(heard.call);
            self.call(heard.call).has_hung_up = true;
            self.send_until_cleared(heard.call, bye, timers);
        }
    }

    fn is_cancelled(&mut self, heard: &Heard<'_>, timers: &mut Timers, tally: &mut Tally) {
        let Some(call) = self.calls.get(&heard.call) else {
            return tally.fault(format!("CANCEL of an unknown call: {}", heard.text));
        };
        let is_first = call.pending.is_none();
        let text = self.compose(heard, "200 OK", "");
        self.wire.send(text.as_bytes(), self.gate);
        match Ending::of(heard.call) {
            Ending::AnswerAfterCancel if is_first => {
                self.answer_until_cleared(heard.call, "200 OK", timers)
            }
            Ending::NoAnswer | Ending::CancelBeforeRinging | Ending::CancelAfterRinging
                if is_first =>
            {
                self.answer_until_cleared(heard.call, "487 Request Terminated", timers);
            }
            _ => {}
        }
    }

    fn is_hung_up(&mut self, heard: &Heard<'_>) {
        let text = match Ending::of(heard.call) {
            Ending::ByeUnanswered => return,
            Ending::ByeGets481 => "481 Call/Transaction Does Not Exist",
            _ => "200 OK",
        };
        let answer = self.compose(heard, text, "");
        self.wire.send(answer.as_bytes(), self.gate);
        if Ending::of(heard.call) == Ending::EverythingTwice {
            self.wire.send(answer.as_bytes(), self.gate);
        }
    }

    pub fn on_timer(&mut self, call: usize, at: Instant, timers: &mut Timers) -> bool {
        let known = self
            .calls
            .get_mut(&call)
            .expect("timers are of calls that came in");
        if Ending::of(call) == Ending::CancelBeforeRinging && known.answer.is_none() {
            self.answer(call, "100 Trying");
            return false;
        }
        let Some(pending) = known.pending.as_mut().filter(|pending| pending.at <= at) else {
            return false;
        };
        self.wire.send(&pending.bytes, self.gate);
        pending.interval *= 2;
        pending.at = at + pending.interval;
        timers.arm(pending.at, Side::Callee, call);
        true
    }

    fn call(&mut self, call: usize) -> &mut Call {
        self.calls.get_mut(&call).expect("looked up before")
    }

    fn clear(&mut self, call: usize) {
        if self
            .calls
            .get_mut(&call)
            .and_then(|call| call.pending.take())
            .is_some()
        {
            self.waiting -= 1;
        }
    }

    fn answer(&mut self, call: usize, text: &str) {
        let invite = self.call(call).invite.clone();
        let heard = Heard::read(invite.as_bytes()).expect("it was read before");
        let contact = format!("Contact: <sip:callee@{}>\r\n", self.wire.address);
        let answer = self.compose(&heard, text, &contact);
        self.wire.send(answer.as_bytes(), self.gate);
        if Ending::of(call) == Ending::EverythingTwice {
            self.wire.send(answer.as_bytes(), self.gate);
        }
        self.call(call).answer = Some(answer);
    }

    fn answer_until_cleared(&mut self, call: usize, text: &str, timers: &mut Timers) {
        self.answer(call, text);
        let answer = self.call(call).answer.clone().expect("it was just sent");
        self.remember(call, answer, timers);
    }

    fn send_until_cleared(&mut self, call: usize, message: String, timers: &mut Timers) {
        self.wire.send(message.as_bytes(), self.gate);
        self.remember(call, message, timers);
    }

    fn remember(&mut self, call: usize, message: String, timers: &mut Timers) {
        let at = now() + AGAIN;
        self.waiting += 1;
        self.call(call).pending = Some(Pending {
            bytes: message.into_bytes(),
            at,
            interval: AGAIN,
        });
        timers.arm(at, Side::Callee, call);
    }

    fn compose(&self, request: &Heard<'_>, text: &str, more: &str) -> String {
        let tag = if request.value("To").is_some_and(|to| to.contains(";tag="))
            || text.starts_with("100")
        {
            String::new()
        } else {
            format!(";tag=d{}", request.call)
        };
        format!(
            "SIP/2.0 {text}\r\n{}{}{}To: {}{tag}\r\n{}{}{more}Content-Length: 0\r\n\r\n",
            request.copied("Via"),
            request.copied("Record-Route"),
            request.copied("From"),
            request.value("To").unwrap_or_default(),
            request.copied("Call-ID"),
            request.copied("CSeq"),
        )
    }

    fn bye(&self, call: usize) -> String {
        let invite = Heard::read(self.calls[&call].invite.as_bytes()).expect("it was read before");
        let routes: String = invite
            .record_routes()
            .iter()
            .map(|route| format!("Route: {route}\r\n"))
            .collect();
        format!(
            "BYE {} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKd{}x{call}\r\nMax-Forwards: 70\r\n\
             {routes}From: {};tag=d{call}\r\nTo: {}\r\n{}CSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
            invite.contact(),
            self.wire.address,
            std::process::id(),
            invite.value("To").unwrap_or_default(),
            invite.value("From").unwrap_or_default(),
            invite.copied("Call-ID"),
        )
    }
}
