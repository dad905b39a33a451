//! Contexts that lack the unit which a step needs: they are decided all the same, and nobody would notice.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::bundle::format::{
    Attribute, FIELDS, Holdout, Kind, Label, NONE, Ramp, Request, Slice, Split, Switchback, Target, Test,
    Unit, UnitPart,
};
use crate::bundle::{Reader, RouteView};
use crate::context::{AttributeValue, Context, Field};
use crate::evaluate::{Observer, Outcome, choose};
use crate::policy::Millis;
use crate::{Bundle, Decision, Step, UnknownRoute};

/// How many contexts lacked the unit of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MissingUnit {
    /// The route.
    pub route: String,
    /// The step.
    pub step: Step,
    /// The holdout, test group, symbol rollout or rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The parts of the unit that are missing.
    pub parts: Vec<MissingPart>,
    /// What comes of it.
    pub effect: MissingEffect,
    /// How many contexts.
    pub units: u64,
}

/// A part of a unit that a context lacks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct MissingPart {
    /// The field or the attribute.
    pub name: String,
    /// Whether it is an attribute.
    pub attribute: bool,
    /// The attribute is there, but is no text: `number` or `boolean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<&'static str>,
}

/// What comes of a missing unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MissingEffect {
    /// The step serves the baseline.
    Baseline,
    /// The step does not match.
    PassedOver,
    /// Nothing is held out.
    NotHeldOut,
    /// A condition that asks for a bucket does not hold.
    NoBucket,
}

impl fmt::Display for MissingPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.attribute, self.found) {
            (false, _) => write!(f, "no {}", self.name),
            (true, None) => write!(f, "no attribute `{}`", self.name),
            (true, Some(found)) => write!(f, "no text but a {found} as attribute `{}`", self.name),
        }
    }
}

impl MissingUnit {
    /// What happened, of so many contexts: `12 of 100 units have no symbol, so the default serves them the baseline`.
    pub fn words(&self, total: u64) -> String {
        let parts: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
        let step = match (&self.name, self.step) {
            (_, Step::Default) => "the default".to_owned(),
            (Some(name), step) => format!("{} `{name}`", step.name().replace('_', " ")),
            (None, step) => format!("the step {}", step.name().replace('_', " ")),
        };
        let effect = match self.effect {
            MissingEffect::Baseline => format!("so {step} serves them the baseline"),
            MissingEffect::PassedOver => format!("so {step} passes them over"),
            MissingEffect::NotHeldOut => format!("so {step} does not hold them out"),
            MissingEffect::NoBucket => format!("so no `bucket` condition of {step} holds for them"),
        };
        let verb = if self.units == 1 { "has" } else { "have" };
        format!("{} of {total} units {verb} {}, {effect}", self.units, parts.join(" and "))
    }
}

/// Route, step, label, what comes of it, the unit, and what the context has of each part.
type Key = (u32, u32, u32, MissingEffect, u32, Vec<Have>);

/// What a context has of a part of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Have {
    Text,
    Nothing,
    Other(&'static str),
}

/// Counts contexts whose units are missing while they are decided.
#[derive(Default)]
pub(crate) struct MissingUnits {
    counts: BTreeMap<Key, u64>,
}

impl MissingUnits {
    /// Decides, and counts.
    pub(crate) fn decide<'b, C: Context + ?Sized>(
        &mut self,
        bundle: &'b Bundle,
        context: &C,
        now: Millis,
        unavailable: &[[u8; 32]],
    ) -> Result<Decision<'b>, UnknownRoute> {
        let mut watcher = Watcher {
            reader: bundle.reader(),
            context,
            route: NONE,
            slices: Vec::new(),
            counts: &mut self.counts,
        };
        let choice = choose(bundle, context, now, unavailable, &mut watcher)?;
        Ok(Decision::new(bundle, &choice))
    }

    /// What was counted, by route and in the order of precedence.
    pub(crate) fn of(self, bundle: &Bundle) -> Vec<MissingUnit> {
        let reader = bundle.reader();
        let missing = |((route, step, label, effect, unit, have), units): (Key, u64)| {
            let parts = parts(reader, unit).into_iter().zip(have).filter_map(|(part, have)| {
                let found = match have {
                    Have::Text => return None,
                    Have::Nothing => None,
                    Have::Other(kind) => Some(kind),
                };
                let (name, attribute) = name(reader, part);
                Some(MissingPart { name: name.to_owned(), attribute, found })
            });
            let label = (label != NONE).then(|| reader.get::<Label>(label).name);
            MissingUnit {
                route: bundle.route_at(route).map_or("", |route| route.name()).to_owned(),
                step: u8::try_from(step).ok().and_then(Step::from_number).unwrap_or(Step::Default),
                name: label.and_then(|name| reader.optional(name)).map(str::to_owned),
                parts: parts.collect(),
                effect,
                units,
            }
        };
        self.counts.into_iter().map(missing).collect()
    }
}

