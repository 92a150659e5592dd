//! A new call: may it come in, which route line is it for, and what is remembered of it.

use std::sync::atomic::Ordering;

use super::Shard;
use super::journal::Step;
use super::next_hop::uri_address;
use super::path::Path;
use super::refusal::Refusal;
use super::relay::{Destination, Passed, Purpose, Relay, Setup};
use super::request::{Incoming, domain, is_number};
use crate::base::Instant;
use crate::dialog::{Call, CallKey, Part};
use crate::limit::{Direction, Lease, Refused, SlotId, Why};
use crate::metrics::{Counter, TrunkCounter};
use crate::net::Outbox;
use crate::route::health::State;
use crate::route::{Group, Target, Trunk, TrunkId};
use crate::sip::{HeaderId, Message, Method, Scheme, Uri, compose, status};
use crate::transaction::{Role, ServerId};

impl Shard {
    /// Admits an INVITE and starts its first attempt.
    pub(super) fn set_up(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        path: &Path<'_>,
        trunk: TrunkId,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        self.note_source(incoming, trunk);
        self.check_open(trunk)?;
        let Some((destination, line)) = self.destination(now, incoming, path, trunk, out)? else {
            return Ok(());
        };
        self.note(
            incoming.message,
            Step::Line {
                line,
                to: destination,
            },
        );
        self.check_session_interval(incoming.message, trunk, destination)?;
        let lease = self.admit_in(now, incoming.message, trunk)?;
        let call = self.begin_call(now, incoming, trunk, lease)?;
        let trunk_in = self.plan.routing.trunk(trunk).slot;
        let setup = Setup {
            call,
            trunk_in,
            to: destination,
            tried: 0,
            trunk_out: None,
            address_index: 0,
            addresses_tried: 0,
            sent: now,
            passed: Passed::default(),
        };
        let Some(server) = self.begin_transaction(now, incoming, setup) else {
            self.end_call(call, "no room for its transaction");
            return Err(Refusal::TRANSACTIONS_FULL);
        };
        if let Some(kept) = self.calls.set_up_mut(call) {
            kept.invite = Some(server);
        }
        self.metrics.count(Counter::CallsAdmitted);
        self.metrics.count_trunk(trunk_in, TrunkCounter::CallsIn);
        self.account_opened(call);
        self.note(incoming.message, Step::Admitted { trunk: trunk_in });
        self.answer_trying(now, server, incoming.message, out);
        self.attempt(now, server, incoming.message, path, out);
        Ok(())
    }

    fn note_source(&mut self, incoming: &Incoming<'_>, trunk: TrunkId) {
        let from = incoming.from.remote;
        if let Some((_, rule)) = self.sources.lookup(from) {
            let trunk = self.plan.routing.trunk(trunk).slot;
            self.note(incoming.message, Step::Came { from, trunk, rule });
        }
    }

    /// A node that drains, and a trunk that does, take no new calls.
    fn check_open(&self, trunk: TrunkId) -> Result<(), Refusal> {
        let slot = self.plan.routing.trunk(trunk).slot;
        let trunk_is_closed = matches!(
            self.shared.board.state(slot),
            State::Draining | State::Disabled
        );
        if trunk_is_closed || self.shared.draining.load(Ordering::Relaxed) {
            return Err(Refusal::DRAINING);
        }
        Ok(())
    }

    /// Where the call goes, and the line that says so; `None` when the route line answered it (a redirect).
    pub(super) fn destination(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        path: &Path<'_>,
        trunk: TrunkId,
        out: &mut Outbox,
    ) -> Result<Option<(Destination, u32)>, Refusal> {
        let uri = path.target_uri.ok_or(Refusal::NO_ROUTE)?;
        let user = uri.user.unwrap_or_default();
        let (_, line) = self
            .plan
            .routing
            .choose(trunk, user, is_number(&uri), domain(&uri, path.target))
            .ok_or(Refusal::NO_ROUTE)?;
        if let Some(accounts) = &mut self.accounts {
            accounts.note_line(line.line);
        }
        match &line.to {
            Target::Trunk(to) => {
                let slot = self.plan.routing.trunk(*to).slot;
                Ok(Some((Destination::Trunk(slot), line.line)))
            }
            Target::Group(to) => {
                let group = self.plan.routing.group(*to);
                let named = self.member_named_by_route(path, group);
                let to = named.map_or(Destination::Group(group.slot), |trunk| {
                    Destination::Trunk(self.plan.routing.trunk(trunk).slot)
                });
                Ok(Some((to, line.line)))
            }
            Target::Reject { status } => Err(Refusal::new(*status, Counter::RefusedByRoute)),
            Target::Redirect { uri: contact } => {
                let mut text = [0u8; 1024];
                let mut cursor = crate::base::Cursor::new(&mut text);
                put_contact(&mut cursor, contact.as_bytes(), user);
                if cursor.overflowed() {
                    return Err(Refusal::NO_ROUTE);
                }
                self.redirect(now, incoming, cursor.written(), out)?;
                Ok(None)
            }
        }
    }

