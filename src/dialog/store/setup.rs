//! A call that is being set up as octets: what a restart needs to go on with its INVITE. The INVITE
//! is kept as it came and written once; what changes with each attempt stands in two copies that
//! are written in turn, as for an answered call (see the parent module). What was sent is made
//! again from both: the same splices of the same INVITE under the same branch.

use super::record::{Copy, End, HEAD_OCTETS, Kind, Reader, check_of, put_end, read_copy, seal};
use super::{FILE_HEAD_OCTETS, Head, Position, Store, Tally, generation, next_copy};
use crate::base::Cursor;

/// Octets of one position: two copies and the INVITE.
pub const SETUP_OCTETS: usize = 4096;
/// Octets of one copy.
const COPY_OCTETS: usize = 384;
/// The longest INVITE that is kept.
pub const INVITE_OCTETS_MAX: usize = SETUP_OCTETS - 2 * COPY_OCTETS;
/// Longest trunk or group name that is kept; a longer one is cut and found by nobody.
const NAME_MAX: usize = 64;

/// A position for a call that is being set up, and the check of the INVITE that stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupPosition {
    at: Position,
    invite_len: u16,
    invite_check: u64,
}

/// A call that is being set up. Times are wall-clock microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupRecord<'a> {
    /// Hash of the Call-ID under the node's key: decides the shard, whatever their number.
    pub owner: u64,
    pub nonce: u32,
    pub admitted_us: u64,
    /// The branch of the attempt under way.
    pub token: u64,
    pub loop_check: u64,
    /// Members of the group that were tried, and addresses of the trunk under way, as bits.
    pub tried: u64,
    pub addresses_tried: u16,
    pub address_index: u8,
    pub provisional: bool,
    pub cancelled: bool,
    pub rang_out: bool,
    /// Why candidates were passed over, as bits of the shard's choice.
    pub passed: u8,
    pub cps_retry_after_s: Option<u32>,
    pub over_limit: Option<u16>,
    pub caller: End,
    pub callee: End,
    /// Names, since slots are dealt out anew by each start.
    pub trunk_in: &'a [u8],
    pub trunk_out: &'a [u8],
    /// What the route line named.
    pub to: &'a [u8],
    pub to_is_group: bool,
    /// The INVITE as it came.
    pub invite: &'a [u8],
}

impl<'a> SetupRecord<'a> {
    const PROVISIONAL: u8 = 1;
    const CANCELLED: u8 = 2;
    const RANG_OUT: u8 = 4;
    const TO_GROUP: u8 = 8;
    const HAS_RETRY: u8 = 16;
    const HAS_OVER_LIMIT: u8 = 32;

    fn encode(&self, at: SetupPosition, out: &mut Cursor<'_>) {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.provisional, Self::PROVISIONAL)
            | flag(self.cancelled, Self::CANCELLED)
            | flag(self.rang_out, Self::RANG_OUT)
            | flag(self.to_is_group, Self::TO_GROUP)
            | flag(self.cps_retry_after_s.is_some(), Self::HAS_RETRY)
            | flag(self.over_limit.is_some(), Self::HAS_OVER_LIMIT);
        out.put(&[flags, self.passed, self.address_index]);
        out.put(&at.invite_len.to_le_bytes());
        for number in [
            at.invite_check,
            self.owner,
            self.admitted_us,
            self.token,
            self.loop_check,
            self.tried,
        ] {
            out.put(&number.to_le_bytes());
        }
        out.put(&self.nonce.to_le_bytes());
        out.put(&self.cps_retry_after_s.unwrap_or(0).to_le_bytes());
        out.put(&self.over_limit.unwrap_or(0).to_le_bytes());
        out.put(&self.addresses_tried.to_le_bytes());
        put_end(self.caller, out);
        put_end(self.callee, out);
        for name in [self.trunk_in, self.trunk_out, self.to] {
            let name = &name[..name.len().min(NAME_MAX)];
            out.put(&[name.len() as u8]);
            out.put(name);
        }
    }