struct Watcher<'a, C: ?Sized> {
    reader: Reader<'a>,
    context: &'a C,
    route: u32,
    /// The units of `bucket` conditions that did not hold for want of them, until it is known whose conditions these were.
    slices: Vec<u32>,
    counts: &'a mut BTreeMap<Key, u64>,
}

impl<C: Context + ?Sized> Observer for Watcher<'_, C> {
    fn definition(&mut self, route: &RouteView<'_>, admitted: bool) {
        self.slices.clear();
        if admitted {
            self.route = route.index();
        }
    }

    fn holdout(&mut self, holdout: &Holdout, bucket: Option<u32>, _held_out: bool) {
        if bucket.is_none() {
            let Split { unit, .. } = self.reader.get(holdout.split);
            self.count(Step::Holdout, holdout.label, MissingEffect::NotHeldOut, unit);
        }
    }

    fn request(&mut self, request: &Request, _permitted: bool) {
        self.count_slices(Step::Override, request.label);
    }

    fn test(&mut self, test: Test, _segment: Option<u32>, result: bool) {
        if let (Test::Bucket(slice), false) = (test, result) {
            let Slice { unit, .. } = self.reader.get(slice);
            if !self.slices.contains(&unit) && self.have(unit).iter().any(|have| *have != Have::Text) {
                self.slices.push(unit);
            }
        }
    }

    fn target(&mut self, target: &Target, outcome: Outcome) {
        let step = target.step().unwrap_or(Step::Default);
        self.count_slices(step, target.label);
        let effect = match outcome {
            Outcome::UnitMissing { .. } => MissingEffect::Baseline,
            Outcome::PassedWithoutUnit => MissingEffect::PassedOver,
            _ => return,
        };
        let unit = match target.kind() {
            Some(Kind::Ramp) => self.reader.get::<Ramp>(target.serve).unit,
            Some(Kind::Switchback) => self.reader.get::<Switchback>(target.serve).unit,
            _ => self.reader.get::<Split>(target.serve).unit,
        };
        self.count(step, target.label, effect, unit);
    }
}

impl<C: Context + ?Sized> Watcher<'_, C> {
    fn count_slices(&mut self, step: Step, label: u32) {
        for unit in std::mem::take(&mut self.slices) {
            self.count(step, label, MissingEffect::NoBucket, unit);
        }
    }

    fn count(&mut self, step: Step, label: u32, effect: MissingEffect, unit: u32) {
        let key = (self.route, step.number().into(), label, effect, unit, self.have(unit));
        let count = self.counts.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    fn have(&self, unit: u32) -> Vec<Have> {
        let have = |part: u32| match Field::from_number(part) {
            Some(field) if field.of(self.context).is_some() => Have::Text,
            Some(_) => Have::Nothing,
            None => match self.context.attribute(name(self.reader, part).0) {
                Some(AttributeValue::Text(_)) => Have::Text,
                Some(AttributeValue::Number(_)) => Have::Other("number"),
                Some(AttributeValue::Boolean(_)) => Have::Other("boolean"),
                None => Have::Nothing,
            },
        };
        parts(self.reader, unit).into_iter().map(have).collect()
    }
}

/// The parts of a unit, as [`UnitPart`] numbers them.
fn parts(reader: Reader<'_>, unit: u32) -> Vec<u32> {
    match unit.checked_sub(FIELDS) {
        None => vec![unit],
        Some(place) => {
            let Unit { parts } = reader.get(place);
            reader.list::<UnitPart>(parts).map(|record| record.part).collect()
        }
    }
}

/// The name of a part of a unit, and whether it is an attribute.
fn name(reader: Reader<'_>, part: u32) -> (&str, bool) {
    match part.checked_sub(FIELDS) {
        None => (Field::from_number(part).map_or("", Field::name), false),
        Some(place) => (reader.text(reader.get::<Attribute>(place).name), true),
    }
}
