//! Whether a configuration fits into this host's memory, told before it is taken.
//!
//! Tables are reserved at the start and touched as calls come, so what does not fit would end the
//! node in the middle of its work, or abort the start without a word.

use std::fs;
use std::path::Path;

use super::placement::Placement;
use crate::config::{self, Budget, Config, RecordSizes, TotalCapacity};

/// Memory that this process may use, in MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Room {
    /// What there is at all.
    limit_mib: u64,
    /// What nobody uses at present.
    available_mib: u64,
    /// Who sets the limit.
    from: String,
}

/// Fails for a configuration that cannot fit, and warns of one that does not fit at present.
pub fn check(config: &Config, placement: &Placement, sizes: RecordSizes) -> Result<(), String> {
    let budget = config::budget(config, placement.cpus.len(), sizes);
    if let Some(room) = room(Path::new("/")) {
        let fit = largest(&config.capacity, &budget, room.limit_mib);
        refuse(&budget, &room, &fit)?;
        if budget.total_mib() > room.available_mib {
            let available_mib = room.available_mib;
            tracing::warn!(available_mib, "{budget}: more than is free at present");
        }
    }
    reserve(&budget)
}

/// Lowers what nobody asked for, so that the embedded default starts on a small host, too.
pub fn shrink_to_fit(config: &mut Config, placement: &Placement, sizes: RecordSizes) {
    let Some(room) = room(Path::new("/")) else {
        return;
    };
    let budget = |config: &Config| config::budget(config, placement.cpus.len(), sizes).total_mib();
    let wished = config.capacity.dialogs;
    while budget(config) > room.available_mib / 2 && config.capacity.dialogs > DIALOGS_MIN {
        config.capacity.dialogs /= 2;
        config.capacity.transactions /= 2;
    }
    let dialogs = config.capacity.dialogs;
    if dialogs < wished {
        tracing::warn!(dialogs, "little memory is free: the tables are smaller");
    }
}

/// Enough to try the program out.
const DIALOGS_MIN: usize = 1000;

fn refuse(budget: &Budget, room: &Room, fit: &TotalCapacity) -> Result<(), String> {
    if budget.total_mib() <= room.limit_mib {
        return Ok(());
    }
    let (limit_mib, from) = (room.limit_mib, &room.from);
    let (dialogs, transactions) = (fit.dialogs, fit.transactions);
    Err(format!(
        "{budget}: more than the {limit_mib} MiB of {from}\n\
         [capacity] dialogs = {dialogs}, transactions = {transactions} would fit"
    ))
}

/// The same proportions in four fifths of the limit, in round numbers.
fn largest(wished: &TotalCapacity, budget: &Budget, limit_mib: u64) -> TotalCapacity {
    let fixed_mib = budget.shards_mib + budget.trunks_mib;
    let tables_mib = (budget.total_mib() - fixed_mib).max(1);
    let room_mib = (limit_mib / 5 * 4).saturating_sub(fixed_mib);
    let scaled = |count: usize| {
        let scaled = u128::from(room_mib) * count as u128 / u128::from(tables_mib);
        let scaled = usize::try_from(scaled).unwrap_or(usize::MAX).min(count);
        (scaled / 1000 * 1000).max(1)
    };
    TotalCapacity {
        dialogs: scaled(wished.dialogs),
        transactions: scaled(wished.transactions),
    }
}

/// Reserves all of it once and gives it back: a reservation that fails later is an abort. It
/// fails for limits that are not about memory in use: `ulimit -v`, strict overcommit.
fn reserve(budget: &Budget) -> Result<(), String> {
    let octets = usize::try_from(budget.total_mib()).unwrap_or(usize::MAX);
    let octets = octets.saturating_mul(1 << 20);
    Vec::<u8>::new().try_reserve_exact(octets).map_err(|_| {
        format!(
            "{budget}: the kernel does not reserve as much\n\
             lower [capacity], or see `ulimit -v` and vm.overcommit_memory"
        )
    })
}