    /// The member that a Route header names by its address. Among the members of the group that
    /// the route table chose a caller may pick; any other Route is left to whom the table chooses,
    /// so that no carrier gets to another one for which it has no route line.
    pub(super) fn member_named_by_route(&self, path: &Path<'_>, group: &Group) -> Option<TrunkId> {
        let uri = path.next_uri?;
        let address = uri_address(&uri)?;
        let mut members = group.members.iter().map(|member| member.trunk);
        members.find(|trunk| self.plan.routing.trunk(*trunk).addresses.contains(&address))
    }

    /// 302 with the route line's URI; one without a user takes that of the Request-URI.
    //= rfc3261#8.3
    fn redirect(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        contact: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        self.metrics.count(Counter::Redirected);
        let Incoming { message, from, .. } = *incoming;
        let tag = self.own_tag(message);
        let asker = self.asker(from);
        let extra: [(&[u8], &[u8]); 1] = [(b"Contact", contact)];
        let compose = |out: &mut crate::base::Cursor<'_>| {
            compose::response(
                out,
                message,
                asker,
                302,
                status::phrase(302),
                Some(&tag),
                &extra,
            );
        };
        if message.method() != Method::Invite {
            self.answer_stateless(from, message, out, compose);
            return Ok(());
        }
        let relay = Relay::local(Method::Invite, from);
        let server = self
            .transactions
            .accept(now, incoming.key, Role::Invite, incoming.reply_to, relay)
            .map_err(|_| Refusal::TRANSACTIONS_FULL)?;
        let sent = self.transactions.respond(now, server, 302, compose, out);
        self.count_sent(sent.is_ok());
        if sent.is_err() {
            self.transactions.abandon_server(server);
        }
        self.account_turned_away(now, incoming, Refusal::REDIRECTED);
        Ok(())
    }

    /// Takes the caller's side of the limits.
    fn admit_in(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        id: TrunkId,
    ) -> Result<Lease, Refusal> {
        let trunk = self.plan.routing.trunk(id);
        let slots = Slots::of(trunk);
        let limits = &self.shared.limits;
        let admitted = limits.admit(Direction::In, slots.as_slice(), now);
        let call_id = message.call_id_hash(&self.secret);
        let refused = admitted.as_ref().err().copied();
        self.note_limits(now, call_id, Direction::In, slots.as_slice(), refused);
        let trunk = self.plan.routing.trunk(id);
        let refused = match admitted {
            Ok(lease) => return Ok(lease),
            Err(refused) => refused,
        };
        if let Some(accounts) = &mut self.accounts {
            accounts.note_limit(None, refused);
        }
        self.metrics
            .count_trunk(trunk.slot, TrunkCounter::RefusedIn);
        Err(match refused.why {
            Why::Cps { retry_after_s } => Refusal::CPS.retry_after(retry_after_s),
            Why::CallsMax | Why::CallsInMax | Why::CallsOutMax => {
                Refusal::LIMIT_IN.with_status(self.over_limit(trunk, refused))
            }
        })
    }

    /// The answer that the trunk, or the group whose limit was reached, wants in place of the usual.
    pub(super) fn over_limit(&self, trunk: &Trunk, refused: Refused) -> Option<u16> {
        let group = self
            .group_at(refused.slot.0)
            .and_then(|group| group.over_limit);
        group.or(trunk.over_limit)
    }

    /// Makes the call's record; from here on it owns the lease.
    fn begin_call(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        trunk: TrunkId,
        lease: Lease,
    ) -> Result<CallKey, Refusal> {
        let message = incoming.message;
        let mut call = Call::ringing(
            self.shared.owner_key.hash(message.call_id()),
            message.call_id_hash(&self.secret),
            self.secret.hash(message.from_tag().unwrap_or_default()),
            self.random.next_u64() as u32,
            now,
        );
        call.trunk_in = self.plan.routing.trunk(trunk).slot;
        call.invite_cseq = message.cseq().map_or(0, |cseq| cseq.number);
        call.lease_in = Some(self.leases.keep(lease));
        match self.calls.insert(call, incoming.from) {
            Ok(key) => {
                self.keep_caller(key, incoming);
                Ok(key)
            }
            Err(mut call) => {
                if let Some(kept) = call.lease_in.take() {
                    self.shared.limits.give_back(self.leases.take(kept));
                }
                Err(Refusal::DIALOGS_FULL)
            }
        }
    }

    /// What the caller's INVITE says that outlives it.
    pub(super) fn keep_caller(&mut self, key: CallKey, incoming: &Incoming<'_>) {
        let message = incoming.message;
        let value = |id| message.value(id).unwrap_or_default();
        let contact = contact_uri(message);
        let mut routes = [0u8; 1024];
        let routes = routes_to_caller(message, &mut routes);
        let kept = self.calls.keep_texts(
            key,
            &[
                (Part::CallId, message.call_id()),
                (Part::From, value(HeaderId::From)),
                (Part::To, value(HeaderId::To)),
                (Part::CallerContact, contact),
                (Part::CallerRoute, routes),
                (Part::RequestUri, message.request_uri()),
            ],
        );
        if !kept {
            self.metrics.count(Counter::TextsNotKept);
        }
    }

    /// Makes the server transaction with its response context and a copy of the request.
    fn begin_transaction(
        &mut self,
        now: Instant,
        incoming: &Incoming<'_>,
        setup: Setup,
    ) -> Option<ServerId> {
        let request = self.requests.store(incoming.message.bytes())?;
        let relay = Relay {
            request,
            loop_check: incoming.loop_check,
            purpose: Purpose::Setup(setup),
            ..Relay::local(Method::Invite, incoming.from)
        };
        match self
            .transactions
            .accept(now, incoming.key, Role::Invite, incoming.reply_to, relay)
        {
            Ok(server) => Some(server),
            Err(_) => {
                self.requests.free(request);
                None
            }
        }
    }

    /// 100 before anything else can take time.
    //= rfc3261#16.2
    pub(super) fn answer_trying(
        &mut self,
        now: Instant,
        server: ServerId,
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        let Some(relay) = self.transactions.server_user(server) else {
            return;
        };
        let asker = self.asker(relay.from);
        let sent = self.transactions.respond(
            now,
            server,
            100,
            |cursor| compose::response(cursor, message, asker, 100, "Trying", None, &[]),
            out,
        );
        self.count_sent(sent.is_ok());
    }
}

