//! Files of contexts: who asked for what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lockgate_policy::{Attribute, AttributeUse, Bundle, RequestContext, attribute_uses, decimal};
use serde::Deserialize;
use serde_json::Value;

use crate::config::nearest;
use crate::failure::Failure;
use crate::{files, output};

const FIELDS: [&str; 6] = ["route", "user", "symbol", "tenant", "session", "variant"];

/// Reads contexts: CSV with a header, whose columns are fields and attributes, or one JSON object a line. The cells of a table have no
/// types; they get those that the policies ask for.
pub(crate) fn read(path: &Path, policies: &[&Bundle]) -> Result<Vec<RequestContext>, Failure> {
    let text = files::read_text(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let contexts = match text.trim_start().chars().next() {
        Some('{') => json_lines(path, text)?,
        Some('[') => {
            let failure = Failure::new(format!("{}: this begins as a JSON array", path.display()));
            return Err(failure.hint("write one object a line, as `jq -c '.[]'` does"));
        }
        _ => table(path, text, &uses(policies))?,
    };
    // Nobody means to compare nothing.
    if contexts.is_empty() {
        return Err(Failure::new(format!("{}: there are no units in it", path.display())));
    }
    Ok(contexts)
}

/// Completes contexts with what they do not say themselves.
pub(crate) fn complete(contexts: &mut [RequestContext], base: &RequestContext) {
    for context in contexts {
        if context.route.is_empty() {
            context.route.clone_from(&base.route);
        }
        let fields = [
            (&mut context.user, &base.user),
            (&mut context.symbol, &base.symbol),
            (&mut context.tenant, &base.tenant),
            (&mut context.session, &base.session),
            (&mut context.variant, &base.variant),
        ];
        for (field, given) in fields {
            if field.is_none() {
                field.clone_from(given);
            }
        }
        for (name, value) in &base.attributes {
            context.attributes.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn at(path: &Path, line: u64, message: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{}:{line}: {message}", path.display()))
}

/// How the policies use each attribute, taken together.
fn uses(policies: &[&Bundle]) -> BTreeMap<String, AttributeUse> {
    let mut uses: BTreeMap<String, AttributeUse> = BTreeMap::new();
    for (name, used) in policies.iter().flat_map(|policy| attribute_uses(policy)) {
        let known = uses.entry(name).or_default();
        *known = known.or(used);
    }
    uses
}

/// A context as JSON. What an attribute is, is looked at later, for better words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    route: Option<String>,
    user: Option<String>,
    symbol: Option<String>,
    tenant: Option<String>,
    session: Option<String>,
    variant: Option<String>,
    attributes: Option<BTreeMap<String, Value>>,
}

fn json_lines(path: &Path, text: &str) -> Result<Vec<RequestContext>, Failure> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let read = |(line, number): (&str, u64)| {
        let Line { route, user, symbol, tenant, session, variant, attributes } = serde_json::from_str(line)
            .map_err(|error| {
            // The position within the line says "line 1" for every line of the file.
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
            at(path, number, format!("column {}: this is no context: {message}", error.column()))
        })?;
        let mut context =
            RequestContext { user, symbol, tenant, session, variant, ..RequestContext::default() };
        context.route = route.unwrap_or_default();
        for (name, value) in attributes.unwrap_or_default() {
            let value = json_attribute(&value)
                .map_err(|problem| at(path, number, format!("the attribute `{name}` is {problem}")))?;
            context.attributes.extend(value.map(|value| (name, value)));
        }
        Ok(context)
    };
    lines.map(read).collect()
}

/// An attribute; nothing for `null`.
fn json_attribute(value: &Value) -> Result<Option<Attribute>, String> {
    let kind = match value {
        Value::Null => return Ok(None),
        Value::Bool(value) => return Ok(Some(Attribute::Boolean(*value))),
        Value::String(text) => return Ok(Some(Attribute::Text(text.clone()))),
        Value::Number(number) => match decimal(&number.to_string()) {
            Some(Ok(number)) => return Ok(Some(Attribute::Number(number))),
            Some(Err(inexact)) => return Err(format!("wrong: {inexact}; quote it to make it a text")),
            None => "a number that is not finite",
        },
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    Err(format!("{kind}; it can be a text, a number, `true` or `false`"))
}

/// What the cells of a column are.
enum Column<'h> {
    /// One of [`FIELDS`].
    Field(&'h str),
    /// An attribute whose type the policies say.
    Used(&'h str, AttributeUse),
    /// An attribute whose type stands in the header.
    Typed(&'h str, Type),
}

#[derive(Clone, Copy)]
enum Type {
    Number,
    Text,
    Boolean,
}

impl Type {
    const ALL: [(Self, &str); 3] =
        [(Self::Number, "number"), (Self::Text, "text"), (Self::Boolean, "boolean")];

    fn read(self, cell: &str) -> Result<Attribute, String> {
        match (self, cell) {
            (Self::Text, _) => Ok(Attribute::Text(cell.to_owned())),
            (Self::Boolean, "true") => Ok(Attribute::Boolean(true)),
            (Self::Boolean, "false") => Ok(Attribute::Boolean(false)),
            (Self::Boolean, _) => Err(format!("`{cell}` is neither `true` nor `false`")),
            (Self::Number, _) => match decimal(cell) {
                Some(number) => number.map(Attribute::Number).map_err(|inexact| inexact.to_string()),
                None => Err(format!("`{cell}` is no number")),
            },
        }
    }
}

/// The name of an attribute and the type that is written behind it, `age:number`.
fn typed(column: &str) -> Option<(&str, Type)> {
    Type::ALL.iter().find_map(|(of, word)| Some((column.strip_suffix(word)?.strip_suffix(':')?, *of)))
}

fn columns<'h>(
    path: &Path,
    header: &'h csv::StringRecord,
    uses: &BTreeMap<String, AttributeUse>,
) -> Result<Vec<Column<'h>>, Failure> {
    if !header.iter().any(|column| FIELDS.contains(&column)) {
        let failure = at(path, 1, format!("the header has none of the columns {}", FIELDS.join(", ")));
        return Err(match header.iter().find_map(|column| nearest(column, FIELDS.into_iter())) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint("the first line names the columns; others become attributes"),
        });
    }
    let mut names = BTreeSet::new();
    let mut columns = Vec::new();
    for (column, place) in header.iter().zip(1_usize..) {
        let written = typed(column);
        let name = written.map_or(column, |(name, _)| name);
        if name.is_empty() {
            return Err(at(path, 1, format!("column {place} has no name")));
        }
        if !names.insert(name) {
            return Err(at(path, 1, format!("there are two columns `{name}`")));
        }
        columns.push(match written {
            None if FIELDS.contains(&name) => Column::Field(name),
            Some(_) if FIELDS.contains(&name) => {
                let failure = at(path, 1, format!("the column `{column}` is none: `{name}` is always a text"));
                return Err(failure.hint(format!("write `{name}`")));
            }
            Some((name, of)) => Column::Typed(name, of),
            None => {
                let used = uses.get(name).copied().unwrap_or_default();
                if used.is_mixed() {
                    output::note(&format!(
                        "note: the policy uses `{name}` as a text and otherwise too; the column's cells are texts; `{name}:number` or `{name}:boolean` in the header makes them that"
                    ));
                }
                Column::Used(name, used)
            }
        });
    }
    Ok(columns)
}

fn table(
    path: &Path,
    text: &str,
    uses: &BTreeMap<String, AttributeUse>,
) -> Result<Vec<RequestContext>, Failure> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let wrong = |error: &csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        at(path, line, format!("this is not CSV: {error}"))
    };
    let header = reader.headers().map_err(|error| wrong(&error))?.clone();
    let columns = columns(path, &header, uses)?;
    let mut contexts = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| wrong(&error))?;
        let mut context = RequestContext::default();
        for (column, cell) in columns.iter().zip(&record).filter(|(_, cell)| !cell.is_empty()) {
            let (name, value) = match column {
                Column::Field(name) => {
                    *field(&mut context, name) = cell.to_owned();
                    continue;
                }
                Column::Used(name, used) => (name, used.read(cell).map_err(|inexact| inexact.to_string())),
                Column::Typed(name, of) => (name, of.read(cell)),
            };
            let value = value.map_err(|problem| {
                let line = record.position().map_or(0, csv::Position::line);
                at(path, line, format!("column `{name}`: {problem}"))
                    .hint(format!("`{name}:text` in the header makes texts of its cells"))
            })?;
            context.attributes.insert((*name).to_owned(), value);
        }
        contexts.push(context);
    }
    Ok(contexts)
}

