//! All phones and gateways: finds the leg that a message is for and lets it act.

use std::net::SocketAddr;
use std::time::Duration;

use callgate::base::Instant;

use crate::dice::Dice;
use crate::forger::FORGER;
use crate::leg::{Alarm, Leg, Turn, response};
use crate::plans::{GATES, TRUNKS};
use crate::script::{Callee, End, Script};
use crate::text::Text;

/// What a leg did, to be carried out by the world.
pub struct Done {
    pub sent: Vec<(SocketAddr, SocketAddr, String)>,
    pub alarms: Vec<(Duration, Alarm)>,
    pub outrage: Option<String>,
    /// A new address of the end.
    pub moved: Option<SocketAddr>,
}

/// How the machine behind an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Takes datagrams and says nothing.
    Silent,
    /// The port is closed: ICMP.
    Refusing,
    /// Answers probes with 503.
    Overloaded,
}

/// One call of the peers.
pub struct Call {
    pub call_id: String,
    pub user: String,
    pub script: Script,
    /// The caller's leg, then one for each INVITE that the gate sent on.
    pub legs: Vec<Leg>,
}

/// A call that was begun.
pub struct Started {
    pub call_id: String,
    pub user: String,
    pub parties: Vec<SocketAddr>,
    pub done: Done,
}

/// All peers of one world.
pub struct Peers {
    pub calls: Vec<Call>,
    /// Those that may still be talking.
    pub live: Vec<usize>,
    dice: Dice,
    polite: bool,
    moods: Vec<(SocketAddr, Mood)>,
}

impl Peers {
    pub fn new(dice: Dice, polite: bool) -> Peers {
        let addresses = crate::plans::trunk_addresses();
        Peers {
            calls: Vec::new(),
            live: Vec::new(),
            dice,
            polite,
            moods: addresses.into_iter().map(|one| (one, Mood::Well)).collect(),
        }
    }

    /// Another mood for one address.
    pub fn change_mood(&mut self) {
        let at = self.dice.below(self.moods.len());
        self.moods[at].1 = self.dice.weighted(&[
            (6, Mood::Well),
            (1, Mood::Silent),
            (2, Mood::Refusing),
            (1, Mood::Overloaded),
        ]);
    }

    pub fn calm_down(&mut self) {
        for (_, mood) in &mut self.moods {
            *mood = Mood::Well;
        }
    }

    fn mood(&self, at: SocketAddr) -> Mood {
        let known = self.moods.iter().find(|(address, _)| *address == at);
        known.map_or(Mood::Well, |(_, mood)| *mood)
    }

    pub fn refuses(&self, at: SocketAddr) -> bool {
        self.mood(at) == Mood::Refusing
    }

    /// Starts the next call.
    pub fn begin(&mut self, now: Instant, call: usize) -> Started {
        let script = Script::throw(&mut self.dice, self.polite);
        let digit = self.dice.weighted(&[
            (4, "1"),
            (3, "2"),
            (6, "3"),
            (2, "4"),
            (2, "5"),
            (1, "7"),
            (1, "8"),
            (1, "9"),
        ]);
        let user = format!("{digit}{call:04}");
        let call_id = format!("{call}-{:016x}@sim", self.dice.number());
        let (_, addresses) = TRUNKS[self.dice.weighted(&[(6, 0), (2, 1), (1, 2)])];
        let at: SocketAddr = addresses[0].parse().expect("a literal address");
        let caller = Leg::new(End::Caller, format!("c{call}"), &call_id, at, gate_of(at));
        let parties = vec![caller.at, caller.contact];
        self.live.push(call);
        let (dies, forgery, rebinds) = (script.dies, script.forgery, script.rebinds);
        self.calls.push(Call {
            call_id: call_id.clone(),
            user: user.clone(),
            script,
            legs: vec![caller],
        });
        let mut done = self.act(now, call, 0, |leg, turn| leg.start(turn, &user));
        if let Some((End::Caller, span)) = dies {
            done.alarms.push((span, Alarm::Die));
        }
        if let Some((span, _)) = forgery {
            done.alarms.push((span, Alarm::Forge));
        }
        if let Some((End::Caller, span)) = rebinds {
            done.alarms.push((span, Alarm::Rebind));
        }
        Started {
            call_id,
            user,
            parties,
            done,
        }
    }

    /// Leaves out of `live` the calls that their caller has done with.
    pub fn forget_ended(&mut self) {
        let calls = &self.calls;
        self.live.retain(|call| {
            let caller = &calls[*call].legs[0];
            let is_setting_up = caller.asked.iter().any(|asked| asked.answer.is_none());
            let talks = caller
                .dialogs
                .iter()
                .any(|dialog| !dialog.ended && !dialog.hung_up);
            is_setting_up || talks
        });
    }

