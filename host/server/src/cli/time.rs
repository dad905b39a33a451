//! Times on the command line.

use std::time::{SystemTime, UNIX_EPOCH};

use toml::value::{Datetime, Offset};

/// Milliseconds since 1970-01-01T00:00Z, written as that number or as `2026-05-01T12:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) i64);

impl Moment {
    /// What the system's clock says.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl std::str::FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(millis) = text.parse() {
            return Ok(Self(millis));
        }
        let wrong = || "expected milliseconds since 1970, or a time like 2026-05-01T12:00:00Z".to_owned();
        let Datetime { date: Some(date), time: Some(time), offset: Some(offset) } =
            text.parse::<Datetime>().map_err(|_| wrong())?
        else {
            return Err(wrong());
        };
        let minutes = match offset {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes),
        };
        let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
        let seconds =
            i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or(0));
        let millis = i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
        Ok(Self((days * 86_400 + seconds - minutes * 60) * 1000 + millis))
    }
}

/// Days from 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the leap day is the last of its year.
pub(crate) fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// Year, month and day of a day counted from 1970-01-01: the reverse of [`days_since_1970`].
pub(crate) fn date(days: i64) -> (i64, i64, i64) {
    // Eras of 400 years, which all have as many days, begin on a 1st of March.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// A length of time in milliseconds, written as `500ms`, `90s`, `15m`, `4h`, `7d`, `2w` or several of these, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) i64);

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a length of time such as `90s`, `15m`, `4h`, `7d` or `1h30m`".to_owned();
        let (mut rest, mut total) = (text, 0_i64);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let millis = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 7 * 86_400_000,
                _ => return Err(wrong()),
            };
            let part = number.parse::<i64>().ok().and_then(|number| number.checked_mul(millis));
            total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            rest = tail;
        }
        if total > 0 { Ok(Self(total)) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_a_date_and_dates_a_day() {
        assert_eq!((date(0), date(-1), date(20_778)), ((1970, 1, 1), (1969, 12, 31), (2026, 11, 21)));
        for day in -800_000..800_000 {
            let (year, month, of_month) = date(day);
            assert_eq!(days_since_1970(year, month, of_month), day);
        }
    }

    #[test]
    fn times_are_read() {
        let check = |text: &str, millis: i64| assert_eq!(text.parse(), Ok(Moment(millis)), "{text}");
        check("1500", 1500);
        check("1970-01-01T00:00:00Z", 0);
        check("2000-02-29T12:00:00Z", 951_825_600_000);
        check("2026-11-21T05:15:07.250Z", 1_795_238_107_250);
        check("2026-11-21T06:15:07.250+01:00", 1_795_238_107_250);
        assert!("2026-11-21".parse::<Moment>().is_err());
        assert!("2026-11-21T00:00:00".parse::<Moment>().is_err());
        assert!("soon".parse::<Moment>().is_err());
    }

    #[test]
    fn lengths_are_read() {
        let check = |text: &str, millis: i64| assert_eq!(text.parse(), Ok(Span(millis)), "{text}");
        check("500ms", 500);
        check("1h30m", 5_400_000);
        check("2w1d", 15 * 86_400_000);
        for wrong in ["", "5", "0s", "5x", "h", "-1h", "99999999999999w"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
