//! Test cases beside a policy: contexts, and what must be decided for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lockgate_package::Digest;
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::attributes::inexact;
use crate::diagnostic::{Diagnostic, Diagnostics, list_of, suggestion};
use crate::missing::{MissingUnit, MissingUnits};
use crate::policy::Millis;
use crate::source::{Entry, Node, Position, Value, number, read};
use crate::{Attribute, Bundle, Decision, Field, Reason, RequestContext, Step, moment};

/// The most contexts that one case may stand for.
const MAX_CONTEXTS: usize = 1_000_000;
/// How many failing contexts of one case are told apart; the others are counted.
const MAX_FAILURES: usize = 5;
/// A share without a tolerance may be off by this many standard deviations of a binomial.
const DEVIATIONS: f64 = 4.0;

const FILE_KEYS: &[&str] = &["policy", "now", "context", "cases"];
const CASE_KEYS: &[&str] = &["name", "now", "context", "for", "unavailable", "expect", "population"];
const CONTEXT_KEYS: &[&str] = &["route", "user", "symbol", "tenant", "session", "variant", "attributes"];
const FOR_KEYS: &[&str] = &["users", "symbols", "tenants", "sessions", "variants", "routes", "attributes"];
const POPULATION_KEYS: &[&str] = &["users", "symbols", "tenants", "sessions", "prefix", "expect"];
const EXPECT_KEYS: &[&str] = &[
    "variant",
    "model",
    "version",
    "placement",
    "reason",
    "step",
    "rule",
    "layer",
    "bucket",
    "stage",
    "window",
    "shadows",
    "payload",
    "flags",
    "intended",
    "tenant",
    "user",
];
/// What a case expects where there is no such route, or none that the context may know of.
const UNKNOWN_ROUTE: &str = "unknown_route";
const FLAGS: &[&str] = &["unit_missing", "holdout", "washout", "unavailable"];

/// The cases of a file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Cases {
    /// The file, for messages.
    pub file: String,
    /// The policy that the file names, relative to itself.
    pub policy: Option<String>,
    /// The cases, in the order of the file.
    pub cases: Vec<Case>,
}

/// One case: some contexts, and what must be decided for each of them or for all together.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub line: u32,
    now: Millis,
    contexts: Contexts,
    unavailable: Vec<(u32, Package)>,
    expect: Expectation,
}

#[derive(Debug, Clone, PartialEq)]
enum Contexts {
    Listed(Vec<RequestContext>),
    Generated { base: RequestContext, field: Field, values: Values },
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    Numbered { prefix: String, count: u32 },
    Listed(Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum Package {
    Digest(Digest),
    Model(String),
}

#[derive(Debug, Clone, PartialEq)]
enum Expectation {
    UnknownRoute(u32),
    Decision(Vec<(u32, String, Json)>),
    Shares(Vec<(u32, String, Tolerance)>),
}

/// What a share, in percent, may be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tolerance {
    About(f64),
    Within(f64, f64),
}

/// How a case went.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// Where it begins.
    pub line: u32,
    /// How many contexts were decided.
    pub contexts: usize,
    /// What was not as expected; empty when the case passed.
    pub failures: Vec<CaseFailure>,
    /// How many further contexts failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
    /// How many units of a population lacked what a step sticks to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingUnit>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// Something that was not as expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CaseFailure {
    /// The context, in words; empty when the failure concerns all together.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// Each difference: the line of the expectation, what it is about, what was expected and what was found.
    pub differences: Vec<Difference>,
    /// The decision, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub decision: String,
}

/// Where an expectation and the decision part.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The line of the expectation.
    pub line: u32,
    /// The key, `variant`.
    pub what: String,
    /// What the case expects.
    pub expected: String,
    /// What was decided.
    pub found: String,
}

