//! flagd's flag files: `targeting`, a tree of JSON Logic, becomes a list of rules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::draft::{Condition, Draft, Facts, Refusal, Route, Serve, Subject, assigned, refuse};
use super::{Extent, kind, unknown_keys};
use crate::Algorithm;
use crate::moment;

/// The largest sum of weights that flagd takes.
const MAX_WEIGHTS: f64 = 2_147_483_647.0;
/// Weights with decimals, which only the legacy rule takes, become whole at this scale.
const DECIMALS: f64 = 1000.0;

const TIMESTAMP: &str = "$flagd.timestamp";
const FLAG_KEY: &str = "$flagd.flagKey";
/// How many values evaluators may put into one flag: those that refer to others double with every level.
const MAX_EVALUATED: usize = 200_000;
/// How deep a flag may be with its evaluators, as deep as a document.
const MAX_DEPTH: usize = 64;
/// Stands for the value that callers pass along.
const CODE_DEFAULT: &str = "code-default";

pub(super) fn import(document: &Value, draft: &mut Draft) -> Result<(), String> {
    let Some(flags) = document.get("flags").and_then(Value::as_object) else {
        return Err("this is no flag file of flagd: it has no mapping `flags`".to_owned());
    };
    for key in unknown_keys(document, &["$schema", "$evaluators", "flags", "metadata"]) {
        let reason = format!("the key `{key}` is unknown");
        draft.lose(
            "",
            key,
            Extent::Part,
            reason,
            "see whether it changes what flags give, and write that by hand",
        );
    }
    let none = Map::new();
    let evaluators = document.get("$evaluators").and_then(Value::as_object).unwrap_or(&none);
    draft.expect(flags.keys().map(String::as_str));
    for (flag, definition) in flags {
        let losses = draft.losses.len();
        let route = filled_in(definition, evaluators, &format!("flags.{flag}"))
            .and_then(|definition| route(draft, flag, &definition, evaluators));
        draft.finish(flag, losses, route);
    }
    Ok(())
}

/// The flag with its evaluators in the place of `{"$ref": name}`.
fn filled_in(definition: &Value, evaluators: &Map<String, Value>, path: &str) -> Result<Value, Refusal> {
    let evaluators =
        Evaluators { all: evaluators, places: evaluators.keys().map(String::as_str).zip(0..).collect() };
    let mut left = MAX_EVALUATED;
    // An object at the top is a flag, not a reference.
    let Value::Object(fields) = definition else { return Ok(definition.clone()) };
    let mut filled = Map::new();
    for (key, value) in fields {
        let filled_in = evaluators.fill_in(value, 0, 2, &mut left);
        let value = filled_in.map_err(|reason| Refusal {
            path: format!("{path}.{key}"),
            reason,
            advice: "write the evaluators with fewer references to one another".to_owned(),
        })?;
        filled.insert(key.clone(), value);
    }
    Ok(Value::Object(filled))
}

/// flagd replaces the references to one evaluator after the other, in the order of the file, so that those within an
/// evaluator count when they are to a later one.
struct Evaluators<'d> {
    all: &'d Map<String, Value>,
    places: BTreeMap<&'d str, usize>,
}

impl Evaluators<'_> {
    fn fill_in(&self, value: &Value, first: usize, depth: usize, left: &mut usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("with its evaluators it is nested more than {MAX_DEPTH} levels deep"));
        }
        // Only what stands within an evaluator can be repeated.
        if first > 0 {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| format!("its evaluators hold more than {MAX_EVALUATED} values"))?;
        }
        let referred = reference(value).and_then(|name| {
            let place = *self.places.get(name)?;
            (place >= first).then_some(())?;
            Some((self.all.get(name)?, place + 1))
        });
        if let Some((evaluator, next)) = referred {
            return self.fill_in(evaluator, next, depth, left);
        }
        Ok(match value {
            Value::Object(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), self.fill_in(value, first, depth + 1, left)?)));
                Value::Object(entries.collect::<Result<_, String>>()?)
            }
            Value::Array(items) => {
                let items = items.iter().map(|item| self.fill_in(item, first, depth + 1, left));
                Value::Array(items.collect::<Result<_, String>>()?)
            }
            scalar => scalar.clone(),
        })
    }
}

/// The evaluator that a value stands for.
fn reference(value: &Value) -> Option<&str> {
    value.as_object().filter(|object| object.len() == 1)?.get("$ref")?.as_str()
}

