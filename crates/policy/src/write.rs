//! From a checked policy back to source: canonical JSON, so that a bundle can carry what it was made of.

use std::collections::BTreeMap;

use crate::check::scalar::write_duration;
use crate::language::{self, WEEKDAYS};
use crate::policy::{
    AttributeTest, Comparison, Condition, GroupKind, Layer, Members, Millis, Pause, Policy, Ramp, Route,
    Scalar, Serve, Share, Shares, TextTest, TimeTest, Unit, UnitPart, VersionComparison, Window,
    write_percent,
};
use crate::{Algorithm, BUCKETS, Field, ShadowLimits, moment};

/// The longest time between two stages that is written as a `hold`.
const LONGEST_HOLD: u64 = 36_525 * 86_400_000;

/// Writes a policy as source, JSON with one line for each part. [`parse`](crate::parse), given a name that ends in `.json`, and
/// [`check`](crate::check) read it back to a policy that is equal but for its file name and the places where things were written.
/// Equal policies give equal texts.
pub fn write_source(policy: &Policy) -> String {
    let mut out = Object::default();
    out.put("lockgate", "1");
    out.option("version", policy.version.map(|version| version.to_string()));
    out.list("freezes", policy.freezes.iter().map(pause));
    if let Some(models) = &policy.models {
        let entries = models.iter().map(|(name, model)| {
            let mut entry = Object::default();
            entry.option("digest", model.digest.map(|digest| text(&format!("sha256:{digest}"))));
            entry.text("placement", model.placement.name());
            (name.to_string(), entry.close())
        });
        out.put("models", lines(entries));
    }
    let tiers = policy.tiers.iter().map(|tier| {
        let mut entry = Object::default();
        entry.text("name", &tier.name);
        entry.members(&tier.members);
        entry.close()
    });
    out.list("tiers", tiers);
    let segments = policy.segments.iter().map(|(name, segment)| {
        let mut entry = Object::default();
        entry.members(&segment.include);
        entry.condition("if", segment.condition.as_ref());
        if segment.exclude != Members::default() {
            let mut exclude = Object::default();
            exclude.members(&segment.exclude);
            entry.put("exclude", exclude.close());
        }
        (name.clone(), entry.close())
    });
    out.section("segments", segments);
    let layers = policy.layers.iter().map(|(name, layer)| {
        let mut entry = Object::default();
        entry.text("hash", layer.layer.algorithm.name());
        entry.text("salt", &layer.layer.salt);
        entry.put("unit", unit(&layer.unit));
        if layer.holdout.buckets() > 0 {
            entry.put("holdout", percent(layer.holdout.buckets(), BUCKETS));
        }
        (name.clone(), entry.close())
    });
    out.section("layers", layers);
    let holdouts = policy.holdouts.iter().map(|(name, holdout)| {
        let mut entry = Object::default();
        entry.put("share", percent(holdout.share.buckets(), BUCKETS));
        entry.put("unit", unit(&holdout.unit));
        entry.text("salt", &holdout.layer.salt);
        entry.option("routes", holdout.routes.as_ref().map(texts));
        (name.clone(), entry.close())
    });
    out.section("holdouts", holdouts);
    routes(&mut out, policy);
    out.open_lines()
}

/// The sections `tenants`, `users` and `routes`.
fn routes(out: &mut Object, policy: &Policy) {
    // The entries by user, by tenant.
    type ByUser<'p> = BTreeMap<Option<&'p str>, Vec<(String, String)>>;
    let mut scopes: BTreeMap<Option<&str>, ByUser<'_>> = BTreeMap::new();
    for (key, definition) in &policy.routes {
        let users = scopes.entry(key.scope.tenant.as_deref()).or_default();
        let entries = users.entry(key.scope.user.as_deref()).or_default();
        entries.push((key.name.clone(), route(definition, &key.layer_name())));
    }
    let mut platform = Vec::new();
    let mut platform_users = Vec::new();
    let mut tenants = Vec::new();
    for (tenant, users) in scopes {
        let (mut own, mut others) = (None, Vec::new());
        for (user, entries) in users {
            match user {
                None => own = Some(entries),
                Some(user) => others.push((user.to_owned(), format!("{{\"routes\":{}}}", lines(entries)))),
            }
        }
        match tenant {
            None => (platform, platform_users) = (own.unwrap_or_default(), others),
            Some(tenant) => {
                let mut entry = Object::default();
                entry.option("routes", own.map(lines));
                entry.section("users", others);
                tenants.push((tenant.to_owned(), entry.close()));
            }
        }
    }
    out.section("tenants", tenants);
    out.section("users", platform_users);
    out.put("routes", lines(platform));
}

