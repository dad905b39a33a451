//! What each step of a route serves, read back from a bundle: for tools that compare and plot.

use crate::bundle::Reader;
use crate::bundle::format::{
    FIELDS, Holdout, Interval, Kind, Label, Layer, NONE, Pause, RAMP_AUTOMATIC, Ramp, RouteHoldout, Span,
    Split, Stage, Target, Unit, UnitPart,
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
    Switchback,
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
    /// The partition in force; `None` for a switchback and for a step that serves one variant.
    pub(crate) fn partition(&self, now: Millis) -> Option<&Partition<'b>> {
        match &self.serve {
            Served::Split(partition) => Some(partition),
            Served::Ramp { stages, clock } => stages.get(clock.stage(now)),
            Served::Variant(_) | Served::Switchback => None,
        }
    }
}

impl RampClock {
    /// The stage in force.
    pub(crate) fn stage(&self, now: Millis) -> usize {
        let Some(elapsed) = clock::elapsed(self.start, now, self.pauses.iter().copied()) else { return 0 };
        let reached = self.offsets.iter().filter(|offset| **offset <= elapsed).count();
        reached.min(self.approved)
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
        steps.push(RouteStep { step: Step::Holdout, name, label, serve: Served::Split(partition) });
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
            Kind::Switchback => Served::Switchback,
        };
        steps.push(RouteStep { step, name: name_of(reader, target.label), label: target.label, serve });
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

fn space<'b>(reader: Reader<'b>, layer: u32, unit: u32, scale: u32) -> Space<'b> {
    let Layer { salt, algorithm, .. } = reader.get(layer);
    let field = |number: u32| Field::from_number(number).map_or("", Field::name);
    let unit = match unit.checked_sub(FIELDS) {
        None => vec![field(unit)],
        Some(place) => {
            let Unit { parts } = reader.get(place);
            let part = |UnitPart { part }: UnitPart| match part.checked_sub(FIELDS) {
                None => field(part),
                Some(place) => attribute(reader, place),
            };
            reader.list::<UnitPart>(parts).map(part).collect()
        }
    };
    Space { salt: reader.text(salt), algorithm, unit, scale }
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
