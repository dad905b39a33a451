//! The order of semantic versions, <https://semver.org/spec/v2.0.0.html>, read from the text. Numbers of any length are
//! compared as they are written.

use std::cmp::Ordering;

/// A complete semantic version without its build metadata, which have no part in the order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version<'a> {
    /// Major, minor, patch.
    numbers: [&'a [u8]; 3],
    /// The identifiers behind the hyphen, with the dots between them; empty for a release.
    prerelease: &'a [u8],
}

impl<'a> Version<'a> {
    /// Reads a version; `None` for a text that is none.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let text = text.as_bytes();
        let (text, build) = split(text, b'+');
        let (core, prerelease) = split(text, b'-');
        if build.is_some_and(|build| !identifiers(build).all(is_identifier)) {
            return None;
        }
        let valid = |identifier: &[u8]| {
            is_identifier(identifier) && (!is_digits(identifier) || is_number(identifier))
        };
        if prerelease.is_some_and(|prerelease| !identifiers(prerelease).all(valid)) {
            return None;
        }
        let mut parts = identifiers(core);
        let numbers = [parts.next()?, parts.next()?, parts.next()?];
        let complete = parts.next().is_none() && numbers.into_iter().all(is_number);
        complete.then_some(Self { numbers, prerelease: prerelease.unwrap_or_default() })
    }

    /// The precedence of two versions.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        let mut pairs = self.numbers.iter().zip(other.numbers);
        let numbers = pairs.try_fold((), |(), (own, other)| match compare_numbers(own, other) {
            Ordering::Equal => Ok(()),
            order => Err(order),
        });
        if let Err(order) = numbers {
            return order;
        }
        match (self.prerelease, other.prerelease) {
            ([], []) => Ordering::Equal,
            ([], _) => Ordering::Greater,
            (_, []) => Ordering::Less,
            (own, other) => compare_prereleases(own, other),
        }
    }
}

/// The text before the first `separator` and what is behind it.
fn split(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == separator) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    }
}

fn identifiers(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'.')
}

fn is_digits(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit)
}

/// Digits without a zero before them.
fn is_number(text: &[u8]) -> bool {
    match text {
        [] => false,
        [b'0', rest @ ..] => rest.is_empty(),
        digits => is_digits(digits),
    }
}

fn is_identifier(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// Compares numbers without leading zeros.
fn compare_numbers(one: &[u8], other: &[u8]) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| compare_bytes(one, other))
}

fn compare_bytes(one: &[u8], other: &[u8]) -> Ordering {
    one.iter().cmp(other)
}

fn compare_prereleases(one: &[u8], other: &[u8]) -> Ordering {
    let (mut one, mut other) = (identifiers(one), identifiers(other));
    loop {
        let order = match (one.next(), other.next()) {
            (None, None) => return Ordering::Equal,
            (None, _) => Ordering::Less,
            (_, None) => Ordering::Greater,
            (Some(one), Some(other)) => match (is_digits(one), is_digits(other)) {
                (true, true) => compare_numbers(one, other),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => compare_bytes(one, other),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_are_no_version_are_refused() {
        let refused = [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "1.2.",
            ".1.2",
            "01.2.3",
            "1.02.3",
            "1.2.03",
            "v1.2.3",
            " 1.2.3",
            "1.2.3 ",
            "1.2.3-",
            "1.2.3-a..b",
            "1.2.3-01",
            "1.2.3-ä",
            "1.2.3+",
            "1.2.3+a+b",
            "1.2.x",
            "-1.2.3",
            "1.2.-3",
        ];
        for text in refused {
            assert!(Version::parse(text).is_none(), "{text}");
        }
        for text in ["0.0.0", "1.2.3-0", "1.2.3--", "1.2.3-0a.10", "1.2.3+001", "1.2.3-a+b-c.d", "1.2.3+-"] {
            assert!(Version::parse(text).is_some(), "{text}");
        }
    }

    #[test]
    fn numbers_may_be_longer_than_any_type() {
        let order = |one, other| Version::parse(one).unwrap().precedence(&Version::parse(other).unwrap());
        let long = "99999999999999999999999999.0.0";
        assert_eq!(order(long, "100000000000000000000000000.0.0"), Ordering::Less);
        assert_eq!(order("1.0.0-99999999999999999999999999", "1.0.0-a"), Ordering::Less);
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_crate_semver(
            one in "[0-2]{1,2}\\.[0-2]\\.[0-2](-[0-2ab.-]{1,4})?(\\+[0-2a.-]{1,3})?",
            other in "[0-2]\\.[0-2]\\.[0-2](-[0-2ab.-]{1,4})?(\\+[0-2a.-]{1,3})?",
        ) {
            let (theirs, ours) = (semver::Version::parse(&one), Version::parse(&one));
            prop_assert_eq!(theirs.is_ok(), ours.is_some(), "{}", one);
            if let (Ok(theirs), Some(ours), Ok(their_other), Some(our_other)) =
                (theirs, ours, semver::Version::parse(&other), Version::parse(&other))
            {
                let order = theirs.cmp_precedence(&their_other);
                prop_assert_eq!(ours.precedence(&our_other), order, "{} {}", one, other);
            }
        }
    }
}