    /// Reads a copy's body whose checksum was right, with the INVITE behind the copies.
    fn decode(body: &'a [u8], invites: &'a [u8], at: u32) -> Option<(SetupPosition, Self)> {
        let mut read = Reader(body);
        let [flags, passed, address_index] = read.array()?;
        let invite_len = u16::from_le_bytes(read.array()?);
        let mut numbers = [0u64; 6];
        for number in &mut numbers {
            *number = u64::from_le_bytes(read.array()?);
        }
        let [invite_check, owner, admitted_us, token, loop_check, tried] = numbers;
        let nonce = u32::from_le_bytes(read.array()?);
        let retry = u32::from_le_bytes(read.array()?);
        let over_limit = u16::from_le_bytes(read.array()?);
        let addresses_tried = u16::from_le_bytes(read.array()?);
        let (caller, callee) = (read.end()?, read.end()?);
        let (trunk_in, trunk_out, to) = (read.name()?, read.name()?, read.name()?);
        let invite = invites.get(..usize::from(invite_len))?;
        if check_of(invite) != invite_check {
            return None;
        }
        let position = SetupPosition {
            at: Position::at(at),
            invite_len,
            invite_check,
        };
        let record = SetupRecord {
            owner,
            nonce,
            admitted_us,
            token,
            loop_check,
            tried,
            addresses_tried,
            address_index,
            provisional: flags & Self::PROVISIONAL != 0,
            cancelled: flags & Self::CANCELLED != 0,
            rang_out: flags & Self::RANG_OUT != 0,
            passed,
            cps_retry_after_s: (flags & Self::HAS_RETRY != 0).then_some(retry),
            over_limit: (flags & Self::HAS_OVER_LIMIT != 0).then_some(over_limit),
            caller,
            callee,
            trunk_in,
            trunk_out,
            to,
            to_is_group: flags & Self::TO_GROUP != 0,
            invite,
        };
        Some((position, record))
    }
}

/// What one position holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundSetup<'a> {
    Vacant,
    Call(SetupPosition, SetupRecord<'a>),
    /// A write was cut off and this is the call before it.
    Earlier(SetupPosition, SetupRecord<'a>),
    /// The first write was cut off: the INVITE was never passed on.
    Unfinished,
    Damaged,
}

impl Tally {
    /// Counts one position for a call that is being set up.
    pub fn count_setup(&mut self, found: &FoundSetup<'_>) {
        match found {
            FoundSetup::Vacant => {}
            FoundSetup::Call(..) => self.setups += 1,
            FoundSetup::Earlier(..) => {
                self.setups += 1;
                self.earlier += 1;
            }
            FoundSetup::Unfinished => self.unfinished += 1,
            FoundSetup::Damaged => self.damaged += 1,
        }
    }
}

/// Where the positions of a region begin that are for calls being set up; its end where there are
/// none.
pub(super) fn setups_start(region: &[u8]) -> usize {
    let head = Head::read_either(region);
    let start = head.map(|head| head.setups_start());
    start.map_or(region.len(), |start| start.min(region.len()))
}

/// Reads every position of a region that is for a call being set up. None where the front of the
/// region does not tell where they are.
pub fn setups(region: &[u8]) -> impl Iterator<Item = FoundSetup<'_>> {
    let all = &region[setups_start(region)..];
    let positions = all.chunks_exact(SETUP_OCTETS);
    (0u32..)
        .zip(positions)
        .map(|(at, position)| read_setup(position, at))
}

