//! Routes and what their steps serve.

use std::collections::BTreeMap;

use super::base::Base;
use super::layers::SharedLayers;
use super::pins::Pins;
use super::writer::{Writer, count};
use super::{Places, by_name, program};
use crate::bundle::format::{
    self, Interval, Kind, Map, NONE, Override as OverrideRecord, OverrideValue, Pause as PauseRecord,
    RAMP_AUTOMATIC, ROUTE_ENABLED, Request as RequestRecord, Route as RouteRecord, RouteHoldout, RouteText,
    SWITCHBACK_ENDS, Section, Shadow as ShadowRecord, Span, Stage as StageRecord,
    Switchback as SwitchbackRecord, Target, VARIANT_DISABLED, Variant as VariantRecord,
};
use crate::hash::Algorithm;
use crate::intervals::{Intervals, fresh, ramp, split};
use crate::policy::{
    Experiment, Layer, Millis, Pause, Policy, Ramp, Route, RouteKey, Serve, Share, Shares, Split, Switchback,
    Window,
};
use crate::{Field, Step};

/// What the routes of a bundle are written with.
pub(super) struct Routes<'p, 'w> {
    pub(super) writer: &'w mut Writer,
    pub(super) policy: &'p Policy,
    pub(super) places: &'w Places<'p>,
    pub(super) pins: &'w Pins<'p>,
    pub(super) layers: &'w SharedLayers<'p>,
    pub(super) base: Option<&'w Base<'p>>,
    /// Where each signature lies.
    pub(super) signatures: BTreeMap<Vec<u8>, Span>,
}