/// The field called like one of [`FIELDS`].
fn field<'c>(context: &'c mut RequestContext, name: &str) -> &'c mut String {
    let field = match name {
        "user" => &mut context.user,
        "symbol" => &mut context.symbol,
        "tenant" => &mut context.tenant,
        "session" => &mut context.session,
        "variant" => &mut context.variant,
        _ => return &mut context.route,
    };
    field.get_or_insert_default()
}

#[cfg(test)]
mod tests {
    use lockgate_package::AlignedBytes;

    use super::*;

    /// A policy that asks for attributes in every way there is.
    fn policy() -> Bundle {
        let source = "
lockgate: 1
routes:
  r:
    unit: { attribute: account }
    variants: { a: { model: m@1.0.0 }, b: { model: m@2.0.0 } }
    baseline: a
    rules:
      - { name: age, if: { attribute: age, gte: 18 }, serve: b }
      - { name: country, if: { attribute: country, eq: DE }, serve: b }
      - { name: vip, if: { attribute: vip, eq: true }, serve: b }
      - { name: since, if: { attribute: since, from: 2026-01-01T00:00:00Z }, serve: b }
      - { name: mixed, if: { attribute: mixed, in: [5, five] }, serve: b }
    default: { split: { a: 50, b: 50 } }
";
        let policy =
            lockgate_policy::parse("p.yaml", source).and_then(|source| lockgate_policy::check(&source));
        let options =
            lockgate_policy::CompileOptions { stand_ins: true, ..lockgate_policy::CompileOptions::default() };
        let compiled = lockgate_policy::compile(&policy.unwrap(), &options).unwrap();
        Bundle::load(AlignedBytes::copy_of(&compiled.bundle)).unwrap()
    }

