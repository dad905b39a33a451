//! What is allowed and hardly meant: rules that never match, shares that nobody gets, shadows that never run.
//!
//! A warning is given only for what is certain from the policy alone, whatever the context and the time.

mod logic;
mod subject;

use std::collections::{BTreeMap, BTreeSet};

use crate::check::graph::{conditions, each};
use crate::diagnostic::{Diagnostic, Severity, list_of};
use crate::policy::{
    Condition, Members, ModelVersion, Origin, Override, Policy, Route, RouteKey, Serve, Shadow,
    SymbolRollout, Variant, Window,
};
use crate::{Field, Placement};
use logic::{Formula, Leaf, Literal, Logic, Values};

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
    ("overlapping-rollouts", "Two symbol rollouts of a route list the same symbol; the first one has it."),
    ("unreachable", "Whatever this step matches, one step before it has taken."),
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
    let mut linter =
        Linter { policy, warnings: Vec::new(), logic: Logic::new(policy, served_by_routes(policy)) };
    linter.sections();
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
    warnings: Vec<Diagnostic>,
    logic: Logic<'p>,
}

/// A step of a route as conditions see it.
struct Step<'p> {
    /// `the rule`, `the override of`.
    kind: &'static str,
    name: &'p str,
    origin: &'p Origin,
    formula: Formula<'p>,
    window: Window,
    /// Whether whoever matches is served by it.
    takes_all: bool,
}

impl<'p> Linter<'p> {
    fn warn(&mut self, code: &str, origin: &Origin, message: impl Into<String>, hint: Option<&str>) {
        let warning = Diagnostic::error(&self.policy.file, origin.position, origin.path.clone(), message);
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
        for (name, segment) in &policy.segments {
            let nothing = segment.include == Members::default() && segment.condition.is_none();
            if !used.segments.contains(name.as_str()) {
                self.warn(
                    "unused-segment",
                    &segment.origin,
                    format!("nothing uses the segment `{name}`"),
                    None,
                );
            } else if nothing || !self.logic.possible(&[Formula::Segment(segment, true)]) {
                let why = if nothing { "says nothing about who belongs to it" } else { "contains nobody" };
                self.warn("empty-segment", &segment.origin, format!("the segment `{name}` {why}"), None);
            }
        }
        for tier in policy.tiers.iter().skip(1) {
            if tier.members == Members::default() {
                let message = format!("the tier `{}` says nothing about who has it", tier.name);
                self.warn("empty-segment", &tier.origin, message, Some("only the first tier is everyone's"));
            }
        }
        for (name, layer) in &policy.layers {
            let experiments = used.experiments.contains(name.as_str());
            if !experiments && !used.layers.contains(name.as_str()) {
                self.warn("unused-layer", &layer.origin, format!("nothing uses the layer `{name}`"), None);
            } else if layer.holdout.buckets() > 0 && !experiments {
                let message = format!("the layer `{name}` has a holdout and no experiment");
                let hint = "a holdout of a layer concerns only its experiments; write one into `holdouts`";
                self.warn("unused-holdout", &layer.origin, message, Some(hint));
            }
        }
        for (name, holdout) in &policy.holdouts {
            if holdout.share.buckets() == 0 {
                let message = format!("the holdout `{name}` has a share of 0 %");
                self.warn("zero-share", &holdout.origin, message, None);
            }
        }
    }

    fn route(&mut self, key: &RouteKey, route: &'p Route) {
        self.matching(route);
        for (serve, origin) in serves(route) {
            self.shares(serve, &origin);
        }
        self.rollouts(route);
        self.variants(key, route);
        for shadow in &route.shadows {
            self.shadow(key, route, shadow);
        }
    }

