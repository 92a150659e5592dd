//! The table of live calls, keyed by Call-ID and tags.
//!
//! A call is one INVITE that was admitted and all dialogs it grew: the caller's half and the first
//! To-tag that answered are one record, each further one is a fork linked to it. What a call holds of the limits (`L`) is kept in
//! its record and leaves the table through [`Calls::end`] only.

use core::net::IpAddr;

use crate::base::cells::Cells;
use crate::base::slab::{Key, Slab};
use crate::base::table::Index;
use crate::base::{Dial, Fresh, Instant};
use crate::net::{CompactFlow, Flow, WideAddress};

use super::call::{Call, Fork, NONE, Phase, SetUp, Side};
use super::texts::{Part, TextStore, Words};

/// Names a call; stale once the call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey(pub Key);

/// Names a fork of a call; stale once the call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ForkKey {
    /// The one that stands in the record of its call.
    First(CallKey),
    /// Any other.
    Further(Key),
}

/// A table is full; nothing was inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A request that belongs to a live dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    pub call: CallKey,
    pub fork: ForkKey,
    pub from: Side,
}

/// All live calls of one shard.
pub struct Calls<L> {
    pub(super) calls: Slab<Call<L>>,
    by_call_id: Index,
    /// Forks beyond the first of their call.
    forks: Slab<Fork>,
    /// Calls that have a first one.
    first_forks: usize,
    set_ups: Slab<SetUp>,
    /// IPv6 addresses of the ends.
    wide: Slab<WideAddress>,
    pub(super) dial: Dial,
    texts: TextStore,
}

impl<L> Calls<L> {
    /// Forks that one call may have; what a forking peer adds beyond is passed on but not remembered.
    pub const FORKS_MAX: usize = 16;

    /// Live calls of one Call-ID: a call spirals a few times. All calls under one Call-ID stand in
    /// one run of the index, which every look-up of theirs walks.
    pub const PASSAGES_MAX: usize = 64;

    /// Room for the words of a call on average; a longer one borrows from shorter ones. Words like
    /// those of an earlier call take some 80 octets of it, and only what was taken is memory; a
    /// node whose calls are all unlike takes what the words are long.
    pub const TEXT_OCTETS_EACH: usize = 12 * Cells::OCTETS;

    /// What the words of a few unlike calls take, where there is room for a few calls.
    const CELLS_MIN: usize = 4096;

    /// Room for `dialogs_max` calls and a quarter as many further forks.
    pub fn new(dialogs_max: usize) -> Calls<L> {
        Calls {
            calls: Slab::new(dialogs_max),
            by_call_id: Index::new(dialogs_max),
            forks: Slab::new(dialogs_max / 4),
            first_forks: 0,
            set_ups: Slab::new(dialogs_max),
            wide: Slab::new(2 * dialogs_max),
            dial: Dial::new(Instant::START),
            texts: TextStore::new(
                (dialogs_max * Self::TEXT_OCTETS_EACH / Cells::OCTETS).max(Self::CELLS_MIN),
            ),
        }
    }

    /// Memory that no call ever took.
    pub fn fresh(&self) -> [Fresh; 3] {
        [self.calls.fresh(), self.set_ups.fresh(), self.texts.fresh()]
    }

