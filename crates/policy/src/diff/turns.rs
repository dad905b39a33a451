//! Two switchbacks against each other: which share of (unit, moment) they serve otherwise.
//!
//! In each block every variant has one window, in an order that is drawn for block and unit. Two switchbacks with one seed and
//! unit draw alike: block b of either has the order of the same hashes. Everything else is drawn independently. So over all units
//! each pair of variants has a probability at each moment, and the share over a time is its mean. It is exact for every unit over
//! whole blocks where both give the same turn to the same place.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::Change;
use super::periods::{Owner, Pairs};
use crate::check::scalar::write_duration;
use crate::clock;
use crate::moment;
use crate::policy::Millis;
use crate::steps::Rotation;

/// How many pieces of time are looked at one by one. What has more is as good as without end.
const MAX_PIECES: u64 = 2_000_000;

/// What is set otherwise.
pub(super) fn settings(old: &Rotation<'_>, new: &Rotation<'_>) -> Vec<Change> {
    let time = |at: Millis| Json::from(moment::format(at).unwrap_or_else(|| at.to_string()));
    let of = |rotation: &Rotation<'_>| {
        [
            ("unit", Some(Json::from(rotation.unit.clone()))),
            ("variants", Some(Json::from(rotation.variants.clone()))),
            ("start", Some(time(rotation.start))),
            ("end", rotation.end.map(time)),
            ("window", Some(write_duration(rotation.window).into())),
            ("washout", Some(write_duration(rotation.washout).into())),
            ("seed", Some(rotation.seed.into())),
        ]
    };
    let both = of(old).into_iter().zip(of(new));
    let differing = both.filter(|((_, old), (_, new))| old != new);
    differing.map(|((path, old), (_, new))| Change { path: path.to_owned(), old, new }).collect()
}

/// The share of time that each variant serves, over all units, in percent.
pub(super) fn owners<'b>(
    rotation: &Rotation<'b>,
    from: Millis,
    until: Option<Millis>,
) -> BTreeMap<Owner<'b>, f64> {
    let (window, washout) = (u128::from(rotation.window.max(1)), u128::from(rotation.washout));
    let washed = |at: Millis| {
        let since = u128::from(clock::since(rotation.start, at).unwrap_or_default());
        since / window * washout + (since % window).min(washout)
    };
    let washing = match until.filter(|until| *until > from) {
        Some(until) => percent(washed(until) - washed(from), u128::from(until.abs_diff(from))),
        None => percent(washout, window),
    };
    let mut shares: BTreeMap<Owner<'b>, f64> = BTreeMap::new();
    if washing > 0.0 {
        shares.insert(Some(rotation.baseline), washing);
    }
    for variant in &rotation.variants {
        *shares.entry(Some(variant)).or_default() += (100.0 - washing) / count(&rotation.variants);
    }
    shares
}

/// What two switchbacks are in at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    /// Whether either is in its washout.
    washouts: (bool, bool),
    /// The places within a block that both draw alike.
    places: Option<(usize, usize)>,
}

/// Which variants serve in the old and in the new policy, and whether that is only expected.
pub(super) fn pairs<'b>(
    old: &Rotation<'b>,
    new: &Rotation<'b>,
    from: Millis,
    until: Option<Millis>,
) -> (Pairs<'b>, bool) {
    let moments = moments(old, new, from, until);
    let total = moments.values().fold(0_u128, |sum, length| sum.saturating_add(*length));
    let mut pairs = Pairs::new();
    let mut expected = false;
    for (at, length) in moments {
        let share = percent(length, total);
        let mut add = |from: &'b str, to: &'b str, of: f64| {
            *pairs.entry((Some(from), Some(to))).or_default() += share * of;
        };
        match at.washouts {
            (true, true) => add(old.baseline, new.baseline, 1.0),
            (true, false) => {
                new.variants.iter().for_each(|to| add(old.baseline, to, 1.0 / count(&new.variants)));
            }
            (false, true) => {
                old.variants.iter().for_each(|from| add(from, new.baseline, 1.0 / count(&old.variants)));
            }
            (false, false) => {
                let places =
                    at.places.map(|(one, other)| alike(one, old.variants.len(), other, new.variants.len()));
                expected |= places != Some(1.0) || old.variants.len() != new.variants.len();
                for (turn, from) in old.variants.iter().enumerate() {
                    for (other, to) in new.variants.iter().enumerate() {
                        let of = match places {
                            None => 1.0 / count(&old.variants) / count(&new.variants),
                            Some(alike) => both(turn, old.variants.len(), other, new.variants.len(), alike),
                        };
                        add(from, to, of);
                    }
                }
            }
        }
    }
    (pairs, expected)
}

