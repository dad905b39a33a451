//! What a bundle's steps serve, read back. `compile` starts from it, and tools compare it.

use std::collections::BTreeMap;

use crate::bundle::Bundle;
use crate::bundle::format::{
    self, HOLDOUT_NAMED, HOLDOUT_OF_LAYER, Holdout, Interval, Kind, Label, NONE, RAMP_AUTOMATIC, Route, Span,
    Stage, Target, Variant,
};
use crate::hash::Algorithm;
use crate::intervals::{Intervals, Old, ranges};
use crate::policy::{RouteKey, RouteScope};
use crate::{BUCKETS, Step};

/// What a step of a bundle serves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StepLayout<'b> {
    /// One variant.
    Variant(&'b str),
    /// Variants by bucket.
    Split(SplitLayout<'b>),
    /// Variants by bucket; what is nobody's does not match.
    Experiment(SplitLayout<'b>),
    /// Splits that follow each other.
    Ramp(RampLayout<'b>),
    /// Variants by unit and window of time.
    Switchback(format::Switchback),
}

/// Variants by bucket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SplitLayout<'b> {
    /// The place of the hash space among the bundle's layers.
    pub(crate) layer: u32,
    /// The unit, as the bundle writes it.
    pub(crate) unit: u32,
    /// How many buckets there are.
    pub(crate) scale: u32,
    /// The variants' intervals; `None` for nobody's.
    pub(crate) intervals: Intervals<Option<&'b str>>,
}

/// Splits that follow each other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RampLayout<'b> {
    /// The ramp as the bundle writes it.
    pub(crate) ramp: format::Ramp,
    /// The variant that serves before the first stage.
    pub(crate) from: &'b str,
    /// Each stage with its variants' intervals.
    pub(crate) stages: Vec<(Stage, Intervals<&'b str>)>,
}

impl RampLayout<'_> {
    /// The highest stage that may be entered, counted from 1; 0 for none.
    pub(crate) fn approved(&self) -> usize {
        let stages = self.stages.len();
        if self.ramp.flags & RAMP_AUTOMATIC != 0 {
            stages
        } else {
            stages.min(self.ramp.approved_stage as usize)
        }
    }
}

/// What a step of the route serves.
pub(crate) fn step_layout<'b>(bundle: &'b Bundle, route: &Route, target: &Target) -> Option<StepLayout<'b>> {
    let variant = |place: u32| variant(bundle, route, place);
    Some(match target.kind()? {
        Kind::Variant => StepLayout::Variant(variant(target.serve)),
        Kind::Split => StepLayout::Split(split_layout(bundle, target.serve, variant)),
        Kind::Experiment => StepLayout::Experiment(split_layout(bundle, target.serve, variant)),
        Kind::Ramp => {
            let ramp = bundle.reader().get::<format::Ramp>(target.serve);
            let stages = bundle.reader().list::<Stage>(ramp.stages);
            let stages = stages.map(|stage| (stage, intervals(bundle, stage.intervals, variant))).collect();
            StepLayout::Ramp(RampLayout { ramp, from: variant(ramp.from), stages })
        }
        Kind::Switchback => StepLayout::Switchback(bundle.reader().get(target.serve)),
    })
}

fn split_layout<'b>(bundle: &'b Bundle, place: u32, owner: impl Fn(u32) -> &'b str) -> SplitLayout<'b> {
    let format::Split { layer, unit, scale, intervals: span } = bundle.reader().get(place);
    let intervals = intervals(bundle, span, |place| (place != NONE).then(|| owner(place)));
    SplitLayout { layer, unit, scale, intervals }
}

fn intervals<K>(bundle: &Bundle, span: Span, owner: impl Fn(u32) -> K) -> Intervals<K> {
    bundle.reader().list::<Interval>(span).map(|interval| (interval.end, owner(interval.variant))).collect()
}

fn variant<'b>(bundle: &'b Bundle, route: &Route, place: u32) -> &'b str {
    let record: Variant = bundle.reader().get(route.variants.start.saturating_add(place));
    bundle.reader().text(record.name)
}

/// The name of the step, as its label says.
fn step_name<'b>(bundle: &'b Bundle, target: &Target) -> Option<&'b str> {
    let reader = bundle.reader();
    (target.label != NONE)
        .then(|| reader.get::<Label>(target.label))
        .and_then(|label| reader.optional(label.name))
}

/// The bundle that intervals are taken from.
pub(super) struct Base<'b> {
    bundle: &'b Bundle,
}

/// Who owns buckets of a layer with experiments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LayerOwner<'a> {
    Holdout,
    /// The name of the route's own layer, and those of the rule and the variant.
    Experiment(String, &'a str, &'a str),
    Nobody,
}