impl CaseResult {
    /// Whether everything was as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Name and place, then each difference with both sides, one under the other.
impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} `{}` (line {})",
            if self.passed() { "ok    " } else { "FAILED" },
            self.name,
            self.line
        )?;
        for failure in &self.failures {
            if !failure.context.is_empty() {
                write!(f, "\n  for {}", failure.context)?;
            }
            for Difference { line, what, expected, found } in &failure.differences {
                write!(f, "\n    {what} (line {line})\n      expected: {expected}\n      found:    {found}")?;
            }
            if !failure.decision.is_empty() {
                write!(f, "\n    decided: {}", failure.decision)?;
            }
        }
        if self.more > 0 {
            write!(f, "\n  and {} more contexts", self.more)?;
        }
        let total = u64::try_from(self.contexts).unwrap_or(u64::MAX);
        self.missing.iter().try_for_each(|missing| write!(f, "\n  note: {}", missing.words(total)))
    }
}

/// Reads a file of cases, YAML or, when its name ends in `.json`, JSON.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn parse_cases(file_name: &str, text: &str) -> Result<Cases, Diagnostics> {
    let root = read(file_name, text)?;
    let mut reader = Reader { file: file_name, problems: Vec::new() };
    let cases = reader.file(&root);
    Diagnostics::check(reader.problems)?;
    Ok(cases)
}

impl Cases {
    /// Decides every case. `now` counts where neither the case nor the file says a time.
    pub fn run(&self, bundle: &Bundle) -> Vec<CaseResult> {
        self.cases.iter().map(|case| case.run(bundle)).collect()
    }
}

impl Case {
    /// Decides the case's contexts.
    pub fn run(&self, bundle: &Bundle) -> CaseResult {
        let mut result = CaseResult {
            name: self.name.clone(),
            line: self.line,
            contexts: 0,
            failures: Vec::new(),
            more: 0,
            missing: Vec::new(),
        };
        // What the policy does not have is not looked for: a misspelt name would be absent in all decisions.
        let unknown = self.unknown_variants(bundle);
        let unavailable = match self.unavailable(bundle) {
            Ok(unavailable) if unknown.is_empty() => unavailable,
            unavailable => {
                result.failures.push(CaseFailure {
                    context: String::new(),
                    differences: unknown.into_iter().chain(unavailable.err()).collect(),
                    decision: String::new(),
                });
                return result;
            }
        };
        if let Expectation::Shares(shares) = &self.expect {
            self.run_shares(bundle, &unavailable, shares, &mut result);
            return result;
        }
        self.contexts.each(|context| {
            result.contexts = result.contexts.saturating_add(1);
            let decision = bundle.decide(context, self.now, &unavailable).ok();
            let differences = self.differences(decision.as_ref());
            if differences.is_empty() {
                return;
            }
            if result.failures.len() >= MAX_FAILURES {
                result.more = result.more.saturating_add(1);
                return;
            }
            let decision =
                decision.map_or_else(|| "unknown route".to_owned(), |decision| decision_words(&decision));
            result.failures.push(CaseFailure { context: context_words(context), differences, decision });
        });
        result
    }

    /// The expected variants that no definition of the case's routes has.
    fn unknown_variants(&self, bundle: &Bundle) -> Vec<Difference> {
        let routes: BTreeSet<&str> = match &self.contexts {
            Contexts::Listed(contexts) => contexts.iter().map(|context| context.route.as_str()).collect(),
            Contexts::Generated { base, .. } => [base.route.as_str()].into(),
        };
        let definitions: Vec<_> = bundle.routes().filter(|route| routes.contains(route.name())).collect();
        let known: BTreeSet<&str> =
            definitions.iter().flat_map(|route| route.variants().map(|variant| variant.name)).collect();
        let named: Vec<(u32, String, &str)> = match &self.expect {
            // That the route is unknown is said where it is decided.
            _ if definitions.is_empty() && !matches!(self.expect, Expectation::Shares(_)) => Vec::new(),
            Expectation::UnknownRoute(_) => Vec::new(),
            Expectation::Shares(shares) => shares
                .iter()
                .filter(|(_, name, _)| name != UNKNOWN_ROUTE)
                .map(|(line, name, _)| (*line, format!("share of `{name}`"), name.as_str()))
                .collect(),
            Expectation::Decision(expected) => expected
                .iter()
                .filter(|(_, key, _)| matches!(key.as_str(), "variant" | "intended"))
                .flat_map(|(line, key, value)| any_of(value).map(move |value| (*line, key.clone(), value)))
                .filter_map(|(line, key, value)| Some((line, key, value.as_str()?)))
                .collect(),
        };
        let unknown = named.into_iter().filter(|(_, _, name)| !known.contains(name));
        let routes = list_of(routes.iter().copied());
        let found = match known.is_empty() {
            true => format!("the policy has no route {routes}"),
            false => format!("route {routes} has {}", list_of(known.iter().copied())),
        };
        unknown
            .map(|(line, what, name)| Difference {
                line,
                what,
                expected: format!("a variant `{name}`"),
                found: found.clone(),
            })
            .collect()
    }

