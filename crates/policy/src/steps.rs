//! What each step of a route serves, read back from a bundle: for tools that compare and plot.

use std::collections::{BTreeMap, BTreeSet};

use crate::bundle::Reader;
use crate::bundle::format::{
    FIELDS, Holdout, Interval, Kind, Label, Layer, NONE, Pause, RAMP_AUTOMATIC, ROUTE_ENABLED, Ramp,
    RouteHoldout, SWITCHBACK_ENDS, Span, Split, Stage, Switchback, Target, Unit, UnitPart, VARIANT_DISABLED,
    Variant, VariantPlace, Window,
};
use crate::policy::Millis;
use crate::{Field, RouteView, Step, clock};

/// A step of a route.
pub(crate) struct RouteStep<'b> {
    pub(crate) step: Step,
    /// The holdout, test group, symbol rollout or rule.
    pub(crate) name: Option<&'b str>,
    /// The place of its names in the bundle's numbering, which a decision carries.
    pub(crate) label: u32,
    /// The first moment at which it can match, and the first at which it no longer can; `None` for no bound.
    pub(crate) window: (Option<Millis>, Option<Millis>),
    pub(crate) serve: Served<'b>,
}

/// What a step serves.
pub(crate) enum Served<'b> {
    Variant(&'b str),
    Split(Partition<'b>),
    /// The partitions of its stages; that of stage 0 first.
    Ramp {
        stages: Vec<Partition<'b>>,
        clock: RampClock,
    },
    Switchback(Rotation<'b>),
}

/// What a step serves at a moment.
#[derive(Clone, Copy)]
pub(crate) enum InForce<'s, 'b> {
    /// It does not match, and the next steps are looked at.
    Nothing,
    Variant(&'b str),
    Partition(&'s Partition<'b>),
    Rotation(&'s Rotation<'b>),
}

/// Variants that take turns.
#[derive(Clone, PartialEq)]
pub(crate) struct Rotation<'b> {
    pub(crate) unit: Vec<&'b str>,
    pub(crate) variants: Vec<&'b str>,
    /// What serves in a washout.
    pub(crate) baseline: &'b str,
    pub(crate) start: Millis,
    pub(crate) end: Option<Millis>,
    /// The length of a window.
    pub(crate) window: u64,
    /// The length of the washout at its beginning.
    pub(crate) washout: u64,
    pub(crate) seed: &'b str,
}

/// What says which stage of a ramp is in force.
pub(crate) struct RampClock {
    start: Millis,
    approved: usize,
    offsets: Vec<u64>,
    pauses: Vec<Pause>,
}

/// Who owns which buckets of a hash space.
#[derive(Clone, PartialEq)]
pub(crate) struct Partition<'b> {
    pub(crate) space: Space<'b>,
    /// The end of each interval, exclusive, and its owner; the last one ends at the space's scale.
    pub(crate) intervals: Vec<(u32, Option<&'b str>)>,
}

/// Which bucket a unit has depends on these.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Space<'b> {
    pub(crate) salt: &'b str,
    pub(crate) algorithm: u32,
    pub(crate) unit: Vec<&'b str>,
    pub(crate) scale: u32,
}

impl<'b> RouteStep<'b> {
    /// What it serves at a moment.
    pub(crate) fn in_force(&self, now: Millis) -> InForce<'_, 'b> {
        let (from, until) = self.window;
        if from.is_some_and(|from| now < from) || until.is_some_and(|until| now >= until) {
            return InForce::Nothing;
        }
        match &self.serve {
            Served::Variant(name) => InForce::Variant(name),
            Served::Split(partition) => InForce::Partition(partition),
            Served::Ramp { stages, clock } => {
                stages.get(clock.stage(now)).map_or(InForce::Nothing, InForce::Partition)
            }
            Served::Switchback(of) if now < of.start || of.end.is_some_and(|end| now >= end) => {
                InForce::Nothing
            }
            Served::Switchback(of) => InForce::Rotation(of),
        }
    }

    /// The moments at which it begins to serve something else. Turns of a switchback do not count.
    pub(crate) fn changes(&self) -> BTreeSet<Millis> {
        let (from, until) = self.window;
        let mut moments: BTreeSet<Millis> = from.into_iter().chain(until).collect();
        match &self.serve {
            Served::Ramp { clock, .. } => moments.extend(clock.changes()),
            Served::Switchback(of) => moments.extend([of.start].into_iter().chain(of.end)),
            Served::Variant(_) | Served::Split(_) => {}
        }
        moments
    }
}

impl RampClock {
    /// The stage in force.
    pub(crate) fn stage(&self, now: Millis) -> usize {
        let Some(elapsed) = clock::elapsed(self.start, now, self.pauses.iter().copied()) else { return 0 };
        let reached = self.offsets.iter().filter(|offset| **offset <= elapsed).count();
        reached.min(self.approved)
    }

    /// When each stage that is approved begins, those that never do left out.
    fn changes(&self) -> impl Iterator<Item = Millis> {
        self.offsets.iter().take(self.approved).filter_map(|offset| {
            let mut at = self.start.checked_add(i64::try_from(*offset).ok()?)?;
            for Pause { from, until } in self.pauses.iter().filter(|pause| pause.until > self.start) {
                let from = (*from).max(self.start);
                if from >= at {
                    break;
                }
                // A pause without end puts everything off for good.
                let length = (*until != Millis::MAX).then(|| until.checked_sub(from))??;
                at = at.checked_add(length)?;
            }
            Some(at)
        })
    }
}

impl Partition<'_> {
    /// The buckets of each owner, in the order of the intervals.
    pub(crate) fn widths(&self) -> Vec<(Option<&str>, u32)> {
        let mut widths: Vec<(Option<&str>, u32)> = Vec::new();
        let mut start = 0;
        for (end, owner) in &self.intervals {
            let width = end.saturating_sub(start);
            match widths.iter_mut().find(|(known, _)| known == owner) {
                Some((_, sum)) => *sum = sum.saturating_add(width),
                None => widths.push((*owner, width)),
            }
            start = *end;
        }
        widths
    }
}

