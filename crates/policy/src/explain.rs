//! One decision in words, told by the evaluation that made it.

use std::fmt;

use lockgate_package::Digest;
use serde::{Deserialize, Serialize};

use crate::bundle::format::{
    self, Attribute, Automaton, Comparator, FIELDS, Holdout, Interval, Kind, Label, Layer, List,
    MomentRelation, NONE, Name, NumberRelation, OverrideValue, Pause, RAMP_AUTOMATIC, Ramp, Request,
    SEGMENT_TIER, Segment, Shadow, Slice, Span, Split, Stage, Subject, Switchback, Target, Test, TextTest,
    Unit, UnitPart, VARIANT_DISABLED, VariantPlace, VersionRelation,
};
use crate::bundle::{Bundle, Reader, RouteView};
use crate::context::{AttributeValue, Context, Field};
use crate::decision::{Decision, Placement, Reason, ShadowLimits, Step, UnknownRoute};
use crate::evaluate::{Observer, Outcome, ShadowOutcome, choose};
use crate::policy::write_percent;
use crate::{BUCKETS, clock, hash, moment, profiles};

/// How a decision came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trace {
    /// The time for which it was made, milliseconds since 1970-01-01T00:00Z.
    pub now_ms: i64,
    /// The steps in the order in which they were looked at. The last one that matched decided, a fallback aside.
    pub steps: Vec<TraceStep>,
    /// The route's shadows, in order, and what became of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<TraceShadow>,
    /// The decision.
    pub decision: TraceDecision,
}

/// A step of the precedence that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TraceStep {
    /// Which step.
    pub step: Step,
    /// The request, holdout, test group, symbol rollout or rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it decided.
    pub matched: bool,
    /// What happened, in words.
    pub text: String,
    /// The tests that were made, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<String>,
}

/// A shadow that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TraceShadow {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub runs: bool,
    /// What happened, in words.
    pub text: String,
    /// The tests that were made, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<String>,
}

/// A decision that owns its texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TraceDecision {
    /// The route that was asked for.
    pub route: String,
    /// The tenant whose definition of the route decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The user whose definition of the route decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The chosen variant.
    pub variant: String,
    /// The variant's model.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// The package that the bundle pins for this model version.
    pub package: Digest,
    /// Where the version runs.
    pub placement: Placement,
    /// Why this variant.
    pub reason: Reason,
    /// The step that decided.
    pub step: Step,
    /// The permitted request, holdout, test group, symbol rollout or rule that matched.
    pub rule: Option<String>,
    /// The layer whose hash space a bucket was looked up in.
    pub layer: Option<String>,
    /// The unit's bucket in that layer.
    pub bucket: Option<u32>,
    /// The stage of the ramp that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
    /// The number of the switchback's window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// Whether the unit that the split sticks to was missing.
    pub unit_missing: bool,
    /// Whether the unit is held out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub holdout: bool,
    /// Whether a window of a switchback has only begun.
    #[serde(default, skip_serializing_if = "is_false")]
    pub washout: bool,
    /// Whether the variant cannot serve, and none that could have stood in for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unavailable: bool,
    /// The variant that this one stands in for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended: Option<String>,
    /// The shadows that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<DecidedShadow>,
    /// The variant's payload.
    pub payload: Option<serde_json::Value>,
    /// The bundle's version.
    pub bundle_version: u64,
    /// The bundle's digest.
    pub bundle: Digest,
}

/// A shadow that runs beside a decision's variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DecidedShadow {
    /// Its name.
    pub name: String,
    /// The variant that runs.
    pub variant: String,
    /// The variant's model.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// The package that the bundle pins for this model version.
    pub package: Digest,
    /// How much the shell may spend on it.
    pub limits: ShadowLimits,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

