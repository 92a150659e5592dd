//! Which datagrams of an outbox leave as one (UDP_SEGMENT): of one socket, to one peer, of one
//! length. The kernel walks its stack once for all of them and cuts them apart at its end.
//!
//! A group goes out where its first datagram stood, so the others pass what is between. They pass
//! nothing of their own call: a 200 must not arrive before its 180.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::refusals::Refusals;
use super::{Socket, sys};
use crate::net::{Datagram, Flow, Outbox};

/// The kernel's bound (UDP_MAX_SEGMENTS before Linux 6.9).
pub(super) const GROUP_MAX: usize = 64;

/// Octets of one group: what an IP packet may carry, with room for headers.
const GROUP_OCTETS_MAX: usize = 64_000;

/// Fewer than this go singly: the kernel's work for a group of two is that for two singles, and no
/// difference was measured from 1,000 to 10,000 calls/s.
const GROUP_MIN: u32 = 3;

/// Groups that may still grow. A call's messages are of some seven kinds, to two sides.
const OPEN_MAX: usize = 16;

/// Places where calls are noted by their hash; two on one only make groups shorter. All are cleared
/// for each outbox: 16 cache lines.
const CALLS: usize = 512;

/// Longest datagrams to be grouped, tried downwards as the kernel refuses: what loopback takes,
/// Ethernet under IPv4 and under IPv6, the least that IPv6 asks of a link, none.
const LENGTHS: [usize; 5] = [GROUP_OCTETS_MAX / 2, 1472, 1452, 1232, 0];

/// Positions in the outbox that leave together, a part of [`Groups::order`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Bundle {
    start: u32,
    count: u32,
}

/// A group that is being gathered.
#[derive(Clone, Copy, Debug)]
struct Gathering {
    to: Flow,
    len: usize,
    count: u32,
    count_max: u32,
    /// Where its next position goes.
    end: u32,
}

/// Arranges outboxes, in memory taken once.
#[derive(Debug)]
pub(super) struct Groups {
    /// By socket: the longest datagrams that go in groups.
    lengths: Vec<usize>,
    gathering: Vec<Gathering>,
    /// By datagram: its number among `gathering`.
    number: Vec<u16>,
    order: Vec<u32>,
    bundles: Vec<Bundle>,
    /// By the hash of a call: the number of the last group that has a datagram of it.
    latest: Box<[u16; CALLS]>,
    /// No datagram may join a group before this: there stands one that may be of its call.
    barrier: u16,
}

impl Groups {
    /// For these sockets; those for which the kernel knows no groups have none.
    pub(super) fn new(sockets: &[Arc<Socket>], datagrams: usize) -> Groups {
        let length = |socket: &Arc<Socket>| match sys::knows_segments(&**socket) {
            true => LENGTHS[0],
            false => 0,
        };
        Groups {
            lengths: sockets.iter().map(length).collect(),
            gathering: Vec::with_capacity(datagrams),
            number: Vec::with_capacity(datagrams),
            order: Vec::with_capacity(datagrams),
            bundles: Vec::with_capacity(datagrams),
            latest: Box::new([0; CALLS]),
            barrier: 0,
        }
    }

    /// Arranges the whole outbox.
    pub(super) fn gather(&mut self, out: &Outbox, refusals: &mut Refusals) {
        // Groups are numbered with 16 bits, and no shard has as many datagrams in its outbox.
        if out.len() < GROUP_MIN as usize || out.len() > usize::from(u16::MAX) {
            return self.keep(0..out.len() as u32);
        }
        self.gathering.clear();
        self.number.clear();
        self.latest.fill(0);
        self.barrier = 0;
        for datagram in out.iter() {
            let number = self.find(&datagram, refusals);
            self.number.push(number);
        }
        self.lay_out();
    }

    /// Each of these goes singly, in this order.
    pub(super) fn keep(&mut self, positions: impl Iterator<Item = u32>) {
        self.order.clear();
        self.order.extend(positions);
        self.bundles.clear();
        let single = |start| Bundle { start, count: 1 };
        self.bundles
            .extend((0..self.order.len() as u32).map(single));
    }

    /// What is to be sent, in order.
    pub(super) fn bundles(&self) -> &[Bundle] {
        &self.bundles
    }

    /// The positions in the outbox that leave together.
    pub(super) fn positions(&self, bundle: Bundle) -> &[u32] {
        let start = bundle.start as usize;
        &self.order[start..start + bundle.count as usize]
    }

    /// The number of the group that a datagram belongs to: a new one if it fits into none.
    fn find(&mut self, datagram: &Datagram<'_>, refusals: &mut Refusals) -> u16 {
        let newest = self.gathering.len().saturating_sub(1) as u16;
        let place = datagram.call.map(|call| (call.get() >> 1) as usize % CALLS);
        // It may stand behind whatever it must not pass, and nowhere before.
        let floor = place.map_or(newest, |place| self.latest[place].max(self.barrier));
        let number = self
            .join(datagram, usize::from(floor))
            .unwrap_or_else(|| self.begin(datagram, refusals));
        match place {
            Some(place) => self.latest[place] = number,
            None => self.barrier = number,
        }
        number
    }

