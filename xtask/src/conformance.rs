//! `docs/conformance.md`, written from what the runners left behind, and the check that they agree with each other.
//!
//! Every runner writes `target/conformance/<runner>.json` at the end of a whole run. All of them must have compared as much, found no difference,
//! and run the same modules. The page on disk must say the same, but for what changes with every build: identities, and the largest difference
//! seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::setup::{root, say, target};

/// The runners that must have run, in the order of the page, and what each is.
const RUNNERS: [(&str, &str); 6] = [
    ("native", "the crates compiled for this machine, which the modules are made of"),
    ("wasmtime", "`host/runtime`, the server's engine, on the flat entry point; components beside it"),
    ("workerd", "the Worker's runtime, with the modules as they are uploaded"),
    ("spin", "the components through WIT; faults in the application, in a host with Spin's interfaces"),
    ("node", "V8, through the npm package"),
    ("chromium", "a browser without a window, through the npm package"),
];

/// What is compared, in the order of the page, and what one comparison is.
const SUITES: [(&str, &str); 4] = [
    ("decisions", "one decision of a golden vector, every field"),
    ("predictions", "one row beside onnxruntime's recorded answer"),
    ("errors", "one content or request that must be refused with a certain code"),
    ("faults", "one misbehaviour of the fault core, and the next request"),
];

/// What stands between these lines changes with every build and is not compared.
const VARIES: &str = "<!-- varies -->";
const VARIES_END: &str = "<!-- until here -->";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    runner: String,
    #[serde(default)]
    versions: BTreeMap<String, String>,
    #[serde(default)]
    modules: BTreeMap<String, String>,
    suites: BTreeMap<String, Suite>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    compared: Option<u64>,
    #[serde(default)]
    mismatches: u64,
    max_difference: Option<f64>,
    /// Over all answers: equal where they are equal bit for bit.
    digest: Option<String>,
    /// Why the suite did not run.
    not_run: Option<String>,
}

/// Where runners leave their results.
pub(crate) fn directory() -> PathBuf {
    target().join("conformance")
}

fn page_path() -> PathBuf {
    root().join("docs/conformance.md")
}

/// Forgets earlier results, so that none of them passes for one of this run.
pub(crate) fn start() -> Result<()> {
    std::fs::remove_dir_all(directory()).ok();
    std::fs::create_dir_all(directory())?;
    Ok(())
}

