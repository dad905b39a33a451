//! Time as policies see it: the clock on the wall, that of a ramp, and the windows of a switchback. Whatever the numbers
//! are, nothing overflows: differences of moments are taken as unsigned numbers, where they fit.

use crate::bundle::format::Pause;

/// The milliseconds of a day.
const DAY: i64 = 86_400_000;
/// The milliseconds of a minute.
const MINUTE: i64 = 60_000;

/// The weekday, 0 for Monday, and the milliseconds since midnight by a clock that is `offset` minutes ahead of UTC.
pub(crate) fn wall_clock(now: i64, offset: i32) -> (u32, u32) {
    let (day, time) = (now.div_euclid(DAY), now.rem_euclid(DAY) + i64::from(offset) * MINUTE);
    // The day is reduced before it is moved, so the sum is small.
    let weekday = (day.rem_euclid(7) + time.div_euclid(DAY) + 3).rem_euclid(7);
    (weekday as u32, time.rem_euclid(DAY) as u32)
}

/// Whether a time of day lies in [from, until), which goes over midnight when `from` is above `until`.
pub(crate) fn within_day(time: u32, from: u32, until: u32) -> bool {
    if from <= until { from <= time && time < until } else { from <= time || time < until }
}

/// The milliseconds from `start` to `now`; `None` before it.
pub(crate) fn since(start: i64, now: i64) -> Option<u64> {
    (now >= start).then(|| now.abs_diff(start))
}

/// What a ramp's clock shows; `None` before its start. `pauses` are apart from each other.
pub(crate) fn elapsed(start: i64, now: i64, pauses: impl Iterator<Item = Pause>) -> Option<u64> {
    let whole = since(start, now)?;
    let paused = pauses.filter_map(|pause| since(pause.from.max(start), pause.until.min(now)));
    Some(paused.fold(whole, u64::saturating_sub))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_counts_days_and_weekdays() {
        let check = |now, offset, weekday, time| assert_eq!(wall_clock(now, offset), (weekday, time));
        // 1970-01-01 was a Thursday.
        check(0, 0, 3, 0);
        check(-1, 0, 2, 86_399_999);
        check(DAY - 1, 0, 3, 86_399_999);
        check(0, 60, 3, 3_600_000);
        check(0, -60, 2, 82_800_000);
        check(4 * DAY, 0, 0, 0);
        check(23 * 3_600_000, 14 * 60, 4, 13 * 3_600_000);
        // The ends of time: 292277026596-12-04 was a Sunday, -292275055-05-16 a Sunday too.
        check(i64::MAX, 0, 6, (i64::MAX.rem_euclid(DAY)) as u32);
        check(i64::MIN, 0, 6, (i64::MIN.rem_euclid(DAY)) as u32);
        let _ = (wall_clock(i64::MAX, i32::MAX), wall_clock(i64::MIN, i32::MIN));
    }

    #[test]
    fn a_day_may_go_over_midnight() {
        let check = |from, until, inside: &[u32], outside: &[u32]| {
            assert!(inside.iter().all(|time| within_day(*time, from, until)));
            assert!(!outside.iter().any(|time| within_day(*time, from, until)));
        };
        check(10, 20, &[10, 19], &[9, 20]);
        check(20, 10, &[20, 25, 0, 9], &[10, 19]);
        check(10, 10, &[], &[0, 10, 11]);
    }

    #[test]
    fn a_ramps_clock_stands_still_in_pauses() {
        let pauses = [(10, 20), (30, 40), (90, i64::MAX)].map(|(from, until)| Pause { from, until });
        let check =
            |start, now, expected| assert_eq!(elapsed(start, now, pauses.into_iter()), expected, "{now}");
        check(0, -1, None);
        check(0, 0, Some(0));
        check(0, 10, Some(10));
        check(0, 15, Some(10));
        check(0, 20, Some(10));
        check(0, 100, Some(70));
        check(0, 1_000, Some(70));
        check(15, 15, Some(0));
        check(15, 20, Some(0));
        check(15, 25, Some(5));
        check(35, 50, Some(10));
        check(95, i64::MAX, Some(0));
        assert_eq!(elapsed(i64::MIN, i64::MAX, [].into_iter()), Some(u64::MAX));
    }
}
