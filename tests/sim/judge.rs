//! The judge: what must hold after every step and at quiet moments, seen from outside of the gate.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use callgate::base::Instant;

use crate::crash::REPEATS;
use crate::forger::FORGED_CSEQ;
use crate::plans;
use crate::text::Text;

/// Something that must not happen, and the call that it happened to.
#[derive(Clone, Debug)]
pub struct Violation {
    pub at: Instant,
    pub call: Option<usize>,
    pub what: String,
}

/// What was seen of one call on the wires of the gate.
pub struct Case {
    /// Addresses that belong to this call.
    pub parties: Vec<SocketAddr>,
    /// Others who sent something with its Call-ID: they may get answers.
    pub strangers: Vec<SocketAddr>,
    pub may_be_called: Vec<SocketAddr>,
    /// The INVITEs that reached the gate unchanged, by branch.
    pub invites: Vec<Invite>,
    /// The same of requests that are neither INVITE, ACK nor CANCEL: what one CANCEL is told depends
    /// on when its INVITE was over, so that two copies may hear two answers.
    pub others: Vec<Invite>,
    /// Branches of the INVITEs that the gate sent for it.
    pub attempts: Vec<String>,
    /// Tags that answered with a 2xx, and when a BYE for each first reached the gate.
    pub talks: Vec<(String, Option<Instant>)>,
    /// A message of it was corrupted: nothing is sure any more.
    pub tainted: bool,
    pub ended_by_operator: bool,
    /// When the last message of it was seen.
    pub seen: Instant,
    /// The node died while the call was being set up or something of it was under way: its ends may
    /// think of it what they want, and it may still not be counted when it is over.
    pub shaken: bool,
}

impl Case {
    /// What a forger makes up from a trunk's address is routed as any request of that trunk.
    fn is_routed_forgery(&self, to: SocketAddr, text: Text<'_>) -> bool {
        let number = text.cseq().map(|(number, _)| number);
        number == Some(FORGED_CSEQ) && self.may_be_called.contains(&to)
    }

    /// The node died: what was under way may be answered twice, or by nobody.
    pub fn cross(&mut self, now: Instant) {
        for invite in self.invites.iter_mut().chain(&mut self.others) {
            invite.excused |= invite.finals.is_empty() || now.since(invite.reached) < REPEATS;
        }
        // Which of several forks was hanging up is not recorded.
        let is_hanging_up =
            |ended: &Option<Instant>| ended.is_some_and(|ended| now.since(ended) < REPEATS);
        self.shaken |= self.talks.len() > 1 && self.talks.iter().any(|(_, at)| is_hanging_up(at));
        // A BYE that was on its way from shard to shard is lost with the rings.
        for (_, ended) in &mut self.talks {
            *ended = ended.filter(|ended| now.since(*ended) > Duration::from_millis(10));
        }
    }
}

/// One INVITE as it reached the gate, and the finals that the gate sent for it.
pub struct Invite {
    pub branch: String,
    pub from: SocketAddr,
    pub reached: Instant,
    pub finals: Vec<(u16, String)>,
    /// The node died while it was under way.
    pub excused: bool,
}

impl Invite {
    fn new(reached: Instant, branch: &str, from: SocketAddr) -> Invite {
        Invite {
            branch: branch.to_owned(),
            from,
            reached,
            finals: Vec::new(),
            excused: false,
        }
    }
}

/// Sees all that goes in and out.
pub struct Judge {
    cases: Vec<Case>,
    by_call_id: HashMap<String, usize>,
    trunks: Vec<SocketAddr>,
    /// Everybody who ever sent something.
    senders: Vec<SocketAddr>,
    /// Tables may be full: a refusal is then not remembered.
    pub forgetful: bool,
    /// When the process at work began. For a while it passes on what callees of before answer, be it
    /// a second final answer of an attempt that was given up.
    pub restarted: Instant,
    /// Each 2xx of a callee that has reached the gate and not left it yet: when, whose, its tag.
    owed: Vec<(Instant, usize, String)>,
    pub violation: Option<Violation>,
}

