//! How many shards and on which CPUs: `"auto"`, a number, or a list such as `"2-5,8"`.

use toml_edit::Value;

use super::fault::Sheet;
use super::section::Entry;

/// `[node] shards`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardSpec {
    /// One per CPU that the process may use.
    Auto,
    /// So many, spread over the usable CPUs; more than there are is allowed.
    Count(usize),
    /// One on each of these CPUs, in this order.
    CpuList(Vec<usize>),
}

impl ShardSpec {
    /// Reads the entry; a fault gives [`ShardSpec::Auto`] as a stand-in.
    pub(super) fn read(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> ShardSpec {
        match entry.value() {
            Some(Value::Integer(_)) => entry
                .integer(sheet, 1..=SHARDS_MAX as i64)
                .map_or(ShardSpec::Auto, |count| ShardSpec::Count(count as usize)),
            Some(Value::String(text)) if text.value() == "auto" => ShardSpec::Auto,
            Some(Value::String(text)) => match cpu_list(text.value()) {
                Ok(cpus) => ShardSpec::CpuList(cpus),
                Err(why) => {
                    let message = format!(
                        "`shards` is {WANTED}; found \"{}\": {why}",
                        text.value().escape_debug()
                    );
                    sheet.fault(entry.span(), message);
                    ShardSpec::Auto
                }
            },
            _ => {
                entry.wrong_type(sheet, WANTED);
                ShardSpec::Auto
            }
        }
    }

    /// Number of shards on a host where `usable` CPUs may be used.
    pub fn count(&self, usable: usize) -> usize {
        match self {
            ShardSpec::Auto => usable.clamp(1, SHARDS_MAX),
            ShardSpec::Count(count) => *count,
            ShardSpec::CpuList(cpus) => cpus.len(),
        }
    }

    /// The spec as it is written in a configuration.
    pub fn text(&self) -> String {
        match self {
            ShardSpec::Auto => "auto".to_owned(),
            ShardSpec::Count(count) => count.to_string(),
            ShardSpec::CpuList(cpus) => cpus
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(","),
        }
    }
}

/// Reads `"2-5,8"` as the kernel's own lists are written.
pub(super) fn cpu_list(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (cpu(first)?, cpu(last)?);
        if first > last {
            return Err(format!(
                "the range {first}-{last} runs backwards; write {last}-{first}"
            ));
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} is named twice"));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

fn cpu(text: &str) -> Result<usize, String> {
    let text = text.trim();
    match text.parse::<usize>() {
        Ok(cpu) if cpu < SHARDS_MAX => Ok(cpu),
        Ok(cpu) => Err(format!("CPU {cpu} is beyond {}", SHARDS_MAX - 1)),
        Err(_) => Err(format!("\"{}\" is no CPU number", text.escape_debug())),
    }
}

/// Shards of one node, and one more than the highest CPU number.
pub(super) const SHARDS_MAX: usize = 1024;
const WANTED: &str = "\"auto\", a number of shards, or a CPU list such as \"2-5,8\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_list_is_read_in_its_order() {
        assert_eq!(cpu_list("2-5,8"), Ok(vec![2, 3, 4, 5, 8]));
        assert_eq!(cpu_list("8, 2"), Ok(vec![8, 2]));
        assert_eq!(cpu_list("0"), Ok(vec![0]));
    }

    #[test]
    fn a_faulty_cpu_list_says_which_part() {
        assert_eq!(
            cpu_list("5-2").unwrap_err(),
            "the range 5-2 runs backwards; write 2-5"
        );
        assert_eq!(cpu_list("1,1").unwrap_err(), "CPU 1 is named twice");
        assert_eq!(cpu_list("1,,2").unwrap_err(), "\"\" is no CPU number");
        assert_eq!(cpu_list("-3").unwrap_err(), "\"\" is no CPU number");
        assert_eq!(
            cpu_list("0-99999999999").unwrap_err(),
            "CPU 99999999999 is beyond 1023"
        );
    }
}