fn read_setup(position: &[u8], at: u32) -> FoundSetup<'_> {
    let (copies, invites) = position.split_at(2 * COPY_OCTETS);
    let (first, second) = copies.split_at(COPY_OCTETS);
    let (first, second) = (read_copy(first), read_copy(second));
    let is_whole = |copy: &Copy<'_>| matches!(copy, Copy::Whole { .. });
    let (newest, other) = match (is_whole(&first), is_whole(&second)) {
        (false, false) if first == second && first == Copy::Blank => return FoundSetup::Vacant,
        (false, false) if first == Copy::Torn && second == Copy::Torn => {
            return FoundSetup::Damaged;
        }
        (false, false) => return FoundSetup::Unfinished,
        (true, false) => (first, second),
        (false, true) => (second, first),
        (true, true) if generation(&first) > generation(&second) => (first, second),
        (true, true) => (second, first),
    };
    let Copy::Whole { kind, body, .. } = newest else {
        return FoundSetup::Damaged;
    };
    match (kind, other) {
        (Kind::Ended, Copy::Torn) => FoundSetup::Unfinished,
        (Kind::Ended, _) => FoundSetup::Vacant,
        (Kind::Call, other) => match (SetupRecord::decode(body, invites, at), other) {
            (
                None,
                Copy::Whole {
                    kind: Kind::Call, ..
                },
            ) => FoundSetup::Damaged,
            // The INVITE of a first write had not arrived when its copy had.
            (None, _) => FoundSetup::Unfinished,
            (Some((at, record)), Copy::Torn) => FoundSetup::Earlier(at, record),
            (Some((at, record)), _) => FoundSetup::Call(at, record),
        },
    }
}

/// What a call came to that a region held while it was being set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It goes on.
    Yes,
    /// It is there already, or was never begun: its position is free.
    No,
}

