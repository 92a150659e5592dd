//! Requests inside a dialog, and those outside of any call that a trunk sends through: where they
//! go, and what they change in the call's record.

use super::Shard;
use super::attempt::Launch;
use super::cookie::Cookie;
use super::forward::{Forwarding, Target, contact_of, makes_dialog, sip_session};

use super::path::Path;
use super::refusal::Refusal;
use super::relay::{Attempt, Purpose, Relay};
use super::request::{Incoming, domain};
use crate::base::Instant;
use crate::dialog::{Match, Phase, Side};
use crate::metrics::Counter;
use crate::net::{Flow, Outbox};
use crate::route::policy::{Choice, next_member};
use crate::route::{Member, Target as RouteTarget, TrunkId};
use crate::sip::{Message, Method, Uri};
use crate::transaction::{Role, ServerId};

/// Where a request goes and what its Request-URI becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    pub to: Flow,
    pub target: Target,
}

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
        if let Some(matched) = self.match_dialog(incoming.message, path) {
            return self.pass_matched(now, incoming, path, matched, out);
        }
        if let Some(to) = self.proven_next_flow(incoming.trunk, path) {
            let purpose = Purpose::Outside {
                trunk_out: None,
                address_index: 0,
            };
            let hop = Hop {
                to,
                target: Target::AsAsked,
            };
            return self.relay(now, incoming, path, hop, None, purpose, out);
        }
        match (incoming.trunk, incoming.message.method()) {
            // A trunk's request is routed whatever its To tag says: its dialog may be older than
            // this node, and it is the callee who knows.
            (Some(_), _) => self.pass_new(now, incoming, path, out),
            (None, Method::Invite) => Err(Refusal::UNKNOWN_SOURCE),
            (None, _) => Err(Refusal::NO_DIALOG),
        }
    }

    /// The live dialog that a request names by its Call-ID and both tags.
    pub(super) fn match_dialog(&self, message: &Message<'_>, path: &Path<'_>) -> Option<Match> {
        let tag = |tag: Option<&[u8]>| self.secret.hash(tag.unwrap_or_default());
        self.calls.find(
            self.secret.hash(message.call_id()),
            tag(message.from_tag()),
            tag(message.to_tag()),
            path.cookie.map(|cookie| cookie.nonce),
        )
    }

    /// Where a request goes that belongs to no live call: only if our own Record-Route proves its
    /// dialog, or from a trunk to the address of a trunk.
    pub(super) fn proven_next_flow(&self, from: Option<TrunkId>, path: &Path<'_>) -> Option<Flow> {
        let to = self.next_flow(path, None)?;
        let between_trunks = || {
            let is_trunks = |address| {
                self.plan
                    .routing
                    .trunks
                    .iter()
                    .any(|trunk| trunk.addresses.contains(address))
            };
            from.is_some() && is_trunks(&to.remote)
        };
        (path.cookie.is_some() || between_trunks()).then_some(to)
    }

    /// Where a request of a live call goes. One that names us, for want of a route set, goes to the
    /// Contact of the other end at the address where that end was learned.
    pub(super) fn hop_in_call(&self, matched: Match, path: &Path<'_>) -> Option<Hop> {
        let call = self.calls.call(matched.call)?;
        let learned = match matched.from {
            Side::Caller => call.callee,
            Side::Callee => Some(call.caller),
        };
        let names_us = || Uri::parse(path.target).is_ok_and(|uri| self.is_our_uri(&uri));
        if path.next.is_some() || !names_us() {
            let to = self.next_flow(path, learned)?;
            return Some(Hop {
                to,
                target: Target::AsAsked,
            });
        }
        let to = learned?;
        let end = matched.from.other();
        let target = match self.calls.text(matched.call, contact_of(end)) {
            b"" => Target::At(to.remote),
            _ => Target::Contact(matched.call, end),
        };
        Some(Hop { to, target })
    }

    /// The flow to the next hop of a path. Host names are not looked up on the path of a call: the
    /// address where the peer was `learned` stands for them.
    pub(super) fn next_flow(&self, path: &Path<'_>, learned: Option<Flow>) -> Option<Flow> {
        let uri = Uri::parse(path.next_hop()).ok()?;
        let Some(ip) = uri.host.ip() else {
            return learned;
        };
        let port = uri.port.unwrap_or(5060);
        let is_nobody = ip.is_unspecified() || ip.is_multicast() || port == 0;
        let is_broadcast = matches!(ip, core::net::IpAddr::V4(v4) if v4.is_broadcast());
        if is_nobody || is_broadcast {
            return None;
        }
        self.flow_to(core::net::SocketAddr::new(ip, port))
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
        let call = self.calls.call(matched.call).ok_or(Refusal::NO_DIALOG)?;
        let (trunk_in, trunk_out) = (call.trunk_in, call.trunk_out);
        let hop = self
            .hop_in_call(matched, path)
            .ok_or(Refusal::UNRESOLVABLE)?;
        let session = match message.method() {
            Method::Invite | Method::Update => {
                Some(self.session_headers(message, trunk_in, trunk_out))
            }
            _ => None,
        };
        let purpose = Purpose::InDialog { call: matched.call };
        let relayed = self.relay(now, incoming, path, hop, session, purpose, out);
        if message.method() == Method::Bye {
            self.bye_passed(matched, relayed.is_ok());
            if relayed.is_err() {
                // The other side must hear of the end even when no transaction can be kept.
                self.forward_stateless(incoming.from, message, path, hop, out);
                return Ok(());
            }
        }
        relayed
    }

    /// The call is ending; without a transaction to wait for, it has ended.
    fn bye_passed(&mut self, matched: Match, is_relayed: bool) {
        if let Some(fork) = self.calls.fork_mut(matched.fork) {
            fork.ending = true;
        }
        if let Some(call) = self
            .calls
            .call_mut(matched.call)
            .filter(|call| call.phase == Phase::Answered)
        {
            call.phase = Phase::Ending;
        }
        if !is_relayed {
            self.end_fork(matched.call);
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
        let remembered = fork.cseq_mut(matched.from);
        match *remembered {
            Some(highest) if cseq.number < highest => {
                if message.method() == Method::Invite {
                    self.metrics.count(Counter::CseqLower);
                    if strict {
                        return Err(Refusal::CSEQ_LOWER);
                    }
                }
            }
            Some(_) | None => *remembered = Some(cseq.number),
        }
        Ok(())
    }

    fn is_cseq_strict(&self, matched: Match) -> bool {
        let Some(call) = self.calls.call(matched.call) else {
            return false;
        };
        let slot = match matched.from {
            Side::Caller => Some(call.trunk_in),
            Side::Callee => call.trunk_out,
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
            target: self.target_at(path, to.remote),
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
        let to = match self.trunk_named_by_route(path) {
            Some(named) => named,
            None => {
                let uri = Uri::parse(path.target).map_err(|_| Refusal::NO_ROUTE)?;
                let user = uri.user.unwrap_or_default();
                let found = self
                    .plan
                    .routing
                    .choose(trunk, user, domain(&uri, path.target));
                match &found.ok_or(Refusal::NO_ROUTE)?.1.to {
                    RouteTarget::Trunk(to) => *to,
                    RouteTarget::Group(to) => self
                        .outside_member(now, incoming, to.0)
                        .ok_or(Refusal::TRUNK_DOWN)?,
                    RouteTarget::Reject { status } => {
                        return Err(Refusal::new(*status, Counter::RefusedByRoute));
                    }
                    RouteTarget::Redirect { .. } => return Ok(None),
                }
            }
        };
        let trunk = self.plan.routing.trunk(to);
        let board = &self.shared.board;
        let address = board.first_alive_address(trunk.slot, trunk.addresses.len(), 0);
        let usable = address.filter(|_| board.usable(trunk.slot));
        usable
            .map(|at| Some((trunk.slot, at)))
            .ok_or(Refusal::TRUNK_DOWN)
    }

    fn outside_member(&self, now: Instant, incoming: &Incoming<'_>, group: u16) -> Option<TrunkId> {
        let routing = &self.plan.routing;
        let group = routing.groups.get(usize::from(group))?;
        let slot_of = |trunk: TrunkId| routing.trunk(trunk).slot;
        let usable = |member: &Member| self.shared.board.usable(slot_of(member.trunk));
        let share = |trunk: TrunkId| self.shared.board.share(slot_of(trunk), now);
        let hash = self.secret.hash(incoming.message.call_id());
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
            self.answer_trying(now, server, incoming, out);
        }
        let branch = self.new_branch(message);
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
        });
        match self.send_spliced(now, branch, message, hop.to, Attempt::Relay(server), out) {
            Ok(client) => {
                if let Some(relay) = self.transactions.server_user_mut(server) {
                    relay.client = Some(client);
                    relay.token = branch.token;
                }
                Ok(())
            }
            Err(Launch::Full | Launch::Unreachable) => {
                if method == Method::Invite {
                    self.refuse_server(now, server, message, Refusal::TRANSACTIONS_FULL, out);
                    return Ok(());
                }
                self.transactions.abandon_server(server);
                Err(Refusal::TRANSACTIONS_FULL)
            }
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
            purpose,
            session_sent_s,
            caller_knows_timers: super::session_timer::asked(message).supported,
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
