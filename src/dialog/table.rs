//! The table of live calls, keyed by Call-ID and tags.
//!
//! A call is one INVITE that was admitted and all dialogs it grew: the caller's half is one record,
//! each To-tag that answered is a fork linked to it. What a call holds of the limits (`L`) is kept in
//! its record and leaves the table through [`Calls::end`] only.

use core::net::IpAddr;

use crate::base::Fresh;
use crate::base::cells::Cells;
use crate::base::slab::{Key, Slab};
use crate::base::table::Index;

use super::call::{Call, Fork, NO_FORK, Phase, Side, one_above};
use super::texts::{Part, TextStore, Words};

/// Names a call; stale once the call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey(pub Key);

/// Names a fork of a call; stale once the fork has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForkKey(pub Key);

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
    calls: Slab<Call<L>>,
    by_call_id: Index,
    forks: Slab<Fork>,
    /// Forks beyond the first of their call.
    further_forks: usize,
    texts: TextStore,
}

impl<L> Calls<L> {
    /// Forks that one call may have; what a forking peer adds beyond is passed on but not remembered.
    pub const FORKS_MAX: usize = 16;

    /// Live calls of one Call-ID: a call spirals a few times. All calls under one Call-ID stand in
    /// one run of the index, which every look-up of theirs walks.
    pub const PASSAGES_MAX: usize = 64;

    /// Room for the words of a call on average; a longer one borrows from shorter ones. Words like
    /// those of an earlier call take some 100 octets of it, and only what was taken is memory; a
    /// node whose calls are all unlike takes what the words are long.
    pub const TEXT_OCTETS_EACH: usize = 12 * Cells::OCTETS;

    /// What the words of a few unlike calls take, where there is room for a few calls.
    const CELLS_MIN: usize = 4096;

    /// Room for `dialogs_max` calls, one fork of each, and a quarter as many further forks.
    pub fn new(dialogs_max: usize) -> Calls<L> {
        Calls {
            calls: Slab::new(dialogs_max),
            by_call_id: Index::new(dialogs_max),
            forks: Slab::new(dialogs_max + dialogs_max / 4),
            further_forks: 0,
            texts: TextStore::new(
                (dialogs_max * Self::TEXT_OCTETS_EACH / Cells::OCTETS).max(Self::CELLS_MIN),
            ),
        }
    }

    /// Memory that no call ever took.
    pub fn fresh(&self) -> [Fresh; 3] {
        [self.calls.fresh(), self.forks.fresh(), self.texts.fresh()]
    }

