//! Dates for file names: UTC, from microseconds since 1970.

/// `20261125T032512.345Z`.
pub fn stamp(wall_us: u64) -> String {
    let (days, of_day_ms) = (wall_us / DAY_US, wall_us % DAY_US / 1000);
    let (year, month, day) = civil(days);
    let (seconds, ms) = (of_day_ms / 1000, of_day_ms % 1000);
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}.{ms:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

const DAY_US: u64 = 86_400_000_000;

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar: counted in
/// years that begin in March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let since_march = days + 719_468;
    let (era, of_era) = (since_march / 146_097, since_march % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Checked with `date -u -d @SECONDS`.
        for (seconds, text) in [
            (0, "19700101T000000.000Z"),
            (951_782_399, "20000228T235959.000Z"),
            (951_782_400, "20000229T000000.000Z"),
            (951_868_800, "20000301T000000.000Z"),
            (1_764_040_512, "20251125T031512.000Z"),
            (4_107_542_399, "21000228T235959.000Z"),
            (4_107_542_400, "21000301T000000.000Z"),
        ] {
            assert_eq!(stamp(seconds * 1_000_000), text);
        }
        assert_eq!(stamp(1_999), "19700101T000000.001Z");
    }
}
