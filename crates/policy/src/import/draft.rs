//! A policy under construction: what the importers of all systems write into.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Extent, Loss, Models, PLACEHOLDER_MODEL, System, yaml};
use crate::check::check_name;
use crate::diagnostic::write_key;
use crate::profiles::bucket_in;
use crate::{Algorithm, Field};

/// Longer names are cut; two more characters leave room for a number.
const MAX_NAME: usize = 120;

pub(super) struct Draft {
    /// The hash of the assignments.
    pub(super) hash: Algorithm,
    /// Attributes that are fields.
    pub(super) fields: BTreeMap<String, Field>,
    layers: BTreeMap<(Algorithm, String), String>,
    pub(super) segments: Vec<(String, Value)>,
    pub(super) routes: Vec<Route>,
    pub(super) losses: Vec<Loss>,
}

pub(super) struct Route {
    pub(super) name: String,
    /// The flag's name, and its place in the input.
    pub(super) flag: String,
    pub(super) path: String,
    pub(super) description: Option<String>,
    pub(super) enabled: bool,
    pub(super) variants: Vec<Variant>,
    pub(super) baseline: String,
    /// The variant that stands for "on" without a variant.
    pub(super) plain: Option<String>,
    rules: Vec<Rule>,
    default: Serve,
    /// Nothing after this can match.
    closed: bool,
}

pub(super) struct Variant {
    pub(super) name: String,
    pub(super) payload: Option<Value>,
    model: String,
}

struct Rule {
    name: String,
    condition: Condition,
    serve: Serve,
}

#[derive(Clone)]
pub(super) enum Serve {
    Variant(String),
    Split { layer: String, unit: Vec<Subject>, weights: Vec<(String, u32)> },
}

/// What another system calls an attribute of its context.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Field(Field),
    Attribute(String),
}

/// A condition, without what is always or never true in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    Always,
    Never,
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Test(Value),
}

/// Why something has no equal here.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) path: String,
    pub(super) reason: String,
    pub(super) advice: String,
}

pub(super) fn refuse<T>(
    path: &str,
    reason: impl Into<String>,
    advice: impl Into<String>,
) -> Result<T, Refusal> {
    Err(Refusal { path: path.to_owned(), reason: reason.into(), advice: advice.into() })
}

impl Draft {
    pub(super) fn new(hash: Algorithm, fields: BTreeMap<String, Field>) -> Self {
        let (layers, segments) = (BTreeMap::new(), Vec::new());
        Self { hash, fields, layers, segments, routes: Vec::new(), losses: Vec::new() }
    }

    /// What the other system's attribute is here.
    pub(super) fn subject(&self, attribute: &str) -> Subject {
        match self.fields.get(attribute) {
            Some(field) => Subject::Field(*field),
            None => Subject::Attribute(attribute.to_owned()),
        }
    }

    /// The name of the layer with this hash and salt.
    pub(super) fn layer(&mut self, hash: Algorithm, salt: &str) -> String {
        if let Some(name) = self.layers.get(&(hash, salt.to_owned())) {
            return name.clone();
        }
        let wanted = if salt.is_empty() { hash.name().to_owned() } else { format!("{}.{salt}", hash.name()) };
        let name = free_name(&wanted, |name| self.layers.values().any(|taken| taken == name));
        self.layers.insert((hash, salt.to_owned()), name.clone());
        name
    }

    pub(super) fn lose(
        &mut self,
        flag: &str,
        path: &str,
        extent: Extent,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let loss = Loss {
            flag: flag.to_owned(),
            path: path.to_owned(),
            extent,
            reason: reason.into(),
            advice: advice.into(),
        };
        if !self.losses.contains(&loss) {
            self.losses.push(loss);
        }
    }

    /// Begins the route of a flag.
    pub(super) fn route(&mut self, flag: &str, path: &str) -> Route {
        let name = free_name(flag, |name| self.routes.iter().any(|route| route.name == name));
        if name != flag {
            let reason = format!("`{flag}` cannot name a route; the route is called `{name}`");
            self.lose(flag, path, Extent::Name, reason, "ask for the route by its new name");
        }
        Route {
            name,
            flag: flag.to_owned(),
            path: path.to_owned(),
            description: None,
            enabled: true,
            variants: Vec::new(),
            baseline: String::new(),
            plain: None,
            rules: Vec::new(),
            default: Serve::Variant(String::new()),
            closed: false,
        }
    }