impl<'p> Routes<'p, '_> {
    /// Writes a route.
    pub(super) fn write(&mut self, key: &'p RouteKey, route: &'p Route) {
        let RouteKey { name, scope } = key;
        let text = RouteText {
            name: self.writer.text(name),
            tenant: self.writer.optional_text(scope.tenant.as_deref()),
            user: self.writer.optional_text(scope.user.as_deref()),
            description: self.writer.optional_text(route.description.as_deref()),
            signature: self.signature(key),
            records: route.records.map_or(NONE, Share::buckets),
        };
        self.writer.push(&text);
        let requests: Vec<RequestRecord> = route
            .requests
            .iter()
            .map(|request| {
                let variants: Vec<u32> = request.variants.iter().map(|name| place(route, name)).collect();
                RequestRecord {
                    label: self.writer.label(Some(&request.name), NONE),
                    members: program::members(self.writer, self.places, [&request.members]),
                    variants: self.writer.variant_places(&variants),
                }
            })
            .collect();
        let holdouts = self.layers.holdouts(self.policy, key, route);
        let holdouts: Vec<RouteHoldout> =
            holdouts.into_iter().map(|holdout| RouteHoldout { holdout }).collect();
        let record = RouteRecord {
            flags: if route.enabled { ROUTE_ENABLED } else { 0 },
            baseline: place(route, &route.baseline),
            access: program::condition(self.writer, self.places, route.access.as_ref()),
            variants: self.variants(route),
            overrides: self.overrides(route),
            requests: self.writer.push_all(&requests),
            holdouts: self.writer.shared_all(&holdouts),
            targets: self.targets(key, route),
            shadows: self.shadows(route),
        };
        self.writer.push(&record);
    }

    fn signature(&mut self, key: &RouteKey) -> Span {
        // The encoding of a type without maps or floats cannot fail; an empty one would be noticed when it is read.
        let signature = rmp_serde::to_vec_named(&self.pins.signature(key)).unwrap_or_default();
        let writer = &mut *self.writer;
        *self.signatures.entry(signature).or_insert_with_key(|bytes| writer.bytes(Section::Signatures, bytes))
    }

    fn variants(&mut self, route: &Route) -> Span {
        let baseline = std::slice::from_ref(&route.baseline);
        let shared = if route.fallbacks.is_empty() { baseline } else { &route.fallbacks };
        let records: Vec<VariantRecord> = route
            .variants
            .iter()
            .map(|variant| {
                let fallbacks = variant.fallbacks.as_deref().unwrap_or(shared);
                let fallbacks: Vec<u32> = fallbacks.iter().map(|name| place(route, name)).collect();
                VariantRecord {
                    name: self.writer.text(&variant.name),
                    model: self.pins.place(&variant.model),
                    payload: self.writer.optional_text(variant.payload.as_deref()),
                    flags: if variant.enabled { 0 } else { VARIANT_DISABLED },
                    fallbacks: self.writer.variant_places(&fallbacks),
                }
            })
            .collect();
        self.writer.push_all(&records)
    }

    fn overrides(&mut self, route: &Route) -> Span {
        let mut records = Vec::new();
        for field in Field::ALL {
            let mut entries: BTreeMap<&str, OverrideValue> = BTreeMap::new();
            for (entry, order) in route.overrides.iter().zip(0..) {
                if entry.field == field {
                    let value = OverrideValue { order, variant: place(route, &entry.serve) };
                    for text in &entry.values {
                        // Of two that name the same value, the first in the source counts.
                        entries.entry(text).or_insert(value);
                    }
                }
            }
            if !entries.is_empty() {
                let set = self.writer.set(entries.keys().copied());
                let values: Vec<OverrideValue> = entries.into_values().collect();
                let values = self.writer.push_all(&values).start;
                records.push(OverrideRecord { field: field.number(), entries: Map { set, values } });
            }
        }
        self.writer.push_all(&records)
    }

    fn shadows(&mut self, route: &Route) -> Span {
        let records: Vec<ShadowRecord> = route
            .shadows
            .iter()
            .map(|shadow| {
                let name = format!("{}/shadow/{}", route.layer.name, shadow.name);
                let layer = Layer { salt: name.clone(), name, algorithm: Algorithm::Lockgate };
                ShadowRecord {
                    name: self.writer.text(&shadow.name),
                    variant: place(route, &shadow.variant),
                    condition: program::condition(self.writer, self.places, shadow.condition.as_ref()),
                    window: self.writer.window(shadow.window),
                    layer: self.writer.layer(&layer),
                    unit: self.writer.unit(&shadow.unit),
                    sample: shadow.sample.buckets(),
                    rate: shadow.limits.rate,
                    concurrency: shadow.limits.concurrency,
                    bytes: shadow.limits.bytes,
                    deadline_ms: shadow.limits.deadline_ms,
                }
            })
            .collect();
        self.writer.push_all(&records)
    }

    fn targets(&mut self, key: &'p RouteKey, route: &'p Route) -> Span {
        let mut records = Vec::new();
        for group in &route.groups {
            let condition = program::members(self.writer, self.places, [&group.members]);
            let (name, window) = (Some(group.name.as_str()), group.window);
            let step = TargetStep { step: group.kind.step(), name, condition, window };
            records.push(self.target(key, route, &step, &group.serve));
        }
        for rule in &route.rules {
            let condition = program::condition(self.writer, self.places, rule.condition.as_ref());
            let step =
                TargetStep { step: Step::Rule, name: Some(&rule.name), condition, window: rule.window };
            records.push(self.target(key, route, &step, &rule.serve));
        }
        let (condition, window) = (Span::default(), Window::default());
        let default = TargetStep { step: Step::Default, name: None, condition, window };
        records.push(self.target(key, route, &default, &route.default));
        self.writer.push_all(&records)
    }

    fn target(
        &mut self,
        key: &'p RouteKey,
        route: &'p Route,
        step: &TargetStep<'_>,
        serve: &'p Serve,
    ) -> Target {
        let (kind, layer, serve) = match serve {
            Serve::Variant(name) => (Kind::Variant, NONE, place(route, name)),
            Serve::Split(split) => {
                let layer = self.writer.layer(&split.layer);
                (Kind::Split, layer, self.split(key, route, step, split))
            }
            Serve::Ramp(ramp) => {
                let layer = self.writer.layer(&ramp.layer);
                (Kind::Ramp, layer, self.ramp(key, route, step, ramp))
            }
            Serve::Experiment(experiment) => {
                let layer = self.policy.layers.get(&experiment.layer);
                let layer = layer.map_or(NONE, |layer| self.writer.layer(&layer.layer));
                (Kind::Experiment, layer, self.experiment(key, route, step, experiment))
            }
            Serve::Switchback(switchback) => (Kind::Switchback, NONE, self.switchback(route, switchback)),
        };
        Target {
            code: Target::code(step.step, kind),
            label: self.writer.label(step.name, layer),
            condition: step.condition,
            window: self.writer.window(step.window),
            serve,
        }
    }

    fn split(&mut self, key: &RouteKey, route: &'p Route, step: &TargetStep<'_>, serve: &'p Split) -> u32 {
        let intervals = if serve.layer.algorithm == Algorithm::Lockgate {
            let old = self.base.and_then(|base| base.step(key, step.name));
            split(old.as_ref(), &widths(route, &serve.shares))
        } else {
            in_order(&serve.shares)
        };
        let record = format::Split {
            layer: self.writer.layer(&serve.layer),
            unit: self.writer.unit(&serve.unit),
            scale: serve.shares.scale,
            intervals: self.intervals(route, &intervals),
        };
        self.writer.push(&record)
    }

    fn ramp(&mut self, key: &RouteKey, route: &'p Route, step: &TargetStep<'_>, serve: &'p Ramp) -> u32 {
        let stages: Vec<Intervals<&str>> = if serve.layer.algorithm == Algorithm::Lockgate {
            let old = self.base.and_then(|base| base.step(key, step.name));
            let stages: Vec<Vec<(&str, u32)>> =
                serve.stages.iter().map(|stage| widths(route, &stage.shares)).collect();
            ramp(old.as_ref(), &stages)
        } else {
            serve.stages.iter().map(|stage| in_order(&stage.shares)).collect()
        };
        let records: Vec<StageRecord> = serve
            .stages
            .iter()
            .zip(&stages)
            .map(|(stage, intervals)| StageRecord {
                offset: stage.offset,
                scale: stage.shares.scale,
                intervals: self.intervals(route, intervals),
            })
            .collect();
        let record = format::Ramp {
            layer: self.writer.layer(&serve.layer),
            unit: self.writer.unit(&serve.unit),
            flags: if serve.automatic { RAMP_AUTOMATIC } else { 0 },
            from: place(route, &serve.from),
            approved_stage: serve.approved_stage,
            start: serve.start,
            stages: self.writer.push_all(&records),
            pauses: self.writer.shared_all(&pauses(&serve.pauses, &self.policy.freezes)),
        };
        self.writer.push(&record)
    }

    fn experiment(
        &mut self,
        key: &RouteKey,
        route: &Route,
        step: &TargetStep<'_>,
        serve: &Experiment,
    ) -> u32 {
        let Some(layer) = self.policy.layers.get(&serve.layer) else { return NONE };
        let rule = step.name.unwrap_or_default();
        let intervals = self.layers.experiment(key, rule, &serve.layer, |name| place(route, name));
        let record = format::Split {
            layer: self.writer.layer(&layer.layer),
            unit: self.writer.unit(&layer.unit),
            scale: super::BUCKETS,
            intervals: self.writer.push_all(&intervals),
        };
        self.writer.push(&record)
    }

    fn switchback(&mut self, route: &Route, serve: &Switchback) -> u32 {
        let variants: Vec<u32> = serve.variants.iter().map(|name| place(route, name)).collect();
        let record = SwitchbackRecord {
            unit: self.writer.unit(&serve.unit),
            flags: if serve.end.is_some() { SWITCHBACK_ENDS } else { 0 },
            variants: self.writer.variant_places(&variants),
            start: serve.start,
            end: serve.end.unwrap_or_default(),
            window: serve.window,
            washout: serve.washout,
            seed: self.writer.text(&serve.seed),
        };
        self.writer.push(&record)
    }

    fn intervals(&mut self, route: &Route, intervals: &Intervals<&str>) -> Span {
        let records: Vec<Interval> =
            intervals.iter().map(|(end, name)| Interval { end: *end, variant: place(route, name) }).collect();
        self.writer.push_all(&records)
    }
}