    fn file(text: &str) -> Result<Vec<RequestContext>, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("units");
        std::fs::write(&path, text).unwrap();
        read(&path, &[&policy()]).map_err(|error| {
            let message = error.message().replace(&path.display().to_string(), "units");
            Failure::new(message)
        })
    }

    #[test]
    fn both_forms_say_the_same() {
        let csv = file("user,country,age,symbol\nalice,DE,5,EURUSD\nbob,,true,\n").unwrap();
        let json = file(
            "{\"user\": \"alice\", \"symbol\": \"EURUSD\", \"attributes\": {\"country\": \"DE\", \"age\": 5}}\n\n{\"user\": \"bob\", \"symbol\": null, \"attributes\": {\"age\": \"true\", \"country\": null}}\n",
        )
        .unwrap();
        assert_eq!(csv, json);
        assert_eq!(csv[0].attributes["age"], Attribute::Number(5.0));
    }

    #[test]
    fn cells_have_the_types_that_the_policy_asks_for() {
        let check = |column: &str, cell: &str, expected: Attribute| {
            let contexts = file(&format!("user,{column}\nu,{cell}\n")).unwrap();
            let name = column.split(':').next().unwrap();
            assert_eq!(contexts[0].attributes[name], expected, "{column}: {cell}");
        };
        let text = |text: &str| Attribute::Text(text.to_owned());
        check("account", "123", text("123"));
        check("account", "0123", text("0123"));
        check("account", "\"123\"", text("123"));
        check("account", "true", text("true"));
        check("country", "49", text("49"));
        check("age", "18", Attribute::Number(18.0));
        check("age", "old", text("old"));
        check("vip", "true", Attribute::Boolean(true));
        check("vip", "1", text("1"));
        check("since", "1800000000000", Attribute::Number(1.8e12));
        check("since", "2026-01-01T00:00:00Z", text("2026-01-01T00:00:00Z"));
        check("mixed", "5", text("5"));
        check("unknown", "5", text("5"));
        check("mixed:number", "5", Attribute::Number(5.0));
        check("age:text", "18", text("18"));
        check("unknown:boolean", "false", Attribute::Boolean(false));
    }

    #[test]
    fn errors_name_the_line() {
        let check = |text: &str, expected: &str| {
            let error = file(text).unwrap_err();
            assert!(error.message().starts_with(expected), "{error}");
        };
        check(
            "{\"user\": \"a\"}\n{\"usr\": 1}\n",
            "units:2: column 6: this is no context: unknown field `usr`",
        );
        check(
            "{\"user\": 5}\n",
            "units:1: column 10: this is no context: invalid type: integer `5`, expected a string",
        );
        check(
            "{\"user\": \"a\", \"attributes\": {\"x\": [1]}}\n",
            "units:1: the attribute `x` is a list; it can be a text, a number, `true` or `false`",
        );
        check(
            "{\"attributes\": {\"x\": 9007199254740993}}\n",
            "units:1: the attribute `x` is wrong: the number `90",
        );
        check("[{\"user\": \"a\"}]\n", "units: this begins as a JSON array");
        check("name,age\na,1\n", "units:1: the header has none of the columns route, user");
        check("user,symbol\na\n", "units:2: this is not CSV");
        check("user,x,user\na,1,b\n", "units:1: there are two columns `user`");
        check("user,x:text,x:number\na,1,1\n", "units:1: there are two columns `x`");
        check("user,\na,1\n", "units:1: column 2 has no name");
        check(
            "symbol,user:number\na,1\n",
            "units:1: the column `user:number` is none: `user` is always a text",
        );
        check(
            "user,age\na,1\nb,9007199254740993\n",
            "units:3: column `age`: the number `9007199254740993` cannot",
        );
        check("user,n:number\na,one\n", "units:2: column `n`: `one` is no number");
        check("user,n:boolean\na,1\n", "units:2: column `n`: `1` is neither `true` nor `false`");
        check("user\n", "units: there are no units in it");
        check("", "units:1: the header has none of the columns");
    }

    #[test]
    fn what_a_unit_does_not_say_comes_from_elsewhere() {
        let mut contexts = file("user,country\na,\n,DE\n").unwrap();
        let mut base = RequestContext { user: Some("z".to_owned()), ..RequestContext::new("r") };
        base.attributes.insert("country".to_owned(), Attribute::Text("CH".to_owned()));
        complete(&mut contexts, &base);
        let said: Vec<_> = contexts
            .iter()
            .map(|context| (context.route.as_str(), context.user.as_deref(), &context.attributes["country"]))
            .collect();
        let text = |text: &str| Attribute::Text(text.to_owned());
        assert_eq!(said, [("r", Some("a"), &text("CH")), ("r", Some("z"), &text("DE"))]);
    }
}