    /// Octets in use, by what they are used for.
    pub fn octets_used(&self) -> [(&'static str, usize); 4] {
        [
            ("calls", self.calls.octets_used()),
            ("forks", self.forks.octets_used()),
            ("index", self.by_call_id.octets()),
            ("words", self.texts.octets_used()),
        ]
    }

    /// Octets that one dialog takes at most, for the memory budget.
    pub const fn octets_each() -> usize {
        // 16: the index entry with its spare room.
        size_of::<Call<L>>() + size_of::<Fork>() * 5 / 4 + Self::TEXT_OCTETS_EACH + 16
    }

    /// Says that a call with this Call-ID, hashed, will be looked for or begun soon.
    pub fn expect(&self, call_id: u64) {
        self.by_call_id.expect(call_id);
    }

    /// Inserts a call; gives it back when the table is full, or full of calls with this Call-ID.
    #[expect(
        clippy::result_large_err,
        reason = "the call goes back by value: a box would be an allocation"
    )]
    pub fn insert(&mut self, call: Call<L>) -> Result<CallKey, Call<L>> {
        let hash = call.call_id;
        if self.passages(hash) >= Self::PASSAGES_MAX {
            return Err(call);
        }
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

    /// The fork named by `key`.
    pub fn fork(&self, key: ForkKey) -> Option<&Fork> {
        self.forks.get(key.0)
    }

    /// The fork named by `key`, to change it.
    pub fn fork_mut(&mut self, key: ForkKey) -> Option<&mut Fork> {
        self.forks.get_mut(key.0)
    }

    /// Removes a call and its forks. The caller of this function gives the leases back, so that
    /// there is one place where a call ends; a key that is stale changes nothing.
    pub fn end(&mut self, key: CallKey) -> Option<Call<L>> {
        let mut call = self.calls.remove(key.0)?;
        self.by_call_id
            .remove(call.call_id, |index| index == key.0.index);
        let mut next = call.first_fork;
        let before = self.forks.len();
        while let Some(fork) = self.forks.key_at(next).and_then(|at| self.forks.remove(at)) {
            next = fork.next;
        }
        self.further_forks -= (before - self.forks.len()).saturating_sub(1);
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
        let further_max = self.forks.capacity() - self.calls.capacity();
        if forks >= Self::FORKS_MAX || forks > 0 && self.further_forks >= further_max {
            return Err(Full);
        }
        let call = self.calls.get_mut(key.0).ok_or(Full)?;
        let fork = Fork {
            callee_tag,
            confirmed: false,
            hung_up: false,
            ended: false,
            above_caller_cseq: Some(one_above(call.invite_cseq)),
            above_callee_cseq: None,
            next: call.first_fork,
        };
        let fork = self.forks.insert(fork).map_err(|_| Full)?;
        call.first_fork = fork.index;
        self.further_forks += usize::from(forks > 0);
        Ok(ForkKey(fork))
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
        let fork = self.forks.get_mut(at.0).ok_or(Full)?;
        if fork.callee_tag != callee_tag {
            *fork = Fork {
                callee_tag,
                hung_up: false,
                ended: false,
                above_caller_cseq: invite_cseq.map(one_above),
                above_callee_cseq: None,
                ..*fork
            };
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
        let mut next = self
            .calls
            .get(key.0)
            .map_or(NO_FORK, |call| call.first_fork);
        core::iter::from_fn(move || {
            let at = self.forks.key_at(next)?;
            let fork = self.forks.get(at)?;
            next = fork.next;
            Some((ForkKey(at), fork))
        })
    }

    fn fork_with_tag(&self, key: CallKey, callee_tag: u64) -> Option<ForkKey> {
        self.forks_of(key)
            .find(|(_, fork)| fork.callee_tag == callee_tag)
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
        if call.call_id != call_id || nonce.is_some_and(|nonce| nonce != call.nonce) {
            return None;
        }
        let matched = |tag, from| {
            self.fork_with_tag(key, tag).map(|fork| Match {
                call: key,
                fork,
                from,
            })
        };
        if call.caller_tag == from_tag {
            matched(to_tag, Side::Caller)
        } else if call.caller_tag == to_tag {
            matched(from_tag, Side::Callee)
        } else {
            None
        }
    }

    /// The passage of a call that wrote `nonce` into its Record-Route, whatever its forks.
    pub fn find_passage(&self, call_id: u64, caller_tag: u64, nonce: u32) -> Option<CallKey> {
        let index = self.by_call_id.find(call_id, |index| {
            self.calls.at(index).is_some_and(|call| {
                (call.call_id, call.caller_tag, call.nonce) == (call_id, caller_tag, nonce)
            })
        })?;
        self.calls.key_at(index).map(CallKey)
    }

    /// Whether the INVITE with this number made a call that is here, ringing or answered.
    pub fn is_known(&self, call_id: u64, caller_tag: u64, invite_cseq: u32) -> bool {
        let index = self.by_call_id.find(call_id, |index| {
            self.calls.at(index).is_some_and(|call| {
                (call.call_id, call.caller_tag, call.invite_cseq)
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
        match self.calls.get_mut(key.0) {
            Some(call) => {
                let is_caller = parts.iter().any(|(part, _)| *part == Part::CallId);
                let flow = if is_caller {
                    Some(call.caller)
                } else {
                    call.callee
                };
                let peer = flow.map_or(0, |flow| peer_of(flow.ip()));
                self.texts.keep(&mut call.texts, parts, peer)
            }
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
        self.forks.len()
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
    calls
        .key_at(index)
        .and_then(|key| calls.get(key))
        .map_or(0, |call| call.call_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Instant;
    use crate::net::{Flow, ListenerId};

    fn flow() -> Flow {
        Flow::udp(
            ListenerId(0),
            "127.0.0.1:5060".parse().expect("a literal address"),
        )
    }

    fn call(call_id: u64, caller_tag: u64, nonce: u32) -> Call<&'static str> {
        let mut call = Call::ringing(call_id, caller_tag, nonce, flow(), Instant::START);
        call.lease_in = Some("lease");
        call.invite_cseq = 7;
        call
    }

    #[test]
    fn a_request_is_matched_from_both_sides_by_call_id_and_both_tags() {
        let mut calls = Calls::new(4);
        let key = calls.insert(call(1, 10, 0)).expect("room");
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
        let first = calls.insert(call(1, 10, 100)).expect("room");
        let second = calls.insert(call(1, 10, 200)).expect("room");
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
        let key = calls.insert(call(1, 10, 0)).expect("room");
        calls.learn_fork(key, 20).expect("room");
        assert!(calls.insert(call(2, 10, 0)).is_err());
        assert_eq!(
            calls.end(key).and_then(|ended| ended.lease_in),
            Some("lease")
        );
        assert!(calls.end(key).is_none());
        assert_eq!((calls.len(), calls.forks_len()), (0, 0));
        assert!(calls.insert(call(2, 10, 0)).is_ok());
    }

    #[test]
    fn a_peer_that_gives_all_its_calls_one_call_id_gets_a_few_of_them() {
        let mut calls = Calls::new(1024);
        let taken = (0..1000).filter(|tag| calls.insert(call(1, *tag, 0)).is_ok());
        assert_eq!(taken.count(), Calls::<&str>::PASSAGES_MAX);
        assert!(calls.insert(call(2, 10, 0)).is_ok());
    }

    #[test]
    fn a_forking_peer_cannot_fill_the_table_with_one_call() {
        let mut calls = Calls::new(64);
        let key = calls.insert(call(1, 10, 0)).expect("room");
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
        let key = calls.insert(call(1, 10, 0)).expect("room");
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
            .map(|id| calls.insert(call(id, 10, 0)).expect("room"))
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
        let key = calls.insert(call(1, 10, 0)).expect("room");
        assert!(calls.keep_texts(key, &[(Part::CallId, b"a@b"), (Part::To, b"<sip:b@c>")]));
        let words = calls.words(key);
        assert_eq!(words.word(Part::CallId), b"a@b");
        assert_eq!(words.word(Part::To), b"<sip:b@c>");
        assert_eq!(words.word(Part::CallerContact), b"");
        calls.end(key);
        assert_eq!(calls.words(key).word(Part::CallId), b"");
    }
}
