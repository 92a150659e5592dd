//! The naive model: one map of live calls, without shards, transactions or timers. On a calm network
//! with polite peers the node must admit, route, refuse, count and end exactly as this map says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use callgate::base::Instant;
use callgate::limit::{Limits, SlotId};
use callgate::route::health::Board;
use callgate::shard::NodePlan;

use crate::forger::FORGED_CSEQ;
use crate::plans::{DIALLED, TRUNKS};
use crate::text::Text;
use crate::world::World;

/// A call that is up or being set up; trunks by their place in [`TRUNKS`].
#[derive(Debug)]
struct Call {
    from: usize,
    to: Option<usize>,
    branch: String,
    /// Trunks that said 503.
    tried: Vec<usize>,
    /// The final answer of the attempt under way.
    said: Option<u16>,
    answered: Option<Instant>,
}

/// What the model is told of the call that a message belongs to.
pub struct About<'a> {
    pub call: usize,
    pub caller: SocketAddr,
    pub user: &'a str,
    pub offers: Option<&'a str>,
    pub is_cancelled: bool,
    /// One of its ends has sent a BYE.
    pub is_hung_up: bool,
}

/// One map, and a bucket for the rate of the carrier.
pub struct Model {
    plan: NodePlan,
    calls: BTreeMap<usize, Call>,
    refused: BTreeSet<usize>,
    tokens: f64,
    filled: Instant,
    /// The share of calls that each trunk takes, before the turn under way, in thousandths.
    shares: [u16; TRUNKS.len()],
    /// Whether each trunk takes its whole share, and its whole share or none, all through the turn.
    healthy: [bool; TRUNKS.len()],
    steady: [bool; TRUNKS.len()],
}

impl Model {
    pub fn new(plan: &NodePlan) -> Model {
        let burst = plan.routing.trunks[0].limits.cps.map_or(0, |cps| cps.burst);
        Model {
            plan: plan.clone(),
            calls: BTreeMap::new(),
            refused: BTreeSet::new(),
            tokens: f64::from(burst),
            filled: Instant::START,
            shares: [WHOLE; TRUNKS.len()],
            healthy: [true; TRUNKS.len()],
            steady: [true; TRUNKS.len()],
        }
    }

    /// A turn begins.
    pub fn look_at(&mut self, board: &Board, now: Instant) {
        self.shares = self.shares(board, now);
        self.healthy = self.shares.map(|share| share == WHOLE);
        self.steady = self.shares.map(|share| share == WHOLE || share == 0);
    }

    fn shares(&self, board: &Board, now: Instant) -> [u16; TRUNKS.len()] {
        std::array::from_fn(|at| board.share(self.plan.routing.trunks[at].slot, now))
    }

    /// Something reaches the node: only what callees say of the INVITE is remembered.
    pub fn sees_in(&mut self, call: usize, text: Text<'_>) {
        let said = text.status().filter(|status| *status >= 200);
        if let (Some(said), Some(call)) = (said, self.calls.get_mut(&call))
            && text.branch() == Some(call.branch.as_str())
            && text.method() == "INVITE"
        {
            call.said = Some(said);
        }
    }