impl Judge {
    pub fn new(forgetful: bool) -> Judge {
        Judge {
            cases: Vec::new(),
            by_call_id: HashMap::new(),
            trunks: plans::trunk_addresses(),
            senders: Vec::new(),
            forgetful,
            restarted: Instant::START,
            owed: Vec::new(),
            violation: None,
        }
    }

    /// Opens the case of the next call.
    pub fn open(&mut self, now: Instant, call_id: &str, user: &str, parties: Vec<SocketAddr>) {
        self.by_call_id.insert(call_id.to_owned(), self.cases.len());
        self.cases.push(Case {
            parties,
            strangers: Vec::new(),
            may_be_called: plans::allowed(user),
            invites: Vec::new(),
            others: Vec::new(),
            attempts: Vec::new(),
            talks: Vec::new(),
            tainted: false,
            ended_by_operator: false,
            seen: now,
            shaken: false,
        });
    }

    pub fn case(&self, call: usize) -> &Case {
        &self.cases[call]
    }

    pub fn case_mut(&mut self, call: usize) -> &mut Case {
        &mut self.cases[call]
    }

    /// The call that a Call-ID names.
    pub fn call_of(&self, call_id: &str) -> Option<usize> {
        self.by_call_id.get(call_id).copied()
    }

    pub fn blame(&mut self, at: Instant, call: Option<usize>, what: String) {
        let tainted = call.is_some_and(|call| self.cases[call].tainted);
        if self.violation.is_none() && !tainted {
            self.violation = Some(Violation { at, call, what });
        }
    }

    /// A datagram reaches the gate.
    pub fn goes_in(&mut self, now: Instant, from: SocketAddr, text: Text<'_>, changed: bool) {
        if !self.senders.contains(&from) {
            self.senders.push(from);
        }
        let Some(call) = self.call_of(text.call_id()) else {
            return;
        };
        let case = &mut self.cases[call];
        case.seen = now;
        case.tainted |= changed;
        if !case.parties.contains(&from) {
            if !case.strangers.contains(&from) {
                case.strangers.push(from);
            }
            return;
        }
        let branch = text.branch().unwrap_or_default();
        if text.status().is_none() && text.method() == "BYE" {
            let tags = [text.tag_of_from(), text.tag_of_to()];
            for (tag, ended) in &mut case.talks {
                if tags.contains(&Some(tag.as_str())) {
                    ended.get_or_insert(now);
                }
            }
        }
        if text.status().is_some() {
            let is_asked = case.attempts.iter().any(|attempt| attempt == branch);
            let is_success = text.status().is_some_and(|status| status / 100 == 2);
            let is_owed = is_success && text.method() == "INVITE" && is_asked;
            if is_owed && !changed && !case.shaken {
                let tag = text.tag_of_to().unwrap_or_default();
                self.owed.push((now, call, tag.to_owned()));
            }
            return;
        }
        match text.method() {
            "INVITE" => {}
            "ACK" | "CANCEL" => return,
            _ => {
                if !case.others.iter().any(|other| other.branch == branch) {
                    case.others.push(Invite::new(now, branch, from));
                }
                return;
            }
        }
        match case.invites.iter().find(|invite| invite.branch == branch) {
            // Timer L has forgotten it: the network held a copy up for longer than RFC 3261 provides
            // for, and it is a new call. Nothing is said of such a call.
            Some(known) if now.since(known.reached) > Duration::from_secs(31) => {
                case.tainted = true;
            }
            // The next process does not know that it is a repetition, and makes a second call of it.
            Some(known) => case.shaken |= known.excused && !known.finals.is_empty(),
            None => case.invites.push(Invite::new(now, branch, from)),
        }
    }

    /// The gate sends a datagram.
    pub fn goes_out(&mut self, now: Instant, to: SocketAddr, text: Text<'_>) {
        if text.start_line().is_empty() || !text.start_line().contains("SIP/2.0") {
            return self.check_sender(now, to, "a keep-alive answer");
        }
        let Some(call) = self.call_of(text.call_id()) else {
            let is_probe = text.status().is_none() && self.trunks.contains(&to);
            if !is_probe {
                self.check_sender(now, to, &format!("a message of no call ({})", text.whole()));
            }
            return;
        };
        self.cases[call].seen = now;
        match text.status() {
            None => self.request_out(now, call, to, text),
            Some(status) => self.answer_out(now, call, to, text, status),
        }
    }

