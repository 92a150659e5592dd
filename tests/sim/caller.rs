//! The end that starts a call.

use std::time::Duration;

use crate::leg::{Alarm, Asking, Dialog, Head, Leg, Turn};
use crate::script::Acking;
use crate::text::{Text, param};

impl Leg {
    /// Sends the INVITE.
    pub fn start(&mut self, turn: &mut Turn<'_>, user: &str) {
        let uri = format!("sip:{user}@{}", self.gate);
        let branch = self.branch(turn);
        let from = format!("<sip:{}@{}>;tag=f{}", self.name, self.at, self.name);
        let body = turn.script.offers.map_or(String::new(), offer);
        let mut extra = String::new();
        if turn.script.knows_timers {
            extra += "Supported: timer\r\n";
        }
        if !body.is_empty() {
            extra += "Content-Type: application/sdp\r\n";
        }
        let head = Head {
            method: "INVITE",
            uri: &uri,
            branch: &branch,
            routes: &[],
            from: &from,
            to: &format!("<{uri}>"),
            cseq: 1,
            extra: &extra,
            body: &body,
        };
        let text = self.compose(turn, &head);
        let gate = self.gate;
        let asked = self.new_asked(turn.now, "INVITE", branch, text, None, gate);
        self.ask(turn, asked);
        if let Some(span) = turn.script.cancel_after {
            turn.wake_after(span, Alarm::Cancel);
        }
    }

    /// Cancels the call, if it is still of use; a polite caller waits for a provisional answer.
    pub fn cancel(&mut self, turn: &mut Turn<'_>) {
        let Some(invite) = self.asked.first() else {
            return;
        };
        let may = match invite.state {
            Asking::Calling => turn.script.cancel_rash,
            Asking::Proceeding => true,
            Asking::Done => return,
        };
        if !may {
            self.gave_up_cancel = true;
            return;
        }
        self.gave_up_cancel = false;
        let text = cancel_of(&invite.text);
        let (branch, to) = (invite.branch.clone(), invite.to);
        let asked = self.new_asked(turn.now, "CANCEL", branch, text, None, to);
        self.ask(turn, asked);
    }

    /// An answer to one of this leg's requests.
    pub fn hear(&mut self, turn: &mut Turn<'_>, text: Text<'_>) {
        let Some(status) = text.status() else { return };
        let position = self.asked.iter().position(|asked| {
            Some(asked.branch.as_str()) == text.branch() && asked.method == text.method()
        });
        let Some(at) = position else {
            return;
        };
        match (self.asked[at].method, status) {
            ("INVITE", 100..=199) => self.hear_provisional(turn, at),
            ("INVITE", 200..=299) => self.hear_success(turn, at, text),
            ("INVITE", _) => self.hear_failure(turn, at, text, status),
            (_, 100..=199) => {}
            (method, _) => {
                let asked = &mut self.asked[at];
                asked.state = Asking::Done;
                let is_first = asked.answer.replace(status).is_none();
                if let (Some(dialog), "BYE") = (asked.dialog, method) {
                    self.dialogs[dialog].ended = true;
                }
                if method == "UPDATE" && status / 100 == 2 && is_first {
                    self.arm_refresh(turn, at, text);
                }
            }
        }
    }

    fn hear_provisional(&mut self, turn: &mut Turn<'_>, at: usize) {
        if self.asked[at].state == Asking::Calling {
            self.asked[at].state = Asking::Proceeding;
        }
        if at == 0 && self.gave_up_cancel {
            self.cancel(turn);
        }
    }

    fn hear_failure(&mut self, turn: &mut Turn<'_>, at: usize, text: Text<'_>, status: u16) {
        let asked = &mut self.asked[at];
        if asked.answer.is_some_and(|answer| answer / 100 == 2) {
            // Accepted absorbs it (RFC 6026 §7.2); whether it may be is the judge's business.
            return;
        }
        asked.state = Asking::Done;
        asked.answer.get_or_insert(status);
        if turn.script.acking != Acking::Never {
            let ack = ack_of(&asked.text, text);
            turn.sent.push((self.at, asked.to, ack));
        }
    }

    fn hear_success(&mut self, turn: &mut Turn<'_>, at: usize, text: Text<'_>) {
        let asked = &mut self.asked[at];
        asked.state = Asking::Done;
        let is_first = asked.answer.replace(200).is_none();
        let dialog = match asked.dialog {
            Some(dialog) => dialog,
            None => self.dialog_of(turn, text),
        };
        self.acknowledge(turn, dialog, text);
        if is_first {
            self.arm_refresh(turn, at, text);
        }
    }