/// A step on its way into the bundle, without what it serves.
struct TargetStep<'a> {
    step: Step,
    name: Option<&'a str>,
    condition: Span,
    window: Window,
}

/// The variant's place in the route.
fn place(route: &Route, name: &str) -> u32 {
    count(route.variants.iter().position(|variant| variant.name == name).unwrap_or_default())
}

/// The widths of a split, in the order in which they lie.
pub(crate) fn widths<'p>(route: &Route, shares: &'p Shares) -> Vec<(&'p str, u32)> {
    let mut widths = written(shares);
    by_name(&mut widths, &route.baseline);
    widths
}

/// A split as other systems lay it out.
pub(crate) fn in_order(shares: &Shares) -> Intervals<&str> {
    fresh(&written(shares))
}

fn written(shares: &Shares) -> Vec<(&str, u32)> {
    shares.parts.iter().map(|(name, width)| (name.as_str(), *width)).collect()
}

/// The times in which a ramp's clock stands still, merged where they meet.
fn pauses(own: &[Pause], freezes: &[Pause]) -> Vec<PauseRecord> {
    let until = |pause: &Pause| pause.until.unwrap_or(Millis::MAX);
    let mut all: Vec<PauseRecord> = own
        .iter()
        .chain(freezes)
        .map(|pause| PauseRecord { from: pause.from, until: until(pause) })
        .collect();
    all.retain(|pause| pause.from < pause.until);
    all.sort_unstable_by_key(|pause| (pause.from, pause.until));
    let mut merged: Vec<PauseRecord> = Vec::with_capacity(all.len());
    for pause in all {
        match merged.last_mut() {
            Some(last) if pause.from <= last.until => last.until = last.until.max(pause.until),
            _ => merged.push(pause),
        }
    }
    merged
}