    /// Something leaves the node; an error is what it should not have done. `clock` is the node's.
    pub fn sees_out(
        &mut self,
        (now, clock): (Instant, Instant),
        about: &About<'_>,
        to: SocketAddr,
        text: Text<'_>,
        board: &Board,
    ) -> Result<(), String> {
        let shares = self.shares(board, clock);
        for (at, share) in shares.into_iter().enumerate() {
            self.healthy[at] &= share == WHOLE;
            self.steady[at] &= share == self.shares[at];
        }
        let number = text.cseq().map(|(number, _)| number);
        if number == Some(FORGED_CSEQ) {
            return Ok(());
        }
        let is_first = text.cseq() == Some((1, "INVITE"));
        match (text.status(), text.method()) {
            (None, "INVITE") if text.tag_of_to().is_none() => self.sent(now, about, to, text),
            (None, "BYE") if !about.is_hung_up => self.hung_up(now, about),
            (Some(200..=299), "INVITE") if is_first && to == about.caller => {
                self.answered(now, about)
            }
            (Some(status @ 300..), "INVITE") if is_first && to == about.caller => {
                self.refused(now, about, status)
            }
            (Some(200..), "BYE") if about.is_hung_up => {
                self.calls.remove(&about.call);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An INVITE goes to a trunk.
    fn sent(
        &mut self,
        now: Instant,
        about: &About<'_>,
        to: SocketAddr,
        text: Text<'_>,
    ) -> Result<(), String> {
        let branch = text.branch().unwrap_or_default();
        let from = trunk_of(about.caller).ok_or("a call from no trunk")?;
        let to = trunk_of(to).ok_or("an INVITE to no trunk")?;
        if !self.calls.contains_key(&about.call) {
            self.admit(now, about, from)?;
        }
        let call = self.calls.get_mut(&about.call).ok_or("just put there")?;
        if call.branch == branch {
            return Ok(());
        }
        if let (Some(before), said) = (call.to.take(), call.said.take()) {
            if said != Some(503) {
                return Err(format!("a second attempt, and the first said {said:?}"));
            }
            call.tried.push(before);
        }
        branch.clone_into(&mut call.branch);
        let is_again = call.tried.contains(&to);
        if !is_again && !self.has_room(to, Way::Out) {
            return Err(format!("INVITE to {}, which is full", TRUNKS[to].0));
        }
        if !self.takes(to, about.offers) {
            return Err(format!("INVITE to {} without its codec", TRUNKS[to].0));
        }
        if to == 0 && !is_again {
            self.take_token(now)?;
        }
        if let Some(call) = self.calls.get_mut(&about.call) {
            call.to = Some(to);
        }
        Ok(())
    }

    fn admit(&mut self, now: Instant, about: &About<'_>, from: usize) -> Result<(), String> {
        if self.refused.contains(&about.call) {
            return Err("a call that was refused is set up".to_owned());
        }
        if !self.has_room(from, Way::In) {
            return Err(format!("a call from {}, which is full", TRUNKS[from].0));
        }
        if from == 0 {
            self.take_token(now)?;
        }
        let call = Call {
            from,
            to: None,
            branch: String::new(),
            tried: Vec::new(),
            said: None,
            answered: None,
        };
        self.calls.insert(about.call, call);
        Ok(())
    }

    fn answered(&mut self, now: Instant, about: &About<'_>) -> Result<(), String> {
        let Some(call) = self.calls.get_mut(&about.call) else {
            // A repeated 2xx of a call that is over.
            return Ok(());
        };
        call.answered.get_or_insert(now);
        match call.said {
            Some(200..=299) => Ok(()),
            said => Err(format!("2xx to the caller, and the callee said {said:?}")),
        }
    }

    /// The node ends a call itself: only call_time_max may be the reason.
    fn hung_up(&mut self, now: Instant, about: &About<'_>) -> Result<(), String> {
        let Some(call) = self.calls.remove(&about.call) else {
            return Ok(());
        };
        let answered = call.answered.ok_or("BYE for a call without an answer")?;
        let of = |trunk: usize| self.plan.routing.trunks[trunk].call_time_max;
        let spans = [Some(call.from), call.to].into_iter().flatten();
        let span = spans.filter_map(of).min().ok_or("BYE by the node itself")?;
        let talked = now.since(answered);
        if talked < span || talked > span + Duration::from_secs(1) {
            return Err(format!("the node hung up after {talked:?} of {span:?}"));
        }
        Ok(())
    }

    /// The caller is told no.
    fn refused(&mut self, now: Instant, about: &About<'_>, status: u16) -> Result<(), String> {
        if !self.refused.insert(about.call) {
            return Ok(());
        }
        let expected = match self.calls.remove(&about.call) {
            Some(call) => match call.said {
                // Its CANCEL may still be on the way.
                Some(503) if about.is_cancelled && status == 487 => 487,
                Some(503) => {
                    let tried = [&call.tried[..], &[call.to.unwrap_or(0)]].concat();
                    self.counted_rejection(now, about, call.from, &tried, status)?
                }
                Some(said) => said,
                None if about.is_cancelled => 487,
                None => return Err(format!("{status}, and the callee has said nothing")),
            },
            None => self.refusal(now, about, status)?,
        };
        if status != expected {
            return Err(format!("{status} to the caller in place of {expected}"));
        }
        Ok(())
    }

    /// What a call is told that is not sent to anybody.
    fn refusal(&mut self, now: Instant, about: &About<'_>, told: u16) -> Result<u16, String> {
        match about.user.as_bytes().first() {
            Some(b'7' | b'8') => return Ok(404),
            Some(b'9') => return Ok(302),
            _ => {}
        }
        let from = trunk_of(about.caller).ok_or("a call from no trunk")?;
        if !self.has_room(from, Way::In) {
            return Ok(480);
        }
        if from == 0 && self.take_token(now).is_err() {
            return Ok(503);
        }
        self.counted_rejection(now, about, from, &[], told)
    }

    /// A call is itself counted while a candidate for it is looked for.
    fn counted_rejection(
        &mut self,
        now: Instant,
        about: &About<'_>,
        from: usize,
        tried: &[usize],
        told: u16,
    ) -> Result<u16, String> {
        self.admit_uncounted(about, from);
        let rejection = self.rejection(now, about, tried, told);
        self.calls.remove(&about.call);
        rejection
    }

    fn admit_uncounted(&mut self, about: &About<'_>, from: usize) {
        let call = Call {
            from,
            to: None,
            branch: String::new(),
            tried: Vec::new(),
            said: None,
            answered: None,
        };
        self.calls.insert(about.call, call);
    }

    /// Why none of the candidates took a call whose caller was `told` so (docs/decisions/0002).
    fn rejection(
        &mut self,
        now: Instant,
        about: &About<'_>,
        tried: &[usize],
        told: u16,
    ) -> Result<u16, String> {
        let row = DIALLED
            .iter()
            .find(|(digit, _)| about.user.starts_with(digit));
        let candidates = row.map_or(&[][..], |(_, trunks)| *trunks);
        let untried = || candidates.iter().copied().filter(|at| !tried.contains(at));
        let mut seen = [false; 4];
        for at in untried() {
            let why = if !self.healthy[at] {
                2
            } else if !self.takes(at, about.offers) {
                3
            } else if !self.has_room(at, Way::Out) {
                0
            } else if at == 0 && self.take_token(now).is_err() {
                1
            } else {
                return Err(format!("refused, and {} has room", TRUNKS[at].0));
            };
            seen[why] = true;
        }
        // Whether one on probation was passed over for its state or for another reason is not known.
        let is_open = untried().any(|at| !self.steady[at]);
        Ok(match seen {
            _ if !tried.is_empty() => 500,
            _ if is_open && [480, 486, 488, 503].contains(&told) => told,
            [true, ..] => 486,
            [_, true, ..] => 503,
            [_, _, true, _] => 480,
            _ => 488,
        })
    }

    fn takes(&self, trunk: usize, offers: Option<&str>) -> bool {
        let is_choosy = !self.plan.routing.trunks[trunk].codecs.is_empty();
        !(is_choosy && offers == Some("3"))
    }

    /// Whether one more call fits into the maxima of a trunk and its groups.
    fn has_room(&self, trunk: usize, way: Way) -> bool {
        let routing = &self.plan.routing;
        let fits = |max: Option<u32>, used: usize| max.is_none_or(|max| (used as u32) < max);
        let limits = &routing.trunks[trunk].limits;
        let (inward, outward) = self.count(trunk);
        let own = match way {
            Way::In => fits(limits.calls_in_max, inward),
            Way::Out => fits(limits.calls_out_max, outward),
        };
        let groups = routing.groups.iter().filter(|group| {
            let mut members = group.members.iter();
            members.any(|member| usize::from(member.trunk.0) == trunk)
        });
        own && fits(limits.calls_max, inward + outward)
            && groups.into_iter().all(|group| {
                let used = group.members.iter().map(|member| {
                    let (inward, outward) = self.count(usize::from(member.trunk.0));
                    inward + outward
                });
                fits(group.limits.calls_max, used.sum())
            })
    }

    fn count(&self, trunk: usize) -> (usize, usize) {
        let inward = self.calls.values().filter(|call| call.from == trunk);
        let outward = self.calls.values().filter(|call| call.to == Some(trunk));
        (inward.count(), outward.count())
    }

    /// One call's share of the carrier's rate.
    fn take_token(&mut self, now: Instant) -> Result<(), String> {
        let Some(cps) = self.plan.routing.trunks[0].limits.cps else {
            return Ok(());
        };
        let passed = now.since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + passed * cps.sustain).min(f64::from(cps.burst.max(1)));
        // The node counts in whole nanoseconds.
        if self.tokens < 1.0 - 1e-6 {
            return Err("a call over the rate of the carrier".to_owned());
        }
        self.tokens -= 1.0;
        Ok(())
    }

    /// After each turn the counters are what the map says.
    pub fn compare(&self, limits: &Limits) -> Result<(), String> {
        for (at, trunk) in self.plan.routing.trunks.iter().enumerate() {
            let used = limits.used(SlotId(trunk.slot));
            let (inward, outward) = self.count(at);
            if (used.in_calls as usize, used.out_calls as usize) != (inward, outward) {
                return Err(format!(
                    "{}: the map has {inward} calls in and {outward} out, the node {used:?}",
                    trunk.name
                ));
            }
        }
        Ok(())
    }
}

/// The share of a trunk that is well.
const WHOLE: u16 = 1000;

#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

/// The trunk that an address belongs to.
fn trunk_of(address: SocketAddr) -> Option<usize> {
    let is_its = |addresses: &[&str]| {
        let mut parsed = addresses
            .iter()
            .filter_map(|one| one.parse::<SocketAddr>().ok());
        parsed.any(|one| one.ip() == address.ip())
    };
    TRUNKS.iter().position(|(_, addresses)| is_its(addresses))
}

impl World {
    /// What the model says to a message that leaves the node.
    pub fn foresee(
        &mut self,
        call: Option<usize>,
        to: SocketAddr,
        text: Text<'_>,
    ) -> Option<Result<(), String>> {
        let (model, call) = (self.model.as_mut()?, call?);
        let peer = &self.peers.calls[call];
        let talks = &self.judge.case(call).talks;
        let caller = &peer.legs[0];
        let about = About {
            call,
            caller: caller.at,
            user: &peer.user,
            offers: peer.script.offers,
            is_cancelled: caller.asked.iter().any(|asked| asked.method == "CANCEL"),
            is_hung_up: talks.iter().any(|(_, ended)| ended.is_some()),
        };
        // A caller behind a NAT is answered where it is.
        let to = caller
            .bound
            .filter(|bound| *bound == to)
            .map_or(to, |_| caller.at);
        let now = (self.now, self.node.clock(self.now));
        Some(model.sees_out(now, &about, to, text, &self.node.shared.board))
    }

    pub fn compare_with_model(&self) -> Option<Result<(), String>> {
        let model = self.model.as_ref().filter(|_| !self.closing)?;
        Some(model.compare(&self.node.shared.limits))
    }
}
