//! The command line of the simulator.

use std::time::Duration;

/// What a run without arguments plays: the least that a change must stand.
const HOURS: f64 = 1000.0;

/// What is to be played.
pub struct Arguments {
    pub first: u64,
    /// One seed only.
    one: bool,
    hours: Option<f64>,
    /// Simulated hours after which no further world is begun.
    pub hours_max: f64,
    /// Wall time after which no further world is begun.
    pub seconds_max: f64,
    pub failures_max: u64,
}

impl Arguments {
    /// Reads the arguments; none when they ask for tests that are not here.
    pub fn read(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
        let mut arguments = Arguments {
            first: 1,
            one: false,
            hours: None,
            hours_max: HOURS,
            seconds_max: f64::INFINITY,
            failures_max: 1,
        };
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|next| next.parse::<f64>().ok());
            match word.as_str() {
                "--seed" => {
                    arguments.first = number()? as u64;
                    arguments.one = true;
                }
                "--from" => arguments.first = number()? as u64,
                "--hours" => arguments.hours = Some(number()?),
                "--seconds" => {
                    arguments.seconds_max = number()?;
                    arguments.hours_max = f64::INFINITY;
                }
                "--endless" => arguments.hours_max = f64::INFINITY,
                "--failures" => arguments.failures_max = number()? as u64,
                "--list" => return None,
                flag if flag.starts_with('-') => {}
                // A test filter of `cargo test NAME`.
                name if "sim".contains(name) => {}
                _ => return None,
            }
        }
        Some(arguments)
    }

    pub fn seeds(&self) -> std::ops::RangeInclusive<u64> {
        let last = if self.one { self.first } else { u64::MAX };
        self.first..=last
    }

    /// How long the world of a seed is played.
    pub fn span(&self, seed: u64) -> Duration {
        let hours = self
            .hours
            .unwrap_or(if seed.is_multiple_of(8) { 4.0 } else { 0.5 });
        Duration::from_secs_f64(hours * 3600.0)
    }
}
