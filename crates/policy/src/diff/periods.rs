//! What a step serves otherwise, over all of time.

use std::collections::{BTreeMap, BTreeSet};

use super::{Move, Period, turns};
use crate::policy::Millis;
use crate::steps::{InForce, Outcome, Partition, RouteStep, Served};

/// Who has buckets that a step leaves to the next ones.
const NEXT_STEPS: &str = "(next steps)";

/// Who serves; `None` for the next steps.
pub(super) type Owner<'b> = Option<&'b str>;
/// The share of each pair of who serves in the old policy and who in the new one, in percent; together 100.
pub(super) type Pairs<'b> = BTreeMap<(Owner<'b>, Owner<'b>), f64>;

/// What people read for a variant of the old policy and for one of the new: what serves instead of a disabled one, with its model
/// version where the other policy gives it another.
#[derive(Default)]
pub(super) struct Labels<'b> {
    pub(super) old: BTreeMap<&'b str, String>,
    pub(super) new: BTreeMap<&'b str, String>,
}

impl<'b> Labels<'b> {
    pub(super) fn new(old: &BTreeMap<&'b str, Outcome<'b>>, new: &BTreeMap<&'b str, Outcome<'b>>) -> Self {
        let label = |outcome: &Outcome<'b>, others: &BTreeMap<&'b str, Outcome<'b>>| {
            let Outcome { variant, model } = outcome;
            let twin = others.values().find(|other| other.variant == *variant);
            match twin.filter(|twin| twin.model != *model) {
                Some(_) => format!("{variant} {}@{}", model.0, model.1),
                None => (*variant).to_owned(),
            }
        };
        let all = |of: &BTreeMap<&'b str, Outcome<'b>>, others: &BTreeMap<&'b str, Outcome<'b>>| {
            of.iter().map(|(name, outcome)| (*name, label(outcome, others))).collect()
        };
        Self { old: all(old, new), new: all(new, old) }
    }
}

/// Compares two steps in each stretch of time in which neither changes. Neighbours that are alike are one.
pub(super) fn compare<'b>(
    old: Option<&RouteStep<'b>>,
    new: Option<&RouteStep<'b>>,
    labels: &Labels<'b>,
) -> Vec<Period> {
    let steps = || old.into_iter().chain(new);
    let moments: BTreeSet<Millis> = steps().flat_map(RouteStep::changes).collect();
    let begins: Vec<Option<Millis>> = [None].into_iter().chain(moments.into_iter().map(Some)).collect();
    let mut periods: Vec<Period> = Vec::new();
    let mut last: Option<InForce<'_, '_>> = None;
    for (number, from) in begins.iter().enumerate() {
        let at = from.unwrap_or(Millis::MIN);
        let until = begins.get(number.saturating_add(1)).copied().flatten();
        let (before, after) = (in_force(old, at), in_force(new, at));
        let (pairs, rehashed) = pairs(before, after, at, until);
        let moves = moves(pairs, &labels.old, &labels.new);
        let period = Period {
            from: *from,
            old: words(old, at),
            new: words(new, at),
            advancing: last.and_then(|last| advancing(last, after, &labels.new)),
            moved: moves.iter().map(|one| one.percent).sum(),
            rehashed: rehashed && !moves.is_empty(),
            of_time: [before, after].iter().any(|side| matches!(side, InForce::Rotation(_))),
            moves,
        };
        last = Some(after);
        let alike = |other: &Period| {
            other.old == period.old
                && other.new == period.new
                && other.moves == period.moves
                && period.advancing.is_none_or(|share| share == 0.0)
        };
        if !periods.last().is_some_and(alike) {
            periods.push(period);
        }
    }
    periods
}

/// What a step serves at a moment; one that a policy lacks leaves everyone to the next steps.
fn in_force<'s, 'b>(step: Option<&'s RouteStep<'b>>, at: Millis) -> InForce<'s, 'b> {
    step.map_or(InForce::Nothing, |step| step.in_force(at))
}

/// What a step serves at a moment, in words.
fn words(step: Option<&RouteStep<'_>>, at: Millis) -> String {
    let Some(step) = step else { return "absent".to_owned() };
    match (&step.serve, step.in_force(at)) {
        (_, InForce::Nothing) => "not in force".to_owned(),
        (_, InForce::Variant(name)) => name.to_owned(),
        (_, InForce::Rotation(_)) => "switchback".to_owned(),
        (Served::Ramp { clock, .. }, InForce::Partition(_)) => format!("stage {}", clock.stage(at)),
        (_, InForce::Partition(_)) => "split".to_owned(),
    }
}