    /// The dialog that a 2xx belongs to, made with the first of its tag.
    fn dialog_of(&mut self, turn: &mut Turn<'_>, text: Text<'_>) -> usize {
        let tag = text.tag_of_to().unwrap_or_default();
        if let Some(known) = self.dialogs.iter().position(|one| one.remote_tag == tag) {
            return known;
        }
        let is_first = !self.dialogs.iter().any(|dialog| dialog.confirmed);
        let without_tag = |value: &str| value.split(";tag=").next().unwrap_or_default().to_owned();
        let mut routes: Vec<String> = text.values("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        self.dialogs.push(Dialog {
            local_tag: format!("f{}", self.name),
            remote_tag: tag.to_owned(),
            local: without_tag(text.value("From").unwrap_or_default()),
            remote: without_tag(text.value("To").unwrap_or_default()),
            target: text.contact().unwrap_or_default().to_owned(),
            routes,
            cseq: 1,
            confirmed: true,
            ended: false,
            ack: None,
            hung_up: false,
        });
        let at = self.dialogs.len() - 1;
        if is_first && turn.script.cancel_after.is_none() {
            self.begin_talk(turn);
        } else {
            // A second fork, or an answer that crossed the CANCEL: nobody wants this call.
            turn.wake_after(Duration::from_millis(20), Alarm::HangUp);
        }
        at
    }

    /// Plans what this end does once it talks.
    pub fn begin_talk(&mut self, turn: &mut Turn<'_>) {
        if turn.script.hangs_up.contains(&self.end) {
            turn.wake_after(turn.script.talk, Alarm::HangUp);
        }
        let middle = turn.script.middle.clone();
        for (at, middle) in middle.iter().enumerate() {
            if middle.by == self.end && middle.after < turn.script.talk {
                turn.wake_after(middle.after, Alarm::Middle(at));
            }
        }
    }

    /// Something in the middle of the talk.
    pub fn act_middle(&mut self, turn: &mut Turn<'_>, at: usize) {
        let method = turn.script.middle[at].method;
        let talking = |dialog: &Dialog| dialog.confirmed && !dialog.ended && !dialog.hung_up;
        let Some(dialog) = self.dialogs.iter().position(talking) else {
            return;
        };
        // One INVITE at a time in a dialog (RFC 3261 §14.1).
        let busy = self
            .asked
            .iter()
            .any(|asked| asked.dialog == Some(dialog) && asked.state != Asking::Done);
        if !busy || method != "INVITE" {
            self.ask_inside(turn, dialog, method, "");
        }
    }

    fn acknowledge(&mut self, turn: &mut Turn<'_>, at: usize, text: Text<'_>) {
        let number = text.cseq().map_or(0, |(number, _)| number);
        if turn.script.acking == Acking::Never {
            return;
        }
        if let Some(contact) = text.contact() {
            self.dialogs[at].target = contact.to_owned();
        }
        let dialog = &self.dialogs[at];
        let ack = match &dialog.ack {
            Some((known, ack)) if *known == number => ack.clone(),
            _ => {
                let branch = self.branch(turn);
                self.compose(
                    turn,
                    &Head {
                        method: "ACK",
                        uri: &dialog.target,
                        branch: &branch,
                        routes: &dialog.routes,
                        from: &format!("{};tag={}", dialog.local, dialog.local_tag),
                        to: &format!("{};tag={}", dialog.remote, dialog.remote_tag),
                        cseq: number,
                        extra: "",
                        body: "",
                    },
                )
            }
        };
        let times = if turn.script.acking == Acking::Double {
            2
        } else {
            1
        };
        for _ in 0..times {
            turn.sent.push((self.at, self.gate, ack.clone()));
        }
        self.dialogs[at].ack = Some((number, ack));
    }

    fn arm_refresh(&mut self, turn: &mut Turn<'_>, at: usize, text: Text<'_>) {
        let Some(value) = text.value("Session-Expires") else {
            return;
        };
        let seconds: u32 = value
            .split(';')
            .next()
            .and_then(|s| s.parse().ok())
            .unwrap_or(0);
        let own = param(value, "refresher") == Some("uac");
        let dialog = match self.asked[at].dialog {
            Some(dialog) => Some(dialog),
            None => self.dialogs.len().checked_sub(1),
        };
        if let Some(dialog) = dialog.filter(|_| own && turn.script.refreshes && seconds > 1) {
            let half = Duration::from_secs(u64::from(seconds / 2));
            turn.wake_after(half, Alarm::Refresh(dialog, seconds));
        }
    }

    /// Refreshes the session.
    pub fn refresh(&mut self, turn: &mut Turn<'_>, at: usize, seconds: u32) {
        let dialog = &self.dialogs[at];
        if dialog.confirmed && !dialog.ended && !dialog.hung_up {
            let extra = format!("Supported: timer\r\nSession-Expires: {seconds};refresher=uac\r\n");
            self.ask_inside(turn, at, "UPDATE", &extra);
        }
    }
}

/// The CANCEL of an INVITE: its first Via, target and numbers.
pub fn cancel_of(invite: &str) -> String {
    let text = Text::new(invite);
    let value = |name| text.value(name).unwrap_or_default();
    format!(
        "CANCEL {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
         CSeq: {} CANCEL\r\nContent-Length: 0\r\n\r\n",
        text.request_uri(),
        value("Via"),
        value("From"),
        value("To"),
        value("Call-ID"),
        text.cseq().map_or(0, |(number, _)| number)
    )
}

/// The ACK of a final answer that is no success.
fn ack_of(invite: &str, answer: Text<'_>) -> String {
    let text = Text::new(invite);
    let value = |name| text.value(name).unwrap_or_default();
    let mut ack = format!(
        "ACK {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\n",
        text.request_uri(),
        value("Via")
    );
    for route in text.values("Route") {
        ack += &format!("Route: {route}\r\n");
    }
    ack + &format!(
        "From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
        value("From"),
        answer.value("To").unwrap_or_default(),
        value("Call-ID"),
        text.cseq().map_or(0, |(number, _)| number)
    )
}

fn offer(formats: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.99\r\ns=-\r\nc=IN IP4 192.0.2.99\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP {formats}\r\na=rtpmap:101 telephone-event/8000\r\n"
    )
}