impl TraceDecision {
    /// A copy of a decision that `bundle` made.
    pub fn new(decision: &Decision<'_>, bundle: &Bundle) -> Self {
        let (route, variant, (rule, layer)) = (decision.route(), decision.variant(), decision.names());
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let shadows = decision.shadows().map(|shadow| DecidedShadow {
            name: shadow.name.to_owned(),
            variant: shadow.variant.name.to_owned(),
            model: shadow.variant.model.to_owned(),
            version: shadow.variant.version.to_owned(),
            package: shadow.variant.digest,
            limits: shadow.limits,
        });
        Self {
            route: route.name().to_owned(),
            tenant: owned(route.tenant()),
            user: owned(route.user()),
            variant: variant.name.to_owned(),
            model: variant.model.to_owned(),
            version: variant.version.to_owned(),
            package: variant.digest,
            placement: variant.placement,
            reason: decision.reason,
            step: decision.step,
            rule: owned(rule),
            layer: owned(layer),
            bucket: decision.bucket,
            stage: decision.stage,
            window: decision.window,
            unit_missing: decision.unit_missing,
            holdout: decision.holdout,
            washout: decision.washout,
            unavailable: decision.unavailable,
            intended: decision.intended().map(|variant| variant.name.to_owned()),
            shadows: shadows.collect(),
            payload: variant.payload.and_then(|payload| serde_json::from_str(payload).ok()),
            bundle_version: bundle.version(),
            bundle: bundle.digest(),
        }
    }
}

/// Decides as [`Bundle::decide`] does, and says how.
///
/// # Errors
/// The bundle has no such route, or none that this context may know of.
pub fn explain<C: Context + ?Sized>(
    bundle: &Bundle,
    context: &C,
    now_ms: i64,
    unavailable: &[[u8; 32]],
) -> Result<Trace, UnknownRoute> {
    let mut narrator = Narrator {
        bundle,
        reader: bundle.reader(),
        context,
        now: now_ms,
        unavailable,
        route: None,
        steps: Vec::new(),
        shadows: Vec::new(),
        tests: Vec::new(),
    };
    let choice = choose(bundle, context, now_ms, unavailable, &mut narrator)?;
    let decision = Decision::new(bundle, &choice);
    let Narrator { steps, shadows, .. } = narrator;
    Ok(Trace { now_ms, steps, shadows, decision: TraceDecision::new(&decision, bundle) })
}

struct Narrator<'a, C: ?Sized> {
    bundle: &'a Bundle,
    reader: Reader<'a>,
    context: &'a C,
    now: i64,
    unavailable: &'a [[u8; 32]],
    /// The place of the route's definition.
    route: Option<u32>,
    steps: Vec<TraceStep>,
    shadows: Vec<TraceShadow>,
    /// The tests of the step that is being looked at.
    tests: Vec<String>,
}

