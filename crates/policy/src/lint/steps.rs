//! The steps of a route as conditions see them: whom each concerns, and which buckets its shares have.

use std::collections::BTreeMap;

use super::logic::{Bucket, Values, Whom};
use super::place::Place;
use super::{grouped, listed};
use crate::check::graph::each;
use crate::compile::base::LayerOwner;
use crate::compile::layers;
use crate::compile::routes::{in_order, widths};
use crate::intervals::{self, Intervals, ranges};
use crate::policy::{
    Condition, GroupKind, Layer, Members, Override, Policy, Route, RouteKey, Serve, Share, Switchback,
    TextTest, Unit, UnitPart, Window,
};
use crate::{Algorithm, BUCKETS, Field};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Override,
    Holdout,
    Group(GroupKind),
    Rule,
    Default,
}

/// A step of a route.
pub(super) struct Step<'p> {
    pub(super) kind: Kind,
    pub(super) name: &'p str,
    pub(super) place: Place,
    /// The line on which it begins.
    pub(super) line: u32,
    /// The keys that say whom it concerns.
    pub(super) keys: &'static [&'static str],
    pub(super) whom: Whom<'p>,
    /// What `whom` is about.
    pub(super) mask: u64,
    pub(super) serve: Option<&'p Serve>,
    /// Whether whoever matches is served by it.
    pub(super) takes_all: bool,
}

impl Step<'_> {
    /// What people call it.
    pub(super) fn words(&self) -> String {
        let Self { kind, name, line, .. } = self;
        match kind {
            Kind::Override => format!("the override at line {line}"),
            Kind::Holdout => format!("the holdout `{name}`"),
            Kind::Group(kind) => format!("the {} `{name}`", kind.words()),
            Kind::Rule => format!("the rule `{name}`"),
            Kind::Default => "the default".to_owned(),
        }
    }
}

/// The steps that conditions, lists and buckets decide, in their order. Permitted requests depend on what is asked for.
pub(super) fn steps<'p>(
    policy: &'p Policy,
    experiments: &Experiments<'p>,
    masks: &Masks<'p>,
    place: &Place,
    key: &'p RouteKey,
    route: &'p Route,
) -> Vec<Step<'p>> {
    let takes_all = |serve: &Serve| !matches!(serve, Serve::Switchback(_));
    let runs = |serve: &Serve| match serve {
        Serve::Switchback(Switchback { start, end, .. }) => Window { from: Some(*start), until: *end },
        _ => Window::default(),
    };
    let overrides = listed(place.key("overrides"), &route.overrides);
    let overrides = overrides.map(|(item, place): (&'p Override, Place)| Step {
        kind: Kind::Override,
        name: "",
        place,
        line: item.origin.position.line,
        keys: &["user", "users", "symbol", "symbols", "tenant", "tenants", "session", "sessions"],
        whom: Whom { values: Some((item.field, Values(&item.values))), ..Whom::default() },
        mask: 0,
        serve: None,
        takes_all: true,
    });
    let holdout = |name: &'p str, layer: &'p Layer, unit: &'p Unit, share: Share| Step {
        kind: Kind::Holdout,
        name,
        place: Place::default(),
        line: 0,
        keys: &[],
        whom: Whom {
            bucket: Some(Bucket { layer, unit, scale: BUCKETS, from: 0, below: share.buckets() }),
            ..Whom::default()
        },
        mask: 0,
        serve: None,
        takes_all: true,
    };
    let named = policy.holdouts.iter().filter(|(_, holdout)| {
        let concerned = holdout.routes.as_ref().is_none_or(|routes| routes.contains(&key.name));
        concerned && holdout.share.buckets() > 0
    });
    let named = named.map(|(name, item)| holdout(name, &item.layer, &item.unit, item.share));
    let layers = policy.layers.iter().filter(|(name, layer)| {
        let used = |serve: &Serve| matches!(serve, Serve::Experiment(of) if of.layer == **name);
        layer.holdout.buckets() > 0 && route.rules.iter().any(|rule| used(&rule.serve))
    });
    let layers = layers.map(|(name, item)| holdout(name, &item.layer, &item.unit, item.holdout));
    let groups = grouped(place, route).map(|(item, place)| Step {
        kind: Kind::Group(item.kind),
        name: &item.name,
        place,
        line: item.origin.position.line,
        keys: &["users", "symbols", "tenants", "sessions", "segments"],
        whom: Whom {
            members: Some(&item.members),
            window: item.window,
            runs: runs(&item.serve),
            ..Whom::default()
        },
        mask: 0,
        serve: Some(&item.serve),
        takes_all: takes_all(&item.serve),
    });
    let rules = listed(place.key("rules"), &route.rules).map(|(item, place)| Step {
        kind: Kind::Rule,
        name: &item.name,
        place,
        line: item.origin.position.line,
        keys: &["if"],
        whom: Whom {
            condition: item.condition.as_ref(),
            bucket: experiments.bucket(policy, &item.serve, key, &item.name),
            window: item.window,
            runs: runs(&item.serve),
            ..Whom::default()
        },
        mask: 0,
        serve: Some(&item.serve),
        takes_all: takes_all(&item.serve),
    });
    let default = Step {
        kind: Kind::Default,
        name: "",
        place: place.key("default"),
        line: 0,
        keys: &[],
        whom: Whom::default(),
        mask: 0,
        serve: Some(&route.default),
        takes_all: true,
    };
    let steps = overrides.chain(named).chain(layers).chain(groups).chain(rules).chain([default]);
    steps
        .map(|step| {
            let mask = masks.of_whom(&step.whom);
            // Whom it concerns is everyone, and what leaves nobody may be about anything.
            Step { mask: if mask == 0 { u64::MAX } else { mask }, ..step }
        })
        .collect()
}