    /// The name of the route that a flag has become.
    pub(super) fn route_of(&self, flag: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.flag == flag)
    }

    /// Says of a flag that it has no route.
    pub(super) fn refuse_flag(&mut self, flag: &str, refusal: Refusal) {
        let Refusal { path, reason, advice } = refusal;
        self.lose(flag, &path, Extent::Flag, reason, advice);
    }

    /// Takes out the routes with these names, for these reasons.
    pub(super) fn refuse(&mut self, refused: &BTreeMap<String, String>) {
        let (gone, kept) = std::mem::take(&mut self.routes)
            .into_iter()
            .partition(|route: &Route| refused.contains_key(&route.name));
        self.routes = kept;
        for route in gone {
            // What was noted about parts of it no longer matters.
            self.losses.retain(|loss| loss.flag != route.flag || loss.extent == Extent::Flag);
            let reason = refused.get(&route.name).cloned().unwrap_or_default();
            self.lose(
                &route.flag,
                &route.path,
                Extent::Flag,
                reason,
                "change the flag, or write its route by hand",
            );
        }
    }

    /// The name of the route to which this path of a written policy belongs.
    pub(super) fn route_at(&self, path: &str) -> Option<String> {
        let routes = self.routes.iter().map(|route| route.name.as_str());
        let holds = |name: &str| {
            let mut prefix = "routes".to_owned();
            // Writing into a string cannot fail.
            let _ = write_key(&mut prefix, false, name);
            path.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        routes.filter(|name| holds(name)).max_by_key(|name| name.len()).map(str::to_owned)
    }

    /// Gives every variant its model version; returns which entries of the map were used.
    pub(super) fn assign_models(&mut self, models: &Models) -> BTreeSet<(String, String)> {
        let mut used = BTreeSet::new();
        let mut open = Vec::new();
        for route in &mut self.routes {
            let mut missing = Vec::new();
            for variant in &mut route.variants {
                let (model, entry) = models.get(&route.flag, &variant.name);
                used.extend(entry);
                if model.is_none() {
                    missing.push(variant.name.clone());
                }
                model.unwrap_or(PLACEHOLDER_MODEL).clone_into(&mut variant.model);
            }
            if !missing.is_empty() {
                open.push((route.flag.clone(), route.path.clone(), missing));
            }
        }
        for (flag, path, missing) in open {
            let reason = format!(
                "nothing says which model version {} {}",
                list(&missing),
                if missing.len() == 1 { "runs" } else { "run" }
            );
            let advice = format!("replace `{PLACEHOLDER_MODEL}`, or import with a map of models");
            self.lose(&flag, &path, Extent::Name, reason, advice);
        }
        used
    }

    /// The policy source.
    pub(super) fn write(&self, system: System, file: &str) -> String {
        let mut out = self.header(system, file);
        out.push_str("lockgate: 1\n");
        let models: BTreeSet<&str> = self
            .routes
            .iter()
            .flat_map(|route| &route.variants)
            .map(|variant| variant.model.as_str())
            .collect();
        section(&mut out, "models", &object(models.iter().map(|model| ((*model).to_owned(), json!({})))));
        section(&mut out, "segments", &object(self.segments.iter().cloned()));
        let used: BTreeSet<String> = self.routes.iter().flat_map(Route::layers).collect();
        let layers = self.layers.iter().filter(|(_, name)| used.contains(*name));
        let layers =
            layers.map(|((hash, salt), name)| (name.clone(), json!({ "hash": hash.name(), "salt": salt })));
        let layers: BTreeMap<String, Value> = layers.collect();
        section(&mut out, "layers", &object(layers));
        let routes = object(self.routes.iter().map(|route| (route.name.clone(), route.write())));
        if self.routes.is_empty() {
            out.push_str("\nroutes: {}\n");
        } else {
            section(&mut out, "routes", &routes);
        }
        out
    }

    fn header(&self, system: System, file: &str) -> String {
        let file: String = file.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut out = format!(
            "# Made from {file}, flags of {}, by `lockgate policy import`: {} routes.\n# Every unit keeps the variant that it has there, in the layers with `hash:`; docs/profiles.md says how.\n",
            system.name(),
            self.routes.len()
        );
        if self.losses.is_empty() {
            out.push_str("# Everything was kept.\n");
        } else {
            out.push_str("#\n# Not kept:\n");
        }
        for loss in &self.losses {
            let line = format!("{} at {}: {}; {}", loss.flag, loss.path, loss.reason, loss.advice);
            let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            out.push_str(&format!("# - {line}\n"));
        }
        out.push('\n');
        out
    }
}

