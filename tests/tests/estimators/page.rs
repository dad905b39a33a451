//! `docs/estimators.md`: what became of every converter of skl2onnx and of the boosting libraries' estimators.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lockgate_package::Engine;
use lockgate_tests::root;
use serde::Deserialize;

/// What `generate.py` has made.
#[derive(Deserialize)]
pub(crate) struct Index {
    models: Vec<Record>,
    /// The converters of skl2onnx and the classes that each is for.
    converters: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Record {
    name: String,
    of: String,
    /// Why there is no model, or no answer to compare with.
    problem: Option<String>,
    by: Option<String>,
}

const HEAD: &str = "# Estimators

Written from a run of `tests/estimators` (`UPDATE_DOCS=1 cargo xtask test` writes it); do not edit.

A model of every estimator is trained, exported, packaged, and answers as onnxruntime does, natively and in the sandbox. Each line counts models, which differ in classes, kinds of labels, precision, missing values and options. *Tabular* and *graph* are the
flavours of the core that run them; packaging chooses. What the exporters cannot write, or onnxruntime does not run, stands at the end.
";

/// Compares the page with what has become of the models; says how many run, and what is wrong.
pub(crate) fn check(
    index: &Index,
    engines: &BTreeMap<String, Engine>,
    refused: &BTreeMap<String, String>,
) -> (String, Vec<String>) {
    let mut problems = Vec::new();
    let mut by_class: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in &index.models {
        by_class.entry(&record.of).or_default().push(record);
    }
    let mut page = HEAD.to_owned();
    let (mut passing, mut without) = (0, 0);
    let mut rows = String::new();
    for (converter, classes) in &index.converters {
        if classes.is_empty() {
            writeln!(rows, "| | `{converter}` | | | | part of other converters |").unwrap();
        }
        for class in classes {
            let Some(records) = by_class.remove(class.as_str()) else {
                problems.push(format!("skl2onnx has a converter for {class}, and no model is made of it"));
                continue;
            };
            let line = row(class, &records, engines, refused);
            if line.passes {
                passing += 1;
            } else {
                without += 1;
            }
            writeln!(rows, "| `{class}` | `{converter}` | {}", line.text).unwrap();
        }
    }
    let classes = passing + without;
    writeln!(
        page,
        "\n## scikit-learn\n\nskl2onnx has {} converters, for {classes} classes: models of {passing} run, and of {without} there is none that could.\n",
        index.converters.len()
    )
    .unwrap();
    page.push_str(
        "| class | converter | tabular | graph | refused | |\n| --- | --- | --: | --: | --: | --- |\n",
    );
    page.push_str(&rows);
    page.push_str("\n## XGBoost, LightGBM, CatBoost, and networks\n\n| class | tabular | graph | refused | |\n| --- | --: | --: | --: | --- |\n");
    for (class, records) in &by_class {
        let line = row(class, records, engines, refused);
        writeln!(page, "| `{class}` | {}", line.text).unwrap();
    }
    if !refused.is_empty() {
        page.push_str("\n## Refused\n\n| model | reason |\n| --- | --- |\n");
        for (name, reason) in refused {
            writeln!(page, "| `{name}` | {reason} |").unwrap();
        }
    }
    page.push_str("\n## What exporters and onnxruntime do not do\n\nSuch a model does not exist, or has no reference.\n\n| by | models | what it says |\n| --- | --- | --- |\n");
    let mut grouped: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for record in &index.models {
        if let (Some(problem), Some(by)) = (&record.problem, &record.by) {
            let said: String = problem.chars().take(140).collect();
            let said = said.replace('|', "/").replace('`', "'");
            grouped.entry((by, said)).or_default().push(&record.name);
        }
    }
    for ((by, said), names) in &grouped {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        writeln!(page, "| {by} | {} | {said} |", names.join(", ")).unwrap();
    }
    let path = root().join("docs/estimators.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let summary =
        format!("{} of {} models run, of {passing} of {classes} classes", engines.len(), index.models.len());
    if std::fs::read_to_string(&path).unwrap_or_default() != page {
        problems.push("docs/estimators.md is not what the run says; UPDATE_DOCS=1 writes it".to_owned());
    }
    (summary, problems)
}

struct Row {
    text: String,
    passes: bool,
}

fn row(
    class: &str,
    records: &[&Record],
    engines: &BTreeMap<String, Engine>,
    refused: &BTreeMap<String, String>,
) -> Row {
    let count = |engine: Engine| {
        let runs = |record: &&&Record| engines.get(&record.name) == Some(&engine);
        records.iter().filter(runs).count()
    };
    let (tabular, graph) = (count(Engine::Tabular), count(Engine::Graph));
    let refusals = records.iter().filter(|record| refused.contains_key(&record.name)).count();
    let missing = records.iter().filter(|record| record.problem.is_some()).count();
    let number = |count: usize| if count == 0 { String::new() } else { count.to_string() };
    let remark = if tabular + graph + refusals == 0 {
        let first =
            records.iter().find_map(|record| Some((record.by.as_deref()?, record.problem.as_deref()?)));
        let (by, problem) = first.unwrap_or((class, ""));
        let said: String = problem.chars().take(140).collect();
        format!("none by {by}: {}", said.replace('|', "/").replace('`', "'"))
    } else if missing > 0 {
        format!("{missing} not exported, or not run by onnxruntime")
    } else {
        String::new()
    };
    let text = format!("{} | {} | {} | {remark} |", number(tabular), number(graph), number(refusals));
    Row { text, passes: tabular + graph > 0 }
}
