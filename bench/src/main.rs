//! Measures the core side by side with its peers, in one run.
//!
//! Each *case* (predict one row of a model, decide 256 contexts …) is given to every *peer* that can run it, in many short
//! turns: all peers take their first turn, then all their second, so that whatever else the machine does falls on
//! all of them. A peer's figure is the median of its turns. Inputs come from one pool; every call takes the next one, so that no
//! branch predictor learns a row by heart, and all peers take the same ones. Before a case is measured, the peers' answers to
//! its first input are compared.
//!
//! `cargo xtask bench` prepares everything, writes `setup.json` and calls `lockgate-bench setup.json results.json`.
#![expect(clippy::print_stderr, reason = "a command line program talks to its user")]

mod case;
mod child;
mod decide;
mod embedded;
mod onnxruntime;
mod setup;
mod wasm;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::case::{Case, Peer, Turn};
use crate::setup::Setup;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [setup_path, results_path] = arguments.as_slice() else {
        bail!("usage: lockgate-bench SETUP.json RESULTS.json");
    };
    let setup = Setup::read(Path::new(setup_path))?;
    let mut versions = Vec::new();
    let core = wasm::Wasmtime::new(&setup)?;
    let memory = core.memory();
    let mut peers = peers(&setup, Path::new(setup_path), core, &mut versions)?;
    let cases = case::all(&setup);
    let mut results = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        eprintln!("[{:>2}/{}] {case}", number + 1, cases.len());
        for result in measure(case, &mut peers, &setup)? {
            eprintln!("        {:<28} {:>12.2} µs", result.peer, result.median_ns / 1e3);
            results.push(result);
        }
    }
    let results = Results { versions, rounds: setup.rounds, turn_ms: setup.turn_ms, results, memory };
    std::fs::write(results_path, serde_json::to_vec_pretty(&results)?)
        .with_context(|| format!("cannot write {results_path}"))
}

fn peers(
    setup: &Setup,
    path: &Path,
    core: wasm::Wasmtime,
    versions: &mut Vec<(String, String)>,
) -> Result<Vec<Box<dyn Peer>>> {
    let v8 = child::Child::start("V8", &setup.node_folder.join("core_peer.mjs"), path)?;
    let web =
        child::Child::start("onnxruntime-web", &setup.node_folder.join("onnxruntime_web_peer.mjs"), path)?;
    let evaluators = child::Child::start("evaluators", &setup.node_folder.join("evaluators_peer.mjs"), path)?;
    for child in [&v8, &web, &evaluators] {
        versions.extend(child.versions().iter().cloned());
    }
    versions.sort();
    versions.dedup();
    let mut peers: Vec<Box<dyn Peer>> = vec![
        Box::new(core),
        Box::new(wasm::Baked::new(setup)?),
        Box::new(wasm::Glue::new(setup)?),
        Box::new(embedded::Embedded::new(setup)?),
        Box::new(onnxruntime::Native::new(setup)?),
        Box::new(decide::NativeEvaluator::new(setup)?),
    ];
    peers.extend(v8.peers());
    peers.extend(web.peers());
    peers.extend(evaluators.peers());
    Ok(peers)
}

#[derive(Serialize)]
struct Results {
    /// Programs and libraries by name.
    versions: Vec<(String, String)>,
    rounds: usize,
    turn_ms: u64,
    results: Vec<Measured>,
    memory: Vec<wasm::MemoryUse>,
}

/// What one peer needed for one case, nanoseconds per call.
#[derive(Serialize)]
struct Measured {
    #[serde(flatten)]
    case: Case,
    peer: String,
    median_ns: f64,
    fastest_ns: f64,
    slowest_ns: f64,
    calls_per_turn: usize,
    turns: usize,
}

fn measure(case: &Case, peers: &mut [Box<dyn Peer>], setup: &Setup) -> Result<Vec<Measured>> {
    let mut runners: Vec<_> = peers.iter_mut().filter(|peer| peer.can_run(case)).collect();
    let answers: Vec<_> = runners
        .iter_mut()
        .map(|peer| Ok((peer.name().to_owned(), peer.run(case, Turn { start: 0, calls: 1 })?.answer)))
        .collect::<Result<_>>()?;
    agree(case, &answers)?;

    let turn = Duration::from_millis(setup.turn_ms);
    let calls: Vec<usize> =
        runners.iter_mut().map(|peer| calibrate(&mut ***peer, case, turn)).collect::<Result<_>>()?;
    let mut samples = vec![Vec::new(); runners.len()];
    let mut start = 0;
    for round in 0..setup.rounds {
        for turn in 0..runners.len() {
            // Every round begins with another peer, so that none always follows the same one.
            let index = (round + turn) % runners.len();
            let spent = runners[index].run(case, Turn { start, calls: calls[index] })?;
            samples[index].push(spent.nanoseconds / calls[index] as f64);
        }
        start += 101;
    }
    let summarise = |index: usize, mut samples: Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        Measured {
            case: case.clone(),
            peer: runners[index].name().to_owned(),
            median_ns: samples[samples.len() / 2],
            fastest_ns: samples[0],
            slowest_ns: samples[samples.len() - 1],
            calls_per_turn: calls[index],
            turns: samples.len(),
        }
    };
    Ok(samples.into_iter().enumerate().map(|(index, samples)| summarise(index, samples)).collect())
}

/// How many calls fill a turn, found by doubling; this also warms the peer up.
fn calibrate(peer: &mut dyn Peer, case: &Case, turn: Duration) -> Result<usize> {
    let wanted = turn.as_nanos() as f64;
    let mut calls = 1;
    loop {
        let spent = peer.run(case, Turn { start: 0, calls })?.nanoseconds;
        if spent >= wanted / 2.0 {
            return Ok(((calls as f64 * wanted / spent) as usize).max(1));
        }
        calls *= 2;
    }
}

/// Sees to it that all peers that answer in the same terms gave the same answer.
fn agree(case: &Case, answers: &[(String, Option<f64>)]) -> Result<()> {
    let mut given = answers.iter().filter_map(|(peer, answer)| answer.map(|answer| (peer, answer)));
    let Some((first, wanted)) = given.next() else { return Ok(()) };
    for (peer, answer) in given {
        let tolerance = 1e-4 * wanted.abs().max(1.0);
        ensure!(
            (answer - wanted).abs() <= tolerance,
            "{case}: {peer} answers {answer}, {first} answers {wanted}; what is measured must be the same"
        );
    }
    Ok(())
}