/// Compares the runners with each other, and the page with them; `write` writes the page instead.
pub(crate) fn conformance(write: bool) -> Result<()> {
    say("conformance: what the runners left behind");
    let runs = read(&directory())?;
    let problems = disagreements(&runs);
    ensure!(problems.is_empty(), "the runners do not agree:\n  {}", problems.join("\n  "));
    let page = render(&runs);
    let path = page_path();
    if write {
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(());
    }
    let committed =
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (there, now) = (lasting(&committed), lasting(&page));
    let differs = there.lines().zip(now.lines()).find(|(there, now)| there != now);
    if let Some((there, now)) = differs {
        bail!(
            "docs/conformance.md says\n  {there}\nand the runs say\n  {now}\nhint: `cargo xtask conformance --write` writes it"
        );
    }
    ensure!(
        there == now,
        "docs/conformance.md has other lines than the runs; `cargo xtask conformance --write` writes it"
    );
    for (runner, _) in RUNNERS {
        say(&format!("    {runner} agrees"));
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (runner, _) in RUNNERS {
        let path = folder.join(format!("{runner}.json"));
        let text = std::fs::read(&path).with_context(|| {
            format!("the runner `{runner}` left no {}; `cargo xtask test` runs them all", path.display())
        })?;
        let run: Run =
            serde_json::from_slice(&text).with_context(|| format!("{} makes no sense", path.display()))?;
        ensure!(run.runner == runner, "{} is of the runner `{}`", path.display(), run.runner);
        runs.push(run);
    }
    Ok(runs)
}

/// What is wrong, each in a sentence.
fn disagreements(runs: &[Run]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut identities: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for run in runs {
        let name = &run.runner;
        if run.modules.is_empty() && name != "native" {
            problems.push(format!("{name} does not say which modules it ran"));
        }
        for (module, identity) in &run.modules {
            let (first, expected) = *identities.entry(module).or_insert((name, identity));
            if identity != expected {
                problems
                    .push(format!("{name} ran another {module} than {first}: {identity}, not {expected}"));
            }
        }
        for (suite, _) in SUITES {
            match run.suites.get(suite) {
                None => problems.push(format!("{name} says nothing of {suite}")),
                Some(Suite { compared: None, not_run: None, .. }) => {
                    problems.push(format!("{name} says neither how much of {suite} it compared nor why not"));
                }
                Some(Suite { compared: Some(0), .. }) => {
                    problems.push(format!("{name} compared nothing of {suite}"));
                }
                Some(_) => {}
            }
        }
        for (suite, result) in run.suites.iter().filter(|(_, result)| result.mismatches > 0) {
            problems.push(format!("{name} found {} differences in {suite}", result.mismatches));
        }
    }
    let suites: BTreeSet<&str> = runs.iter().flat_map(|run| run.suites.keys().map(String::as_str)).collect();
    for suite in suites {
        let results = || runs.iter().filter_map(|run| Some((&run.runner, run.suites.get(suite)?)));
        let counts: BTreeSet<u64> = results().filter_map(|(_, result)| result.compared).collect();
        if counts.len() > 1 {
            let each: Vec<String> =
                results().filter_map(|(name, result)| Some(format!("{name} {}", result.compared?))).collect();
            problems.push(format!("{suite}: not everybody compared as much: {}", each.join(", ")));
        }
        let digests: BTreeSet<&str> = results().filter_map(|(_, result)| result.digest.as_deref()).collect();
        if digests.len() > 1 {
            let each: Vec<String> = results()
                .filter_map(|(name, result)| Some(format!("{name} {}", result.digest.as_ref()?)))
                .collect();
            problems.push(format!("{suite}: the answers differ in some bit: {}", each.join(", ")));
        }
    }
    problems
}

fn render(runs: &[Run]) -> String {
    let mut page = String::from(
        "# Conformance\n\n\
         <!-- Written by `cargo xtask conformance --write` from the runs of `cargo xtask test`; do not edit. -->\n\n\
         The same modules answer the same everywhere. Every runtime is held to the same vectors, which lie in the repository as data: decisions that a \
         [second evaluator](../tests/reference) made, predictions that [onnxruntime](../tests/models) made, what must be refused and by which code, \
         and what the fault core does. Decisions are equal in every field; predictions are within the bound of DESIGN §7 of onnxruntime's and equal \
         bit for bit between the WebAssembly runtimes. A runtime that compared less than the others, found a difference, or ran other modules \
         fails `cargo xtask test`.\n\n",
    );
    page.push_str("| compared, without a difference |");
    for run in runs {
        let _ = write!(page, " {} |", run.runner);
    }
    page.push_str("\n| --- |");
    runs.iter().for_each(|_| page.push_str(" ---: |"));
    page.push('\n');
    let mut notes = Vec::new();
    let more: BTreeSet<&str> = runs.iter().flat_map(|run| run.suites.keys().map(String::as_str)).collect();
    let named = SUITES.iter().map(|(suite, _)| *suite);
    let others = more.iter().copied().filter(|suite| SUITES.iter().all(|(named, _)| named != suite));
    for suite in named.chain(others) {
        let _ = write!(page, "| {suite} |");
        for run in runs {
            let cell = match run.suites.get(suite) {
                None => "–".to_owned(),
                Some(Suite { not_run: Some(why), .. }) => {
                    notes.push(format!("{} does not run {suite}: {why}.", run.runner));
                    format!("not run ({})", notes.len())
                }
                Some(result) => with_spaces(result.compared.unwrap_or(0)),
            };
            let _ = write!(page, " {cell} |");
        }
        page.push('\n');
    }
    page.push('\n');
    for (number, note) in notes.iter().enumerate() {
        let _ = writeln!(page, "{}. {note}", number + 1);
    }
    if !notes.is_empty() {
        page.push('\n');
    }
    page.push_str("| | one comparison |\n| --- | --- |\n");
    for (suite, what) in &SUITES {
        let _ = writeln!(page, "| {suite} | {what} |");
    }
    page.push_str("\n| runner | is | with |\n| --- | --- | --- |\n");
    for (run, (_, what)) in runs.iter().zip(RUNNERS) {
        let versions: Vec<String> =
            run.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let _ = writeln!(page, "| {} | {what} | {VARIES}{}{VARIES_END} |", run.runner, versions.join(", "));
    }
    let _ =
        write!(page, "\n## The run that wrote this page\n\n{VARIES}\n| module | identity |\n| --- | --- |\n");
    let modules: BTreeMap<&String, &String> = runs.iter().flat_map(|run| &run.modules).collect();
    for (module, identity) in &modules {
        let _ = writeln!(page, "| {module} | `{identity}` |");
    }
    page.push_str("\n| | |\n| --- | --- |\n");
    let largest = runs
        .iter()
        .filter_map(|run| Some((&run.runner, run.suites.get("predictions")?.max_difference?)))
        .map(|(runner, difference)| format!("{runner} {difference:.1e}"))
        .collect::<Vec<_>>();
    if !largest.is_empty() {
        let _ = writeln!(page, "| largest difference to onnxruntime | {} |", largest.join(", "));
    }
    for suite in more {
        let digest = runs.iter().find_map(|run| run.suites.get(suite)?.digest.as_ref());
        let who: Vec<&str> = runs
            .iter()
            .filter(|run| run.suites.get(suite).is_some_and(|result| result.digest.is_some()))
            .map(|run| run.runner.as_str())
            .collect();
        if let Some(digest) = digest {
            let _ = writeln!(page, "| SHA-256 over all answers, {suite} | `{digest}`: {} |", who.join(", "));
        }
    }
    let _ = writeln!(page, "{VARIES_END}");
    page
}

/// The page without what changes with every build.
fn lasting(page: &str) -> String {
    let mut kept = String::new();
    let mut rest = page;
    while let Some((before, behind)) = rest.split_once(VARIES) {
        kept.push_str(before);
        rest = behind.split_once(VARIES_END).map_or("", |(_, rest)| rest);
    }
    kept + rest
}

/// `1234567` as `1 234 567`.
fn with_spaces(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> Vec<Run> {
        let run = |name: &str| {
            let modules = if name == "native" { "{}" } else { r#"{"policy": "aa"}"# };
            let text = format!(
                r#"{{"runner": "{name}", "versions": {{"engine": "1.2"}}, "modules": {modules}, "suites": {{
                    "decisions": {{"compared": 123456, "mismatches": 0, "digest": "dd"}},
                    "predictions": {{"compared": 7, "mismatches": 0, "max_difference": 1e-7}},
                    "errors": {{"compared": 5}}, "faults": {{"not_run": "it is native"}}}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        RUNNERS.iter().map(|(name, _)| run(name)).collect()
    }

    fn problem(change: impl FnOnce(&mut Vec<Run>)) -> String {
        let mut runs = runs();
        change(&mut runs);
        disagreements(&runs).join("; ")
    }

    #[test]
    fn whoever_differs_is_named() {
        assert_eq!(problem(|_| {}), "");
        assert_eq!(
            problem(|runs| drop(runs[2].modules.insert("policy".to_owned(), "bb".to_owned()))),
            "workerd ran another policy than wasmtime: bb, not aa"
        );
        assert!(problem(|runs| runs[3].modules.clear()).contains("spin does not say which modules it ran"));
        assert!(
            problem(|runs| runs[4].suites.get_mut("errors").unwrap().mismatches = 1)
                .contains("node found 1 differences in errors")
        );
        assert!(
            problem(|runs| runs[5].suites.get_mut("errors").unwrap().compared = Some(4))
                .contains("errors: not everybody compared as much")
        );
        assert!(
            problem(|runs| runs[5].suites.get_mut("decisions").unwrap().digest = Some("ee".to_owned()))
                .contains("differ in some bit")
        );
        assert!(
            problem(|runs| drop(runs[0].suites.remove("errors"))).contains("native says nothing of errors")
        );
        assert!(
            problem(|runs| runs
                .iter_mut()
                .for_each(|run| run.suites.get_mut("errors").unwrap().compared = Some(0)))
            .contains("compared nothing of errors")
        );
        assert!(
            problem(|runs| runs[1].suites.get_mut("errors").unwrap().compared = None)
                .contains("neither how much")
        );
    }

    #[test]
    fn the_page_is_compared_without_what_varies() {
        let mut other = runs();
        other[1].modules.insert("policy".to_owned(), "cc".to_owned());
        other[1].versions.insert("engine".to_owned(), "9".to_owned());
        let (page, changed) = (render(&runs()), render(&other));
        assert_ne!(page, changed);
        assert_eq!(lasting(&page), lasting(&changed));
        assert!(
            page.contains("| decisions | 123 456 |")
                && page.contains("1. native does not run faults: it is native."),
            "{page}"
        );
        other[1].suites.get_mut("errors").unwrap().compared = Some(6);
        assert_ne!(lasting(&page), lasting(&render(&other)));
    }
}
