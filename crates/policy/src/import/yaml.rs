//! Writes a tree of values as YAML that people can read on: blocks, and small mappings and lists in one line.

use serde_json::Value;

/// The longest mapping or list in one line.
const LINE: usize = 100;

/// Appends a value behind `key:` or `-`, at this depth of indentation.
pub(super) fn write(out: &mut String, value: &Value, depth: usize) {
    if let Some(line) = in_line(value) {
        out.push(' ');
        out.push_str(&line);
        out.push('\n');
        return;
    }
    out.push('\n');
    block(out, value, depth);
}

/// Appends the entries of a mapping or list, each on a line of its own.
pub(super) fn block(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                out.push_str(&indent);
                out.push_str(&text(key));
                out.push(':');
                write(out, value, depth + 1);
            }
        }
        Value::Array(items) => {
            for item in items {
                out.push_str(&indent);
                out.push('-');
                match item {
                    Value::Object(entries) if in_line(item).is_none() => {
                        // The first key stands behind the dash.
                        for ((key, value), first) in
                            entries.iter().zip([true].into_iter().chain([false].into_iter().cycle()))
                        {
                            if first {
                                out.push(' ');
                            } else {
                                out.push_str(&indent);
                                out.push_str("  ");
                            }
                            out.push_str(&text(key));
                            out.push(':');
                            write(out, value, depth + 2);
                        }
                    }
                    _ => write(out, item, depth + 1),
                }
            }
        }
        scalar => {
            out.push_str(&indent);
            out.push_str(&flow(scalar));
            out.push('\n');
        }
    }
}

fn in_line(value: &Value) -> Option<String> {
    let line = flow(value);
    let short = line.len() <= LINE && nesting(value) <= 2;
    (short || !matches!(value, Value::Object(_) | Value::Array(_))).then_some(line)
}

fn nesting(value: &Value) -> usize {
    match value {
        Value::Object(entries) => 1 + entries.values().map(nesting).max().unwrap_or_default(),
        Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or_default(),
        _ => 0,
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", text(key), flow(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(string) => text(string),
        // Numbers, `true`, `false` and `null` are the same in JSON and YAML.
        other => other.to_string(),
    }
}

/// A text, in quotes where YAML could take it for something else.
pub(super) fn text(text: &str) -> String {
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '/'))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if word {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            // What YAML does not print, or takes for the end of a line.
            '\0'..='\u{1F}'
            | '\u{7F}'..='\u{9F}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{FEFF}'
            | '\u{FFFE}'
            | '\u{FFFF}' => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