    /// Octets in use, by what they are used for.
    pub fn octets_used(&self) -> [(&'static str, usize); 6] {
        [
            ("calls", self.calls.octets_used()),
            ("forks", self.forks.octets_used()),
            ("set-ups", self.set_ups.octets_used()),
            ("IPv6", self.wide.octets_used()),
            ("index", self.by_call_id.octets()),
            ("words", self.texts.octets_used()),
        ]
    }

    /// Octets that one dialog takes at most, for the memory budget.
    pub const fn octets_each() -> usize {
        // Of each slab but that of the few forks: four for a call, two of them for its ends.
        let free_places = 4 * size_of::<u32>();
        free_places
            + Slab::<Call<L>>::OCTETS_EACH
            + Slab::<Fork>::OCTETS_EACH / 4
            + Slab::<SetUp>::OCTETS_EACH
            + 2 * Slab::<WideAddress>::OCTETS_EACH
            + Index::OCTETS_EACH
            + Self::TEXT_OCTETS_EACH
    }

    /// Says that a call with this Call-ID, hashed, will be looked for or begun soon.
    pub fn expect(&self, call_id: u64) {
        self.by_call_id.expect(call_id);
    }

    /// Inserts a call from `caller`; gives it back when the table is full, or full of calls with
    /// this Call-ID.
    #[expect(
        clippy::result_large_err,
        reason = "the call goes back by value: a box would be an allocation"
    )]
    pub fn insert(&mut self, mut call: Call<L>, caller: Flow) -> Result<CallKey, Call<L>> {
        let hash = call.call_id();
        if self.passages(hash) >= Self::PASSAGES_MAX || self.calls.len() == self.calls.capacity() {
            return Err(call);
        }
        call.caller = Some(self.compact(caller));
        let key = self.calls.insert(call)?;
        self.by_call_id.insert(hash, key.index);
        Ok(CallKey(key))
    }

    fn passages(&self, call_id: u64) -> usize {
        let mut count = 0;
        self.by_call_id.find(call_id, |index| {
            count += usize::from(call_id_at(&self.calls, index) == call_id);
            false
        });
        count
    }

    /// The live call named by `key`.
    pub fn call(&self, key: CallKey) -> Option<&Call<L>> {
        self.calls.get(key.0)
    }

    /// The live call named by `key`, to change it.
    pub fn call_mut(&mut self, key: CallKey) -> Option<&mut Call<L>> {
        self.calls.get_mut(key.0)
    }

    /// Where the caller of a call is.
    pub fn caller(&self, call: &Call<L>) -> Option<Flow> {
        call.caller.map(|caller| self.flow(caller))
    }

    /// Where the last attempt of a call was sent.
    pub fn callee(&self, call: &Call<L>) -> Option<Flow> {
        call.callee.map(|callee| self.flow(callee))
    }

    /// Notes where an attempt is sent.
    pub fn set_callee(&mut self, key: CallKey, callee: Option<Flow>) {
        if self.call(key).is_some() {
            let callee = callee.map(|callee| self.compact(callee));
            let call = self.calls.get_mut(key.0);
            let earlier = call.and_then(|call| core::mem::replace(&mut call.callee, callee));
            self.forget(earlier);
        }
    }

    fn compact(&mut self, flow: Flow) -> CompactFlow {
        // Two for each call: there is always room.
        CompactFlow::of(flow, |address| {
            self.wide.insert(address).map_or(NONE, |kept| kept.index)
        })
    }

    fn flow(&self, compact: CompactFlow) -> Flow {
        compact.flow(|number| self.wide.at(number).copied())
    }

    fn forget(&mut self, flow: Option<CompactFlow>) {
        let number = flow.and_then(CompactFlow::wide);
        if let Some(key) = number.and_then(|number| self.wide.key_at(number)) {
            self.wide.remove(key);
        }
    }

    /// What is kept of a call's set-up: nothing, once that is over.
    pub fn set_up(&self, key: CallKey) -> Option<&SetUp> {
        self.set_ups.at(self.call(key)?.set_up)
    }

    /// The same to change it; made where there is none.
    pub fn set_up_mut(&mut self, key: CallKey) -> Option<&mut SetUp> {
        let call = self.calls.get_mut(key.0)?;
        if call.set_up == NONE {
            call.set_up = self.set_ups.insert(SetUp::default()).ok()?.index;
        }
        self.set_ups.at_mut(call.set_up)
    }

    /// Forgets what only the set-up of a call needed, and says what that was.
    pub fn end_set_up(&mut self, key: CallKey) -> Option<SetUp> {
        let call = self.calls.get_mut(key.0)?;
        let kept = self
            .set_ups
            .key_at(core::mem::replace(&mut call.set_up, NONE))?;
        self.set_ups.remove(kept)
    }

    /// The fork named by `key`.
    pub fn fork(&self, key: ForkKey) -> Option<&Fork> {
        match key {
            ForkKey::First(call) => self.call(call)?.first_fork.as_ref(),
            ForkKey::Further(key) => self.forks.get(key),
        }
    }

    /// The fork named by `key`, to change it.
    pub fn fork_mut(&mut self, key: ForkKey) -> Option<&mut Fork> {
        match key {
            ForkKey::First(call) => self.calls.get_mut(call.0)?.first_fork.as_mut(),
            ForkKey::Further(key) => self.forks.get_mut(key),
        }
    }

    /// Removes a call, its forks and all else that is kept of it. The caller of this function gives
    /// the leases back, so that there is one place where a call ends; a key that is stale changes
    /// nothing.
    pub fn end(&mut self, key: CallKey) -> Option<Call<L>> {
        self.end_set_up(key);
        self.dial.disarm(&mut self.calls, key.0.index);
        let mut call = self.calls.remove(key.0)?;
        self.by_call_id
            .remove(call.call_id(), |index| index == key.0.index);
        self.first_forks -= usize::from(call.first_fork.is_some());
        let mut next = call.first_fork.map_or(NONE, |fork| fork.next);
        while let Some(fork) = self.forks.key_at(next).and_then(|at| self.forks.remove(at)) {
            next = fork.next;
        }
        self.forget(call.caller.take());
        self.forget(call.callee.take());
        self.texts.free(core::mem::take(&mut call.texts));
        Some(call)
    }

    /// Remembers that `callee_tag` answered the call; returns the fork that it already is, or a new
    /// one that takes the caller's CSeq from the INVITE. The first fork of a call always has room.
    pub fn learn_fork(&mut self, key: CallKey, callee_tag: u64) -> Result<ForkKey, Full> {
        if let Some(known) = self.fork_with_tag(key, callee_tag) {
            return Ok(known);
        }
        let forks = self.forks_of(key).count();
        if forks >= Self::FORKS_MAX {
            return Err(Full);
        }
        let call = self.calls.get_mut(key.0).ok_or(Full)?;
        let new = Fork::early(callee_tag, call.invite_cseq);
        let Some(first) = &mut call.first_fork else {
            call.first_fork = Some(new);
            self.first_forks += 1;
            return Ok(ForkKey::First(key));
        };
        let new = new.in_front_of(first.next);
        let fork = self.forks.insert(new).map_err(|_| Full)?;
        first.next = fork.index;
        Ok(ForkKey::Further(fork))
    }

    /// Remembers that the fork `callee_tag` was answered with a 2xx. It takes the place of an early
    /// fork where there is no room: a call whose answered fork is unknown could never be ended.
    pub fn confirm_fork(&mut self, key: CallKey, callee_tag: u64) -> Result<ForkKey, Full> {
        let at = self.learn_fork(key, callee_tag).or_else(|full| {
            let mut forks = self.forks_of(key);
            let early = forks.find(|(_, fork)| !fork.confirmed);
            early.map(|(at, _)| at).ok_or(full)
        })?;
        let invite_cseq = self.calls.get(key.0).map(|call| call.invite_cseq);
        let fork = self.fork_mut(at).ok_or(Full)?;
        if fork.callee_tag() != callee_tag {
            let new = Fork::early(callee_tag, invite_cseq.unwrap_or(0));
            *fork = new.in_front_of(fork.next);
        }
        fork.confirmed = true;
        Ok(at)
    }

    /// Whether a BYE is under way for every fork that talks.
    pub fn is_hanging_up(&self, key: CallKey) -> bool {
        let is_ending = |call: &Call<L>| call.phase == Phase::Ending;
        let mut talking = self
            .forks_of(key)
            .filter(|(_, fork)| fork.confirmed && !fork.ended);
        self.call(key).is_some_and(is_ending) && talking.all(|(_, fork)| fork.hung_up)
    }

    /// Whether a fork of the call was answered and has not ended.
    pub fn is_talking(&self, key: CallKey) -> bool {
        self.forks_of(key)
            .any(|(_, fork)| fork.confirmed && !fork.ended)
    }

    /// The fork with this tag.
    pub fn fork_of(&self, key: CallKey, callee_tag: u64) -> Option<&Fork> {
        self.fork(self.fork_with_tag(key, callee_tag)?)
    }

    /// The forks of a call, newest first.
    pub fn forks_of(&self, key: CallKey) -> impl Iterator<Item = (ForkKey, &Fork)> {
        let first = self.call(key).and_then(|call| call.first_fork.as_ref());
        let mut next = first.map_or(NONE, |fork| fork.next);
        let further = core::iter::from_fn(move || {
            let at = self.forks.key_at(next)?;
            let fork = self.forks.get(at)?;
            next = fork.next;
            Some((ForkKey::Further(at), fork))
        });
        let first = first.map(|fork| (ForkKey::First(key), fork));
        further.chain(first)
    }

    fn fork_with_tag(&self, key: CallKey, callee_tag: u64) -> Option<ForkKey> {
        self.forks_of(key)
            .find(|(_, fork)| fork.callee_tag() == callee_tag)
            .map(|(at, _)| at)
    }

    /// The dialog that a request with these hashed Call-ID and tags belongs to. `nonce` is the one
    /// of our Record-Route where the request carries it: it decides between two passages of one call.
    pub fn find(
        &self,
        call_id: u64,
        from_tag: u64,
        to_tag: u64,
        nonce: Option<u32>,
    ) -> Option<Match> {
        let mut found = None;
        self.by_call_id.find(call_id, |index| {
            found = self.match_at(index, call_id, from_tag, to_tag, nonce);
            found.is_some()
        });
        found
    }

    fn match_at(
        &self,
        index: u32,
        call_id: u64,
        from_tag: u64,
        to_tag: u64,
        nonce: Option<u32>,
    ) -> Option<Match> {
        let key = CallKey(self.calls.key_at(index)?);
        let call = self.call(key)?;
        if call.call_id() != call_id || nonce.is_some_and(|nonce| nonce != call.nonce) {
            return None;
        }
        let matched = |tag, from| {
            self.fork_with_tag(key, tag).map(|fork| Match {
                call: key,
                fork,
                from,
            })
        };
        if call.caller_tag() == from_tag {
            matched(to_tag, Side::Caller)
        } else if call.caller_tag() == to_tag {
            matched(from_tag, Side::Callee)
        } else {
            None
        }
    }

    /// The passage of a call that wrote `nonce` into its Record-Route, whatever its forks.
    pub fn find_passage(&self, call_id: u64, caller_tag: u64, nonce: u32) -> Option<CallKey> {
        let index = self.by_call_id.find(call_id, |index| {
            self.calls.at(index).is_some_and(|call| {
                (call.call_id(), call.caller_tag(), call.nonce) == (call_id, caller_tag, nonce)
            })
        })?;
        self.calls.key_at(index).map(CallKey)
    }

    /// Whether the INVITE with this number made a call that is here, ringing or answered.
    pub fn is_known(&self, call_id: u64, caller_tag: u64, invite_cseq: u32) -> bool {
        let index = self.by_call_id.find(call_id, |index| {
            self.calls.at(index).is_some_and(|call| {
                (call.call_id(), call.caller_tag(), call.invite_cseq)
                    == (call_id, caller_tag, invite_cseq)
            })
        });
        index.is_some()
    }

    /// Any live call with this hashed Call-ID, for an operator who names one.
    pub fn find_call_id(&self, call_id: u64) -> Option<CallKey> {
        let index = self
            .by_call_id
            .find(call_id, |index| call_id_at(&self.calls, index) == call_id)?;
        self.calls.key_at(index).map(CallKey)
    }

    /// All live calls with this hashed Call-ID, at most [`Calls::PASSAGES_MAX`].
    pub fn with_call_id(&self, call_id: u64) -> Vec<CallKey> {
        let mut found = Vec::new();
        self.by_call_id.find(call_id, |index| {
            if call_id_at(&self.calls, index) == call_id {
                found.extend(self.calls.key_at(index).map(CallKey));
            }
            false
        });
        // The index keeps no order; the table's own is that of no seed.
        found.sort_by_key(|key| key.0.index);
        found
    }

    /// Keeps texts of a call in place of those kept before; `false` when there is no room, and then
    /// those kept before stay.
    pub fn keep_texts(&mut self, key: CallKey, parts: &[(Part, &[u8])]) -> bool {
        let Some(call) = self.call(key) else {
            return false;
        };
        let is_caller = parts.iter().any(|(part, _)| *part == Part::CallId);
        let flow = match is_caller {
            true => self.caller(call),
            false => self.callee(call),
        };
        let peer = flow.map_or(0, |flow| peer_of(flow.remote.ip()));
        match self.calls.get_mut(key.0) {
            Some(call) => self.texts.keep(&mut call.texts, parts, peer),
            None => false,
        }
    }

    /// The texts kept for a call; they are put together from how they are kept, which takes a
    /// moment.
    pub fn words(&self, key: CallKey) -> Words {
        self.call(key)
            .map_or_else(Words::none, |call| self.texts.words(&call.texts))
    }

    /// The first live call at table position `from` or after it.
    pub fn next_from(&self, from: u32) -> Option<CallKey> {
        (from..self.calls.capacity() as u32)
            .find_map(|index| self.calls.key_at(index))
            .map(CallKey)
    }

    /// Number of live calls.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is no live call.
    pub fn is_empty(&self) -> bool {
        self.calls.len() == 0
    }

    /// Number of forks of all live calls.
    pub fn forks_len(&self) -> usize {
        self.first_forks + self.forks.len()
    }

    /// How many calls fit.
    pub fn capacity(&self) -> usize {
        self.calls.capacity()
    }
}

