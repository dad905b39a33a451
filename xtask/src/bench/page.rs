//! `docs/benchmarks.md`, from a run.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::policies::{MANY_ROUTES, MANY_UNITS, THREE_RULES};
use super::{BATCH, Run, Sample, is_sequence};

const WASMTIME: &str = "core in wasmtime";
const BAKED: &str = "core in wasmtime, baked";
const V8: &str = "core in V8";
const V8_GLUE: &str = "glue alone, V8";
const WASMTIME_GLUE: &str = "glue alone, wasmtime";
const RUNTIME: &str = "core in host/runtime";
const NATIVE: &str = "onnxruntime, native";
const WEB: &str = "onnxruntime-web";
const EVALUATOR: &str = "evaluator, native";
const REGO: &str = "regorus in V8";

/// The page.
///
/// # Errors
/// A run that lacks a result.
pub(super) fn render(run: &Run) -> Result<String> {
    let page = Page { run };
    let mut out = String::new();
    out.push_str("# Benchmarks\n\nWritten by `cargo xtask bench` from [`bench/results/latest.json`](../bench/results/latest.json); do not edit.\n\n");
    page.caveats(&mut out)?;
    page.aims(&mut out)?;
    page.predictions(&mut out)?;
    page.decisions(&mut out)?;
    page.first(&mut out)?;
    page.memory(&mut out)?;
    page.sizes(&mut out)?;
    page.again(&mut out)?;
    Ok(out)
}

struct Page<'r> {
    run: &'r Run,
}

