//! flagd's flag files: `targeting`, a tree of JSON Logic, becomes a list of rules.

use serde_json::{Value, json};

use super::draft::{Condition, Draft, Refusal, Route, Serve, Subject, assigned, refuse};
use super::{Extent, unknown_keys};
use crate::Algorithm;
use crate::moment;

/// The largest sum of weights that flagd takes.
const MAX_WEIGHTS: f64 = 2_147_483_647.0;
/// Weights with decimals, which only the legacy rule takes, become whole at this scale.
const DECIMALS: f64 = 1000.0;

const TIMESTAMP: &str = "$flagd.timestamp";
const FLAG_KEY: &str = "$flagd.flagKey";
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
    for (flag, definition) in flags {
        let path = format!("flags.{flag}");
        let mut definition = definition.clone();
        for (name, evaluator) in document.get("$evaluators").and_then(Value::as_object).into_iter().flatten()
        {
            replace_references(&mut definition, name, evaluator);
        }
        let losses = draft.losses.len();
        match route(draft, flag, &definition, &path) {
            Ok(route) => draft.routes.push(route),
            Err(refusal) => {
                // What was noted about parts of it no longer matters.
                draft.losses.truncate(losses);
                draft.refuse_flag(flag, refusal);
            }
        }
    }
    Ok(())
}

/// `{"$ref": name}` stands for an evaluator.
fn replace_references(value: &mut Value, name: &str, evaluator: &Value) {
    let is_reference = value.as_object().is_some_and(|object| object.len() == 1)
        && value.get("$ref").and_then(Value::as_str) == Some(name);
    if is_reference {
        value.clone_from(evaluator);
        return;
    }
    match value {
        Value::Object(entries) => {
            for value in entries.values_mut() {
                replace_references(value, name, evaluator);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|value| replace_references(value, name, evaluator)),
        _ => {}
    }
}

fn route(draft: &mut Draft, flag: &str, definition: &Value, path: &str) -> Result<Route, Refusal> {
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
    for (variant, value) in definition.get("variants").and_then(Value::as_object).into_iter().flatten() {
        let name = route.variant(variant, Some(value.clone()));
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
        names.variants.push((variant.clone(), name));
    }
    let default = definition.get("defaultVariant").and_then(Value::as_str).unwrap_or_default();
    let baseline = names.serve(draft, &mut route, default, &format!("{path}.defaultVariant"));
    route.baseline.clone_from(&baseline);
    match definition.get("state").and_then(Value::as_str) {
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
        other => {
            return refuse(
                &format!("{path}.state"),
                format!("{other:?} is no state"),
                "write ENABLED or DISABLED",
            );
        }
    }
    let targeting =
        definition.get("targeting").filter(|logic| logic.as_object().is_none_or(|logic| !logic.is_empty()));
    if let Some(targeting) = targeting.filter(|logic| !logic.is_null()) {
        let mut reader = Reader { draft, route: &mut route, names, flag };
        reader.outcome(targeting, Condition::Always, &format!("{path}.targeting"))?;
    }
    route.close(Serve::Variant(baseline));
    Ok(route)
}

/// The route's variants by the flag's name for them.
#[derive(Default)]
struct Names {
    variants: Vec<(String, String)>,
}

impl Names {
    fn get(&self, variant: &str) -> Option<String> {
        self.variants.iter().find(|(flag, _)| flag == variant).map(|(_, name)| name.clone())
    }

    /// The variant of this name. When there is none, flagd gives callers the value that they pass along.
    fn serve(&mut self, draft: &mut Draft, route: &mut Route, variant: &str, path: &str) -> String {
        if let Some(name) = self.get(variant) {
            return name;
        }
        let what = if variant.is_empty() {
            "there is no default variant".to_owned()
        } else {
            format!("there is no variant `{variant}`")
        };
        let reason = format!(
            "{what}: flagd gives callers the value that they pass along, the route serves `{CODE_DEFAULT}`"
        );
        draft.lose(
            &route.flag,
            path,
            Extent::Part,
            reason,
            "give that variant the payload that callers fall back to",
        );
        let key = "\0code-default";
        if let Some(name) = self.get(key) {
            return name;
        }
        let name = route.variant(CODE_DEFAULT, None);
        self.variants.push((key.to_owned(), name.clone()));
        name
    }
}

struct Reader<'a> {
    draft: &'a mut Draft,
    route: &'a mut Route,
    names: Names,
    flag: &'a str,
}