/// The share of units that get something else than before, when that does not depend on time.
fn advancing<'b>(
    before: InForce<'_, 'b>,
    after: InForce<'_, 'b>,
    labels: &BTreeMap<&'b str, String>,
) -> Option<f64> {
    if [before, after].iter().any(|side| matches!(side, InForce::Rotation(_))) {
        return None;
    }
    let (pairs, _) = pairs(before, after, Millis::MIN, None);
    Some(moves(pairs, labels, labels).iter().map(|one| one.percent).sum())
}

fn moves(pairs: Pairs<'_>, old: &BTreeMap<&str, String>, new: &BTreeMap<&str, String>) -> Vec<Move> {
    let label = |owner: Owner<'_>, labels: &BTreeMap<&str, String>| match owner {
        None => NEXT_STEPS.to_owned(),
        Some(name) => labels.get(name).cloned().unwrap_or_else(|| name.to_owned()),
    };
    let mut shares: BTreeMap<(String, String), f64> = BTreeMap::new();
    for ((from, to), share) in pairs {
        let pair = (label(from, old), label(to, new));
        if pair.0 != pair.1 && share > 0.0 {
            *shares.entry(pair).or_default() += share;
        }
    }
    shares.into_iter().map(|((from, to), percent)| Move { from, to, percent }).collect()
}

/// Who serves in the old policy and who in the new one from one moment to another, and whether that is only expected.
fn pairs<'b>(
    old: InForce<'_, 'b>,
    new: InForce<'_, 'b>,
    from: Millis,
    until: Option<Millis>,
) -> (Pairs<'b>, bool) {
    match (old, new) {
        (InForce::Partition(old), InForce::Partition(new)) if old.space == new.space => {
            (overlay(old, new), false)
        }
        (InForce::Rotation(old), InForce::Rotation(new)) => turns::pairs(old, new, from, until),
        (old, new) => {
            // Different hashes are independent of each other; against a single owner there is nothing to be independent of.
            let (old, new) = (owners(old, from, until), owners(new, from, until));
            let rehashed = old.len() > 1 && new.len() > 1;
            let mut pairs = Pairs::new();
            for (from, share) in old {
                for (to, other) in &new {
                    *pairs.entry((from, *to)).or_default() += share * other / 100.0;
                }
            }
            (pairs, rehashed)
        }
    }
}

/// The share of each owner in percent, those of nothing left out.
fn owners<'b>(side: InForce<'_, 'b>, from: Millis, until: Option<Millis>) -> BTreeMap<Owner<'b>, f64> {
    match side {
        InForce::Nothing => [(None, 100.0)].into(),
        InForce::Variant(name) => [(Some(name), 100.0)].into(),
        InForce::Rotation(rotation) => turns::owners(rotation, from, until),
        InForce::Partition(partition) => {
            let mut shares = BTreeMap::new();
            let mut start = 0;
            for (end, owner) in &partition.intervals {
                *shares.entry(*owner).or_default() += share(end.saturating_sub(start), partition.space.scale);
                start = *end;
            }
            shares
        }
    }
}

fn share(buckets: u32, scale: u32) -> f64 {
    100.0 * f64::from(buckets) / f64::from(scale.max(1))
}

/// The owners of each bucket in two partitions of one hash space.
fn overlay<'b>(old: &Partition<'b>, new: &Partition<'b>) -> Pairs<'b> {
    let mut totals: BTreeMap<(Owner<'b>, Owner<'b>), u32> = BTreeMap::new();
    let (mut before, mut after) = (old.intervals.iter().peekable(), new.intervals.iter().peekable());
    let mut start = 0;
    while let (Some((old_end, from)), Some((new_end, to))) = (before.peek(), after.peek()) {
        let end = (*old_end).min(*new_end);
        let total = totals.entry((*from, *to)).or_default();
        *total = total.saturating_add(end.saturating_sub(start));
        start = end;
        before.next_if(|(old_end, _)| *old_end == end);
        after.next_if(|(new_end, _)| *new_end == end);
    }
    totals.into_iter().map(|(pair, buckets)| (pair, share(buckets, old.space.scale))).collect()
}