/// The limit slots that a call over a trunk counts in: its own and its groups'.
pub(super) struct Slots {
    slots: [SlotId; Lease::SLOTS_MAX],
    count: usize,
}

impl Slots {
    pub(super) fn of(trunk: &Trunk) -> Slots {
        let mut slots = [SlotId(trunk.slot); Lease::SLOTS_MAX];
        let mut count = 1;
        for (room, group) in slots[1..].iter_mut().zip(&trunk.group_slots) {
            *room = SlotId(*group);
            count += 1;
        }
        Slots { slots, count }
    }

    /// The slot of a trunk that the plan does not name.
    pub(super) fn alone(slot: u16) -> Slots {
        Slots {
            slots: [SlotId(slot); Lease::SLOTS_MAX],
            count: 1,
        }
    }

    pub(super) fn as_slice(&self) -> &[SlotId] {
        &self.slots[..self.count]
    }
}

/// The remote target in a message's first Contact; empty when there is none.
pub(super) fn contact_uri<'m>(message: &crate::sip::Message<'m>) -> &'m [u8] {
    let first = message.values(crate::sip::HeaderId::Contact).next();
    let address = first.and_then(|value| message.address_uri(&value));
    address.map_or(&[], |(uri, _)| uri)
}

/// The Record-Route values of a request, joined by commas: the route set towards its sender.
//= rfc3261#12.1.1
pub(super) fn routes_to_caller<'b>(request: &Message<'_>, buffer: &'b mut [u8]) -> &'b [u8] {
    let mut cursor = crate::base::Cursor::new(buffer);
    for value in request.values(HeaderId::RecordRoute) {
        if !cursor.is_empty() {
            cursor.put(b", ");
        }
        cursor.put(value.bytes);
        if cursor.overflowed() {
            break;
        }
    }
    // A route set that does not fit is worth nothing.
    let len = if cursor.overflowed() { 0 } else { cursor.len() };
    &buffer[..len]
}

/// The first `count` Record-Route values of a response, backwards and joined by commas: the route
/// set towards its sender. Filled from the end, so that each value is read once.
//= rfc3261#12.1.2
pub(super) fn routes_to_callee<'b>(
    response: &Message<'_>,
    count: usize,
    buffer: &'b mut [u8],
) -> &'b [u8] {
    let mut start = buffer.len();
    for value in response.values(HeaderId::RecordRoute).take(count) {
        let comma: &[u8] = if start == buffer.len() { b"" } else { b", " };
        let needed = value.bytes.len() + comma.len();
        let Some(front) = start.checked_sub(needed) else {
            return &[];
        };
        let (text, separator) = buffer[front..start].split_at_mut(value.bytes.len());
        text.copy_from_slice(value.bytes);
        separator.copy_from_slice(comma);
        start = front;
    }
    &buffer[start..]
}

fn put_contact(out: &mut crate::base::Cursor<'_>, contact: &[u8], user: &[u8]) {
    out.put(b"<");
    match Uri::parse(contact) {
        Ok(uri)
            if matches!(uri.scheme, Scheme::Sip | Scheme::Sips)
                && uri.user.is_none()
                && !user.is_empty() =>
        {
            let rest = contact.get(uri.scheme_text.len() + 1..).unwrap_or_default();
            out.put(uri.scheme_text);
            out.put(b":");
            out.put(user);
            out.put(b"@");
            out.put(rest);
        }
        Ok(_) | Err(_) => out.put(contact),
    }
    out.put(b">");
}
