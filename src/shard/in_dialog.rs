//! Requests inside a dialog, and those outside of any call that a trunk sends through: where they
//! go, and what they change in the call's record.

use super::Shard;
use super::attempt::Launch;
use super::cookie::Cookie;
use super::forward::{Forwarding, makes_dialog, sip_session};
use super::journal::Step;
use super::next_hop::Hop;
use super::path::Path;
use super::refusal::Refusal;
use super::relay::{Alarm, Attempt, Purpose, Relay};
use super::request::{Incoming, domain, is_number};
use super::session_timer::knows_timers;
use crate::base::Instant;
use crate::dialog::{Match, Phase, Side};
use crate::metrics::Counter;
use crate::net::Outbox;
use crate::route::policy::{Choice, next_member};
use crate::route::{Group, Member, Target as RouteTarget, TrunkId};
use crate::sip::{Message, Method};
use crate::transaction::{Role, ServerId};

impl Shard {
    /// A request with a To tag: inside a live call, inside a dialog that our Record-Route proves, between
    /// two trunks, or a trunk's and then routed like a new one; anything else is not ours.
    pub(super) fn pass_in_dialog(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        path: &Path<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let matched = self
            .match_dialog(incoming.message, path)
            .or_else(|| self.learn_dialog(incoming.message, path));
        if let Some(matched) = matched {
            return self.pass_matched(now, incoming, path, matched, out);
        }
        let method = incoming.message.method();
        // Never an INVITE: to whom its dialog is unknown it is a new call, which is the route table's.
        let proven = match method {
            Method::Invite => None,
            _ => self.proven_next_flow(incoming.trunk, method, path),
        };
        if let Some(to) = proven {
            let purpose = Purpose::Outside {
                trunk_out: None,
                address_index: 0,
            };
            return self.relay(now, incoming, path, Hop::as_asked(to), None, purpose, out);
        }
        match (incoming.trunk, method) {
            // A trunk's request is routed whatever its To tag says: its dialog may be older than
            // this node, and it is the callee who knows.
            (Some(_), _) => self.pass_new(now, incoming, path, out),
            (None, Method::Invite) => Err(Refusal::UNKNOWN_SOURCE),
            (None, _) => Err(Refusal::NO_DIALOG),
        }
    }

    /// The dialog of a callee whose request overtakes all its answers: a BYE that comes before the 2xx
    /// it follows would else pass unnoticed, and the 2xx begin a call that nobody ends. Our own
    /// Record-Route proves that the INVITE was answered under this tag.
    fn learn_dialog(&mut self, message: &Message<'_>, path: &Path<'_>) -> Option<Match> {
        let nonce = path.cookie?.nonce;
        let tag = |tag: Option<&[u8]>| tag.map(|tag| self.secret.hash(tag));
        let (callee, caller) = (tag(message.from_tag())?, tag(message.to_tag())?);
        let call_id = message.call_id_hash(&self.secret);
        let call = self.calls.find_passage(call_id, caller, nonce)?;
        let fork = self.calls.learn_fork(call, callee).ok()?;
        Some(Match {
            call,
            fork,
            from: Side::Callee,
        })
    }

    /// The live dialog that a request names by its Call-ID and both tags.
    pub(super) fn match_dialog(&self, message: &Message<'_>, path: &Path<'_>) -> Option<Match> {
        let tag = |tag: Option<&[u8]>| self.secret.hash(tag.unwrap_or_default());
        self.calls.find(
            message.call_id_hash(&self.secret),
            tag(message.from_tag()),
            tag(message.to_tag()),
            path.cookie.map(|cookie| cookie.nonce),
        )
    }

    fn pass_matched(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        path: &Path<'_>,
        matched: Match,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let message = incoming.message;
        self.remember_cseq(message, matched)?;
        if message.method() == Method::Bye {
            self.account_bye(now, matched.call, matched.from, message);
            self.note_call(matched.call, Step::HungUp { side: matched.from });
        }
        let call = self.calls.call(matched.call).ok_or(Refusal::NO_DIALOG)?;
        let (trunk_in, trunk_out) = (call.trunk_in, call.trunk_out());
        let Some(hop) = self.hop_in_call(matched, path) else {
            if message.method() == Method::Bye {
                // The sender has hung up, wherever it wanted to say so (RFC 3261 §15.1.1).
                self.end_fork(matched.call, matched.fork);
            }
            return Err(Refusal::UNRESOLVABLE);
        };
        let session = match message.method() {
            Method::Invite | Method::Update => {
                self.check_refresh(message, trunk_in, trunk_out)?;
                Some(self.session_headers(message, trunk_in, trunk_out))
            }
            _ => None,
        };
        let purpose = Purpose::InDialog {
            call: matched.call,
            fork: matched.fork,
        };
        let relayed = self.relay(now, incoming, path, hop, session, purpose, out);
        if message.method() == Method::Bye {
            self.bye_passed(matched, relayed.is_ok());
        }
        // The CSeq, and that a BYE is under way.
        self.record(matched.call);
        if message.method() == Method::Bye && relayed.is_err() {
            // The other side must hear of the end even when no transaction can be kept.
            self.forward_stateless(incoming.from, message, path, hop, out);
            return Ok(());
        }
        relayed
    }

