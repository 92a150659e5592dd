//! `[node] coalesce`: `auto`, `off`, or a tick as in `250us`.

use core::time::Duration;

use super::CoalesceChoice;
use super::fault::Sheet;
use super::section::Entry;

/// Reads the rule by which datagrams gather.
pub(super) fn read(entry: &Entry<'_>, sheet: &mut Sheet<'_>) -> Option<CoalesceChoice> {
    let text = entry.string(sheet, WANTED)?;
    let choice = parse(text);
    if choice.is_none() {
        let message = format!(
            "`{}` must be {WANTED}; found \"{}\"",
            entry.key,
            text.escape_debug()
        );
        let hint = "a tick is how long a busy shard lets datagrams gather: \
                    longer costs latency, shorter costs CPU time";
        sheet.fault_hint(entry.span(), message, hint);
    }
    choice
}

/// Writes a rule the way it is read.
pub(super) fn show(choice: CoalesceChoice) -> String {
    match choice {
        CoalesceChoice::Auto => "auto".to_owned(),
        CoalesceChoice::Off => "off".to_owned(),
        CoalesceChoice::Tick(tick) => format!("{}us", tick.as_micros()),
    }
}

fn parse(text: &str) -> Option<CoalesceChoice> {
    let (number, unit_us) = match text {
        "auto" => return Some(CoalesceChoice::Auto),
        "off" => return Some(CoalesceChoice::Off),
        _ => match text.strip_suffix("us") {
            Some(number) => (number, 1),
            None => (text.strip_suffix("ms")?, 1_000),
        },
    };
    let tick_us = number
        .trim_end()
        .parse::<u64>()
        .ok()?
        .checked_mul(unit_us)?;
    let legal = (TICK_LEAST_US..=TICK_MOST_US).contains(&tick_us);
    legal.then(|| CoalesceChoice::Tick(Duration::from_micros(tick_us)))
}

const WANTED: &str = "\"auto\", \"off\" or a tick from \"50us\" to \"5ms\"";
/// The kernel's timers are that late anyway (50 µs of slack).
const TICK_LEAST_US: u64 = 50;
/// Two ticks per answer must not come near T1, or callers send again.
const TICK_MOST_US: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_written_alike() {
        for text in ["auto", "off", "50us", "250us", "5000us"] {
            assert_eq!(parse(text).map(show).as_deref(), Some(text));
        }
        let tick = CoalesceChoice::Tick(Duration::from_millis(1));
        assert_eq!(parse("1ms"), Some(tick));
    }

    #[test]
    fn what_is_no_rule_or_no_sane_tick_is_refused() {
        for text in [
            "",
            "on",
            "250",
            "49us",
            "6ms",
            "-1us",
            "1.5ms",
            "1s",
            "99999999999999999999ms",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
