//! Who owns which buckets of a layer. `docs/policy-semantics.md` ("Bucket intervals") states what these layouts promise.
//!
//! A *partition* is a list of owners with widths that add up to all buckets. Owners are whatever the caller tells apart:
//! variants, experiments and their variants, a holdout, nobody.

use std::collections::BTreeMap;

/// The end of an interval, exclusive, and who owns it; the first one begins at 0 and each at the end of the one before.
pub(crate) type Intervals<K> = Vec<(u32, K)>;

/// What the same step looked like in the bundle that the new layout is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Old<K> {
    /// A split; or one variant, which owned everything.
    Split(Intervals<K>),
    /// A ramp.
    Ramp {
        /// Who had everything before the first stage.
        from: K,
        /// The stages, at least one.
        stages: Vec<Intervals<K>>,
        /// The highest stage that could be entered, counted from 1; 0 for none.
        approved: usize,
    },
}

impl<K: Clone + Ord> Old<K> {
    /// What a split is based on: the stage of the same widths, else the last approved one.
    fn of_split(&self, widths: &[(K, u32)]) -> Intervals<K> {
        match self {
            Self::Split(intervals) => intervals.clone(),
            Self::Ramp { from, stages, approved } => {
                let approved = approved.checked_sub(1).and_then(|stage| stages.get(stage));
                match self.twin(widths).or(approved) {
                    Some(stage) => stage.clone(),
                    None => stages
                        .iter()
                        .flatten()
                        .last()
                        .map(|(end, _)| (*end, from.clone()))
                        .into_iter()
                        .collect(),
                }
            }
        }
    }

    /// What the first stage of a ramp is based on.
    fn of_first_stage(&self) -> Option<&[(u32, K)]> {
        match self {
            Self::Split(intervals) => Some(intervals),
            Self::Ramp { stages, .. } => stages.first().map(Vec::as_slice),
        }
    }

    /// The first stage of a ramp that gives everyone these widths.
    fn twin(&self, widths: &[(K, u32)]) -> Option<&Intervals<K>> {
        let Self::Ramp { stages, .. } = self else { return None };
        let wanted: BTreeMap<&K, u32> =
            widths.iter().filter(|(_, width)| *width > 0).map(|(owner, width)| (owner, *width)).collect();
        stages.iter().find(|stage| widths_of(stage) == wanted)
    }
}

/// Lays out a split. Owners come in the order in which they are to lie.
pub(crate) fn split<K: Clone + Ord>(old: Option<&Old<K>>, widths: &[(K, u32)]) -> Intervals<K> {
    match old {
        Some(old) => rebase(&old.of_split(widths), widths),
        None => fresh(widths),
    }
}

/// Lays out the stages of a ramp, each on the one before it. Owners come in the order in which they are to lie.
pub(crate) fn ramp<K: Clone + Ord>(old: Option<&Old<K>>, stages: &[Vec<(K, u32)>]) -> Vec<Intervals<K>> {
    let mut laid_out: Vec<Intervals<K>> = Vec::with_capacity(stages.len());
    for widths in stages {
        let before = laid_out.last().map(Vec::as_slice).or_else(|| old.and_then(Old::of_first_stage));
        let stage = match (old.and_then(|old| old.twin(widths)), before) {
            (Some(twin), _) => twin.clone(),
            (None, Some(before)) => rebase(before, widths),
            (None, None) => fresh(widths),
        };
        laid_out.push(stage);
    }
    laid_out
}

/// Lays a partition out from nothing: one interval each, in order.
///
/// The order depends on nothing but the owners. So when one grows and no other does, all that lies before it ends earlier
/// or where it did, all that lies behind it begins later or where it did, and it keeps every bucket it had.
pub(crate) fn fresh<K: Clone + PartialEq>(widths: &[(K, u32)]) -> Intervals<K> {
    let mut intervals = Vec::with_capacity(widths.len());
    let mut end = 0_u32;
    for (owner, width) in widths {
        end = end.saturating_add(*width);
        push(&mut intervals, end, owner);
    }
    intervals
}