    /// Steps that never match.
    fn matching(&mut self, route: &'p Route) {
        if let Some(access) = &route.access
            && !self.logic.possible(&[Formula::Condition(access, true)])
        {
            let origin = within(&route.origin, "access");
            self.warn(
                "never-matches",
                &origin,
                "nothing fulfils this condition, so nobody sees the route",
                None,
            );
        }
        let steps = steps(route);
        for (place, step) in steps.iter().enumerate() {
            let window = Formula::Window(step.window, true);
            if !self.logic.possible(&[step.formula, window]) {
                let message = match step.kind {
                    "rule" => format!("nothing fulfils the condition of the rule `{}`", step.name),
                    kind => format!("nobody belongs to the {kind} `{}`", step.name),
                };
                self.warn("never-matches", step.origin, message, Some("a part of it contradicts another"));
                continue;
            }
            let earlier = steps.iter().take(place).filter(|earlier| earlier.takes_all);
            let taken = earlier.into_iter().find(|earlier| {
                // Whatever this step matches is outside of neither the other one's condition nor its time.
                let mut outside =
                    [earlier.formula.negated(), Formula::Window(earlier.window, false)].into_iter();
                !outside.any(|outside| self.logic.possible(&[step.formula, window, outside]))
            });
            if let Some(earlier) = taken {
                let by = match earlier.name {
                    "" => format!("the {} at line {}", earlier.kind, earlier.origin.position.line),
                    name => format!("the {} `{name}`", earlier.kind),
                };
                let what = match step.name {
                    "" => format!("this {}", step.kind),
                    name => format!("the {} `{name}`", step.kind),
                };
                let message = format!("{what} is never reached: {by} takes whatever it matches");
                self.warn("unreachable", step.origin, message, Some("put it first, or remove it"));
            }
        }
        for shadow in &route.shadows {
            let condition = shadow.condition.as_ref().map(|condition| Formula::Condition(condition, true));
            let formulas: Vec<Formula<'p>> =
                condition.into_iter().chain([Formula::Window(shadow.window, true)]).collect();
            if !self.logic.possible(&formulas) {
                let message = format!("nothing fulfils the condition of the shadow `{}`", shadow.name);
                self.warn("never-matches", &shadow.origin, message, Some("a part of it contradicts another"));
            }
        }
    }

    /// Variants that a split names and nobody gets, and ramps without a hand on them.
    fn shares(&mut self, serve: &Serve, origin: &Origin) {
        let parts: BTreeMap<&str, u32> = match serve {
            Serve::Split(split) => widths([&split.shares.parts]),
            Serve::Ramp(ramp) => {
                if ramp.automatic {
                    let message = "this ramp is automatic: the clock alone promotes the new version";
                    let hint = "remove `automatic` and raise `approved_stage` when the evidence holds";
                    self.warn("automatic-ramp", &within(origin, "ramp"), message, Some(hint));
                }
                widths(ramp.stages.iter().map(|stage| &stage.shares.parts))
            }
            Serve::Experiment(experiment) => {
                experiment.shares.iter().map(|(name, share)| (name.as_str(), share.buckets())).collect()
            }
            Serve::Variant(_) | Serve::Switchback(_) => return,
        };
        for (name, _) in parts.into_iter().filter(|(_, width)| *width == 0) {
            let message = format!("the variant `{name}` has a share of 0 %, so nobody gets it here");
            self.warn("zero-share", origin, message, None);
        }
    }

    /// Symbols that several rollouts list at the same time.
    fn rollouts(&mut self, route: &'p Route) {
        let mut taken: BTreeMap<&str, Vec<&SymbolRollout>> = BTreeMap::new();
        for rollout in &route.symbol_rollouts {
            let mut both: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            let mut symbols = BTreeSet::new();
            self.symbols(&rollout.members, &mut symbols);
            for symbol in symbols {
                let earlier = taken.entry(symbol).or_default();
                for other in earlier.iter().filter(|other| overlap(other.window, rollout.window)) {
                    both.entry(&other.name).or_default().push(symbol);
                }
                earlier.push(rollout);
            }
            for (other, symbols) in both {
                let symbols = list_of(symbols);
                let message =
                    format!("the symbol rollouts `{other}` and `{}` overlap: {symbols}", rollout.name);
                let hint = format!("`{other}` comes first and has them");
                self.warn("overlapping-rollouts", &rollout.origin, message, Some(&hint));
            }
        }
    }

