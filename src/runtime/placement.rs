//! How many shards there are, and which CPU each is pinned to.

use crate::config::ShardSpec;

/// The CPU of each shard (`None` = not pinned), and what the operator should know about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    pub cpus: Vec<Option<usize>>,
    pub warnings: Vec<String>,
}

/// Places shards on the CPUs that the affinity mask of this process allows.
pub fn place(wish: &ShardSpec) -> Placement {
    let usable: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect();
    place_on(wish, &usable)
}

fn place_on(wish: &ShardSpec, usable: &[usize]) -> Placement {
    let mut warnings = Vec::new();
    let cpus: Vec<Option<usize>> = match wish {
        ShardSpec::Auto if usable.is_empty() => {
            warnings.push("the CPUs of this process are unknown: one shard, not pinned".to_owned());
            vec![None]
        }
        ShardSpec::Auto => usable
            .iter()
            .copied()
            .take(wish.count(usable.len()))
            .map(Some)
            .collect(),
        ShardSpec::Count(count) => {
            if *count > usable.len() {
                warnings.push(format!(
                    "{count} shards share {} usable CPUs: more shards than CPUs cost throughput and gain nothing",
                    usable.len()
                ));
            }
            (0..*count).map(|shard| nth_round(usable, shard)).collect()
        }
        ShardSpec::CpuList(list) => list
            .iter()
            .map(|cpu| allowed(*cpu, usable, &mut warnings))
            .collect(),
    };
    Placement { cpus, warnings }
}

fn nth_round(usable: &[usize], shard: usize) -> Option<usize> {
    usable.get(shard.checked_rem(usable.len())?).copied()
}

fn allowed(cpu: usize, usable: &[usize], warnings: &mut Vec<String>) -> Option<usize> {
    if usable.contains(&cpu) {
        return Some(cpu);
    }
    warnings.push(format!(
        "CPU {cpu} is not usable by this process (usable: {}): its shard runs unpinned",
        cpu_list(usable)
    ));
    None
}

/// Pins the calling thread; `false` where the kernel refuses.
pub fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// Writes CPUs the way the kernel does: `0-3,8`.
pub fn cpu_list(cpus: &[usize]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while at < cpus.len() {
        let first = cpus[at];
        let mut last = first;
        while cpus.get(at + 1) == Some(&(last + 1)) {
            at += 1;
            last = cpus[at];
        }
        at += 1;
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&first.to_string());
        if last > first {
            text.push_str(&format!("-{last}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_each_usable_cpu_once() {
        let placement = place_on(&ShardSpec::Auto, &[2, 5]);
        assert_eq!(placement.cpus, [Some(2), Some(5)]);
        assert!(placement.warnings.is_empty());
    }

    #[test]
    fn more_shards_than_cpus_go_round_and_are_warned_about() {
        let placement = place_on(&ShardSpec::Count(3), &[2, 5]);
        assert_eq!(placement.cpus, [Some(2), Some(5), Some(2)]);
        assert_eq!(placement.warnings.len(), 1);
    }

    #[test]
    fn a_cpu_outside_the_mask_is_not_pinned_to() {
        let placement = place_on(&ShardSpec::CpuList(vec![5, 9]), &[2, 5]);
        assert_eq!(placement.cpus, [Some(5), None]);
        assert_eq!(placement.warnings.len(), 1);
    }

    #[test]
    fn lists_of_cpus_are_written_as_the_kernel_does() {
        assert_eq!(cpu_list(&[0, 1, 2, 3, 8]), "0-3,8");
        assert_eq!(cpu_list(&[7]), "7");
        assert_eq!(cpu_list(&[]), "");
    }
}