impl Page<'_> {
    fn caveats(&self, out: &mut String) -> Result<()> {
        let measured = &self.run.measured;
        writeln!(out, "## Read this first\n")?;
        let caveats = [
            "One machine, one run, no other machine's figures. Compare columns, which were measured side by side, rather than \
             absolute times; a shared machine's times move by tens of percent between runs.",
            "Every peer gets the same inputs. Each call takes another row: the 500 held-out rows of `examples/eurusd`, again \
             and again with a little noise, 4 096 in all. Before anything is measured, the peers' answers are compared.",
            "*Core in wasmtime* and *core in V8* are the released bytes behind the flat entry point, called directly: writing the \
             request, the call, and reading the answer are included; HTTP is not. *Core in host/runtime* adds the embedding library's queue, \
             its hand-over to a worker thread and back, and its checks.",
            "*onnxruntime, native* is its shared library through the C API with one thread, all graph optimisations on, called through the \
             crate `ort`, which adds an allocation or two. *onnxruntime-web* is its WebAssembly backend with one thread in Node.",
            "`trees_*` are forests fitted to the same rows, with up to 1 000 trees; `gru` has the shape of the LSTM and random weights (`bench/models.py`).",
            "The peers run the models without `ZipMap`, which Lockgate replaces when it packages a model; it would slow them down \
             further.",
            "The core reports features outside their training range with every prediction; the peers do not.",
            "flagd and GrowthBook evaluate the same rules written in their languages. They offer more than this policy language \
             does, and neither is asked for more than a variant.",
            "The Node peers run in processes of their own and measure themselves.",
        ];
        for caveat in caveats {
            writeln!(out, "- {caveat}")?;
        }
        let fast = self.run.core.modules.iter().any(|module| module.profile != "core");
        if fast {
            writeln!(
                out,
                "- **The graph flavour was built with the profile that tests use, not the one that ships**; its figures are worse than the \
                 released module's."
            )?;
        }
        writeln!(
            out,
            "\nA figure is the median of {} turns of about {} ms, taken in rotation. Times are microseconds unless said otherwise.\n",
            measured.rounds, measured.turn_ms
        )?;
        let machine = &self.run.machine;
        let of = |key: &str| machine.get(key).map_or("unknown", String::as_str);
        writeln!(out, "| | |\n| --- | --- |")?;
        writeln!(
            out,
            "| machine | {}, {} cores, {}, {} |",
            of("processor"),
            of("cores"),
            of("memory"),
            of("system")
        )?;
        let versions: Vec<_> =
            measured.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(out, "| versions | {}, {} |", self.run.rustc, versions.join(", "))?;
        writeln!(out, "| commit | {} |", self.run.commit)?;
        writeln!(out, "| date | {} |\n", date(self.run.time))?;
        Ok(())
    }

    /// What the project aims at, and the worst model's figure.
    fn aims(&self, out: &mut String) -> Result<()> {
        writeln!(out, "## Against the project's aims\n\nOf several models, the worst one counts.\n")?;
        writeln!(out, "| what | aim | measured | |\n| --- | --- | --- | --- |")?;
        let tabular = self.models(|model| !is_sequence(model));
        // What a row costs of a network is mostly products; native onnxruntime has wider vectors for them.
        let (networks, plain): (Vec<String>, Vec<String>) =
            tabular.iter().cloned().partition(|model| model.ends_with("_mlp"));
        // How many times quicker the core is than the peer.
        let quicker = |models: &[String], rows: usize, core: &str, peer: &str| -> Result<(f64, String)> {
            let mut worst = (f64::INFINITY, String::new());
            for model in models {
                let ratio = self.predict(model, rows, peer)? / self.predict(model, rows, core)?;
                if ratio < worst.0 {
                    worst = (ratio, model.clone());
                }
            }
            Ok(worst)
        };
        let mut quicker_row = |what: &str, aim: f64, (ratio, model): (f64, String)| -> Result<()> {
            let verdict = verdict(ratio >= aim);
            let of = if model.is_empty() { String::new() } else { format!(" (`{model}`)") };
            Ok(writeln!(out, "| {what} | ≥ {aim}× | {ratio:.2}×{of} | {verdict} |")?)
        };
        quicker_row(
            "trees and linear models, one row, V8, against onnxruntime-web",
            10.0,
            quicker(&plain, 1, V8, WEB)?,
        )?;
        quicker_row(
            "trees and linear models, one row, wasmtime, against native onnxruntime",
            2.0,
            quicker(&plain, 1, WASMTIME, NATIVE)?,
        )?;
        if !networks.is_empty() {
            quicker_row("MLP, one row, V8, against onnxruntime-web", 10.0, quicker(&networks, 1, V8, WEB)?)?;
        }
        quicker_row(
            "trees and linear models, 1 024 rows, wasmtime, against native onnxruntime",
            1.0,
            quicker(&plain, BATCH, WASMTIME, NATIVE)?,
        )?;
        for (what, ending) in [("LSTM", "lstm"), ("GRU", "gru")] {
            let models = self.models(|model| model.ends_with(ending));
            if models.is_empty() {
                continue;
            }
            let (web, native) = (quicker(&models, 1, V8, WEB)?, quicker(&models, 1, WASMTIME, NATIVE)?);
            quicker_row(&format!("{what} 20×17, V8, against onnxruntime-web"), 2.0, web)?;
            quicker_row(&format!("{what} 20×17, wasmtime, against native onnxruntime"), 1.0, native)?;
        }
        for (peer, aim) in [("flagd-core", 5.0), ("GrowthBook", 15.0), (REGO, 20.0)] {
            let ratio = self.decide(1, peer)? / self.decide(1, V8)?;
            quicker_row(&format!("one decision, V8, against {peer}"), aim, (ratio, String::new()))?;
        }
        for (contexts, what, aim) in [(1, "one decision", 4.0), (256, "256 decisions in a call", 1.5)] {
            let ratio = self.decide(contexts, WASMTIME)? / self.decide(contexts, EVALUATOR)?;
            let verdict = verdict(ratio <= aim);
            writeln!(
                out,
                "| {what}, wasmtime, cost against the same evaluator native | ≤ {aim}× | {ratio:.2}× | {verdict} |"
            )?;
        }
        for policy in [MANY_ROUTES, MANY_UNITS] {
            let mut worst = (0.0_f64, "");
            for peer in [EVALUATOR, WASMTIME, V8] {
                let ratio = self.decide_with(policy, 1, peer)? / self.decide(1, peer)?;
                if ratio > worst.0 {
                    worst = (ratio, peer);
                }
            }
            let (ratio, peer) = worst;
            let verdict = verdict(ratio <= 2.0);
            writeln!(
                out,
                "| one decision with {policy}, cost against the smallest bundle | ≤ 2× | {ratio:.2}× ({peer}) | {verdict} |"
            )?;
        }
        for (name, aim) in [("policy", 60.0), ("inference-tabular", 100.0), ("inference-graph", 1500.0)] {
            let module = self.run.core.modules.iter().find(|module| module.name == name);
            let size = module.with_context(|| format!("no size of {name}"))?.gzip_bytes as f64 / 1000.0;
            writeln!(out, "| `{name}`, gzipped | ≤ {aim} KB | {size:.1} KB | {} |", verdict(size <= aim))?;
        }
        self.memory_aim(out)?;
        // The aim is that of the example's models; an ensemble of megabytes takes as long as its pages do.
        self.cold_start(out, &self.models(|model| !is_sequence(model) && model.starts_with("eurusd_")))
    }

    /// The most that an ensemble of 1 000 trees takes, in packages.
    fn memory_aim(&self, out: &mut String) -> Result<()> {
        let large = self.run.measured.memory.iter().filter(|used| used.model.contains("_1000_"));
        let times = large.map(|used| ((used.loaded - used.empty) as f64 / used.package as f64, &used.model));
        if let Some((times, model)) = times.max_by(|one, other| one.0.total_cmp(&other.0)) {
            writeln!(
                out,
                "| memory of 1 000 trees, against the package | ≤ 1.5× | {times:.2}× (`{model}`) | {} |",
                verdict(times <= 1.5)
            )?;
        }
        Ok(())
    }

    fn memory(&self, out: &mut String) -> Result<()> {
        if self.run.measured.memory.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "## Memory\n\nWhat an instance's memory grows by when it is handed a package: it holds the package, and what loading needed, since \
             memories do not shrink. KB; a memory grows by pages of 64 KiB.\n\n\
             | model | package | empty instance | grows by | in packages |\n| --- | ---: | ---: | ---: | ---: |"
        )?;
        for used in &self.run.measured.memory {
            let grown = used.loaded - used.empty;
            writeln!(
                out,
                "| `{}` | {:.0} | {:.0} | {:.0} | {:.2} |",
                used.model,
                used.package as f64 / 1000.0,
                used.empty as f64 / 1000.0,
                grown as f64 / 1000.0,
                grown as f64 / used.package as f64
            )?;
        }
        writeln!(out)?;
        Ok(())
    }

    /// The slowest model's way to its first score from a baked module, and from a plain one beside it.
    fn cold_start(&self, out: &mut String, tabular: &[String]) -> Result<()> {
        let what = "new instance from a baked, precompiled module to the first tabular score";
        let mut worst: Option<(f64, &String)> = None;
        for model in tabular {
            if let Ok(nanoseconds) = self.first_with(model, BAKED)
                && worst.is_none_or(|(slowest, _)| nanoseconds > slowest)
            {
                worst = Some((nanoseconds, model));
            }
        }
        match worst {
            Some((nanoseconds, model)) => {
                let (time, plain) = (micros(nanoseconds), micros(self.first_with(model, WASMTIME)?));
                let verdict = verdict(nanoseconds <= 100e3);
                writeln!(
                    out,
                    "| {what} | ≤ 100 µs | {time} µs (`{model}`; unbaked {plain} µs) | {verdict} |\n"
                )?;
            }
            None => writeln!(out, "| {what} | ≤ 100 µs | not measured: run it again | |\n")?,
        }
        Ok(())
    }

    fn predictions(&self, out: &mut String) -> Result<()> {
        for (rows, title) in [(1, "One row"), (BATCH, "1 024 rows in one call")] {
            writeln!(out, "## {title}\n")?;
            writeln!(
                out,
                "Microseconds per call; in brackets, how many times longer than the core takes: native against wasmtime, onnxruntime-web against V8.\n"
            )?;
            writeln!(
                out,
                "| model | {WASMTIME} | {V8} | {RUNTIME} | {NATIVE} | {WEB} |\n| --- | ---: | ---: | ---: | ---: | ---: |"
            )?;
            for model in self.models(|_| true) {
                let (wasmtime, v8) = (self.predict(&model, rows, WASMTIME)?, self.predict(&model, rows, V8)?);
                let (native, web) = (self.predict(&model, rows, NATIVE)?, self.predict(&model, rows, WEB)?);
                writeln!(
                    out,
                    "| `{model}` | {} | {} | {} | {} ({}×) | {} ({}×) |",
                    micros(wasmtime),
                    micros(v8),
                    micros(self.predict(&model, rows, RUNTIME)?),
                    micros(native),
                    figure(native / wasmtime),
                    micros(web),
                    figure(web / v8),
                )?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// What the aims leave to the module: an aim's time, and what the glue around the module takes of it.
    fn room(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "How much of an aim's time is left to the module. *Glue* writes the request, calls a function that does nothing, and reads an earlier \
             response: what a decision costs before the module has decided anything. Nanoseconds per decision.\n\n\
             | aim | its time | glue | left to the module | the module takes |\n| --- | ---: | ---: | ---: | ---: |"
        )?;
        let nanoseconds = |contexts: usize, peer: &str| {
            Ok::<_, anyhow::Error>(self.decide(contexts, peer)? / contexts as f64)
        };
        let mut rows = vec![];
        for (peer, aim) in [("flagd-core", 5.0), ("GrowthBook", 15.0), (REGO, 20.0)] {
            rows.push((format!("V8, {aim}× against {peer}"), nanoseconds(1, peer)? / aim, 1, V8_GLUE, V8));
        }
        for (contexts, what, aim) in [(1, "one", 4.0), (256, "256 in a call", 1.5)] {
            let time = nanoseconds(contexts, EVALUATOR)? * aim;
            rows.push((format!("wasmtime, {what}, {aim}× native"), time, contexts, WASMTIME_GLUE, WASMTIME));
        }
        for (aim, time, contexts, glue, peer) in rows {
            let (glue, all) = (nanoseconds(contexts, glue)?, nanoseconds(contexts, peer)?);
            writeln!(out, "| {aim} | {time:.0} | {glue:.0} | {:.0} | {:.0} |", time - glue, all - glue)?;
        }
        writeln!(out)?;
        Ok(())
    }

    fn decisions(&self, out: &mut String) -> Result<()> {
        writeln!(out, "## Decisions\n")?;
        writeln!(
            out,
            "One route: a test group, a list of symbols, a 90/10 split by user; another context each time, its strings included on the way in \
             and out. Microseconds per decision.\n"
        )?;
        let peers = [EVALUATOR, WASMTIME, V8, RUNTIME, "flagd-core", "GrowthBook", REGO];
        writeln!(
            out,
            "| contexts in a call | {} |\n| --- |{}",
            peers.join(" | "),
            " ---: |".repeat(peers.len())
        )?;
        for contexts in [1, 256] {
            let each: Vec<_> = peers
                .iter()
                .map(|peer| Ok(micros(self.decide(contexts, peer)? / contexts as f64)))
                .collect::<Result<_>>()?;
            writeln!(out, "| {contexts} | {} |", each.join(" | "))?;
        }
        writeln!(
            out,
            "\nThe evaluators on the right have no batch form; their second line is 256 calls. Rego has no hash that yields a share: its third \
             rule looks at the user's number.\n"
        )?;
        self.room(out)?;
        writeln!(
            out,
            "The same route in larger bundles, and what loading one into a new evaluator takes. Microseconds.\n\n| bundle | \
             {EVALUATOR} | {WASMTIME} | {V8} | load, native | load, wasmtime | load, V8 |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        )?;
        for policy in [THREE_RULES, MANY_ROUTES, MANY_UNITS] {
            let peers = [EVALUATOR, WASMTIME, V8];
            let decide = peers.iter().map(|peer| Ok(micros(self.decide_with(policy, 1, peer)?)));
            let load = peers.iter().map(|peer| Ok(micros(self.load(policy, peer)?)));
            let cells: Vec<String> = decide.chain(load).collect::<Result<_>>()?;
            writeln!(out, "| {policy} | {} |", cells.join(" | "))?;
        }
        writeln!(out)?;
        Ok(())
    }

    fn first_with(&self, model: &str, peer: &str) -> Result<f64> {
        self.find(peer, |sample| sample.case == "first" && sample.model.as_deref() == Some(model))
    }

    fn first(&self, out: &mut String) -> Result<()> {
        writeln!(out, "## From nothing to the first prediction\n")?;
        writeln!(
            out,
            "The module is compiled already. A new instance (wasmtime: from a pool), the package handed over and checked, one row predicted; baked: a module that \
             holds the package already, so that nothing is handed over. \
             onnxruntime: a session made from the ONNX file in memory, one row predicted. Microseconds.\n"
        )?;
        let peers = [WASMTIME, BAKED, V8, NATIVE, WEB];
        writeln!(out, "| model | {} |\n| --- |{}", peers.join(" | "), " ---: |".repeat(peers.len()))?;
        for model in self.models(|_| true) {
            // Older results know nothing of baked modules.
            let cell = |peer: &&str| match self.first_with(&model, peer) {
                Err(_) if *peer == BAKED => Ok("–".to_owned()),
                result => result.map(micros),
            };
            let each: Vec<String> = peers.iter().map(cell).collect::<Result<_>>()?;
            writeln!(out, "| `{model}` | {} |", each.join(" | "))?;
        }
        writeln!(out)?;
        Ok(())
    }

    fn sizes(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "## Sizes of the core\n\n| module | raw | gzipped | profile | identity |\n| --- | ---: | ---: | --- | --- |"
        )?;
        for module in &self.run.core.modules {
            writeln!(
                out,
                "| `{}` | {:.1} KB | {:.1} KB | {} | `{}` |",
                module.name,
                module.bytes as f64 / 1000.0,
                module.gzip_bytes as f64 / 1000.0,
                module.profile,
                module.identity
            )?;
        }
        writeln!(out)?;
        Ok(())
    }

    fn again(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "## Run it again\n\n`cargo xtask bench` sets up what is missing (Python 3.11 and Node 20 with npm must be there), builds the core as it \
             ships, measures, and rewrites the results and this page. `--quick` takes a few short turns and writes to `target/bench` only. `--edge` measures the Worker instead, and rewrites its section alone."
        )?;
        Ok(())
    }

    /// Every model, in the order it was measured.
    fn models(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut models: Vec<String> = Vec::new();
        for model in self.run.measured.results.iter().filter_map(|sample| sample.model.as_ref()) {
            if wanted(model) && !models.contains(model) {
                models.push(model.clone());
            }
        }
        models
    }

    fn predict(&self, model: &str, rows: usize, peer: &str) -> Result<f64> {
        self.find(peer, |s| s.case == "predict" && s.model.as_deref() == Some(model) && s.rows == Some(rows))
    }

    fn decide(&self, contexts: usize, peer: &str) -> Result<f64> {
        self.decide_with(THREE_RULES, contexts, peer)
    }

    fn decide_with(&self, policy: &str, contexts: usize, peer: &str) -> Result<f64> {
        // Runs before there were several policies name none.
        let asked = |s: &Sample| s.policy.as_deref().unwrap_or(THREE_RULES) == policy;
        self.find(peer, |s| s.case == "decide" && s.contexts == Some(contexts) && asked(s))
    }

    fn load(&self, policy: &str, peer: &str) -> Result<f64> {
        self.find(peer, |s| s.case == "load" && s.policy.as_deref() == Some(policy))
    }

    fn find(&self, peer: &str, wanted: impl Fn(&Sample) -> bool) -> Result<f64> {
        let mut samples = self.run.measured.results.iter();
        let sample = samples.find(|sample| sample.peer == peer && wanted(sample));
        Ok(sample.with_context(|| format!("the run lacks a result of {peer}"))?.median_ns)
    }
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "**not reached**" }
}

