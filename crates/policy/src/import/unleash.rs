//! Unleash's features: each strategy that can switch a feature on becomes a rule, and its variants a split.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::draft::{
    Condition, Draft, Facts, Refusal, Route, Serve, Subject, Variant, either_case, escape, refuse,
};
use super::{Extent, unknown_keys};
use crate::Algorithm;
use crate::check::check_name;
use crate::moment;

const BY_HAND: &str = "see whether it changes what the feature gives, and write that by hand";

/// A document brought into one form.
struct Document<'d> {
    features: Vec<Feature<'d>>,
    /// Constraints by the segment's number.
    segments: BTreeMap<String, Option<&'d Value>>,
}

struct Feature<'d> {
    name: &'d str,
    path: String,
    description: Option<&'d str>,
    enabled: bool,
    strategies: Vec<(String, &'d Value)>,
    variants: &'d [Value],
    dependencies: Vec<&'d Value>,
}

pub(super) fn import(document: &Value, draft: &mut Draft) -> Result<(), String> {
    let replayed = list(document, "events").map(replay);
    let document = replayed.as_ref().unwrap_or(document);
    let document = match (list(document, "features"), document.get("featureEnvironments")) {
        (Some(features), Some(_)) => exported(document, features, draft)?,
        (Some(features), None) => told_to_clients(document, features, draft),
        (None, _) => return Err("this is no export of Unleash: it has no list `features`".to_owned()),
    };
    draft.expect(document.features.iter().map(|feature| feature.name));
    let last: BTreeMap<&str, &str> =
        document.features.iter().map(|feature| (feature.name, feature.path.as_str())).collect();
    let counts = |feature: &&Feature<'_>| last.get(feature.name) == Some(&feature.path.as_str());
    for feature in document.features.iter().filter(|feature| !counts(feature)) {
        let again = last.get(feature.name).copied().unwrap_or_default();
        let reason = format!("the feature stands again at {again}, which counts, as in the SDK");
        draft.lose(feature.name, &feature.path, Extent::Name, reason, "remove one of them");
    }
    // A feature may ask only for features without dependencies of their own, so these come first.
    let (independent, dependent): (Vec<&Feature<'_>>, Vec<_>) =
        document.features.iter().filter(counts).partition(|feature| feature.dependencies.is_empty());
    for feature in independent.into_iter().chain(dependent) {
        let losses = draft.losses.len();
        let route = route(draft, &document, feature);
        draft.finish(feature.name, losses, route);
    }
    Ok(())
}

/// What the events of `/api/client/delta` leave behind, as `/api/client/features` would answer.
fn replay(events: &[Value]) -> Value {
    let (mut features, mut segments): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    let put = |list: &mut Vec<Value>, key: &str, item: &Value| match list
        .iter_mut()
        .find(|known| known.get(key) == item.get(key))
    {
        Some(known) => known.clone_from(item),
        None => list.push(item.clone()),
    };
    for event in events {
        match text(event, "type") {
            Some("hydration") => {
                features = list(event, "features").unwrap_or_default().to_vec();
                segments = list(event, "segments").unwrap_or_default().to_vec();
            }
            Some("feature-updated") => {
                event.get("feature").into_iter().for_each(|feature| put(&mut features, "name", feature));
            }
            Some("feature-removed") => {
                features.retain(|feature| feature.get("name") != event.get("featureName"));
            }
            Some("segment-updated") => {
                event.get("segment").into_iter().for_each(|segment| put(&mut segments, "id", segment));
            }
            Some("segment-removed") => segments.retain(|segment| segment.get("id") != event.get("segmentId")),
            _ => {}
        }
    }
    json!({ "features": features, "segments": segments })
}

fn list<'v>(value: &'v Value, key: &str) -> Option<&'v [Value]> {
    value.get(key)?.as_array().map(Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

/// Texts and numbers both stand for numbers and names.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn segments(document: &Value) -> BTreeMap<String, Option<&Value>> {
    let segments = list(document, "segments").unwrap_or_default().iter();
    segments.filter_map(|segment| Some((shown(segment.get("id")?), segment.get("constraints")))).collect()
}

/// A feature's name; what has none is no feature, and nobody can ask for it.
fn named<'v>(feature: &'v Value, index: usize, draft: &mut Draft) -> Option<&'v str> {
    let name = text(feature, "name");
    if name.is_none() {
        let reason = "this is no feature: it has no name";
        draft.lose("", &format!("features[{index}]"), Extent::Flag, reason, "name it, or remove it");
    }
    name
}

