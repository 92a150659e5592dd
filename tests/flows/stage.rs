//! Plays a ladder: nodes in the gates' places, phones in all others.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::ladder::{Ladder, Step, is_gate};
use crate::rules::{self, Findings};
use crate::support::message::Message;
use crate::support::node::{Node, Setup};
use crate::support::phone::{Dialog, PATIENCE, Phone, offer};
use crate::support::seconds;

/// A phone of the ladder and what it has said and heard.
struct Agent {
    phone: Phone,
    /// Acts as a proxy for a phone behind it.
    is_proxy: bool,
    dialog: Option<Dialog>,
    sent: Vec<Message>,
    heard: Vec<Message>,
}

/// Everything that takes part.
pub struct Stage {
    agents: HashMap<String, Agent>,
    gates: HashMap<String, SocketAddr>,
    path: Vec<String>,
    _nodes: Vec<Node>,
}

const CALLEE: &str = "sip:bob@biloxi.example.com";
/// Where a phone behind a proxy of the test says it is.
const BEHIND: &str = "192.0.2.101:5060";

impl Stage {
    /// Starts what the ladder names.
    pub fn set(ladder: &Ladder) -> Stage {
        let agents: HashMap<String, Agent> = ladder
            .agents
            .iter()
            .map(|name| (name.clone(), Agent::new(ladder.proxies.contains(name))))
            .collect();
        let mut setups: HashMap<String, Setup> = HashMap::new();
        for name in ladder.path.iter().filter(|name| is_gate(name)) {
            setups.insert(name.clone(), Setup::new(""));
        }
        let gates = setups
            .iter()
            .map(|(name, setup)| (name.clone(), setup.address()))
            .collect();
        let mut stage = Stage {
            agents,
            gates,
            path: ladder.path.clone(),
            _nodes: Vec::new(),
        };
        for (name, mut setup) in setups {
            setup.routing = stage.routing(ladder, &name);
            setup.timers.clone_from(&ladder.timers);
            stage._nodes.push(Node::start(&setup));
        }
        stage
    }

    /// Each neighbour of a gate is a trunk of it; calls go to the right unless the ladder says else.
    fn routing(&self, ladder: &Ladder, gate: &str) -> String {
        let at = self
            .path
            .iter()
            .position(|name| name == gate)
            .expect("a gate of the path");
        let is_first = self.path.iter().position(|name| is_gate(name)) == Some(at);
        let mut trunks = vec![self.path[at - 1].clone(), self.path[at + 1].clone()];
        if is_first {
            trunks.extend(
                ladder
                    .agents
                    .iter()
                    .filter(|name| !self.path.contains(name))
                    .cloned(),
            );
        }
        let mut text = String::new();
        for trunk in &trunks {
            writeln!(
                text,
                "[trunk.{trunk}]\naddress = [\"{}\"]",
                self.address(trunk)
            )
            .expect("a String");
        }
        if is_first {
            for line in &ladder.config {
                writeln!(text, "{}", self.fill(line)).expect("a String");
            }
        }
        let right = vec![format!("to = \"{}\"", trunks[1])];
        let custom = is_first && !ladder.routes.is_empty();
        for line in if custom { &ladder.routes } else { &right } {
            writeln!(text, "[[route]]\n{}", line.replace(" ; ", "\n")).expect("a String");
        }
        text
    }

    fn address(&self, name: &str) -> SocketAddr {
        match self.gates.get(name) {
            Some(address) => *address,
            None => self.agents[name].phone.address,
        }
    }

    fn fill(&self, text: &str) -> String {
        let names = self.gates.keys().chain(self.agents.keys());
        names.fold(text.to_owned(), |text, name| {
            text.replace(&format!("{{{name}}}"), &self.address(name).to_string())
        })
    }

    pub fn play(mut self, ladder: &Ladder) {
        for step in &ladder.steps {
            let place = format!(
                "{}.flow:{}: {} -> {} {}",
                ladder.name, step.line, step.from, step.to, step.kind
            );
            if is_gate(&step.from) {
                self.hear(step, &place);
            } else if step.kind.parse::<u16>().is_ok() {
                self.answer(step, &place);
            } else {
                self.ask(step);
            }
        }
        for agent in self.agents.values() {
            agent.phone.hears_nothing();
        }
    }

    /// The gates that a request of `agent` passes, in that order.
    fn gates_from(&self, agent: &str) -> Vec<SocketAddr> {
        let mut gates: Vec<SocketAddr> = self
            .path
            .iter()
            .filter(|name| is_gate(name))
            .map(|name| self.gates[name])
            .collect();
        if self.path.first().is_none_or(|first| first != agent) {
            gates.reverse();
        }
        gates
    }

    fn ask(&mut self, step: &Step) {
        let gate = self.gates[&step.to];
        let with: String = step
            .with
            .iter()
            .map(|line| format!("{}\r\n", self.fill(line)))
            .collect();
        let uri = step.uri.as_ref().map(|uri| self.fill(uri));
        let agent = self
            .agents
            .get_mut(&step.from)
            .expect("an agent of the ladder");
        let message = agent.request(step, &with, uri, gate);
        agent.phone.send(&message.bytes, gate);
        agent.sent.push(message);
    }