/// A variant, its first bucket, and the one behind its last.
type Slice<'p> = (&'p str, u32, u32);

/// The slice of its layer that each experiment owns, as the policy lays it out without a base.
pub(super) struct Experiments<'p> {
    /// By layer and rule.
    slices: BTreeMap<(String, &'p str), Vec<Slice<'p>>>,
}

impl<'p> Experiments<'p> {
    pub(super) fn of(policy: &'p Policy) -> Self {
        let mut slices = BTreeMap::new();
        for (layer, experiments) in layers::experiments(policy) {
            let Some(layer) = policy.layers.get(layer) else { continue };
            let mut from = 0_u32;
            for (owner, width) in layers::owners(layer, &experiments) {
                let below = from.saturating_add(width);
                if let LayerOwner::Experiment(own, rule, variant) = owner {
                    let slices: &mut Vec<Slice<'p>> = slices.entry((own, rule)).or_default();
                    slices.push((variant, from, below));
                }
                from = below;
            }
        }
        Self { slices }
    }

    fn slices(&self, key: &RouteKey, rule: &'p str) -> &[Slice<'p>] {
        self.slices.get(&(key.layer_name(), rule)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The buckets that an experiment owns.
    fn bucket(&self, policy: &'p Policy, serve: &Serve, key: &RouteKey, rule: &'p str) -> Option<Bucket<'p>> {
        let Serve::Experiment(experiment) = serve else { return None };
        let layer = policy.layers.get(&experiment.layer)?;
        let slices = self.slices(key, rule);
        let (_, from, _) = *slices.first()?;
        let (_, _, below) = *slices.last()?;
        Some(Bucket { layer: &layer.layer, unit: &layer.unit, scale: BUCKETS, from, below })
    }

    /// The buckets of each variant that has any; of a ramp, those of all its stages.
    pub(super) fn parts(
        &self,
        policy: &'p Policy,
        serve: &'p Serve,
        route: &'p Route,
        key: &RouteKey,
        name: &'p str,
    ) -> BTreeMap<&'p str, Vec<Bucket<'p>>> {
        let mut parts: BTreeMap<&'p str, Vec<Bucket<'p>>> = BTreeMap::new();
        let mut add = |name: &'p str, bucket: Bucket<'p>| {
            if bucket.from < bucket.below {
                parts.entry(name).or_default().push(bucket);
            }
        };
        match serve {
            Serve::Split(split) => {
                let intervals = match split.layer.algorithm {
                    Algorithm::Lockgate => intervals::fresh(&widths(route, &split.shares)),
                    _ => in_order(&split.shares),
                };
                for (from, below, name) in ranges(&intervals) {
                    let scale = split.shares.scale;
                    add(name, Bucket { layer: &split.layer, unit: &split.unit, scale, from, below });
                }
            }
            Serve::Ramp(ramp) => {
                let stages: Vec<Intervals<&str>> = match ramp.layer.algorithm {
                    Algorithm::Lockgate => {
                        let stages = ramp.stages.iter().map(|stage| widths(route, &stage.shares));
                        intervals::ramp(None, &stages.collect::<Vec<_>>())
                    }
                    _ => ramp.stages.iter().map(|stage| in_order(&stage.shares)).collect(),
                };
                let bucket =
                    |scale, from, below| Bucket { layer: &ramp.layer, unit: &ramp.unit, scale, from, below };
                // It serves everyone before the first stage.
                let whole = ramp.stages.first().map_or(BUCKETS, |stage| stage.shares.scale);
                add(&ramp.from, bucket(whole, 0, whole));
                for (stage, intervals) in ramp.stages.iter().zip(&stages) {
                    let scale = stage.shares.scale;
                    for (from, below, name) in ranges(intervals) {
                        add(name, bucket(scale, from, below));
                    }
                }
            }
            Serve::Experiment(experiment) => {
                if let Some(layer) = policy.layers.get(&experiment.layer) {
                    for (name, from, below) in self.slices(key, name) {
                        let (layer, unit) = (&layer.layer, &layer.unit);
                        add(name, Bucket { layer, unit, scale: BUCKETS, from: *from, below: *below });
                    }
                }
            }
            Serve::Variant(_) | Serve::Switchback(_) => {}
        }
        parts
    }
}

/// What conditions are about, a bit for each subject; attributes share bits. Conditions without a common bit say nothing about each
/// other.
pub(super) struct Masks<'p> {
    segments: BTreeMap<&'p str, u64>,
}

