//! What is allowed and hardly meant: rules that never match, shares that nobody gets, shadows that never run.
//!
//! A warning is given only for what is certain from the policy alone, whatever the context and the time; of buckets, as the policy lays them
//! out without a base. The time that it takes grows as the policy does: where that is not enough to find something out, there is no warning.

mod lists;
mod logic;
mod place;
mod reach;
mod rollouts;
mod steps;
mod subject;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use crate::check::graph::{conditions, each};
use crate::diagnostic::{Diagnostic, Severity};
use crate::policy::{
    Condition, Group, GroupKind, Members, ModelVersion, Policy, Ramp, Route, RouteKey, Serve, Shadow, Split,
    Unit, UnitPart, Variant,
};
use crate::source::Value;
use crate::{Algorithm, Placement};
use logic::{Formula, Logic};
use place::{Document, Of, Place};
use steps::{Experiments, Masks};

/// Every warning: its code, and what it says.
pub(crate) const LINTS: &[(&str, &str)] = &[
    (
        "automatic-ramp",
        "A ramp is `automatic`: the clock alone promotes the new version, whatever the evidence says.",
    ),
    ("empty-segment", "A segment or tier contains nobody."),
    (
        "idle-shadow",
        "A shadow never runs: its variant, or one with the same model version, is all that serves, its variant is disabled, or its sample is 0.",
    ),
    ("never-matches", "A condition that nothing fulfils, or a step that can match at no time."),
    (
        "no-fallback",
        "Nothing serves instead of a variant that is disabled, or that runs on a remote node and may be out of reach.",
    ),
    (
        "odd-list",
        "A list of units in a file is empty, has a unit twice, or a line that begins with `#`, which is a unit as any other.",
    ),
    ("overlapping-rollouts", "Two symbol rollouts of a route list the same symbol; the first one has it."),
    (
        "shared-salt",
        "Two layers have the same salt and unit, so a unit has the same bucket in both: what should be independent is not.",
    ),
    (
        "shrinking-ramp",
        "A stage of a ramp gives the variant that the ramp leads away from more than the stage before.",
    ),
    ("unreachable", "Whatever this step matches, steps before it have taken."),
    (
        "unreachable-share",
        "Nobody gets a variant's share of a split, ramp or experiment: its buckets are those of steps before it, or not those of whoever matches. Said of the buckets that a policy has without a base.",
    ),
    ("unused-holdout", "A layer keeps a holdout out of experiments, and has none."),
    ("unused-layer", "Nothing uses a named layer."),
    ("unused-segment", "Nothing uses a segment."),
    ("unused-variant", "Nothing serves a variant, and no shadow runs it."),
    (
        "zero-share",
        "A variant's share is 0, so nobody gets it there; or a holdout's is, so it holds nobody out.",
    ),
];

/// What is allowed in a policy and hardly meant, in the order of the file. Each warning has a code that stays the same.
pub fn lint(policy: &Policy) -> Vec<Diagnostic> {
    lint_with(policy, &BTreeMap::new())
}

/// The same, with the units of the files that the policy names ([`Policy::list_files`]), by the name that it gives them.
pub fn lint_with(policy: &Policy, lists: &BTreeMap<String, Vec<String>>) -> Vec<Diagnostic> {
    let (document, short) = (Document::new(&policy.tree.0), lists::short(lists));
    let scopes = policy.routes.keys().flat_map(|key| [&key.scope.tenant, &key.scope.user]).flatten();
    let scopes = scopes.map(|name| (name.clone(), BTreeSet::from([name.clone()]))).collect();
    let mut linter = Linter {
        policy,
        document: &document,
        scopes: &scopes,
        warnings: Vec::new(),
        logic: Logic::new(policy, &short, served_by_routes(policy)),
        experiments: Experiments::of(policy),
        masks: Masks::of(policy),
        values: reach::VALUES,
    };
    linter.sections();
    linter.lists(lists);
    for (key, route) in &policy.routes {
        linter.route(key, route);
    }
    let mut warnings = linter.warnings;
    warnings.sort();
    warnings.dedup();
    warnings
}

struct Linter<'p> {
    policy: &'p Policy,
    document: &'p Document<'p>,
    /// Each tenant and user with routes of their own, as a set.
    scopes: &'p BTreeMap<String, BTreeSet<String>>,
    warnings: Vec<Diagnostic>,
    logic: Logic<'p>,
    experiments: Experiments<'p>,
    masks: Masks<'p>,
    /// How many values may still be looked up.
    values: usize,
}