/// What `/api/client/features` answers.
fn told_to_clients<'d>(document: &'d Value, features: &'d [Value], draft: &mut Draft) -> Document<'d> {
    for key in unknown_keys(document, &["version", "features", "segments", "query", "meta"]) {
        draft.lose("", key, Extent::Part, format!("the key `{key}` is unknown"), BY_HAND);
    }
    let known = [
        "name",
        "description",
        "type",
        "enabled",
        "stale",
        "strategies",
        "variants",
        "dependencies",
        "impressionData",
        "project",
        "createdAt",
        "lastSeenAt",
        "environments",
        "strategy",
        "parameters",
    ];
    let features = features.iter().zip(0..).filter_map(|(feature, index)| {
        let name = named(feature, index, draft)?;
        let path = format!("features[{index}]");
        for key in unknown_keys(feature, &known) {
            draft.lose(
                name,
                &format!("{path}.{key}"),
                Extent::Part,
                format!("the key `{key}` is unknown"),
                BY_HAND,
            );
        }
        let strategies = list(feature, "strategies").unwrap_or_default().iter().zip(0..);
        Some(Feature {
            name,
            description: text(feature, "description"),
            enabled: feature.get("enabled").and_then(Value::as_bool).unwrap_or_default(),
            strategies: strategies
                .map(|(strategy, index)| (format!("{path}.strategies[{index}]"), strategy))
                .collect(),
            variants: list(feature, "variants").unwrap_or_default(),
            dependencies: list(feature, "dependencies").unwrap_or_default().iter().collect(),
            path,
        })
    });
    Document { features: features.collect(), segments: segments(document) }
}

/// What an administrator exports: one environment of some features, as rows of tables.
fn exported<'d>(
    document: &'d Value,
    features: &'d [Value],
    draft: &mut Draft,
) -> Result<Document<'d>, String> {
    let known = [
        "features",
        "featureStrategies",
        "featureEnvironments",
        "contextFields",
        "featureTags",
        "segments",
        "tagTypes",
        "dependencies",
        "featureLinks",
        "version",
        "featureStrategySegments",
        "projects",
        "strategies",
        "environments",
        "tags",
    ];
    for key in unknown_keys(document, &known) {
        draft.lose("", key, Extent::Part, format!("the key `{key}` is unknown"), BY_HAND);
    }
    let environments = list(document, "featureEnvironments").unwrap_or_default();
    let mut names: Vec<&str> = environments.iter().filter_map(|row| text(row, "environment")).collect();
    names.sort_unstable();
    names.dedup();
    if let [_, _, ..] = names.as_slice() {
        return Err(format!(
            "this export has several environments ({}); export one at a time",
            names.join(", ")
        ));
    }
    let rows = list(document, "featureStrategies").unwrap_or_default();
    let features = features.iter().zip(0..).filter_map(|(feature, index)| {
        let name = named(feature, index, draft)?;
        let of_feature = |row: &&Value| text(row, "featureName") == Some(name);
        let environment = environments.iter().find(of_feature);
        let mut strategies: Vec<(String, &Value)> = rows
            .iter()
            .zip(0..)
            .filter(|(row, _)| of_feature(row))
            .map(|(row, index)| (format!("featureStrategies[{index}]"), row))
            .collect();
        strategies.sort_by_key(|(_, row)| row.get("sortOrder").and_then(Value::as_i64).unwrap_or_default());
        let variants =
            environment.and_then(|row| list(row, "variants")).or_else(|| list(feature, "variants"));
        let dependencies = list(document, "dependencies")
            .unwrap_or_default()
            .iter()
            .filter(|row| text(row, "feature") == Some(name));
        Some(Feature {
            name,
            path: format!("features[{index}]"),
            description: text(feature, "description"),
            enabled: environment
                .and_then(|row| row.get("enabled"))
                .and_then(Value::as_bool)
                .unwrap_or_default(),
            strategies,
            variants: variants.unwrap_or_default(),
            dependencies: dependencies
                .flat_map(|row| list(row, "dependencies").unwrap_or_default())
                .collect(),
        })
    });
    Ok(Document { features: features.collect(), segments: segments(document) })
}