/// Nanoseconds as microseconds.
fn micros(nanoseconds: f64) -> String {
    figure(nanoseconds / 1e3)
}

/// Three figures, no more.
fn figure(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// The day, in UTC.
pub(super) fn date(seconds: u64) -> String {
    let millis = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
    let mut time = lockgate_policy::moment::format(millis).unwrap_or_default();
    time.truncate("2026-05-01".len());
    time
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bench::{Core, Measured, MemoryUse, Module};
    use crate::setup::root;

    #[test]
    fn the_page_is_what_the_results_say() {
        let results = std::fs::read(root().join("bench/results/latest.json")).unwrap();
        let path = root().join("docs/benchmarks.md");
        let run = serde_json::from_slice(&results).unwrap();
        let rendered = crate::bench::edge::with_section(&render(&run).unwrap()).unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &rendered).unwrap();
        }
        let page = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            rendered, page,
            "docs/benchmarks.md was edited by hand; UPDATE_DOCS=1 writes it from the results"
        );
    }

    /// A run in which every peer needs a microsecond per unit of `cost`.
    fn run() -> Run {
        let mut results = Vec::new();
        type Results = Vec<Sample>;
        fn add(
            results: &mut Results,
            case: &str,
            model: Option<&str>,
            (rows, contexts): (Option<usize>, Option<usize>),
            peer: &str,
            micros: f64,
        ) {
            results.push(Sample {
                case: case.to_owned(),
                model: model.map(str::to_owned),
                rows,
                contexts,
                policy: None,
                peer: peer.to_owned(),
                median_ns: micros * 1e3,
                fastest_ns: micros * 1e3,
                slowest_ns: micros * 1e3,
                calls_per_turn: 1,
                turns: 1,
            });
        }
        for model in ["eurusd_lr", "eurusd_lstm"] {
            for (peer, cost) in [(WASMTIME, 2.0), (V8, 3.0), (RUNTIME, 9.0), (NATIVE, 5.0), (WEB, 33.0)] {
                add(&mut results, "predict", Some(model), (Some(1), None), peer, cost);
                add(&mut results, "predict", Some(model), (Some(BATCH), None), peer, cost * 500.0);
                add(&mut results, "first", Some(model), (None, None), peer, cost * 50.0);
            }
        }
        for (model, cost) in [("eurusd_lr", 40.0), ("eurusd_lstm", 400.0)] {
            add(&mut results, "first", Some(model), (None, None), BAKED, cost);
        }
        for (peer, cost) in [
            (EVALUATOR, 0.25),
            (WASMTIME, 0.5),
            (V8, 1.0),
            (V8_GLUE, 0.1),
            (WASMTIME_GLUE, 0.1),
            (RUNTIME, 9.0),
            ("flagd-core", 2.0),
            ("GrowthBook", 16.0),
            (REGO, 50.0),
        ] {
            add(&mut results, "decide", None, (None, Some(1)), peer, cost);
            add(&mut results, "decide", None, (None, Some(256)), peer, cost * 256.0);
        }
        for policy in [THREE_RULES, MANY_ROUTES, MANY_UNITS] {
            for (peer, cost) in [(EVALUATOR, 0.25), (WASMTIME, 0.5), (V8, 1.0)] {
                if policy != THREE_RULES {
                    add(&mut results, "decide", None, (None, Some(1)), peer, cost * 1.5);
                    results.last_mut().unwrap().policy = Some(policy.to_owned());
                }
                add(&mut results, "load", None, (None, None), peer, cost * 100.0);
                results.last_mut().unwrap().policy = Some(policy.to_owned());
            }
        }
        let module = |name: &str, gzip_bytes: u64| Module {
            name: name.to_owned(),
            identity: "00ff".to_owned(),
            bytes: 200_000,
            gzip_bytes,
            profile: "core".to_owned(),
        };
        Run {
            machine: BTreeMap::from([("cores".to_owned(), "2".to_owned())]),
            commit: "abc".to_owned(),
            time: 0,
            rustc: "rustc 1.95.0".to_owned(),
            core: Core {
                modules: vec![
                    module("policy", 50_000),
                    module("inference-tabular", 150_000),
                    module("inference-graph", 1_200_000),
                ],
            },
            measured: Measured {
                versions: vec![("V8".to_owned(), "11".to_owned())],
                rounds: 21,
                turn_ms: 60,
                results,
                memory: vec![MemoryUse {
                    model: "trees_1000_depth_6".to_owned(),
                    package: 1_000_000,
                    empty: 1_500_000,
                    loaded: 2_750_000,
                }],
            },
        }
    }

    #[test]
    fn caveats_come_first_and_every_aim_has_its_verdict() {
        let page = render(&run()).unwrap();
        let titles: Vec<_> = page.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(
            titles,
            [
                "# Benchmarks",
                "## Read this first",
                "## Against the project's aims",
                "## One row",
                "## 1 024 rows in one call",
                "## Decisions",
                "## From nothing to the first prediction",
                "## Memory",
                "## Sizes of the core",
                "## Run it again",
            ]
        );
        for line in [
            "| trees and linear models, one row, V8, against onnxruntime-web | ≥ 10× | 11.00× (`eurusd_lr`) | reached |",
            "| trees and linear models, one row, wasmtime, against native onnxruntime | ≥ 2× | 2.50× (`eurusd_lr`) | reached |",
            "| memory of 1 000 trees, against the package | ≤ 1.5× | 1.25× (`trees_1000_depth_6`) | reached |",
            "| `trees_1000_depth_6` | 1000 | 1500 | 1250 | 1.25 |",
            "| one decision, V8, against flagd-core | ≥ 5× | 2.00× | **not reached** |",
            "| one decision, V8, against GrowthBook | ≥ 15× | 16.00× | reached |",
            "| one decision, wasmtime, cost against the same evaluator native | ≤ 4× | 2.00× | reached |",
            "| `inference-tabular`, gzipped | ≤ 100 KB | 150.0 KB | **not reached** |",
            "| new instance from a baked, precompiled module to the first tabular score | ≤ 100 µs | 40.0 µs (`eurusd_lr`; unbaked 100 µs) | reached |",
            "| `eurusd_lr` | 100 | 40.0 | 150 | 250 | 1650 |",
            "| `eurusd_lr` | 2.00 | 3.00 | 9.00 | 5.00 (2.50×) | 33.0 (11.0×) |",
            "| 256 | 0.25 | 0.50 | 1.00 | 9.00 | 2.00 | 16.0 | 50.0 |",
            "| one decision with 10 000 routes, cost against the smallest bundle | ≤ 2× | 1.50× (evaluator, native) | reached |",
            "| 10 000 routes | 0.38 | 0.75 | 1.50 | 25.0 | 50.0 | 100 |",
        ] {
            assert!(page.lines().any(|have| have == line), "no line `{line}` in\n{page}");
        }
        assert!(!page.contains("the profile that tests use"));
    }

    #[test]
    fn a_fast_core_is_named_as_such() {
        let mut run = run();
        run.core.modules[2].profile = "core-fast".to_owned();
        assert!(render(&run).unwrap().contains("the profile that tests use"));
    }

    #[test]
    fn a_missing_result_is_an_error() {
        let mut run = run();
        run.measured.results.retain(|sample| sample.peer != "GrowthBook");
        assert_eq!(render(&run).unwrap_err().to_string(), "the run lacks a result of GrowthBook");
    }

    #[test]
    fn days_are_civil() {
        for (seconds, wanted) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_795_219_200, "2026-11-21"),
        ] {
            assert_eq!(date(seconds), wanted);
        }
    }

    #[test]
    fn figures_are_short() {
        for (value, wanted) in [(0.1234, "0.12"), (9.876, "9.88"), (12.34, "12.3"), (1234.5, "1234")] {
            assert_eq!(figure(value), wanted);
        }
    }
}