impl<C: Context + ?Sized> Observer for Narrator<'_, C> {
    fn definition(&mut self, route: &RouteView<'_>, admitted: bool) {
        let whose = match (route.tenant(), route.user()) {
            (None, None) => "the platform's definition".to_owned(),
            (Some(tenant), None) => format!("the definition of tenant `{tenant}`"),
            (None, Some(user)) => format!("the definition of user `{user}`"),
            (Some(tenant), Some(user)) => format!("the definition of user `{user}` of tenant `{tenant}`"),
        };
        let platform = route.tenant().is_none() && route.user().is_none();
        if !admitted {
            self.push(
                Step::Scope,
                None,
                false,
                format!("{whose} is passed over: it does not admit the context"),
            );
            return;
        }
        // Where there was nothing to choose from and nothing to test, there is nothing to tell.
        if !(platform && self.steps.is_empty() && self.tests.is_empty()) {
            self.push(Step::Scope, None, true, format!("{whose} is the route"));
        }
        self.route = Some(route.index());
        if !route.enabled() {
            let text = format!("the route is disabled; its baseline `{}` serves", route.baseline().name);
            self.push(Step::Disabled, None, true, text);
        }
    }

    fn overrides(&mut self, field: Field, found: Option<OverrideValue>) {
        let text = match (field.of(self.context), found) {
            (None, _) => format!("the context names no {}", field.name()),
            (Some(value), None) => format!("no entry for {} `{value}`", field.name()),
            (Some(value), Some(found)) => {
                format!("{} `{value}` is named by entry {}", field.name(), found.order.saturating_add(1))
            }
        };
        self.tests.push(text);
    }

    fn overridden(&mut self, first: Option<OverrideValue>) {
        let text = match first {
            Some(first) => {
                let (entry, variant) = (first.order.saturating_add(1), self.variant(first.variant));
                format!("entry {entry} gives `{variant}`")
            }
            None if self.tests.is_empty() => return,
            None => "none names the context".to_owned(),
        };
        self.push(Step::Override, None, first.is_some(), text);
    }

    fn request(&mut self, request: &Request, permitted: bool) {
        let wanted = self.context.requested_variant().unwrap_or_default();
        let text = if permitted {
            format!("permits variant `{wanted}`, for which the context asks")
        } else if self.tests.is_empty() {
            format!("does not list variant `{wanted}`, for which the context asks")
        } else {
            format!("variant `{wanted}` is not for this context")
        };
        self.push(Step::Override, self.name(request.label), permitted, text);
    }

    fn holdout(&mut self, holdout: &Holdout, bucket: Option<u32>, held_out: bool) {
        let split: Split = self.reader.get(holdout.split);
        let unit = self.unit(split.unit);
        let text = match bucket {
            None => format!("the unit is missing ({unit}), so nothing is held out"),
            Some(bucket) => {
                let layer = self.layer(split.layer);
                let (from, to, _) = self.interval(split.intervals, bucket);
                let verdict =
                    if held_out { "is held out, so the baseline serves" } else { "is not held out" };
                format!("bucket {bucket} of layer `{layer}` for {unit} lies in {from}–{to}, which {verdict}")
            }
        };
        self.push(Step::Holdout, self.name(holdout.label), held_out, text);
    }

    fn test(&mut self, test: Test, segment: Option<u32>, result: bool) {
        let within = segment.map(|segment| format!("{}: ", self.segment(segment))).unwrap_or_default();
        let answer = if result { "yes" } else { "no" };
        let text = format!("{within}{}: {answer}", self.words(test));
        self.tests.push(text);
    }

    fn target(&mut self, target: &Target, outcome: Outcome) {
        let (matched, text) = self.outcome(target, outcome);
        let name = if target.label == NONE { None } else { self.name(target.label) };
        self.push(target.step().unwrap_or(Step::Default), name, matched, text);
    }

    fn fallback(&mut self, intended: u32, serves: Option<u32>) {
        let name = self.variant(intended);
        let cause =
            if self.is_disabled(intended) { "is disabled" } else { "runs a package that is unavailable" };
        let text = match serves {
            Some(serves) => format!("`{name}` {cause}; its fallback `{}` serves", self.variant(serves)),
            None => format!("`{name}` {cause}, and no fallback is available, so it stays"),
        };
        self.push(Step::Fallback, None, serves.is_some(), text);
    }

    fn shadow(&mut self, _index: u32, shadow: &Shadow, outcome: ShadowOutcome) {
        let variant = self.variant(shadow.variant);
        let (unit, sample) = (self.unit(shadow.unit), percent(shadow.sample, BUCKETS));
        let (runs, text) = match outcome {
            ShadowOutcome::Serves => {
                (false, format!("`{variant}` serves already, or one with its package does"))
            }
            ShadowOutcome::Unavailable => (false, format!("`{variant}` is unavailable")),
            ShadowOutcome::OutsideWindow => (false, self.outside(shadow.window)),
            ShadowOutcome::ConditionFails => (false, "does not match".to_owned()),
            ShadowOutcome::UnitMissing => (false, format!("the unit is missing ({unit})")),
            ShadowOutcome::NotSampled(bucket) => {
                (false, format!("bucket {bucket} for {unit} is not in the sample of {sample} %"))
            }
            ShadowOutcome::Runs(bucket) => {
                (true, format!("`{variant}` runs: bucket {bucket} for {unit} is in the sample of {sample} %"))
            }
        };
        let (name, tests) = (self.reader.text(shadow.name).to_owned(), std::mem::take(&mut self.tests));
        self.shadows.push(TraceShadow { name, runs, text, tests });
    }
}