    /// Every symbol that belongs to these members for certain.
    fn symbols(&self, members: &'p Members, into: &mut BTreeSet<&'p str>) {
        into.extend(members.values.get(&Field::Symbol).into_iter().flatten().map(String::as_str));
        for segment in members.segments.iter().filter_map(|name| self.policy.segments.get(name)) {
            // Who else is excluded depends on the rest of the context.
            let plain = segment.exclude.segments.is_empty() && segment.exclude.files.is_empty();
            if plain {
                let mut inner = BTreeSet::new();
                self.symbols(&segment.include, &mut inner);
                let excluded = segment.exclude.values.get(&Field::Symbol);
                into.extend(
                    inner.into_iter().filter(|symbol| !excluded.is_some_and(|out| out.contains(*symbol))),
                );
            }
        }
    }

    /// Variants that nobody uses, and variants that nothing stands in for.
    fn variants(&mut self, key: &RouteKey, route: &'p Route) {
        let chosen = chosen(self.policy, key, route);
        let shadows: BTreeSet<&str> = route.shadows.iter().map(|shadow| shadow.variant.as_str()).collect();
        let stand_ins: BTreeSet<&str> =
            route.variants.iter().flat_map(|variant| fallbacks(route, variant)).collect();
        for variant in &route.variants {
            let name = variant.name.as_str();
            if !chosen.contains(name) {
                let used = shadows.contains(name)
                    || stand_ins.contains(name)
                    || route.baseline == name
                    || mentioned(route).any(|used| used == name);
                if !used {
                    let message = format!("nothing serves the variant `{name}`");
                    self.warn("unused-variant", &variant.origin, message, None);
                }
                continue;
            }
            let others = || fallbacks(route, variant).filter(|other| *other != name);
            let enabled = |name: &str| route.variants.iter().any(|other| other.name == name && other.enabled);
            if !variant.enabled && !others().any(enabled) {
                let message = format!("the variant `{name}` is disabled, and nothing serves instead of it");
                let hint =
                    "it serves all the same, flagged as unavailable; give it `fallbacks` that are enabled";
                self.warn("no-fallback", &variant.origin, message, Some(hint));
            } else if route.variants.len() > 1 && others().next().is_none() && self.is_remote(&variant.model)
            {
                let message = format!(
                    "the variant `{name}` runs on a remote node, and nothing serves when that is away"
                );
                self.warn("no-fallback", &variant.origin, message, Some("give it `fallbacks`"));
            }
        }
    }

    fn is_remote(&self, model: &ModelVersion) -> bool {
        let model = self.policy.models.as_ref().and_then(|models| models.get(model));
        model.is_some_and(|model| model.placement == Placement::Gpu)
    }

    fn shadow(&mut self, key: &RouteKey, route: &'p Route, shadow: &Shadow) {
        let Some(variant) = route.variants.iter().find(|variant| variant.name == shadow.variant) else {
            return;
        };
        let name = &shadow.name;
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
        self.warn("idle-shadow", &shadow.origin, message, None);
    }
}