/// How much of a time is which moment.
fn moments(
    old: &Rotation<'_>,
    new: &Rotation<'_>,
    from: Millis,
    until: Option<Millis>,
) -> BTreeMap<Moment, u128> {
    let drawn_alike = old.seed == new.seed && old.unit == new.unit;
    let block = |rotation: &Rotation<'_>| {
        u128::from(rotation.window.max(1)).saturating_mul(rotation.variants.len().max(1) as u128)
    };
    let windows = |length: u64| {
        let of = |rotation: &Rotation<'_>| length / rotation.window.max(1);
        of(old).saturating_add(of(new)).saturating_mul(2)
    };
    let length = until.and_then(|until| clock::since(from, until));
    if let Some(length) = length.filter(|length| windows(*length) <= MAX_PIECES) {
        return sweep(old, new, from, length, drawn_alike);
    }
    // Where blocks are equally long, they meet in the same way for ever.
    if drawn_alike && block(old) == block(new) {
        return sweep(old, new, from, u64::try_from(block(old)).unwrap_or(u64::MAX), true);
    }
    // Else the same blocks meet for a while at most, so the draws are independent; only washouts meet regularly.
    let at = |washouts| Moment { washouts, places: None };
    let (one, other) = (u128::from(old.window.max(1)), u128::from(new.window.max(1)));
    let (washed, also) = (u128::from(old.washout), u128::from(new.washout));
    let divisor = greatest_common_divisor(one, other);
    let shift = i128::from(new.start).saturating_sub(i128::from(old.start));
    let shift =
        u128::try_from(shift.rem_euclid(i128::try_from(divisor).unwrap_or(i128::MAX))).unwrap_or_default();
    let period = one / divisor * other;
    let together = meetings(washed, also, divisor, shift);
    let (only_old, only_new) = (period / one * washed - together, period / other * also - together);
    let neither = period - together - only_old - only_new;
    [
        ((true, true), together),
        ((true, false), only_old),
        ((false, true), only_new),
        ((false, false), neither),
    ]
    .into_iter()
    .filter(|(_, length)| *length > 0)
    .map(|(washouts, length)| (at(washouts), length))
    .collect()
}

/// How many moments lie in both washouts while all pairs of phases of two windows pass: by the Chinese remainder theorem each
/// pair (x, y) with x ≡ y + `shift` modulo the greatest common divisor occurs once.
fn meetings(washed: u128, also: u128, divisor: u128, shift: u128) -> u128 {
    let (whole, rest) = (washed / divisor, washed % divisor);
    let (other_whole, other_rest) = (also / divisor, also % divisor);
    // What [0, rest) and [shift, shift + other_rest) have in common modulo the divisor.
    let common = |from: u128, to: u128| rest.min(to).saturating_sub(from);
    let wrapped = (shift + other_rest).saturating_sub(divisor);
    let rests = common(shift, (shift + other_rest).min(divisor)) + common(0, wrapped);
    divisor * whole * other_whole + whole * other_rest + other_whole * rest + rests
}

/// Goes through a time piece by piece.
fn sweep(
    old: &Rotation<'_>,
    new: &Rotation<'_>,
    from: Millis,
    length: u64,
    drawn_alike: bool,
) -> BTreeMap<Moment, u128> {
    let mut moments: BTreeMap<Moment, u128> = BTreeMap::new();
    let mut passed = 0;
    while passed < length {
        // Both have begun by `from`.
        let at = |rotation: &Rotation<'_>| {
            let since = clock::since(rotation.start, from).unwrap_or_default().saturating_add(passed);
            let (window, into) = (since / rotation.window.max(1), since % rotation.window.max(1));
            let washing = into < rotation.washout;
            let end = if washing { rotation.washout } else { rotation.window.max(1) };
            let variants = rotation.variants.len().max(1) as u64;
            (washing, window / variants, (window % variants) as usize, end - into)
        };
        let (washing, block, place, left) = at(old);
        let (also, other_block, other_place, other_left) = at(new);
        let piece = left.min(other_left).min(length - passed);
        let alike = drawn_alike && block == other_block && !washing && !also;
        let moment = Moment { washouts: (washing, also), places: alike.then_some((place, other_place)) };
        let sum = moments.entry(moment).or_default();
        *sum = sum.saturating_add(u128::from(piece));
        passed += piece;
    }
    moments
}

/// How probable it is that the variant at a place of the longer order is also at a place of the order of the first few variants,
/// given that it is one of them: that of those before it exactly so many are.
fn alike(one: usize, of_one: usize, other: usize, of_other: usize) -> f64 {
    let (place, few, wide_place, many) =
        if of_one <= of_other { (one, of_one, other, of_other) } else { (other, of_other, one, of_one) };
    let Some(others) = wide_place.checked_sub(place) else { return 0.0 };
    choose(few.saturating_sub(1), place) * choose(many - few, others)
        / choose(many.saturating_sub(1), wide_place)
}

/// How probable it is that two places of one draw have these variants.
fn both(turn: usize, of_turn: usize, other: usize, of_other: usize, alike: f64) -> f64 {
    let (turn, few, wide, many) =
        if of_turn <= of_other { (turn, of_turn, other, of_other) } else { (other, of_other, turn, of_turn) };
    #[expect(clippy::cast_precision_loss, reason = "a switchback has 16 variants at most")]
    let (few_variants, many_variants) = (few as f64, many as f64);
    if wide >= few {
        1.0 / (few_variants * many_variants)
    } else if wide == turn {
        alike / many_variants
    } else {
        (1.0 - alike) / (few_variants - 1.0).max(1.0) / many_variants
    }
}

/// How many choices of `some` of `all` there are.
fn choose(all: usize, some: usize) -> f64 {
    if some > all {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a switchback has 16 variants at most")]
    (0..some).fold(1.0, |product, step| product * (all - step) as f64 / (step + 1) as f64)
}

fn greatest_common_divisor(one: u128, other: u128) -> u128 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

#[expect(clippy::cast_precision_loss, reason = "a share is shown with three decimals")]
fn percent(part: u128, whole: u128) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "a switchback has 16 variants at most")]
fn count(variants: &[&str]) -> f64 {
    variants.len().max(1) as f64
}
