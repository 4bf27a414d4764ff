//! Calendar: which hour, day, week, month and year a time lies in, UTC, each as a number that grows.
//!
//! Floor 6.

const SECONDS_PER_HOUR: u64 = 60 * 60;
const SECONDS_PER_DAY: u64 = 24 * SECONDS_PER_HOUR;
/// 1970-01-01 was a Thursday: the Monday before it was three days earlier.
const DAYS_SINCE_MONDAY_IN_1970: i64 = 3;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: i64 = 719_468;
/// Days in 400 years of the Gregorian calendar, after which it repeats.
const DAYS_PER_ERA: i64 = 146_097;

pub(super) fn hour_of(seconds: u64) -> i64 {
    (seconds / SECONDS_PER_HOUR).cast_signed()
}

pub(super) fn day_of(seconds: u64) -> i64 {
    (seconds / SECONDS_PER_DAY).cast_signed()
}

/// Weeks begin on Monday.
pub(super) fn week_of(seconds: u64) -> i64 {
    (day_of(seconds) + DAYS_SINCE_MONDAY_IN_1970) / 7
}

pub(super) fn month_of(seconds: u64) -> i64 {
    let (year, month) = year_and_month(day_of(seconds));
    year * 12 + month - 1
}

pub(super) fn year_of(seconds: u64) -> i64 {
    year_and_month(day_of(seconds)).0
}

/// The year and the month, from 1 on, of a day since 1970. Years are counted from March on, so that the leap day is a
/// year's last; then months of 31, 30, 31, 30, 31 days follow one another from March on.
fn year_and_month(day: i64) -> (i64, i64) {
    let day = day + DAYS_BEFORE_1970;
    let (era, day_of_era) = (day / DAYS_PER_ERA, day % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let month = if months_since_march < 10 { months_since_march + 3 } else { months_since_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks every day of a thousand years by the rules that everybody knows.
    #[test]
    fn months_and_years_follow_the_calendar() {
        let (mut day, mut weekday) = (0, DAYS_SINCE_MONDAY_IN_1970);
        for year in 1970..2970 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = if is_leap { 29 } else { 28 };
            let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, days) in (1..).zip(months) {
                for _ in 0..days {
                    assert_eq!(year_and_month(day), (year, month), "day {day}");
                    let seconds = day.cast_unsigned() * SECONDS_PER_DAY;
                    let is_new_week = week_of(seconds) != week_of(seconds.saturating_sub(1));
                    assert_eq!(is_new_week, weekday == 0 && day > 0, "day {day}");
                    day += 1;
                    weekday = (weekday + 1) % 7;
                }
            }
        }
    }

    #[test]
    fn the_end_of_time_is_no_trouble() {
        assert_eq!(month_of(u64::MAX) / 12, year_of(u64::MAX));
        assert!(hour_of(u64::MAX) > day_of(u64::MAX) && week_of(u64::MAX) > month_of(u64::MAX));
    }
}
