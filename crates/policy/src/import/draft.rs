//! A policy under construction: what the importers of all systems write into.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Extent, Loss, Models, PLACEHOLDER_MODEL, System, yaml};
use crate::bundle::format::MAX_VARIANTS;
use crate::check::check_name;
use crate::diagnostic::write_key;
use crate::profiles::bucket_in;
use crate::{Algorithm, Field};

/// Longer names are cut; what is left of the 128 characters that a name may have is for a number.
const MAX_NAME: usize = 120;
/// A flag that becomes more rules than this is left out: nobody could read them, and nested branches double with every level.
const MAX_RULES: usize = 10_000;
/// How many tests and listed values a flag's rules may have beyond what its document accounts for.
const MAX_TESTS: usize = 200_000;
/// How often the rules of a flag may repeat what its document says once.
const MAX_COPIES: usize = 8;
/// How deep a condition or payload may be, so that the source around it stays within the 64 levels of a document.
const MAX_DEPTH: usize = 56;

pub(super) struct Draft {
    /// The hash of the assignments.
    pub(super) hash: Algorithm,
    /// Attributes that are fields.
    pub(super) fields: BTreeMap<String, Field>,
    /// Names of routes and layers, which have no name in common.
    names: Names,
    layers: BTreeMap<(Algorithm, String), String>,
    pub(super) segment_names: Names,
    pub(super) segments: Vec<(String, Value)>,
    pub(super) routes: Vec<Route>,
    /// Where the route of a flag stands in `routes`.
    places: BTreeMap<String, usize>,
    pub(super) losses: Vec<Loss>,
    /// The losses again, to find those that are known.
    known: BTreeSet<(String, String, String)>,
    /// How many tests and listed values a flag may become, and how many of them are left to the one at hand.
    allowed: usize,
    left: usize,
}

pub(super) struct Route {
    pub(super) name: String,
    /// The flag's name, and its place in the input.
    pub(super) flag: String,
    pub(super) path: String,
    pub(super) description: Option<String>,
    pub(super) enabled: bool,
    /// Some contexts are treated otherwise than by the flag, and so by whatever depends on it.
    pub(super) partial: bool,
    pub(super) variant_names: Names,
    pub(super) variants: Vec<Variant>,
    pub(super) baseline: String,
    rules: Vec<Rule>,
    default: Serve,
    /// Nothing after this can match.
    closed: bool,
}

pub(super) struct Variant {
    pub(super) name: String,
    /// What the other system calls it.
    pub(super) original: Option<String>,
    pub(super) payload: Option<Value>,
    model: String,
}

struct Rule {
    /// The name that it gets unless another rule has it.
    wanted: String,
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
    /// One test of a field or attribute.
    Is(Subject, String, Value),
    /// The unit's bucket is in an interval.
    Bucket(Subject, Value),
    /// Something else: a time, a segment, another route.
    Test(Value),
}

/// Names of one kind. Who is called by a name that can be kept keeps it, and the names that are made up go around these.
#[derive(Default)]
pub(super) struct Names {
    kept: BTreeSet<String>,
    taken: BTreeSet<String>,
    /// The next number for a name that is taken.
    next: BTreeMap<String, u32>,
}

/// What is known of a context where a condition is asked.
#[derive(Default)]
pub(super) struct Facts<'p> {
    around: Option<&'p Facts<'p>>,
    own: BTreeMap<Subject, Fact>,
}

#[derive(Default, Clone)]
struct Fact {
    present: Option<bool>,
    /// It has one of these values.
    values: Option<Vec<Value>>,
    /// Tests, and whether they hold.
    tests: Vec<(String, Value, bool)>,
}