struct Reader<'a> {
    draft: &'a mut Draft,
    route: &'a mut Route,
    feature: &'a Feature<'a>,
    /// The name of the variant for "on, without a variant".
    enabled: Option<String>,
    /// The route's variants by Unleash's name and payload.
    variants: Vec<(String, Option<Value>, String)>,
}

fn route(draft: &mut Draft, document: &Document<'_>, feature: &Feature<'_>) -> Result<Route, Refusal> {
    let mut route = draft.route(feature.name, &feature.path);
    route.description = feature.description.filter(|text| !text.is_empty()).map(str::to_owned);
    let parents = parents(draft, document, feature)?;
    route.enabled = feature.enabled;
    let mut reader = Reader { draft, route: &mut route, feature, enabled: None, variants: Vec::new() };
    let all =
        || feature.strategies.iter().flat_map(|(_, strategy)| list(strategy, "variants").unwrap_or_default());
    let names = feature.variants.iter().chain(all()).filter_map(|variant| text(variant, "name"));
    names.for_each(|name| reader.route.variant_names.keep(name));
    for variant in feature.variants.iter().chain(all()) {
        reader.variant(variant)?;
    }
    let always = [(feature.path.clone(), &Value::Null)];
    let on = |strategy: &Value| strategy.get("disabled").and_then(Value::as_bool) != Some(true);
    let strategies: Vec<&(String, &Value)> =
        feature.strategies.iter().filter(|(_, strategy)| on(strategy)).collect();
    let strategies = if feature.strategies.is_empty() { always.iter().collect() } else { strategies };
    for (path, strategy) in strategies {
        let condition = reader.strategy(document, strategy, path)?;
        reader.outcome(Condition::all([parents.clone(), condition]), strategy, path)?;
    }
    let disabled = reader.made_up("disabled", "off")?;
    route.baseline.clone_from(&disabled);
    route.close(Serve::Variant(disabled));
    Ok(route)
}

/// What the features that this one depends on must give.
fn parents(draft: &mut Draft, document: &Document<'_>, feature: &Feature<'_>) -> Result<Condition, Refusal> {
    let mut all = Vec::new();
    for (dependency, index) in feature.dependencies.iter().zip(0..) {
        let path = format!("{}.dependencies[{index}]", feature.path);
        let name = text(dependency, "feature").unwrap_or_default();
        let Some(parent) = document.features.iter().find(|feature| feature.name == name) else {
            // As the SDK has it.
            return Ok(Condition::Never);
        };
        if !parent.dependencies.is_empty() {
            return Ok(Condition::Never);
        }
        let Some(route) = draft.route_of(name) else {
            return refuse(
                &path,
                format!("the feature `{name}`, on which it depends, could not be kept"),
                "keep that feature first",
            );
        };
        let serves = |wanted: &dyn Fn(&Variant) -> bool| {
            let names: Vec<&str> = route
                .variants
                .iter()
                .filter(|variant| variant.name != route.baseline && wanted(variant))
                .map(|variant| variant.name.as_str())
                .collect();
            if names.is_empty() {
                Condition::Never
            } else {
                Condition::Test(json!({ "route": route.name, "serves": names }))
            }
        };
        let on = serves(&|_| true);
        let wanted = list(dependency, "variants").unwrap_or_default();
        all.push(match dependency.get("enabled").and_then(Value::as_bool) {
            Some(false) => on.not(),
            _ if wanted.is_empty() => on,
            _ => serves(&|variant| {
                // On without a variant is what the SDK calls `disabled`.
                let name = variant.original.as_deref().unwrap_or("disabled");
                wanted.iter().any(|wanted| wanted.as_str() == Some(name))
            }),
        });
        if route.partial {
            let reason = format!("it depends on the feature `{name}`, which is not wholly kept");
            draft.lose(feature.name, &path, Extent::Part, reason, "see what is said about that feature");
        }
    }
    Ok(Condition::all(all))
}

