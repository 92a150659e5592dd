//! Who gets as far as the parser: access list, bans, and who has earned one. A trunk always does.

use core::time::Duration;

use super::{Shard, Shared};
use crate::base::Instant;
use crate::base::hash::HashKey;
use crate::guard::bans::{Ban, Bans, Reason, SharedBans};
use crate::guard::strangers::{Offence, Strangers};
use crate::guard::{Block, access};
use crate::metrics::Counter;
use crate::net::Flow;

/// What a shard knows of those who are not its trunks.
#[derive(Debug)]
pub(super) struct Gate {
    key: HashKey,
    strangers: Strangers,
    /// This shard's copy of the node's bans, and what it was copied from.
    bans: Bans,
    version: u64,
    look_due: Instant,
}

/// How old the copy of the bans may be.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Gate {
    pub fn new(key: HashKey) -> Gate {
        Gate {
            key,
            strangers: Strangers::default(),
            bans: Bans::new(SharedBans::BANS_MAX, key),
            version: 0,
            look_due: Instant::START,
        }
    }

    /// Takes over what other shards and the operator have changed.
    pub fn follow(&mut self, now: Instant, shared: &Shared) {
        if now < self.look_due {
            return;
        }
        self.look_due = now + LOOK_EVERY;
        if shared.bans.version() != self.version
            && let Some(version) = shared.bans.copy_to(&mut self.bans)
        {
            self.version = version;
        }
    }
}

impl Shard {
    /// Whether a datagram is dropped for where it comes from, whatever it is.
    pub(super) fn turns_back(&mut self, now: Instant, from: Flow) -> bool {
        self.gate.follow(now, &self.shared);
        let access = &self.plan.guard.access;
        if self.gate.bans.is_empty() && access.is_open() {
            return false;
        }
        let ip = from.remote.ip();
        let counter = match self.gate.bans.find(now, ip).map(|ban| ban.reason) {
            Some(Reason::Operator) => Counter::DroppedBannedOperator,
            Some(Reason::UnknownRate) => Counter::DroppedBannedUnknownRate,
            Some(Reason::Malformed) => Counter::DroppedBannedMalformed,
            None if access.denies(ip) => Counter::DroppedDenied,
            None => return false,
        };
        // Looked up last, since this is asked of nobody else: whom a trunk's block covers is served.
        if self.sources.lookup(from.remote).is_some() {
            return false;
        }
        self.metrics.count(counter);
        true
    }

    /// Notes that somebody who is no trunk sent what nobody needed; too much of it is a ban.
    pub(super) fn note_stranger(&mut self, now: Instant, from: Flow, what: Offence) {
        let guard = &self.plan.guard;
        let ip = from.remote.ip();
        if !guard.bans_by_itself() || self.sources.lookup(from.remote).is_some() {
            return;
        }
        let block = Block::source(ip);
        let shards = self.shared.mail.shards();
        let bearable = guard.bearable(shards);
        let source = block.hash(&self.gate.key);
        if self.gate.strangers.note(now, source, what, &bearable)
            && guard.access.exempts(ip) == access::Exempt::No
        {
            self.ban(now, block, what);
        }
    }

    fn ban(&mut self, now: Instant, block: Block, what: Offence) {
        let (reason, counter) = match what {
            Offence::Unasked => (Reason::UnknownRate, Counter::BannedUnknownRate),
            Offence::Malformed => (Reason::Malformed, Counter::BannedMalformed),
        };
        let ban = Ban {
            block,
            reason,
            note: None,
            since: now,
            until: now + self.plan.guard.ban_time,
        };
        // An operator who looks at them meanwhile holds this up until the next offence.
        let made = self.shared.bans.try_change(|bans| bans.add(now, ban));
        match made {
            Some(Ok(())) => {
                self.metrics.count(counter);
                // Here at once, elsewhere within the time of one look.
                self.gate.look_due = now;
                self.gate.follow(now, &self.shared);
            }
            Some(Err(_)) => self.metrics.count(Counter::BansFull),
            None => {}
        }
    }
}