impl<'p> Linter<'p> {
    fn warn(
        &mut self,
        code: &str,
        (place, of): (&Place, Of),
        message: impl Into<String>,
        hint: Option<&str>,
    ) {
        let position = place.position(self.document, of);
        let warning = Diagnostic::error(&self.policy.file, position, place.path(), message);
        self.warnings.push(Diagnostic {
            severity: Severity::Warning,
            code: Some(code.to_owned()),
            hint: hint.map(str::to_owned),
            ..warning
        });
    }

    fn sections(&mut self) {
        let policy = self.policy;
        let used = Used::of(policy);
        let root = Place::default();
        for (name, segment) in &policy.segments {
            let place = root.key("segments").key(name);
            let nothing = segment.include == Members::default() && segment.condition.is_none();
            if !used.segments.contains(name.as_str()) {
                let message = format!("nothing uses the segment `{name}`");
                self.warn("unused-segment", (&place, Of::Key), message, None);
            } else if nothing {
                let message = format!("the segment `{name}` says nothing about who belongs to it");
                self.warn("empty-segment", (&place, Of::Key), message, None);
            } else if !self.logic.possible(&[Formula::Segment(segment, true)]) {
                // What could belong to it is excluded, or nothing could.
                let keys: &[&str] = match self.logic.possible(&[Formula::Included(segment, true)]) {
                    true => &["exclude"],
                    false => &["if", "segments"],
                };
                let at = place.first_key(self.document, keys).unwrap_or(place);
                let message = format!("the segment `{name}` contains nobody");
                self.warn("empty-segment", (&at, Of::Key), message, None);
            }
        }
        for (index, tier) in policy.tiers.iter().enumerate().skip(1) {
            if tier.members == Members::default() {
                let place = root.key("tiers").index(index).key("name");
                let message = format!("the tier `{}` says nothing about who has it", tier.name);
                let hint = "only the first tier is everyone's";
                self.warn("empty-segment", (&place, Of::Value), message, Some(hint));
            }
        }
        for (name, layer) in &policy.layers {
            let place = root.key("layers").key(name);
            let experiments = used.experiments.contains(name.as_str());
            if !experiments && !used.layers.contains(name.as_str()) {
                let message = format!("nothing uses the layer `{name}`");
                self.warn("unused-layer", (&place, Of::Key), message, None);
            } else if layer.holdout.buckets() > 0 && !experiments {
                let message = format!("the layer `{name}` has a holdout and no experiment");
                let hint = "a holdout of a layer concerns only its experiments; write one into `holdouts`";
                self.warn("unused-holdout", (&place.key("holdout"), Of::Key), message, Some(hint));
            }
        }
        for (name, holdout) in &policy.holdouts {
            if holdout.share.buckets() == 0 {
                let message = format!("the holdout `{name}` has a share of 0 %");
                let place = root.key("holdouts").key(name).key("share");
                self.warn("zero-share", (&place, Of::Value), message, None);
            }
        }
        self.salts(&used);
    }

    /// Layers that are other names for the same buckets.
    fn salts(&mut self, used: &Used<'p>) {
        let tree = self.document;
        let mut spaces: BTreeMap<(&str, Vec<&UnitPart>), Vec<&Space<'p>>> = BTreeMap::new();
        for space in &used.spaces {
            for unit in &space.units {
                let known = spaces.entry((space.salt, unit.parts().iter().collect())).or_default();
                if !known.last().is_some_and(|last| std::ptr::eq(*last, space)) {
                    known.push(space);
                }
            }
        }
        let mut warnings: BTreeMap<String, (&Space<'_>, &Space<'_>)> = BTreeMap::new();
        for (_, mut spaces) in spaces {
            // Who has the salt by name keeps it; names differ, so whoever else has it has written it.
            spaces.sort_by_key(|space| (space.salt != space.name, &space.name));
            for (number, space) in spaces.iter().enumerate() {
                // Of the definitions of one route, a context sees one.
                let other = |other: &&&Space<'_>| space.route.is_none() || other.route != space.route;
                if let Some(other) = spaces.iter().take(number).find(other) {
                    warnings.entry(space.place.path()).or_insert((*space, *other));
                }
            }
        }
        for (space, other) in warnings.into_values() {
            let message = format!(
                "the {} `{}` has the salt of the {} `{}`, so a unit has the same bucket in both",
                space.kind, space.name, other.kind, other.name
            );
            let at = space.place.first_key(tree, &["salt"]).unwrap_or_else(|| space.place.clone());
            let hint =
                "give it another `salt`; splits that are meant to choose together name the same `layer`";
            self.warn("shared-salt", (&at, Of::Value), message, Some(hint));
        }
    }