fn route(
    draft: &mut Draft,
    flag: &str,
    definition: &Value,
    evaluators: &Map<String, Value>,
) -> Result<Route, Refusal> {
    let path = &format!("flags.{flag}");
    if !definition.is_object() {
        let reason = format!("a flag is a mapping, and this is {}", kind(definition));
        return refuse(path, reason, "write `state`, `variants` and `defaultVariant`");
    }
    let mut route = draft.route(flag, path);
    for key in unknown_keys(definition, &["state", "variants", "defaultVariant", "targeting", "metadata"]) {
        let reason = format!("the key `{key}` is unknown");
        draft.lose(
            flag,
            &format!("{path}.{key}"),
            Extent::Part,
            reason,
            "see whether it changes what the flag gives",
        );
    }
    let mut names = Names::default();
    let variants = definition.get("variants").unwrap_or(&Value::Null);
    let Some(variants) = variants.as_object() else {
        let reason = format!("`variants` is a mapping, and this is {}", kind(variants));
        return refuse(&format!("{path}.variants"), reason, "write the flag's values by name");
    };
    variants.keys().for_each(|variant| route.variant_names.keep(variant));
    for (variant, value) in variants {
        let name = route.variant(variant, Some(value.clone()))?;
        if name != *variant {
            let reason = format!("`{variant}` cannot name a variant; it is called `{name}`");
            draft.lose(
                flag,
                &format!("{path}.variants.{variant}"),
                Extent::Name,
                reason,
                "compare with the new name",
            );
        }
        names.variants.insert(variant.clone(), name);
    }
    let default = definition.get("defaultVariant").and_then(Value::as_str).unwrap_or_default();
    let baseline = names.serve(draft, &mut route, default, &format!("{path}.defaultVariant"))?;
    route.baseline.clone_from(&baseline);
    let state = definition.get("state");
    match state.and_then(Value::as_str) {
        Some("ENABLED") => {}
        Some("DISABLED") => {
            route.enabled = false;
            let reason = "it is disabled: flagd gives callers the value that they pass along, the route serves its baseline";
            draft.lose(
                flag,
                &format!("{path}.state"),
                Extent::Part,
                reason,
                "set `baseline` to the variant that callers fall back to",
            );
        }
        _ => {
            let reason = match state {
                None => "it has no state".to_owned(),
                Some(state) => format!("{state} is no state"),
            };
            return refuse(&format!("{path}.state"), reason, "write ENABLED or DISABLED");
        }
    }
    let targeting =
        definition.get("targeting").filter(|logic| logic.as_object().is_none_or(|logic| !logic.is_empty()));
    if let Some(targeting) = targeting.filter(|logic| !logic.is_null()) {
        let mut reader = Reader { draft, route: &mut route, names, flag, evaluators };
        let facts = Facts::default();
        reader.outcome(targeting, Condition::Always, &facts, &format!("{path}.targeting"))?;
    }
    route.close(Serve::Variant(baseline));
    Ok(route)
}

/// The route's variants by the flag's name for them.
#[derive(Default)]
struct Names {
    variants: BTreeMap<String, String>,
    /// The variant that stands for the value that callers pass along.
    code_default: Option<String>,
}

impl Names {
    /// The variant of this name. When there is none, flagd gives callers the value that they pass along.
    fn serve(
        &mut self,
        draft: &mut Draft,
        route: &mut Route,
        variant: &str,
        path: &str,
    ) -> Result<String, Refusal> {
        if let Some(name) = self.variants.get(variant) {
            return Ok(name.clone());
        }
        let name = match &self.code_default {
            Some(name) => name.clone(),
            None => route.invented_variant(CODE_DEFAULT, None)?,
        };
        self.code_default = Some(name.clone());
        let what = if variant.is_empty() {
            "there is no default variant".to_owned()
        } else {
            format!("there is no variant `{variant}`")
        };
        let reason =
            format!("{what}: flagd gives callers the value that they pass along, the route serves `{name}`");
        draft.lose(
            &route.flag,
            path,
            Extent::Part,
            reason,
            "give that variant the payload that callers fall back to",
        );
        Ok(name)
    }
}

struct Reader<'a> {
    draft: &'a mut Draft,
    route: &'a mut Route,
    names: Names,
    flag: &'a str,
    evaluators: &'a Map<String, Value>,
}