impl<'b> Base<'b> {
    pub(super) fn new(bundle: &'b Bundle) -> Self {
        Self { bundle }
    }

    fn layer_of(&self, place: u32) -> format::Layer {
        self.bundle.reader().get(place)
    }

    /// What the step of this name was like, the default when it has none; `None` when there was no such step, or none whose
    /// intervals can be kept.
    pub(super) fn step(&self, key: &RouteKey, name: Option<&str>) -> Option<Old<&'b str>> {
        let RouteScope { tenant, user } = &key.scope;
        let route = self.bundle.definition(&key.name, tenant.as_deref(), user.as_deref())?.record();
        let target = self.bundle.reader().list::<Target>(route.targets).find(|target| {
            let is_default = target.step() == Some(Step::Default);
            is_default == name.is_none() && (is_default || step_name(self.bundle, target) == name)
        })?;
        let ours = |layer: u32| self.layer_of(layer).algorithm() == Some(Algorithm::Lockgate);
        match step_layout(self.bundle, &route, &target)? {
            StepLayout::Variant(name) => Some(Old::Split(vec![(BUCKETS, name)])),
            StepLayout::Split(split) if ours(split.layer) => {
                let intervals = split.intervals.into_iter();
                Some(Old::Split(intervals.filter_map(|(end, owner)| Some((end, owner?))).collect()))
            }
            StepLayout::Ramp(ramp) if ours(ramp.ramp.layer) => {
                let (from, approved) = (ramp.from, ramp.approved());
                let stages = ramp.stages.into_iter().map(|(_, intervals)| intervals).collect();
                Some(Old::Ramp { from, stages, approved })
            }
            _ => None,
        }
    }

    /// The intervals of the holdout of this name; whether a bucket is held out.
    pub(super) fn holdout(&self, name: &str) -> Option<Intervals<bool>> {
        self.held_out(HOLDOUT_NAMED, name)
    }

    fn held_out(&self, kind: u32, name: &str) -> Option<Intervals<bool>> {
        let reader = self.bundle.reader();
        let named = |holdout: &Holdout| {
            holdout.kind == kind && reader.text(reader.get::<Label>(holdout.label).name) == name
        };
        let holdout = reader.all::<Holdout>().find(named)?;
        let split: format::Split = reader.get(holdout.split);
        Some(intervals(self.bundle, split.intervals, |owner| owner != NONE))
    }

    /// The layers that had experiments, by name.
    pub(super) fn layers(&self) -> BTreeMap<&'b str, Intervals<LayerOwner<'b>>> {
        let reader = self.bundle.reader();
        let mut layers: BTreeMap<&str, Vec<(u32, u32, LayerOwner<'b>)>> = BTreeMap::new();
        for view in self.bundle.routes() {
            let [tenant, user] = [view.tenant(), view.user()].map(|text| text.map(str::to_owned));
            let key = RouteKey { name: view.name().to_owned(), scope: RouteScope { tenant, user } };
            let route = view.record();
            for target in reader.list::<Target>(route.targets) {
                let Some(StepLayout::Experiment(split)) = step_layout(self.bundle, &route, &target) else {
                    continue;
                };
                let rule = step_name(self.bundle, &target).unwrap_or_default();
                let owned = layers.entry(reader.text(self.layer_of(split.layer).name)).or_default();
                for (start, end, variant) in ranges(&split.intervals) {
                    if let Some(variant) = variant {
                        owned.push((start, end, LayerOwner::Experiment(key.layer_name(), rule, variant)));
                    }
                }
            }
        }
        layers.into_iter().map(|(name, owned)| (name, self.layer(name, owned))).collect()
    }

    /// The intervals of a layer whose experiments own these.
    fn layer(&self, name: &str, mut owned: Vec<(u32, u32, LayerOwner<'b>)>) -> Intervals<LayerOwner<'b>> {
        for (start, end, held_out) in ranges(&self.held_out(HOLDOUT_OF_LAYER, name).unwrap_or_default()) {
            if *held_out {
                owned.push((start, end, LayerOwner::Holdout));
            }
        }
        owned.sort_unstable();
        let mut intervals: Intervals<LayerOwner<'b>> = Vec::new();
        let mut at = 0;
        for (start, end, owner) in owned {
            if start > at {
                intervals.push((start, LayerOwner::Nobody));
            }
            // A bundle that was compiled has no overlaps; where one says otherwise, who comes first stays.
            if end > at {
                intervals.push((end, owner));
                at = end;
            }
        }
        if at < BUCKETS {
            intervals.push((BUCKETS, LayerOwner::Nobody));
        }
        intervals
    }
}
