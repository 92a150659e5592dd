//! The network between the gate and its peers: delay, loss, duplication, reordering, corruption, and
//! partitions that cut peers off for a while.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use callgate::base::Instant;

use crate::dice::Dice;
use crate::plans::trunk_addresses;

/// How the network of one world behaves; rates in permille of datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub loss: u32,
    pub duplicates: u32,
    pub reordering: u32,
    pub corruption: u32,
    /// Part of the datagrams that the kernel gives to a shard that does not own them.
    pub wrong_steering: u32,
}

impl Weather {
    /// The weather of a seed: one in three is calm.
    pub fn of(dice: &mut Dice) -> Weather {
        let mut weather = Weather {
            loss: 0,
            duplicates: 0,
            reordering: 0,
            corruption: 0,
            wrong_steering: dice.pick(&[0, 300, 1000]),
        };
        if dice.chance(333) {
            return weather;
        }
        weather.loss = dice.pick(&[0, 5, 30, 150, 400]);
        weather.duplicates = dice.pick(&[0, 10, 100]);
        weather.reordering = dice.pick(&[0, 10, 200]);
        weather.corruption = dice.pick(&[0, 0, 2, 20]);
        weather
    }

    /// Nothing is lost, changed or overtaken: what the peers did decides every outcome.
    pub fn is_calm(&self) -> bool {
        self.loss + self.duplicates + self.reordering + self.corruption == 0
    }

    /// When the copies of a datagram arrive; none when it is lost.
    pub fn fate(&self, dice: &mut Dice) -> [Option<Duration>; 2] {
        let mut copies = [None, None];
        if !dice.chance(self.loss) {
            copies[0] = Some(self.delay(dice));
        }
        if dice.chance(self.duplicates) {
            copies[1] = Some(self.delay(dice));
        }
        copies
    }

    fn delay(&self, dice: &mut Dice) -> Duration {
        if self.is_calm() {
            return Duration::from_millis(5);
        }
        if dice.chance(self.reordering) {
            return dice.millis(1..3000);
        }
        dice.millis(1..40)
    }

    /// Changes some octets; `true` when it did.
    pub fn corrupt(&self, dice: &mut Dice, bytes: &mut Vec<u8>) -> bool {
        if bytes.is_empty() || !dice.chance(self.corruption) {
            return false;
        }
        match dice.below(4) {
            0 => bytes.truncate(dice.below(bytes.len())),
            1 => {
                let at = dice.below(bytes.len());
                let end = (at + dice.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => bytes[0..1].copy_from_slice(&[dice.number() as u8]),
            _ => {
                for _ in 0..=dice.below(4) {
                    let at = dice.below(bytes.len());
                    bytes[at] = dice.number() as u8;
                }
            }
        }
        true
    }
}

/// What becomes of a datagram that a partition stands in the way of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It is lost.
    Silent,
    /// A router says so: ICMP to the gate.
    Refusing,
}

/// Who cannot be reached at the moment, in both directions.
#[derive(Debug, Default)]
pub struct Partitions {
    cut: Vec<(IpAddr, Instant, Cut)>,
}

impl Partitions {
    /// Cuts off one peer, or all of them: the gate's own uplink.
    pub fn begin(&mut self, now: Instant, dice: &mut Dice) {
        self.cut.retain(|(_, until, _)| *until > now);
        let until = now + dice.millis(500..120_000);
        let how = dice.pick(&[Cut::Silent, Cut::Refusing]);
        let peers = trunk_addresses();
        let only = (!dice.chance(200)).then(|| dice.below(peers.len()));
        for (at, peer) in peers.iter().enumerate() {
            if only.is_none_or(|only| only == at) {
                self.cut.push((peer.ip(), until, how));
            }
        }
    }

    /// Whether a peer is cut off.
    pub fn cuts(&self, now: Instant, peer: SocketAddr) -> Option<Cut> {
        let mut cut = self.cut.iter();
        cut.find(|(ip, until, _)| *ip == peer.ip() && *until > now)
            .map(|(_, _, how)| *how)
    }

    /// All peers can be reached again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }
}
