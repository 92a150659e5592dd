//! One answered call as octets: what a restart needs to count it again, to know its requests and to
//! end it in time. Numbers are little-endian, names and words carry their length.
//!
//! A record is written into one of two copies (see the parent module); a copy starts with a
//! checksum over all the rest of it, so that any mixture of two writes is told from both.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::base::Cursor;
use crate::base::hash::HashKey;
use crate::dialog::texts::Part;

/// Octets of one copy.
pub const COPY_OCTETS: usize = 1024;
/// Octets in front of a copy's body: checksum, generation, length, kind.
pub(super) const HEAD_OCTETS: usize = 20;
/// Forks that a record keeps, answered ones first.
pub const FORKS_MAX: usize = 8;
/// Longest trunk name that is kept.
const NAME_MAX: usize = 64;

/// Where one end is, and over which address of ours it is reached. Listeners are numbered anew
/// by each configuration, so that the address stands for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// A fork as it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkRecord {
    pub callee_tag: u64,
    pub confirmed: bool,
    pub ended: bool,
    pub caller_cseq: Option<u32>,
    pub callee_cseq: Option<u32>,
}

/// Words of a call, by [`Part`].
pub type Words<'a> = [&'a [u8]; Part::COUNT];

/// An answered call. Times are wall-clock microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Hash of the Call-ID under the node's key: decides the shard, whatever their number.
    pub owner: u64,
    /// Hashes under the shards' secret, as in [`crate::dialog::Call`].
    pub call_id: u64,
    pub caller_tag: u64,
    pub nonce: u32,
    pub invite_cseq: u32,
    /// A BYE was under way.
    pub ending: bool,
    pub admitted_us: u64,
    pub answered_us: u64,
    pub session_due_us: Option<u64>,
    pub call_time_due_us: Option<u64>,
    pub caller: End,
    pub callee: Option<End>,
    /// Names, since slots are dealt out anew by each start; empty where there is none.
    pub trunk_in: &'a [u8],
    pub trunk_out: &'a [u8],
    /// Whether the call counts in the limits of the trunk.
    pub leased_in: bool,
    pub leased_out: bool,
    pub forks: [ForkRecord; FORKS_MAX],
    pub forks_len: usize,
    pub words: Words<'a>,
}

/// What a copy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The call that was here has ended.
    Ended = 1,
    Call = 2,
}

/// The checksum of an INVITE.
pub(super) fn check_of(text: &[u8]) -> u64 {
    CHECK.hash(text)
}

/// What is found where a copy should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy<'a> {
    /// Never written.
    Blank,
    /// A write that did not come to its end, or damage.
    Torn,
    Whole {
        generation: u64,
        kind: Kind,
        body: &'a [u8],
    },
}

/// Not a secret: it guards against accidents, not against those who can write the file.
const CHECK: HashKey = HashKey::new([0x6361_6c6c_6761_7465, 0x6469_616c_6f67_7331]);

/// Puts the head in front of a body that was written to `copy[HEAD_OCTETS..len]`.
pub(super) fn seal(copy: &mut [u8], len: usize, kind: Kind, generation: u64) {
    copy[8..16].copy_from_slice(&generation.to_le_bytes());
    // Fits: a copy is far shorter than 64 KiB.
    copy[16..18].copy_from_slice(&(len as u16).to_le_bytes());
    copy[18..20].copy_from_slice(&[kind as u8, 0]);
    let check = CHECK.hash(&copy[8..len]);
    copy[..8].copy_from_slice(&check.to_le_bytes());
}

/// Reads one copy.
pub(super) fn read_copy(copy: &[u8]) -> Copy<'_> {
    let Some((head, _)) = copy.split_first_chunk::<HEAD_OCTETS>() else {
        return Copy::Torn;
    };
    if head.iter().all(|octet| *octet == 0) {
        return Copy::Blank;
    }
    let len = usize::from(u16::from_le_bytes([head[16], head[17]]));
    let kind = match head[18] {
        1 => Kind::Ended,
        2 => Kind::Call,
        _ => return Copy::Torn,
    };
    let checked = copy.get(8..len).filter(|_| len >= HEAD_OCTETS);
    if checked.map(|checked| CHECK.hash(checked)) != Some(number(head, 0)) {
        return Copy::Torn;
    }
    Copy::Whole {
        generation: number(head, 8),
        kind,
        body: &copy[HEAD_OCTETS..len],
    }
}