fn route(route: &Route, own: &str) -> String {
    let mut out = Object::default();
    out.option("description", route.description.as_deref().map(text));
    if let Some(signature) = &route.signature {
        let tensors = |specs: &[lockgate_package::TensorSpec]| {
            list(specs.iter().map(|spec| {
                let mut entry = Object::default();
                entry.text("name", &spec.name);
                entry.text("datatype", spec.datatype.name());
                entry.put("shape", list(spec.shape.iter().map(ToString::to_string)));
                entry.close()
            }))
        };
        let mut entry = Object::default();
        entry.put("inputs", tensors(&signature.inputs));
        entry.put("outputs", tensors(&signature.outputs));
        out.put("signature", entry.close());
    }
    if !route.enabled {
        out.put("enabled", "false");
    }
    out.condition("access", route.access.as_ref());
    if route.layer.salt != own {
        out.text("salt", &route.layer.salt);
    }
    let variants = route.variants.iter().map(|variant| {
        let mut entry = Object::default();
        entry.text("model", &variant.model.to_string());
        entry.option("payload", variant.payload.clone());
        if !variant.enabled {
            entry.put("enabled", "false");
        }
        entry.option("fallbacks", variant.fallbacks.as_ref().map(texts));
        (variant.name.clone(), entry.close())
    });
    out.put("variants", object(variants));
    out.text("baseline", &route.baseline);
    out.put("fallbacks", texts(&route.fallbacks));
    let overrides = route.overrides.iter().map(|item| {
        let mut entry = Object::default();
        entry.put(&item.field.list_key(), texts(&item.values));
        entry.text("serve", &item.serve);
        entry.close()
    });
    out.list("overrides", overrides);
    let requests = route.requests.iter().map(|item| {
        let mut entry = Object::default();
        entry.text("name", &item.name);
        entry.members(&item.members);
        entry.put("variants", texts(&item.variants));
        entry.close()
    });
    out.list("requests", requests);
    let step =
        |name: &str, window: &Window, members: Option<&Members>, serve: &Serve, when: Option<&Condition>| {
            let mut entry = Object::default();
            entry.text("name", name);
            entry.window(window);
            if let Some(members) = members {
                entry.members(members);
            }
            entry.condition("if", when);
            entry.serve(serve, own);
            entry.close()
        };
    for kind in GroupKind::ALL {
        let groups = route.groups_of(kind);
        out.list(
            kind.section(),
            groups.map(|item| step(&item.name, &item.window, Some(&item.members), &item.serve, None)),
        );
    }
    let rules = route.rules.iter();
    out.list(
        "rules",
        rules.map(|item| step(&item.name, &item.window, None, &item.serve, item.condition.as_ref())),
    );
    let mut default = Object::default();
    default.serve(&route.default, own);
    out.put("default", default.close());
    let shadows = route.shadows.iter().map(|item| {
        let mut entry = Object::default();
        entry.text("name", &item.name);
        entry.text("variant", &item.variant);
        entry.condition("if", item.condition.as_ref());
        entry.window(&item.window);
        entry.put("unit", unit(&item.unit));
        entry.put("sample", percent(item.sample.buckets(), BUCKETS));
        entry.put("limits", limits(&item.limits));
        entry.close()
    });
    out.list("shadows", shadows);
    out.option("records", route.records.map(|share| percent(share.buckets(), BUCKETS)));
    out.close()
}

fn limits(limits: &ShadowLimits) -> String {
    let mut entry = Object::default();
    entry.put("rate", limits.rate.to_string());
    entry.put("concurrency", limits.concurrency.to_string());
    entry.put("bytes", limits.bytes.to_string());
    entry.text("deadline", &write_duration(u64::from(limits.deadline_ms)));
    entry.close()
}

fn pause(pause: &Pause) -> String {
    let mut entry = Object::default();
    entry.window(&Window { from: Some(pause.from), until: pause.until });
    entry.option("reason", pause.reason.as_deref().map(text));
    entry.close()
}