/// What a comparison can be between.
enum Operand<'v> {
    Timestamp,
    Subject(Subject, Option<&'v Value>),
    Literal(&'v Value),
}

impl Reader<'_> {
    /// Adds the rules for what an expression gives under a condition. They always match under it. The facts are what the
    /// condition and the rules before these say about the contexts that come here.
    fn outcome(
        &mut self,
        logic: &Value,
        condition: Condition,
        facts: &Facts<'_>,
        path: &str,
    ) -> Result<(), Refusal> {
        let serve = match logic {
            Value::Null => Serve::Variant(self.route.baseline.clone()),
            Value::String(name) => self.serve(name, path)?,
            Value::Bool(value) => self.serve(&value.to_string(), path)?,
            Value::Number(number) => self.serve(&number.to_string(), path)?,
            Value::Array(_) => return refuse(path, "a list is no variant", "correct the targeting"),
            Value::Object(_) => {
                let (operator, arguments) = self.operation(logic, path)?;
                let below = format!("{path}.{operator}");
                match operator {
                    "if" | "?:" => return self.branches(arguments, condition, facts, &below),
                    "fractional" => return self.fractional(arguments, condition, facts, &below),
                    "==" | "===" | "!=" | "!==" | "<" | "<=" | ">" | ">=" | "!" | "!!" | "in"
                    | "starts_with" | "ends_with" => {
                        // A test alone gives `true` or `false`, which are names of variants.
                        match self.condition(logic, path)?.given(facts) {
                            Condition::Always => self.serve("true", path)?,
                            Condition::Never => self.serve("false", path)?,
                            test => {
                                let (yes, no) = (self.serve("true", path)?, self.serve("false", path)?);
                                self.add(Condition::all([condition.clone(), test]), yes)?;
                                no
                            }
                        }
                    }
                    _ => {
                        let reason = format!("the variant is computed by `{operator}`");
                        return refuse(
                            &below,
                            reason,
                            "write each case as a branch of `if` that ends in a variant's name",
                        );
                    }
                }
            }
        };
        self.add(condition, serve)
    }

    fn add(&mut self, condition: Condition, serve: Serve) -> Result<(), Refusal> {
        self.route.rule(self.draft, "targeting", condition, serve)
    }

    fn serve(&mut self, variant: &str, path: &str) -> Result<Serve, Refusal> {
        Ok(Serve::Variant(self.names.serve(self.draft, self.route, variant, path)?))
    }

    fn branches(
        &mut self,
        arguments: &[Value],
        condition: Condition,
        facts: &Facts<'_>,
        path: &str,
    ) -> Result<(), Refusal> {
        let mut facts = Facts::within(facts);
        let pairs = arguments.chunks(2).zip((0..).step_by(2));
        for (pair, index) in pairs {
            match pair {
                [test, then] => {
                    let test = self.condition(test, &format!("{path}[{index}]"))?.given(&facts);
                    let path = format!("{path}[{}]", index + 1);
                    match test {
                        Condition::Never => {}
                        Condition::Always => return self.outcome(then, condition, &facts, &path),
                        test => {
                            let mut within = Facts::within(&facts);
                            within.learn(&test, true);
                            self.draft.spend(condition.weight(), &path)?;
                            let both = Condition::all([condition.clone(), test.clone()]);
                            self.outcome(then, both, &within, &path)?;
                            facts.learn(&test, false);
                        }
                    }
                }
                [otherwise] => {
                    return self.outcome(otherwise, condition, &facts, &format!("{path}[{index}]"));
                }
                _ => {}
            }
        }
        self.outcome(&Value::Null, condition, &facts, path)
    }

    fn fractional(
        &mut self,
        arguments: &[Value],
        condition: Condition,
        facts: &Facts<'_>,
        path: &str,
    ) -> Result<(), Refusal> {
        let hash = self.draft.hash;
        let otherwise = Serve::Variant(self.route.baseline.clone());
        let first = arguments.first().filter(|first| !first.is_array());
        let (entries, skipped) =
            if first.is_some() { (arguments.get(1..).unwrap_or_default(), 1) } else { (arguments, 0) };
        let Some(weights) = self.weights(entries, skipped, path)? else {
            // flagd finds nothing wrong enough to say so and serves the default.
            return self.add(condition, otherwise);
        };
        let (salt, unit, joined) = match first {
            None => (self.flag.to_owned(), vec![self.draft.subject("targetingKey")], false),
            Some(Value::String(text)) => (text.clone(), Vec::new(), true),
            Some(expression) => self.unit(expression, &format!("{path}[0]"))?,
        };
        if joined && hash == Algorithm::FlagdCbor && !salt.is_empty() && !unit.is_empty() {
            return refuse(
                path,
                "this hash has no equal for `cat` with a text",
                "bucket by the flag's key and the targeting key (without an expression)",
            );
        }
        let constant = |salt: &str| {
            let (salt, unit) = if hash == Algorithm::FlagdCbor { ("", salt) } else { (salt, "") };
            assigned(hash, salt, unit, &weights).map(str::to_owned)
        };
        let Some(subject) = unit.first() else {
            let name = constant(&salt).unwrap_or_else(|| self.route.baseline.clone());
            return self.add(condition, Serve::Variant(name));
        };
        if joined {
            // `cat` takes what is missing for an empty text, so all contexts without the unit share a variant.
            if unit.len() == 1 {
                let absent = subject.absent().given(facts);
                if absent != Condition::Never {
                    let reason = "in flagd's SDK for JavaScript, `cat` makes an empty text of what is missing or the word `null`, depending on what stands around it; here it is an empty text";
                    let advice = "pass the unit, or ask for it in a branch around the split";
                    self.draft.lose(self.flag, path, Extent::Part, reason, advice);
                }
                if let Some(name) = constant(&salt).filter(|name| *name != self.route.baseline) {
                    self.add(Condition::all([condition.clone(), absent]), Serve::Variant(name))?;
                }
            } else {
                let reason = "`cat` takes what is missing for an empty text; a split serves the baseline when a part of its unit is missing";
                self.draft.lose(self.flag, path, Extent::Part, reason, "pass all parts of the unit");
            }
        }
        let layer = self.draft.layer(hash, &salt);
        self.add(condition, Serve::Split { layer, unit, weights })
    }

    /// Variants and weights; `None` when flagd would not make a choice. A variant that comes again gets a name of its own.
    fn weights(
        &mut self,
        entries: &[Value],
        skipped: usize,
        path: &str,
    ) -> Result<Option<Vec<(String, u32)>>, Refusal> {
        let legacy = matches!(self.draft.hash, Algorithm::FlagdLegacy | Algorithm::FlagdLegacyUtf8);
        let mut read = Vec::new();
        for (entry, index) in entries.iter().zip(skipped..) {
            let path = format!("{path}[{index}]");
            let Some(parts @ ([_] | [_, _])) = entry.as_array().map(Vec::as_slice) else { return Ok(None) };
            if parts.iter().any(|part| part.is_object() || part.is_array()) {
                return refuse(
                    &path,
                    "a variant or weight is computed",
                    "write the cases as branches of `if`, each with its own `fractional`",
                );
            }
            let variant = match parts.first() {
                Some(Value::String(name)) => Some(name.clone()),
                Some(Value::Null) | None => None,
                Some(other) if legacy => {
                    return refuse(
                        &path,
                        format!("the legacy rule takes no variant {other}"),
                        "write its name",
                    );
                }
                Some(other) => Some(other.to_string()),
            };
            let weight = match parts.get(1) {
                None => 1.0,
                Some(weight) => match weight.as_f64() {
                    Some(weight) if legacy || weight.fract() == 0.0 => weight.max(0.0),
                    _ => return Ok(None),
                },
            };
            read.push((variant, weight, path));
        }
        let total: f64 = read.iter().map(|(_, weight, _)| weight).sum();
        if total <= 0.0 || total > MAX_WEIGHTS {
            return Ok(None);
        }
        let scale = if read.iter().all(|(_, weight, _)| weight.fract() == 0.0) { 1.0 } else { DECIMALS };
        let (mut weights, mut taken): (Vec<(String, u32)>, BTreeSet<String>) = Default::default();
        for (variant, weight, path) in read {
            let weight = weight * scale;
            if weight.fract() != 0.0 || total * scale > MAX_WEIGHTS {
                return refuse(
                    &path,
                    "the weights have more than three decimals",
                    "write whole numbers in the same proportion",
                );
            }
            let name = match &variant {
                Some(variant) => self.names.serve(self.draft, self.route, variant, &path)?,
                None => self.route.baseline.clone(),
            };
            let name = if taken.insert(name.clone()) { name } else { self.again(&name, &path)? };
            weights.push((name, weight as u32));
        }
        Ok(Some(weights))
    }

    /// Another variant with the payload of this one.
    fn again(&mut self, name: &str, path: &str) -> Result<String, Refusal> {
        let payload = self
            .route
            .variants
            .iter()
            .find(|variant| variant.name == name)
            .and_then(|variant| variant.payload.clone());
        let again = self.route.invented_variant(name, payload)?;
        let reason = format!("the variant `{name}` occurs twice in one split; here it is called `{again}`");
        self.draft.lose(self.flag, path, Extent::Name, reason, "give both the same model");
        Ok(again)
    }

    /// Salt and unit of a bucketing expression, and whether it joins texts.
    fn unit(&mut self, expression: &Value, path: &str) -> Result<(String, Vec<Subject>, bool), Refusal> {
        let advice = "bucket by one attribute, or by `cat` of the flag's key and attributes";
        if !expression.is_object() {
            return refuse(path, "this is no text to bucket by", advice);
        }
        let (operator, arguments) = self.operation(expression, path)?;
        match operator {
            "var" => match self.operand(expression, path)? {
                Operand::Subject(subject, None) => Ok((String::new(), vec![subject], false)),
                _ if arguments.first().and_then(Value::as_str) == Some(FLAG_KEY) => {
                    Ok((self.flag.to_owned(), Vec::new(), true))
                }
                _ => refuse(path, "the unit has a default value or is the time", advice),
            },
            "cat" => {
                let (mut salt, mut unit) = (String::new(), Vec::new());
                for (part, index) in arguments.iter().zip(0..) {
                    let path = format!("{path}.cat[{index}]");
                    let (text, subject) = match part {
                        Value::String(text) => (text.clone(), None),
                        Value::Object(_) => match self.operand(part, &path)? {
                            Operand::Subject(subject, None) => (String::new(), Some(subject)),
                            Operand::Literal(Value::Null) => (self.flag.to_owned(), None),
                            _ => return refuse(&path, "the unit has a default value or is the time", advice),
                        },
                        other => (other.to_string(), None),
                    };
                    if !unit.is_empty() && !text.is_empty() {
                        return refuse(&path, "a text stands behind an attribute in the unit", advice);
                    }
                    salt.push_str(&text);
                    if let Some(subject) = subject {
                        if unit.contains(&subject) {
                            return refuse(&path, "an attribute occurs twice in the unit", advice);
                        }
                        unit.push(subject);
                    }
                }
                Ok((salt, unit, true))
            }
            other => refuse(path, format!("the unit is computed by `{other}`"), advice),
        }
    }

    /// An object of one key, whose value is the argument or the list of arguments.
    fn operation<'v>(&self, logic: &'v Value, path: &str) -> Result<(&'v str, &'v [Value]), Refusal> {
        if let Some(name) = reference(logic) {
            if self.evaluators.contains_key(name) {
                let reason = format!(
                    "the evaluator `{name}` asks for itself, or is asked for by one that stands behind it; flagd puts evaluators in one after the other, so this reference stays"
                );
                return refuse(
                    path,
                    reason,
                    "write it out, or move it behind all evaluators that ask for it",
                );
            }
            return refuse(path, format!("there is no evaluator `{name}`"), "define it in `$evaluators`");
        }
        let entries = logic.as_object();
        let Some((operator, argument)) =
            entries.filter(|entries| entries.len() == 1).and_then(|entries| entries.iter().next())
        else {
            return refuse(path, "an operation has exactly one key", "correct the targeting");
        };
        Ok((operator, argument.as_array().map_or(std::slice::from_ref(argument), Vec::as_slice)))
    }

    /// A literal, or a variable. The flag's key comes back as the literal null, which nothing else is.
    fn operand<'v>(&self, value: &'v Value, path: &str) -> Result<Operand<'v>, Refusal> {
        if !value.is_object() {
            return Ok(Operand::Literal(value));
        }
        let (operator, arguments) = self.operation(value, path)?;
        if operator != "var" {
            let reason = format!("`{operator}` computes what is compared");
            return refuse(path, reason, "compare an attribute with a value");
        }
        let Some(name) = arguments.first().and_then(Value::as_str).filter(|name| !name.is_empty()) else {
            return refuse(path, "`var` names no attribute", "name the attribute");
        };
        match name {
            TIMESTAMP => Ok(Operand::Timestamp),
            FLAG_KEY => Ok(Operand::Literal(&Value::Null)),
            _ => {
                let otherwise = arguments.get(1).filter(|otherwise| !otherwise.is_null());
                Ok(Operand::Subject(self.draft.subject(name), otherwise))
            }
        }
    }

    fn condition(&mut self, logic: &Value, path: &str) -> Result<Condition, Refusal> {
        match logic {
            Value::Null => return Ok(Condition::Never),
            Value::Bool(value) => return Ok(Condition::constant(*value)),
            Value::Number(number) => return Ok(Condition::constant(number.as_f64() != Some(0.0))),
            Value::String(text) => return Ok(Condition::constant(!text.is_empty())),
            Value::Array(items) => return Ok(Condition::constant(!items.is_empty())),
            Value::Object(_) => {}
        }
        let (operator, arguments) = self.operation(logic, path)?;
        let below = format!("{path}.{operator}");
        let nested = |reader: &mut Self| -> Result<Vec<Condition>, Refusal> {
            arguments
                .iter()
                .zip(0..)
                .map(|(part, index)| reader.condition(part, &format!("{below}[{index}]")))
                .collect()
        };
        match operator {
            "and" => Ok(Condition::all(nested(self)?)),
            "or" => Ok(Condition::any(nested(self)?)),
            "!" => Ok(Condition::all(nested(self)?.into_iter().take(1)).not()),
            "!!" => Ok(Condition::all(nested(self)?.into_iter().take(1))),
            "if" | "?:" => {
                let mut parts = nested(self)?.into_iter();
                let (mut any, mut before, mut weight) = (Vec::new(), Vec::new(), 0);
                while let Some(test) = parts.next() {
                    // What was asked before is asked again in every branch.
                    weight += test.weight();
                    self.draft.spend(weight, &below)?;
                    let Some(then) = parts.next() else {
                        any.push(Condition::all(before.iter().cloned().chain([test])));
                        break;
                    };
                    self.draft.spend(then.weight(), &below)?;
                    any.push(Condition::all(before.iter().cloned().chain([test.clone(), then])));
                    before.push(test.not());
                }
                Ok(Condition::any(any))
            }
            "var" => match self.operand(logic, path)? {
                Operand::Subject(subject, None) => Ok(truthy(&subject)),
                Operand::Literal(_) | Operand::Timestamp => Ok(Condition::Always),
                Operand::Subject(subject, Some(otherwise)) => {
                    let otherwise = self.condition(otherwise, &below)?;
                    Ok(Condition::any([truthy(&subject), Condition::all([subject.absent(), otherwise])]))
                }
            },
            "==" | "===" | "!=" | "!==" | "<" | "<=" | ">" | ">=" => {
                self.comparison(operator, arguments, &below)
            }
            "in" => self.within(arguments, &below),
            "starts_with" | "ends_with" => {
                let [subject, Value::String(text)] = arguments else {
                    return refuse(
                        &below,
                        "it does not compare an attribute with a text",
                        "compare an attribute with a text",
                    );
                };
                let key = if operator == "starts_with" { "prefix" } else { "suffix" };
                let holds = |value: &Value| {
                    let value = value.as_str();
                    value.is_some_and(|value| {
                        if key == "prefix" {
                            value.starts_with(text.as_str())
                        } else {
                            value.ends_with(text.as_str())
                        }
                    })
                };
                let subject = self.operand(subject, &below)?;
                if text.is_empty() {
                    return refuse(&below, "every text has an empty beginning and end", "leave the test out");
                }
                self.tested(subject, &below, |subject| Ok(subject.test(key, json!(text))), holds)
            }
            "sem_ver" => self.version(arguments, &below),
            "fractional" => refuse(
                &below,
                "a split stands where a condition is expected",
                "write the split as the outcome of a branch",
            ),
            other => refuse(
                &below,
                format!("`{other}` is no test that a policy has"),
                "write the condition with comparisons, `in`, `starts_with`, `ends_with` and `sem_ver`",
            ),
        }
    }

    /// A test of a subject, with what a default value in `var` makes of it.
    fn tested(
        &self,
        operand: Operand<'_>,
        path: &str,
        test: impl FnOnce(&Subject) -> Result<Condition, Refusal>,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Condition, Refusal> {
        match operand {
            Operand::Subject(subject, None) => test(&subject),
            Operand::Subject(subject, Some(otherwise)) => {
                let otherwise = Condition::constant(holds(otherwise));
                let present = Condition::all([subject.present(), test(&subject)?]);
                Ok(Condition::any([present, Condition::all([subject.absent(), otherwise])]))
            }
            Operand::Literal(Value::Null) => Ok(Condition::constant(holds(&json!(self.flag)))),
            Operand::Literal(value) => Ok(Condition::constant(holds(value))),
            Operand::Timestamp => refuse(
                path,
                "the time is compared in a way that a policy does not have",
                "compare it with <, <=, > or >=",
            ),
        }
    }

    fn comparison(&self, operator: &str, arguments: &[Value], path: &str) -> Result<Condition, Refusal> {
        if let ([low, middle, high], "<" | "<=" | ">" | ">=") = (arguments, operator) {
            let first = self.comparison(operator, &[low.clone(), middle.clone()], path)?;
            let second = self.comparison(operator, &[middle.clone(), high.clone()], path)?;
            return Ok(Condition::all([first, second]));
        }
        let [left, right] = arguments else {
            return refuse(path, "it does not compare two things", "compare an attribute with a value");
        };
        let (left, right) = (self.operand(left, path)?, self.operand(right, path)?);
        let (operand, literal, operator) = match (left, right) {
            (operand, Operand::Literal(literal)) => (operand, literal, operator),
            (Operand::Literal(literal), operand) => (operand, literal, mirrored(operator)),
            _ => {
                return refuse(
                    path,
                    "two attributes are compared with each other",
                    "compare an attribute with a value",
                );
            }
        };
        if let Operand::Timestamp = operand {
            return timestamp(operator, literal, path);
        }
        match operator {
            "==" | "===" => self.equality(operand, literal, operator == "===", path),
            "!=" | "!==" => Ok(self.equality(operand, literal, operator == "!==", path)?.not()),
            _ => {
                let Some(bound) = literal.as_f64() else {
                    return refuse(
                        path,
                        format!("{literal} is no number to compare with"),
                        "compare with a number",
                    );
                };
                let key = match operator {
                    "<" => "lt",
                    "<=" => "lte",
                    ">" => "gt",
                    _ => "gte",
                };
                let holds = |value: f64| match key {
                    "lt" => value < bound,
                    "lte" => value <= bound,
                    "gt" => value > bound,
                    _ => value >= bound,
                };
                let test = |subject: &Subject| match subject {
                    Subject::Field(field) => refuse(
                        path,
                        format!("the {} is a text, which has no order", field.name()),
                        "pass the number as another attribute",
                    ),
                    // What is missing counts as 0.
                    subject => Ok(Condition::any([
                        subject.test(key, literal.clone()),
                        Condition::all([subject.absent(), Condition::constant(holds(0.0))]),
                    ])),
                };
                self.tested(operand, path, test, |value| value.as_f64().is_some_and(holds))
            }
        }
    }

    fn equality(
        &self,
        operand: Operand<'_>,
        literal: &Value,
        strict: bool,
        path: &str,
    ) -> Result<Condition, Refusal> {
        let test = |subject: &Subject| match (literal, subject) {
            (Value::Null, subject) => Ok(subject.absent()),
            (Value::Array(_) | Value::Object(_), _) => refuse(
                path,
                "an attribute is compared with a list or an object",
                "compare it with a text, a number, true or false",
            ),
            (Value::String(text), Subject::Field(_)) if text.is_empty() => Ok(subject.absent()),
            (Value::Number(number), Subject::Field(_)) => Ok(subject.test("eq", json!(number.to_string()))),
            (Value::Bool(_), Subject::Field(_)) => Ok(Condition::Never),
            (literal, subject) => {
                let zero = matches!(literal, Value::Bool(false)) || literal.as_f64() == Some(0.0);
                let missing = Condition::all([subject.absent(), Condition::constant(zero && !strict)]);
                Ok(Condition::any([subject.test("eq", literal.clone()), missing]))
            }
        };
        self.tested(operand, path, test, |value| {
            value == literal || value.as_f64().is_some_and(|number| literal.as_f64() == Some(number))
        })
    }

    fn within(&self, arguments: &[Value], path: &str) -> Result<Condition, Refusal> {
        let [item, container] = arguments else {
            return refuse(path, "`in` needs two arguments", "write `{\"in\": [{\"var\": …}, […]]}`");
        };
        match container {
            Value::Array(values) => {
                if values.iter().any(|value| value.is_object() || value.is_array()) {
                    return refuse(path, "the list has something else than values in it", "write the values");
                }
                let test = |subject: &Subject| {
                    let field = matches!(subject, Subject::Field(_));
                    let mut kept = Vec::new();
                    for value in values {
                        let value = match value {
                            Value::Null => continue,
                            Value::Number(number) if field => json!(number.to_string()),
                            Value::Bool(_) if field => continue,
                            Value::String(text) if field && text.is_empty() => continue,
                            value => value.clone(),
                        };
                        if !kept.contains(&value) {
                            kept.push(value);
                        }
                    }
                    let none = Condition::constant(values.iter().any(Value::is_null));
                    let some = if kept.is_empty() {
                        Condition::Never
                    } else {
                        subject.test("in", Value::Array(kept))
                    };
                    Ok(Condition::any([some, Condition::all([subject.absent(), none])]))
                };
                let operand = self.operand(item, path)?;
                self.tested(operand, path, test, |value| values.contains(value))
            }
            Value::Object(_) => {
                let Value::String(text) = item else {
                    return refuse(
                        path,
                        "two attributes are compared with each other",
                        "look for a text in an attribute",
                    );
                };
                if text.is_empty() {
                    return refuse(path, "every text contains the empty text", "leave the test out");
                }
                let operand = self.operand(container, path)?;
                let holds = |value: &Value| value.as_str().is_some_and(|value| value.contains(text.as_str()));
                self.tested(operand, path, |subject| Ok(subject.test("contains", json!(text))), holds)
            }
            _ => refuse(path, "an attribute is looked for in a text", "list the values that it may have"),
        }
    }

    fn version(&self, arguments: &[Value], path: &str) -> Result<Condition, Refusal> {
        let [subject, Value::String(operator), version] = arguments else {
            return refuse(
                path,
                "`sem_ver` needs an attribute, an operator and a version",
                "write all three",
            );
        };
        let written = version.as_str().map_or_else(|| version.to_string(), str::to_owned);
        let bare = written.trim_start_matches(['v', 'V']);
        let complete = [bare.to_owned(), format!("{bare}.0"), format!("{bare}.0.0")];
        let Some(version) = complete.iter().find_map(|text| semver::Version::parse(text).ok()) else {
            // Never true, and its opposite neither, as flagd has it.
            return Ok(Condition::Never);
        };
        let (major, minor) = (version.major, version.minor);
        let comparators = match operator.as_str() {
            "=" | "!=" | "<" | "<=" | ">" | ">=" => format!("{operator}{version}"),
            "^" => format!(">={major}.0.0-0 <{}.0.0-0", major + 1),
            "~" => format!(">={major}.{minor}.0-0 <{major}.{}.0-0", minor + 1),
            other => {
                return refuse(
                    path,
                    format!("`{other}` is no operator of `sem_ver`"),
                    "use =, !=, <, <=, >, >=, ^ or ~",
                );
            }
        };
        let operand = self.operand(subject, path)?;
        match operand {
            Operand::Subject(subject, None) => Ok(subject.test("semver", json!(comparators))),
            _ => refuse(path, "the version that is tested has a default value", "leave the default out"),
        }
    }
}