    fn unavailable(&self, bundle: &Bundle) -> Result<Vec<[u8; 32]>, Difference> {
        let mut digests = Vec::new();
        for (line, package) in &self.unavailable {
            match package {
                Package::Digest(digest) => digests.push(digest.0),
                Package::Model(wanted) => {
                    let names = || bundle.models().map(|model| format!("{}@{}", model.name, model.version));
                    let Some(model) =
                        bundle.models().find(|model| format!("{}@{}", model.name, model.version) == *wanted)
                    else {
                        let names: Vec<String> = names().collect();
                        return Err(Difference {
                            line: *line,
                            what: "unavailable".to_owned(),
                            expected: format!("`{wanted}`"),
                            found: format!("the policy has {}", list_of(names.iter().map(String::as_str))),
                        });
                    };
                    digests.push(model.digest.0);
                }
            }
        }
        Ok(digests)
    }

    fn differences(&self, decision: Option<&Decision<'_>>) -> Vec<Difference> {
        let unknown = "unknown route";
        match (&self.expect, decision) {
            (Expectation::UnknownRoute(_), None) | (Expectation::Shares(_), _) => Vec::new(),
            (Expectation::UnknownRoute(line), Some(decision)) => vec![Difference {
                line: *line,
                what: "route".to_owned(),
                expected: unknown.to_owned(),
                found: format!("`{}`", decision.variant().name),
            }],
            (Expectation::Decision(expected), None) => vec![Difference {
                line: expected.first().map_or(self.line, |(line, ..)| *line),
                what: "route".to_owned(),
                expected: "a decision".to_owned(),
                found: unknown.to_owned(),
            }],
            (Expectation::Decision(expected), Some(decision)) => expected
                .iter()
                .filter_map(|(line, key, expected)| {
                    let found = found(decision, key);
                    (!fits(key, expected, &found)).then(|| Difference {
                        line: *line,
                        what: key.clone(),
                        expected: value_words(expected),
                        found: value_words(&found),
                    })
                })
                .collect(),
        }
    }

