//! Moments as RFC 3339 writes them, in milliseconds since 1970-01-01T00:00Z. Strict, without tables, small enough for the core.

/// The milliseconds of a day.
#[cfg(feature = "compiler")]
pub(crate) const DAY: i64 = 86_400_000;

/// Reads `2026-05-01T12:00:00Z`, with an offset instead of `Z`, and optionally with a fraction of a second, of which three digits
/// count. Anything else is no moment: no offset, a day that does not exist, 24:00, second 60.
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let is = |at: usize, set: &[u8]| bytes.get(at).is_some_and(|byte| set.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(bytes, 0, 4)?, number(bytes, 5, 2)?, number(bytes, 8, 2)?);
    let (hour, minute, second) = (number(bytes, 11, 2)?, number(bytes, 14, 2)?, number(bytes, 17, 2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (mut millis, mut at) = (0, 19);
    if is(at, b".") {
        at += 1;
        let mut worth = 100;
        let start = at;
        while let Some(digit) = digit(bytes, at) {
            millis += digit * worth;
            worth /= 10;
            at += 1;
        }
        if at == start {
            return None;
        }
    }
    let offset = match bytes.get(at..)? {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(bytes, at + 1, 2)?, number(bytes, at + 4, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let ahead = hours * 60 + minutes;
            if *sign == b'-' { -ahead } else { ahead }
        }
        _ => return None,
    };
    let minutes = (days_before(year, month, day) * 24 + hour) * 60 + minute - offset;
    Some((minutes * 60 + second) * 1000 + millis)
}

fn digit(bytes: &[u8], at: usize) -> Option<i64> {
    let digit = bytes.get(at)?.wrapping_sub(b'0');
    (digit <= 9).then_some(i64::from(digit))
}

fn number(bytes: &[u8], from: usize, digits: usize) -> Option<i64> {
    (from..from + digits).try_fold(0, |value, at| Some(value * 10 + digit(bytes, at)?))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; years begin in March, so that the leap day is their last.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let century_cycle = year.div_euclid(400);
    let year = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    century_cycle * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

/// Writes a moment so that [`parse`] reads it back; `None` outside the years 0 to 9999.
#[cfg(feature = "compiler")]
pub fn format(moment: i64) -> Option<String> {
    let (day, time) = (moment.div_euclid(DAY), moment.rem_euclid(DAY));
    let day = day + 719_468;
    let (century_cycle, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = century_cycle * 400 + year + carry;
    if !(0..=9999).contains(&year) {
        return None;
    }
    let (hour, minute, second, millis) =
        (time / 3_600_000, time / 60_000 % 60, time / 1000 % 60, time % 1000);
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"))
}

#[cfg(all(test, feature = "compiler"))]
mod tests {
    use super::{DAY, format, parse};

    #[test]
    fn moments() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2026-05-01T12:00:00+02:00", 1_777_629_600_000),
            ("2026-05-01T10:00:00.0009Z", 1_777_629_600_000),
            ("2026-05-01T10:00:00.1Z", 1_777_629_600_100),
            ("2024-02-29T00:00:00-00:00", 1_709_164_800_000),
            ("2000-02-29T23:59:59Z", 951_868_799_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(parse(text), Some(millis), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment() {
        for text in [
            "",
            "2026-05-01",
            "2026-05-01T12:00Z",
            "2026-05-01T12:00:00",
            "2026-05-01 12:00:00Z",
            "2026-05-01T12:00:00.Z",
            "2026-05-01T12:00:00,5Z",
            "2026-05-01T24:00:00Z",
            "2026-05-01T12:60:00Z",
            "2026-05-01T12:00:60Z",
            "2026-02-29T12:00:00Z",
            "1900-02-29T12:00:00Z",
            "2026-04-31T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-05-00T12:00:00Z",
            "2026-05-01T12:00:00+24:00",
            "2026-05-01T12:00:00+02:60",
            "2026-05-01T12:00:00+0200",
            "2026-05-01T12:00:00+02",
            "2026-05-01T12:00:00Z ",
            " 2026-05-01T12:00:00Z",
            "+026-05-01T12:00:00Z",
            "2026-05-01T12:00:00é",
            "٢٠٢٦-05-01T12:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_comes_back() {
        for day in (-719_528..2_932_897).step_by(13) {
            for millis in [0, 1, DAY - 1] {
                let moment = day * DAY + millis;
                assert_eq!(format(moment).as_deref().and_then(parse), Some(moment));
            }
        }
        assert_eq!(format(-62_167_219_200_001), None);
        assert_eq!(format(253_402_300_800_000), None);
    }
}