/// What a comparison can be between.
enum Operand<'v> {
    Timestamp,
    Subject(Subject, Option<&'v Value>),
    Literal(&'v Value),
}

impl Reader<'_> {
    /// Adds the rules for what an expression gives under a condition. They always match under it.
    fn outcome(&mut self, logic: &Value, condition: Condition, path: &str) -> Result<(), Refusal> {
        let serve = match logic {
            Value::Null => Serve::Variant(self.route.baseline.clone()),
            Value::String(name) => self.serve(name, path),
            Value::Bool(value) => self.serve(&value.to_string(), path),
            Value::Number(number) => self.serve(&number.to_string(), path),
            Value::Array(_) => return refuse(path, "a list is no variant", "correct the targeting"),
            Value::Object(_) => {
                let (operator, arguments) = operation(logic, path)?;
                let below = format!("{path}.{operator}");
                match operator {
                    "if" | "?:" => return self.branches(arguments, condition, &below),
                    "fractional" => return self.fractional(arguments, condition, &below),
                    "==" | "===" | "!=" | "!==" | "<" | "<=" | ">" | ">=" | "!" | "!!" | "in"
                    | "starts_with" | "ends_with" => {
                        // A test alone gives `true` or `false`, which are names of variants.
                        let test = self.condition(logic, path)?;
                        let (yes, no) = (self.serve("true", path), self.serve("false", path));
                        self.add(Condition::all([condition.clone(), test]), yes);
                        no
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
        self.add(condition, serve);
        Ok(())
    }

    fn add(&mut self, condition: Condition, serve: Serve) {
        self.route.rule("targeting", condition, serve);
    }

    fn serve(&mut self, variant: &str, path: &str) -> Serve {
        Serve::Variant(self.names.serve(self.draft, self.route, variant, path))
    }

    fn branches(&mut self, arguments: &[Value], condition: Condition, path: &str) -> Result<(), Refusal> {
        let pairs = arguments.chunks(2).zip((0..).step_by(2));
        for (pair, index) in pairs {
            match pair {
                [test, then] => {
                    let test = self.condition(test, &format!("{path}[{index}]"))?;
                    let condition = Condition::all([condition.clone(), test]);
                    if condition != Condition::Never {
                        self.outcome(then, condition, &format!("{path}[{}]", index + 1))?;
                    }
                }
                [otherwise] => return self.outcome(otherwise, condition, &format!("{path}[{index}]")),
                _ => {}
            }
        }
        self.outcome(&Value::Null, condition, path)
    }

    fn fractional(&mut self, arguments: &[Value], condition: Condition, path: &str) -> Result<(), Refusal> {
        let hash = self.draft.hash;
        let otherwise = Serve::Variant(self.route.baseline.clone());
        let first = arguments.first().filter(|first| !first.is_array());
        let (entries, skipped) =
            if first.is_some() { (arguments.get(1..).unwrap_or_default(), 1) } else { (arguments, 0) };
        let Some(weights) = self.weights(entries, skipped, path)? else {
            // flagd finds nothing wrong enough to say so and serves the default.
            self.add(condition, otherwise);
            return Ok(());
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
            self.add(condition, Serve::Variant(name));
            return Ok(());
        };
        if joined {
            // `cat` takes what is missing for an empty text, so all contexts without the unit share a variant.
            if unit.len() == 1 {
                if let Some(name) = constant(&salt).filter(|name| *name != self.route.baseline) {
                    self.add(Condition::all([condition.clone(), subject.absent()]), Serve::Variant(name));
                }
            } else {
                let reason = "`cat` takes what is missing for an empty text; a split serves the baseline when a part of its unit is missing";
                self.draft.lose(self.flag, path, Extent::Part, reason, "pass all parts of the unit");
            }
        }
        let layer = self.draft.layer(hash, &salt);
        self.add(condition, Serve::Split { layer, unit, weights });
        Ok(())
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
        let mut weights: Vec<(String, u32)> = Vec::new();
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
                Some(variant) => self.names.serve(self.draft, self.route, variant, &path),
                None => self.route.baseline.clone(),
            };
            let name =
                if weights.iter().any(|(taken, _)| *taken == name) { self.again(&name, &path) } else { name };
            weights.push((name, weight as u32));
        }
        Ok(Some(weights))
    }

    /// Another variant with the payload of this one.
    fn again(&mut self, name: &str, path: &str) -> String {
        let payload = self
            .route
            .variants
            .iter()
            .find(|variant| variant.name == name)
            .and_then(|variant| variant.payload.clone());
        let again = self.route.variant(name, payload);
        let reason = format!("the variant `{name}` occurs twice in one split; here it is called `{again}`");
        self.draft.lose(self.flag, path, Extent::Name, reason, "give both the same model");
        again
    }

    /// Salt and unit of a bucketing expression, and whether it joins texts.
    fn unit(&mut self, expression: &Value, path: &str) -> Result<(String, Vec<Subject>, bool), Refusal> {
        let advice = "bucket by one attribute, or by `cat` of the flag's key and attributes";
        if !expression.is_object() {
            return refuse(path, "this is no text to bucket by", advice);
        }
        let (operator, arguments) = operation(expression, path)?;
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

    /// A literal, or a variable. The flag's key comes back as the literal null, which nothing else is.
    fn operand<'v>(&self, value: &'v Value, path: &str) -> Result<Operand<'v>, Refusal> {
        if !value.is_object() {
            return Ok(Operand::Literal(value));
        }
        let (operator, arguments) = operation(value, path)?;
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
        let (operator, arguments) = operation(logic, path)?;
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
                let (mut any, mut before) = (Vec::new(), Vec::new());
                while let Some(test) = parts.next() {
                    let Some(then) = parts.next() else {
                        any.push(Condition::all(before.iter().cloned().chain([test])));
                        break;
                    };
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

/// An object of one key, whose value is the argument or the list of arguments.
fn operation<'v>(logic: &'v Value, path: &str) -> Result<(&'v str, &'v [Value]), Refusal> {
    let entries = logic.as_object();
    let Some((operator, argument)) =
        entries.filter(|entries| entries.len() == 1).and_then(|entries| entries.iter().next())
    else {
        return refuse(path, "an operation has exactly one key", "correct the targeting");
    };
    if operator == "$ref" {
        return refuse(path, format!("there is no evaluator {argument}"), "define it in `$evaluators`");
    }
    Ok((operator, argument.as_array().map_or(std::slice::from_ref(argument), Vec::as_slice)))
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