    fn run_shares(
        &self,
        bundle: &Bundle,
        unavailable: &[[u8; 32]],
        shares: &[(u32, String, Tolerance)],
        result: &mut CaseResult,
    ) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut total: usize = 0;
        let mut missing = MissingUnits::default();
        self.contexts.each(|context| {
            total = total.saturating_add(1);
            let name = match missing.decide(bundle, context, self.now, unavailable) {
                Ok(decision) => decision.variant().name.to_owned(),
                Err(_) => UNKNOWN_ROUTE.to_owned(),
            };
            let count = counts.entry(name).or_default();
            *count = count.saturating_add(1);
        });
        result.contexts = total;
        result.missing = missing.of(bundle);
        let percent = |count: usize| 100.0 * as_f64(count) / as_f64(total.max(1));
        let mut differences = Vec::new();
        for (line, variant, tolerance) in shares {
            let found = percent(counts.get(variant).copied().unwrap_or_default());
            let (low, high) = tolerance.bounds(total);
            // One part in a billion covers the rounding of the percentages.
            if found < low - 1e-7 || found > high + 1e-7 {
                differences.push(Difference {
                    line: *line,
                    what: format!("share of `{variant}`"),
                    expected: format!("{} to {} %", rounded(low), rounded(high)),
                    found: format!("{} %", rounded(found)),
                });
            }
        }
        if !differences.is_empty() {
            let found: Vec<String> = counts
                .iter()
                .map(|(name, count)| format!("{name} {} % ({count})", rounded(percent(*count))))
                .collect();
            let decision = format!("of {total}: {}", found.join(", "));
            result.failures.push(CaseFailure { context: String::new(), differences, decision });
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// With three decimals at most.
fn rounded(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Tolerance {
    fn bounds(self, total: usize) -> (f64, f64) {
        match self {
            Self::Within(low, high) => (low, high),
            Self::About(percent) => {
                let share = (percent / 100.0).clamp(0.0, 1.0);
                let off = 100.0 * DEVIATIONS * (share * (1.0 - share) / as_f64(total.max(1))).sqrt();
                ((percent - off).max(0.0), (percent + off).min(100.0))
            }
        }
    }
}

impl Contexts {
    fn each(&self, mut decide: impl FnMut(&RequestContext)) {
        match self {
            Self::Listed(contexts) => contexts.iter().for_each(decide),
            Self::Generated { base, field, values } => {
                let mut context = base.clone();
                let mut decide_for = |value: String| {
                    set(&mut context, *field, value);
                    decide(&context);
                };
                match values {
                    Values::Numbered { prefix, count } => {
                        (1..=*count).for_each(|number| decide_for(format!("{prefix}{number}")));
                    }
                    Values::Listed(values) => values.iter().cloned().for_each(decide_for),
                }
            }
        }
    }
}

/// Sets a field of a context.
pub(crate) fn set(context: &mut RequestContext, field: Field, value: String) {
    let slot = match field {
        Field::User => &mut context.user,
        Field::Symbol => &mut context.symbol,
        Field::Tenant => &mut context.tenant,
        Field::Session => &mut context.session,
    };
    *slot = Some(value);
}

/// A context on one line, `route=r user=alice country="DE"`.
pub fn context_words(context: &RequestContext) -> String {
    let RequestContext { route, user, symbol, tenant, session, attributes, variant } = context;
    let mut words = vec![format!("route={route}")];
    let fields =
        [("user", user), ("symbol", symbol), ("tenant", tenant), ("session", session), ("variant", variant)];
    words.extend(fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?))));
    words.extend(attributes.iter().map(|(name, value)| match value {
        Attribute::Text(text) => format!("{name}={text:?}"),
        Attribute::Number(number) => format!("{name}={number}"),
        Attribute::Boolean(value) => format!("{name}={value}"),
    }));
    words.join(" ")
}

/// A decision on one line.
pub fn decision_words(decision: &Decision<'_>) -> String {
    let mut text = format!("`{}`, {} at step {}", decision.variant().name, decision.reason, decision.step);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(", {name} {value}"));
        }
    };
    let quoted = |text: &str| format!("`{text}`");
    add("rule", decision.rule().map(quoted));
    add("layer", decision.layer().map(quoted));
    add("bucket", decision.bucket.map(|bucket| bucket.to_string()));
    add("stage", decision.stage.map(|stage| stage.to_string()));
    add("window", decision.window.map(|window| window.to_string()));
    add("instead of", decision.intended().map(|variant| quoted(variant.name)));
    for flag in flags(decision) {
        text.push_str(", ");
        text.push_str(flag);
    }
    text
}

fn flags(decision: &Decision<'_>) -> Vec<&'static str> {
    let set = [decision.unit_missing, decision.holdout, decision.washout, decision.unavailable];
    FLAGS.iter().zip(set).filter_map(|(name, set)| set.then_some(*name)).collect()
}

/// What a decision says about a key of `expect`.
fn found(decision: &Decision<'_>, key: &str) -> Json {
    let variant = decision.variant();
    match key {
        "variant" => json!(variant.name),
        "model" => json!(format!("{}@{}", variant.model, variant.version)),
        "version" => json!(variant.version),
        "placement" => json!(variant.placement.name()),
        "reason" => json!(decision.reason.name()),
        "step" => json!(decision.step.name()),
        "rule" => json!(decision.rule()),
        "layer" => json!(decision.layer()),
        "bucket" => json!(decision.bucket),
        "stage" => json!(decision.stage),
        "window" => json!(decision.window),
        "intended" => json!(decision.intended().map(|variant| variant.name)),
        "tenant" => json!(decision.route().tenant()),
        "user" => json!(decision.route().user()),
        "shadows" => decision.shadows().map(|shadow| json!(shadow.name)).collect(),
        "flags" => json!(flags(decision)),
        "payload" => variant.payload.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Json::Null),
        _ => Json::Null,
    }
}