fn mirrored(operator: &str) -> &str {
    match operator {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        other => other,
    }
}

fn truthy(subject: &Subject) -> Condition {
    match subject {
        Subject::Field(_) => subject.present(),
        Subject::Attribute(_) => {
            Condition::all([subject.present(), subject.test("not_in", json!([false, 0, ""]))])
        }
    }
}

/// flagd's time is in whole seconds.
fn timestamp(operator: &str, literal: &Value, path: &str) -> Result<Condition, Refusal> {
    let advice = "compare it with <, <=, > or >= and a whole number of seconds since 1970";
    let Some(seconds) = literal.as_i64() else {
        return refuse(path, format!("the time is compared with {literal}"), advice);
    };
    let at = |seconds: Option<i64>| {
        let moment = seconds.and_then(|seconds| seconds.checked_mul(1000)).and_then(moment::format);
        moment.map_or_else(|| refuse(path, "the time is beyond the year 9999", advice), Ok)
    };
    let (key, moment) = match operator {
        ">" => ("from", at(seconds.checked_add(1))?),
        ">=" => ("from", at(Some(seconds))?),
        "<" => ("until", at(Some(seconds))?),
        "<=" => ("until", at(seconds.checked_add(1))?),
        _ => return refuse(path, "the time is compared with a single second", advice),
    };
    Ok(Condition::Test(json!({ "time": { key: moment } })))
}