/// Reads the room from below `root`; `None` where the kernel does not tell.
fn room(root: &Path) -> Option<Room> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total_mib = field_mib(&meminfo, "MemTotal:")?;
    let mut room = Room {
        limit_mib: total_mib,
        available_mib: field_mib(&meminfo, "MemAvailable:").unwrap_or(total_mib),
        from: "this host".to_owned(),
    };
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (base, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        narrow(&mut room, &root.join(base), path, file);
    }
    room.available_mib = room.available_mib.min(room.limit_mib);
    Some(room)
}

/// The limits of a control group and of all that it is in.
fn narrow(room: &mut Room, base: &Path, path: &str, file: &str) {
    for group in Path::new(path.trim_start_matches('/')).ancestors() {
        let limit = fs::read_to_string(base.join(group).join(file)).ok();
        // `max`, or a number beyond all memory, is no limit.
        let Some(octets) = limit.and_then(|text| text.trim().parse::<u64>().ok()) else {
            continue;
        };
        if octets >> 20 < room.limit_mib {
            room.limit_mib = octets >> 20;
            room.from = format!("the control group /{} ({file})", group.display());
        }
    }
}

fn field_mib(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget {
        dialogs_mib: 1000,
        transactions_mib: 3000,
        shards_mib: 20,
        trunks_mib: 1,
    };

    fn host(name: &str, files: &[(&str, &str)]) -> Option<Room> {
        let root = std::env::temp_dir().join(format!("callgate-{}-{name}", std::process::id()));
        for (file, text) in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().expect("below the root")).expect("a directory");
            fs::write(file, text).expect("a file");
        }
        let room = room(&root);
        let _never_made = fs::remove_dir_all(&root);
        room
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       8388608 kB\nMemFree: 1 kB\nMemAvailable:   4194304 kB\n",
    );

    #[test]
    fn the_narrowest_of_host_and_control_groups_counts() {
        let room = host("plain", &[MEMINFO]).expect("a host");
        assert_eq!((room.limit_mib, room.available_mib), (8192, 4096));
        let room = host(
            "grouped",
            &[
                MEMINFO,
                (
                    "proc/self/cgroup",
                    "1:name=x:/\n0::/system.slice/callgate.service\n",
                ),
                ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
                (
                    "sys/fs/cgroup/system.slice/callgate.service/memory.max",
                    "max\n",
                ),
            ],
        );
        let room = room.expect("a host");
        assert_eq!((room.limit_mib, room.available_mib), (1024, 1024));
        assert!(room.from.contains("/system.slice "), "{}", room.from);
        assert_eq!(host("silent", &[]), None);
    }

    #[test]
    fn a_budget_beyond_the_limit_is_refused_with_one_that_fits() {
        let room = Room {
            limit_mib: 2048,
            available_mib: 100,
            from: "this host".to_owned(),
        };
        let wished = TotalCapacity {
            dialogs: 100_000,
            transactions: 200_000,
        };
        let fit = largest(&wished, &BUDGET, room.limit_mib);
        assert_eq!((fit.dialogs, fit.transactions), (40_000, 80_000));
        let told = refuse(&BUDGET, &room, &fit).expect_err("too much");
        assert_eq!(
            told,
            "memory 4021 MiB: dialogs 1000, transactions 3000, shards 20, trunks 1: more than \
             the 2048 MiB of this host\n\
             [capacity] dialogs = 40000, transactions = 80000 would fit"
        );
    }

    #[test]
    fn what_no_kernel_reserves_is_told_not_an_abort() {
        let absurd = Budget {
            dialogs_mib: 1 << 40,
            ..BUDGET
        };
        assert!(
            reserve(&absurd)
                .expect_err("too much")
                .contains("ulimit -v")
        );
        assert_eq!(
            reserve(&Budget {
                dialogs_mib: 1,
                transactions_mib: 1,
                ..BUDGET
            }),
            Ok(())
        );
    }
}