impl<'a, C: Context + ?Sized> Narrator<'a, C> {
    fn push(&mut self, step: Step, name: Option<&str>, matched: bool, text: String) {
        let tests = std::mem::take(&mut self.tests);
        self.steps.push(TraceStep { step, name: name.map(str::to_owned), matched, text, tests });
    }

    /// Whether a target decided, and what happened.
    fn outcome(&self, target: &Target, outcome: Outcome) -> (bool, String) {
        let step = target.step().unwrap_or(Step::Default);
        let missing = || format!("the unit is missing ({})", self.unit(self.unit_of(target)));
        match outcome {
            Outcome::OutsideWindow => (false, self.outside(target.window)),
            Outcome::ConditionFails => (false, "does not match".to_owned()),
            Outcome::Variant => {
                let variant = self.variant(target.serve);
                let text = match step {
                    Step::Default => format!("`{variant}` serves everyone whom nothing before has matched"),
                    _ => format!("matches; `{variant}` serves"),
                };
                (true, text)
            }
            Outcome::UnitMissing { .. } => (true, format!("{}, so the baseline serves", missing())),
            Outcome::Bucket { bucket, stage } => (true, self.bucket(target, bucket, stage)),
            Outcome::PassedWithoutUnit => (false, format!("{}, so it does not match", missing())),
            Outcome::PassedByBucket(bucket) => {
                let split: Split = self.reader.get(target.serve);
                let (layer, unit) = (self.layer(split.layer), self.unit(split.unit));
                (false, format!("bucket {bucket} of layer `{layer}` for {unit} is not the experiment's"))
            }
            Outcome::PassedByTime => {
                let Switchback { start, end, .. } = self.reader.get(target.serve);
                let text = if self.now < start {
                    format!("the switchback begins at {}", time(start))
                } else {
                    format!("the switchback was over at {}", time(end))
                };
                (false, text)
            }
            Outcome::Turn { window, washout } => (true, self.turn(target, window, washout)),
        }
    }

    /// What a bucket means in a split, an experiment or a ramp.
    fn bucket(&self, target: &Target, bucket: u32, stage: Option<u32>) -> String {
        let words = |layer: u32, unit: u32| {
            format!("bucket {bucket} of layer `{}` for {}", self.layer(layer), self.unit(unit))
        };
        let falls = |intervals: Span| {
            let (from, to, variant) = self.interval(intervals, bucket);
            format!("falls into {from}–{to} of `{}`", self.variant(variant))
        };
        if target.kind() != Some(Kind::Ramp) {
            let Split { layer, unit, intervals, .. } = self.reader.get(target.serve);
            return format!("{} {}", words(layer, unit), falls(intervals));
        }
        let ramp: Ramp = self.reader.get(target.serve);
        let number = stage.unwrap_or_default();
        let clock = self.clock(&ramp, number);
        let words = words(ramp.layer, ramp.unit);
        match number.checked_sub(1) {
            None => format!("{clock}, so `{}` serves everyone ({words})", self.variant(ramp.from)),
            Some(place) => {
                let Stage { intervals, .. } = self.reader.get(ramp.stages.start.saturating_add(place));
                format!("{clock}; {words} {}", falls(intervals))
            }
        }
    }

