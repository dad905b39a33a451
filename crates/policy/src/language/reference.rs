//! The reference page of the language.

use std::fmt::Write as _;

use super::{FORMS, Key, Kind, MAPPINGS, Mapping, Presence};
use crate::lint::LINTS;

/// The reference page of the language, Markdown: every mapping with its keys, every form of a value, every warning.
pub fn reference() -> String {
    let mut out = String::from(
        "# The policy language: reference\n\n\
         <!-- Written by `LOCKGATE_WRITE_DOCS=1 cargo test -p lockgate-policy --all-features language`; change\n\
         crates/policy/src/language/table.rs instead. -->\n\n\
         Every key of a policy. [The guide](policy.md) says how they work together, [policy semantics](policy-semantics.md) what a decision\n\
         depends on. A key that is not on this page is an error, never ignored.\n\n\
         Editors complete keys and show what they mean from [`policy.schema.json`](policy.schema.json), which `lockgate policy schema` prints. With the YAML language server (VS Code, Neovim,\n\
         Helix, IntelliJ), the first line of a policy names it, by path or URL:\n\n\
         ```yaml\n# yaml-language-server: $schema=docs/policy.schema.json\n```\n\n",
    );
    for mapping in MAPPINGS {
        section(&mut out, mapping);
    }
    out.push_str("## Values\n\n| what | how it is written | example |\n| --- | --- | --- |\n");
    for form in FORMS {
        // Writing into a string cannot fail.
        let _ = writeln!(
            out,
            "| <a id=\"{}\"></a>{} | {} | `{}` |",
            form.name,
            form.title,
            cell(form.doc),
            cell(form.example)
        );
    }
    out.push_str(
        "\n## Warnings\n\n`lockgate policy check` reports these beside errors. The names are stable.\n\n\
         | name | what it says |\n| --- | --- |\n",
    );
    for (code, meaning) in LINTS {
        let _ = writeln!(out, "| `{code}` | {} |", cell(meaning));
    }
    out
}

/// A `|` within a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn section(out: &mut String, mapping: &Mapping) {
    // Writing into a string cannot fail.
    let _ = write!(
        out,
        "## <a id=\"m-{}\"></a>{}\n\n{}\n\n| key | type | without it | meaning |\n| --- | --- | --- | --- |\n",
        mapping.name, mapping.title, mapping.doc
    );
    for key in mapping.keys() {
        row(out, mapping, key);
    }
    out.push('\n');
    for keys in mapping.one_of {
        let _ = writeln!(out, "Exactly one of {}.\n", list(keys));
    }
    for keys in mapping.some_of {
        let _ = writeln!(out, "At least one of {}.\n", list(keys));
    }
    words(out, mapping);
}

fn list(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

fn row(out: &mut String, mapping: &Mapping, key: &Key) {
    let one_of = mapping.one_of.iter().any(|keys| keys.contains(&key.name));
    let without = match key.presence {
        Presence::Required => "*required*",
        Presence::Optional if one_of => "*one of several*",
        Presence::Optional => "–",
        Presence::Default(default) => default,
    };
    let _ = writeln!(
        out,
        "| `{}` | {} | {} | {} |",
        key.name,
        describe(&key.kind, false),
        cell(without),
        cell(key.doc)
    );
}

/// The words that the keys of a mapping admit, where they need explaining.
fn words(out: &mut String, mapping: &Mapping) {
    for key in mapping.keys() {
        let Kind::Words(words) = &key.kind else { continue };
        if words.iter().all(|(_, meaning)| meaning.is_empty()) {
            continue;
        }
        let _ = writeln!(out, "| `{}` | |\n| --- | --- |", key.name);
        for (word, meaning) in *words {
            let _ = writeln!(out, "| `{word}` | {} |", cell(meaning));
        }
        out.push('\n');
    }
}

/// What may stand somewhere, in words with links; several of them in the plural.
fn describe(kind: &Kind, plural: bool) -> String {
    match kind {
        Kind::Form(form) => format!("[{}](#{})", form.title, form.name),
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Whole { min, max } if min == max => format!("`{min}`"),
        Kind::Whole { min, .. } => format!("a whole number from {min} on"),
        Kind::Words(words) if words.len() > 4 => {
            let shown: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            format!("one of {}", shown.join(", "))
        }
        Kind::Words(words) => {
            words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
        }
        Kind::NameOf(what) => {
            if plural {
                format!("names of {what}s")
            } else {
                format!("name of a {what}")
            }
        }
        Kind::Mapping(mapping) | Kind::MappingOrNothing(mapping) => {
            let title = if plural { mapping.title.to_lowercase() } else { mapping.name.replace('-', " ") };
            format!("[{title}](#m-{})", mapping.name)
        }
        Kind::Named { what, value, .. } => format!("mapping from {what} to {}", describe(value, false)),
        Kind::List { of, min, .. } => {
            let filled = if *min > 0 { ", not empty" } else { "" };
            format!("list of {}{filled}", describe(of, true))
        }
        Kind::Either(kinds) => {
            kinds.iter().map(|kind| describe(kind, plural)).collect::<Vec<_>>().join(", or ")
        }
        Kind::Shared(shared) => format!("[{}](#m-{})", shared.title, shared.section),
    }
}
