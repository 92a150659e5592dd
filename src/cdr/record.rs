//! One call detail record as octets. Numbers are little-endian, texts carry their length; a text
//! that has no room is cut and the record says so.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::base::Cursor;

/// Attempts that a record keeps; of a longer list the first seven and the last.
pub const ATTEMPTS_MAX: usize = 8;

/// Octets kept of the longer texts, of users and tags, and of names.
const TEXT_MAX: usize = 512;
const WORD_MAX: usize = 128;
const NAME_MAX: usize = 64;

/// Declares a closed list of words: an enum that is one octet in a record and one word in a file.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $(#[doc = $word] $variant,)* }

        impl $name {
            /// All of them, in the order of their octets.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// How it is written.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            fn of_octet(octet: u8) -> Option<$name> {
                Self::ALL.get(usize::from(octet)).copied()
            }
        }
    };
}

words! {
    /// What became of a call.
    Disposition {
        Answered = "answered",
        Refused = "refused",
        Cancelled = "cancelled",
        Busy = "busy",
        NoAnswer = "no-answer",
        Failed = "failed",
        Redirected = "redirected",
        Lost = "lost",
    }
}

words! {
    /// Who ended a call.
    Party {
        Caller = "caller",
        Callee = "callee",
        Node = "node",
    }
}

words! {
    /// How an attempt ended.
    AttemptEnd {
        Pending = "pending",
        Answered = "answered",
        Status = "final answer",
        Silence = "no answer in time",
        Unreachable = "refused by the network",
        Cancelled = "cancelled",
        Overtaken = "an earlier attempt answered",
        Restored = "restored after a restart",
    }
}

words! {
    /// Which limit a call ran into.
    LimitKind {
        CallsMax = "calls_max",
        CallsInMax = "calls_in_max",
        CallsOutMax = "calls_out_max",
        Cps = "cps",
    }
}

/// A limit that stood in the way of a call, and of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitHit<'a> {
    pub name: &'a [u8],
    pub kind: LimitKind,
}

/// One INVITE that was sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRecord<'a> {
    pub trunk: &'a [u8],
    pub address: Option<SocketAddr>,
    /// The final answer; 0 = none came.
    pub code: u16,
    pub end: AttemptEnd,
    /// Milliseconds after the start of the call.
    pub start_ms: u32,
    pub end_ms: u32,
}

impl AttemptRecord<'_> {
    /// An unused place.
    pub const NONE: AttemptRecord<'static> = AttemptRecord {
        trunk: b"",
        address: None,
        code: 0,
        end: AttemptEnd::Pending,
        start_ms: 0,
        end_ms: 0,
    };
}

/// A call detail record. Moments are wall-clock microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdr<'a> {
    /// When the process started that wrote the record: with shard and sequence it is unique.
    pub start_id: u64,
    pub shard: u16,
    pub sequence: u64,
    /// The same for all records of one attempt, also behind a restart.
    pub attempt_id: u64,
    pub start_us: u64,
    pub ringing_us: Option<u64>,
    pub answer_us: Option<u64>,
    pub end_us: u64,
    /// By the node's own clock, which no step of the wall clock moves.
    pub setup_delay_ms: Option<u32>,
    pub duration_ms: u64,
    /// Final answer to the caller; 0 = there was none.
    pub code: u16,
    /// Q.850 cause; 0 = none is known.
    pub q850: u8,
    pub disposition: Disposition,
    pub hung_up_by: Option<Party>,
    /// In words, of this program's own.
    pub end_reason: &'a [u8],
    pub limit: Option<LimitHit<'a>>,
    /// Line of the configuration that routed the call; 0 = none did.
    pub route_line: u32,
    /// The call was answered before a restart of the node.
    pub resumed: bool,
    pub caller: Option<SocketAddr>,
    pub callee: Option<SocketAddr>,
    pub trunk_in: &'a [u8],
    pub trunk_out: &'a [u8],
    pub attempts: [AttemptRecord<'a>; ATTEMPTS_MAX],
    pub attempts_len: usize,
    /// Attempts that there were, kept or not.
    pub attempts_made: u16,
    pub call_id: &'a [u8],
    pub request_uri: &'a [u8],
    pub from_user: &'a [u8],
    pub from_tag: &'a [u8],
    pub to_user: &'a [u8],
    pub to_tag: &'a [u8],
    /// Some text had no room.
    pub is_cut: bool,
}