    fn route(&mut self, key: &'p RouteKey, route: &'p Route) {
        let place = Place::route(key);
        let gone = self.reach(&place, key, route);
        self.rollouts(&place, route, &gone);
        self.shadow_conditions(&place, route);
        for (serve, place) in serves(&place, route) {
            self.shares(serve, &place);
        }
        self.variants(&place, key, route);
        for (index, shadow) in route.shadows.iter().enumerate() {
            self.shadow(&place.key("shadows").index(index), key, route, shadow);
        }
    }

    /// Shadows whose condition nothing fulfils.
    fn shadow_conditions(&mut self, place: &Place, route: &'p Route) {
        let tree = self.document;
        for (index, shadow) in route.shadows.iter().enumerate() {
            let Some(condition) = &shadow.condition else { continue };
            let condition = Formula::Condition(condition, true);
            if !self.logic.possible(&[condition, Formula::Window(shadow.window, true)]) {
                let keys = if self.logic.possible(&[condition]) { ["until", "from"] } else { ["if", "if"] };
                let place = place.key("shadows").index(index);
                let at = place.first_key(tree, &keys).unwrap_or(place);
                let message = format!("nothing fulfils the condition of the shadow `{}`", shadow.name);
                let hint = Some("a part of it contradicts another");
                self.warn("never-matches", (&at, Of::Key), message, hint);
            }
        }
    }

    /// Variants that a split names and nobody gets, and ramps without a hand on them.
    fn shares(&mut self, serve: &Serve, place: &Place) {
        let tree = self.document;
        let (parts, place): (BTreeMap<&str, u32>, Place) = match serve {
            Serve::Split(split) => {
                let shares = place.first_key(tree, &["split", "weights"]);
                (widths([&split.shares.parts]), shares.unwrap_or_else(|| place.clone()))
            }
            Serve::Ramp(ramp) => {
                if ramp.automatic {
                    let message = "this ramp is automatic: the clock alone promotes the new version";
                    let hint = "remove `automatic` and raise `approved_stage` when the evidence holds";
                    let place = place.key("ramp").key("automatic");
                    self.warn("automatic-ramp", (&place, Of::Key), message, Some(hint));
                }
                self.shrinking(ramp, &place.key("ramp").key("stages"));
                let mut parts = widths(ramp.stages.iter().map(|stage| &stage.shares.parts));
                // It serves everyone before the first stage.
                parts.remove(ramp.from.as_str());
                (parts, place.key("ramp").key("stages"))
            }
            Serve::Experiment(experiment) => {
                let parts = experiment.shares.iter().map(|(name, share)| (name.as_str(), share.buckets()));
                (parts.collect(), place.key("experiment").key("split"))
            }
            Serve::Variant(_) | Serve::Switchback(_) => return,
        };
        for (name, _) in parts.into_iter().filter(|(_, width)| *width == 0) {
            let message = format!("the variant `{name}` has a share of 0 %, so nobody gets it here");
            let at = self.share_of(&place, name);
            self.warn("zero-share", (&at, Of::Value), message, None);
        }
    }

    /// Stages of a ramp that lead back.
    fn shrinking(&mut self, ramp: &Ramp, place: &Place) {
        let left = |stage: &crate::policy::Stage| {
            let parts = stage.shares.parts.iter().filter(|(name, _)| *name == ramp.from);
            parts.map(|(_, width)| *width).sum::<u32>()
        };
        let pairs = ramp.stages.iter().zip(ramp.stages.iter().skip(1));
        let back = pairs.enumerate().find(|(_, (before, stage))| left(before) < left(stage));
        let Some((index, _)) = back else { return };
        let message = format!("stage {} gives `{}` more than stage {}", index + 2, ramp.from, index + 1);
        let hint = "a ramp leads away from it; to go back, lower `approved_stage`";
        let place = place.index(index + 1);
        let at = place.first_key(self.document, &["share", "split"]).unwrap_or(place);
        self.warn("shrinking-ramp", (&at, Of::Value), message, Some(hint));
    }