fn ramp(ramp: &Ramp) -> String {
    let mut out = Object::default();
    out.text("from", &ramp.from);
    out.text("start", &written(ramp.start));
    out.put("approved_stage", ramp.approved_stage.to_string());
    if ramp.automatic {
        out.put("automatic", "true");
    }
    out.list("pauses", ramp.pauses.iter().map(pause));
    let stages = ramp.stages.iter().enumerate().map(|(place, stage)| {
        let mut entry = Object::default();
        let before = place.checked_sub(1).and_then(|place| ramp.stages.get(place));
        if before.is_some_and(|before| stage.offset.saturating_sub(before.offset) > LONGEST_HOLD) {
            let offset = i64::try_from(stage.offset).unwrap_or(i64::MAX);
            entry.text("start", &written(ramp.start.saturating_add(offset)));
        }
        entry.put("split", split(&stage.shares));
        let hold = ramp.stages.get(place + 1).map(|next| next.offset.saturating_sub(stage.offset));
        if let Some(hold) = hold.filter(|hold| *hold <= LONGEST_HOLD) {
            entry.text("hold", &write_duration(hold));
        }
        entry.close()
    });
    out.put("stages", list(stages));
    out.close()
}

/// A moment of a checked policy, which lies between the years 0 and 9999.
fn written(at: Millis) -> String {
    moment::format(at).unwrap_or_default()
}

fn split(shares: &Shares) -> String {
    object(shares.parts.iter().map(|(name, width)| (name.clone(), percent(*width, shares.scale))))
}

/// A number of buckets in percent of the scale.
fn percent(width: u32, scale: u32) -> String {
    let thousandths = u64::from(width) * u64::from(BUCKETS) / u64::from(scale).max(1);
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write_percent(thousandths, &mut out);
    out
}

fn unit(unit: &Unit) -> String {
    let part = |part: &UnitPart| match part {
        UnitPart::Field(field) => text(field.name()),
        UnitPart::Attribute(name) => object([("attribute".to_owned(), text(name))]),
    };
    match unit.parts() {
        [only] => part(only),
        parts => list(parts.iter().map(part)),
    }
}

/// A condition as the entries of a mapping: those that the language would need, so that what is written is no deeper than
/// what was read.
fn condition(condition: &Condition) -> Vec<(String, String)> {
    let one = |key: &str, value: String| vec![(key.to_owned(), value)];
    match condition {
        Condition::All(parts) => {
            let several = || (parts.len() > 1).then(|| side_by_side(parts)).flatten();
            of_several(parts).or_else(several).unwrap_or_else(|| all(parts))
        }
        Condition::Any(parts) => one("any", list(parts.iter().map(|part| object(self::condition(part))))),
        Condition::Not(inner) => tests(std::slice::from_ref(condition))
            .unwrap_or_else(|| one("not", object(self::condition(inner)))),
        Condition::Segment(name) => one("segment", text(name)),
        Condition::Tier(name) => one("tier", text(name)),
        Condition::Field(field, TextTest::In(values)) if values.len() == 1 => {
            one(field.name(), values.iter().map(|value| text(value)).collect())
        }
        Condition::Bucket(slice) => {
            let mut entry = Object::default();
            entry.text("layer", &slice.layer.name);
            entry.put("unit", unit(&slice.unit));
            entry.put("from", percent(slice.from, slice.scale));
            entry.put("below", percent(slice.below, slice.scale));
            one("bucket", entry.close())
        }
        Condition::Route { route, serves } => {
            vec![("route".to_owned(), text(route)), ("serves".to_owned(), one_or_more(serves))]
        }
        Condition::Field(..) | Condition::Attribute(..) | Condition::Time(_) => {
            tests(std::slice::from_ref(condition)).unwrap_or_default()
        }
    }
}

/// All of these as a list.
fn all(parts: &[Condition]) -> Vec<(String, String)> {
    vec![("all".to_owned(), list(parts.iter().map(|part| object(condition(part)))))]
}

/// Several conditions in one mapping, when no key occurs twice.
fn side_by_side(parts: &[Condition]) -> Option<Vec<(String, String)>> {
    let entries = parts.iter().flat_map(|part| match part {
        // Its own parts side by side would be read as parts of the whole.
        Condition::All(inner) => of_several(inner).unwrap_or_else(|| all(inner)),
        part => condition(part),
    });
    let entries: Vec<(String, String)> = entries.collect();
    let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    (keys.len() == entries.len()).then_some(entries)
}

