//! What a world is like, thrown from its seed: weather, manners, size, and what goes wrong in it.

use callgate::shard::Capacity;

use crate::dice::Dice;
use crate::network::Weather;

/// What a world is like, thrown from the seed.
#[derive(Clone, Copy, Debug)]
pub struct Climate {
    pub weather: Weather,
    /// All peers behave well: every outcome is known.
    pub polite: bool,
    pub shards: usize,
    pub capacity: Capacity,
    /// A tenth of the turns finds an outbox with hardly any room.
    pub tight_outbox: bool,
    pub pause_max: u64,
    pub operators: bool,
    pub moods: bool,
    /// Peers are cut off for a while.
    pub partitions: bool,
    /// Answered calls are recorded in files.
    pub keeps_calls: bool,
    /// The process dies now and then, and starts again from its files.
    pub crashes: bool,
}

impl Climate {
    pub fn of(dice: &mut Dice) -> Climate {
        let weather = Weather::of(dice);
        let polite = weather.is_calm() && dice.chance(500);
        let roomy = polite || dice.chance(700);
        // With hardly any room some calls are not recorded.
        let crashes = roomy && dice.chance(350);
        Climate {
            weather,
            polite,
            shards: dice.pick(&[1, 2, 3, 4]),
            capacity: match roomy {
                true => Capacity {
                    dialogs: 400,
                    transactions: 1600,
                },
                false => Capacity {
                    dialogs: 6,
                    transactions: 30,
                },
            },
            tight_outbox: !polite && dice.chance(150),
            pause_max: dice.weighted(&[(1, 2_000), (3, 20_000), (4, 120_000)]),
            operators: dice.chance(500),
            moods: !polite && dice.chance(500),
            partitions: !polite && dice.chance(300),
            keeps_calls: crashes || dice.chance(200),
            crashes,
        }
    }

    /// Nothing goes wrong that the peers do not do themselves.
    pub fn is_plain(&self) -> bool {
        let is_calm = self.weather.is_calm() && !self.partitions && !self.moods;
        is_calm && !self.crashes && !self.is_cramped()
    }

    /// What the peers do decides all that the node does.
    pub fn is_foreseen(&self) -> bool {
        self.polite && !self.operators && self.is_plain()
    }

    /// Letters in the inbox of a shard.
    pub fn letters_max(&self) -> usize {
        if self.is_cramped() { 4 } else { 256 }
    }

    /// Whether datagrams are lost inside of the gate for want of room.
    pub fn is_cramped(&self) -> bool {
        self.tight_outbox || self.capacity.dialogs < 100
    }
}
