//! One decision in words, told by the evaluation that made it.

use std::fmt;

use lockgate_package::Digest;
use serde::{Deserialize, Serialize};

use crate::bundle::format::{
    Interval, Layer, NONE, NumberTest, OverrideValue, Route, Section, Segment, Set, Target, Test, Word,
    unit_fields,
};
use crate::bundle::{Bundle, RouteView};
use crate::context::{AttributeValue, Context, Field};
use crate::decision::{Decision, Placement, Reason, Step, UnknownRoute};
use crate::evaluate::{Observer, evaluate};

/// How a decision came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trace {
    /// The steps in the order in which they were looked at; the last one decided.
    pub steps: Vec<TraceStep>,
    /// The decision.
    pub decision: TraceDecision,
}

/// A step of the precedence that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TraceStep {
    /// Which step.
    pub step: Step,
    /// The test group, symbol rollout or rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it decided.
    pub matched: bool,
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
    /// The test group, symbol rollout or rule that matched.
    pub rule: Option<String>,
    /// The layer whose hash space a split was looked up in.
    pub layer: Option<String>,
    /// The unit's bucket in that layer.
    pub bucket: Option<u32>,
    /// Whether the unit that the split sticks to was missing.
    pub unit_missing: bool,
    /// The variant's payload.
    pub payload: Option<serde_json::Value>,
    /// The bundle's version.
    pub bundle_version: u64,
    /// The bundle's digest.
    pub bundle: Digest,
}

impl TraceDecision {
    /// A copy of a decision that `bundle` made.
    pub fn new(decision: &Decision<'_>, bundle: &Bundle) -> Self {
        Self {
            route: decision.route.to_owned(),
            variant: decision.variant.to_owned(),
            model: decision.model.to_owned(),
            version: decision.version.to_owned(),
            package: decision.package,
            placement: decision.placement,
            reason: decision.reason,
            step: decision.step,
            rule: decision.rule.map(str::to_owned),
            layer: decision.layer.map(str::to_owned),
            bucket: decision.bucket,
            unit_missing: decision.unit_missing,
            payload: decision.payload.and_then(|payload| serde_json::from_str(payload).ok()),
            bundle_version: bundle.version(),
            bundle: bundle.digest(),
        }
    }
}

/// Decides as [`Bundle::decide`] does, and says how.
///
/// # Errors
/// The bundle has no such route.
pub fn explain<C: Context + ?Sized>(
    bundle: &Bundle,
    context: &C,
    now_ms: i64,
    unavailable: &[[u8; 32]],
) -> Result<Trace, UnknownRoute> {
    let _ = (now_ms, unavailable);
    let mut narrator = Narrator { bundle, context, route: None, steps: Vec::new(), tests: Vec::new() };
    let decision = evaluate(bundle, context, &mut narrator)?;
    Ok(Trace { steps: narrator.steps, decision: TraceDecision::new(&decision, bundle) })
}

struct Narrator<'a, C: ?Sized> {
    bundle: &'a Bundle,
    context: &'a C,
    route: Option<Route>,
    steps: Vec<TraceStep>,
    /// The tests of the step that is being looked at.
    tests: Vec<String>,
}

impl<C: Context + ?Sized> Observer for Narrator<'_, C> {
    fn route(&mut self, route: &RouteView<'_>) {
        self.route = Some(route.record());
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
            Some(first) => format!("entry {} serves", first.order.saturating_add(1)),
            None if self.tests.is_empty() => "the route has none".to_owned(),
            None => "none names the context".to_owned(),
        };
        self.push(Step::Override, None, first.is_some(), text);
    }

    fn test(&mut self, test: Test, segment: Option<u32>, result: bool) {
        let within =
            segment.map(|segment| format!("segment `{}`: ", self.segment(segment))).unwrap_or_default();
        let answer = if result { "yes" } else { "no" };
        let text = format!("{within}{}: {answer}", self.words(test));
        self.tests.push(text);
    }

    fn target(&mut self, target: &Target, matched: bool) {
        if !matched {
            self.step(target, false, "does not match".to_owned());
        } else if target.variant != NONE {
            let text = match step_of(target) {
                Step::Default => "serves everyone whom nothing before has matched",
                _ => "matches and serves one variant",
            };
            self.step(target, true, text.to_owned());
        }
    }

    fn split(&mut self, target: &Target, bucket: Option<u32>) {
        let layer: Layer = self.bundle.table(Section::Layers).get(target.layer);
        let layer = self.bundle.text(layer.name);
        let unit: Vec<String> = unit_fields(target.unit)
            .map(|field| match field.of(self.context) {
                Some(value) => format!("{} `{value}`", field.name()),
                None => format!("no {}", field.name()),
            })
            .collect();
        let unit = unit.join(", ");
        let text = match bucket {
            None => format!("the unit of the split is missing ({unit}), so the baseline serves"),
            Some(bucket) => {
                let (from, to, variant) = self.interval(target, bucket);
                format!("bucket {bucket} of layer `{layer}` for {unit} falls into {from}–{to} of `{variant}`")
            }
        };
        self.step(target, true, text);
    }
}