/// The place of a key of what is at `origin`.
fn within(origin: &Origin, key: &str) -> Origin {
    Origin { position: origin.position, path: format!("{}.{key}", origin.path) }
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

fn overlap(one: Window, other: Window) -> bool {
    let before =
        |until: Option<i64>, from: Option<i64>| until.zip(from).is_some_and(|(until, from)| until <= from);
    !before(one.until, other.from) && !before(other.until, one.from)
}

/// What serves instead of a variant, in order.
fn fallbacks<'p>(route: &'p Route, variant: &'p Variant) -> impl Iterator<Item = &'p str> {
    variant.fallbacks.as_ref().unwrap_or(&route.fallbacks).iter().map(String::as_str)
}

/// Everything that a route's steps serve, with its place.
fn serves(route: &Route) -> impl Iterator<Item = (&Serve, Origin)> {
    let groups = route.test_groups.iter().map(|item| (&item.serve, item.origin.clone()));
    let rollouts = route.symbol_rollouts.iter().map(|item| (&item.serve, item.origin.clone()));
    let rules = route.rules.iter().map(|item| (&item.serve, item.origin.clone()));
    groups.chain(rollouts).chain(rules).chain([(&route.default, within(&route.origin, "default"))])
}

/// The names of the variants that something serves, with those that get nothing.
fn mentioned(route: &Route) -> impl Iterator<Item = &str> {
    let served = serves(route).flat_map(|(serve, _)| of_serve(serve, true));
    let overrides = route.overrides.iter().map(|item| item.serve.as_str());
    let requests = route.requests.iter().flat_map(|item| item.variants.iter().map(String::as_str));
    served.chain(overrides).chain(requests)
}

/// The variants that the steps of a route can choose; a disabled route has one.
fn chosen<'p>(policy: &Policy, key: &RouteKey, route: &'p Route) -> BTreeSet<&'p str> {
    if !route.enabled {
        return [route.baseline.as_str()].into();
    }
    let mut names: BTreeSet<&str> = serves(route).flat_map(|(serve, _)| of_serve(serve, false)).collect();
    names.extend(route.overrides.iter().map(|item| item.serve.as_str()));
    names.extend(route.requests.iter().flat_map(|item| item.variants.iter().map(String::as_str)));
    // Whoever is held out or has no unit gets the baseline.
    let by_unit = serves(route).any(|(serve, _)| match serve {
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

/// The steps that conditions and lists decide, in their order. Permitted requests depend on what is asked for.
fn steps(route: &Route) -> Vec<Step<'_>> {
    let takes_all = |serve: &Serve| !matches!(serve, Serve::Experiment(_) | Serve::Switchback(_));
    let overrides = route.overrides.iter().map(|item: &Override| Step {
        kind: "override",
        name: "",
        origin: &item.origin,
        formula: Formula::Literal(Literal {
            leaf: Leaf::Values(item.field, Values(&item.values)),
            holds: true,
        }),
        window: Window::default(),
        takes_all: true,
    });
    let groups = route.test_groups.iter().map(|item| Step {
        kind: "test group",
        name: &item.name,
        origin: &item.origin,
        formula: Formula::Members(&item.members, true),
        window: item.window,
        takes_all: takes_all(&item.serve),
    });
    let rollouts = route.symbol_rollouts.iter().map(|item| Step {
        kind: "symbol rollout",
        name: &item.name,
        origin: &item.origin,
        formula: Formula::Members(&item.members, true),
        window: item.window,
        takes_all: takes_all(&item.serve),
    });
    let rules = route.rules.iter().map(|item| Step {
        kind: "rule",
        name: &item.name,
        origin: &item.origin,
        formula: item.condition.as_ref().map_or(Formula::Window(Window::default(), true), |condition| {
            Formula::Condition(condition, true)
        }),
        window: item.window,
        takes_all: takes_all(&item.serve),
    });
    overrides.chain(groups).chain(rollouts).chain(rules).collect()
}

/// What the parts of a policy refer to.
#[derive(Default)]
struct Used<'p> {
    segments: BTreeSet<&'p str>,
    layers: BTreeSet<&'p str>,
    experiments: BTreeSet<&'p str>,
}

impl<'p> Used<'p> {
    fn of(policy: &'p Policy) -> Self {
        let mut used = Self::default();
        for segment in policy.segments.values() {
            used.members(&segment.include);
            used.members(&segment.exclude);
            segment.condition.iter().for_each(|condition| used.condition(condition));
        }
        policy.tiers.iter().for_each(|tier| used.members(&tier.members));
        for route in policy.routes.values() {
            conditions(route).for_each(|(condition, _)| used.condition(condition));
            let requests = route.requests.iter().map(|item| &item.members);
            let groups = route.test_groups.iter().map(|item| &item.members);
            let rollouts = route.symbol_rollouts.iter().map(|item| &item.members);
            requests.chain(groups).chain(rollouts).for_each(|members| used.members(members));
            let steps = route.test_groups.iter().map(|item| &item.serve);
            let steps = steps.chain(route.symbol_rollouts.iter().map(|item| &item.serve));
            let steps = steps.chain(route.rules.iter().map(|item| &item.serve));
            for serve in steps.chain([&route.default]) {
                match serve {
                    Serve::Split(split) => used.layers.extend([split.layer.name.as_str()]),
                    Serve::Ramp(ramp) => used.layers.extend([ramp.layer.name.as_str()]),
                    Serve::Experiment(experiment) => used.experiments.extend([experiment.layer.as_str()]),
                    Serve::Variant(_) | Serve::Switchback(_) => {}
                }
            }
        }
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
