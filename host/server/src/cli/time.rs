//! Times on the command line.

use std::time::{SystemTime, UNIX_EPOCH};

use lockgate_policy::moment;

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
        moment::parse(text).map(Self).ok_or_else(wrong)
    }
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