    /// The call is ending; without a transaction to wait for, it has ended.
    fn bye_passed(&mut self, matched: Match, is_relayed: bool) {
        if let Some(fork) = self.calls.fork_mut(matched.fork) {
            fork.hung_up = true;
        }
        if let Some(call) = self
            .calls
            .call_mut(matched.call)
            .filter(|call| call.phase == Phase::Answered)
        {
            call.phase = Phase::Ending;
        }
        if !is_relayed {
            self.end_fork(matched.call, matched.fork);
        }
    }

    /// Keeps the highest CSeq of each side. A lower one in an INVITE is counted and, where the trunk
    /// says so, refused as the seed's server does.
    //= rfc3261#12.2.2
    fn remember_cseq(&mut self, message: &Message<'_>, matched: Match) -> Result<(), Refusal> {
        let Ok(cseq) = message.cseq() else {
            return Ok(());
        };
        let strict = self.is_cseq_strict(matched);
        let Some(fork) = self.calls.fork_mut(matched.fork) else {
            return Ok(());
        };
        match fork.cseq(matched.from) {
            Some(highest) if cseq.number < highest => {
                if message.method() == Method::Invite {
                    self.metrics.count(Counter::CseqLower);
                    if strict {
                        return Err(Refusal::CSEQ_LOWER);
                    }
                }
            }
            Some(_) | None => fork.set_cseq(matched.from, Some(cseq.number)),
        }
        Ok(())
    }

    fn is_cseq_strict(&self, matched: Match) -> bool {
        let Some(call) = self.calls.call(matched.call) else {
            return false;
        };
        let slot = match matched.from {
            Side::Caller => Some(call.trunk_in),
            Side::Callee => call.trunk_out(),
        };
        slot.and_then(|slot| self.trunk_at(slot))
            .is_some_and(|trunk| trunk.cseq_strict)
    }

    /// A request outside of any call from a trunk, by the route table.
    pub(super) fn pass_outside(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        path: &Path<'_>,
        trunk: TrunkId,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let Some((slot, address_index)) = self.outside_target(now, incoming, path, trunk)? else {
            return self.redirect_outside(now, incoming, path, trunk, out);
        };
        let address = self
            .trunk_at(slot)
            .and_then(|trunk| trunk.addresses.get(address_index).copied());
        let to = address
            .and_then(|address| self.flow_to(address))
            .ok_or(Refusal::TRUNK_DOWN)?;
        let purpose = Purpose::Outside {
            trunk_out: Some(slot),
            address_index: address_index as u8,
        };
        let hop = Hop {
            to,
            target: Shard::target_at(path, to.remote),
        };
        self.relay(now, incoming, path, hop, None, purpose, out)
    }

    /// Trunk slot and address for a request outside of any call; `None` = the line redirects.
    fn outside_target(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        path: &Path<'_>,
        trunk: TrunkId,
    ) -> Result<Option<(u16, usize)>, Refusal> {
        let uri = path.target_uri.ok_or(Refusal::NO_ROUTE)?;
        let user = uri.user.unwrap_or_default();
        let routing = &self.plan.routing;
        let found = routing.choose(trunk, user, is_number(&uri), domain(&uri, path.target));
        let to = match &found.ok_or(Refusal::NO_ROUTE)?.1.to {
            RouteTarget::Trunk(to) => *to,
            RouteTarget::Group(to) => {
                let group = routing.group(*to);
                self.member_named_by_route(path, group)
                    .or_else(|| self.outside_member(now, incoming, group))
                    .ok_or(Refusal::TRUNK_DOWN)?
            }
            RouteTarget::Reject { status } => {
                return Err(Refusal::new(*status, Counter::RefusedByRoute));
            }
            RouteTarget::Redirect { .. } => return Ok(None),
        };
        let trunk = self.plan.routing.trunk(to);
        let board = &self.shared.board;
        let address = board.first_alive_address(trunk.slot, trunk.addresses.len(), 0);
        let usable = address.filter(|_| board.usable(trunk.slot));
        usable
            .map(|at| Some((trunk.slot, at)))
            .ok_or(Refusal::TRUNK_DOWN)
    }

