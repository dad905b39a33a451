//! GrowthBook's features: every rule becomes a rule, in order; an experiment's variations become a split.
//!
//! GrowthBook compares fractions in doubles. There are as many fractions as buckets, so the importer asks of each bucket on
//! which side of a bound it falls, and writes whole buckets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::draft::{Condition, Draft, Refusal, Route, Serve, Subject, either_case, escape, refuse};
use super::{Extent, kind, unknown_keys};
use crate::Algorithm;
use crate::check::check_name;

const BY_HAND: &str = "see whether it changes what the feature gives, and write that by hand";
/// Prerequisites of prerequisites beyond this are refused; cycles are.
const MAX_DEPTH: usize = 32;

pub(super) fn import(document: &Value, draft: &mut Draft) -> Result<(), String> {
    if document.get("encryptedFeatures").and_then(Value::as_str).is_some_and(|text| !text.is_empty()) {
        return Err(
            "the features are encrypted; decrypt them, or ask the server for an unencrypted SDK connection"
                .to_owned(),
        );
    }
    let features = match document.get("features") {
        Some(features) => features.as_object(),
        // The features alone, as some tools keep them.
        None => document.as_object().filter(|features| {
            features
                .values()
                .all(|feature| feature.get("rules").is_some() || feature.get("defaultValue").is_some())
        }),
    };
    let Some(features) = features else {
        return Err("this is no payload of GrowthBook: it has no mapping `features`".to_owned());
    };
    if document.get("features").is_some() {
        let known = [
            "features",
            "savedGroups",
            "dateUpdated",
            "status",
            "encryptedFeatures",
            "encryptedSavedGroups",
            "experiments",
            "contextualBandits",
        ];
        for key in unknown_keys(document, &known) {
            draft.lose("", key, Extent::Part, format!("the key `{key}` is unknown"), BY_HAND);
        }
    }
    for (experiment, index) in
        document.get("experiments").and_then(Value::as_array).into_iter().flatten().zip(0..)
    {
        let name = experiment.get("key").and_then(Value::as_str).unwrap_or_default();
        draft.lose(
            name,
            &format!("experiments[{index}]"),
            Extent::Flag,
            "an experiment that changes pages in the browser chooses no model",
            "leave it where it is",
        );
    }
    let groups = document.get("savedGroups").and_then(Value::as_object).into_iter().flatten();
    draft.expect(features.keys().map(String::as_str));
    let groups: BTreeMap<&str, &Value> = groups.map(|(id, group)| (id.as_str(), group)).collect();
    groups.keys().for_each(|id| draft.segment_names.keep(id));
    let mut importer = Importer { draft, groups, segments: BTreeMap::new() };
    let mut open: BTreeSet<&str> = features.keys().map(String::as_str).collect();
    // Features come after those that they ask for.
    for _ in 0..MAX_DEPTH {
        let ready = |feature: &Value| asked_for(feature).iter().all(|asked| !open.contains(asked.as_str()));
        let mut waiting = BTreeSet::new();
        for (name, feature) in features.iter().filter(|(name, _)| open.contains(name.as_str())) {
            if ready(feature) {
                importer.feature(name, feature);
            } else {
                waiting.insert(name.as_str());
            }
        }
        open = waiting;
    }
    for name in features.keys().filter(|name| open.contains(name.as_str())) {
        let path = format!("features.{name}");
        importer.draft.lose(
            name,
            &path,
            Extent::Flag,
            "its prerequisites ask for it in turn",
            "break the cycle",
        );
    }
    Ok(())
}

/// The features that a feature asks for.
fn asked_for(feature: &Value) -> Vec<String> {
    let rules = feature.get("rules").and_then(Value::as_array).into_iter().flatten();
    let parents = rules.filter_map(|rule| rule.get("parentConditions")?.as_array()).flatten();
    parents.filter_map(|parent| Some(parent.get("id")?.as_str()?.to_owned())).collect()
}

struct Importer<'a> {
    draft: &'a mut Draft,
    groups: BTreeMap<&'a str, &'a Value>,
    /// The segments that saved groups have become, by group and attribute.
    segments: BTreeMap<(String, Subject), String>,
}

struct Hashed {
    algorithm: Algorithm,
    layer: String,
    unit: Subject,
}