impl Route {
    /// Adds a variant under a name that no other one has.
    pub(super) fn variant(&mut self, wanted: &str, payload: Option<Value>) -> String {
        let name = free_name(wanted, |name| self.variants.iter().any(|variant| variant.name == name));
        self.variants.push(Variant { name: name.clone(), payload, model: PLACEHOLDER_MODEL.to_owned() });
        name
    }

    /// Adds a rule; one that always matches ends the list.
    pub(super) fn rule(&mut self, wanted: &str, condition: Condition, serve: Serve) {
        if self.closed {
            return;
        }
        match condition {
            Condition::Never => {}
            Condition::Always => self.close(serve),
            condition => {
                let name = free_name(wanted, |name| {
                    self.rules.iter().any(|rule| rule.name == name) || name == "default"
                });
                self.rules.push(Rule { name, condition, serve });
            }
        }
    }

    /// What serves when no rule matches, unless a rule always does.
    pub(super) fn close(&mut self, serve: Serve) {
        if !self.closed {
            self.default = serve;
            self.closed = true;
        }
    }

    fn layers(&self) -> Vec<String> {
        let mut layers = Vec::new();
        for serve in self.rules.iter().map(|rule| &rule.serve).chain([&self.default]) {
            if let Serve::Split { layer, .. } = serve {
                layers.push(layer.clone());
            }
        }
        self.rules.iter().for_each(|rule| rule.condition.layers(&mut layers));
        layers
    }

    fn write(&self) -> Value {
        let mut route = Map::new();
        if let Some(description) = &self.description {
            route.insert("description".to_owned(), json!(description));
        }
        if !self.enabled {
            route.insert("enabled".to_owned(), json!(false));
        }
        let variants = self.variants.iter().map(|variant| {
            let mut fields = Map::new();
            fields.insert("model".to_owned(), json!(variant.model));
            if let Some(payload) = &variant.payload {
                fields.insert("payload".to_owned(), payload.clone());
            }
            (variant.name.clone(), Value::Object(fields))
        });
        route.insert("variants".to_owned(), object(variants));
        route.insert("baseline".to_owned(), json!(self.baseline));
        if !self.rules.is_empty() {
            let rules = self.rules.iter().map(|rule| {
                let mut fields = Map::new();
                fields.insert("name".to_owned(), json!(rule.name));
                fields.insert("if".to_owned(), rule.condition.write());
                rule.serve.write(&mut fields);
                Value::Object(fields)
            });
            route.insert("rules".to_owned(), rules.collect());
        }
        let mut default = Map::new();
        self.default.write(&mut default);
        route.insert("default".to_owned(), Value::Object(default));
        Value::Object(route)
    }
}

impl Serve {
    fn write(&self, fields: &mut Map<String, Value>) {
        match self {
            Self::Variant(name) => {
                fields.insert("serve".to_owned(), json!(name));
            }
            Self::Split { layer, unit, weights } => {
                fields.insert("layer".to_owned(), json!(layer));
                fields.insert("unit".to_owned(), write_unit(unit));
                fields.insert(
                    "weights".to_owned(),
                    object(weights.iter().map(|(name, weight)| (name.clone(), json!(weight)))),
                );
            }
        }
    }
}

impl Subject {
    /// A test of it.
    #[expect(clippy::needless_pass_by_value, reason = "the value becomes a part of the test")]
    pub(super) fn test(&self, key: &str, value: Value) -> Condition {
        let test = match self {
            Self::Field(field) => json!({ field.name(): { key: value } }),
            Self::Attribute(name) => json!({ "attribute": name, key: value }),
        };
        Condition::Test(test)
    }

    pub(super) fn present(&self) -> Condition {
        self.test("present", json!(true))
    }

    pub(super) fn absent(&self) -> Condition {
        self.test("present", json!(false))
    }

    fn write(&self) -> Value {
        match self {
            Self::Field(field) => json!(field.name()),
            Self::Attribute(name) => json!({ "attribute": name }),
        }
    }
}

fn write_unit(unit: &[Subject]) -> Value {
    match unit {
        [only] => only.write(),
        several => several.iter().map(Subject::write).collect(),
    }
}