impl Store {
    /// Lets `take` see each call that is being set up and say whether it goes on; all other
    /// positions are free from here on, and what is broken is wiped. To be called once, after
    /// [`Store::open`]: before that no such call can be written.
    pub fn open_setups(
        &mut self,
        mut take: impl FnMut(SetupPosition, &SetupRecord<'_>) -> Taken,
    ) -> Tally {
        let mut tally = Tally::default();
        let mut free = Vec::new();
        let mut wipe = Vec::new();
        let mut live = 0;
        let start = setups_start(self.region.octets());
        for (at, found) in (0u32..).zip(setups(self.region.octets())) {
            tally.count_setup(&found);
            let (goes_on, is_cut) = match &found {
                FoundSetup::Call(position, record) => (take(*position, record), false),
                FoundSetup::Earlier(position, record) => (take(*position, record), true),
                FoundSetup::Vacant | FoundSetup::Unfinished | FoundSetup::Damaged => {
                    (Taken::No, false)
                }
            };
            match goes_on {
                Taken::Yes => live += 1,
                Taken::No => free.push(at),
            }
            if goes_on == Taken::No && found != FoundSetup::Vacant || is_cut {
                wipe.push((at, goes_on));
            }
        }
        self.setups_start = start;
        for (at, goes_on) in wipe {
            let copies = self
                .setup_octets(at)
                .map(|octets| &mut octets[..2 * COPY_OCTETS]);
            for copy in copies
                .into_iter()
                .flat_map(|it| it.chunks_exact_mut(COPY_OCTETS))
            {
                if goes_on == Taken::No || read_copy(copy) == Copy::Torn {
                    copy.fill(0);
                }
            }
        }
        free.reverse();
        free.reserve_exact(live);
        self.setups_free = free;
        self.setups_live = live;
        tally
    }

    /// Writes a call that is being set up to its position, or to a free one; `None` when there is
    /// none, or when its INVITE is too long to be kept. The INVITE is written the first time only.
    pub fn write_setup(
        &mut self,
        at: Option<SetupPosition>,
        record: &SetupRecord<'_>,
    ) -> Option<SetupPosition> {
        let at = match at {
            Some(at) => at,
            None => self.keep_invite(record.invite)?,
        };
        let octets = self.setup_octets(at.at.number())?;
        let (copy, generation) = next_copy(&mut octets[..2 * COPY_OCTETS], COPY_OCTETS)?;
        let mut cursor = Cursor::new(&mut copy[HEAD_OCTETS..]);
        record.encode(at, &mut cursor);
        debug_assert!(
            !cursor.overflowed(),
            "a copy has room for the longest names"
        );
        let len = HEAD_OCTETS + cursor.len();
        seal(copy, len, Kind::Call, generation);
        Some(at)
    }

    fn keep_invite(&mut self, invite: &[u8]) -> Option<SetupPosition> {
        if invite.len() > INVITE_OCTETS_MAX {
            return None;
        }
        let at = self.setups_free.pop()?;
        self.setups_live += 1;
        let room = self.setup_octets(at)?.get_mut(2 * COPY_OCTETS..)?;
        room.get_mut(..invite.len())?.copy_from_slice(invite);
        Some(SetupPosition {
            at: Position::at(at),
            // Fits: a position is far shorter than 64 KiB.
            invite_len: invite.len() as u16,
            invite_check: check_of(invite),
        })
    }

    /// Notes that the call at a position is set up or has ended, and frees the position.
    pub fn end_setup(&mut self, at: SetupPosition) {
        let copies = self
            .setup_octets(at.at.number())
            .map(|octets| &mut octets[..2 * COPY_OCTETS]);
        if let Some((copy, generation)) = copies.and_then(|it| next_copy(it, COPY_OCTETS)) {
            seal(copy, HEAD_OCTETS, Kind::Ended, generation);
            self.setups_free.push(at.at.number());
            self.setups_live -= 1;
        }
    }

    /// Number of calls in the region that are being set up.
    pub fn setups_len(&self) -> usize {
        self.setups_live
    }

    fn setup_octets(&mut self, at: u32) -> Option<&mut [u8]> {
        let start = self.setups_start + at as usize * SETUP_OCTETS;
        self.region
            .octets_mut()
            .get_mut(start..start + SETUP_OCTETS)
    }
}

impl Head {
    /// Where the positions for calls being set up begin.
    fn setups_start(&self) -> usize {
        FILE_HEAD_OCTETS + self.positions as usize * super::POSITION_OCTETS
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{every_cut, region};
    use super::*;

    fn record(token: u64) -> SetupRecord<'static> {
        let end = End {
            local: "192.0.2.1:5060".parse().expect("a literal address"),
            remote: "[2001:db8::7]:5070".parse().expect("a literal address"),
        };
        SetupRecord {
            owner: 1,
            nonce: 2,
            admitted_us: 3,
            token,
            loop_check: 5,
            tried: 6,
            addresses_tried: 7,
            address_index: 1,
            provisional: true,
            cancelled: false,
            rang_out: false,
            passed: 3,
            cps_retry_after_s: Some(8),
            over_limit: None,
            caller: end,
            callee: end,
            trunk_in: b"carrier",
            trunk_out: b"pbx1",
            to: b"pbx",
            to_is_group: true,
            invite: b"INVITE sip:a@b SIP/2.0\r\n\r\n",
        }
    }

    fn open(region: Vec<u8>) -> (Store, Vec<u64>, Tally) {
        let (mut store, _) = Store::open(Box::new(region), |_, _| true);
        let mut found = Vec::new();
        let tally = store.open_setups(|_, record| {
            found.push(record.token);
            Taken::Yes
        });
        (store, found, tally)
    }

    fn bytes(store: Store) -> Vec<u8> {
        store.into_region().octets().to_vec()
    }

    fn tokens(region: &[u8]) -> Vec<u64> {
        let found = setups(region).filter_map(|found| match found {
            FoundSetup::Call(_, record) | FoundSetup::Earlier(_, record) => Some(record.token),
            FoundSetup::Vacant | FoundSetup::Unfinished => None,
            FoundSetup::Damaged => panic!("damaged"),
        });
        found.collect()
    }

