use std::path::{Path, PathBuf};

use clap::Args;
use lockgate_policy::parse_cases;

use super::check::count;
use crate::cli::settings::{SourcesRefused, TrustArgs};
use crate::failure::Failure;
use crate::{files, output, policy};

#[derive(Args)]
pub(crate) struct TestArgs {
    /// A policy source, which needs no packages for this, or a compiled bundle.
    policy: PathBuf,
    /// The cases. Without it: the file beside the policy whose name ends in `.test.yaml` or `.test.json` instead of `.yaml`.
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// The folder of packages that model versions are pinned to.
    #[arg(long, value_name = "FOLDER")]
    packages: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) fn run(args: &TestArgs, json: bool) -> Result<(), Failure> {
    let path = match &args.cases {
        Some(path) => path.clone(),
        None => beside(&args.policy)?,
    };
    let text = files::read_text(&path)?;
    let cases = parse_cases(&path.display().to_string(), &text).map_err(policy::failure)?;
    let gate = args.trust.gate(SourcesRefused::ByFlag)?;
    let packages = policy::packages(args.packages.as_deref(), &gate)?;
    let bundle = policy::open(&args.policy, &policy::How::tool(&packages), &gate)?;
    let results = cases.run(&bundle);
    let failed = results.iter().filter(|result| !result.passed()).count();
    let contexts: usize = results.iter().map(|result| result.contexts).sum();
    if json {
        output::print_json(&serde_json::json!({
            "ok": failed == 0,
            "cases": results.len(),
            "failed": failed,
            "contexts": contexts,
            "results": results,
        }))?;
    } else {
        let mut lines: Vec<String> = results.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "{}, {} passed, {failed} failed; {}",
            count(results.len(), "case"),
            results.len() - failed,
            count(contexts, "decision")
        ));
        output::print(&lines.join("\n"))?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::new(format!("{} of {} failed", failed, count(results.len(), "case")))),
    }
}

/// The cases beside a policy.
fn beside(policy: &Path) -> Result<PathBuf, Failure> {
    let candidates = ["test.yaml", "test.yml", "test.json"].map(|extension| policy.with_extension(extension));
    candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let [first, ..] = &candidates;
        Failure::new(format!("there are no cases beside {}", policy.display()))
            .hint(format!("write them into {}, or name a file with `--cases`", first.display()))
    })
}