impl Condition {
    pub(super) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::Always => {}
                Self::Never => return Self::Never,
                Self::All(parts) => kept.extend(parts),
                other => kept.push(other),
            }
        }
        match kept.pop() {
            None => Self::Always,
            Some(only) if kept.is_empty() => only,
            Some(last) => {
                kept.push(last);
                Self::All(kept)
            }
        }
    }

    pub(super) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::Never => {}
                Self::Always => return Self::Always,
                Self::Any(parts) => kept.extend(parts),
                other => kept.push(other),
            }
        }
        match kept.pop() {
            None => Self::Never,
            Some(only) if kept.is_empty() => only,
            Some(last) => {
                kept.push(last);
                Self::Any(kept)
            }
        }
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::Always => Self::Never,
            Self::Never => Self::Always,
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    pub(super) fn constant(value: bool) -> Self {
        if value { Self::Always } else { Self::Never }
    }

    /// The unit's bucket is one of [from, below).
    pub(super) fn bucket(layer: &str, unit: &Subject, scale: u32, from: u32, below: u32) -> Self {
        if from >= below {
            return Self::Never;
        }
        // Divisors of 100 000 only, so that every bound has at most three decimals.
        let percent = |bucket: u32| {
            let percent = f64::from(bucket) * 100.0 / f64::from(scale);
            if percent.fract() == 0.0 { json!(percent as u32) } else { json!(percent) }
        };
        let mut test = json!({ "layer": layer, "unit": unit.write() });
        if let Some(test) = test.as_object_mut() {
            if from > 0 {
                test.insert("from".to_owned(), percent(from));
            }
            test.insert("below".to_owned(), percent(below));
        }
        Self::Test(json!({ "bucket": test }))
    }

    fn layers(&self, layers: &mut Vec<String>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.layers(layers)),
            Self::Not(inner) => inner.layers(layers),
            Self::Test(test) => {
                let layer = test.get("bucket").and_then(|bucket| bucket.get("layer"));
                layers.extend(layer.and_then(Value::as_str).map(str::to_owned));
            }
            Self::Always | Self::Never => {}
        }
    }

    pub(super) fn write(&self) -> Value {
        match self {
            Self::All(parts) => json!({ "all": parts.iter().map(Self::write).collect::<Vec<_>>() }),
            Self::Any(parts) => json!({ "any": parts.iter().map(Self::write).collect::<Vec<_>>() }),
            Self::Not(inner) => json!({ "not": inner.write() }),
            Self::Test(test) => test.clone(),
            // Rules with these are never written; a segment may have one.
            Self::Always => {
                json!({ "any": [{ "user": { "present": true } }, { "user": { "present": false } }] })
            }
            Self::Never => {
                json!({ "all": [{ "user": { "present": true } }, { "user": { "present": false } }] })
            }
        }
    }
}

/// The variant of a unit whose text is known now.
pub(super) fn assigned<'w>(
    hash: Algorithm,
    salt: &str,
    unit: &str,
    weights: &'w [(String, u32)],
) -> Option<&'w str> {
    let scale = weights.iter().map(|(_, weight)| *weight).sum();
    let bucket = bucket_in(hash, scale, salt, [unit].into_iter());
    let mut end = 0;
    let found = weights.iter().find(|(_, weight)| {
        end += weight;
        bucket < end
    });
    found.map(|(name, _)| name.as_str())
}

/// A text as a regular expression that finds it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if !c.is_ascii_alphanumeric()
            && !matches!(
                c,
                ' ' | '_'
                    | '-'
                    | '@'
                    | ':'
                    | ','
                    | '/'
                    | '='
                    | '\''
                    | '"'
                    | '!'
                    | '#'
                    | '%'
                    | '&'
                    | ';'
                    | '<'
                    | '>'
                    | '~'
                    | '`'
            )
        {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Every letter of an ASCII expression in both cases, and with what else becomes that letter in lower case.
pub(super) fn either_case(pattern: &str) -> String {
    let mut out = String::new();
    for c in pattern.chars() {
        match c.to_ascii_lowercase() {
            'k' => out.push_str("[kK\u{212A}]"),
            lower @ 'a'..='z' => out.extend(['[', lower, lower.to_ascii_uppercase(), ']']),
            other => out.push(other),
        }
    }
    out
}

/// `wanted` as a name that nobody has: other characters become `-`, and a number is added when it is taken.
pub(super) fn free_name(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut name: String = wanted
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect();
    if check_name(wanted).is_err() {
        name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
        name.truncate(MAX_NAME);
        if name.is_empty() {
            name.push_str("unnamed");
        }
    }
    if !taken(&name) {
        return name;
    }
    name.truncate(MAX_NAME);
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    numbered.into_iter().find(|name| !taken(name)).unwrap_or(name)
}

/// Names in a sentence.
pub(super) fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn object(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Object(entries.into_iter().collect())
}

fn section(out: &mut String, key: &str, value: &Value) {
    if value.as_object().is_some_and(|entries| !entries.is_empty()) {
        out.push('\n');
        out.push_str(key);
        out.push_str(":\n");
        yaml::block(out, value, 1);
    }
}