/// Tells peers apart whose words may differ in form.
fn peer_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

fn call_id_at<L>(calls: &Slab<Call<L>>, index: u32) -> u64 {
    calls.at(index).map_or(0, Call::call_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ListenerId;

    fn flow(address: &str) -> Flow {
        Flow::udp(ListenerId(0), address.parse().expect("a literal address"))
    }

    #[expect(clippy::result_large_err, reason = "as of the function that it calls")]
    fn insert(
        calls: &mut Calls<&'static str>,
        call: Call<&'static str>,
    ) -> Result<CallKey, Call<&'static str>> {
        calls.insert(call, flow("127.0.0.1:5060"))
    }

    fn call(call_id: u64, caller_tag: u64, nonce: u32) -> Call<&'static str> {
        let mut call = Call::ringing(0, call_id, caller_tag, nonce, Instant::START);
        call.lease_in = Some("lease");
        call.invite_cseq = 7;
        call
    }

    #[test]
    fn a_request_is_matched_from_both_sides_by_call_id_and_both_tags() {
        let mut calls = Calls::new(4);
        let key = insert(&mut calls, call(1, 10, 0)).expect("room");
        let fork = calls.learn_fork(key, 20).expect("room");
        assert_eq!(
            calls.find(1, 10, 20, None),
            Some(Match {
                call: key,
                fork,
                from: Side::Caller
            })
        );
        assert_eq!(
            calls.find(1, 20, 10, None),
            Some(Match {
                call: key,
                fork,
                from: Side::Callee
            })
        );
        assert_eq!(calls.find(1, 10, 21, None), None);
        assert_eq!(calls.find(1, 11, 20, None), None);
        assert_eq!(calls.find(2, 10, 20, None), None);
        assert_eq!(
            calls.fork(fork).and_then(|fork| fork.cseq(Side::Caller)),
            Some(7)
        );
    }

    #[test]
    fn a_spiral_is_two_calls_and_the_nonce_of_our_record_route_decides() {
        let mut calls = Calls::new(4);
        let first = insert(&mut calls, call(1, 10, 100)).expect("room");
        let second = insert(&mut calls, call(1, 10, 200)).expect("room");
        for key in [first, second] {
            calls.learn_fork(key, 20).expect("room");
        }
        assert_eq!(
            calls.find(1, 10, 20, Some(100)).map(|found| found.call),
            Some(first)
        );
        assert_eq!(
            calls.find(1, 20, 10, Some(200)).map(|found| found.call),
            Some(second)
        );
        assert_eq!(calls.find(1, 10, 20, Some(300)), None);
        calls.end(first);
        assert_eq!(
            calls.find(1, 10, 20, None).map(|found| found.call),
            Some(second)
        );
    }

    #[test]
    fn ending_gives_the_lease_out_once_and_twice_is_harmless() {
        let mut calls = Calls::new(1);
        let key = insert(&mut calls, call(1, 10, 0)).expect("room");
        calls.learn_fork(key, 20).expect("room");
        assert!(insert(&mut calls, call(2, 10, 0)).is_err());
        assert_eq!(
            calls.end(key).and_then(|ended| ended.lease_in),
            Some("lease")
        );
        assert!(calls.end(key).is_none());
        assert_eq!((calls.len(), calls.forks_len()), (0, 0));
        assert!(insert(&mut calls, call(2, 10, 0)).is_ok());
    }

    #[test]
    fn a_peer_that_gives_all_its_calls_one_call_id_gets_a_few_of_them() {
        let mut calls = Calls::new(1024);
        let taken = (0..1000).filter(|tag| insert(&mut calls, call(1, *tag, 0)).is_ok());
        assert_eq!(taken.count(), Calls::<&str>::PASSAGES_MAX);
        assert!(insert(&mut calls, call(2, 10, 0)).is_ok());
    }

    #[test]
    fn a_forking_peer_cannot_fill_the_table_with_one_call() {
        let mut calls = Calls::new(64);
        let key = insert(&mut calls, call(1, 10, 0)).expect("room");
        for tag in 0..Calls::<&str>::FORKS_MAX as u64 {
            calls.learn_fork(key, tag).expect("room");
        }
        assert_eq!(calls.learn_fork(key, 999), Err(Full));
        assert!(
            calls.learn_fork(key, 3).is_ok(),
            "a known tag is found again"
        );
    }

    #[test]
    fn the_answered_fork_takes_the_place_of_an_early_one() {
        let mut calls = Calls::new(64);
        let key = insert(&mut calls, call(1, 10, 0)).expect("room");
        for tag in 0..Calls::<&str>::FORKS_MAX as u64 {
            calls.learn_fork(key, tag).expect("room");
        }
        let fork = calls
            .confirm_fork(key, 999)
            .expect("an early fork gave way");
        assert_eq!(
            calls.find(1, 10, 999, None).map(|found| found.fork),
            Some(fork)
        );
        assert!(calls.is_talking(key));
        assert_eq!(calls.forks_len(), Calls::<&str>::FORKS_MAX);
    }

    #[test]
    fn the_first_fork_of_each_call_has_room_whatever_other_calls_do() {
        let mut calls = Calls::new(8);
        let keys: Vec<CallKey> = (0..8)
            .map(|id| insert(&mut calls, call(id, 10, 0)).expect("room"))
            .collect();
        let greedy = (0..16).filter(|tag| calls.learn_fork(keys[0], *tag).is_ok());
        assert_eq!(greedy.count(), 1 + 8 / 4);
        for key in &keys[1..] {
            assert!(calls.learn_fork(*key, 7).is_ok());
        }
        calls.end(keys[0]);
        assert!(
            calls.learn_fork(keys[1], 8).is_ok(),
            "its forks are free again"
        );
    }

    #[test]
    fn texts_are_found_by_part_and_leave_with_the_call() {
        let mut calls = Calls::new(2);
        let key = insert(&mut calls, call(1, 10, 0)).expect("room");
        assert!(calls.keep_texts(key, &[(Part::CallId, b"a@b"), (Part::To, b"<sip:b@c>")]));
        let words = calls.words(key);
        assert_eq!(words.word(Part::CallId), b"a@b");
        assert_eq!(words.word(Part::To), b"<sip:b@c>");
        assert_eq!(words.word(Part::CallerContact), b"");
        calls.end(key);
        assert_eq!(calls.words(key).word(Part::CallId), b"");
    }

    #[test]
    fn an_ipv6_end_is_kept_beside_its_call_and_leaves_with_it() {
        let mut calls = Calls::new(2);
        let caller = flow("[2001:db8::1%4]:5060");
        let ends = ["[2001:db8::2]:5080", "192.0.2.7:5060", "[2001:db8::3]:5090"].map(flow);
        for round in 0..5 {
            let key = calls.insert(call(round, 10, 0), caller).expect("room");
            for end in ends {
                calls.set_callee(key, Some(end));
                let call = calls.call(key).expect("it lives");
                assert_eq!(calls.caller(call), Some(caller));
                assert_eq!(calls.callee(call), Some(end));
            }
            calls.end(key);
            calls.set_callee(key, Some(caller));
            assert!(calls.wide.is_empty());
        }
    }

    #[test]
    fn what_a_set_up_needs_is_forgotten_with_it() {
        let mut calls = Calls::new(2);
        let key = insert(&mut calls, call(1, 10, 0)).expect("room");
        assert!(calls.set_up(key).is_none());
        assert!(
            calls
                .set_up_mut(key)
                .is_some_and(|kept| kept.invite.is_none())
        );
        assert!(calls.set_up(key).is_some());
        assert!(calls.end_set_up(key).is_some());
        assert!(calls.set_up(key).is_none() && calls.end_set_up(key).is_none());
        calls.set_up_mut(key);
        calls.end(key);
        assert!(calls.set_up_mut(key).is_none());
        assert!(calls.set_ups.is_empty());
    }
}