impl Importer<'_> {
    fn feature(&mut self, name: &str, feature: &Value) {
        let losses = self.draft.losses.len();
        let route = self.route(name, feature);
        self.draft.finish(name, losses, route);
    }

    fn lose(
        &mut self,
        flag: &str,
        path: &str,
        extent: Extent,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.draft.lose(flag, path, extent, reason, advice);
    }

    fn route(&mut self, name: &str, feature: &Value) -> Result<Route, Refusal> {
        let path = format!("features.{name}");
        if !feature.is_object() {
            let reason = format!("a feature is a mapping, and this is {}", kind(feature));
            return refuse(&path, reason, "write `defaultValue` and `rules`");
        }
        let mut route = self.draft.route(name, &path);
        for key in unknown_keys(feature, &["defaultValue", "rules", "description", "project", "metadata"]) {
            self.lose(
                name,
                &format!("{path}.{key}"),
                Extent::Part,
                format!("the key `{key}` is unknown"),
                BY_HAND,
            );
        }
        route.description = feature
            .get("description")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned);
        let default = feature.get("defaultValue").cloned().unwrap_or_default();
        let mut variants = Variants { names: Vec::new(), metas: keep_names(&mut route, &default, feature) };
        let default = variants.first(&mut route, &default)?;
        route.baseline.clone_from(&default);
        for (rule, index) in feature.get("rules").and_then(Value::as_array).into_iter().flatten().zip(0..) {
            let path = format!("{path}.rules[{index}]");
            self.rule(&mut route, &mut variants, name, rule, &path)?;
        }
        route.close(Serve::Variant(default));
        Ok(route)
    }

    fn rule(
        &mut self,
        route: &mut Route,
        variants: &mut Variants,
        flag: &str,
        rule: &Value,
        path: &str,
    ) -> Result<(), Refusal> {
        let known = [
            "id",
            "condition",
            "parentConditions",
            "force",
            "variations",
            "weights",
            "key",
            "hashAttribute",
            "hashVersion",
            "coverage",
            "range",
            "ranges",
            "namespace",
            "filters",
            "meta",
            "seed",
            "name",
            "phase",
            "tracks",
            "disableStickyBucketing",
            "fallbackAttribute",
            "bucketVersion",
            "minBucketVersion",
            "description",
            "enabled",
        ];
        for key in unknown_keys(rule, &known) {
            self.lose(
                flag,
                &format!("{path}.{key}"),
                Extent::Part,
                format!("the key `{key}` is unknown"),
                BY_HAND,
            );
        }
        for key in ["fallbackAttribute", "minBucketVersion"] {
            if rule.get(key).is_some_and(|value| !value.is_null() && *value != json!(0))
                && rule.get("disableStickyBucketing") != Some(&json!(true))
            {
                let reason = format!("`{key}` concerns assignments that are stored; here nothing is stored");
                self.lose(flag, &format!("{path}.{key}"), Extent::Part, reason, "leave it out unless a sticky bucket service is in use; otherwise list the stored units as overrides");
            }
        }
        let id = rule.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let key = rule.get("key").and_then(Value::as_str).filter(|key| !key.is_empty());
        let title = id.or(key).unwrap_or("rule").to_owned();
        let mut all = Vec::new();
        for (parent, index) in
            rule.get("parentConditions").and_then(Value::as_array).into_iter().flatten().zip(0..)
        {
            let path = format!("{path}.parentConditions[{index}]");
            let holds = self.parent(parent, &path)?;
            let id = parent.get("id").and_then(Value::as_str).unwrap_or_default();
            if self.draft.route_of(id).is_some_and(|parent| parent.partial) {
                let reason = format!("it depends on the feature `{id}`, which is not wholly kept");
                self.lose(flag, &path, Extent::Part, reason, "see what is said about that feature");
            }
            if parent.get("gate").and_then(Value::as_bool) == Some(true) {
                // Whoever is stopped at a gate gets no value at all.
                let nothing = variants.first(route, &Value::Null)?;
                let stopped = Condition::all(all.iter().cloned().chain([holds.clone().not()]));
                route.rule(self.draft, &format!("{title}-gate"), stopped, Serve::Variant(nothing))?;
            }
            all.push(holds);
        }
        let filters = rule.get("filters").and_then(Value::as_array);
        for (filter, index) in filters.into_iter().flatten().zip(0..) {
            all.push(self.filter(filter, &format!("{path}.filters[{index}]"))?);
        }
        if let Some(condition) = rule.get("condition").filter(|condition| !condition.is_null()) {
            all.push(self.condition(condition, &format!("{path}.condition"), MAX_DEPTH)?);
        }
        let salt = |otherwise: &str| {
            rule.get("seed")
                .and_then(Value::as_str)
                .filter(|seed| !seed.is_empty())
                .unwrap_or(otherwise)
                .to_owned()
        };
        let attribute =
            rule.get("hashAttribute").and_then(Value::as_str).filter(|name| !name.is_empty()).unwrap_or("id");
        let version =
            rule.get("hashVersion").and_then(Value::as_u64).filter(|version| *version > 0).unwrap_or(1);
        if let Some(value) = rule.get("force") {
            let coverage = rule.get("coverage").and_then(Value::as_f64);
            let range =
                rule.get("range").map(|range| self::range(range, &format!("{path}.range"))).transpose()?;
            if range.is_some() || coverage.is_some() {
                let hashed = self.hashed(version, &salt(flag), attribute, path)?;
                let inside = |n: f64| match (range, coverage) {
                    (Some((start, end)), _) => n >= start && n < end,
                    (None, Some(coverage)) => coverage != 0.0 && n <= coverage,
                    (None, None) => true,
                };
                all.push(hashed.slices(inside));
            }
            let serve = Serve::Variant(variants.first(route, value)?);
            return route.rule(self.draft, &title, Condition::all(all), serve);
        }
        let Some(variations) =
            rule.get("variations").and_then(Value::as_array).filter(|variations| variations.len() > 1)
        else {
            // The SDK skips it.
            return Ok(());
        };
        if filters.is_none()
            && let Some(namespace) = rule.get("namespace").filter(|namespace| !namespace.is_null())
        {
            all.push(self.namespace(namespace, attribute, &format!("{path}.namespace"))?);
        }
        let hashed = self.hashed(version, &salt(key.unwrap_or(flag)), attribute, path)?;
        let ranges = ranges(rule, variations.len(), path)?;
        let meta = rule.get("meta").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let passes = |index: usize| {
            meta.get(index).and_then(|meta| meta.get("passthrough")).and_then(Value::as_bool) == Some(true)
        };
        // Which variation has a bucket: the first whose range holds it, unless that one passes on to the next rule.
        let owner = |n: f64| {
            ranges.iter().position(|(start, end)| n >= *start && n < *end).filter(|index| !passes(*index))
        };
        let owners: Vec<Option<usize>> =
            (0..hashed.scale()).map(|bucket| owner(hashed.fraction(bucket))).collect();
        let mut names: BTreeMap<usize, String> = BTreeMap::new();
        let mut taken = Vec::new();
        for (value, index) in variations.iter().zip(0..) {
            if passes(index) {
                continue;
            }
            let of_meta = meta.get(index).and_then(meta_name);
            let name = variants.next(route, value, of_meta, &taken)?;
            taken.push(name.clone());
            names.insert(index, name);
        }
        let covered = hashed.slices_of(|bucket| owners.get(bucket).copied().flatten().is_some());
        let condition = Condition::all(all.iter().cloned().chain([covered]));
        let mut runs: Vec<(usize, u32)> = Vec::new();
        for owner in &owners {
            match (owner, runs.last_mut()) {
                (Some(owner), Some((last, width))) if owner == last => *width += 1,
                (Some(owner), _) => runs.push((*owner, 1)),
                // A gap goes to the variation before it; the condition leaves it out.
                (None, Some((_, width))) => *width += 1,
                (None, None) => {}
            }
        }
        let total: u32 = runs.iter().map(|(_, width)| width).sum();
        if let Some((_, width)) = runs.first_mut() {
            *width += hashed.scale() - total;
        }
        let mut once: Vec<usize> = runs.iter().map(|(owner, _)| *owner).collect();
        once.sort_unstable();
        once.dedup();
        if once.len() == runs.len() && runs.len() > 1 {
            let weights =
                runs.iter().filter_map(|(owner, width)| Some((names.get(owner)?.clone(), *width))).collect();
            let split = Serve::Split { layer: hashed.layer, unit: vec![hashed.unit], weights };
            return route.rule(self.draft, &title, condition, split);
        }
        // One variation, or variations whose ranges are in pieces.
        for index in once {
            let slices = hashed.slices_of(|bucket| owners.get(bucket).copied().flatten() == Some(index));
            let Some(name) = names.get(&index) else { continue };
            let condition = Condition::all(all.iter().cloned().chain([slices]));
            self.draft.spend(condition.weight(), path)?;
            route.rule(self.draft, &title, condition, Serve::Variant(name.clone()))?;
        }
        Ok(())
    }

    fn hashed(&mut self, version: u64, salt: &str, attribute: &str, path: &str) -> Result<Hashed, Refusal> {
        let algorithm = match version {
            1 => Algorithm::GrowthBookV1,
            2 => Algorithm::GrowthBook,
            other => {
                return refuse(
                    &format!("{path}.hashVersion"),
                    format!("the hash version {other} is unknown"),
                    "use 1 or 2",
                );
            }
        };
        Ok(Hashed {
            algorithm,
            layer: self.draft.layer(algorithm, salt),
            unit: self.draft.subject(attribute),
        })
    }

    fn filter(&mut self, filter: &Value, path: &str) -> Result<Condition, Refusal> {
        let seed = filter.get("seed").and_then(Value::as_str).unwrap_or_default();
        let version =
            filter.get("hashVersion").and_then(Value::as_u64).filter(|version| *version > 0).unwrap_or(2);
        let attribute =
            filter.get("attribute").and_then(Value::as_str).filter(|name| !name.is_empty()).unwrap_or("id");
        let hashed = self.hashed(version, seed, attribute, path)?;
        let ranges = filter.get("ranges").and_then(Value::as_array).into_iter().flatten().zip(0..);
        let ranges: Result<Vec<_>, _> =
            ranges.map(|(value, index)| range(value, &format!("{path}.ranges[{index}]"))).collect();
        let ranges = ranges?;
        Ok(hashed.slices(|n| ranges.iter().any(|(start, end)| n >= *start && n < *end)))
    }

    fn namespace(&mut self, namespace: &Value, attribute: &str, path: &str) -> Result<Condition, Refusal> {
        let [Value::String(id), start, end] = namespace.as_array().map(Vec::as_slice).unwrap_or_default()
        else {
            return refuse(
                path,
                "a namespace is a list of its name, a start and an end",
                "correct the namespace",
            );
        };
        let (start, end) = range(&json!([start, end]), path)?;
        let hashed = self.hashed(1, &format!("__{id}"), attribute, path)?;
        Ok(hashed.slices(|n| n >= start && n < end))
    }

    /// The prerequisite's values are known, so it is known which of its variants fulfil the condition.
    fn parent(&mut self, parent: &Value, path: &str) -> Result<Condition, Refusal> {
        let id = parent.get("id").and_then(Value::as_str).unwrap_or_default();
        let condition = parent.get("condition").cloned().unwrap_or_else(|| json!({}));
        let Some(route) = self.draft.route_of(id) else {
            if self.draft.losses.iter().any(|loss| loss.flag == id && loss.extent == Extent::Flag) {
                return refuse(
                    path,
                    format!("the feature `{id}`, its prerequisite, could not be kept"),
                    "keep that feature first",
                );
            }
            return refuse(path, format!("there is no feature `{id}`"), "export it too");
        };
        let mut serves = Vec::new();
        let mut every = true;
        for variant in &route.variants {
            let value = variant.payload.clone().unwrap_or_default();
            if holds(&json!({ "value": value }), &condition, path)? {
                serves.push(variant.name.clone());
            } else {
                every = false;
            }
        }
        Ok(match serves.as_slice() {
            [] => Condition::Never,
            _ if every => Condition::Always,
            serves => Condition::Test(json!({ "route": route.name, "serves": serves })),
        })
    }

    fn condition(&mut self, condition: &Value, path: &str, depth: usize) -> Result<Condition, Refusal> {
        let Some(entries) = condition.as_object() else {
            return refuse(path, "a condition is a mapping", "correct the condition");
        };
        if depth == 0 {
            return refuse(
                path,
                "the condition is nested too deeply, or a saved group holds itself",
                "make it flatter",
            );
        }
        let mut all = Vec::new();
        for (key, value) in entries {
            let path = format!("{path}.{key}");
            let list = |importer: &mut Self| -> Result<Vec<Condition>, Refusal> {
                let Some(items) = value.as_array() else {
                    return refuse(&path, "a list of conditions is missing", "correct the condition");
                };
                items
                    .iter()
                    .zip(0..)
                    .map(|(item, index)| importer.condition(item, &format!("{path}[{index}]"), depth - 1))
                    .collect()
            };
            all.push(match key.as_str() {
                "$or" | "$nor" => {
                    let parts = list(self)?;
                    let any = if parts.is_empty() { Condition::Always } else { Condition::any(parts) };
                    if key == "$or" { any } else { any.not() }
                }
                "$and" => Condition::all(list(self)?),
                "$not" => self.condition(value, &path, depth - 1)?.not(),
                "$savedGroup" => self.saved_group(value, &path, depth)?,
                attribute => {
                    let subject = self.draft.subject(attribute);
                    self.value(&subject, value, &path, depth)?
                }
            });
        }
        Ok(Condition::all(all))
    }

    fn value(
        &mut self,
        subject: &Subject,
        value: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Condition, Refusal> {
        match value {
            Value::Null => Ok(subject.absent()),
            Value::Number(number)
                if number.as_f64() == Some(0.0) && matches!(subject, Subject::Attribute(_)) =>
            {
                // What is missing counts as 0.
                Ok(Condition::any([subject.test("eq", value.clone()), subject.absent()]))
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(equals(subject, value)),
            Value::Object(operators)
                if !operators.is_empty() && operators.keys().all(|key| key.starts_with('$')) =>
            {
                let mut all = Vec::new();
                for (operator, operand) in operators {
                    all.push(self.operator(
                        subject,
                        operator,
                        operand,
                        &format!("{path}.{operator}"),
                        depth,
                    )?);
                }
                Ok(Condition::all(all))
            }
            _ => refuse(
                path,
                "an attribute is compared with a list or an object",
                "compare its parts, each as an attribute of its own",
            ),
        }
    }

    fn operator(
        &mut self,
        subject: &Subject,
        operator: &str,
        operand: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Condition, Refusal> {
        let values = operand.as_array().map(Vec::as_slice);
        let scalar = !(operand.is_array() || operand.is_object());
        match operator {
            "$eq" if scalar => Ok(equals(subject, operand)),
            "$ne" if scalar => Ok(equals(subject, operand).not()),
            "$lt" | "$lte" | "$gt" | "$gte" => {
                let Some(bound) = operand.as_f64() else {
                    return refuse(
                        path,
                        format!("{operand} is no number, and texts have no order"),
                        "compare a number",
                    );
                };
                let Subject::Attribute(_) = subject else {
                    return refuse(
                        path,
                        "a field is a text, which has no order",
                        "pass the number as another attribute",
                    );
                };
                let missing = match operator {
                    "$lt" => 0.0 < bound,
                    "$lte" => 0.0 <= bound,
                    "$gt" => 0.0 > bound,
                    _ => 0.0 >= bound,
                };
                // What is missing counts as 0.
                let missing = Condition::all([subject.absent(), Condition::constant(missing)]);
                Ok(Condition::any([subject.test(operator.trim_start_matches('$'), operand.clone()), missing]))
            }
            "$exists" => Ok(if truthy(operand) { subject.present() } else { subject.absent() }),
            "$in" | "$nin" => match values {
                // The SDK takes neither for fulfilled.
                None => Ok(Condition::Never),
                Some(values) => {
                    let one = one_of(subject, values, path)?;
                    Ok(if operator == "$in" { one } else { one.not() })
                }
            },
            "$inGroup" | "$notInGroup" => {
                let id = operand.as_str().unwrap_or_default();
                let values = match self.groups.get(id) {
                    None => Some([].as_slice()),
                    Some(group) => listed(group),
                };
                let Some(values) = values else { return Ok(Condition::Never) };
                let one = self.group(id, subject, values, path)?;
                Ok(if operator == "$inGroup" { one } else { one.not() })
            }
            "$not" => Ok(self.value(subject, operand, path, depth.saturating_sub(1))?.not()),
            "$regex" => match operand.as_str() {
                Some(pattern) => Ok(subject.test("matches", json!(pattern))),
                None => refuse(path, "a regular expression is a text", "correct the condition"),
            },
            "$regexi" => match operand
                .as_str()
                .filter(|pattern| pattern.is_ascii() && !pattern.contains(['\\', '[', '(', '{']))
            {
                Some(pattern) => Ok(subject.test("matches", json!(either_case(pattern)))),
                None => refuse(
                    path,
                    "a regular expression that ignores case",
                    "write both cases as classes, `[aA]`",
                ),
            },
            "$ini" | "$nini" => match values {
                None => Ok(Condition::Never),
                Some(values) => {
                    let one = one_of_either_case(subject, values, path)?;
                    Ok(if operator == "$ini" { one } else { one.not() })
                }
            },
            "$veq" | "$vne" | "$vlt" | "$vlte" | "$vgt" | "$vgte" => {
                version(subject, operator, operand, path)
            }
            _ => refuse(
                path,
                format!("`{operator}` is no test that a policy has"),
                "write the condition with comparisons, $in, $regex, $exists and versions",
            ),
        }
    }

    fn saved_group(&mut self, reference: &Value, path: &str, depth: usize) -> Result<Condition, Refusal> {
        let id = reference.get("id").and_then(Value::as_str).unwrap_or_default();
        let Some(group) = self.groups.get(id).copied() else { return Ok(Condition::Never) };
        match group.get("type").and_then(Value::as_str) {
            Some("list") => {
                let key = reference
                    .get("attributeKey")
                    .or_else(|| group.get("attributeKey"))
                    .and_then(Value::as_str);
                let (Some(key), Some(values)) = (key, listed(group)) else { return Ok(Condition::Never) };
                let subject = self.draft.subject(key);
                self.group(id, &subject, values, path)
            }
            Some("condition") => match group.get("condition") {
                Some(condition) => {
                    // It is written out wherever it is referred to.
                    let condition =
                        self.condition(condition, &format!("savedGroups.{id}.condition"), depth - 1)?;
                    self.draft.spend(condition.weight(), path)?;
                    Ok(condition)
                }
                None => Ok(Condition::Never),
            },
            _ => Ok(Condition::Never),
        }
    }

    /// A saved group as a segment.
    fn group(
        &mut self,
        id: &str,
        subject: &Subject,
        values: &[Value],
        path: &str,
    ) -> Result<Condition, Refusal> {
        let known = self.segments.get(&(id.to_owned(), subject.clone())).cloned();
        let name = match known {
            Some(name) => name,
            None => {
                let definition = match subject {
                    Subject::Field(field) => {
                        let values = texts(values);
                        if values.is_empty() {
                            return Ok(Condition::Never);
                        }
                        json!({ field.list_key(): values })
                    }
                    Subject::Attribute(_) => match one_of(subject, values, path)? {
                        Condition::Never => return Ok(Condition::Never),
                        condition => json!({ "if": condition.write() }),
                    },
                };
                let name = self.draft.segment_names.own(id);
                self.draft.segments.push((name.clone(), definition));
                self.segments.insert((id.to_owned(), subject.clone()), name.clone());
                name
            }
        };
        Ok(Condition::Test(json!({ "segment": name })))
    }
}

impl Hashed {
    fn scale(&self) -> u32 {
        self.algorithm.scale()
    }

    /// What the SDK compares for a bucket.
    fn fraction(&self, bucket: u32) -> f64 {
        f64::from(bucket) / f64::from(self.scale())
    }

    /// The buckets whose fraction is inside, as a condition.
    fn slices(&self, inside: impl Fn(f64) -> bool) -> Condition {
        self.slices_of(|bucket| u32::try_from(bucket).is_ok_and(|bucket| inside(self.fraction(bucket))))
    }

    fn slices_of(&self, inside: impl Fn(usize) -> bool) -> Condition {
        let scale = self.scale();
        let mut slices = Vec::new();
        let mut start = None;
        for (bucket, place) in (0..=scale).zip(0_usize..) {
            let here = bucket < scale && inside(place);
            match (here, start) {
                (true, None) => start = Some(bucket),
                (false, Some(from)) => {
                    slices.push(Condition::bucket(&self.layer, &self.unit, scale, from, bucket));
                    start = None;
                }
                _ => {}
            }
        }
        Condition::any(slices)
    }
}

/// The route's variants by value.
struct Variants {
    names: Vec<(Value, String)>,
    /// Names of variations that can be kept and are no value's.
    metas: BTreeSet<String>,
}

impl Variants {
    /// The first variant with this value.
    fn first(&mut self, route: &mut Route, value: &Value) -> Result<String, Refusal> {
        self.next(route, value, None, &[])
    }

    /// A variant with this value that is not among the taken ones: an experiment may have two arms of one value.
    fn next(
        &mut self,
        route: &mut Route,
        value: &Value,
        meta: Option<&str>,
        taken: &[String],
    ) -> Result<String, Refusal> {
        let known = self.names.iter().find(|(known, name)| known == value && !taken.contains(name));
        if let Some((_, name)) = known {
            return Ok(name.clone());
        }
        let name = match (value_name(value), meta) {
            (Some(name), _) => route.variant(&name, Some(value.clone()))?,
            (None, Some(meta)) if self.metas.contains(meta) => route.variant(meta, Some(value.clone()))?,
            (None, Some(meta)) => route.invented_variant(meta, Some(value.clone()))?,
            (None, None) => {
                let name = if value.is_null() { "none" } else { "value" };
                route.invented_variant(name, Some(value.clone()))?
            }
        };
        self.names.push((value.clone(), name.clone()));
        Ok(name)
    }
}

/// What a variant with this value is called, unless that cannot be a name.
fn value_name(value: &Value) -> Option<String> {
    let name = match value {
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    check_name(&name).is_ok().then_some(name)
}

/// Keeps the names of a feature's values, and behind them those of its variations, so that no name is made up that is one of
/// these. Gives back the second.
fn keep_names(route: &mut Route, default: &Value, feature: &Value) -> BTreeSet<String> {
    let rules = || feature.get("rules").and_then(Value::as_array).into_iter().flatten();
    let lists = |key: &'static str| rules().filter_map(move |rule| rule.get(key)?.as_array()).flatten();
    let values = rules().filter_map(|rule| rule.get("force")).chain(lists("variations"));
    for name in values.chain([default]).filter_map(value_name) {
        route.variant_names.keep(&name);
    }
    let metas = lists("meta").filter_map(meta_name);
    let metas = metas.filter(|name| check_name(name).is_ok() && !route.variant_names.keeps(name));
    let metas: BTreeSet<String> = metas.map(str::to_owned).collect();
    metas.iter().for_each(|name| route.variant_names.keep(name));
    metas
}

fn meta_name(meta: &Value) -> Option<&str> {
    meta.get("name").or_else(|| meta.get("key"))?.as_str()
}

/// The bounds of each variation.
fn ranges(rule: &Value, variations: usize, path: &str) -> Result<Vec<(f64, f64)>, Refusal> {
    if let Some(ranges) = rule.get("ranges").and_then(Value::as_array) {
        return ranges
            .iter()
            .zip(0..)
            .map(|(value, index)| range(value, &format!("{path}.ranges[{index}]")))
            .collect();
    }
    let coverage = rule.get("coverage").and_then(Value::as_f64).unwrap_or(1.0).clamp(0.0, 1.0);
    let count = u32::try_from(variations).unwrap_or(u32::MAX);
    let equal = vec![1.0 / f64::from(count); variations];
    let weights: Option<Vec<f64>> = rule
        .get("weights")
        .and_then(Value::as_array)
        .map(|weights| weights.iter().map(|weight| weight.as_f64().unwrap_or(f64::NAN)).collect());
    let total = |weights: &[f64]| weights.iter().fold(0.0, |sum, weight| sum + weight);
    let weights = weights
        .filter(|weights| weights.len() == variations && (0.99..=1.01).contains(&total(weights)))
        .unwrap_or(equal);
    let mut start = 0.0;
    let bounds = weights.into_iter().map(|weight| {
        let bounds = (start, start + coverage * weight);
        start += weight;
        bounds
    });
    Ok(bounds.collect())
}

fn range(value: &Value, path: &str) -> Result<(f64, f64), Refusal> {
    match value.as_array().map(Vec::as_slice) {
        Some([start, end]) if start.is_number() && end.is_number() => {
            Ok((start.as_f64().unwrap_or_default(), end.as_f64().unwrap_or_default()))
        }
        _ => refuse(path, "a range is a list of a start and an end", "correct the range"),
    }
}

fn listed(group: &Value) -> Option<&[Value]> {
    match group {
        Value::Array(values) => Some(values),
        Value::Object(_) if group.get("type").and_then(Value::as_str) == Some("list") => {
            group.get("values")?.as_array().map(Vec::as_slice)
        }
        _ => None,
    }
}

/// Fields are texts, so that a number stands for its digits.
fn texts(values: &[Value]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for value in values {
        let text = match value {
            Value::String(text) if !text.is_empty() => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        texts.push(text);
    }
    texts.sort_unstable();
    texts.dedup();
    texts
}

fn equals(subject: &Subject, value: &Value) -> Condition {
    match (subject, value) {
        (_, Value::Null) => subject.absent(),
        (Subject::Field(_), Value::String(text)) if text.is_empty() => Condition::Never,
        (Subject::Field(_), Value::Number(number)) => subject.test("eq", json!(number.to_string())),
        (Subject::Field(_), Value::Bool(_)) => Condition::Never,
        _ => subject.test("eq", value.clone()),
    }
}

fn one_of(subject: &Subject, values: &[Value], path: &str) -> Result<Condition, Refusal> {
    if values.iter().any(|value| value.is_array() || value.is_object()) {
        return refuse(
            path,
            "a list has a list or an object in it",
            "compare its parts, each as an attribute of its own",
        );
    }
    let missing = Condition::all([subject.absent(), Condition::constant(values.iter().any(Value::is_null))]);
    let some = match subject {
        Subject::Field(_) => texts(values).into_iter().map(Value::String).collect(),
        Subject::Attribute(_) => {
            let mut kept: Vec<Value> = Vec::new();
            for value in values.iter().filter(|value| !value.is_null()) {
                let same =
                    |other: &Value| other == value || (other.is_number() && other.as_f64() == value.as_f64());
                if !kept.iter().any(same) {
                    kept.push(value.clone());
                }
            }
            kept
        }
    };
    let some = if some.is_empty() { Condition::Never } else { subject.test("in", Value::Array(some)) };
    Ok(Condition::any([some, missing]))
}

/// Texts without regard to case, and what else is in the list.
fn one_of_either_case(subject: &Subject, values: &[Value], path: &str) -> Result<Condition, Refusal> {
    let (texts, others): (Vec<&Value>, Vec<&Value>) = values.iter().partition(|value| value.is_string());
    let texts: Vec<&str> = texts.into_iter().filter_map(Value::as_str).collect();
    if let Some(text) = texts.iter().find(|text| !text.is_ascii()) {
        return refuse(
            path,
            format!("`{text}` ignores case beyond ASCII"),
            "write every spelling into a list of `$in`",
        );
    }
    let others: Vec<Value> = others.into_iter().cloned().collect();
    let others = one_of(subject, &others, path)?;
    if texts.is_empty() {
        return Ok(others);
    }
    let any: Vec<String> = texts.iter().map(|text| either_case(&escape(text))).collect();
    Ok(Condition::any([subject.test("matches", json!(format!("^({})$", any.join("|")))), others]))
}

fn version(subject: &Subject, operator: &str, operand: &Value, path: &str) -> Result<Condition, Refusal> {
    let written = operand.as_str().unwrap_or_default();
    let Ok(version) = semver::Version::parse(written.trim_start_matches('v')) else {
        return refuse(path, format!("{operand} is no complete semantic version"), "write it as 1.2.3");
    };
    let comparison = match operator {
        "$veq" => "=",
        "$vne" => "!=",
        "$vlt" => "<",
        "$vlte" => "<=",
        "$vgt" => ">",
        _ => ">=",
    };
    // What is missing counts as version 0, which is before every complete version.
    let missing = Condition::constant(matches!(operator, "$vne" | "$vlt" | "$vlte"));
    let test = subject.test("semver", json!(format!("{comparison}{version}")));
    Ok(Condition::any([test, Condition::all([subject.absent(), missing])]))
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// Whether a value that is known fulfils a condition.
fn holds(object: &Value, condition: &Value, path: &str) -> Result<bool, Refusal> {
    let Some(entries) = condition.as_object() else {
        return refuse(path, "a condition is a mapping", "correct the condition");
    };
    for (key, expected) in entries {
        let list = || expected.as_array().map(Vec::as_slice).unwrap_or_default();
        let all = |expected: bool| -> Result<usize, Refusal> {
            let results: Result<Vec<bool>, Refusal> =
                list().iter().map(|part| holds(object, part, path)).collect();
            Ok(results?.into_iter().filter(|holds| *holds == expected).count())
        };
        let fulfilled = match key.as_str() {
            "$or" => list().is_empty() || all(true)? > 0,
            "$nor" => !(list().is_empty() || all(true)? > 0),
            "$and" => all(false)? == 0,
            "$not" => !holds(object, expected, path)?,
            key => {
                let value = key
                    .split('.')
                    .try_fold(object, |value, part| value.get(part))
                    .cloned()
                    .unwrap_or_default();
                value_holds(&value, expected, path)?
            }
        };
        if !fulfilled {
            return Ok(false);
        }
    }
    Ok(true)
}

fn value_holds(value: &Value, expected: &Value, path: &str) -> Result<bool, Refusal> {
    let number = |value: &Value| match value {
        Value::Null => Some(0.0),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    let operators = match expected {
        Value::String(text) => {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            return Ok(shown == *text);
        }
        Value::Number(_) => return Ok(number(value).is_some_and(|value| expected.as_f64() == Some(value))),
        Value::Bool(expected) => return Ok(!value.is_null() && truthy(value) == *expected),
        Value::Null => return Ok(value.is_null()),
        Value::Object(operators)
            if !operators.is_empty() && operators.keys().all(|key| key.starts_with('$')) =>
        {
            operators
        }
        other => return Ok(value == other),
    };
    for (operator, expected) in operators {
        let same = |left: &Value, right: &Value| {
            left == right || (left.is_number() && left.as_f64() == right.as_f64())
        };
        let among = || expected.as_array().map(|values| values.iter().any(|expected| same(value, expected)));
        let order = match (value, expected) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            _ => number(value).zip(number(expected)).and_then(|(left, right)| left.partial_cmp(&right)),
        };
        let fulfilled = match operator.as_str() {
            "$eq" => same(value, expected),
            "$ne" => !same(value, expected),
            "$in" => among().unwrap_or(false),
            "$nin" => among().is_some_and(|among| !among),
            "$lt" => order.is_some_and(std::cmp::Ordering::is_lt),
            "$lte" => order.is_some_and(std::cmp::Ordering::is_le),
            "$gt" => order.is_some_and(std::cmp::Ordering::is_gt),
            "$gte" => order.is_some_and(std::cmp::Ordering::is_ge),
            "$exists" => truthy(expected) != value.is_null(),
            "$not" => !value_holds(value, expected, path)?,
            other => {
                return refuse(
                    path,
                    format!("a prerequisite is tested with `{other}`"),
                    "test it with $eq, $ne, $in, $nin, $exists or an order",
                );
            }
        };
        if !fulfilled {
            return Ok(false);
        }
    }
    Ok(true)
}