/// More facts than these about one attribute are not looked at, so that long lists of branches stay cheap.
const MAX_FACTS: usize = 64;

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
    pub(super) fn new(hash: Algorithm, fields: BTreeMap<String, Field>, document: &Value) -> Self {
        let allowed = values(document).saturating_mul(MAX_COPIES).saturating_add(MAX_TESTS);
        Self {
            hash,
            fields,
            names: Names::default(),
            layers: BTreeMap::new(),
            segment_names: Names::default(),
            segments: Vec::new(),
            routes: Vec::new(),
            places: BTreeMap::new(),
            losses: Vec::new(),
            known: BTreeSet::new(),
            allowed,
            left: allowed,
        }
    }

    /// Says which flags there will be, so that no other name is made up that one of them has.
    pub(super) fn expect<'f>(&mut self, flags: impl IntoIterator<Item = &'f str>) {
        flags.into_iter().for_each(|flag| self.names.keep(flag));
    }

    /// Counts tests and listed values that the flag at hand becomes.
    pub(super) fn spend(&mut self, values: usize, path: &str) -> Result<(), Refusal> {
        let Some(left) = self.left.checked_sub(values) else {
            let reason = format!("its rules have more than {} tests and listed values", self.allowed);
            return refuse(path, reason, "make its targeting flatter, or write its route by hand");
        };
        self.left = left;
        Ok(())
    }

    /// Adds a flag's route, or says why it has none; what was noted about its parts then no longer matters.
    pub(super) fn finish(&mut self, flag: &str, losses: usize, route: Result<Route, Refusal>) {
        match route {
            Ok(mut route) => {
                let noted = self.losses.iter().skip(losses);
                route.partial = noted.into_iter().any(|loss| loss.extent == Extent::Part);
                self.places.insert(flag.to_owned(), self.routes.len());
                self.routes.push(route);
            }
            Err(Refusal { path, reason, advice }) => {
                for loss in self.losses.drain(losses.min(self.losses.len())..) {
                    self.known.remove(&(loss.flag, loss.path, loss.reason));
                }
                self.lose(flag, &path, Extent::Flag, reason, advice);
            }
        }
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
        let name = self.names.invent(&wanted);
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
        if self.known.insert((loss.flag.clone(), loss.path.clone(), loss.reason.clone())) {
            self.losses.push(loss);
        }
    }

    /// Begins the route of a flag.
    pub(super) fn route(&mut self, flag: &str, path: &str) -> Route {
        self.left = self.allowed;
        let name = self.names.own(flag);
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
            partial: false,
            variant_names: Names::default(),
            variants: Vec::new(),
            baseline: String::new(),
            rules: Vec::new(),
            default: Serve::Variant(String::new()),
            closed: false,
        }
    }

    /// The route that a flag has become.
    pub(super) fn route_of(&self, flag: &str) -> Option<&Route> {
        self.places.get(flag).and_then(|place| self.routes.get(*place))
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
            self.known.retain(|(flag, ..)| *flag != route.flag);
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
                let names = [variant.original.as_deref(), Some(variant.name.as_str())];
                let (model, entry) = models.get(&route.flag, names);
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
    /// Adds a variant of the flag, under its own name where that can be kept and no other variant has it.
    pub(super) fn variant(&mut self, original: &str, payload: Option<Value>) -> Result<String, Refusal> {
        let name = self.variant_names.own(original);
        self.add_variant(name, Some(original.to_owned()), payload)
    }

    /// Adds a variant that the flag does not have, under a name that none of its own has.
    pub(super) fn invented_variant(
        &mut self,
        wanted: &str,
        payload: Option<Value>,
    ) -> Result<String, Refusal> {
        let name = self.variant_names.invent(wanted);
        self.add_variant(name, None, payload)
    }

    fn add_variant(
        &mut self,
        name: String,
        original: Option<String>,
        payload: Option<Value>,
    ) -> Result<String, Refusal> {
        if self.variants.len() >= MAX_VARIANTS as usize {
            let reason = format!("it has more than {MAX_VARIANTS} variants");
            return refuse(&self.path, reason, "split it into several flags, or write its route by hand");
        }
        if payload.as_ref().is_some_and(|payload| depth(payload) > MAX_DEPTH) {
            let reason = format!("the value of `{name}` is nested more than {MAX_DEPTH} levels deep");
            return refuse(&self.path, reason, "make the value flatter");
        }
        let model = PLACEHOLDER_MODEL.to_owned();
        self.variants.push(Variant { name: name.clone(), original, payload, model });
        Ok(name)
    }

    /// Adds a rule, unless nothing can match it; one that always matches ends the list.
    pub(super) fn rule(
        &mut self,
        draft: &mut Draft,
        wanted: &str,
        condition: Condition,
        serve: Serve,
    ) -> Result<(), Refusal> {
        if self.closed {
            return Ok(());
        }
        match condition.given(&Facts::default()) {
            Condition::Never => {}
            Condition::Always => self.close(serve),
            _ if self.rules.len() >= MAX_RULES => {
                let reason = format!("it becomes more than {MAX_RULES} rules");
                let advice = "make its targeting flatter, or write its route by hand";
                return refuse(&self.path, reason, advice);
            }
            condition if condition.depth() > MAX_DEPTH => {
                let reason = "its conditions are nested too deeply to be written as policy source";
                return refuse(&self.path, reason, "make them flatter");
            }
            condition => {
                draft.spend(condition.weight(), &self.path)?;
                self.rules.push(Rule { wanted: wanted.to_owned(), condition, serve });
            }
        }
        Ok(())
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
            let mut names = Names::default();
            names.take("default");
            self.rules.iter().for_each(|rule| names.keep(&rule.wanted));
            let rules = self.rules.iter().map(|rule| {
                let mut fields = Map::new();
                fields.insert("name".to_owned(), json!(names.own(&rule.wanted)));
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
    pub(super) fn test(&self, key: &str, value: Value) -> Condition {
        Condition::Is(self.clone(), key.to_owned(), value)
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
            Self::Is(subject, key, Value::Bool(present)) if key == "present" => {
                Self::Is(subject, key, Value::Bool(!present))
            }
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
        Self::Bucket(unit.clone(), test)
    }

    /// The same where these facts are known: without what they decide, and without what its own parts rule out.
    pub(super) fn given(self, facts: &Facts<'_>) -> Self {
        match self {
            Self::Is(subject, key, value) => match facts.decide(&subject, &key, &value) {
                Some(holds) => Self::constant(holds),
                None => Self::Is(subject, key, value),
            },
            Self::Bucket(unit, _) if facts.about(&unit).is_some_and(|fact| fact.present == Some(false)) => {
                Self::Never
            }
            Self::Not(inner) => inner.given(facts).not(),
            Self::Any(parts) => Self::any(parts.into_iter().map(|part| part.given(facts))),
            Self::All(parts) => {
                let mut facts = Facts::within(facts);
                let mut seen = Vec::new();
                for part in parts {
                    let composed = matches!(part, Self::All(_) | Self::Any(_));
                    let part = if composed { part } else { part.given(&facts) };
                    facts.learn(&part, true);
                    seen.push(part);
                }
                Self::all(seen.into_iter().map(|part| match part {
                    part @ (Self::All(_) | Self::Any(_)) => part.given(&facts),
                    part => part,
                }))
            }
            other => other,
        }
    }

    /// How many tests and listed values it has.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::weight).sum(),
            Self::Not(inner) => inner.weight(),
            Self::Is(_, _, value) => values(value),
            Self::Always | Self::Never | Self::Bucket(..) | Self::Test(_) => 1,
        }
    }

    /// How many levels of a document it has.
    fn depth(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                2 + parts.iter().map(Self::depth).max().unwrap_or_default()
            }
            Self::Not(inner) => 1 + inner.depth(),
            _ => 4,
        }
    }

    fn layers(&self, layers: &mut Vec<String>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.layers(layers)),
            Self::Not(inner) => inner.layers(layers),
            Self::Bucket(_, test) => {
                layers.extend(test.get("layer").and_then(Value::as_str).map(str::to_owned));
            }
            Self::Always | Self::Never | Self::Is(..) | Self::Test(_) => {}
        }
    }

    pub(super) fn write(&self) -> Value {
        match self {
            Self::All(parts) => json!({ "all": parts.iter().map(Self::write).collect::<Vec<_>>() }),
            Self::Any(parts) => json!({ "any": parts.iter().map(Self::write).collect::<Vec<_>>() }),
            Self::Not(inner) => json!({ "not": inner.write() }),
            Self::Is(Subject::Field(field), key, value) => json!({ field.name(): { key: value } }),
            Self::Is(Subject::Attribute(name), key, value) => json!({ "attribute": name, key: value }),
            Self::Bucket(_, test) => json!({ "bucket": test }),
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

impl Names {
    /// Keeps a name for whoever is called so, if it can be a name.
    pub(super) fn keep(&mut self, name: &str) {
        if check_name(name).is_ok() {
            self.kept.insert(name.to_owned());
        }
    }

    /// Whether this name is kept for somebody.
    pub(super) fn keeps(&self, name: &str) -> bool {
        self.kept.contains(name)
    }

    fn take(&mut self, name: &str) -> bool {
        self.taken.insert(name.to_owned())
    }

    /// The name itself, if it can be one and nobody has it; else one that is made up.
    pub(super) fn own(&mut self, name: &str) -> String {
        if check_name(name).is_ok() && self.take(name) { name.to_owned() } else { self.invent(name) }
    }

    /// A name like this one that nobody has and none is kept for: other characters become `-`, and a number is added.
    pub(super) fn invent(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        if check_name(wanted).is_err() {
            let plain = |c: char| {
                if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' }
            };
            name = wanted.chars().map(plain).collect();
            name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
            name.truncate(MAX_NAME);
            if name.is_empty() {
                name.push_str("unnamed");
            }
        }
        if !self.kept.contains(&name) && self.take(&name) {
            return name;
        }
        name.truncate(MAX_NAME);
        let number = self.next.entry(name.clone()).or_insert(2);
        loop {
            let numbered = format!("{name}-{number}");
            *number += 1;
            if !self.kept.contains(&numbered) && self.taken.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}

impl<'p> Facts<'p> {
    /// Room for more facts, within what is known.
    pub(super) fn within(around: &'p Facts<'p>) -> Self {
        Self { around: Some(around), own: BTreeMap::new() }
    }

    fn about(&self, subject: &Subject) -> Option<&Fact> {
        let mut facts = Some(self);
        while let Some(here) = facts {
            if let Some(fact) = here.own.get(subject) {
                return Some(fact);
            }
            facts = here.around;
        }
        None
    }

    /// From here on, the condition holds or does not.
    pub(super) fn learn(&mut self, condition: &Condition, holds: bool) {
        match condition {
            Condition::Is(subject, key, value) => {
                let mut fact = self.about(subject).cloned().unwrap_or_default();
                fact.learn(key, value, holds);
                self.own.insert(subject.clone(), fact);
            }
            Condition::Bucket(unit, _) if holds => self.learn(&unit.present(), true),
            Condition::Not(inner) => self.learn(inner, !holds),
            Condition::All(parts) if holds => parts.iter().for_each(|part| self.learn(part, true)),
            Condition::Any(parts) if !holds => parts.iter().for_each(|part| self.learn(part, false)),
            _ => {}
        }
    }

    fn decide(&self, subject: &Subject, key: &str, value: &Value) -> Option<bool> {
        self.about(subject)?.decide(key, value)
    }
}

impl Fact {
    fn learn(&mut self, key: &str, value: &Value, holds: bool) {
        // What is absent fulfils these and nothing else.
        let negation = matches!(key, "ne" | "not_in");
        if key == "present" {
            self.present = value.as_bool().map(|present| present == holds);
            return;
        }
        if holds != negation {
            self.present = Some(true);
        }
        if let Some(values) = &mut self.values {
            values.retain(|known| test(key, value, known).is_none_or(|result| result == holds));
        } else if holds != negation {
            self.values = match (key, value) {
                ("eq" | "ne", value) => Some(vec![value.clone()]),
                ("in" | "not_in", Value::Array(values)) if values.len() <= MAX_FACTS => Some(values.clone()),
                _ => None,
            };
        }
        if self.tests.len() < MAX_FACTS && values(value) <= MAX_FACTS {
            self.tests.push((key.to_owned(), value.clone(), holds));
        }
    }

    fn decide(&self, key: &str, value: &Value) -> Option<bool> {
        if key == "present" {
            return self.present.map(|present| value.as_bool() == Some(present));
        }
        if self.present == Some(false) {
            return Some(matches!(key, "ne" | "not_in"));
        }
        if let Some((.., holds)) = self.tests.iter().find(|(k, v, _)| k == key && v == value) {
            return Some(*holds);
        }
        let mut results = self.values.iter().flatten().map(|known| test(key, value, known));
        let first = results.next()??;
        results.all(|result| result == Some(first)).then_some(first)
    }
}

/// Whether a value that is known fulfils a test; `None` where this is not worked out.
fn test(key: &str, expected: &Value, known: &Value) -> Option<bool> {
    let same = |expected: &Value| match (expected.as_f64(), known.as_f64()) {
        (Some(expected), Some(known)) => expected == known,
        _ => expected == known,
    };
    let parts = expected.as_array().map_or(std::slice::from_ref(expected), Vec::as_slice);
    let any = |holds: fn(&str, &str) -> bool| {
        let holds =
            |part: &Value| known.as_str().zip(part.as_str()).is_some_and(|(text, part)| holds(text, part));
        Some(parts.iter().any(holds))
    };
    match key {
        "eq" => Some(same(expected)),
        "ne" => Some(!same(expected)),
        "in" => Some(parts.iter().any(same)),
        "not_in" => Some(!parts.iter().any(same)),
        "prefix" => any(|text, part| text.starts_with(part)),
        "suffix" => any(|text, part| text.ends_with(part)),
        "contains" => any(|text, part| text.contains(part)),
        _ => None,
    }
}

/// How many values that are no lists or objects there are in it.
fn values(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(entries) => entries.values().map(values).sum(),
        _ => 1,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(entries) => 1 + entries.values().map(depth).max().unwrap_or_default(),
        _ => 1,
    }
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