impl<'a> Cdr<'a> {
    /// A record of which nothing is known.
    pub const BLANK: Cdr<'static> = Cdr {
        start_id: 0,
        shard: 0,
        sequence: 0,
        attempt_id: 0,
        start_us: 0,
        ringing_us: None,
        answer_us: None,
        end_us: 0,
        setup_delay_ms: None,
        duration_ms: 0,
        code: 0,
        q850: 0,
        disposition: Disposition::Lost,
        hung_up_by: None,
        end_reason: b"",
        limit: None,
        route_line: 0,
        resumed: false,
        caller: None,
        callee: None,
        trunk_in: b"",
        trunk_out: b"",
        attempts: [AttemptRecord::NONE; ATTEMPTS_MAX],
        attempts_len: 0,
        attempts_made: 0,
        call_id: b"",
        request_uri: b"",
        from_user: b"",
        from_tag: b"",
        to_user: b"",
        to_tag: b"",
        is_cut: false,
    };

    /// The attempts that are kept.
    pub fn attempts(&self) -> &[AttemptRecord<'a>] {
        &self.attempts[..self.attempts_len.min(ATTEMPTS_MAX)]
    }

    /// Writes the record; texts are cut to what the buffer has room for.
    pub fn encode(&self, buffer: &mut [u8]) -> usize {
        let octets = buffer.len();
        // Last octet: whether something was cut, known at the end only.
        let Some(room) = buffer.get_mut(..octets.saturating_sub(1)) else {
            return 0;
        };
        let mut out = Writer {
            out: Cursor::new(room),
            octets_max: octets.saturating_sub(1),
            is_cut: self.is_cut,
        };
        out.numbers(self);
        out.attempts(self);
        let words = [
            (self.call_id, TEXT_MAX),
            (self.from_user, WORD_MAX),
            (self.to_user, WORD_MAX),
            (self.request_uri, TEXT_MAX),
            (self.from_tag, WORD_MAX),
            (self.to_tag, WORD_MAX),
        ];
        // The length of each word that follows has its two octets, whatever is cut.
        for (at, (word, max)) in words.into_iter().enumerate() {
            let spared = 2 * (words.len() - 1 - at);
            out.word(word, max, spared);
        }
        let (len, is_cut) = (out.out.len(), out.is_cut);
        buffer[len] = u8::from(is_cut);
        len + 1
    }

    /// Reads a record; `None` = it was written by another version of the program.
    pub fn decode(octets: &'a [u8]) -> Option<Cdr<'a>> {
        let (is_cut, octets) = octets.split_last()?;
        let mut read = Reader(octets);
        let mut cdr = Cdr {
            is_cut: *is_cut != 0,
            ..Cdr::BLANK
        };
        read.numbers(&mut cdr)?;
        read.attempts(&mut cdr)?;
        for word in [
            &mut cdr.call_id,
            &mut cdr.from_user,
            &mut cdr.to_user,
            &mut cdr.request_uri,
            &mut cdr.from_tag,
            &mut cdr.to_tag,
        ] {
            *word = read.word()?;
        }
        read.0.is_empty().then_some(cdr)
    }
}

const HAS_RINGING: u8 = 1;
const HAS_ANSWER: u8 = 2;
const HAS_SETUP_DELAY: u8 = 4;
const HAS_LIMIT: u8 = 8;
const RESUMED: u8 = 16;

struct Writer<'b> {
    out: Cursor<'b>,
    octets_max: usize,
    is_cut: bool,
}

