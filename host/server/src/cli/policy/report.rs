//! What is wrong with a policy, shown in its source.

use std::collections::BTreeMap;

use lockgate_policy::{Diagnostic, Severity, printable};

/// How many diagnostics are shown in their source; of those beyond, each has a line.
const SHOWN: usize = 200;

/// Every diagnostic, the first ones with their line of the source. `texts` holds the sources by file name.
pub(crate) fn render<'d>(
    diagnostics: impl IntoIterator<Item = &'d Diagnostic>,
    texts: &BTreeMap<String, String>,
) -> String {
    let mut blocks = Vec::new();
    for diagnostic in diagnostics {
        if blocks.len() < SHOWN {
            let line = texts.get(&diagnostic.file).and_then(|text| {
                text.lines().nth(usize::try_from(diagnostic.line).unwrap_or_default().checked_sub(1)?)
            });
            blocks.push(block(diagnostic, line));
        } else {
            let Diagnostic { file, line, column, message, .. } = diagnostic;
            blocks.push(format!("{file}:{line}:{column}: {message}"));
        }
    }
    blocks.join("\n\n")
}

fn block(diagnostic: &Diagnostic, line: Option<&str>) -> String {
    let Diagnostic { line: number, column, file, path, message, expected, hint, severity, code, .. } =
        diagnostic;
    let kind = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let code = code.as_ref().map(|code| format!("[{code}]")).unwrap_or_default();
    let number = number.to_string();
    let margin = " ".repeat(number.len());
    let mut text = format!("{kind}{code}: {message}\n{margin}--> {file}:{number}:{column}");
    if !path.is_empty() {
        text.push_str(&format!(" ({path})"));
    }
    let Some(line) = line.filter(|line| !line.trim().is_empty()) else {
        for (name, value) in [("expected", expected), ("help", hint)] {
            text.extend(value.iter().map(|value| format!("\n{margin} = {name}: {value}")));
        }
        return text;
    };
    let line = line.trim_end().replace('\t', " ");
    let column = usize::try_from(*column).unwrap_or(1).saturating_sub(1);
    let before: String = line.chars().take(column).collect();
    let (line, column) = (printable(&line), printable(&before).chars().count());
    let (line, column) = excerpt(&line, column);
    let caret = "^".repeat(width(&line, column));
    text.push_str(&format!("\n{margin} |\n{number} | {line}\n{margin} | {:column$}{caret}", ""));
    for (name, value) in [("expected", expected), ("help", hint)] {
        text.extend(value.iter().map(|value| format!("\n{margin} = {name}: {value}")));
    }
    text
}

/// A long line is cut around the column.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    const WIDTH: usize = 110;
    let length = line.chars().count();
    if length <= WIDTH {
        return (line.to_owned(), column.min(length));
    }
    let start = column.saturating_sub(WIDTH / 2).min(length.saturating_sub(WIDTH));
    let text: String = line.chars().skip(start).take(WIDTH).collect();
    let (before, after) = (if start > 0 { "…" } else { "" }, if start + WIDTH < length { "…" } else { "" });
    (format!("{before}{text}{after}"), column.saturating_sub(start) + before.chars().count())
}

/// How long the word at `column` is.
fn width(line: &str, column: usize) -> usize {
    let mut rest = line.chars().skip(column).peekable();
    let word = match rest.peek() {
        Some(quote @ ('"' | '\'')) => {
            let quote = *quote;
            rest.skip(1).take_while(|c| *c != quote).count() + 2
        }
        _ => rest.take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ':' | ']' | '}' | '#')).count(),
    };
    word.clamp(1, line.chars().count().saturating_sub(column).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_marked_in_their_line() {
        let check = |line: &str, column, expected| assert_eq!(width(line, column), expected, "{line}");
        check("rotues: {}", 0, 6);
        check("a: [one, two]", 9, 3);
        check("a: \"b c\" # d", 3, 5);
        check("a: {", 3, 1);
        check("a", 5, 1);
        let escape = Diagnostic::clone(
            lockgate_policy::parse("p.yaml", "\u{1b}: [").unwrap_err().as_slice().first().unwrap(),
        );
        let shown = block(&Diagnostic::clone(&escape), Some("\u{1b}[31m: x # \u{202e}"));
        assert!(!shown.contains(['\u{1b}', '\u{202e}']) && shown.contains("\\u{1b}[31m: x"), "{shown}");
        let long = "x".repeat(300);
        let (text, column) = excerpt(&long, 250);
        assert_eq!((text.chars().count(), column), (111, 61));
    }
}