/// What serves when a variant is chosen, as long as every package is available.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Outcome<'b> {
    pub(crate) variant: &'b str,
    pub(crate) model: (&'b str, &'b str),
}

/// What each variant of a route comes to, disabled ones replaced by their fallbacks.
pub(crate) fn outcomes<'b>(reader: Reader<'b>, route: &RouteView<'b>) -> BTreeMap<&'b str, Outcome<'b>> {
    let variants = route.record().variants;
    let record = |place: u32| reader.get::<Variant>(variants.start.saturating_add(place));
    let enabled = |place: &u32| record(*place).flags & VARIANT_DISABLED == 0;
    let outcome = |place: u32| {
        let mut fallbacks = reader.list::<VariantPlace>(record(place).fallbacks).map(|place| place.variant);
        let serving = if enabled(&place) { None } else { fallbacks.find(enabled) };
        let view = route.variant_at(serving.unwrap_or(place));
        Outcome { variant: view.name, model: (view.model, view.version) }
    };
    (0..variants.count).map(|place| (route.variant_at(place).name, outcome(place))).collect()
}

/// The name of the variant that a disabled route gives to everyone; `None` for one that is enabled.
pub(crate) fn killed<'b>(route: &RouteView<'b>) -> Option<&'b str> {
    let record = route.record();
    (record.flags & ROUTE_ENABLED == 0).then(|| route.variant_at(record.baseline).name)
}

/// The steps of a route that choose by bucket, member or condition: holdouts, then targets in the order of precedence.
pub(crate) fn steps<'b>(reader: Reader<'b>, route: &RouteView<'b>) -> Vec<RouteStep<'b>> {
    let record = route.record();
    let variant = |place: u32| route.variant_at(place).name;
    let mut steps = Vec::new();
    for RouteHoldout { holdout } in reader.list::<RouteHoldout>(record.holdouts) {
        let Holdout { label, split, .. } = reader.get(holdout);
        let split: Split = reader.get(split);
        let partition = partition(reader, &split, |place| (place == 0).then_some("(held out)"));
        let name = name_of(reader, label);
        let (window, serve) = ((None, None), Served::Split(partition));
        steps.push(RouteStep { step: Step::Holdout, name, label, window, serve });
    }
    for target in reader.list::<Target>(record.targets) {
        let (Some(step), Some(kind)) = (target.step(), target.kind()) else { continue };
        let owner = |place: u32| (place != NONE).then(|| variant(place));
        let serve = match kind {
            Kind::Variant => Served::Variant(variant(target.serve)),
            Kind::Split | Kind::Experiment => {
                Served::Split(partition(reader, &reader.get(target.serve), owner))
            }
            Kind::Ramp => ramp(reader, &reader.get(target.serve), owner),
            Kind::Switchback => Served::Switchback(rotation(reader, route, &reader.get(target.serve))),
        };
        let (name, label, window) =
            (name_of(reader, target.label), target.label, window(reader, target.window));
        steps.push(RouteStep { step, name, label, window, serve });
    }
    steps
}