/// The generation that a copy claims, whole or not.
pub(super) fn generation_of(copy: &[u8]) -> u64 {
    number(copy, 8)
}

fn number(octets: &[u8], at: usize) -> u64 {
    let word = octets.get(at..).and_then(<[u8]>::first_chunk::<8>);
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

impl<'a> Record<'a> {
    const LEASED_IN: u8 = 1;
    const LEASED_OUT: u8 = 2;
    const ENDING: u8 = 4;
    const HAS_CALLEE: u8 = 8;
    const HAS_SESSION: u8 = 16;
    const HAS_CALL_TIME: u8 = 32;

    /// Writes the body; `false` when some words had no room and were left out.
    pub fn encode(&self, out: &mut Cursor<'_>) -> bool {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.leased_in, Self::LEASED_IN)
            | flag(self.leased_out, Self::LEASED_OUT)
            | flag(self.ending, Self::ENDING)
            | flag(self.callee.is_some(), Self::HAS_CALLEE)
            | flag(self.session_due_us.is_some(), Self::HAS_SESSION)
            | flag(self.call_time_due_us.is_some(), Self::HAS_CALL_TIME);
        out.put(&[flags]);
        for number in [
            self.owner,
            self.call_id,
            self.caller_tag,
            self.admitted_us,
            self.answered_us,
            self.session_due_us.unwrap_or(0),
            self.call_time_due_us.unwrap_or(0),
        ] {
            out.put(&number.to_le_bytes());
        }
        out.put(&self.nonce.to_le_bytes());
        out.put(&self.invite_cseq.to_le_bytes());
        put_end(self.caller, out);
        if let Some(callee) = self.callee {
            put_end(callee, out);
        }
        for name in [self.trunk_in, self.trunk_out] {
            let name = &name[..name.len().min(NAME_MAX)];
            out.put(&[name.len() as u8]);
            out.put(name);
        }
        let forks = &self.forks[..self.forks_len.min(FORKS_MAX)];
        out.put(&[forks.len() as u8]);
        forks.iter().for_each(|fork| put_fork(fork, out));
        self.encode_words(out)
    }

    /// Most wanted first. The contact and the route set of one end go together: a request to the
    /// one without the other would take a wrong way.
    fn encode_words(&self, out: &mut Cursor<'_>) -> bool {
        const GROUPS: [&[Part]; 6] = [
            &[Part::CallId],
            &[Part::From],
            &[Part::To],
            &[Part::CallerContact, Part::CallerRoute],
            &[Part::CalleeContact, Part::CalleeRoute],
            &[Part::RequestUri],
        ];
        let room = COPY_OCTETS - HEAD_OCTETS - 2 * Part::COUNT;
        let mut left = room.saturating_sub(out.len());
        let mut kept = [false; Part::COUNT];
        let mut is_whole = true;
        for group in GROUPS {
            let needed: usize = group.iter().map(|part| self.word(*part).len()).sum();
            let fits = needed <= left;
            is_whole &= fits;
            left -= if fits { needed } else { 0 };
            group.iter().for_each(|part| kept[*part as usize] = fits);
        }
        for (word, is_kept) in self.words.iter().zip(kept) {
            let word = if is_kept { word } else { &b""[..] };
            out.put(&(word.len() as u16).to_le_bytes());
            out.put(word);
        }
        is_whole
    }

    /// A word of the call; empty where it was not kept.
    pub fn word(&self, part: Part) -> &'a [u8] {
        self.words[part as usize]
    }

    /// Reads a body whose checksum was right; `None` = written by another version of the program.
    pub fn decode(body: &'a [u8]) -> Option<Record<'a>> {
        let mut read = Reader(body);
        let [flags] = read.array()?;
        let mut numbers = [0u64; 7];
        for number in &mut numbers {
            *number = u64::from_le_bytes(read.array()?);
        }
        let [
            owner,
            call_id,
            caller_tag,
            admitted_us,
            answered_us,
            session,
            call_time,
        ] = numbers;
        let nonce = u32::from_le_bytes(read.array()?);
        let invite_cseq = u32::from_le_bytes(read.array()?);
        let caller = read.end()?;
        let callee = match flags & Self::HAS_CALLEE {
            0 => None,
            _ => Some(read.end()?),
        };
        let (trunk_in, trunk_out) = (read.name()?, read.name()?);
        let [forks_len] = read.array()?;
        let mut forks = [ForkRecord::default(); FORKS_MAX];
        for fork in forks.get_mut(..usize::from(forks_len))? {
            *fork = read.fork()?;
        }
        let mut words: Words<'a> = [b""; Part::COUNT];
        for (part, word) in words.iter_mut().enumerate() {
            // Calls of an earlier program, which did not keep it.
            if part == Part::RequestUri as usize && read.0.is_empty() {
                break;
            }
            let len = u16::from_le_bytes(read.array()?);
            *word = read.take(usize::from(len))?;
        }
        Some(Record {
            owner,
            call_id,
            caller_tag,
            nonce,
            invite_cseq,
            ending: flags & Self::ENDING != 0,
            admitted_us,
            answered_us,
            session_due_us: (flags & Self::HAS_SESSION != 0).then_some(session),
            call_time_due_us: (flags & Self::HAS_CALL_TIME != 0).then_some(call_time),
            caller,
            callee,
            trunk_in,
            trunk_out,
            leased_in: flags & Self::LEASED_IN != 0,
            leased_out: flags & Self::LEASED_OUT != 0,
            forks,
            forks_len: usize::from(forks_len),
            words,
        })
    }

    /// The forks that are kept.
    pub fn forks(&self) -> &[ForkRecord] {
        &self.forks[..self.forks_len.min(FORKS_MAX)]
    }
}

pub(super) fn put_end(end: End, out: &mut Cursor<'_>) {
    for address in [end.local, end.remote] {
        let mut octets = [0u8; 16];
        let family = match address.ip() {
            IpAddr::V4(ip) => {
                octets[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                octets = ip.octets();
                6
            }
        };
        out.put(&[family]);
        out.put(&address.port().to_le_bytes());
        out.put(&octets);
    }
}

fn put_fork(fork: &ForkRecord, out: &mut Cursor<'_>) {
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    out.put(&[flag(fork.confirmed, 1)
        | flag(fork.ended, 2)
        | flag(fork.caller_cseq.is_some(), 4)
        | flag(fork.callee_cseq.is_some(), 8)]);
    out.put(&fork.callee_tag.to_le_bytes());
    out.put(&fork.caller_cseq.unwrap_or(0).to_le_bytes());
    out.put(&fork.callee_cseq.unwrap_or(0).to_le_bytes());
}

/// Takes a body apart from its front.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    pub fn name(&mut self) -> Option<&'a [u8]> {
        let [len] = self.array()?;
        self.take(usize::from(len))
    }

    pub fn end(&mut self) -> Option<End> {
        Some(End {
            local: self.address()?,
            remote: self.address()?,
        })
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let [family] = self.array()?;
        let port = u16::from_le_bytes(self.array()?);
        let octets: [u8; 16] = self.array()?;
        let ip = match family {
            4 => IpAddr::V4(Ipv4Addr::from(*octets.first_chunk::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(octets)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    fn fork(&mut self) -> Option<ForkRecord> {
        let [flags] = self.array()?;
        let callee_tag = u64::from_le_bytes(self.array()?);
        let caller_cseq = u32::from_le_bytes(self.array()?);
        let callee_cseq = u32::from_le_bytes(self.array()?);
        Some(ForkRecord {
            callee_tag,
            confirmed: flags & 1 != 0,
            ended: flags & 2 != 0,
            caller_cseq: (flags & 4 != 0).then_some(caller_cseq),
            callee_cseq: (flags & 8 != 0).then_some(callee_cseq),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn record(call_id: u64) -> Record<'static> {
        let address = |text: &str| text.parse().expect("a literal address");
        let end = End {
            local: address("192.0.2.1:5060"),
            remote: address("[2001:db8::7]:5070"),
        };
        let mut forks = [ForkRecord::default(); FORKS_MAX];
        forks[0] = ForkRecord {
            callee_tag: 20,
            confirmed: true,
            ended: false,
            caller_cseq: Some(7),
            callee_cseq: None,
        };
        Record {
            owner: call_id << 40,
            call_id,
            caller_tag: 10,
            nonce: 99,
            invite_cseq: 7,
            ending: false,
            admitted_us: 1,
            answered_us: 3,
            session_due_us: Some(1_000_000),
            call_time_due_us: None,
            caller: end,
            callee: Some(end),
            trunk_in: b"carrier-a",
            trunk_out: b"pbx1",
            leased_in: true,
            leased_out: true,
            forks,
            forks_len: 1,
            words: [
                b"a@b",
                b"<sip:a@b>;tag=1",
                b"<sip:c@d>;tag=2",
                b"sip:a@192.0.2.9",
                b"<sip:p1;lr>",
                b"sip:c@192.0.2.8",
                b"",
                b"sip:1@192.0.2.1",
            ],
        }
    }

    fn encoded(record: &Record<'_>) -> (Vec<u8>, bool) {
        let mut buffer = [0u8; COPY_OCTETS - HEAD_OCTETS];
        let mut cursor = Cursor::new(&mut buffer);
        let is_whole = record.encode(&mut cursor);
        assert!(!cursor.overflowed());
        (cursor.written().to_vec(), is_whole)
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let record = record(1);
        let (body, is_whole) = encoded(&record);
        assert!(is_whole);
        assert_eq!(Record::decode(&body), Some(record));
    }

    #[test]
    fn words_without_room_are_left_out_and_the_ends_keep_theirs_together() {
        let long = [b'x'; 700];
        let mut record = record(1);
        record.words[Part::CallerRoute as usize] = &long;
        record.words[Part::From as usize] = &long[..200];
        let (body, is_whole) = encoded(&record);
        assert!(!is_whole);
        let kept = Record::decode(&body).expect("a record");
        assert_eq!(kept.word(Part::From), &long[..200]);
        assert_eq!(kept.word(Part::CallerContact), b"");
        assert_eq!(kept.word(Part::CallerRoute), b"");
        assert_eq!(kept.word(Part::CalleeContact), b"sip:c@192.0.2.8");
    }

    #[test]
    fn the_largest_record_has_room_for_its_head_and_forks() {
        let long = [b'x'; 4096];
        let mut record = record(1);
        record.forks_len = FORKS_MAX;
        record.trunk_in = &long;
        record.trunk_out = &long;
        record.words = [&long; Part::COUNT];
        let (body, is_whole) = encoded(&record);
        assert!(!is_whole);
        let kept = Record::decode(&body).expect("a record");
        assert_eq!(kept.forks().len(), FORKS_MAX);
        assert_eq!(kept.trunk_in.len(), NAME_MAX);
    }

    #[test]
    fn no_octets_make_the_reader_panic() {
        let (body, _) = encoded(&record(1));
        // Whole without its last word: an earlier program did not keep the Request-URI.
        let without_uri = body.len() - 2 - record(1).word(Part::RequestUri).len();
        for len in (0..body.len()).filter(|len| *len != without_uri) {
            assert_eq!(Record::decode(&body[..len]), None, "{len}");
        }
        let earlier = Record::decode(&body[..without_uri]).expect("a record");
        assert_eq!(earlier.word(Part::RequestUri), b"");
        assert_eq!(earlier.word(Part::To), record(1).word(Part::To));
        for at in 0..body.len() {
            let mut damaged = body.clone();
            damaged[at] = 0xff;
            let _any_answer = Record::decode(&damaged);
        }
    }
}