/// Several tests of one subject; one alone would not be read as a list of one.
fn of_several(parts: &[Condition]) -> Option<Vec<(String, String)>> {
    if parts.len() > 1 { tests(parts) } else { None }
}

/// What a test is about.
#[derive(PartialEq)]
enum Subject<'p> {
    Field(Field),
    Attribute(&'p str),
    Time(Option<i32>),
}

/// Tests of one subject, when they stand in the order in which the language reads them.
fn tests(parts: &[Condition]) -> Option<Vec<(String, String)>> {
    let alone = parts.len() == 1;
    let mut subject: Option<Subject<'_>> = None;
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut last = None;
    for part in parts {
        let (about, keys, value) = test(part)?;
        let order: Vec<&str> = match about {
            Subject::Field(_) => language::FIELD_TESTS.names().collect(),
            Subject::Attribute(_) => language::CONDITION.names().collect(),
            Subject::Time(_) => language::TIME.names().collect(),
        };
        subject = Some(match (subject, about) {
            (None, about) => about,
            (Some(Subject::Time(one)), Subject::Time(other)) => {
                if one.zip(other).is_some_and(|(one, other)| one != other) {
                    return None;
                }
                Subject::Time(one.or(other))
            }
            (Some(known), about) if known == about => known,
            _ => return None,
        });
        let place = |key: &str| order.iter().position(|known| *known == key);
        let key = keys.iter().find(|key| last.is_none_or(|last| place(key) > last))?;
        last = Some(place(key));
        entries.push(((*key).to_owned(), value(key)));
    }
    Some(match subject? {
        Subject::Field(field) => {
            let single = entries.iter().find(|(key, _)| alone && key == "eq").map(|(_, value)| value.clone());
            vec![(field.name().to_owned(), single.unwrap_or_else(|| object(entries)))]
        }
        Subject::Attribute(name) => {
            entries.insert(0, ("attribute".to_owned(), text(name)));
            entries
        }
        Subject::Time(offset) => {
            if let Some(offset) = offset.filter(|offset| *offset != 0) {
                let sign = if offset < 0 { '-' } else { '+' };
                let ahead = offset.unsigned_abs();
                let offset = format!("{sign}{:02}:{:02}", ahead / 60, ahead % 60);
                entries.push(("offset".to_owned(), text(&offset)));
            }
            vec![("time".to_owned(), object(entries))]
        }
    })
}

type Written<'p> = Box<dyn Fn(&str) -> String + 'p>;