    fn outside_member(
        &self,
        now: Instant,
        incoming: &Incoming<'_>,
        group: &Group,
    ) -> Option<TrunkId> {
        let routing = &self.plan.routing;
        let slot_of = |trunk: TrunkId| routing.trunk(trunk).slot;
        let usable = |member: &Member| self.shared.board.usable(slot_of(member.trunk));
        let share = |trunk: TrunkId| self.shared.board.share(slot_of(trunk), now);
        let hash = incoming.message.call_id_hash(&self.secret);
        let choice = Choice {
            plan: routing,
            group,
            tried: 0,
            call_id_hash: hash,
            random: hash,
            turn: hash as u32,
            usable: &usable,
            calls: &|_| 0,
            share: &share,
        };
        next_member(&choice)
            .and_then(|position| group.members.get(position))
            .map(|member| member.trunk)
    }

    fn redirect_outside(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        path: &Path<'_>,
        trunk: TrunkId,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        self.destination(now, incoming, path, trunk, out)
            .map(|_| ())
    }

    /// Forwards a request that is not a call set-up, with a transaction on each side.
    #[expect(
        clippy::too_many_arguments,
        reason = "the step has that many inputs; a struct would name them once more"
    )]
    fn relay(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        path: &Path<'_>,
        hop: Hop,
        session: Option<(Option<sip_session::Headers>, Option<u32>)>,
        purpose: Purpose,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let message = incoming.message;
        let method = message.method();
        let server = self.begin_relay(
            now,
            incoming,
            purpose,
            session.and_then(|(_, sent_s)| sent_s),
        )?;
        if method == Method::Invite {
            self.answer_trying(now, server, message, out);
        } else {
            self.arm_trying(now, server);
        }
        let branch = self.new_branch(message, incoming.loop_check);
        let is_new = message.to_tag().is_none();
        let record_route = (is_new && makes_dialog(method)).then_some(Cookie {
            nonce: (branch.token >> 32) as u32,
        });
        self.splice_request(&Forwarding {
            message,
            from: incoming.from,
            to: hop.to,
            path,
            branch,
            target: hop.target,
            record_route,
            session: session.and_then(|(headers, _)| headers),
            asks_load: false,
        });
        let trunk_out = match purpose {
            Purpose::Outside { trunk_out, .. } => trunk_out,
            Purpose::InDialog { .. } | Purpose::Setup(_) | Purpose::Local => None,
        };
        let attempt = Attempt::Relay { server, trunk_out };
        match self.send_spliced(now, branch, message, hop.to, attempt, out) {
            Ok(client) => {
                if let Some(relay) = self.transactions.server_user_mut(server) {
                    relay.client = Some(client);
                    relay.token = branch.token;
                }
                Ok(())
            }
            Err(fault) => {
                let refusal = match fault {
                    Launch::Full | Launch::Unreachable => Refusal::TRANSACTIONS_FULL,
                    Launch::TooLarge => Refusal::TOO_LARGE,
                };
                if method == Method::Invite {
                    self.refuse_server(now, server, message, refusal, out);
                    return Ok(());
                }
                self.transactions.abandon_server(server);
                Err(refusal)
            }
        }
    }

    /// Timer E of the sender is reset to T2 by then: 3.5 s with the default values.
    //= rfc4320#4.1
    fn arm_trying(&mut self, now: Instant, server: ServerId) {
        let timings = self.plan.timings;
        let at = now + timings.t2.saturating_sub(timings.t1);
        let timer = self.alarms.arm(at, Alarm::Trying(server));
        if let Some(relay) = self.transactions.server_user_mut(server) {
            relay.timer = timer.unwrap_or_default();
        }
    }

    fn begin_relay(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        purpose: Purpose,
        session_sent_s: Option<u32>,
    ) -> Result<ServerId, Refusal> {
        let message = incoming.message;
        let request = self
            .requests
            .store(message.bytes())
            .ok_or(Refusal::TRANSACTIONS_FULL)?;
        let relay = Relay {
            request,
            loop_check: incoming.loop_check,
            purpose,
            session_sent_s,
            caller_knows_timers: session_sent_s.is_some() && knows_timers(message),
            ..Relay::local(message.method(), incoming.from)
        };
        let role = Role::of(message.method());
        self.transactions
            .accept(now, incoming.key, role, incoming.reply_to, relay)
            .map_err(|_| {
                self.requests.free(request);
                Refusal::TRANSACTIONS_FULL
            })
    }
}
