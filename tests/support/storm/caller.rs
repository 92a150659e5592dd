//! The storm's calling side.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::wire::{Heard, Wire};
use super::{AGAIN, Ending, Pending, Side, Tally, Timers};
use crate::support::now;

/// What the caller remembers of a call.
struct Call {
    pending: Option<Pending>,
    /// To with its tag, Contact and Route lines, once an answer taught them.
    to: String,
    target: String,
    routes: String,
    is_cancelled: bool,
    is_answered: bool,
    is_finished: bool,
}

pub struct Caller {
    pub wire: Wire,
    pub gate: SocketAddr,
    /// Makes Call-IDs of two runs against one node differ.
    run: u32,
    calls: HashMap<usize, Call>,
    pub started: usize,
    pub finished: usize,
}

impl Caller {
    pub fn new(wire: Wire) -> Caller {
        Caller {
            gate: wire.address,
            run: std::process::id(),
            wire,
            calls: HashMap::new(),
            started: 0,
            finished: 0,
        }
    }

    pub fn start(&mut self, timers: &mut Timers) {
        let call = self.started;
        self.started += 1;
        self.calls.insert(
            call,
            Call {
                pending: None,
                to: format!("<sip:callee@{}>", self.gate),
                target: format!("sip:callee@{}", self.gate),
                routes: String::new(),
                is_cancelled: false,
                is_answered: false,
                is_finished: false,
            },
        );
        let invite = self.invite(call);
        self.send_until_cleared(call, invite, timers);
    }

    /// Numbers and endings of calls that have not ended.
    pub fn unfinished(&self) -> Vec<(usize, Ending)> {
        let open = self.calls.iter().filter(|(_, call)| !call.is_finished);
        let mut list: Vec<(usize, Ending)> =
            open.map(|(call, _)| (*call, Ending::of(*call))).collect();
        list.sort_unstable();
        list
    }

    pub fn hears(&mut self, bytes: &[u8], timers: &mut Timers, tally: &mut Tally) {
        let Some(heard) = Heard::read(bytes) else {
            return tally.fault(format!(
                "caller cannot read {}",
                String::from_utf8_lossy(bytes)
            ));
        };
        if !self.calls.contains_key(&heard.call) {
            return tally.fault(format!("caller does not know the call of {}", heard.text));
        }
        match (heard.status, heard.method) {
            (0, "BYE") => self.is_hung_up(&heard),
            (0, _) => tally.fault(format!("caller got {}", heard.text)),
            (_, "INVITE") => self.is_answered(&heard, timers, tally),
            (100..=199, _) => {}
            (_, "CANCEL") => self.call(heard.call).pending = None,
            (_, "BYE") => {
                self.call(heard.call).pending = None;
                self.finish(heard.call);
            }
            _ => tally.fault(format!("caller got {}", heard.text)),
        }
    }

    fn is_answered(&mut self, heard: &Heard<'_>, timers: &mut Timers, tally: &mut Tally) {
        let ending = Ending::of(heard.call);
        match heard.status {
            100..=199 => self.is_told_progress(heard, ending, timers),
            200..=299 => {
                if self.is_first_final(heard, ending, tally) {
                    self.learn(heard);
                    self.acknowledge_success(heard.call);
                    if !matches!(ending, Ending::CalleeHangsUp) {
                        let bye = self.bye(heard.call);
                        self.send_until_cleared(heard.call, bye, timers);
                    }
                } else {
                    self.acknowledge_success(heard.call);
                }
            }
            _ => {
                self.is_first_final(heard, ending, tally);
                self.send(heard.call, &self.ack_refusal(heard));
                self.finish(heard.call);
            }
        }
    }

    fn is_told_progress(&mut self, heard: &Heard<'_>, ending: Ending, timers: &mut Timers) {
        let call = self.call(heard.call);
        if call.is_answered || call.is_finished {
            return;
        }
        if !call.is_cancelled {
            call.pending = None;
        }
        let wanted = match ending {
            Ending::CancelBeforeRinging => heard.status == 100,
            Ending::CancelAfterRinging | Ending::AnswerAfterCancel => heard.status == 180,
            _ => false,
        };
        if wanted && !call.is_cancelled {
            call.is_cancelled = true;
            let cancel = self.cancel(heard.call);
            self.send_until_cleared(heard.call, cancel, timers);
        }
    }

    /// Counts the first final answer, and says whether this is it.
    fn is_first_final(&mut self, heard: &Heard<'_>, ending: Ending, tally: &mut Tally) -> bool {
        let call = self.call(heard.call);
        let is_first = !call.is_answered;
        call.is_answered = true;
        if is_first {
            call.pending = None;
            *tally.answers.entry((ending, heard.status)).or_default() += 1;
            if !ending.allowed().contains(&heard.status) {
                tally.fault(format!("{ending:?} got {}", heard.text));
            }
        }
        is_first
    }

