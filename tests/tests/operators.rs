//! `docs/operators.md` is the importer's own table. With `UPDATE_DOCS=1` the page is written instead of compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lockgate_onnx::Operator;
use lockgate_package::import::graph;
use lockgate_package::import::operators::{NEWEST_OPSETS, TABULAR_OPERATORS};
use lockgate_tests::root;

const HEAD: &str = "# Operators

Written from the importer's table by `UPDATE_DOCS=1 cargo test -p lockgate-tests --all-features --test operators`; do not edit.

A model runs in the *tabular* flavour of the core when all of its operators stand in the table of that engine and are used within the limits that it names, else in the *graph* flavour, which has all of them; packaging
chooses the smaller one. An operator that stands in no table is refused, and so is an attribute that its line does not name: the refusal says which node and which attribute it is, and what to do. *Since* is the oldest operator set whose form
of the operator is understood; several numbers mean that its meaning changed, and each form is understood.
";

#[test]
fn the_page_is_the_table() {
    let mut page = HEAD.to_owned();
    for (domain, newest) in NEWEST_OPSETS {
        writeln!(page, "\nUp to opset {newest} of `{domain}`.").unwrap();
    }
    page.push_str(
        "\n## The graph engine\n\n| operator | since | attributes | refused |\n| --- | --- | --- | --- |\n",
    );
    let mut by_name: BTreeMap<(&str, &str), Vec<&Operator>> = BTreeMap::new();
    for operator in graph::operators() {
        by_name.entry((operator.domain, operator.name)).or_default().push(operator);
    }
    for ((domain, name), entries) in &by_name {
        let domain = if *domain == "ai.onnx" { String::new() } else { format!("{domain}.") };
        let since: Vec<String> = entries.iter().map(|entry| entry.since.to_string()).collect();
        let mut attributes: Vec<&str> = entries.iter().flat_map(|entry| entry.attributes).copied().collect();
        attributes.sort_unstable();
        attributes.dedup();
        // The plan's own.
        attributes.retain(|attribute| *attribute != "captures");
        let attributes: Vec<String> = attributes.iter().map(|attribute| format!("`{attribute}`")).collect();
        let mut limits: Vec<&str> =
            entries.iter().map(|entry| entry.limits).filter(|limits| !limits.is_empty()).collect();
        limits.dedup();
        let row = [format!("`{domain}{name}`"), since.join(", "), attributes.join(", "), limits.join("; ")];
        writeln!(page, "| {} |", row.join(" | ")).unwrap();
    }
    page.push_str("\n## The tabular engine\n\nColumns that rows share; what stands under *only* is all that it takes.\n\n| operator | since | attributes | only |\n| --- | --- | --- | --- |\n");
    for operator in TABULAR_OPERATORS {
        let domain =
            if operator.domain == "ai.onnx" { String::new() } else { format!("{}.", operator.domain) };
        let attributes: Vec<String> =
            operator.attributes.iter().map(|attribute| format!("`{attribute}`")).collect();
        let row = [
            format!("`{domain}{}`", operator.operator),
            operator.since.to_string(),
            attributes.join(", "),
            operator.limits.to_owned(),
        ];
        writeln!(page, "| {} |", row.join(" | ")).unwrap();
    }
    let path = root().join("docs/operators.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(have == page, "docs/operators.md is not what the table says; UPDATE_DOCS=1 writes it");
}