    /// Where a variant's share is written: in a split, or in the first stage that names the variant.
    fn share_of(&self, place: &Place, name: &str) -> Place {
        let tree = self.document;
        let Some(Value::List(stages)) = place.node(tree).map(|node| &node.value) else {
            return place.key(name);
        };
        let stages = || (0..stages.len()).map(|index| place.index(index));
        let split = stages().find_map(|stage| stage.key("split").first_key(tree, &[name]));
        let share = || stages().find_map(|stage| stage.first_key(tree, &["share"]));
        split.or_else(share).unwrap_or_else(|| place.clone())
    }

    /// Variants that nobody uses, and variants that nothing stands in for.
    fn variants(&mut self, place: &Place, key: &RouteKey, route: &'p Route) {
        let chosen = chosen(self.policy, key, route);
        let shadows: BTreeSet<&str> = route.shadows.iter().map(|shadow| shadow.variant.as_str()).collect();
        let stand_ins: BTreeSet<&str> =
            route.variants.iter().flat_map(|variant| fallbacks(route, variant)).collect();
        for variant in &route.variants {
            let name = variant.name.as_str();
            let place = place.key("variants").key(name);
            let own = variant.fallbacks.is_some();
            if !chosen.contains(name) {
                let used = shadows.contains(name)
                    || stand_ins.contains(name)
                    || route.baseline == name
                    || mentioned(route).any(|used| used == name);
                if !used {
                    let message = format!("nothing serves the variant `{name}`");
                    self.warn("unused-variant", (&place, Of::Key), message, None);
                }
                continue;
            }
            let others = || fallbacks(route, variant).filter(|other| *other != name);
            let enabled = |name: &str| route.variants.iter().any(|other| other.name == name && other.enabled);
            if !variant.enabled && !others().any(enabled) {
                let message = format!("the variant `{name}` is disabled, and nothing serves instead of it");
                let hint =
                    "it serves all the same, flagged as unavailable; give it `fallbacks` that are enabled";
                let at = place.key(if own { "fallbacks" } else { "enabled" });
                self.warn("no-fallback", (&at, Of::Key), message, Some(hint));
            } else if route.variants.len() > 1 && others().next().is_none() && self.is_remote(&variant.model)
            {
                let message = format!(
                    "the variant `{name}` runs on a remote node, and nothing serves when that is away"
                );
                let (at, of) = if own { ("fallbacks", Of::Key) } else { ("model", Of::Value) };
                self.warn("no-fallback", (&place.key(at), of), message, Some("give it `fallbacks`"));
            }
        }
    }

    fn is_remote(&self, model: &ModelVersion) -> bool {
        let model = self.policy.models.as_ref().and_then(|models| models.get(model));
        model.is_some_and(|model| model.placement == Placement::Gpu)
    }

    fn shadow(&mut self, place: &Place, key: &RouteKey, route: &'p Route, shadow: &Shadow) {
        let Some(variant) = route.variants.iter().find(|variant| variant.name == shadow.variant) else {
            return;
        };
        let name = &shadow.name;
        let at = if shadow.sample.buckets() == 0 { "sample" } else { "variant" };
        let message = if shadow.sample.buckets() == 0 {
            format!("the shadow `{name}` samples 0 %, so it never runs")
        } else if !variant.enabled {
            format!("the variant of the shadow `{name}` is disabled, so it never runs")
        } else {
            let chosen = chosen(self.policy, key, route);
            let serving: BTreeSet<&str> = route
                .variants
                .iter()
                .filter(|other| chosen.contains(other.name.as_str()))
                .flat_map(|other| {
                    let instead = fallbacks(route, other).filter(|_| !other.enabled);
                    instead.chain([other.name.as_str()])
                })
                .collect();
            let model_of = |name: &str| {
                route.variants.iter().find(|variant| variant.name == name).map(|variant| &variant.model)
            };
            if serving.iter().all(|other| *other == variant.name) {
                format!("the shadow `{name}` runs the only variant that serves, so it never runs")
            } else if serving.iter().all(|other| model_of(other) == Some(&variant.model)) {
                format!(
                    "the shadow `{name}` runs the same model version as every variant that serves, so it never runs"
                )
            } else {
                return;
            }
        };
        self.warn("idle-shadow", (&place.key(at), Of::Value), message, None);
    }
}

/// Each variant's widest share.
fn widths<'p>(stages: impl IntoIterator<Item = &'p Vec<(String, u32)>>) -> BTreeMap<&'p str, u32> {
    let mut widest = BTreeMap::new();
    for (name, width) in stages.into_iter().flatten() {
        let known = widest.entry(name.as_str()).or_insert(0);
        *known = (*known).max(*width);
    }
    widest
}

