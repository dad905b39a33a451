//! The Worker in workerd, beside one that answers a constant: `bench/results/edge.json`, and its section of `docs/benchmarks.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{BenchOptions, Core, commit, machine, page};
use crate::setup::{cargo, node_modules, output, python, root, run, say, target};
use crate::worker::{Source, WorkerOptions};

/// Where the section begins.
const HEADING: &str = "## The Worker in workerd\n";
/// The section before which it stands.
const NEXT: &str = "## Run it again\n";

/// Everything that is known about a run; `bench/results/edge.json`.
#[derive(Serialize, Deserialize)]
struct Run {
    machine: BTreeMap<String, String>,
    commit: String,
    /// Seconds since 1970.
    time: u64,
    workerd: String,
    core: Core,
    measured: Measured,
}

/// What `bench/edge/run.mjs` prints.
#[derive(Serialize, Deserialize)]
struct Measured {
    rounds: u32,
    turn_ms: u32,
    connections: u32,
    starts: u32,
    node: String,
    onnxruntime_web: String,
    routed: BTreeMap<String, Routed>,
    startup: BTreeMap<String, StartUp>,
    memory: BTreeMap<String, Memory>,
}

#[derive(Serialize, Deserialize)]
struct Routed {
    requests_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us_per_request: f64,
    slower_than_constant: f64,
}

#[derive(Serialize, Deserialize)]
struct StartUp {
    busy_ms: f64,
    samples: f64,
    first: First,
}

#[derive(Serialize, Deserialize)]
struct First {
    wall_ms: f64,
    cpu_ms: f64,
}

#[derive(Serialize, Deserialize)]
struct Memory {
    requests: u64,
    heap_before: u64,
    heap_after: u64,
    process_before: u64,
    process_after: u64,
    modules: Option<BTreeMap<String, u64>>,
}

/// Measures, and writes the results and the section.
pub(crate) fn bench(options: BenchOptions) -> Result<()> {
    crate::core::build(crate::core::BuildOptions { fault: false })?;
    crate::worker::build(WorkerOptions::default())?;
    say("building the lockgate program");
    run(cargo().args(["build", "--package", "lockgate-server"]))?;

    let python = python("bench/requirements.txt")?;
    node_modules("bench/node")?;
    say("taking ZipMap out of the peer's model");
    let models = target().join("bench/peer-models");
    output(Command::new(python).arg("bench/peer_models.py").arg("examples/eurusd/models").arg(&models))?;

    say("measuring the Worker in workerd; leave the machine alone meanwhile");
    let mut measure = Command::new("node");
    measure
        .arg("bench/edge/run.mjs")
        .arg("--lockgate")
        .arg(target().join("debug/lockgate"))
        .arg("--core")
        .arg(crate::core::directory())
        .arg("--fetched")
        .arg(Source::Fetched.directory())
        .arg("--baked")
        .arg(Source::Baked.directory())
        .arg("--models")
        .arg(&models);
    if options.quick {
        measure.arg("--quick");
    }
    let measured: Measured = serde_json::from_str(&output(&mut measure)?)?;
    let package = std::fs::read_to_string(root().join("edge/cloudflare/package.json"))?;
    let package: serde_json::Value = serde_json::from_str(&package)?;
    let run = Run {
        machine: machine()?,
        commit: commit()?,
        time: std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs(),
        workerd: package["devDependencies"]["workerd"].as_str().unwrap_or("unknown").to_owned(),
        core: serde_json::from_slice(&std::fs::read(crate::core::directory().join("manifest.json"))?)?,
        measured,
    };
    let mut text = serde_json::to_string_pretty(&run)?;
    text.push('\n');
    let page = root().join("docs/benchmarks.md");
    if options.quick {
        let out = target().join("bench");
        std::fs::create_dir_all(&out)?;
        std::fs::write(out.join("edge.json"), text)?;
        std::fs::write(out.join("edge.md"), render(&run)?)?;
        say(&format!("wrote edge.json and edge.md in {}", out.display()));
    } else {
        std::fs::write(results(), text)?;
        let before = std::fs::read_to_string(&page)?;
        std::fs::write(&page, with_section(&before)?)?;
        say(&format!("wrote {} and {}", results().display(), page.display()));
    }
    Ok(())
}

fn results() -> std::path::PathBuf {
    root().join("bench/results/edge.json")
}

/// The page with this section as the latest run wrote it; without a run, the page as it is.
pub(super) fn with_section(page: &str) -> Result<String> {
    if !results().exists() {
        return Ok(page.to_owned());
    }
    Ok(put(page, &render(&read(&results())?)?))
}

fn read(path: &Path) -> Result<Run> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no result of this benchmark", path.display()))
}

/// Puts the section where it belongs, in the place of an older one.
fn put(page: &str, section: &str) -> String {
    let end = page.find(NEXT).unwrap_or(page.len());
    let (before, after) = page.split_at(end);
    let before = before.find(HEADING).map_or(before, |start| &before[..start]);
    format!("{before}{section}{after}")
}