    #[test]
    fn a_set_up_reads_back_as_it_was_written() {
        let (mut store, _, _) = open(region(3));
        store.write_setup(None, &record(1)).expect("room");
        let region = bytes(store);
        let found: Vec<_> = setups(&region).collect();
        assert!(matches!(found[0], FoundSetup::Call(_, kept) if kept == record(1)));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn the_longest_names_and_the_longest_invite_have_room_and_longer_ones_are_refused() {
        let (mut store, _, _) = open(region(1));
        let long = [b'x'; INVITE_OCTETS_MAX + 1];
        let mut largest = record(1);
        largest.trunk_in = &long;
        largest.trunk_out = &long;
        largest.to = &long;
        largest.invite = &long;
        assert_eq!(store.write_setup(None, &largest), None);
        largest.invite = &long[1..];
        store.write_setup(None, &largest).expect("room");
        assert_eq!(store.write_setup(None, &record(2)), None, "it is full");
        let region = bytes(store);
        let kept = setups(&region).next().expect("a position");
        let FoundSetup::Call(_, kept) = kept else {
            panic!("{kept:?}");
        };
        assert_eq!(
            (kept.invite.len(), kept.to.len()),
            (INVITE_OCTETS_MAX, NAME_MAX)
        );
    }

    #[test]
    fn positions_are_used_again_and_answered_calls_keep_theirs() {
        let (mut store, _, _) = open(region(2));
        let answered = super::super::record::tests::record(9);
        store.write(None, &answered).expect("room");
        for round in 0..50 {
            let a = store.write_setup(None, &record(round)).expect("room");
            let b = store.write_setup(None, &record(round)).expect("room");
            assert_eq!(store.write_setup(None, &record(7)), None);
            store.end_setup(a);
            store.end_setup(b);
        }
        assert_eq!((store.setups_len(), store.len()), (0, 1));
        assert!(tokens(store.region.octets()).is_empty());
    }

    #[test]
    fn a_write_that_is_cut_off_anywhere_leaves_the_call_as_it_was_or_none() {
        let (mut store, _, _) = open(region(1));
        let blank = store.region.octets().to_vec();
        let at = store.write_setup(None, &record(1)).expect("room");
        every_cut(&blank, store.region.octets(), |region| {
            assert!(tokens(region).is_empty());
        });
        for token in 2..5 {
            let earlier = store.region.octets().to_vec();
            store.write_setup(Some(at), &record(token)).expect("room");
            every_cut(&earlier, store.region.octets(), |region| {
                assert_eq!(tokens(region), [token - 1]);
            });
        }
        let live = store.region.octets().to_vec();
        store.end_setup(at);
        every_cut(&live, store.region.octets(), |region| {
            assert_eq!(tokens(region), [4]);
        });
        // Another call, in a position that was used.
        let used = store.region.octets().to_vec();
        let mut other = record(9);
        other.invite = b"INVITE sip:somebody-else@b SIP/2.0\r\n\r\n";
        store.write_setup(None, &other).expect("room");
        every_cut(&used, store.region.octets(), |region| {
            assert!(tokens(region).is_empty());
        });
    }

    #[test]
    fn an_invite_that_does_not_fit_its_record_is_damage() {
        let (mut store, _, _) = open(region(2));
        let at = store.write_setup(None, &record(1)).expect("room");
        store.write_setup(Some(at), &record(1)).expect("room");
        store.write_setup(None, &record(2)).expect("room");
        let mut damaged = bytes(store);
        let start = setups_start(&damaged);
        damaged[start + 2 * COPY_OCTETS + 3] ^= 1;
        let (store, found, tally) = open(damaged);
        assert_eq!((found, tally.damaged), (vec![2], 1));
        assert_eq!(open(bytes(store)).2.damaged, 0);
    }

    #[test]
    fn no_octets_make_the_reader_panic() {
        let (mut store, _, _) = open(region(1));
        store.write_setup(None, &record(1)).expect("room");
        let whole = bytes(store);
        let start = setups_start(&whole);
        for at in start..start + COPY_OCTETS {
            let mut damaged = whole.clone();
            damaged[at] = 0xff;
            let _any_answer = setups(&damaged).count();
        }
        for len in 0..COPY_OCTETS {
            let body = &whole[start + HEAD_OCTETS..][..len];
            let _any_answer = SetupRecord::decode(body, &[], 0);
        }
    }
}