    /// Which stage of a ramp is in force, and why not the next one.
    fn clock(&self, ramp: &Ramp, number: u32) -> String {
        let count = ramp.stages.count;
        let text = match number {
            0 => "no stage is in force".to_owned(),
            number => format!("stage {number} of {count} is in force"),
        };
        let pauses = || self.reader.list::<Pause>(ramp.pauses);
        let paused = pauses().find(|pause| pause.from <= self.now && self.now < pause.until);
        let why = if number >= count {
            return text;
        } else if self.now < ramp.start {
            format!("the ramp starts at {}", time(ramp.start))
        } else {
            let next = number.saturating_add(1);
            let stage: Stage = self.reader.get(ramp.stages.start.saturating_add(number));
            let reached =
                clock::elapsed(ramp.start, self.now, pauses()).is_some_and(|elapsed| elapsed >= stage.offset);
            let approved = ramp.flags & RAMP_AUTOMATIC != 0 || next <= ramp.approved_stage;
            match (reached, approved, paused) {
                (true, _, _) => format!("stage {next} waits for approval"),
                (false, _, Some(pause)) if pause.until == i64::MAX => "the ramp is paused".to_owned(),
                (false, _, Some(pause)) => format!("the ramp is paused until {}", time(pause.until)),
                (false, true, None) => format!("stage {next} has not been reached yet"),
                (false, false, None) => format!("stage {next} has been neither reached nor approved"),
            }
        };
        format!("{text} ({why})")
    }

    fn turn(&self, target: &Target, window: u64, washout: bool) -> String {
        let switchback: Switchback = self.reader.get(target.serve);
        let begin = i128::from(switchback.start) + i128::from(window) * i128::from(switchback.window);
        let moment = |moment: i128| i64::try_from(moment).map_or_else(|_| "the end of time".to_owned(), time);
        let (from, until) = (moment(begin), moment(begin + i128::from(switchback.window)));
        let unit = self.unit(switchback.unit);
        if washout {
            let end = moment(begin + i128::from(switchback.washout));
            return format!(
                "window {window}, from {from} to {until}, is in its washout until {end}, so the baseline serves"
            );
        }
        let count = switchback.variants.count.max(1);
        let (block, place) = (window / u64::from(count), (window % u64::from(count)) as u32);
        let parts = self.values(switchback.unit).unwrap_or_default();
        let turn = hash::turn(self.reader.text(switchback.seed), &parts, block, place, count);
        let VariantPlace { variant } = self.reader.get(switchback.variants.start.saturating_add(turn));
        format!("window {window}, from {from} to {until}, belongs to `{}` for {unit}", self.variant(variant))
    }

    /// Why it is not the time of a step.
    fn outside(&self, window: u32) -> String {
        let format::Window { first, last } = self.reader.get(window);
        match self.now < first {
            true => format!("it begins at {}", time(first)),
            false => format!("it was over at {}", time(last.saturating_add(1))),
        }
    }