const TIME: u64 = 1 << 4;
/// The bit of all that is about buckets.
pub(super) const BUCKET: u64 = 1 << 5;
const ROUTE: u64 = 1 << 6;

fn of_field(field: Field) -> u64 {
    1 << field.number()
}

fn of_attribute(name: &str) -> u64 {
    let hash = name.bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    1 << (8 + hash % 56)
}

/// Whether a unit is there is part of it.
pub(super) fn bucket_mask(bucket: &Bucket<'_>) -> u64 {
    bucket.unit.parts().iter().fold(BUCKET, |mask, part| {
        mask | match part {
            UnitPart::Field(field) => of_field(*field),
            UnitPart::Attribute(name) => of_attribute(name),
        }
    })
}

impl<'p> Masks<'p> {
    pub(super) fn of(policy: &'p Policy) -> Self {
        let mut masks = Self { segments: BTreeMap::new() };
        for name in policy.segments.keys() {
            masks.segment(policy, name);
        }
        masks
    }

    /// Segments are nested a few levels deep at most, and each is looked at once.
    fn segment(&mut self, policy: &'p Policy, name: &'p str) -> u64 {
        if let Some(mask) = self.segments.get(name) {
            return *mask;
        }
        let Some(segment) = policy.segments.get(name) else { return 0 };
        let condition = segment.condition.as_ref();
        let inner = [&segment.include, &segment.exclude].into_iter().flat_map(|members| &members.segments);
        let mut inner: Vec<&'p str> = inner.map(String::as_str).collect();
        condition.into_iter().for_each(|condition| {
            each(condition, &mut |part| {
                inner.extend(if let Condition::Segment(name) = part { Some(name.as_str()) } else { None });
            });
        });
        let mask = inner.into_iter().fold(0, |mask, name| mask | self.segment(policy, name));
        let mask = mask
            | self.of_members(&segment.include)
            | self.of_members(&segment.exclude)
            | condition.map_or(0, |condition| self.of_condition(condition));
        self.segments.insert(name, mask);
        mask
    }

    fn of_whom(&self, whom: &Whom<'_>) -> u64 {
        let windows = [whom.window, whom.runs].iter().any(|window| *window != Window::default());
        whom.values.map_or(0, |(field, _)| of_field(field))
            | whom.members.map_or(0, |members| self.of_members(members))
            | whom.condition.map_or(0, |condition| self.of_condition(condition))
            | whom.bucket.as_ref().map_or(0, bucket_mask)
            | if windows { TIME } else { 0 }
    }

    fn of_members(&self, members: &Members) -> u64 {
        let fields = members.values.keys().chain(members.files.keys()).map(|field| of_field(*field));
        let segments = members.segments.iter();
        let segments = segments.map(|name| self.segments.get(name.as_str()).copied().unwrap_or_default());
        fields.chain(segments).fold(0, |mask, bits| mask | bits)
    }

    fn of_condition(&self, condition: &Condition) -> u64 {
        let mut mask = 0;
        each(condition, &mut |part| {
            mask |= match part {
                Condition::All(_) | Condition::Any(_) | Condition::Not(_) => 0,
                Condition::Segment(name) => self.segments.get(name.as_str()).copied().unwrap_or_default(),
                Condition::Tier(_) => u64::MAX,
                Condition::Field(field, TextTest::Present) => of_field(*field) | BUCKET,
                Condition::Field(field, _) => of_field(*field),
                Condition::Attribute(name, _) => of_attribute(name),
                Condition::Time(_) => TIME,
                Condition::Bucket(slice) => bucket_mask(&Bucket::of(slice)),
                Condition::Route { .. } => ROUTE,
            };
        });
        mask
    }
}
