//! Lengths of time as the command line has them: `250us`, `10ms`, `5s`, `2m`; `exp:5s` draws each
//! from an exponential distribution of that mean.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use callgate::base::Random;

/// A length that is the same every time, or random with a mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Fixed(Duration),
    Exponential(Duration),
}

/// An exponential draw is cut here: longer ones are one in 20,000 and would only delay the end.
const EXPONENTIAL_MAX: f64 = 10.0;

impl Span {
    /// Draws a length.
    pub fn draw(self, random: &mut Random) -> Duration {
        match self {
            Span::Fixed(length) => length,
            Span::Exponential(mean) => {
                // 53 bits fill a float's fraction; 1 - x is never 0.
                let uniform = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
                mean.mul_f64((-(1.0 - uniform).ln()).min(EXPONENTIAL_MAX))
            }
        }
    }

    /// No draw is longer.
    pub fn longest(self) -> Duration {
        match self {
            Span::Fixed(length) => length,
            Span::Exponential(mean) => mean.mul_f64(EXPONENTIAL_MAX),
        }
    }

    /// The average of many draws.
    pub fn mean(self) -> Duration {
        match self {
            Span::Fixed(length) | Span::Exponential(length) => length,
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        match text.strip_prefix("exp:") {
            Some(mean) => duration(mean).map(Span::Exponential),
            None => duration(text).map(Span::Fixed),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::Fixed(length) => write!(f, "{length:?}"),
            Span::Exponential(mean) => write!(f, "exp:{mean:?}"),
        }
    }
}

/// Reads `250us`, `10ms`, `5s`, `2m`, `1h`; a number alone counts seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("`{unit}` is no unit: use us, ms, s, m or h")),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is no length of time, such as 250us, 10ms, 5s, 2m"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_with_and_without_unit() {
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("5 parsecs").is_err());
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn an_exponential_span_has_its_mean() {
        let span: Span = "exp:10ms".parse().expect("a span");
        let mut random = Random::new([1; 4]);
        let total: Duration = (0..20_000).map(|_| span.draw(&mut random)).sum();
        let mean = total / 20_000;
        assert!((9_700..10_300).contains(&mean.as_micros()), "{mean:?}");
    }
}