/// Changes as little of `old` as the new widths allow: who shrinks gives away the upper end of what it has, who grows takes
/// what was given away, from the lowest bucket up and in the order of the owners.
///
/// Moves as many buckets as all that shrink lose together, which is half of the L1 difference, and none that belonged to
/// an owner that did not shrink. One that is not in `widths` shrinks to nothing.
pub(crate) fn rebase<K: Clone + Ord>(old: &[(u32, K)], widths: &[(K, u32)]) -> Intervals<K> {
    let had = widths_of(old);
    let had = |owner: &K| had.get(owner).copied().unwrap_or_default();
    let mut kept: BTreeMap<&K, u32> =
        widths.iter().map(|(owner, width)| (owner, (*width).min(had(owner)))).collect();
    let mut wanted = widths
        .iter()
        .map(|(owner, width)| (owner, width.saturating_sub(had(owner))))
        .filter(|(_, left)| *left > 0)
        .peekable();

    let mut intervals = Vec::new();
    for (start, end, owner) in ranges(old) {
        let keeps = kept.get_mut(owner).map_or(0, |left| {
            let keeps = (*left).min(end - start);
            *left -= keeps;
            keeps
        });
        let mut at = start + keeps;
        push(&mut intervals, at, owner);
        while at < end {
            // The widths add up to the same before and after, so there is a taker for every bucket given away.
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

/// How much each owner has.
fn widths_of<K: Ord>(intervals: &[(u32, K)]) -> BTreeMap<&K, u32> {
    let mut widths = BTreeMap::new();
    for (start, end, owner) in ranges(intervals) {
        *widths.entry(owner).or_default() += end - start;
    }
    widths
}

/// Start, end and owner of each interval.
pub(crate) fn ranges<K>(intervals: &[(u32, K)]) -> impl Iterator<Item = (u32, u32, &K)> {
    let starts = std::iter::once(0).chain(intervals.iter().map(|(end, _)| *end));
    starts.zip(intervals).map(|(start, (end, owner))| (start, *end, owner))
}

/// Appends an interval up to `end`, unless it is empty; one of the same owner grows instead.
fn push<K: Clone + PartialEq>(intervals: &mut Intervals<K>, end: u32, owner: &K) {
    match intervals.last_mut() {
        Some((before, last)) if last == owner => *before = (*before).max(end),
        Some((before, _)) if *before >= end => {}
        None if end == 0 => {}
        _ => intervals.push((end, owner.clone())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::BUCKETS;

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    type Widths = Vec<(&'static str, u32)>;

    /// Widths of some of the five names that add up to all buckets.
    fn widths() -> impl Strategy<Value = Widths> {
        (prop::collection::vec(0..=BUCKETS, 4), prop::sample::subsequence(NAMES.to_vec(), 1..=5)).prop_map(
            |(mut cuts, names)| {
                cuts.truncate(names.len() - 1);
                cuts.extend([0, BUCKETS]);
                cuts.sort_unstable();
                names.into_iter().zip(cuts.windows(2).map(|pair| pair[1] - pair[0])).collect()
            },
        )
    }

    fn owners<'a>(intervals: &Intervals<&'a str>) -> Vec<&'a str> {
        let owners: Vec<_> =
            ranges(intervals).flat_map(|(start, end, name)| (start..end).map(move |_| *name)).collect();
        assert_eq!(owners.len(), BUCKETS as usize, "every bucket has one owner");
        assert!(intervals.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1));
        owners
    }

    fn without_zeros(widths: &Widths) -> BTreeMap<&&'static str, u32> {
        widths.iter().filter(|(_, width)| *width > 0).map(|(name, width)| (name, *width)).collect()
    }

    fn width(widths: &[(&str, u32)], name: &str) -> u32 {
        widths.iter().find(|(have, _)| *have == name).map_or(0, |(_, width)| *width)
    }

    /// Half of the L1 difference moves, and only units of owners that shrank.
    fn moves_exactly(
        old: &Intervals<&str>,
        new: &Intervals<&str>,
        before: &[(&str, u32)],
        after: &[(&str, u32)],
    ) -> Result<(), TestCaseError> {
        let mut moved = 0;
        for (from, to) in owners(old).iter().zip(&owners(new)) {
            if from != to {
                moved += 1;
                prop_assert!(width(after, from) < width(before, from));
                prop_assert!(width(after, to) > width(before, to));
            }
        }
        let difference: u32 = NAMES.iter().map(|name| width(before, name).abs_diff(width(after, name))).sum();
        prop_assert_eq!(moved * 2, difference);
        Ok(())
    }

    #[test]
    fn a_fresh_layout_is_in_order() {
        let laid_out = fresh(&[("canary", 10_000), ("other", 20_000), ("none", 0), ("stable", 70_000)]);
        assert_eq!(laid_out, [(10_000, "canary"), (30_000, "other"), (100_000, "stable")]);
    }

    #[test]
    fn a_rebased_layout_takes_from_the_upper_end_of_those_that_shrink() {
        let old = [(10_000, "canary"), (100_000, "stable")];
        let grown = rebase(&old, &[("canary", 25_000), ("stable", 75_000)]);
        assert_eq!(grown, [(10_000, "canary"), (85_000, "stable"), (100_000, "canary")]);
        let replaced = rebase(&grown, &[("next", 100_000)]);
        assert_eq!(replaced, [(100_000, "next")]);
        // Growing owners take in the order given, not in that of their names.
        let taken = rebase(&[(100_000, "x")], &[("x", 50_000), ("b", 25_000), ("a", 25_000)]);
        assert_eq!(taken, [(50_000, "x"), (75_000, "b"), (100_000, "a")]);
    }

    const STAGES: [(u32, u32); 3] = [(10_000, 90_000), (50_000, 50_000), (100_000, 0)];

    fn stages(widths: &[(u32, u32)]) -> Vec<Widths> {
        widths.iter().map(|(canary, stable)| vec![("canary", *canary), ("stable", *stable)]).collect()
    }

    #[test]
    fn the_stages_of_a_ramp_build_on_each_other() {
        let laid_out = ramp(None, &stages(&STAGES));
        assert_eq!(laid_out[0], [(10_000, "canary"), (100_000, "stable")]);
        assert_eq!(laid_out[1], [(10_000, "canary"), (60_000, "stable"), (100_000, "canary")]);
        assert_eq!(laid_out[2], [(100_000, "canary")]);
        // On a split, it is the first stage that changes as little as it can.
        let old = Old::Split(vec![(95_000, "stable"), (100_000, "canary")]);
        let laid_out = ramp(Some(&old), &stages(&STAGES[..1]));
        assert_eq!(laid_out[0], [(90_000, "stable"), (100_000, "canary")]);
    }

    #[test]
    fn an_edited_ramp_keeps_the_stages_that_it_keeps() {
        let old = Old::Ramp { from: "stable", stages: ramp(None, &stages(&STAGES)), approved: 1 };
        let Old::Ramp { stages: before, .. } = &old else { return };
        let edited = ramp(Some(&old), &stages(&[(5_000, 95_000), (50_000, 50_000), (80_000, 20_000)]));
        assert_eq!(edited[0], rebase(&before[0], &[("canary", 5_000), ("stable", 95_000)]));
        assert_eq!(edited[1], before[1]);
        assert_eq!(edited[2], rebase(&before[1], &[("canary", 80_000), ("stable", 20_000)]));
    }

    #[test]
    fn a_split_after_a_ramp_builds_on_what_was_served() {
        let before = ramp(None, &stages(&STAGES));
        let old = |approved| Old::Ramp { from: "stable", stages: before.clone(), approved };
        let widths = [("canary", 20_000), ("stable", 80_000)];
        assert_eq!(split(Some(&old(2)), &widths), rebase(&before[1], &widths));
        assert_eq!(split(Some(&old(0)), &widths), rebase(&[(100_000, "stable")], &widths));
        // The stage of the same widths, approved or not.
        assert_eq!(split(Some(&old(0)), &[("canary", 50_000), ("stable", 50_000)]), before[1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn layouts_give_every_owner_its_width(first in widths(), second in widths()) {
            let fresh = fresh(&first);
            owners(&fresh);
            prop_assert_eq!(widths_of(&fresh), without_zeros(&first));
            let rebased = rebase(&fresh, &second);
            owners(&rebased);
            prop_assert_eq!(widths_of(&rebased), without_zeros(&second));
            prop_assert_eq!(&rebase(&fresh, &first), &fresh);
        }

        #[test]
        fn raising_one_owner_moves_no_unit_that_was_in_it(old in widths(), pick in 0_usize..5, cuts in prop::collection::vec(0..=BUCKETS, 5)) {
            let raised = pick % old.len();
            // The others give what `cuts` says, at most what they have.
            let mut new = old.clone();
            let mut given = 0;
            for (index, ((_, width), cut)) in new.iter_mut().zip(cuts).enumerate() {
                if index != raised {
                    let gives = cut.min(*width);
                    *width -= gives;
                    given += gives;
                }
            }
            new[raised].1 += given;
            let (before, after) = (owners(&fresh(&old)), owners(&fresh(&new)));
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(*before != old[raised].0 || after == before);
            }
            if old.len() == 2 {
                let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
                prop_assert_eq!(moved, given as usize);
            }
        }

        #[test]
        fn rebasing_moves_half_the_difference_and_only_from_those_that_shrink(steps in prop::collection::vec(widths(), 2..6)) {
            let mut layout = fresh(&steps[0]);
            for pair in steps.windows(2) {
                let next = rebase(&layout, &pair[1]);
                moves_exactly(&layout, &next, &pair[0], &pair[1])?;
                layout = next;
            }
        }

        #[test]
        fn stages_move_half_the_difference_and_nest_where_one_variant_rises(stages in prop::collection::vec(widths(), 1..5), mut rising in prop::collection::vec(0..=BUCKETS, 1..5), base in prop::option::of(widths())) {
            let old = base.as_ref().map(|base| Old::Split(fresh(base)));
            let laid_out = ramp(old.as_ref(), &stages);
            if let (Some(Old::Split(old)), Some(base)) = (&old, &base) {
                moves_exactly(old, &laid_out[0], base, &stages[0])?;
            }
            for (layouts, widths) in laid_out.windows(2).zip(stages.windows(2)) {
                moves_exactly(&layouts[0], &layouts[1], &widths[0], &widths[1])?;
            }
            rising.sort_unstable();
            let rising: Vec<Widths> = rising.iter().map(|width| vec![("b", *width), ("a", BUCKETS - width)]).collect();
            for pair in ramp(old.as_ref(), &rising).windows(2) {
                for (before, after) in owners(&pair[0]).iter().zip(&owners(&pair[1])) {
                    prop_assert!(*before != "b" || *after == "b");
                }
            }
        }

        #[test]
        fn a_ramp_compiled_again_stays_as_it_is(stages in prop::collection::vec(widths(), 1..5), approved in 0_usize..5) {
            let laid_out = ramp(None, &stages);
            let old = Old::Ramp { from: "a", stages: laid_out.clone(), approved };
            let again = ramp(Some(&old), &stages);
            // Of stages with equal widths the first speaks for all.
            for (stage, widths) in again.iter().zip(&stages) {
                let first = stages.iter().position(|other| without_zeros(other) == without_zeros(widths)).unwrap();
                prop_assert_eq!(stage, &laid_out[first]);
            }
        }
    }
}