/// What a test is about, the keys by which it can be written, and its value under a key.
fn test(condition: &Condition) -> Option<(Subject<'_>, Vec<&'static str>, Written<'_>)> {
    let fixed = |value: String| -> Written<'_> { Box::new(move |_| value.clone()) };
    let (negative, inner) = match condition {
        Condition::Not(inner) => (true, inner.as_ref()),
        other => (false, other),
    };
    let sets = |single: bool| match (negative, single) {
        (false, true) => vec!["eq", "in"],
        (false, false) => vec!["in"],
        (true, true) => vec!["ne", "not_in"],
        (true, false) => vec!["not_in"],
    };
    let (subject, text_test) = match inner {
        Condition::Field(field, TextTest::In(values)) => {
            let written = move |key: &str| {
                if matches!(key, "eq" | "ne") {
                    values.iter().map(|value| text(value)).collect()
                } else {
                    texts(values)
                }
            };
            return Some((Subject::Field(*field), sets(values.len() == 1), Box::new(written)));
        }
        Condition::Attribute(name, AttributeTest::In(values)) => {
            let written = move |key: &str| {
                if matches!(key, "eq" | "ne") {
                    values.iter().map(scalar).collect()
                } else {
                    list(values.iter().map(scalar))
                }
            };
            return Some((Subject::Attribute(name), sets(values.len() == 1), Box::new(written)));
        }
        Condition::Field(field, TextTest::Present) => {
            return Some((Subject::Field(*field), vec!["present"], fixed((!negative).to_string())));
        }
        Condition::Attribute(name, AttributeTest::Present) => {
            return Some((Subject::Attribute(name), vec!["present"], fixed((!negative).to_string())));
        }
        _ if negative => return None,
        Condition::Field(field, test) => (Subject::Field(*field), test),
        Condition::Attribute(name, AttributeTest::Text(test)) => (Subject::Attribute(name), test),
        Condition::Attribute(name, AttributeTest::Compare(comparison, operand)) => {
            let key = match comparison {
                Comparison::Less => "lt",
                Comparison::LessOrEqual => "lte",
                Comparison::Greater => "gt",
                Comparison::GreaterOrEqual => "gte",
            };
            return Some((Subject::Attribute(name), vec![key], fixed(number(*operand))));
        }
        Condition::Attribute(name, AttributeTest::From(at)) => {
            return Some((Subject::Attribute(name), vec!["from"], fixed(text(&written(*at)))));
        }
        Condition::Attribute(name, AttributeTest::Until(at)) => {
            return Some((Subject::Attribute(name), vec!["until"], fixed(text(&written(*at)))));
        }
        Condition::Time(test) => {
            let (key, offset, value) = time(test);
            return Some((Subject::Time(offset), vec![key], fixed(value)));
        }
        _ => return None,
    };
    let (key, value) = match text_test {
        TextTest::Prefix(values) => ("prefix", one_or_more(values)),
        TextTest::Suffix(values) => ("suffix", one_or_more(values)),
        TextTest::Contains(values) => ("contains", one_or_more(values)),
        TextTest::Matches(pattern) => ("matches", text(pattern)),
        TextTest::Semver(comparators) => ("semver", text(&semver(comparators))),
        // An attribute's set of texts has a form of its own.
        TextTest::In(values) => ("in", texts(values)),
        TextTest::Present => ("present", "true".to_owned()),
    };
    Some((subject, vec![key], fixed(value)))
}

fn time(test: &TimeTest) -> (&'static str, Option<i32>, String) {
    match test {
        TimeTest::From(at) => ("from", None, text(&written(*at))),
        TimeTest::Until(at) => ("until", None, text(&written(*at))),
        TimeTest::Daily { from, until, offset } => {
            let mut entry = Object::default();
            entry.text("from", &time_of_day(*from));
            entry.text("until", &time_of_day(*until));
            ("daily", Some(*offset), entry.close())
        }
        TimeTest::Weekdays { days, offset } => {
            let names = WEEKDAYS.iter().zip(0..).filter(|(_, bit)| days & (1_u8 << bit) != 0);
            ("weekdays", Some(*offset), list(names.map(|((name, _), _)| text(name))))
        }
    }
}

fn time_of_day(millis: u32) -> String {
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let clock = format!("{:02}:{:02}", minutes / 60, minutes % 60);
    match (millis / 1000, millis % 1000) {
        (0, 0) => clock,
        (second, 0) => format!("{clock}:{second:02}"),
        (second, millis) => format!("{clock}:{second:02}.{millis:03}"),
    }
}

fn semver(comparators: &[(VersionComparison, semver::Version)]) -> String {
    let written = comparators.iter().map(|(comparison, version)| {
        let operator = match comparison {
            VersionComparison::Equal => "=",
            VersionComparison::NotEqual => "!=",
            VersionComparison::Less => "<",
            VersionComparison::LessOrEqual => "<=",
            VersionComparison::Greater => ">",
            VersionComparison::GreaterOrEqual => ">=",
        };
        format!("{operator}{version}")
    });
    written.collect::<Vec<_>>().join(" ")
}

fn scalar(value: &Scalar) -> String {
    match value {
        Scalar::Text(value) => text(value),
        Scalar::Number(value) => number(*value),
        Scalar::Boolean(value) => value.to_string(),
    }
}

/// The shortest decimal number that is read back as this one.
fn number(value: f64) -> String {
    serde_json::Value::from(value).to_string()
}

/// A text in quotes. What some reader of YAML or JSON may take for the end of a line or refuse is escaped.
fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\u{2028}' | '\u{2029}' | '\u{feff}' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

fn texts<'a>(values: impl IntoIterator<Item = &'a String>) -> String {
    list(values.into_iter().map(|value| text(value)))
}