impl Reader<'_> {
    fn lose(&mut self, path: &str, extent: Extent, reason: impl Into<String>, advice: impl Into<String>) {
        self.draft.lose(self.feature.name, path, extent, reason, advice);
    }

    /// The route's variant for one of Unleash's. Strategies may have variants of the same name with other payloads.
    fn variant(&mut self, variant: &Value) -> Result<String, Refusal> {
        let name = text(variant, "name").unwrap_or_default();
        let payload = variant.get("payload").filter(|payload| !payload.is_null()).map(payload);
        let known = self.variants.iter().find(|(taken, content, _)| taken == name && *content == payload);
        if let Some((_, _, name)) = known {
            return Ok(name.clone());
        }
        let ours = self.route.variant(name, payload.clone())?;
        if ours != name {
            let reason = if check_name(name).is_err() {
                format!("`{name}` cannot name a variant; it is called `{ours}`")
            } else {
                format!(
                    "there is another variant `{name}`, with another payload; this one is called `{ours}`"
                )
            };
            self.lose(&self.feature.path, Extent::Name, reason, "compare with the new name");
        }
        self.variants.push((name.to_owned(), payload, ours.clone()));
        Ok(ours)
    }

    /// The variant that stands for "on" or "off" without a variant.
    fn made_up(&mut self, wanted: &str, what: &str) -> Result<String, Refusal> {
        let name = self.route.invented_variant(wanted, None)?;
        if name != wanted {
            let reason =
                format!("the feature has a variant of its own called `{wanted}`; {what} is `{name}`");
            self.lose(&self.feature.path, Extent::Name, reason, "compare with the new name");
        }
        Ok(name)
    }

    fn enabled(&mut self) -> Result<String, Refusal> {
        let enabled = match self.enabled.take() {
            Some(enabled) => enabled,
            None => self.made_up("enabled", "on without a variant")?,
        };
        Ok(self.enabled.insert(enabled).clone())
    }

    /// When a strategy switches the feature on.
    fn strategy(
        &mut self,
        document: &Document<'_>,
        strategy: &Value,
        path: &str,
    ) -> Result<Condition, Refusal> {
        let known = [
            "name",
            "strategyName",
            "title",
            "parameters",
            "constraints",
            "segments",
            "variants",
            "disabled",
            "sortOrder",
            "id",
            "featureName",
            "projectId",
            "environment",
            "createdAt",
            "milestoneId",
        ];
        for key in unknown_keys(strategy, &known) {
            self.lose(&format!("{path}.{key}"), Extent::Part, format!("the key `{key}` is unknown"), BY_HAND);
        }
        let mut all = Vec::new();
        for (constraint, index) in list(strategy, "constraints").unwrap_or_default().iter().zip(0..) {
            all.push(self.constraint(constraint, &format!("{path}.constraints[{index}]"))?);
        }
        for (id, index) in list(strategy, "segments").unwrap_or_default().iter().zip(0..) {
            let path = format!("{path}.segments[{index}]");
            let id = shown(id);
            let Some(constraints) = document.segments.get(&id) else {
                // As the SDK has it: a segment that nobody knows holds nobody.
                return Ok(Condition::Never);
            };
            let Some(constraints) = constraints.and_then(Value::as_array) else {
                return refuse(
                    &path,
                    format!("the export names segment {id} without its constraints"),
                    "import what `/api/client/features` answers, which has them",
                );
            };
            for (constraint, index) in constraints.iter().zip(0..) {
                let condition = self.constraint(constraint, &format!("{path}.constraints[{index}]"))?;
                // It is written out wherever the segment is.
                self.draft.spend(condition.weight(), &path)?;
                all.push(condition);
            }
        }
        all.push(self.rollout(strategy, path)?);
        Ok(Condition::all(all))
    }

    fn rollout(&mut self, strategy: &Value, path: &str) -> Result<Condition, Refusal> {
        let none = json!({});
        let parameters =
            strategy.get("parameters").filter(|parameters| !parameters.is_null()).unwrap_or(&none);
        let of = |key: &str| parameters.get(key).filter(|value| !value.is_null()).map(shown);
        let percent = |key: &str| {
            let percent = of(key).and_then(|text| number(&text)).unwrap_or_default();
            percent.clamp(0.0, 100.0).floor() as u32
        };
        let group = of("groupId").filter(|group| !group.is_empty());
        let below = |key: &str| format!("{path}.parameters.{key}");
        let name = text(strategy, "name").or_else(|| text(strategy, "strategyName"));
        match name {
            None if strategy.is_null() => Ok(Condition::Always),
            Some("default") => Ok(Condition::Always),
            Some("userWithId") => {
                let users = of("userIds").unwrap_or_default();
                let users: Vec<&str> = split_list(&users);
                Ok(one_of(&self.draft.subject("userId"), &users))
            }
            Some("flexibleRollout") => {
                // Without a group JavaScript's SDK hashes the unit alone; the others take the feature's name.
                let utf8 = self.draft.hash == Algorithm::UnleashUtf8;
                let group =
                    group.unwrap_or_else(|| if utf8 { self.feature.name.to_owned() } else { String::new() });
                let stickiness =
                    of("stickiness").filter(|text| !text.is_empty()).unwrap_or_else(|| "default".to_owned());
                self.gradual(&stickiness, &group, percent("rollout"), &below("stickiness"))
            }
            Some("gradualRolloutUserId") => {
                self.gradual("userId", &group.unwrap_or_default(), percent("percentage"), path)
            }
            Some("gradualRolloutSessionId") => {
                self.gradual("sessionId", &group.unwrap_or_default(), percent("percentage"), path)
            }
            Some("gradualRolloutRandom") => {
                let group = group.unwrap_or_else(|| self.feature.name.to_owned());
                self.gradual("random", &group, percent("percentage"), &below("percentage"))
            }
            Some("remoteAddress") => {
                let addresses = of("IPs").unwrap_or_default();
                let subject = self.draft.subject("remoteAddress");
                let tests: Result<Vec<_>, _> = split_list(&addresses)
                    .into_iter()
                    .map(|range| in_network(&subject, range, &below("IPs")))
                    .collect();
                Ok(Condition::any(tests?))
            }
            Some("applicationHostname") => refuse(
                path,
                "it asks for the name of the machine that the SDK runs on",
                "pass the host name as an attribute and write a rule",
            ),
            other => {
                let name = other.unwrap_or_default();
                let reason = format!(
                    "`{name}` is a strategy of your own; without its code it never switches the feature on"
                );
                self.lose(path, Extent::Part, reason, "write a rule that does what it does");
                Ok(Condition::Never)
            }
        }
    }

    fn gradual(
        &mut self,
        stickiness: &str,
        group: &str,
        percent: u32,
        path: &str,
    ) -> Result<Condition, Refusal> {
        let hash = self.draft.hash;
        let by = |draft: &mut Draft, subject: &Subject| {
            let layer = draft.layer(hash, group);
            Condition::bucket(&layer, subject, hash.scale(), 0, percent)
        };
        match stickiness {
            _ if percent == 0 => Ok(Condition::Never),
            "default" | "random" if percent == 100 => Ok(Condition::Always),
            "default" | "random" => {
                let reason = if stickiness == "random" {
                    format!(
                        "{percent} % were drawn anew for every request; here they stick to the user, else to the session"
                    )
                } else {
                    format!(
                        "contexts with neither user nor session were drawn anew for every request; here they are not among the {percent} %"
                    )
                };
                self.lose(path, Extent::Part, reason, "pass a user or session");
                let (user, session) = (self.draft.subject("userId"), self.draft.subject("sessionId"));
                let user_bucket = by(self.draft, &user);
                let session_bucket = Condition::all([user.absent(), by(self.draft, &session)]);
                Ok(Condition::any([user_bucket, session_bucket]))
            }
            name => {
                let subject = self.draft.subject(name);
                Ok(by(self.draft, &subject))
            }
        }
    }

    /// Adds the rules for what a strategy gives when it switches the feature on.
    fn outcome(&mut self, condition: Condition, strategy: &Value, path: &str) -> Result<(), Refusal> {
        if condition == Condition::Never {
            return Ok(());
        }
        let own = list(strategy, "variants").unwrap_or_default();
        let of_strategy = !own.is_empty();
        let variants = if of_strategy { own } else { self.feature.variants };
        let path =
            if of_strategy { format!("{path}.variants") } else { format!("{}.variants", self.feature.path) };
        let title =
            text(strategy, "title").filter(|title| !title.is_empty()).unwrap_or("strategy").to_owned();
        let (mut weights, mut taken): (Vec<(String, u32)>, BTreeSet<String>) = Default::default();
        for (variant, index) in variants.iter().zip(0..) {
            let weight =
                variant.get("weight").and_then(Value::as_u64).and_then(|weight| u32::try_from(weight).ok());
            let Some(weight) = weight else {
                return refuse(
                    &format!("{path}[{index}].weight"),
                    "the weight is no whole number",
                    "write whole numbers",
                );
            };
            let name = self.variant(variant)?;
            if !taken.insert(name.clone()) {
                return refuse(
                    &format!("{path}[{index}]"),
                    format!("the variant `{name}` occurs twice"),
                    "give each variant a name of its own",
                );
            }
            weights.push((name, weight));
        }
        let total: u64 = weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if total == 0 {
            let enabled = self.enabled()?;
            return self.route.rule(self.draft, &title, condition, Serve::Variant(enabled));
        }
        for (variant, (name, _)) in variants.iter().zip(&weights) {
            let mut any = Vec::new();
            for entry in list(variant, "overrides").unwrap_or_default() {
                let subject = self.draft.subject(text(entry, "contextName").unwrap_or_default());
                let values = list(entry, "values").unwrap_or_default();
                any.push(one_of(&subject, &values.iter().filter_map(Value::as_str).collect::<Vec<_>>()));
            }
            let any = Condition::any(any);
            if any == Condition::Never {
                continue;
            }
            let overridden = Condition::all([condition.clone(), any]);
            let serve = Serve::Variant(name.clone());
            self.route.rule(self.draft, &format!("{title}-override"), overridden, serve)?;
        }
        if let [only] = weights.iter().filter(|(_, weight)| *weight > 0).collect::<Vec<_>>().as_slice() {
            return self.route.rule(self.draft, &title, condition, Serve::Variant(only.0.clone()));
        }
        let parameters = strategy.get("parameters");
        let parameter = |key: &str| {
            parameters.and_then(|parameters| text(parameters, key)).filter(|text| !text.is_empty())
        };
        let first =
            variants.first().and_then(|variant| text(variant, "stickiness")).filter(|text| !text.is_empty());
        let (stickiness, salt) = if of_strategy {
            let utf8 = self.draft.hash == Algorithm::UnleashUtf8;
            // JavaScript's SDK hashes the word "undefined" when there is no group; the others take the feature's name.
            let missing = if utf8 { self.feature.name } else { "undefined" };
            (first.or(parameter("stickiness")), parameter("groupId").unwrap_or(missing).to_owned())
        } else {
            (first, self.feature.name.to_owned())
        };
        let hash = if self.draft.hash == Algorithm::UnleashUtf8 {
            Algorithm::UnleashVariantsUtf8
        } else {
            Algorithm::UnleashVariants
        };
        let layer = self.draft.layer(hash, &salt);
        let split = |unit: &Subject| Serve::Split {
            layer: layer.clone(),
            unit: vec![unit.clone()],
            weights: weights.clone(),
        };
        let stickiness = stickiness.unwrap_or("default");
        let units: Vec<Subject> = match stickiness {
            "default" | "random" => {
                ["userId", "sessionId", "remoteAddress"].iter().map(|name| self.draft.subject(name)).collect()
            }
            name => vec![self.draft.subject(name)],
        };
        let mut lacking = Facts::default();
        for unit in &units {
            let present = Condition::all([condition.clone(), unit.present()]);
            lacking.learn(&unit.present(), false);
            if condition.clone().given(&lacking) == Condition::Never {
                // Whoever gets here has it, so that nothing is left to draw.
                return self.route.rule(self.draft, &title, condition, split(unit));
            }
            self.route.rule(self.draft, &title, present, split(unit))?;
        }
        let widest = weights
            .iter()
            .rev()
            .max_by_key(|(_, weight)| *weight)
            .map(|(name, _)| name.clone())
            .unwrap_or_default();
        let reason = if stickiness == "random" {
            format!(
                "the variants were drawn anew for every request; here they stick to the user, else to session or remote address, and `{widest}` serves all others"
            )
        } else {
            format!(
                "contexts without {} drew a variant anew for every request; here `{widest}` serves them",
                described(&units)
            )
        };
        self.lose(&path, Extent::Part, reason, format!("pass {}", described(&units)));
        self.route.rule(self.draft, &title, condition, Serve::Variant(widest))
    }

    fn constraint(&mut self, constraint: &Value, path: &str) -> Result<Condition, Refusal> {
        let operator = text(constraint, "operator").unwrap_or_default();
        let known = ["contextName", "operator", "values", "value", "inverted", "caseInsensitive"];
        if let Some(key) = unknown_keys(constraint, &known).first() {
            return refuse(&format!("{path}.{key}"), format!("the key `{key}` is unknown"), BY_HAND);
        }
        let subject = self.draft.subject(text(constraint, "contextName").unwrap_or_default());
        let flag = |key: &str| constraint.get(key).and_then(Value::as_bool).unwrap_or_default();
        let values = list(constraint, "values").unwrap_or_default().iter().filter_map(Value::as_str);
        let values: Vec<&str> = values.filter(|value| !value.is_empty()).map(str::trim).collect();
        let value = constraint.get("value").map(shown).unwrap_or_default();
        let condition = match operator {
            "IN" => one_of(&subject, &values),
            "NOT_IN" => one_of(&subject, &values).not(),
            "STR_STARTS_WITH" | "STR_ENDS_WITH" | "STR_CONTAINS" => {
                let key = match operator {
                    "STR_STARTS_WITH" => "prefix",
                    "STR_ENDS_WITH" => "suffix",
                    _ => "contains",
                };
                affix(&subject, key, &values, flag("caseInsensitive"), path)?
            }
            "NUM_EQ" | "NUM_GT" | "NUM_GTE" | "NUM_LT" | "NUM_LTE" => match (number(&value), &subject) {
                (None, _) => Condition::Never,
                (Some(_), Subject::Field(field)) => {
                    return refuse(
                        path,
                        format!("the {} is a text, which has no order", field.name()),
                        "pass the number as another attribute",
                    );
                }
                (Some(number), subject) => {
                    let key = operator.trim_start_matches("NUM_").to_ascii_lowercase();
                    let number = if number.fract() == 0.0 && number.abs() < 1e15 {
                        json!(number as i64)
                    } else {
                        json!(number)
                    };
                    subject.test(&key, number)
                }
            },
            "DATE_AFTER" | "DATE_BEFORE" => {
                let date =
                    if value.contains(['T', 't']) { value.clone() } else { format!("{value}T00:00:00Z") };
                let advice = "write the date as 2026-05-01T12:00:00Z";
                let Some(at) = moment::parse(&date) else {
                    return refuse(
                        &format!("{path}.value"),
                        format!("`{value}` is no moment with an offset"),
                        advice,
                    );
                };
                let (key, at) =
                    if operator == "DATE_AFTER" { ("from", at.saturating_add(1)) } else { ("until", at) };
                let Some(at) = moment::format(at) else {
                    return refuse(&format!("{path}.value"), "the date is beyond the year 9999", advice);
                };
                Condition::Test(json!({ "time": { key: at } }))
            }
            "SEMVER_EQ" | "SEMVER_GT" | "SEMVER_GTE" | "SEMVER_LT" | "SEMVER_LTE" => {
                let comparison = match operator {
                    "SEMVER_EQ" => "=",
                    "SEMVER_GT" => ">",
                    "SEMVER_GTE" => ">=",
                    "SEMVER_LT" => "<",
                    _ => "<=",
                };
                match semver::Version::parse(value.trim().trim_start_matches('v')) {
                    Ok(version) => subject.test("semver", json!(format!("{comparison}{version}"))),
                    Err(_) => Condition::Never,
                }
            }
            "REGEX" => {
                let value = without_named_classes(&value);
                let plain = !value.contains(['\\', '[', '(', '{']);
                match flag("caseInsensitive") {
                    false => subject.test("matches", json!(value)),
                    true if plain && value.is_ascii() => subject.test("matches", json!(either_case(&value))),
                    true => {
                        return refuse(
                            path,
                            "a regular expression that ignores case",
                            "write both cases as classes, `[aA]`",
                        );
                    }
                }
            }
            "IN_CIDR" => {
                let tests: Result<Vec<_>, _> =
                    values.iter().map(|range| in_network(&subject, range, path)).collect();
                Condition::any(tests?)
            }
            _ => {
                // As the SDK has it: what it does not know holds for nobody, inverted or not.
                let reason = format!(
                    "the operator `{operator}` is unknown; SDKs that do not know it either match nobody"
                );
                self.lose(&format!("{path}.operator"), Extent::Part, reason, BY_HAND);
                return Ok(Condition::Never);
            }
        };
        Ok(if flag("inverted") { condition.not() } else { condition })
    }
}