    fn answer(&mut self, step: &Step, place: &str) {
        let gate = self.gates[&step.to];
        let with: String = step
            .with
            .iter()
            .map(|line| format!("{}\r\n", self.fill(line)))
            .collect();
        let agent = self
            .agents
            .get_mut(&step.from)
            .expect("an agent of the ladder");
        agent.answer(step, &with, gate, place);
    }

    fn hear(&mut self, step: &Step, place: &str) {
        let agent = &self.agents[&step.to];
        let patience = if step.kind == "503" {
            seconds(10)
        } else {
            PATIENCE
        };
        let came = agent.phone.hears(patience);
        let came = came.unwrap_or_else(|| panic!("{place}: nothing came"));
        assert_eq!(came.kind(), step.kind, "{place}: got {came:?}");
        if let Some(method) = &step.method {
            assert_eq!(&came.method(), method, "{place}: got {came:?}");
        }
        if step.is_again {
            let before = agent.heard.last().expect("something came before");
            assert_eq!(before.bytes, came.bytes, "{place}: is not the same again");
            return;
        }
        let mut found = Findings::about(&came);
        if came.is_request() {
            self.check_request(&mut found, agent, &step.to, &came);
        } else {
            self.check_response(&mut found, agent, &step.to, &came);
        }
        found.report(place);
        for (name, text) in &step.has {
            let (text, values) = (self.fill(text), came.all(name));
            assert!(
                values.iter().any(|value| value.contains(&text)),
                "{place}: no {name}: {text} in {came:?}"
            );
        }
        let agent = self.agents.get_mut(&step.to).expect("it was just there");
        agent.learn(&came);
        agent.heard.push(came);
    }

    fn check_request(&self, found: &mut Findings, agent: &Agent, name: &str, came: &Message) {
        let is_for = |invite: &&Message| invite.kind() == "INVITE" && invite.cseq() == came.cseq();
        let was_refused = |agent: &Agent| {
            let answers = agent
                .sent
                .iter()
                .filter(|sent| sent.method() == "INVITE" && sent.cseq() == came.cseq());
            answers.map(Message::status).max().unwrap_or(0) >= 300
        };
        if came.method() == "CANCEL" || (came.method() == "ACK" && was_refused(agent)) {
            let invite = agent
                .heard
                .iter()
                .rev()
                .find(is_for)
                .expect("an INVITE came before");
            return rules::hop_by_hop(found, invite, came);
        }
        let is_origin = |sent: &&Message| {
            sent.kind() == came.kind()
                && sent.cseq() == came.cseq()
                && sent.call_id() == came.call_id()
        };
        let others = self.agents.iter().filter(|(other, _)| *other != name);
        let origin = others
            .filter_map(|(other, agent)| Some((other, agent.sent.iter().rev().find(is_origin)?)))
            .next();
        let (other, sent) = origin.unwrap_or_else(|| panic!("nobody sent what came: {came:?}"));
        rules::forwarded_request(found, sent, came, &self.gates_from(other));
    }

    fn check_response(&self, found: &mut Findings, agent: &Agent, name: &str, came: &Message) {
        let is_asked = |sent: &&Message| {
            sent.is_request() && sent.method() == came.method() && sent.cseq() == came.cseq()
        };
        let request = agent.sent.iter().rev().find(is_asked);
        let request = request.unwrap_or_else(|| panic!("{name} did not ask for {came:?}"));
        let is_origin = |sent: &&Message| {
            sent.status() == came.status()
                && sent.value("CSeq") == came.value("CSeq")
                && sent.status() > 100
        };
        let is_own = came.status() == 100 || came.method() == "CANCEL";
        let others = self
            .agents
            .iter()
            .filter(|(other, _)| *other != name && !is_own);
        let origin = others
            .filter_map(|(_, agent)| agent.sent.iter().rev().find(is_origin))
            .next();
        match origin {
            Some(sent) => rules::forwarded_response(found, request, sent, came),
            None => rules::own_response(found, request, came),
        }
    }
}

impl Agent {
    fn new(is_proxy: bool) -> Agent {
        Agent {
            phone: Phone::new(),
            is_proxy,
            dialog: None,
            sent: Vec::new(),
            heard: Vec::new(),
        }
    }

    fn request(
        &mut self,
        step: &Step,
        with: &str,
        uri: Option<String>,
        gate: SocketAddr,
    ) -> Message {
        let body = if step.has_sdp {
            offer("0", &["0 PCMU/8000"])
        } else {
            String::new()
        };
        let text = match step.kind.as_str() {
            "ACK" if self.last_final().is_some_and(|status| status >= 300) => {
                self.of_transaction("ACK")
            }
            "ACK" => {
                let dialog = self.dialog.as_ref().expect("a call");
                let branch = format!("z9hG4bK{}", crate::support::phone::unique());
                dialog.compose("ACK", &branch, with, &body)
            }
            "CANCEL" => self.of_transaction("CANCEL"),
            method => {
                let phone = &self.phone;
                let dialog = self
                    .dialog
                    .get_or_insert_with(|| Dialog::to(phone, CALLEE, gate));
                if let Some(uri) = uri {
                    dialog.target.clone_from(&uri);
                    dialog.remote = format!("<{uri}>");
                }
                dialog.request_with(method, with, &body)
            }
        };
        Message::new(if self.is_proxy {
            self.as_proxy(&text)
        } else {
            text
        })
    }