    fn learn(&mut self, heard: &Heard<'_>) {
        let call = self.call(heard.call);
        call.to = heard.value("To").unwrap_or_default().to_owned();
        call.target = heard.contact().to_owned();
        let routes = heard.record_routes();
        call.routes = routes
            .iter()
            .rev()
            .map(|route| format!("Route: {route}\r\n"))
            .collect();
    }

    fn is_hung_up(&mut self, heard: &Heard<'_>) {
        let names = ["Via", "From", "To", "Call-ID", "CSeq"];
        let copied: String = names.iter().map(|name| heard.copied(name)).collect();
        let answer = format!("SIP/2.0 200 OK\r\n{copied}Content-Length: 0\r\n\r\n");
        self.send(heard.call, &answer);
        if Ending::of(heard.call) == Ending::CalleeHangsUp {
            self.finish(heard.call);
        }
    }

    fn finish(&mut self, call: usize) {
        let open = self.call(call);
        let is_first = !open.is_finished;
        open.is_finished = true;
        open.pending = None;
        self.finished += usize::from(is_first);
    }

    pub fn on_timer(&mut self, call: usize, at: std::time::Instant, timers: &mut Timers) -> bool {
        let open = self
            .calls
            .get_mut(&call)
            .expect("timers are of calls that were started");
        let Some(pending) = open.pending.as_mut().filter(|pending| pending.at <= at) else {
            return false;
        };
        // The gate says nothing in place of a callee that does not answer a BYE (RFC 4320): this is
        // the caller's own timer F.
        if Ending::of(call) == Ending::ByeUnanswered && open.is_answered && pending.interval > AGAIN
        {
            self.finish(call);
            return false;
        }
        self.wire.send(&pending.bytes, self.gate);
        pending.interval *= 2;
        pending.at = at + pending.interval;
        timers.arm(pending.at, Side::Caller, call);
        true
    }

    fn call(&mut self, call: usize) -> &mut Call {
        self.calls.get_mut(&call).expect("looked up before")
    }

    fn send(&self, call: usize, message: &str) {
        self.wire.send(message.as_bytes(), self.gate);
        if Ending::of(call) == Ending::EverythingTwice {
            self.wire.send(message.as_bytes(), self.gate);
        }
    }

    fn send_until_cleared(&mut self, call: usize, message: String, timers: &mut Timers) {
        self.send(call, &message);
        let at = now() + AGAIN;
        self.call(call).pending = Some(Pending {
            bytes: message.into_bytes(),
            at,
            interval: AGAIN,
        });
        timers.arm(at, Side::Caller, call);
    }

    fn acknowledge_success(&mut self, call: usize) {
        let known = &self.calls[&call];
        let ack = self.compose(
            "ACK",
            call,
            1,
            "a",
            &known.target,
            &known.to,
            &known.routes,
            "",
        );
        self.send(call, &ack);
    }

    fn invite(&self, call: usize) -> String {
        let known = &self.calls[&call];
        let contact = format!("Contact: <sip:caller@{}>\r\n", self.wire.address);
        self.compose(
            "INVITE",
            call,
            1,
            "i",
            &known.target,
            &known.to,
            "",
            &contact,
        )
    }

    fn cancel(&self, call: usize) -> String {
        let target = format!("sip:callee@{}", self.gate);
        self.compose(
            "CANCEL",
            call,
            1,
            "i",
            &target,
            &format!("<{target}>"),
            "",
            "",
        )
    }

    fn bye(&self, call: usize) -> String {
        let known = &self.calls[&call];
        self.compose(
            "BYE",
            call,
            2,
            "b",
            &known.target,
            &known.to,
            &known.routes,
            "",
        )
    }

    fn ack_refusal(&self, heard: &Heard<'_>) -> String {
        let target = format!("sip:callee@{}", self.gate);
        let to = heard.value("To").unwrap_or_default();
        self.compose("ACK", heard.call, 1, "i", &target, to, "", "")
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is one field of the message below"
    )]
    fn compose(
        &self,
        method: &str,
        call: usize,
        cseq: u32,
        branch: &str,
        target: &str,
        to: &str,
        routes: &str,
        more: &str,
    ) -> String {
        let (address, run) = (self.wire.address, self.run);
        format!(
            "{method} {target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {address};branch=z9hG4bK{run}{branch}{call}\r\n\
             Max-Forwards: 70\r\n{routes}\
             From: <sip:caller@{address}>;tag=c{run}{call}\r\n\
             To: {to}\r\n\
             Call-ID: storm-{call}-{run}\r\n\
             CSeq: {cseq} {method}\r\n{more}\
             Content-Length: 0\r\n\r\n"
        )
    }
}