fn described(units: &[Subject]) -> String {
    let names: Vec<&str> = units
        .iter()
        .map(|unit| match unit {
            Subject::Field(field) => field.name(),
            Subject::Attribute(name) => name.as_str(),
        })
        .collect();
    match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.join(", "),
    }
}

fn payload(payload: &Value) -> Value {
    let value = payload.get("value").cloned().unwrap_or_default();
    let Some(written) = value.as_str() else { return value };
    match text(payload, "type") {
        Some("json" | "number") => serde_json::from_str(written).unwrap_or_else(|_| json!(written)),
        _ => json!(written),
    }
}

/// A number as JavaScript reads it from a text.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let number = if text.is_empty() { 0.0 } else { text.parse::<f64>().ok()? };
    (number.is_finite() && !text.contains(['n', 'N', 'i', 'I'])).then_some(number)
}

fn split_list(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

fn one_of(subject: &Subject, values: &[&str]) -> Condition {
    let mut kept: Vec<&str> = Vec::new();
    for value in values {
        let empty = value.is_empty() && matches!(subject, Subject::Field(_));
        if !empty && !kept.contains(value) {
            kept.push(value);
        }
    }
    if kept.is_empty() { Condition::Never } else { subject.test("in", json!(kept)) }
}

fn affix(
    subject: &Subject,
    key: &str,
    values: &[&str],
    ignore_case: bool,
    path: &str,
) -> Result<Condition, Refusal> {
    let mut kept: Vec<&str> = Vec::new();
    for value in values {
        if value.is_empty() {
            return Ok(subject.present());
        }
        if !kept.contains(value) {
            kept.push(value);
        }
    }
    if kept.is_empty() {
        return Ok(Condition::Never);
    }
    if !ignore_case {
        return Ok(subject.test(key, json!(kept)));
    }
    if let Some(value) = kept.iter().find(|value| !value.is_ascii()) {
        return refuse(
            path,
            format!("`{value}` ignores case beyond ASCII"),
            "write every spelling into a list, without `caseInsensitive`",
        );
    }
    let any: Vec<String> = kept.iter().map(|value| either_case(&escape(value))).collect();
    let any = any.join("|");
    let pattern = match key {
        "prefix" => format!("^({any})"),
        "suffix" => format!("({any})$"),
        _ => any,
    };
    Ok(subject.test("matches", json!(pattern)))
}

/// `[[:alpha:]]` and the like, written out.
fn without_named_classes(pattern: &str) -> String {
    let classes = [
        ("[:alpha:]", "a-zA-Z"),
        ("[:digit:]", "0-9"),
        ("[:alnum:]", "0-9A-Za-z"),
        ("[:upper:]", "A-Z"),
        ("[:lower:]", "a-z"),
        ("[:xdigit:]", "0-9A-Fa-f"),
        ("[:word:]", "0-9A-Za-z_"),
    ];
    classes.iter().fold(pattern.to_owned(), |pattern, (class, members)| pattern.replace(class, members))
}

/// The subject is an IPv4 address in this network; or, without a mask, just this address. A network is the set of its addresses'
/// beginnings, of which there are at most 128.
fn in_network(subject: &Subject, range: &str, path: &str) -> Result<Condition, Refusal> {
    let (address, bits) = match range.split_once('/') {
        None => return Ok(one_of(subject, &[range])),
        Some((address, bits)) => (address, bits.parse::<u32>().ok().filter(|bits| *bits <= 32)),
    };
    let octets: Option<Vec<u32>> =
        address.split('.').map(|octet| octet.parse::<u8>().ok().map(u32::from)).collect();
    let (Some(bits), Some([a, b, c, d])) = (bits, octets.as_deref()) else {
        if address.contains(':') {
            return refuse(
                path,
                format!("`{range}` is a network of IPv6"),
                "pass the network as an attribute, or list the addresses",
            );
        }
        // No network, so nobody is in it.
        return Ok(Condition::Never);
    };
    let octets = [*a, *b, *c, *d];
    let (whole, rest) = ((bits / 8) as usize, bits % 8);
    let fixed: String = octets.iter().take(whole).map(|octet| format!("{octet}.")).collect();
    let Some(next) = octets.get(whole) else { return Ok(one_of(subject, &[address])) };
    if rest == 0 {
        if fixed.is_empty() {
            return refuse(path, format!("`{range}` is every address"), "leave the test out");
        }
        return Ok(subject.test("prefix", json!([fixed])));
    }
    let width = 1 << (8 - rest);
    let first = next / width * width;
    let end = if whole == 3 { "" } else { "." };
    let starts: Vec<String> = (first..first + width).map(|octet| format!("{fixed}{octet}{end}")).collect();
    Ok(subject.test(if whole == 3 { "in" } else { "prefix" }, json!(starts)))
}