fn render(run: &Run) -> Result<String> {
    let Run { measured, workerd, .. } = run;
    let mut out = String::new();
    writeln!(out, "{HEADING}")?;
    writeln!(
        out,
        "A run of its own, from [`bench/results/edge.json`](../bench/results/edge.json), by `cargo xtask bench --edge`: `workerd serve` {workerd} alone with one \
         Worker, asked by a program in Node {} on the same machine, over {} connections that each send another row as soon as they have an answer. Each request is decided (a 90/10 split by user) and predicted by a \
         forest of 100 trees. *Constant* is a Worker in JavaScript that reads the body and answers with the same bytes each time; onnxruntime-web {} gets the same requests, runs the forest without ZipMap and \
         decides and checks nothing. In turn, {} rounds of {} ms; a figure is a median, *slower* the median of \
         the rounds' own ratios. The program that asks takes a core of its own: on a machine with few cores it slows the quicker Worker down more.\n",
        measured.node, measured.connections, measured.onnxruntime_web, measured.rounds, measured.turn_ms
    )?;
    let of = |key: &str| run.machine.get(key).map_or("unknown", String::as_str);
    writeln!(
        out,
        "{}, {} cores; commit {}; {}.\n",
        of("processor"),
        of("cores"),
        run.commit,
        page::date(run.time)
    )?;
    writeln!(
        out,
        "| Worker | requests per second | slower, aim ≤ 2 | p50, µs | p99, µs | CPU per request, µs |"
    )?;
    writeln!(out, "| --- | ---: | ---: | ---: | ---: | ---: |")?;
    for (name, shown) in [
        ("constant", "constant"),
        ("baked", "Lockgate, baked"),
        ("fetched", "Lockgate, from KV"),
        ("onnxruntime_web", "onnxruntime-web, prediction alone"),
    ] {
        let Some(routed) = measured.routed.get(name) else { continue };
        writeln!(
            out,
            "| {shown} | {:.0} | {:.2}× | {:.0} | {:.0} | {:.0} |",
            routed.requests_per_second,
            routed.slower_than_constant,
            routed.p50_us,
            routed.p99_us,
            routed.cpu_us_per_request
        )?;
    }
    writeln!(
        out,
        "\nStart-up, baked: the CPU that evaluating the Worker's modules takes, summed from the samples of the profiler, 50 µs apart, in which something ran, as `wrangler check startup` sums \
         it, whose samples are 1 ms apart; that the profiler sees a start-up that computes is checked first, so a 0 is less than a sample. Instances of the core are made by the first request, so that stands beside it, with the CPU of the whole process: its clock counts in steps of 10 ms. \
         Medians of {} new processes, milliseconds.\n",
        measured.starts
    )?;
    writeln!(out, "| Worker | start-up CPU | aim | first answer, CPU | first answer |")?;
    writeln!(out, "| --- | ---: | ---: | ---: | ---: |")?;
    for (name, shown, aim) in [("tabular", "forest", 20), ("graph", "LSTM, graph flavour", 60)] {
        let start = measured.startup.get(name).with_context(|| format!("no start-up of {name}"))?;
        writeln!(
            out,
            "| {shown} | {:.1} | ≤ {aim} | {:.0} | {:.0} |",
            start.busy_ms, start.first.cpu_ms, start.first.wall_ms
        )?;
    }
    let fast = run.core.modules.iter().any(|module| module.profile != "core");
    if fast {
        writeln!(
            out,
            "\nThe graph flavour was built with the profile that tests use, not the one that ships."
        )?;
    }
    writeln!(out, "\nMemory, once the garbage is collected: after 100 requests, and after more.\n")?;
    writeln!(
        out,
        "| Worker | requests | V8's heap, before → after | process, before → after | modules | shell |"
    )?;
    writeln!(out, "| --- | ---: | ---: | ---: | ---: | ---: |")?;
    for (name, shown) in
        [("constant", "constant"), ("baked", "Lockgate, baked"), ("fetched", "Lockgate, from KV")]
    {
        let Some(memory) = measured.memory.get(name) else { continue };
        let module = |key: &str| {
            let bytes = memory.modules.as_ref().and_then(|modules| modules.get(key));
            bytes.map_or_else(|| "–".to_owned(), |bytes| megabytes(*bytes))
        };
        writeln!(
            out,
            "| {shown} | {} | {} → {} | {} → {} | {} | {} |",
            memory.requests,
            megabytes(memory.heap_before),
            megabytes(memory.heap_after),
            megabytes(memory.process_before),
            megabytes(memory.process_after),
            module("instance_bytes"),
            module("shell_bytes")
        )?;
    }
    out.push('\n');
    Ok(out)
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_its_older_self_alone() {
        let page = "# Benchmarks\n\n## Sizes\n\nx\n\n## Run it again\n\ny\n";
        let first = put(page, &format!("{HEADING}\none\n\n"));
        assert_eq!(
            first,
            "# Benchmarks\n\n## Sizes\n\nx\n\n## The Worker in workerd\n\none\n\n## Run it again\n\ny\n"
        );
        assert_eq!(put(&first, &format!("{HEADING}\ntwo\n\n")), first.replace("one", "two"));
    }
}
