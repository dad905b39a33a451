//! Embeds the core: which version serves this user, and what does it say?
//!
//! ```text
//! cargo run --example embed -- policy.bundle eurusd_lr.package eurusd_gb.package
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it got")]

use lockgate_core::CoreModules;
use lockgate_runtime::{Context, InferRequest, Runtime, Tensor};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut files = std::env::args().skip(1).map(std::fs::read).collect::<std::io::Result<Vec<_>>>()?;
    let bundle =
        if files.is_empty() { return Err("usage: embed BUNDLE PACKAGE…".into()) } else { files.remove(0) };
    let core = CoreModules::embedded()?.ok_or("compiled without the core: run `cargo xtask build` first")?;
    println!("{}", ask(core, bundle, files)?);
    Ok(())
}

/// What `eurusd-direction` says for one user about a market that stands still.
pub(crate) fn ask(core: CoreModules, bundle: Vec<u8>, packages: Vec<Vec<u8>>) -> Result<String> {
    let runtime = Runtime::builder(core).build()?;
    runtime.install(Some(bundle), packages)?;
    let answer = runtime.infer(InferRequest {
        contributions: Default::default(),
        route: "eurusd-direction".to_owned(),
        contexts: vec![Context { user: Some("alice".to_owned()), ..Context::default() }],
        pinned: None,
        inputs: vec![Tensor::fp32("input", vec![1, 17], &[0.0; 17])],
        now_ms: None,
        deadline: None,
    })?;
    let (row, version) = answer.served.row(0).ok_or("no row")?;
    let why = row.decision.as_ref().ok_or("no decision")?;
    let names: Vec<_> = answer.outputs.iter().map(|output| output.name.as_str()).collect();
    Ok(format!("{}@{}, because {}: {}", version.model, version.version, why.reason, names.join(" and ")))
}