    /// Lets a leg act.
    fn act(
        &mut self,
        now: Instant,
        call: usize,
        leg: usize,
        act: impl FnOnce(&mut Leg, &mut Turn<'_>),
    ) -> Done {
        let Call { script, legs, .. } = &mut self.calls[call];
        let mut turn = Turn {
            now,
            dice: &mut self.dice,
            script,
            sent: Vec::new(),
            alarms: Vec::new(),
            outrage: None,
        };
        let before = legs[leg].bound;
        if !legs[leg].dead {
            act(&mut legs[leg], &mut turn);
        }
        let (at, bound) = (legs[leg].at, legs[leg].bound);
        let from = |from: SocketAddr| bound.filter(|_| from == at).unwrap_or(from);
        let sent = turn.sent.into_iter();
        Done {
            sent: sent
                .map(|(source, to, text)| (from(source), to, text))
                .collect(),
            moved: bound.filter(|_| bound != before),
            alarms: turn
                .alarms
                .into_iter()
                .map(|(at, alarm)| (at.since(now), alarm))
                .collect(),
            outrage: turn.outrage,
        }
    }

    fn play(&self, call: usize, leg: usize) -> Callee {
        let callees = &self.calls[call].script.callees;
        callees[(leg.max(1) - 1) % callees.len()]
    }

    /// An alarm of a leg.
    pub fn wake(&mut self, now: Instant, call: usize, leg: usize, alarm: Alarm) -> Done {
        let play = self.play(call, leg);
        let forged = match alarm {
            Alarm::Forge => crate::forger::forge(&self.calls[call], &mut self.dice),
            _ => None,
        };
        self.act(now, call, leg, |leg, turn| match alarm {
            Alarm::Repeat(at) => leg.repeat(turn, at),
            Alarm::RepeatFinal(at, which) => leg.repeat_final(turn, at, which),
            Alarm::Cancel => leg.cancel(turn),
            Alarm::Trying => leg.try_it(turn),
            Alarm::Ring(fork) => leg.ring(turn, fork),
            Alarm::Outcome => leg.conclude(turn, &play),
            Alarm::HangUp => leg.hang_up_all(turn),
            Alarm::Middle(at) => leg.act_middle(turn, at),
            Alarm::MiddleAnswer(at) => leg.serve_middle(turn, at),
            Alarm::Refresh(at, seconds) => leg.refresh(turn, at, seconds),
            Alarm::Die => leg.dead = true,
            Alarm::Forge => turn.sent.extend(forged),
            Alarm::Rebind => leg.rebind(turn),
        })
    }

    /// A message reaches a peer; the leg it is for and what that does.
    pub fn hear(
        &mut self,
        now: Instant,
        call: usize,
        to: SocketAddr,
        text: Text<'_>,
        whole: &str,
    ) -> Option<(usize, Done)> {
        // An answer to a forger is heard by the forger alone.
        if self.mood(to) == Mood::Silent || to.ip() == FORGER.ip() {
            return None;
        }
        let Call { script, legs, .. } = &self.calls[call];
        let is_left = |leg: &Leg| leg.at == to && leg.bound.is_some();
        if script.forgets_port && legs.iter().any(is_left) {
            return None;
        }
        if text.status().is_some() {
            let branch = text.branch()?;
            let legs = &self.calls[call].legs;
            let leg = legs
                .iter()
                .position(|leg| leg.asked.iter().any(|asked| asked.branch == branch))?;
            return Some((
                leg,
                self.act(now, call, leg, |leg, turn| leg.hear(turn, text)),
            ));
        }
        let owner = self.calls[call].legs.iter().position(|leg| leg.owns(text));
        match (text.method(), owner) {
            ("INVITE", None) if text.tag_of_to().is_none() => {
                Some(self.invite(now, call, to, text, whole))
            }
            (_, Some(leg)) => {
                let done = self.serve(now, call, leg, text, whole);
                Some((leg, done))
            }
            ("ACK", None) => None,
            (_, None) => Some((
                0,
                self.act(now, call, 0, |leg, turn| {
                    turn.sent
                        .push((to, leg.gate, response(whole, 481, "stray", "")));
                }),
            )),
        }
    }

    fn invite(
        &mut self,
        now: Instant,
        call: usize,
        to: SocketAddr,
        text: Text<'_>,
        whole: &str,
    ) -> (usize, Done) {
        let at = self.calls[call].legs.len();
        let name = format!("c{call}L{at}");
        let call_id = self.calls[call].call_id.clone();
        self.calls[call]
            .legs
            .push(Leg::new(End::Callee, name, &call_id, to, gate_of(to)));
        let play = self.play(call, at);
        let mut done = self.act(now, call, at, |leg, turn| {
            leg.invited(turn, text, whole, &play)
        });
        if let Some((End::Callee, span)) = self.calls[call].script.dies {
            done.alarms.push((span, Alarm::Die));
        }
        if let Some((End::Callee, span)) = self.calls[call].script.rebinds {
            done.alarms.push((span, Alarm::Rebind));
        }
        (at, done)
    }

    fn serve(
        &mut self,
        now: Instant,
        call: usize,
        leg: usize,
        text: Text<'_>,
        whole: &str,
    ) -> Done {
        let play = self.play(call, leg);
        self.act(now, call, leg, |leg, turn| match text.method() {
            "ACK" => leg.acknowledged(text),
            "CANCEL" if leg.is_about_first(text) => leg.cancelled(turn, text, whole, &play),
            "CANCEL" => leg.cancelled_inside(turn, text, whole),
            "INVITE" if text.tag_of_to().is_none() => {
                leg.answer_repeat(turn, text);
            }
            _ => leg.serve_inside(turn, text, whole),
        })
    }

    /// The answer to an OPTIONS probe of the gate.
    pub fn answer_probe(&self, to: SocketAddr, text: Text<'_>) -> Option<String> {
        if text.status().is_some() || text.method() != "OPTIONS" || text.call_id().contains('@') {
            return None;
        }
        let whole = text.whole();
        match self.mood(to) {
            Mood::Well => Some(response(whole, 200, "probe", "")),
            Mood::Overloaded => Some(response(whole, 503, "probe", "")),
            Mood::Silent | Mood::Refusing => None,
        }
    }
}

/// The gate's address of the same family.
pub fn gate_of(address: SocketAddr) -> SocketAddr {
    GATES[usize::from(address.is_ipv6())]
        .parse()
        .expect("a literal address")
}
