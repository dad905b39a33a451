//! Which buckets each variant owns. `docs/policy-semantics.md` states what these two layouts promise.

use std::collections::BTreeMap;

/// The end of an interval, exclusive, and who owns it; the first one begins at 0 and each at the end of the one before.
pub(crate) type Intervals<'a> = Vec<(u32, &'a str)>;

/// Lays shares out from nothing: one interval each in the order of the names, the baseline last.
///
/// The order depends on nothing but names. So when one variant grows and no other does, all that lies before it ends
/// earlier or where it did, all that lies behind it begins later or where it did, and it keeps every bucket it had.
pub(crate) fn fresh<'a>(shares: &BTreeMap<&'a str, u32>, baseline: &str) -> Intervals<'a> {
    let others = shares.iter().filter(|(name, _)| **name != baseline);
    let last = shares.iter().filter(|(name, _)| **name == baseline);
    let mut intervals = Vec::with_capacity(shares.len());
    let mut end = 0;
    for (name, share) in others.chain(last) {
        end += share;
        push(&mut intervals, end, name);
    }
    intervals
}

/// Changes as little of `old` as the new shares allow: who shrinks gives away the upper end of what it has, who grows takes
/// what was given away, from the lowest bucket up and in the order of the names.
///
/// Moves as many buckets as all that shrink lose together, which is half of the L1 difference, and none that belonged to a
/// variant that did not shrink. A variant that is not in `shares` shrinks to nothing.
pub(crate) fn rebase<'a>(old: &[(u32, &'a str)], shares: &BTreeMap<&'a str, u32>) -> Intervals<'a> {
    let mut had: BTreeMap<&str, u32> = BTreeMap::new();
    for (start, end, name) in ranges(old) {
        *had.entry(name).or_default() += end - start;
    }
    let had = |name: &str| had.get(name).copied().unwrap_or_default();
    let mut kept: BTreeMap<&str, u32> =
        shares.iter().map(|(name, share)| (*name, (*share).min(had(name)))).collect();
    let mut wanted = shares.iter().map(|(name, share)| (*name, share.saturating_sub(had(name)))).peekable();

    let mut intervals = Vec::new();
    for (start, end, name) in ranges(old) {
        let keeps = kept.get_mut(name).map_or(0, |left| {
            let keeps = (*left).min(end - start);
            *left -= keeps;
            keeps
        });
        let mut at = start + keeps;
        push(&mut intervals, at, name);
        while at < end {
            // Shares are 100 % before and after, so there is a taker for every bucket given away.
            let Some((taker, left)) = wanted.peek_mut() else { break };
            let takes = (*left).min(end - at);
            *left -= takes;
            at += takes;
            push(&mut intervals, at, taker);
            if *left == 0 {
                wanted.next();
            }
        }
    }
    intervals
}

/// Start, end and owner of each interval.
fn ranges<'i, 'a>(
    intervals: &'i [(u32, &'a str)],
) -> impl Iterator<Item = (u32, u32, &'a str)> + use<'i, 'a> {
    let starts = std::iter::once(0).chain(intervals.iter().map(|(end, _)| *end));
    starts.zip(intervals).map(|(start, (end, name))| (start, *end, *name))
}

