//! ACK in all its forms: for a non-2xx it ends at our INVITE server transaction, for a 2xx it goes
//! end to end without a transaction (RFC 3261 §16.11, §17.2.1), for anything else it is dropped.

use super::Shard;
use super::branch::{self, Branch};
use super::forward::Forwarding;
use super::next_hop::Hop;
use super::path::Path;
use crate::base::Instant;
use crate::metrics::Counter;
use crate::net::{Flow, Outbox};
use crate::sip::{HeaderId, Message, Method};
use crate::transaction::{ServerKey, ServerState, server_invite};

impl Shard {
    /// Takes one ACK.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        from: Flow,
        message: &Message<'_>,
        key: &ServerKey,
        out: &mut Outbox,
    ) {
        use server_invite::State;
        let server = self.transactions.find_server(key);
        let state = server.and_then(|server| self.transactions.server_state(server));
        if let (Some(server), Some(ServerState::Invite(State::Completed | State::Confirmed))) =
            (server, state)
        {
            return self.transactions.acked(now, server);
        }
        // Of a refusal that nothing was kept of.
        //= rfc3261#8.2.7
        if message.to_tag() == Some(&self.own_tag(message)[..]) {
            return self.metrics.count(Counter::AcksAbsorbed);
        }
        let path = self.path(message);
        if matches!(message.max_forwards(), Ok(Some(0)))
            || matches!(message.max_breadth(), Ok(Some(0)))
        {
            return self.metrics.count(Counter::DroppedStrayAck);
        }
        let trunk = self.sources.lookup(from.remote).map(|(trunk, _)| trunk);
        let in_call = self
            .match_dialog(message, &path)
            .and_then(|matched| self.hop_in_call(matched, &path));
        let proven = || {
            message.to_tag()?;
            let to = self.proven_next_flow(trunk, Method::Ack, &path);
            to.map(Hop::as_asked)
        };
        match in_call.or_else(proven) {
            Some(hop) => self.forward_stateless(from, message, &path, hop, out),
            None => self.metrics.count(Counter::DroppedStrayAck),
        }
    }

    /// Forwards a request without a transaction; a retransmission of it gets the same branch.
    //= rfc3261#16.11
    pub(super) fn forward_stateless(
        &mut self,
        from: Flow,
        message: &Message<'_>,
        path: &Path<'_>,
        hop: Hop,
        out: &mut Outbox,
    ) {
        let trunk = self.sources.lookup(from.remote).map(|(trunk, _)| trunk);
        let mut digest = self.secret.digest();
        digest.text(message.value(HeaderId::Via).unwrap_or_default());
        digest.text(message.value(HeaderId::CSeq).unwrap_or_default());
        let call_id = message.call_id_hash(&self.secret);
        let branch = Branch {
            token: branch::token(&self.secret, digest.finish() as u32, call_id),
            loop_check: self.loop_check(message, trunk),
        };
        self.splice_request(&Forwarding {
            message,
            from,
            to: hop.to,
            path,
            branch,
            target: hop.target,
            record_route: None,
            session: None,
            asks_load: false,
        });
        let edit = &self.edit;
        let sent = out.write(hop.to, |cursor| {
            if edit.write(message.bytes(), cursor).is_err() {
                cursor.spoil();
            }
        });
        let sent = sent.is_ok();
        self.count_sent(sent);
    }
}