    fn check_sender(&mut self, now: Instant, to: SocketAddr, what: &str) {
        if !self.senders.contains(&to) {
            self.blame(
                now,
                None,
                format!("{what} goes to {to}, who never sent anything"),
            );
        }
    }

    fn request_out(&mut self, now: Instant, call: usize, to: SocketAddr, text: Text<'_>) {
        let case = &mut self.cases[call];
        if text.method() == "INVITE" && text.tag_of_to().is_none() {
            if case.may_be_called.contains(&to) {
                let mut contact = to;
                contact.set_port(to.port() + 10);
                case.parties.extend([to, contact]);
                let branch = text.branch().unwrap_or_default();
                if case.attempts.last().is_none_or(|last| last != branch) {
                    case.attempts.push(branch.to_owned());
                }
            } else {
                self.blame(
                    now,
                    Some(call),
                    format!("INVITE to {to}, where no route leads"),
                );
            }
        } else if !case.parties.contains(&to) && !case.is_routed_forgery(to, text) {
            let line = text.start_line();
            self.blame(now, Some(call), format!("{line} to {to}, who is no party"));
        }
    }

    fn answer_out(
        &mut self,
        now: Instant,
        call: usize,
        to: SocketAddr,
        text: Text<'_>,
        status: u16,
    ) {
        let case = &mut self.cases[call];
        if !case.parties.contains(&to) && !case.strangers.contains(&to) {
            let line = text.start_line();
            return self.blame(now, Some(call), format!("{line} to {to}, who is no party"));
        }
        if status < 200 || !case.parties.contains(&to) {
            return;
        }
        match text.method() {
            "INVITE" => {}
            "CANCEL" => return self.cancel_answered(now, call, to, text, status),
            _ => return self.other_answered(now, call, text, status),
        }
        let tag = text.tag_of_to().unwrap_or_default().to_owned();
        self.owed
            .retain(|(_, of, owed)| (*of, owed) != (call, &tag));
        let branch = text.branch().unwrap_or_default();
        let Some(at) = case.invites.iter().position(|one| one.branch == branch) else {
            return;
        };
        if at == 0 && status < 300 && !case.talks.iter().any(|(known, _)| *known == tag) {
            case.talks.push((tag.clone(), None));
        }
        let invite = &mut case.invites[at];
        if invite.finals.contains(&(status, tag.clone())) {
            return;
        }
        let had = invite.finals.first().map(|(status, _)| *status);
        // Whose attempts were given up by the process of before cannot be told from those of this one.
        let is_heir = now.since(self.restarted) < REPEATS
            && (self.restarted > invite.reached || had.is_some_and(|had| had >= 300));
        invite.finals.push((status, tag));
        match had {
            Some(had)
                if status >= 300
                    && !self.forgetful
                    && !case.shaken
                    && !invite.excused
                    && !is_heir =>
            {
                let what = format!("a second final answer: {had}, then {status}");
                self.blame(now, Some(call), what);
            }
            Some(_) | None => {}
        }
    }

    /// An INVITE without a final answer is there to be cancelled by who sent it.
    fn cancel_answered(
        &mut self,
        now: Instant,
        call: usize,
        to: SocketAddr,
        text: Text<'_>,
        status: u16,
    ) {
        let case = &self.cases[call];
        let branch = text.branch().unwrap_or_default();
        // One that is on its way from shard to shard may be overtaken by its CANCEL.
        let is_pending = case.invites.iter().any(|invite| {
            let is_settled = now.since(invite.reached) > Duration::from_millis(10);
            let is_open = invite.finals.is_empty() && !invite.excused && is_settled;
            invite.branch == branch && invite.from.ip() == to.ip() && is_open
        });
        if status != 200 && is_pending && !case.shaken && !self.forgetful {
            let what = format!("{status} to a CANCEL, and its INVITE is there");
            self.blame(now, Some(call), what);
        }
    }