/// What serves instead of a variant, in order.
fn fallbacks<'p>(route: &'p Route, variant: &'p Variant) -> impl Iterator<Item = &'p str> {
    variant.fallbacks.as_ref().unwrap_or(&route.fallbacks).iter().map(String::as_str)
}

/// Everything that a route's steps serve, with its place.
fn serves<'p>(place: &Place, route: &'p Route) -> impl Iterator<Item = (&'p Serve, Place)> {
    let groups = grouped(place, route).map(|(group, place)| (&group.serve, place));
    let rules = listed(place.key("rules"), &route.rules).map(|(rule, place)| (&rule.serve, place));
    groups.chain(rules).chain([(&route.default, place.key("default"))])
}

/// The test groups and symbol rollouts of a route, with their places.
fn grouped<'p>(place: &Place, route: &'p Route) -> impl Iterator<Item = (&'p Group, Place)> {
    let of = |kind: GroupKind| listed(place.key(kind.section()), route.groups_of(kind));
    let groups: Vec<_> = GroupKind::ALL.into_iter().flat_map(of).collect();
    groups.into_iter()
}

/// The items of a list with their places.
fn listed<T>(list: Place, items: impl IntoIterator<Item = T>) -> impl Iterator<Item = (T, Place)> {
    items.into_iter().enumerate().map(move |(index, item)| (item, list.index(index)))
}

/// The names of the variants that something serves, with those that get nothing.
fn mentioned(route: &Route) -> impl Iterator<Item = &str> {
    let served = route.serves().flat_map(|serve| of_serve(serve, true));
    let overrides = route.overrides.iter().map(|item| item.serve.as_str());
    let requests = route.requests.iter().flat_map(|item| item.variants.iter().map(String::as_str));
    served.chain(overrides).chain(requests)
}

/// The variants that the steps of a route can choose; a disabled route has one.
fn chosen<'p>(policy: &Policy, key: &RouteKey, route: &'p Route) -> BTreeSet<&'p str> {
    if !route.enabled {
        return [route.baseline.as_str()].into();
    }
    let mut names: BTreeSet<&str> = route.serves().flat_map(|serve| of_serve(serve, false)).collect();
    names.extend(route.overrides.iter().map(|item| item.serve.as_str()));
    names.extend(route.requests.iter().flat_map(|item| item.variants.iter().map(String::as_str)));
    // Whoever is held out or has no unit gets the baseline.
    let by_unit = route.serves().any(|serve| match serve {
        Serve::Split(_) | Serve::Ramp(_) => true,
        Serve::Switchback(switchback) => switchback.washout > 0,
        Serve::Experiment(experiment) => {
            policy.layers.get(&experiment.layer).is_some_and(|layer| layer.holdout.buckets() > 0)
        }
        Serve::Variant(_) => false,
    });
    let held_out = policy.holdouts.values().any(|holdout| {
        let concerned = holdout.routes.as_ref().is_none_or(|routes| routes.contains(&key.name));
        concerned && holdout.share.buckets() > 0
    });
    if by_unit || held_out {
        names.insert(&route.baseline);
    }
    names
}

/// The variants that this serves, with or without those that get nothing.
fn of_serve(serve: &Serve, with_nothing: bool) -> Vec<&str> {
    match serve {
        Serve::Variant(name) => vec![name],
        Serve::Split(split) => kept(widths([&split.shares.parts]), with_nothing),
        Serve::Ramp(ramp) => {
            let mut names = kept(widths(ramp.stages.iter().map(|stage| &stage.shares.parts)), with_nothing);
            names.push(&ramp.from);
            names
        }
        Serve::Experiment(experiment) => {
            let parts = experiment.shares.iter().map(|(name, share)| (name.as_str(), share.buckets()));
            kept(parts.collect(), with_nothing)
        }
        Serve::Switchback(switchback) => switchback.variants.iter().map(String::as_str).collect(),
    }
}

fn kept(parts: BTreeMap<&str, u32>, with_nothing: bool) -> Vec<&str> {
    parts.into_iter().filter(|(_, width)| with_nothing || *width > 0).map(|(name, _)| name).collect()
}

/// What each route can serve, over all its definitions, fallbacks included.
fn served_by_routes(policy: &Policy) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut served: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (key, route) in &policy.routes {
        let names = served.entry(&key.name).or_default();
        names.extend(mentioned(route));
        names.insert(&route.baseline);
        names.extend(route.variants.iter().flat_map(|variant| fallbacks(route, variant)));
    }
    served
}