    fn last_final(&self) -> Option<u16> {
        let answers = self
            .heard
            .iter()
            .rev()
            .filter(|heard| heard.method() == "INVITE");
        answers.map(Message::status).find(|status| *status >= 200)
    }

    fn of_transaction(&self, method: &str) -> String {
        let invite = self
            .sent
            .iter()
            .rev()
            .find(|sent| sent.kind() == "INVITE")
            .expect("an INVITE");
        let text = String::from_utf8_lossy(&invite.bytes);
        let to = match method {
            "ACK" => {
                let mut answers = self.heard.iter().rev();
                let answer =
                    answers.find(|heard| heard.method() == "INVITE" && heard.status() >= 300);
                answer.expect("a refusal").value("To")
            }
            _ => invite.value("To"),
        };
        Dialog::of_transaction(method, &text, &to)
    }

    /// The request as it looks after this proxy passed it on for the phone behind it.
    fn as_proxy(&self, text: &str) -> String {
        let is_hop_by_hop =
            text.starts_with("CANCEL") || text.starts_with("ACK") && self.last_final() >= Some(300);
        if is_hop_by_hop {
            return text.to_owned();
        }
        let number = crate::support::phone::unique();
        let via = format!(
            "Via: SIP/2.0/UDP {BEHIND};branch=z9hG4bK{number};received=192.0.2.101\r\nMax-Forwards: 69\r\n"
        );
        let text = text.replacen("Max-Forwards: 70\r\n", &via, 1);
        let contact = format!("Contact: <{}>", self.phone.uri());
        let behind = format!("Contact: <sip:behind@{BEHIND}>");
        let text = text.replacen(&contact, &behind, 1);
        if !text.starts_with("INVITE") {
            return text;
        }
        let record = format!("Record-Route: <sip:{};lr>\r\nFrom: ", self.phone.address);
        text.replacen("From: ", &record, 1)
    }

    fn answer(&mut self, step: &Step, with: &str, gate: SocketAddr, place: &str) {
        let wanted = |heard: &&Message| {
            heard.is_request()
                && heard.method() != "ACK"
                && step
                    .method
                    .as_ref()
                    .is_none_or(|method| *method == heard.method())
        };
        let request = self.heard.iter().rev().find(wanted);
        let request = request
            .unwrap_or_else(|| panic!("{place}: nothing to answer"))
            .clone();
        let text = format!("{} {}", step.kind, phrase(&step.kind));
        let body = if step.has_sdp {
            offer("0", &["0 PCMU/8000"])
        } else {
            String::new()
        };
        let mut response = self.phone.compose_answer(&request, &text, with, &body);
        if self.is_proxy {
            response = self.answer_as_proxy(&response);
        }
        self.phone.send(&response.bytes, gate);
        if request.method() == "INVITE" && response.status() > 100 && self.dialog.is_none() {
            self.dialog = Some(Dialog::from_invite(&self.phone, &request, &response, gate));
        }
        self.sent.push(response);
    }

    fn answer_as_proxy(&self, response: &Message) -> Message {
        let text = String::from_utf8_lossy(&response.bytes).into_owned();
        let text = text.replacen(
            &format!("Contact: <{}>", self.phone.uri()),
            &format!("Contact: <sip:behind@{BEHIND}>"),
            1,
        );
        let is_dialog = response.method() == "INVITE" && (101..300).contains(&response.status());
        if !is_dialog {
            return Message::new(text);
        }
        // Before the Record-Route lines of the elements that the request passed before this one.
        let record = format!("Record-Route: <sip:{};lr>\r\n", self.phone.address);
        let at = text
            .find("Record-Route: ")
            .or_else(|| text.find("From: "))
            .expect("a header");
        Message::new(format!("{}{record}{}", &text[..at], &text[at..]))
    }

    fn learn(&mut self, came: &Message) {
        let own = self.phone.address;
        let is_answer =
            !came.is_request() && came.method() == "INVITE" && (101..300).contains(&came.status());
        if let (true, Some(dialog)) = (is_answer, self.dialog.as_mut()) {
            if dialog.routes.is_empty() {
                dialog.learn(came);
                dialog
                    .routes
                    .retain(|route| !crate::support::phone::names(route, own));
            }
        } else if came.kind() == "INVITE" && came.to_tag().is_some() {
            self.dialog
                .as_mut()
                .expect("a call before its re-INVITE")
                .target = came.contact_uri();
        }
    }
}

fn phrase(status: &str) -> &'static str {
    match status {
        "100" => "Trying",
        "180" => "Ringing",
        "183" => "Session Progress",
        "200" => "OK",
        "407" => "Proxy Authentication Required",
        "480" => "Temporarily Unavailable",
        "486" => "Busy Here",
        "487" => "Request Terminated",
        _ => "Some Answer",
    }
}