    /// The newest group that the datagram may join: an earlier one of its kind is full, or closed to
    /// its call.
    fn join(&mut self, datagram: &Datagram<'_>, floor: usize) -> Option<u16> {
        let oldest = floor.max(self.gathering.len().saturating_sub(OPEN_MAX));
        let fits = |group: &Gathering| {
            group.len == datagram.bytes.len()
                && group.to == datagram.to
                && group.count < group.count_max
        };
        let open = &mut self.gathering[oldest..];
        let at = open.iter().rposition(fits)?;
        open[at].count += 1;
        Some((oldest + at) as u16)
    }

    fn begin(&mut self, datagram: &Datagram<'_>, refusals: &mut Refusals) -> u16 {
        let len = datagram.bytes.len();
        let socket = usize::from(datagram.to.listener.0);
        let len_max = self.lengths.get(socket).copied().unwrap_or(0);
        let count_max = match len {
            0 => 1,
            len if len > len_max || refusals.wants_singly(datagram.to.remote) => 1,
            len => GROUP_MAX.min(GROUP_OCTETS_MAX / len) as u32,
        };
        self.gathering.push(Gathering {
            to: datagram.to,
            len,
            count: 1,
            count_max,
            end: 0,
        });
        self.gathering.len() as u16 - 1
    }

    /// Puts the positions of each group side by side.
    fn lay_out(&mut self) {
        self.bundles.clear();
        let mut start = 0;
        for group in &mut self.gathering {
            group.end = start;
            let end = start + group.count;
            if group.count < GROUP_MIN {
                let single = |start| Bundle { start, count: 1 };
                self.bundles.extend((start..end).map(single));
            } else {
                let count = group.count;
                self.bundles.push(Bundle { start, count });
            }
            start = end;
        }
        self.order.clear();
        self.order.resize(self.number.len(), 0);
        for (position, &number) in self.number.iter().enumerate() {
            let end = &mut self.gathering[usize::from(number)].end;
            self.order[*end as usize] = position as u32;
            *end += 1;
        }
    }

    /// The kernel refused a group of datagrams of this length: from here on this socket groups only
    /// shorter ones. That is one of a few lengths, so few groups are refused ever.
    #[cold]
    pub(super) fn refused(&mut self, socket: &Socket, len: usize, errno: i32) {
        let Some(len_max) = self.lengths.get_mut(usize::from(socket.listener().0)) else {
            return;
        };
        if len > *len_max {
            // Another group of the same pass has said so.
            return;
        }
        let too_long = matches!(errno, libc::EMSGSIZE | libc::EINVAL);
        let shorter = LENGTHS.into_iter().find(|length| *length < len && too_long);
        *len_max = shorter.unwrap_or(0);
        let fault = io::Error::from_raw_os_error(errno);
        tracing::info!(
            socket = %socket.local(), fd = socket.as_raw_fd(), len, len_max, %fault,
            "the kernel refuses groups of datagrams of this length: those above len_max go singly"
        );
    }
}

