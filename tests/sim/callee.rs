//! The end that is called: one leg for each INVITE that the gate sends on.

use crate::leg::{Alarm, Dialog, Leg, Turn, granted};
use crate::script::{Callee, End, OnCancel, Outcome};
use crate::text::Text;

impl Leg {
    /// Takes the first INVITE and plans its answers.
    pub fn invited(&mut self, turn: &mut Turn<'_>, text: Text<'_>, whole: &str, play: &Callee) {
        self.remember(text, whole);
        if let Some(span) = play.trying {
            turn.wake_after(span, Alarm::Trying);
        }
        for fork in 0..play.forks {
            turn.wake_after(play.ringing * u32::from(fork + 1), Alarm::Ring(fork));
        }
        if play.outcome != Outcome::Never {
            turn.wake_after(play.outcome_after, Alarm::Outcome);
        }
    }

    fn is_open(&self) -> bool {
        self.served
            .first()
            .is_some_and(|invite| invite.finals.is_empty())
    }

    fn fork_tag(&self, fork: u8) -> String {
        format!("t{}-{fork}", self.name)
    }

    pub fn try_it(&mut self, turn: &mut Turn<'_>) {
        if self.is_open() && self.served[0].last.is_none() {
            self.answer(turn, 0, 100, "", "");
        }
    }

    pub fn ring(&mut self, turn: &mut Turn<'_>, fork: u8) {
        if self.is_open() {
            let tag = self.fork_tag(fork);
            let contact = self.contact_header();
            self.answer(turn, 0, 180, &tag, &contact);
        }
    }

    /// The final answer that the script wants.
    pub fn conclude(&mut self, turn: &mut Turn<'_>, play: &Callee) {
        if !self.is_open() {
            return;
        }
        match play.outcome {
            Outcome::Answer => self.accept(turn, play.forks.saturating_sub(1)),
            Outcome::AnswerTwice => {
                self.accept(turn, 0);
                self.accept(turn, 1);
            }
            Outcome::Refuse(status) => {
                let tag = self.fork_tag(0);
                let extra = match status {
                    302 => "Contact: <sip:elsewhere@203.0.113.99>\r\n",
                    401 => "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n",
                    _ => "",
                };
                self.answer(turn, 0, status, &tag, extra);
                if play.sends_twice {
                    let again = self.served[0].last.clone().unwrap_or_default();
                    turn.sent.push((self.at, self.gate, again));
                }
            }
            Outcome::Never => {}
        }
    }

    /// 2xx from one fork: a dialog of this end.
    pub fn accept(&mut self, turn: &mut Turn<'_>, fork: u8) {
        let tag = self.fork_tag(fork);
        let invite = Text::new(&self.served[0].text);
        let mut extra = self.contact_header();
        extra += &granted(invite, turn.script.knows_timers);
        let without_tag = |value: &str| value.split(";tag=").next().unwrap_or_default().to_owned();
        let dialog = Dialog {
            local_tag: tag.clone(),
            remote_tag: invite.tag_of_from().unwrap_or_default().to_owned(),
            local: without_tag(invite.value("To").unwrap_or_default()),
            remote: without_tag(invite.value("From").unwrap_or_default()),
            target: invite.contact().unwrap_or_default().to_owned(),
            routes: invite.values("Record-Route").map(str::to_owned).collect(),
            cseq: 100,
            confirmed: true,
            ended: false,
            ack: None,
            hung_up: false,
        };
        let is_first = self.dialogs.is_empty();
        self.dialogs.push(dialog);
        self.answer(turn, 0, 200, &tag, &extra);
        if is_first {
            self.begin_talk(turn);
        }
    }

    /// A CANCEL for the INVITE of this leg.
    pub fn cancelled(&mut self, turn: &mut Turn<'_>, text: Text<'_>, whole: &str, play: &Callee) {
        self.cancels_heard += 1;
        if self.answer_repeat(turn, text) {
            return;
        }
        if play.on_cancel == OnCancel::Ignore {
            return;
        }
        let at = self.remember(text, whole);
        let tag = self.fork_tag(0);
        if play.on_cancel == OnCancel::Unknown481 {
            return self.answer(turn, at, 481, &tag, "");
        }
        self.answer(turn, at, 200, &tag, "");
        if !self.is_open() {
            return;
        }
        match play.on_cancel {
            OnCancel::Terminate => self.answer(turn, 0, 487, &tag, ""),
            OnCancel::AnswerAnyway => self.accept(turn, 0),
            OnCancel::Ignore | OnCancel::Unknown481 => {}
        }
    }

    /// A CANCEL for a re-INVITE that this leg has not answered yet.
    pub fn cancelled_inside(&mut self, turn: &mut Turn<'_>, text: Text<'_>, whole: &str) {
        if self.answer_repeat(turn, text) {
            return;
        }
        let branch = text.branch().unwrap_or_default();
        let invite = self
            .served
            .iter()
            .position(|served| served.branch == branch && served.method == "INVITE");
        let at = self.remember(text, whole);
        self.answer(turn, at, if invite.is_some() { 200 } else { 481 }, "", "");
        if let Some(invite) = invite.filter(|invite| self.served[*invite].finals.is_empty()) {
            self.answer(turn, invite, 487, "", "");
        }
    }

    /// Whether this is the INVITE that made the leg, or something about it.
    pub fn is_about_first(&self, text: Text<'_>) -> bool {
        let first = self.served.first().map(|invite| invite.branch.as_str());
        self.end == End::Callee && first == text.branch()
    }

    /// Whether a request is for this leg.
    pub fn owns(&self, text: Text<'_>) -> bool {
        let tag = text.tag_of_to().unwrap_or_default();
        match self.end {
            End::Caller => self.dialogs.iter().any(|dialog| dialog.local_tag == tag),
            End::Callee => {
                let about_first = matches!(text.method(), "INVITE" | "ACK" | "CANCEL")
                    && self.is_about_first(text);
                about_first || self.dialogs.iter().any(|dialog| dialog.local_tag == tag)
            }
        }
    }
}