/// What the parts of a policy refer to.
#[derive(Default)]
struct Used<'p> {
    segments: BTreeSet<&'p str>,
    layers: BTreeSet<&'p str>,
    experiments: BTreeSet<&'p str>,
    /// The hash spaces of our own hash that decide something.
    spaces: Vec<Space<'p>>,
}

/// A hash space: a named layer, a holdout, or a route's own layer.
struct Space<'p> {
    kind: &'static str,
    name: String,
    salt: &'p str,
    /// The name of the route whose own it is.
    route: Option<&'p str>,
    /// What is hashed in it.
    units: Vec<&'p Unit>,
    place: Place,
}

impl<'p> Used<'p> {
    fn of(policy: &'p Policy) -> Self {
        let mut used = Self::default();
        // What is hashed in a layer, by its name.
        let mut units: BTreeMap<&str, Vec<&Unit>> = BTreeMap::new();
        for segment in policy.segments.values() {
            used.members(&segment.include);
            used.members(&segment.exclude);
            segment.condition.iter().for_each(|condition| used.condition(condition));
        }
        policy.tiers.iter().for_each(|tier| used.members(&tier.members));
        for route in policy.routes.values() {
            conditions(route).for_each(|(condition, _)| used.condition(condition));
            route.members().for_each(|(members, _)| used.members(members));
            for serve in route.serves() {
                match serve {
                    Serve::Split(Split { layer, unit, .. }) | Serve::Ramp(Ramp { layer, unit, .. }) => {
                        used.layers.extend([layer.name.as_str()]);
                        units.entry(&layer.name).or_default().push(unit);
                    }
                    Serve::Experiment(experiment) => used.experiments.extend([experiment.layer.as_str()]),
                    Serve::Variant(_) | Serve::Switchback(_) => {}
                }
            }
            conditions(route).for_each(|(condition, _)| slices(condition, &mut units));
        }
        let segments = policy.segments.values().filter_map(|segment| segment.condition.as_ref());
        segments.for_each(|condition| slices(condition, &mut units));
        used.spaces = spaces(policy, &used.experiments, &units);
        used
    }

    fn members(&mut self, members: &'p Members) {
        self.segments.extend(members.segments.iter().map(String::as_str));
    }

    fn condition(&mut self, condition: &'p Condition) {
        each(condition, &mut |part| match part {
            Condition::Segment(name) => self.segments.extend([name.as_str()]),
            Condition::Bucket(slice) => self.layers.extend([slice.layer.name.as_str()]),
            _ => {}
        });
    }
}

/// What the slices in a condition hash, by layer.
fn slices<'p>(condition: &'p Condition, units: &mut BTreeMap<&'p str, Vec<&'p Unit>>) {
    each(condition, &mut |part| {
        if let Condition::Bucket(slice) = part {
            units.entry(&slice.layer.name).or_default().push(&slice.unit);
        }
    });
}

fn spaces<'p>(
    policy: &'p Policy,
    experiments: &BTreeSet<&str>,
    units: &BTreeMap<&'p str, Vec<&'p Unit>>,
) -> Vec<Space<'p>> {
    let root = Place::default();
    let of = |name: &str| units.get(name).cloned().unwrap_or_default();
    let ours = policy.layers.iter().filter(|(_, layer)| layer.layer.algorithm == Algorithm::Lockgate);
    let layers = ours.map(|(name, layer)| {
        let own = experiments.contains(name.as_str()).then_some(&layer.unit);
        Space {
            kind: "layer",
            name: name.clone(),
            salt: &layer.layer.salt,
            route: None,
            units: of(name).into_iter().chain(own).collect(),
            place: root.key("layers").key(name),
        }
    });
    let holdouts = policy.holdouts.iter().filter(|(_, holdout)| holdout.share.buckets() > 0);
    let holdouts = holdouts.map(|(name, holdout)| Space {
        kind: "holdout",
        name: name.clone(),
        salt: &holdout.layer.salt,
        route: None,
        units: vec![&holdout.unit],
        place: root.key("holdouts").key(name),
    });
    let routes = policy.routes.iter().map(|(key, route)| Space {
        kind: "route",
        name: key.layer_name(),
        salt: &route.layer.salt,
        route: Some(&key.name),
        units: of(&route.layer.name),
        place: Place::route(key),
    });
    layers.chain(holdouts).chain(routes).collect()
}
