//! Values with a form of their own: moments, durations, sizes, percentages, version comparators.

use super::reader::{Path, Reader};
use crate::moment;
use crate::policy::{Millis, Share, VersionComparison, Window};
use crate::source::{Node, Value};

/// The longest duration, a hundred years: sums of them stay far away from the ends of time.
const MAX_DURATION: u64 = 36_525 * 86_400_000;

pub(super) fn moment(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Millis> {
    let expected = "a moment as RFC 3339 writes it, with an offset, such as `2026-05-01T12:00:00Z`";
    let Value::Text(text) = &node.value else {
        reader.wrong_type(node, path, expected);
        return None;
    };
    // What lies outside the years 0 to 9999 by UTC cannot be written back.
    let moment = moment::parse(text).filter(|moment| moment::format(*moment).is_some());
    if moment.is_none() {
        let message = format!("`{text}` is no moment");
        reader.problem(node.position, path, message, Some(expected.to_owned()), moment_hint(text));
    }
    moment
}

/// What most likely makes a moment of a text that is none.
fn moment_hint(text: &str) -> Option<String> {
    if moment::parse(text).is_some() {
        return Some("moments of a policy lie in the years 0 to 9999 by UTC".to_owned());
    }
    let date = text.get(..10).unwrap_or(text);
    let dashes = date.match_indices('-').map(|(at, _)| at).eq([4, 7]);
    if dashes && moment::parse(&format!("{date}T00:00:00Z")).is_none() {
        return Some("there is no such day".to_owned());
    }
    let with =
        |candidate: String| moment::parse(&candidate).is_some().then(|| format!("write `{candidate}`"));
    with(format!("{text}T00:00:00Z"))
        .or_else(|| with(format!("{text}Z")))
        .or_else(|| with(format!("{text}:00Z")))
        .or_else(|| with(text.replacen(' ', "T", 1)))
        .or_else(|| with(format!("{}Z", text.replacen(' ', "T", 1))))
}

/// The keys `from` and `until` of a step.
pub(super) fn window(
    reader: &mut Reader<'_>,
    fields: &super::reader::Fields<'_>,
    path: &Path<'_>,
) -> Option<Window> {
    let from = reader.at(fields, path, "from", moment);
    let until = reader.at(fields, path, "until", moment);
    if let (Some(Some(from)), Some(Some(until)), Some(node)) = (from, until, fields.get("until"))
        && from >= until
    {
        let message = "`until` is not after `from`";
        reader.problem(node.position, &path.key("until"), message, None, None);
        return None;
    }
    // A key that is there and cannot be read makes the whole window unreadable.
    if from == Some(None) || until == Some(None) {
        return None;
    }
    Some(Window { from: from.flatten(), until: until.flatten() })
}

const UNITS: &[(&str, u64)] =
    &[("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A duration in milliseconds.
pub(super) fn duration(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<u64> {
    let expected = "a duration, such as `90s`, `15m`, `4h`, `7d` or `1h30m`";
    let Value::Text(text) = &node.value else {
        reader.wrong_type(node, path, expected);
        return None;
    };
    let duration = parse_duration(text);
    match duration {
        Some(duration) if duration <= MAX_DURATION => return Some(duration),
        Some(_) => {
            let message = format!("`{text}` is longer than a hundred years");
            reader.problem(node.position, path, message, None, None);
        }
        None => {
            let message = format!("`{text}` is no duration");
            let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            let hint = (parse_duration(&bare).is_some()).then(|| format!("write `{bare}`"));
            reader.problem(node.position, path, message, Some(expected.to_owned()), hint);
        }
    }
    None
}

fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters)?;
        // From the longest to the shortest, each once.
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        let number: u64 = number.parse().ok()?;
        total = number.checked_mul(*millis).and_then(|part| total.checked_add(part)).unwrap_or(u64::MAX);
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// Writes a duration so that it is read back.
pub(crate) fn write_duration(millis: u64) -> String {
    let mut rest = millis;
    let mut text = String::new();
    for (unit, worth) in UNITS {
        let count = rest.checked_div(*worth).unwrap_or_default();
        rest -= count * worth;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A duration above 0.
pub(super) fn positive_duration(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<u64> {
    let duration = duration(reader, node, path)?;
    if duration == 0 {
        let expected = Some("a duration above 0".to_owned());
        reader.problem(node.position, path, "the duration is 0", expected, None);
        return None;
    }
    Some(duration)
}

/// A number of bytes.
pub(super) fn size(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<u32> {
    let expected = "a number of bytes, or text such as `64KiB` or `1MiB`";
    let (text, worth) = match &node.value {
        Value::Number(text) => (text.as_str(), 1),
        Value::Text(text) => {
            let worths = [("KiB", 1 << 10), ("MiB", 1 << 20), ("B", 1)];
            let size = worths.iter().find_map(|(unit, worth)| Some((text.strip_suffix(unit)?, *worth)));
            size.unwrap_or((text.as_str(), 0))
        }
        _ => {
            reader.wrong_type(node, path, expected);
            return None;
        }
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = text.parse::<u64>().ok().filter(|_| digits && worth > 0);
    let Some(bytes) = bytes.map(|number| number.saturating_mul(worth)) else {
        let message = format!("found {} where a size belongs", node.value.describe());
        reader.problem(node.position, path, message, Some(expected.to_owned()), None);
        return None;
    };
    let fitting = u32::try_from(bytes).ok().filter(|bytes| *bytes > 0);
    if fitting.is_none() {
        let message = format!("a size of {bytes} bytes is out of bounds");
        reader.problem(node.position, path, message, Some("1 byte to 4095 MiB".to_owned()), None);
    }
    fitting
}

/// A whole number within bounds.
pub(super) fn whole(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &Path<'_>,
    min: u32,
    max: u32,
) -> Option<u32> {
    let expected = match max {
        u32::MAX => format!("a whole number from {min} on"),
        _ => format!("a whole number from {min} to {max}"),
    };
    let Value::Number(text) = &node.value else {
        reader.wrong_type(node, path, &expected);
        return None;
    };
    let number = text.parse::<u32>().ok().filter(|number| (min..=max).contains(number));
    if number.is_none() {
        reader.problem(node.position, path, format!("`{text}` is not allowed here"), Some(expected), None);
    }
    number
}

/// A share of a hundred.
pub(super) fn share(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<Share> {
    let expected = "a percentage from 0 to 100 with at most three decimals, such as `12.5`";
    let Value::Number(text) = &node.value else {
        reader.wrong_type(node, path, expected);
        return None;
    };
    match parse_share(text) {
        Ok(share) => Some(share),
        Err(problem) => {
            let message = format!("`{text}` {problem}");
            reader.problem(node.position, path, message, Some(expected.to_owned()), None);
            None
        }
    }
}

/// Reads a percentage without rounding: decimal digits become buckets.
pub(super) fn parse_share(text: &str) -> Result<Share, &'static str> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if text.starts_with('-') {
        return Err("is negative");
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || text.ends_with('.') {
        return Err("is no plain decimal number");
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > 3 {
        return Err("has more than three decimals");
    }
    let too_large = "is more than 100";
    let whole: u32 = whole.parse().map_err(|_| too_large)?;
    let thousandths: u32 = format!("{decimals:0<3}").parse().map_err(|_| "is no plain decimal number")?;
    let buckets =
        whole.checked_mul(1000).and_then(|whole| whole.checked_add(thousandths)).ok_or(too_large)?;
    if buckets > Share::WHOLE.buckets() {
        return Err(too_large);
    }
    Ok(Share(buckets))
}

/// A time of day in milliseconds, 24:00 included.
pub(super) fn time_of_day(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<u32> {
    let expected = "a time of day, such as `\"09:30\"` or `\"16:00:00\"`";
    let Value::Text(text) = &node.value else {
        reader.wrong_type(node, path, expected);
        return None;
    };
    let time = parse_time_of_day(text);
    if time.is_none() {
        let message = format!("`{text}` is no time of day");
        let padded = parse_time_of_day(&format!("0{text}")).is_some();
        let hint = padded.then(|| format!("write `\"0{text}\"`"));
        reader.problem(node.position, path, message, Some(expected.to_owned()), hint);
    }
    time
}

fn parse_time_of_day(text: &str) -> Option<u32> {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(clock, rest)| (clock, Some(rest)));
    let mut parts = clock.split(':');
    let mut two = |max: u32| {
        let digits = parts.next()?;
        let well_formed = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|number| well_formed && *number <= max)
    };
    let (hour, minute) = (two(24)?, two(59)?);
    let has_seconds = clock.len() > 5;
    let second = if has_seconds { two(59)? } else { 0 };
    if parts.next().is_some() || (fraction.is_some() && !has_seconds) {
        return None;
    }
    let millis = match fraction {
        None => 0,
        Some(digits) => {
            let well_formed =
                (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            format!("{digits:0<3}").parse::<u32>().ok().filter(|_| well_formed)?
        }
    };
    let time = ((hour * 60 + minute) * 60 + second) * 1000 + millis;
    (time <= 86_400_000).then_some(time)
}

/// Minutes by which a clock is ahead of UTC.
pub(super) fn offset(reader: &mut Reader<'_>, node: &Node, path: &Path<'_>) -> Option<i32> {
    let expected = "an offset from UTC, such as `\"+01:00\"` or `Z`";
    let Value::Text(text) = &node.value else {
        reader.wrong_type(node, path, expected);
        return None;
    };
    let offset = match (text.as_str(), text.split_at_checked(1)) {
        ("Z" | "z", _) => Some(0),
        (_, Some((sign @ ("+" | "-"), clock))) if clock.len() == 5 => {
            let minutes = parse_time_of_day(clock).filter(|time| *time < 86_400_000);
            let minutes = minutes.and_then(|time| i32::try_from(time / 60_000).ok());
            minutes.map(|minutes| if sign == "-" { -minutes } else { minutes })
        }
        _ => None,
    };
    if offset.is_none() {
        let message = format!("`{text}` is no offset from UTC");
        let zone = text.contains('/') || text.chars().all(|c| c.is_ascii_uppercase());
        let hint = zone.then(|| {
            "there are no time zones: their rules change, and with them what a policy would mean".to_owned()
        });
        reader.problem(node.position, path, message, Some(expected.to_owned()), hint);
    }
    offset
}

/// Version comparators, all of which must hold; `^` and `~` become two.
pub(super) fn comparators(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &Path<'_>,
) -> Option<Vec<(VersionComparison, semver::Version)>> {
    let expected = "comparators such as `>=2.1.0 <3.0.0-0` or `^2.1.0`";
    let Value::Text(text) = &node.value else {
        reader.wrong_type(node, path, expected);
        return None;
    };
    let mut comparators = Vec::new();
    let mut whole = true;
    let mut words = text.split([' ', ',', '\t']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let behind =
            words.next_if(|behind| is_operator(word) && behind.starts_with(|c: char| c.is_ascii_digit()));
        let read = match behind {
            Some(version) => Err((
                format!("a blank stands between `{word}` and `{version}`"),
                Some(format!("write `{word}{version}`")),
            )),
            None => comparator(word),
        };
        match read {
            Ok(parts) => comparators.extend(parts),
            Err((message, hint)) => {
                whole = false;
                reader.problem(node.position, path, message, Some(expected.to_owned()), hint);
            }
        }
    }
    if whole && comparators.is_empty() {
        let message = "there is no comparator";
        reader.problem(node.position, path, message, Some(expected.to_owned()), None);
    }
    (whole && !comparators.is_empty()).then_some(comparators)
}

type Comparators = Vec<(VersionComparison, semver::Version)>;

/// The operators of comparators; `^` and `~` stand for two each.
const OPERATORS: &[(&str, Option<VersionComparison>)] = &[
    (">=", Some(VersionComparison::GreaterOrEqual)),
    ("<=", Some(VersionComparison::LessOrEqual)),
    ("!=", Some(VersionComparison::NotEqual)),
    (">", Some(VersionComparison::Greater)),
    ("<", Some(VersionComparison::Less)),
    ("=", Some(VersionComparison::Equal)),
    ("^", None),
    ("~", None),
];

fn is_operator(word: &str) -> bool {
    OPERATORS.iter().any(|(operator, _)| *operator == word)
}

fn comparator(word: &str) -> Result<Comparators, (String, Option<String>)> {
    use VersionComparison::{GreaterOrEqual, Less};
    let found = OPERATORS
        .iter()
        .find_map(|(text, comparison)| word.strip_prefix(text).map(|version| (*text, *comparison, version)));
    let Some((operator, comparison, text)) = found else {
        let message = format!("`{word}` has no comparison");
        let hint = semver::Version::parse(word).is_ok();
        return Err((message, hint.then(|| format!("write `={word}` or `^{word}`"))));
    };
    if text.is_empty() {
        let message = format!("`{operator}` stands alone");
        return Err((message, Some(format!("write the version directly behind it: `{operator}2.1.0`"))));
    }
    let mut version = semver::Version::parse(text)
        .map_err(|error| (format!("`{text}` is no semantic version: {error}"), super::semver_hint(text)))?;
    version.build = semver::BuildMetadata::EMPTY;
    if let Some(comparison) = comparison {
        return Ok(vec![(comparison, version)]);
    }
    let next =
        |number: u64| number.checked_add(1).ok_or_else(|| (format!("`{text}` is too large a version"), None));
    let (major, minor, patch) = match (operator, version.major, version.minor) {
        ("^", 0, 0) => (0, 0, next(version.patch)?),
        ("~", major, minor) | (_, major @ 0, minor) => (major, next(minor)?, 0),
        (_, major, _) => (next(major)?, 0, 0),
    };
    let mut bound = semver::Version::new(major, minor, patch);
    bound.pre = semver::Prerelease::new("0").map_err(|error| (error.to_string(), None))?;
    Ok(vec![(GreaterOrEqual, version), (Less, bound)])
}