fn fits(key: &str, expected: &Json, found: &Json) -> bool {
    match key {
        "payload" => equal(expected, found),
        "shadows" | "flags" => sorted(expected) == sorted(found),
        "model" => any_of(expected).any(|expected| match (expected, found) {
            (Json::String(expected), Json::String(found)) => {
                expected == found || found.rsplit_once('@').is_some_and(|(model, _)| model == expected)
            }
            _ => false,
        }),
        _ => any_of(expected).any(|expected| equal(expected, found)),
    }
}

/// The values of which one must be found.
fn any_of(expected: &Json) -> impl Iterator<Item = &Json> {
    match expected {
        Json::Array(values) => values.iter(),
        value => std::slice::from_ref(value).iter(),
    }
}

fn sorted(list: &Json) -> Vec<String> {
    let mut texts: Vec<String> = any_of(list)
        .filter(|value| !value.is_null())
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect();
    texts.sort();
    texts
}

/// Equality in which 1 and 1.0 are one number.
fn equal(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| equal(one, other)))
        }
        (one, other) => one == other,
    }
}

fn value_words(value: &Json) -> String {
    match value {
        Json::Null => "none".to_owned(),
        Json::String(text) => format!("`{text}`"),
        Json::Array(values) if values.is_empty() => "none".to_owned(),
        Json::Array(values) if values.iter().all(Json::is_string) => {
            values.iter().map(value_words).collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    }
}

struct Reader<'s> {
    file: &'s str,
    problems: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn problem(
        &mut self,
        position: Position,
        message: String,
        expected: Option<String>,
        hint: Option<String>,
    ) {
        let Position { line, column } = position;
        let problem =
            Diagnostic { line, column, expected, hint, ..Diagnostic::of_document(self.file, message) };
        self.problems.push(problem);
    }

    fn wrong_type(&mut self, node: &Node, expected: &str) {
        let hint = match &node.value {
            Value::Number(text) if expected == "text" => Some(format!("quote it: \"{text}\"")),
            _ => None,
        };
        self.problem(
            node.position,
            format!("found {}", node.value.describe()),
            Some(expected.to_owned()),
            hint,
        );
    }

    fn entries<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Entry] {
        match &node.value {
            Value::Mapping(entries) => entries,
            _ => {
                self.wrong_type(node, what);
                &[]
            }
        }
    }

    /// The entries of a mapping whose keys are known.
    fn fields<'n>(&mut self, node: &'n Node, known: &[&str]) -> Vec<&'n Entry> {
        let mut fields = Vec::new();
        for entry in self.entries(node, "a mapping") {
            if known.contains(&entry.key.as_str()) {
                fields.push(entry);
            } else {
                let expected = format!("one of {}", list_of(known.iter().copied()));
                let hint = suggestion(&entry.key, known.iter().copied());
                self.problem(entry.position, format!("unknown key `{}`", entry.key), Some(expected), hint);
            }
        }
        fields
    }

    fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.wrong_type(node, "a list");
                &[]
            }
        }
    }

    fn text(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.wrong_type(node, "text");
                None
            }
        }
    }

    fn texts(&mut self, node: &Node) -> Vec<String> {
        self.list(node).iter().filter_map(|item| self.text(item)).collect()
    }

    fn file(&mut self, root: &Node) -> Cases {
        let mut cases = Cases { file: self.file.to_owned(), policy: None, cases: Vec::new() };
        let (mut now, mut context, mut list) = (0, RequestContext::default(), None);
        for Entry { key, value, .. } in self.fields(root, FILE_KEYS) {
            match key.as_str() {
                "policy" => cases.policy = self.text(value),
                "now" => now = self.moment(value),
                "context" => self.context(value, &mut context),
                _ => list = Some(value),
            }
        }
        let Some(list) = list else {
            let expected = "`cases: [{ name, context, expect }, …]`".to_owned();
            self.problem(root.position, "the key `cases` is missing".to_owned(), Some(expected), None);
            return cases;
        };
        // An empty file would pass for ever.
        if matches!(&list.value, Value::List(cases) if cases.is_empty()) {
            let expected = "`cases: [{ name, context, expect }, …]`".to_owned();
            self.problem(list.position, "there are no cases".to_owned(), Some(expected), None);
        }
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        for node in self.list(list) {
            let Some(case) = self.case(node, now, &context) else { continue };
            if let Some(line) = names.insert(case.name.clone(), case.line) {
                let message = format!("the name `{}` occurs twice", case.name);
                self.problem(node.position, message, None, Some(format!("it is first at line {line}")));
            }
            cases.cases.push(case);
        }
        cases
    }

    /// Milliseconds since 1970, or a time in RFC 3339.
    fn moment(&mut self, node: &Node) -> Millis {
        let moment = match &node.value {
            Value::Number(text) => text.parse().ok(),
            Value::Text(text) => moment::parse(text),
            _ => None,
        };
        moment.unwrap_or_else(|| {
            self.wrong_type(node, "a time such as `2026-05-01T12:00:00Z`, or milliseconds since 1970");
            0
        })
    }

    fn context(&mut self, node: &Node, context: &mut RequestContext) {
        for Entry { key, value, .. } in self.fields(node, CONTEXT_KEYS) {
            if key == "attributes" {
                for Entry { key, value, .. } in self.entries(value, "a mapping from attributes to values") {
                    if let Some(value) = self.attribute(value) {
                        context.attributes.insert(key.clone(), value);
                    }
                }
                continue;
            }
            let text = self.text(value);
            match key.as_str() {
                "route" => context.route = text.unwrap_or_default(),
                "user" => context.user = text,
                "symbol" => context.symbol = text,
                "tenant" => context.tenant = text,
                "session" => context.session = text,
                _ => context.variant = text,
            }
        }
    }

    fn attribute(&mut self, node: &Node) -> Option<Attribute> {
        match &node.value {
            Value::Text(text) => Some(Attribute::Text(text.clone())),
            Value::Boolean(value) => Some(Attribute::Boolean(*value)),
            Value::Number(text) if let Some(wrong) = inexact(text) => {
                let hint = Some(format!("an identifier is a text: \"{text}\""));
                self.problem(node.position, wrong.to_string(), None, hint);
                None
            }
            Value::Number(text) if let Some(number) = number(text) => Some(Attribute::Number(number)),
            _ => {
                self.wrong_type(node, "a text, a finite number, `true` or `false`");
                None
            }
        }
    }

    fn case(&mut self, node: &Node, now: Millis, context: &RequestContext) -> Option<Case> {
        let (mut now, mut context) = (now, context.clone());
        let (mut name, mut table, mut population, mut expect) = (None, None, None, None);
        let mut unavailable = Vec::new();
        for entry in self.fields(node, CASE_KEYS) {
            let Entry { key, value, .. } = entry;
            match key.as_str() {
                "name" => name = self.text(value),
                "now" => now = self.moment(value),
                "context" => self.context(value, &mut context),
                "for" => table = Some(value),
                "unavailable" => {
                    for node in self.list(value) {
                        unavailable.extend(self.package(node).map(|package| (node.position.line, package)));
                    }
                }
                "population" => population = Some(value),
                _ => expect = Some(value),
            }
        }
        let name = name.or_else(|| {
            self.problem(
                node.position,
                "the case has no name".to_owned(),
                Some("`name: …`".to_owned()),
                None,
            );
            None
        })?;
        let (contexts, expect) = match (population, expect) {
            (Some(population), None) => self.population(population, context)?,
            (None, Some(expect)) => {
                let contexts = match table {
                    Some(table) => self.table(table, &context),
                    None => vec![context],
                };
                (Contexts::Listed(contexts), self.expectation(expect)?)
            }
            (Some(_), Some(expect)) => {
                let hint = "a population has an `expect` of its own, with the shares of variants".to_owned();
                let message = "`expect` and `population` exclude each other".to_owned();
                self.problem(expect.position, message, None, Some(hint));
                return None;
            }
            (None, None) => {
                let expected =
                    "`expect: { variant: … }` or `population: { users: 10000, expect: { … } }`".to_owned();
                self.problem(node.position, "the case expects nothing".to_owned(), Some(expected), None);
                return None;
            }
        };
        let nameless = match &contexts {
            Contexts::Listed(contexts) => contexts.iter().any(|context| context.route.is_empty()),
            Contexts::Generated { base, .. } => base.route.is_empty(),
        };
        if nameless {
            let expected = "`context: { route: … }`, in the case or at the top of the file".to_owned();
            self.problem(node.position, "the case names no route".to_owned(), Some(expected), None);
        }
        Some(Case { name, line: node.position.line, now, contexts, unavailable, expect })
    }

    fn package(&mut self, node: &Node) -> Option<Package> {
        let text = self.text(node)?;
        if let Ok(digest) = text.parse() {
            return Some(Package::Digest(digest));
        }
        if text.contains('@') {
            return Some(Package::Model(text));
        }
        self.wrong_type(node, "`<model>@<version>` or `sha256:<digest>`");
        None
    }

    /// Every combination of the listed values, in the order of the keys.
    fn table(&mut self, node: &Node, base: &RequestContext) -> Vec<RequestContext> {
        let mut contexts = vec![base.clone()];
        let mut expand =
            |reader: &mut Self, node: &Node, values: usize, apply: &dyn Fn(&mut RequestContext, usize)| {
                if contexts.len().saturating_mul(values) > MAX_CONTEXTS {
                    let message = format!("the case stands for more than {MAX_CONTEXTS} contexts");
                    reader.problem(node.position, message, None, None);
                    return;
                }
                contexts = contexts
                    .iter()
                    .flat_map(|context| {
                        (0..values).map(move |index| {
                            let mut context = context.clone();
                            apply(&mut context, index);
                            context
                        })
                    })
                    .collect();
            };
        for Entry { key, value, .. } in self.fields(node, FOR_KEYS) {
            if key == "attributes" {
                for Entry { key, value, .. } in self.entries(value, "a mapping from attributes to lists") {
                    let values: Vec<Attribute> =
                        self.list(value).iter().filter_map(|item| self.attribute(item)).collect();
                    expand(self, value, values.len(), &|context, index| {
                        context
                            .attributes
                            .extend(values.get(index).cloned().map(|value| (key.clone(), value)));
                    });
                }
                continue;
            }
            let values = self.texts(value);
            expand(self, value, values.len(), &|context, index| {
                let Some(value) = values.get(index).cloned() else { return };
                match key.as_str() {
                    "routes" => context.route = value,
                    "users" => context.user = Some(value),
                    "symbols" => context.symbol = Some(value),
                    "tenants" => context.tenant = Some(value),
                    "sessions" => context.session = Some(value),
                    _ => context.variant = Some(value),
                }
            });
        }
        if contexts.is_empty() {
            self.problem(
                node.position,
                "the case stands for no context".to_owned(),
                Some("values".to_owned()),
                None,
            );
        }
        contexts
    }

    fn population(&mut self, node: &Node, base: RequestContext) -> Option<(Contexts, Expectation)> {
        let (mut units, mut prefix, mut expect) = (None, None, None);
        for entry in self.fields(node, POPULATION_KEYS) {
            match entry.key.as_str() {
                "prefix" => prefix = self.text(&entry.value),
                "expect" => expect = Some(&entry.value),
                _ if units.is_some() => {
                    let message = "a population varies one field".to_owned();
                    self.problem(entry.position, message, None, None);
                }
                _ => units = Some(entry),
            }
        }
        let (Some(units), Some(expect)) = (units, expect) else {
            let expected = "`population: { users: 10000, expect: { canary: 10 ± 1 } }`".to_owned();
            self.problem(node.position, "the population is incomplete".to_owned(), Some(expected), None);
            return None;
        };
        let field = Field::ALL.into_iter().find(|field| units.key.strip_suffix('s') == Some(field.name()))?;
        let values = match &units.value.value {
            Value::Number(text) => match text.parse().ok().filter(|count| (1..=1_000_000).contains(count)) {
                Some(count) => {
                    let prefix = prefix.unwrap_or_else(|| format!("{}-", field.name()));
                    Values::Numbered { prefix, count }
                }
                None => {
                    self.wrong_type(&units.value, "a number from 1 to 1000000, or a list");
                    return None;
                }
            },
            _ => Values::Listed(self.texts(&units.value)),
        };
        let mut shares = Vec::new();
        for Entry { key, value, position } in self.entries(expect, "a mapping from variants to shares") {
            let share = match &value.value {
                Value::Number(text) => number(text).map(Tolerance::About),
                Value::Text(text) => tolerance(text),
                _ => None,
            };
            match share {
                Some(share) => shares.push((position.line, key.clone(), share)),
                None => self.wrong_type(value, "percent, such as `10`, `10 ± 1` or `9.5..10.5`"),
            }
        }
        Some((Contexts::Generated { base, field, values }, Expectation::Shares(shares)))
    }

    fn expectation(&mut self, node: &Node) -> Option<Expectation> {
        let line = node.position.line;
        match &node.value {
            Value::Text(text) if text == UNKNOWN_ROUTE => return Some(Expectation::UnknownRoute(line)),
            Value::Mapping(_) => {}
            _ => {
                self.wrong_type(node, "a mapping, or `unknown_route`");
                return None;
            }
        }
        let mut expected = Vec::new();
        for Entry { key, value, position } in self.fields(node, EXPECT_KEYS) {
            match value.to_json().ok().and_then(|text| serde_json::from_str(&text).ok()) {
                Some(json) => {
                    self.known(key, &json, value);
                    expected.push((position.line, key.clone(), json));
                }
                None => self.wrong_type(value, "a value that JSON has"),
            }
        }
        if expected.is_empty() && self.problems.is_empty() {
            let message = "nothing is expected".to_owned();
            self.problem(node.position, message, Some("`{ variant: … }`".to_owned()), None);
        }
        Some(Expectation::Decision(expected))
    }

    /// Refuses what no decision can say.
    fn known(&mut self, key: &str, expected: &Json, node: &Node) {
        let numeric = matches!(key, "bucket" | "stage" | "window");
        if key == "payload" {
            return;
        }
        let names: Vec<&str> = match key {
            "reason" => Reason::ALL.iter().map(|reason| reason.name()).collect(),
            "step" => Step::ALL.iter().map(|step| step.name()).collect(),
            "flags" => FLAGS.to_vec(),
            "placement" => crate::Placement::ALL.iter().map(|placement| placement.name()).collect(),
            _ => Vec::new(),
        };
        for value in any_of(expected) {
            let right = match value {
                Json::Null => true,
                Json::Number(_) => numeric,
                Json::String(text) => !numeric && (names.is_empty() || names.contains(&text.as_str())),
                _ => false,
            };
            if right {
                continue;
            }
            match value.as_str().filter(|_| !names.is_empty()) {
                Some(text) => {
                    let expected = format!("one of {}", list_of(names.iter().copied()));
                    let hint = suggestion(text, names.iter().copied());
                    let one = key.strip_suffix('s').unwrap_or(key);
                    self.problem(node.position, format!("there is no {one} `{text}`"), Some(expected), hint);
                }
                None => self.wrong_type(node, if numeric { "a whole number, or nothing" } else { "text" }),
            }
        }
    }
}

/// `10 ± 1`, `10 +- 1`, `9..11`; a percent sign may follow each number.
fn tolerance(text: &str) -> Option<Tolerance> {
    let percent = |text: &str| {
        let number = number(text.trim().trim_end_matches('%').trim())?;
        (0.0..=100.0).contains(&number).then_some(number)
    };
    if let Some((low, high)) = text.split_once("..") {
        let (low, high) = (percent(low)?, percent(high)?);
        return (low <= high).then_some(Tolerance::Within(low, high));
    }
    let parts = ["±", "+-", "+/-"].into_iter().find_map(|sign| text.split_once(sign));
    match parts {
        Some((share, off)) => {
            let (share, off) = (percent(share)?, percent(off)?);
            Some(Tolerance::Within(share - off, share + off))
        }
        None => percent(text).map(Tolerance::About),
    }
}
