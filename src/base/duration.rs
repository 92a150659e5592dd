//! Durations as people write them: `500ms`, `10s`, `2m`, `1h30m`, `2d`.

use core::fmt;
use core::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationFault {
    NumberMissing,
    UnitMissing,
    UnitUnknown,
    TooLong,
}

impl fmt::Display for DurationFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            DurationFault::NumberMissing => "a number is missing",
            DurationFault::UnitMissing => "the unit is missing",
            DurationFault::UnitUnknown => "the units are ms, s, m, h and d",
            DurationFault::TooLong => "that is too long",
        })
    }
}

/// Reads numbers with units and adds them up.
pub fn parse(text: &str) -> Result<Duration, DurationFault> {
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    loop {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return Err(DurationFault::NumberMissing);
        }
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| DurationFault::TooLong)?;
        total_ms = number
            .checked_mul(unit_ms(unit, after)?)
            .and_then(|part| total_ms.checked_add(part))
            .ok_or(DurationFault::TooLong)?;
        rest = after.trim_start();
        if rest.is_empty() {
            return Ok(Duration::from_millis(total_ms));
        }
    }
}

fn unit_ms(unit: &str, after: &str) -> Result<u64, DurationFault> {
    match unit {
        "ms" => Ok(1),
        "s" => Ok(1_000),
        "m" => Ok(60_000),
        "h" => Ok(3_600_000),
        "d" => Ok(86_400_000),
        "" if after.is_empty() => Err(DurationFault::UnitMissing),
        _ => Err(DurationFault::UnitUnknown),
    }
}

/// Writes a duration the way it is read.
pub fn show(value: Duration) -> String {
    let mut left = value.as_millis();
    let mut text = String::new();
    for (name, ms) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ] {
        if left >= ms {
            text.push_str(&format!("{}{name}", left / ms));
            left %= ms;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_alike() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(show(Duration::from_millis(ms)), text);
        }
        assert_eq!(parse(" 1h 30m "), Ok(Duration::from_secs(5_400)));
        assert_eq!(show(Duration::ZERO), "0s");
    }

    #[test]
    fn what_is_no_duration_is_told_apart() {
        assert_eq!(parse(""), Err(DurationFault::NumberMissing));
        assert_eq!(parse("s"), Err(DurationFault::NumberMissing));
        assert_eq!(parse("-1s"), Err(DurationFault::NumberMissing));
        assert_eq!(parse("10"), Err(DurationFault::UnitMissing));
        assert_eq!(parse("1h30"), Err(DurationFault::UnitMissing));
        assert_eq!(parse("10 s"), Err(DurationFault::UnitUnknown));
        assert_eq!(parse("10min"), Err(DurationFault::UnitUnknown));
        assert_eq!(parse("1.5s"), Err(DurationFault::UnitUnknown));
        assert_eq!(parse("99999999999999999999s"), Err(DurationFault::TooLong));
        assert_eq!(parse("999999999999999999d"), Err(DurationFault::TooLong));
    }
}