impl Writer<'_> {
    fn numbers(&mut self, cdr: &Cdr<'_>) {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(cdr.ringing_us.is_some(), HAS_RINGING)
            | flag(cdr.answer_us.is_some(), HAS_ANSWER)
            | flag(cdr.setup_delay_ms.is_some(), HAS_SETUP_DELAY)
            | flag(cdr.limit.is_some(), HAS_LIMIT)
            | flag(cdr.resumed, RESUMED);
        let party = cdr.hung_up_by.map_or(u8::MAX, |party| party as u8);
        self.out
            .put(&[flags, cdr.disposition as u8, party, cdr.q850]);
        for number in [
            cdr.start_id,
            cdr.sequence,
            cdr.attempt_id,
            cdr.start_us,
            cdr.ringing_us.unwrap_or(0),
            cdr.answer_us.unwrap_or(0),
            cdr.end_us,
            cdr.duration_ms,
        ] {
            self.out.put(&number.to_le_bytes());
        }
        self.out.put(&cdr.setup_delay_ms.unwrap_or(0).to_le_bytes());
        self.out.put(&cdr.route_line.to_le_bytes());
        self.out.put(&cdr.shard.to_le_bytes());
        self.out.put(&cdr.code.to_le_bytes());
        self.address(cdr.caller);
        self.address(cdr.callee);
        for name in [cdr.trunk_in, cdr.trunk_out, cdr.end_reason] {
            self.name(name);
        }
        if let Some(limit) = cdr.limit {
            self.out.put(&[limit.kind as u8]);
            self.name(limit.name);
        }
    }

    fn attempts(&mut self, cdr: &Cdr<'_>) {
        let attempts = cdr.attempts();
        // Fits: there are eight at most.
        self.out.put(&[attempts.len() as u8]);
        self.out.put(&cdr.attempts_made.to_le_bytes());
        for attempt in attempts {
            self.name(attempt.trunk);
            self.address(attempt.address);
            self.out.put(&[attempt.end as u8]);
            self.out.put(&attempt.code.to_le_bytes());
            self.out.put(&attempt.start_ms.to_le_bytes());
            self.out.put(&attempt.end_ms.to_le_bytes());
        }
    }

    fn name(&mut self, name: &[u8]) {
        let kept = &name[..name.len().min(NAME_MAX)];
        self.is_cut |= kept.len() < name.len();
        // Fits: it is 64 octets at most.
        self.out.put(&[kept.len() as u8]);
        self.out.put(kept);
    }

    fn word(&mut self, word: &[u8], max: usize, spared: usize) {
        let left = self.octets_max.saturating_sub(self.out.len() + 2 + spared);
        let kept = &word[..word.len().min(max).min(left)];
        self.is_cut |= kept.len() < word.len();
        // Fits: it is 512 octets at most.
        self.out.put(&(kept.len() as u16).to_le_bytes());
        self.out.put(kept);
    }

    fn address(&mut self, address: Option<SocketAddr>) {
        match address {
            None => self.out.put(&[0]),
            Some(address) => {
                match address.ip() {
                    IpAddr::V4(ip) => {
                        self.out.put(&[4]);
                        self.out.put(&ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        self.out.put(&[6]);
                        self.out.put(&ip.octets());
                    }
                }
                self.out.put(&address.port().to_le_bytes());
            }
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn long(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn int(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn short(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let [len] = self.array()?;
        self.take(usize::from(len))
    }

    fn word(&mut self) -> Option<&'a [u8]> {
        let len = self.short()?;
        self.take(usize::from(len))
    }

    fn address(&mut self) -> Option<Option<SocketAddr>> {
        let ip = match self.array()? {
            [0] => return Some(None),
            [4] => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            [6] => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            [_] => return None,
        };
        Some(Some(SocketAddr::new(ip, self.short()?)))
    }

    fn numbers(&mut self, cdr: &mut Cdr<'a>) -> Option<()> {
        let [flags, disposition, party, q850] = self.array()?;
        let has = |flag: u8| flags & flag != 0;
        cdr.disposition = Disposition::of_octet(disposition)?;
        cdr.hung_up_by = Party::of_octet(party);
        cdr.q850 = q850;
        cdr.resumed = has(RESUMED);
        cdr.start_id = self.long()?;
        cdr.sequence = self.long()?;
        cdr.attempt_id = self.long()?;
        cdr.start_us = self.long()?;
        cdr.ringing_us = Some(self.long()?).filter(|_| has(HAS_RINGING));
        cdr.answer_us = Some(self.long()?).filter(|_| has(HAS_ANSWER));
        cdr.end_us = self.long()?;
        cdr.duration_ms = self.long()?;
        cdr.setup_delay_ms = Some(self.int()?).filter(|_| has(HAS_SETUP_DELAY));
        cdr.route_line = self.int()?;
        cdr.shard = self.short()?;
        cdr.code = self.short()?;
        cdr.caller = self.address()?;
        cdr.callee = self.address()?;
        cdr.trunk_in = self.name()?;
        cdr.trunk_out = self.name()?;
        cdr.end_reason = self.name()?;
        if has(HAS_LIMIT) {
            let [kind] = self.array()?;
            cdr.limit = Some(LimitHit {
                kind: LimitKind::of_octet(kind)?,
                name: self.name()?,
            });
        }
        Some(())
    }

    fn attempts(&mut self, cdr: &mut Cdr<'a>) -> Option<()> {
        let [len] = self.array()?;
        cdr.attempts_len = usize::from(len);
        cdr.attempts_made = self.short()?;
        for attempt in cdr.attempts.get_mut(..usize::from(len))? {
            attempt.trunk = self.name()?;
            attempt.address = self.address()?;
            let [end] = self.array()?;
            attempt.end = AttemptEnd::of_octet(end)?;
            attempt.code = self.short()?;
            attempt.start_ms = self.int()?;
            attempt.end_ms = self.int()?;
        }
        Some(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record in which every field says something of its own.
    pub fn full() -> Cdr<'static> {
        let address = |text: &str| Some(text.parse().expect("an address"));
        let mut cdr = Cdr {
            start_id: 1_764_000_000_000_001,
            shard: 3,
            sequence: 42,
            attempt_id: 0xfeed_beef,
            start_us: 1_764_000_001_000_900,
            ringing_us: Some(1_764_000_001_200_000),
            answer_us: Some(1_764_000_003_000_000),
            end_us: 1_764_000_063_000_000,
            setup_delay_ms: Some(199),
            duration_ms: 60_000,
            code: 200,
            q850: 16,
            disposition: Disposition::Answered,
            hung_up_by: Some(Party::Callee),
            end_reason: b"BYE",
            limit: Some(LimitHit {
                name: b"pbx1",
                kind: LimitKind::CallsOutMax,
            }),
            route_line: 17,
            resumed: true,
            caller: address("198.51.100.10:5060"),
            callee: address("[2001:db8::5]:5080"),
            trunk_in: b"carrier",
            trunk_out: b"pbx2",
            attempts_len: 2,
            attempts_made: 2,
            call_id: b"c1@host",
            request_uri: b"sip:100@192.0.2.1",
            from_user: b"+49301",
            from_tag: b"a",
            to_user: b"100",
            to_tag: b"b",
            ..Cdr::BLANK
        };
        cdr.attempts[0] = AttemptRecord {
            trunk: b"pbx1",
            address: address("203.0.113.5:5060"),
            code: 503,
            end: AttemptEnd::Status,
            start_ms: 1,
            end_ms: 20,
        };
        cdr.attempts[1] = AttemptRecord {
            trunk: b"pbx2",
            address: address("[2001:db8::5]:5080"),
            code: 200,
            end: AttemptEnd::Answered,
            start_ms: 20,
            end_ms: 2_000,
        };
        cdr
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        for cdr in [full(), Cdr::BLANK] {
            let mut buffer = [0u8; 2024];
            let len = cdr.encode(&mut buffer);
            assert_eq!(Cdr::decode(&buffer[..len]), Some(cdr));
        }
    }

    #[test]
    fn the_largest_record_fits_and_says_what_it_left_out() {
        let long = [b'x'; 4_000];
        let mut cdr = Cdr {
            call_id: &long,
            request_uri: &long,
            from_user: &long,
            to_user: &long,
            from_tag: &long,
            to_tag: &long,
            trunk_in: &long,
            trunk_out: &long,
            end_reason: &long,
            limit: Some(LimitHit {
                name: &long,
                kind: LimitKind::Cps,
            }),
            attempts_len: ATTEMPTS_MAX,
            ..Cdr::BLANK
        };
        for attempt in &mut cdr.attempts {
            attempt.trunk = &long;
            attempt.address = "[2001:db8::5]:5080".parse().ok();
        }
        let mut buffer = [0u8; 2024];
        let len = cdr.encode(&mut buffer);
        let read = Cdr::decode(&buffer[..len]).expect("whole");
        assert!(read.is_cut);
        assert_eq!(read.call_id.len(), TEXT_MAX);
        assert_eq!(read.to_user.len(), WORD_MAX);
        assert_eq!(read.attempts().len(), ATTEMPTS_MAX);
    }

    #[test]
    fn what_is_cut_short_or_changed_is_no_record_and_no_panic() {
        let mut buffer = [0u8; 2024];
        let len = full().encode(&mut buffer);
        for cut in 0..len {
            assert_eq!(Cdr::decode(&buffer[..cut]), None, "{cut}");
        }
        for at in 0..len {
            let mut changed = buffer;
            changed[at] ^= 0xff;
            let _any = Cdr::decode(&changed[..len]);
        }
    }
}