/// Whether this error is about the form of a group, so that its datagrams may well go singly: too
/// long for the route (EINVAL before Linux 6.9), a device or a tunnel that cannot cut them apart.
pub(super) fn is_refusal_of_group(errno: i32) -> bool {
    matches!(
        errno,
        libc::EMSGSIZE | libc::EINVAL | libc::EIO | libc::EOPNOTSUPP
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ListenerId;

    /// Datagrams as (call, peer, octets); `0` stands for a call that is not known.
    fn arranged(groups: &mut Groups, datagrams: &[(u64, u8, usize)]) -> Vec<Vec<u32>> {
        let mut out = Outbox::new(datagrams.len(), 1 << 22);
        for &(call, peer, len) in datagrams {
            out.of_call((call != 0).then_some(call << 1));
            out.push(to(peer), &vec![7; len]).expect("room");
        }
        groups.gather(&out, &mut Refusals::new(1));
        let bundles = groups.bundles().iter();
        bundles
            .map(|bundle| groups.positions(*bundle).to_vec())
            .collect()
    }

    fn to(peer: u8) -> Flow {
        let remote = ([192, 0, 2, peer], 5060).into();
        Flow::udp(ListenerId(0), remote)
    }

    fn groups() -> Groups {
        let mut groups = Groups::new(&[], 4);
        groups.lengths.push(LENGTHS[0]);
        groups
    }

    #[test]
    fn datagrams_of_one_length_to_one_peer_leave_as_one() {
        let datagrams = [
            (1, 1, 300),
            (1, 2, 900),
            (2, 1, 300),
            (2, 2, 900),
            (3, 1, 300),
            (3, 2, 900),
            (4, 3, 300),
        ];
        let sent = arranged(&mut groups(), &datagrams);
        assert_eq!(sent, [vec![0, 2, 4], vec![1, 3, 5], vec![6]]);
    }

    #[test]
    fn two_of_a_kind_go_singly() {
        let sent = arranged(&mut groups(), &[(1, 1, 300), (2, 1, 200), (3, 1, 300)]);
        assert_eq!(sent, [[0], [2], [1]]);
    }

    #[test]
    fn a_200_does_not_pass_its_180() {
        // The 200 of calls 1 to 3 are there when the 180 and the 200 of call 4 come.
        let (ringing, answer) = (300, 500);
        let datagrams = [
            (1, 1, answer),
            (2, 1, answer),
            (3, 1, answer),
            (4, 1, ringing),
            (4, 1, answer),
            (5, 1, answer),
        ];
        let sent = arranged(&mut groups(), &datagrams);
        assert_eq!(sent, [vec![0, 1, 2], vec![3], vec![4], vec![5]]);
    }

    #[test]
    fn nothing_passes_a_datagram_of_an_unknown_call_and_it_passes_nothing() {
        let kinds = [1, 2, 3, 0, 4, 5, 6].map(|call| (call, 1, 300));
        let sent = arranged(&mut groups(), &kinds);
        assert_eq!(
            sent,
            [vec![0, 1, 2, 3, 4, 5, 6]],
            "alike, they stay in order"
        );
        let mut mixed = kinds;
        mixed[3].2 = 200;
        let sent = arranged(&mut groups(), &mixed);
        assert_eq!(sent, [vec![0, 1, 2], vec![3], vec![4, 5, 6]]);
        let sent = arranged(&mut groups(), &[0; 5].map(|call| (call, 1, 300)));
        assert_eq!(sent, [[0, 1, 2, 3, 4]]);
    }

    #[test]
    fn any_mixture_leaves_whole_and_each_call_in_order() {
        let mut groups = groups();
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005) + 1;
            (state >> 33) % below
        };
        for _ in 0..200 {
            let count = 1 + random(300) as usize;
            let datagrams: Vec<_> = (0..count)
                .map(|_| (random(40), random(3) as u8, 100 * random(4) as usize))
                .collect();
            let sent = arranged(&mut groups, &datagrams);
            let order: Vec<u32> = sent.concat();
            let mut seen = order.clone();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..count as u32));
            for call in 1..40 {
                let of_call = |at: &&u32| [0, call].contains(&datagrams[**at as usize].0);
                let unknown = |at: &u32| datagrams[*at as usize].0 == 0;
                let kept: Vec<u32> = order.iter().filter(of_call).copied().collect();
                assert!(kept.is_sorted(), "{call}: {kept:?}");
                assert!(kept.iter().filter(|at| unknown(at)).is_sorted());
            }
            for bundle in sent.iter().filter(|bundle| bundle.len() > 1) {
                let first = datagrams[bundle[0] as usize];
                let alike = |at: &u32| {
                    let (_, peer, len) = datagrams[*at as usize];
                    (peer, len) == (first.1, first.2) && len > 0
                };
                assert!(bundle.iter().all(alike), "{bundle:?}");
            }
        }
    }

    #[test]
    fn a_group_holds_at_most_64_datagrams_and_64000_octets() {
        let mut groups = groups();
        let lens = |sent: Vec<Vec<u32>>| sent.iter().map(Vec::len).collect::<Vec<_>>();
        let many: Vec<_> = (1..=140).map(|call| (call, 1, 100)).collect();
        assert_eq!(lens(arranged(&mut groups, &many)), [64, 64, 12]);
        let large: Vec<_> = (1..=8).map(|call| (call, 1, 15_000)).collect();
        assert_eq!(lens(arranged(&mut groups, &large)), [4, 4]);
        let largest: Vec<_> = (1..=3).map(|call| (call, 1, 65_507)).collect();
        assert_eq!(lens(arranged(&mut groups, &largest)), [1, 1, 1]);
    }

    #[test]
    fn what_the_kernel_refuses_goes_singly_from_then_on_and_what_is_shorter_does_not() {
        let socket = super::super::socket::bind(
            crate::net::ListenerId(0),
            ([127, 0, 0, 1], 0).into(),
            super::super::Buffers::default(),
        )
        .expect("bound");
        let mut groups = groups();
        let counts = |groups: &mut Groups, len| {
            let alike: Vec<_> = (1..=4).map(|call| (call, 1, len)).collect();
            arranged(groups, &alike).len()
        };
        groups.refused(&socket, 1500, libc::EMSGSIZE);
        assert_eq!(
            [1500, 1473, 1472].map(|len| counts(&mut groups, len)),
            [4, 4, 1]
        );
        groups.refused(&socket, 1500, libc::EMSGSIZE);
        assert_eq!(counts(&mut groups, 1472), 1, "said twice of one pass");
        groups.refused(&socket, 1400, libc::EINVAL);
        assert_eq!([1400, 1232].map(|len| counts(&mut groups, len)), [4, 1]);
        groups.refused(&socket, 1000, libc::EMSGSIZE);
        assert_eq!(
            counts(&mut groups, 100),
            4,
            "shorter than any link's maximum"
        );
        let mut groups = self::groups();
        groups.refused(&socket, 1000, libc::EIO);
        assert_eq!(counts(&mut groups, 100), 4, "no groups at all");
    }
}