    /// The name of the variant at a place of the route.
    fn variant(&self, place: u32) -> &'a str {
        let route = self.route.and_then(|route| self.bundle.route_at(route));
        route.and_then(|route| route.variant(place)).map_or("", |variant| variant.name)
    }

    fn is_disabled(&self, place: u32) -> bool {
        let Some(route) = self.route else { return false };
        let route: format::Route = self.reader.get(route);
        let variant: format::Variant = self.reader.get(route.variants.start.saturating_add(place));
        variant.flags & VARIANT_DISABLED != 0
    }

    fn name(&self, label: u32) -> Option<&'a str> {
        self.reader.optional(self.reader.get::<Label>(label).name)
    }

    fn layer(&self, layer: u32) -> &'a str {
        self.reader.text(self.reader.get::<Layer>(layer).name)
    }

    /// The unit that a target needs.
    fn unit_of(&self, target: &Target) -> u32 {
        match target.kind() {
            Some(Kind::Ramp) => self.reader.get::<Ramp>(target.serve).unit,
            Some(Kind::Switchback) => self.reader.get::<Switchback>(target.serve).unit,
            _ => self.reader.get::<Split>(target.serve).unit,
        }
    }

    /// The parts of a unit, as [`UnitPart`] numbers them.
    fn parts(&self, unit: u32) -> Vec<u32> {
        match unit.checked_sub(FIELDS) {
            None => vec![unit],
            Some(place) => {
                let Unit { parts } = self.reader.get(place);
                self.reader.list::<UnitPart>(parts).map(|record| record.part).collect()
            }
        }
    }

    /// The values of a unit's parts; `None` when one is missing.
    fn values(&self, unit: u32) -> Option<Vec<&'a str>> {
        let value = |part: u32| match part.checked_sub(FIELDS) {
            None => Field::from_number(part)?.of(self.context),
            Some(attribute) => match self.context.attribute(self.attribute_name(attribute))? {
                AttributeValue::Text(text) => Some(text),
                _ => None,
            },
        };
        self.parts(unit).into_iter().map(value).collect()
    }

    /// The unit with its value, ``user `bob`, no tenant``.
    fn unit(&self, unit: u32) -> String {
        let words = |part: u32| match part.checked_sub(FIELDS) {
            None => {
                let Some(field) = Field::from_number(part) else { return String::new() };
                match field.of(self.context) {
                    Some(value) => format!("{} `{value}`", field.name()),
                    None => format!("no {}", field.name()),
                }
            }
            Some(attribute) => {
                let name = self.attribute_name(attribute);
                match self.context.attribute(name) {
                    Some(AttributeValue::Text(text)) => format!("attribute `{name}` `{text}`"),
                    Some(AttributeValue::Number(number)) => {
                        format!("attribute `{name}` is the number {number}; only texts count")
                    }
                    Some(AttributeValue::Boolean(value)) => {
                        format!("attribute `{name}` is the boolean {value}; only texts count")
                    }
                    None => format!("no attribute `{name}`"),
                }
            }
        };
        self.parts(unit).into_iter().map(words).collect::<Vec<_>>().join(", ")
    }

    /// The first and last bucket of the interval that holds `bucket`, and its owner.
    fn interval(&self, intervals: Span, bucket: u32) -> (u32, u32, u32) {
        let mut from = 0;
        for Interval { end, variant } in self.reader.list(intervals) {
            if bucket < end {
                return (from, end.saturating_sub(1), variant);
            }
            from = end;
        }
        (from, from, NONE)
    }

    fn segment(&self, place: u32) -> String {
        let segment: Segment = self.reader.get(place);
        let kind = if segment.kind == SEGMENT_TIER { "tier" } else { "segment" };
        format!("{kind} `{}`", self.reader.text(segment.name))
    }

    fn attribute_name(&self, attribute: u32) -> &'a str {
        self.reader.text(self.reader.get::<Attribute>(attribute).name)
    }

    fn attribute(&self, attribute: u32) -> String {
        let name = self.attribute_name(attribute);
        let value = match self.context.attribute(name) {
            None => "absent".to_owned(),
            Some(AttributeValue::Text(text)) => format!("`{text}`"),
            Some(AttributeValue::Number(number)) => number.to_string(),
            Some(AttributeValue::Boolean(value)) => value.to_string(),
        };
        format!("attribute `{name}` ({value})")
    }

    fn subject(&self, subject: Subject) -> String {
        match subject {
            Subject::Attribute(attribute) => self.attribute(attribute),
            Subject::Field(field) => match field.of(self.context) {
                Some(value) => format!("{} `{value}`", field.name()),
                None => format!("{} (absent)", field.name()),
            },
        }
    }

    /// What was asked.
    fn words(&self, test: Test) -> String {
        match test {
            Test::Always => "everyone has the lowest tier".to_owned(),
            Test::Text(subject, test) => format!("{} {}", self.subject(subject), self.text_test(test)),
            Test::Number { attribute, relation, value } => {
                let relation = match relation {
                    NumberRelation::Equal => "=",
                    NumberRelation::Less => "<",
                    NumberRelation::LessOrEqual => "≤",
                    NumberRelation::Greater => ">",
                    NumberRelation::GreaterOrEqual => "≥",
                };
                format!("{} {relation} {value}", self.attribute(attribute))
            }
            Test::Boolean { attribute, value } => format!("{} is {value}", self.attribute(attribute)),
            Test::Moment { attribute, relation, moment } => {
                format!(
                    "{} is a moment {} {}",
                    self.attribute(attribute),
                    moment_relation(relation),
                    time(moment)
                )
            }
            Test::Time { relation, moment } => {
                format!("the time, {}, is {} {}", time(self.now), moment_relation(relation), time(moment))
            }
            Test::Daily { from, until, offset } => {
                let (_, now) = clock::wall_clock(self.now, offset);
                let (now, zone) = (time_of_day(now), zone(offset));
                format!(
                    "the time of day, {now} ({zone}), is from {} to {}",
                    time_of_day(from),
                    time_of_day(until)
                )
            }
            Test::Weekdays { days, offset } => {
                let (today, _) = clock::wall_clock(self.now, offset);
                let today = WEEKDAYS.get(today as usize).copied().unwrap_or_default();
                let listed = WEEKDAYS.iter().zip(0..).filter(|(_, day)| days >> day & 1 != 0);
                let listed: Vec<&str> = listed.map(|(name, _)| *name).collect();
                format!("the day, {today} ({}), is one of {}", zone(offset), listed.join(", "))
            }
            Test::Segment(segment) => format!("the context belongs to {}", self.segment(segment)),
            Test::Bucket(slice) => self.slice(slice),
            Test::Route { name, variants } => self.prerequisite(name, variants),
        }
    }

    fn text_test(&self, test: TextTest) -> String {
        match test {
            TextTest::Present => "is present".to_owned(),
            TextTest::In(set) => format!("is {}", self.set(set)),
            TextTest::Prefix(set) => format!("begins with {}", self.set(set)),
            TextTest::Suffix(set) => format!("ends with {}", self.set(set)),
            TextTest::Contains(set) => format!("contains {}", self.set(set)),
            TextTest::Listed(list) => {
                format!("is in the list `{}`", self.reader.text(self.reader.get::<List>(list).name))
            }
            TextTest::Matches(automaton) => {
                format!("matches `{}`", self.reader.text(self.reader.get::<Automaton>(automaton).pattern))
            }
            TextTest::Version(comparators) => {
                let words = self.reader.list::<Comparator>(comparators).map(|comparator| {
                    let relation = match VersionRelation::from_number(comparator.relation) {
                        Some(VersionRelation::Equal) | None => "=",
                        Some(VersionRelation::NotEqual) => "!=",
                        Some(VersionRelation::Less) => "<",
                        Some(VersionRelation::LessOrEqual) => "<=",
                        Some(VersionRelation::Greater) => ">",
                        Some(VersionRelation::GreaterOrEqual) => ">=",
                    };
                    format!("{relation}{}", self.reader.text(comparator.version))
                });
                format!("is a version {}", words.collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn slice(&self, slice: u32) -> String {
        let Slice { layer, unit, scale, from, below } = self.reader.get(slice);
        let record: Layer = self.reader.get(layer);
        let values = self.values(unit);
        let (name, unit) = (self.layer(layer), self.unit(unit));
        let bounds = format!("{} % to {} %", percent(from, scale), percent(below, scale));
        match values {
            None => format!("{unit} has a bucket of layer `{name}` from {bounds}"),
            Some(values) => {
                let algorithm = record.algorithm().unwrap_or_default();
                let salt = self.reader.text(record.salt);
                let bucket = profiles::bucket_in(algorithm, scale, salt, values.into_iter());
                format!(
                    "bucket {bucket} of layer `{name}` for {unit} lies in {from}–{}, {bounds}",
                    below.saturating_sub(1)
                )
            }
        }
    }

    fn prerequisite(&self, name: u32, variants: u32) -> String {
        let Name { routes, .. } = self.reader.get(name);
        let name = self.bundle.route_at(routes.start).map_or("", |route| route.name());
        let asked = Asked { context: self.context, route: name };
        let wanted = self.set(variants);
        match self.bundle.decide(&asked, self.now, self.unavailable) {
            Ok(decision) => {
                format!("route `{name}`, which serves `{}`, serves {wanted}", decision.variant().name)
            }
            Err(UnknownRoute) => format!("route `{name}`, which the context does not see, serves {wanted}"),
        }
    }

    /// The members of a set, or how many there are.
    fn set(&self, set: u32) -> String {
        const SHOWN: usize = 4;
        let members: Vec<String> =
            self.reader.members(set).take(SHOWN + 1).map(|member| format!("`{member}`")).collect();
        match members.as_slice() {
            [] => "one of no values".to_owned(),
            [one] => one.clone(),
            few if few.len() <= SHOWN => format!("one of {}", few.join(", ")),
            _ => format!("one of {} values", self.reader.members(set).count()),
        }
    }
}

/// The same context, asking for another route.
struct Asked<'a, C: ?Sized> {
    context: &'a C,
    route: &'a str,
}

impl<C: Context + ?Sized> Context for Asked<'_, C> {
    fn route(&self) -> &str {
        self.route
    }

    fn user(&self) -> Option<&str> {
        self.context.user()
    }

    fn symbol(&self) -> Option<&str> {
        self.context.symbol()
    }

    fn tenant(&self) -> Option<&str> {
        self.context.tenant()
    }

    fn session(&self) -> Option<&str> {
        self.context.session()
    }

    fn requested_variant(&self) -> Option<&str> {
        self.context.requested_variant()
    }

    fn attribute(&self, name: &str) -> Option<AttributeValue<'_>> {
        self.context.attribute(name)
    }
}

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

