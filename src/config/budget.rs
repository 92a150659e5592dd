//! How much memory a configuration will take: for the line at the start.

use core::fmt;

use super::Config;

/// Octets per record, measured by those who keep the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSizes {
    /// A dialog with its identifiers and index entry.
    pub dialog: usize,
    /// A transaction with its stored message, timers and index entry.
    pub transaction: usize,
    /// What a shard takes whatever the capacity: rings, buffers, outbox.
    pub shard: usize,
    /// A trunk or group: limit counters, health, metrics of one shard.
    pub trunk: usize,
}

/// Memory by what takes it, in MiB, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub dialogs_mib: u64,
    pub transactions_mib: u64,
    pub shards_mib: u64,
    pub trunks_mib: u64,
}

impl Budget {
    /// All of it, in MiB.
    pub fn total_mib(&self) -> u64 {
        self.dialogs_mib + self.transactions_mib + self.shards_mib + self.trunks_mib
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "memory {} MiB: dialogs {}, transactions {}, shards {}, trunks {}",
            self.total_mib(),
            self.dialogs_mib,
            self.transactions_mib,
            self.shards_mib,
            self.trunks_mib
        )
    }
}

/// Adds up what `shards` shards of this configuration take at most.
pub fn budget(config: &Config, shards: usize, sizes: RecordSizes) -> Budget {
    let per_shard = config.capacity.per_shard(shards);
    let named = config.plan.routing.trunks.len() + config.plan.routing.groups.len();
    Budget {
        dialogs_mib: mib(&[shards, per_shard.dialogs, sizes.dialog]),
        transactions_mib: mib(&[shards, per_shard.transactions, sizes.transaction]),
        shards_mib: mib(&[shards, sizes.shard]),
        trunks_mib: mib(&[shards, named, sizes.trunk]),
    }
}

fn mib(factors: &[usize]) -> u64 {
    let octets = factors.iter().fold(1_u64, |product, factor| {
        product.saturating_mul(*factor as u64)
    });
    octets.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_records_times_their_size() {
        let config = super::super::default_config();
        let sizes = RecordSizes {
            dialog: 512,
            transaction: 2_048,
            shard: 8 << 20,
            trunk: 1_024,
        };
        let budget = budget(&config, 2, sizes);
        assert_eq!(budget.dialogs_mib, 98);
        assert_eq!(budget.transactions_mib, 782);
        assert_eq!(
            budget.to_string(),
            "memory 897 MiB: dialogs 98, transactions 782, shards 16, trunks 1"
        );
    }
}