impl<C: Context + ?Sized> Narrator<'_, C> {
    fn push(&mut self, step: Step, name: Option<&str>, matched: bool, text: String) {
        let tests = std::mem::take(&mut self.tests);
        self.steps.push(TraceStep { step, name: name.map(str::to_owned), matched, text, tests });
    }

    fn step(&mut self, target: &Target, matched: bool, text: String) {
        self.push(step_of(target), self.bundle.optional_text(target.name), matched, text);
    }

    /// The first and last bucket of the interval that holds `bucket`, and its variant.
    fn interval(&self, target: &Target, bucket: u32) -> (u32, u32, &str) {
        let mut from = 0;
        let intervals = self.bundle.table::<Interval>(Section::Intervals);
        for interval in intervals.range(target.intervals_start, target.intervals_count) {
            if bucket < interval.end {
                let variant =
                    self.route.map_or("", |route| self.bundle.variant(&route, interval.variant).name);
                return (from, interval.end.saturating_sub(1), variant);
            }
            from = interval.end;
        }
        (from, from, "")
    }

    fn segment(&self, index: u32) -> &str {
        let segment: Segment = self.bundle.table(Section::Segments).get(index);
        self.bundle.text(segment.name)
    }

    fn words(&self, test: Test) -> String {
        let field = |field: Field| match field.of(self.context) {
            Some(value) => format!("{} `{value}`", field.name()),
            None => format!("{} (absent)", field.name()),
        };
        let attribute = |name: u32| {
            let name = self.bundle.text(name);
            let value = match self.context.attribute(name) {
                None => "absent".to_owned(),
                Some(AttributeValue::Text(text)) => format!("`{text}`"),
                Some(AttributeValue::Number(number)) => number.to_string(),
                Some(AttributeValue::Boolean(value)) => value.to_string(),
            };
            format!("attribute `{name}` ({value})")
        };
        match test {
            Test::FieldIn(which, set) => format!("{} is {}", field(which), self.set(set)),
            Test::FieldPresent(which) => format!("{} is present", field(which)),
            Test::AttributeIn { name, set } => format!("{} is {}", attribute(name), self.set(set)),
            Test::AttributePresent { name } => format!("{} is present", attribute(name)),
            Test::AttributeNumber { name, test, value } => {
                let relation = match test {
                    NumberTest::Equal => "=",
                    NumberTest::Less => "<",
                    NumberTest::LessOrEqual => "≤",
                    NumberTest::Greater => ">",
                    NumberTest::GreaterOrEqual => "≥",
                };
                format!("{} {relation} {value}", attribute(name))
            }
            Test::AttributeBoolean { name, value } => format!("{} is {value}", attribute(name)),
            Test::Segment(segment) => format!("the context belongs to segment `{}`", self.segment(segment)),
        }
    }

    fn set(&self, set: u32) -> String {
        let set: Set = self.bundle.table(Section::Sets).get(set);
        match set.members_count {
            1 => {
                let member = self.bundle.table::<Word>(Section::SetMembers);
                format!("`{}`", self.bundle.text(member.get(set.members_start).value))
            }
            count => format!("one of {count} values"),
        }
    }
}

fn step_of(target: &Target) -> Step {
    u8::try_from(target.step).ok().and_then(Step::from_number).unwrap_or(Step::Default)
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = &self.decision;
        writeln!(f, "route `{}`, bundle version {}", decision.route, decision.bundle_version)?;
        for TraceStep { step, name, text, tests, .. } in &self.steps {
            write!(f, "  {}", step.name().replace('_', " "))?;
            if let Some(name) = name {
                write!(f, " `{name}`")?;
            }
            writeln!(f, ": {text}")?;
            for test in tests {
                writeln!(f, "    {test}")?;
            }
        }
        let TraceDecision { variant, model, version, placement, reason, .. } = decision;
        write!(f, "serves `{variant}`, {model}@{version} on {placement}: {reason}")
    }
}
