//! Files of contexts: who asked for what.

use std::path::Path;

use lockgate_policy::RequestContext;

use super::decide::attribute_value;
use crate::config::nearest;
use crate::failure::Failure;
use crate::files;

const FIELDS: [&str; 6] = ["route", "user", "symbol", "tenant", "session", "variant"];

/// Reads contexts: CSV with a header, whose columns are fields and attributes, or one JSON object a line.
pub(crate) fn read(path: &Path) -> Result<Vec<RequestContext>, Failure> {
    let text = files::read_text(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let at = |line: u64, message: String| Failure::new(format!("{}:{line}: {message}", path.display()));
    if text.trim_start().starts_with('{') {
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        return lines
            .map(|(line, number)| {
                serde_json::from_str(line).map_err(|error| at(number, format!("this is no context: {error}")))
            })
            .collect();
    }
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let wrong = |error: &csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        at(line, format!("this is not CSV: {error}"))
    };
    let header = reader.headers().map_err(|error| wrong(&error))?.clone();
    if !header.iter().any(|column| FIELDS.contains(&column)) {
        let found: Vec<&str> = header.iter().collect();
        let failure = at(1, format!("the header has none of the columns {}", FIELDS.join(", ")));
        return Err(match found.iter().find_map(|column| nearest(column, FIELDS.into_iter())) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint("the first line names the columns; others become attributes"),
        });
    }
    let mut contexts = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| wrong(&error))?;
        let mut context = RequestContext::default();
        for (column, value) in header.iter().zip(&record).filter(|(_, value)| !value.is_empty()) {
            let text = Some(value.to_owned());
            match column {
                "route" => context.route = value.to_owned(),
                "user" => context.user = text,
                "symbol" => context.symbol = text,
                "tenant" => context.tenant = text,
                "session" => context.session = text,
                "variant" => context.variant = text,
                name => {
                    context.attributes.insert(name.to_owned(), attribute_value(value));
                }
            }
        }
        contexts.push(context);
    }
    Ok(contexts)
}

#[cfg(test)]
mod tests {
    use lockgate_policy::Attribute;

    use super::*;

    fn file(text: &str) -> Result<Vec<RequestContext>, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("units");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| {
            let message = error.message().replace(&path.display().to_string(), "units");
            Failure::new(message)
        })
    }

    #[test]
    fn both_forms_say_the_same() {
        let csv = file("user,country,age,symbol\nalice,DE,5,EURUSD\nbob,,true,\n").unwrap();
        let json = file(
            "{\"user\": \"alice\", \"symbol\": \"EURUSD\", \"attributes\": {\"country\": \"DE\", \"age\": 5}}\n\n{\"user\": \"bob\", \"attributes\": {\"age\": true}}\n",
        )
        .unwrap();
        assert_eq!(csv, json);
        assert_eq!(csv[0].attributes["age"], Attribute::Number(5.0));
    }

    #[test]
    fn errors_name_the_line() {
        let check = |text: &str, expected: &str| {
            let error = file(text).unwrap_err();
            assert!(error.message().starts_with(expected), "{error}");
        };
        check("{\"user\": \"a\"}\n{\"usr\": 1}\n", "units:2: this is no context: unknown field `usr`");
        check("name,age\na,1\n", "units:1: the header has none of the columns route, user");
        check("user,symbol\na\n", "units:2: this is not CSV");
    }
}