/// The only one, or the list of them.
fn one_or_more(values: &std::collections::BTreeSet<String>) -> String {
    if values.len() == 1 { values.iter().map(|value| text(value)).collect() } else { texts(values) }
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

fn object(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let entries = entries.into_iter().map(|(key, value)| format!("{}:{value}", text(&key)));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
}

/// An object with each entry on a line of its own.
fn lines(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let entries = entries.into_iter().map(|(key, value)| format!("{}:{value}", text(&key)));
    let entries: Vec<String> = entries.collect();
    if entries.is_empty() { "{}".to_owned() } else { format!("{{\n{}\n}}", entries.join(",\n")) }
}

/// A JSON object in the making; values are JSON already.
#[derive(Default)]
struct Object {
    entries: Vec<(String, String)>,
}

impl Object {
    fn put(&mut self, key: &str, json: impl Into<String>) {
        self.entries.push((key.to_owned(), json.into()));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.put(key, text(value));
    }

    fn option(&mut self, key: &str, json: Option<String>) {
        if let Some(json) = json {
            self.put(key, json);
        }
    }

    /// A list, unless it is empty.
    fn list(&mut self, key: &str, items: impl IntoIterator<Item = String>) {
        let items: Vec<String> = items.into_iter().collect();
        if !items.is_empty() {
            self.put(key, list(items));
        }
    }

    /// A mapping with an entry a line, unless it is empty.
    fn section(&mut self, key: &str, entries: impl IntoIterator<Item = (String, String)>) {
        let entries: Vec<(String, String)> = entries.into_iter().collect();
        if !entries.is_empty() {
            self.put(key, lines(entries));
        }
    }

    fn condition(&mut self, key: &str, value: Option<&Condition>) {
        if let Some(value) = value {
            self.put(key, object(condition(value)));
        }
    }

    fn window(&mut self, window: &Window) {
        self.option("from", window.from.map(|at| text(&written(at))));
        self.option("until", window.until.map(|at| text(&written(at))));
    }

    fn members(&mut self, members: &Members) {
        for field in Field::ALL {
            if let Some(values) = members.values.get(&field) {
                self.put(&field.list_key(), texts(values));
            }
            if let Some(file) = members.files.get(&field) {
                self.put(&field.list_key(), object([("file".to_owned(), text(file))]));
            }
        }
        if !members.segments.is_empty() {
            self.put("segments", texts(&members.segments));
        }
    }

    fn stick(&mut self, sticks: &Unit, layer: &Layer, own: &str) {
        self.put("unit", unit(sticks));
        if layer.name != own {
            self.text("layer", &layer.name);
        }
    }

    /// What a step serves; `own` is the name of the route's own layer.
    fn serve(&mut self, serve: &Serve, own: &str) {
        match serve {
            Serve::Variant(name) => self.text("serve", name),
            Serve::Split(of) => {
                self.stick(&of.unit, &of.layer, own);
                if of.layer.algorithm == Algorithm::Lockgate {
                    self.put("split", split(&of.shares));
                } else {
                    let parts = of.shares.parts.iter();
                    self.put("weights", object(parts.map(|(name, width)| (name.clone(), width.to_string()))));
                }
            }
            Serve::Ramp(of) => {
                self.stick(&of.unit, &of.layer, own);
                self.put("ramp", ramp(of));
            }
            Serve::Experiment(of) => {
                let total: u32 = of.shares.values().map(|share| share.buckets()).sum();
                let mut entry = Object::default();
                entry.text("layer", &of.layer);
                entry.put("share", percent(total, BUCKETS));
                let parts = of.shares.iter();
                let parts = parts.map(|(name, Share(width))| (name.clone(), percent(*width, total)));
                entry.put("split", object(parts));
                self.put("experiment", entry.close());
            }
            Serve::Switchback(of) => {
                self.put("unit", unit(&of.unit));
                let mut entry = Object::default();
                entry.put("variants", texts(&of.variants));
                entry.text("start", &written(of.start));
                entry.option("end", of.end.map(|end| text(&written(end))));
                entry.text("window", &write_duration(of.window));
                entry.text("washout", &write_duration(of.washout));
                entry.text("seed", &of.seed);
                self.put("switchback", entry.close());
            }
        }
    }

    fn close(self) -> String {
        object(self.entries)
    }

    /// The object with each entry on a line of its own, and an end of line.
    fn open_lines(self) -> String {
        lines(self.entries) + "\n"
    }
}