    fn other_answered(&mut self, now: Instant, call: usize, text: Text<'_>, status: u16) {
        let case = &mut self.cases[call];
        let branch = text.branch().unwrap_or_default();
        let mut others = case.others.iter_mut();
        let Some(other) = others.find(|other| other.branch == branch) else {
            return;
        };
        let had = other.finals.first().map(|(status, _)| *status);
        other.finals.push((status, String::new()));
        other.finals.truncate(1);
        // Timer J: who asks again later asks anew.
        let is_remembered = now.since(other.reached) < Duration::from_secs(31);
        let is_excused = other.excused || case.shaken || self.forgetful;
        if let Some(had) = had.filter(|had| *had != status && is_remembered && !is_excused) {
            let method = text.method();
            let what = format!("a second final answer to a {method}: {had}, then {status}");
            self.blame(now, Some(call), what);
        }
    }

    /// At a quiet moment: each 2xx of a callee was passed on, the repeated ones too.
    pub fn check_owed(&mut self, now: Instant) {
        let is_late = |since: Instant| now.since(since) > Duration::from_millis(100);
        let late = self.owed.iter().find(|(since, ..)| is_late(*since));
        if let Some((_, call, tag)) = late.cloned()
            && !self.forgetful
        {
            self.blame(now, Some(call), format!("the 2xx of {tag} was swallowed"));
        }
        self.owed.retain(|(since, ..)| !is_late(*since));
    }

    /// The secret is lost that made the branches of the gate: it does not know the answers.
    pub fn forget_attempts(&mut self) {
        self.cases.iter_mut().for_each(|case| case.attempts.clear());
    }

    /// A process is gone, with all that was on its way inside of it.
    pub fn forget_owed(&mut self) {
        self.owed.clear();
    }

    /// A process that dies over it hears a datagram. Where it is the 2xx of a further fork it may be
    /// recorded and is not passed on: the next process has no word from the caller about that fork.
    pub fn is_heard_dying(&mut self, text: Text<'_>) {
        let is_success = text.status().is_some_and(|status| status / 100 == 2);
        let tag = text.tag_of_to().unwrap_or_default();
        let Some(call) = self.call_of(text.call_id()) else {
            return;
        };
        let talks = &mut self.cases[call].talks;
        let is_known = talks.iter().any(|(known, _)| known == tag);
        if is_success && text.method() == "INVITE" && !is_known {
            talks.push((tag.to_owned(), None));
        }
    }

    /// Whether a call must be over at `now`: refused, or each of its forks hung up for so long that
    /// even a BYE that nobody answered has run out; a start waits for it anew.
    pub fn is_over(&self, call: usize, now: Instant, restarted: Instant) -> bool {
        let case = &self.cases[call];
        if case.shaken {
            return false;
        }
        let refused = case
            .invites
            .first()
            .filter(|invite| !invite.excused)
            .is_some_and(|invite| invite.finals.iter().any(|(status, _)| *status >= 300));
        let run_out = |ended: Option<Instant>| {
            ended.is_some_and(|ended| now.since(ended.max(restarted)) > Duration::from_secs(34))
        };
        refused || !case.talks.is_empty() && case.talks.iter().all(|(_, ended)| run_out(*ended))
    }

    /// At the end: every INVITE that reached the gate was answered.
    pub fn check_answers(&mut self, now: Instant) {
        for call in 0..self.cases.len() {
            let case = &self.cases[call];
            // The set-up of a call outlives the process, an INVITE inside of it does not.
            let mut invites = case.invites.iter().enumerate();
            let open = invites.find(|(at, invite)| {
                invite.finals.is_empty() && (*at == 0 || !invite.excused) && !case.shaken
            });
            if let Some((_, invite)) = open {
                let what = format!(
                    "the INVITE with branch {} was never answered",
                    invite.branch
                );
                self.blame(now, Some(call), what);
            }
        }
    }

    pub fn calls(&self) -> usize {
        self.cases.len()
    }
}