fn moment_relation(relation: MomentRelation) -> &'static str {
    match relation {
        MomentRelation::From => "at or after",
        MomentRelation::Until => "before",
    }
}

/// A moment as people write it; as a number where the calendar ends.
fn time(moment: i64) -> String {
    moment::format(moment).unwrap_or_else(|| format!("{moment} ms"))
}

/// `09:30`, with seconds and thousandths where there are any.
fn time_of_day(millis: u32) -> String {
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let mut text = format!("{:02}:{:02}", minutes / 60, minutes % 60);
    if rest > 0 {
        text.push_str(&format!(":{:02}", rest / 1000));
    }
    if rest % 1000 > 0 {
        text.push_str(&format!(".{:03}", rest % 1000));
    }
    text
}

/// `UTC`, `UTC+01:00`.
fn zone(offset: i32) -> String {
    let minutes = offset.unsigned_abs();
    match offset {
        0 => "UTC".to_owned(),
        _ => format!("UTC{}{:02}:{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60),
    }
}

/// A number of buckets in percent of all.
fn percent(buckets: u32, scale: u32) -> String {
    let mut text = String::new();
    let thousandths =
        u64::from(buckets).saturating_mul(100_000).checked_div(scale.into()).unwrap_or_default();
    // Writing into a string cannot fail.
    let _ = write_percent(thousandths, &mut text);
    text
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = &self.decision;
        write!(f, "route `{}`", decision.route)?;
        for (kind, name) in [("tenant", &decision.tenant), ("user", &decision.user)] {
            if let Some(name) = name {
                write!(f, " of {kind} `{name}`")?;
            }
        }
        writeln!(f, ", bundle version {}", decision.bundle_version)?;
        let lines =
            |f: &mut fmt::Formatter<'_>, what: &str, name: Option<&str>, text: &str, tests: &[String]| {
                write!(f, "  {what}")?;
                if let Some(name) = name {
                    write!(f, " `{name}`")?;
                }
                writeln!(f, ": {text}")?;
                tests.iter().try_for_each(|test| writeln!(f, "    {test}"))
            };
        for TraceStep { step, name, text, tests, .. } in &self.steps {
            lines(f, &step.name().replace('_', " "), name.as_deref(), text, tests)?;
        }
        for TraceShadow { name, text, tests, .. } in &self.shadows {
            lines(f, "shadow", Some(name), text, tests)?;
        }
        let TraceDecision { variant, model, version, placement, reason, .. } = decision;
        write!(f, "serves `{variant}`, {model}@{version} on {placement}: {reason}")?;
        let flags = [
            (decision.unit_missing, "unit missing"),
            (decision.holdout, "held out"),
            (decision.washout, "washout"),
            (decision.unavailable, "unavailable"),
        ];
        for (_, flag) in flags.iter().filter(|(set, _)| *set) {
            write!(f, ", {flag}")?;
        }
        if let Some(intended) = &decision.intended {
            write!(f, ", instead of `{intended}`")?;
        }
        Ok(())
    }
}