/// Appends an interval up to `end`, unless it is empty; one of the same owner grows instead.
fn push<'a>(intervals: &mut Intervals<'a>, end: u32, name: &'a str) {
    match intervals.last_mut() {
        Some((before, owner)) if *owner == name => *before = (*before).max(end),
        Some((before, _)) if *before >= end => {}
        None if end == 0 => {}
        _ => intervals.push((end, name)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::BUCKETS;

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    /// Shares of some of the five names that add up to all buckets.
    fn shares() -> impl Strategy<Value = BTreeMap<&'static str, u32>> {
        (prop::collection::vec(0..=BUCKETS, 4), prop::sample::subsequence(NAMES.to_vec(), 1..=5)).prop_map(
            |(mut cuts, names)| {
                cuts.truncate(names.len() - 1);
                cuts.extend([0, BUCKETS]);
                cuts.sort_unstable();
                names.into_iter().zip(cuts.windows(2).map(|pair| pair[1] - pair[0])).collect()
            },
        )
    }

    fn owners<'a>(intervals: &Intervals<'a>) -> Vec<&'a str> {
        let owners: Vec<_> =
            ranges(intervals).flat_map(|(start, end, name)| (start..end).map(move |_| name)).collect();
        assert_eq!(owners.len(), BUCKETS as usize, "every bucket has one owner");
        owners
    }

    fn widths<'a>(owners: &[&'a str]) -> BTreeMap<&'a str, u32> {
        let mut widths = BTreeMap::new();
        for owner in owners {
            *widths.entry(*owner).or_default() += 1;
        }
        widths
    }

    fn without_zeros<'a>(shares: &BTreeMap<&'a str, u32>) -> BTreeMap<&'a str, u32> {
        shares.iter().filter(|(_, share)| **share > 0).map(|(name, share)| (*name, *share)).collect()
    }

    #[test]
    fn a_fresh_layout_follows_the_names_and_ends_with_the_baseline() {
        let shares = [("stable", 60_000), ("zeta", 10_000), ("alpha", 30_000), ("off", 0)].into();
        assert_eq!(fresh(&shares, "stable"), [(30_000, "alpha"), (40_000, "zeta"), (100_000, "stable")]);
        assert_eq!(fresh(&shares, "other"), [(30_000, "alpha"), (90_000, "stable"), (100_000, "zeta")]);
    }

    #[test]
    fn a_rebased_layout_takes_from_the_upper_end_of_those_that_shrink() {
        let old = [(10_000, "canary"), (100_000, "stable")];
        let grown = rebase(&old, &[("canary", 25_000), ("stable", 75_000)].into());
        assert_eq!(grown, [(10_000, "canary"), (85_000, "stable"), (100_000, "canary")]);
        let replaced = rebase(&grown, &[("next", 100_000)].into());
        assert_eq!(replaced, [(100_000, "next")]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn layouts_give_every_variant_its_share(first in shares(), second in shares()) {
            let fresh = fresh(&first, "c");
            prop_assert_eq!(widths(&owners(&fresh)), without_zeros(&first));
            let rebased = rebase(&fresh, &second);
            prop_assert_eq!(widths(&owners(&rebased)), without_zeros(&second));
        }

        #[test]
        fn raising_one_variant_moves_no_unit_that_was_in_it(old in shares(), baseline in 0_usize..5, pick in 0_usize..5, cuts in prop::collection::vec(0..=BUCKETS, 5)) {
            let names: Vec<&str> = old.keys().copied().collect();
            let raised = names[pick % names.len()];
            // The others give what `cuts` says, at most what they have.
            let mut new = old.clone();
            let mut given = 0;
            for (name, cut) in names.iter().zip(cuts) {
                if *name != raised {
                    let share = new.get_mut(name).unwrap();
                    let gives = cut.min(*share);
                    *share -= gives;
                    given += gives;
                }
            }
            *new.get_mut(raised).unwrap() += given;
            let before = owners(&fresh(&old, NAMES[baseline]));
            let after = owners(&fresh(&new, NAMES[baseline]));
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(*before != raised || *after == raised);
            }
            if names.len() == 2 {
                let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
                prop_assert_eq!(moved, given as usize);
            }
        }

        #[test]
        fn rebasing_moves_half_the_difference_and_only_from_those_that_shrink(steps in prop::collection::vec(shares(), 2..6)) {
            let mut layout = fresh(&steps[0], "c");
            for pair in steps.windows(2) {
                let (old, new) = (&pair[0], &pair[1]);
                let share = |shares: &BTreeMap<&str, u32>, name: &str| shares.get(name).copied().unwrap_or_default();
                let next = rebase(&layout, new);
                let (before, after) = (owners(&layout), owners(&next));
                let mut moved = 0;
                for (before, after) in before.iter().zip(&after) {
                    if before != after {
                        moved += 1;
                        prop_assert!(share(new, before) < share(old, before));
                        prop_assert!(share(new, after) > share(old, after));
                    }
                }
                let difference: u32 = NAMES.iter().map(|name| share(old, name).abs_diff(share(new, name))).sum();
                prop_assert_eq!(moved * 2, difference);
                layout = next;
            }
        }
    }
}