fn name_of(reader: Reader<'_>, label: u32) -> Option<&str> {
    if label == NONE {
        return None;
    }
    let Label { name, .. } = reader.get(label);
    reader.optional(name)
}

fn intervals<'b>(
    reader: Reader<'b>,
    span: Span,
    owner: impl Fn(u32) -> Option<&'b str>,
) -> Vec<(u32, Option<&'b str>)> {
    reader.list::<Interval>(span).map(|interval| (interval.end, owner(interval.variant))).collect()
}

fn window(reader: Reader<'_>, place: u32) -> (Option<Millis>, Option<Millis>) {
    if place == NONE {
        return (None, None);
    }
    let Window { first, last } = reader.get(place);
    ((first != Millis::MIN).then_some(first), (last != Millis::MAX).then(|| last.saturating_add(1)))
}

fn rotation<'b>(reader: Reader<'b>, route: &RouteView<'b>, of: &Switchback) -> Rotation<'b> {
    let variant = |place: u32| route.variant_at(place).name;
    Rotation {
        unit: unit_parts(reader, of.unit),
        variants: reader.list::<VariantPlace>(of.variants).map(|place| variant(place.variant)).collect(),
        baseline: variant(route.record().baseline),
        start: of.start,
        end: (of.flags & SWITCHBACK_ENDS != 0).then_some(of.end),
        window: of.window,
        washout: of.washout,
        seed: reader.text(of.seed),
    }
}

fn space<'b>(reader: Reader<'b>, layer: u32, unit: u32, scale: u32) -> Space<'b> {
    let Layer { salt, algorithm, .. } = reader.get(layer);
    Space { salt: reader.text(salt), algorithm, unit: unit_parts(reader, unit), scale }
}

fn unit_parts(reader: Reader<'_>, unit: u32) -> Vec<&str> {
    let field = |number: u32| Field::from_number(number).map_or("", Field::name);
    match unit.checked_sub(FIELDS) {
        None => vec![field(unit)],
        Some(place) => {
            let Unit { parts } = reader.get(place);
            let part = |UnitPart { part }: UnitPart| match part.checked_sub(FIELDS) {
                None => field(part),
                Some(place) => attribute(reader, place),
            };
            reader.list::<UnitPart>(parts).map(part).collect()
        }
    }
}

fn attribute(reader: Reader<'_>, place: u32) -> &str {
    let crate::bundle::format::Attribute { name } = reader.get(place);
    reader.text(name)
}

fn partition<'b>(reader: Reader<'b>, split: &Split, owner: impl Fn(u32) -> Option<&'b str>) -> Partition<'b> {
    let Split { layer, unit, scale, intervals: span } = *split;
    Partition { space: space(reader, layer, unit, scale), intervals: intervals(reader, span, owner) }
}

fn ramp<'b>(reader: Reader<'b>, ramp: &Ramp, owner: impl Fn(u32) -> Option<&'b str>) -> Served<'b> {
    let Ramp { layer, unit, flags, from, approved_stage, start, stages, pauses } = *ramp;
    let records: Vec<Stage> = reader.list(stages).collect();
    let scale = records.first().map_or(0, |stage| stage.scale);
    let first = Partition { space: space(reader, layer, unit, scale), intervals: vec![(scale, owner(from))] };
    let others = records.iter().map(|stage| Partition {
        space: space(reader, layer, unit, stage.scale),
        intervals: intervals(reader, stage.intervals, &owner),
    });
    let approved = if flags & RAMP_AUTOMATIC == 0 { approved_stage as usize } else { records.len() };
    let clock = RampClock {
        start,
        approved,
        offsets: records.iter().map(|stage| stage.offset).collect(),
        pauses: reader.list::<Pause>(pauses).collect(),
    };
    Served::Ramp { stages: std::iter::once(first).chain(others).collect(), clock }
}
