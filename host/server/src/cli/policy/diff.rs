use std::path::PathBuf;

use clap::Args;
use lockgate_policy::{UnitsDiff, diff, diff_units};

use crate::cli::settings::{SourcesRefused, TrustArgs};
use crate::cli::time::Moment;
use crate::cli::units;
use crate::failure::Failure;
use crate::{output, policy};

/// What `--exit-code` answers when something changes; 1 is kept for what could not be done.
const CHANGED: u8 = 3;

#[derive(Args)]
pub(crate) struct DiffArgs {
    /// The policy that is in force: a source or a compiled bundle.
    old: PathBuf,
    /// The policy that replaces it: a source or a compiled bundle.
    new: PathBuf,
    /// Real units, whose decisions are compared: CSV with a header, or one JSON context a line. Units without a route are tried on
    /// every route.
    #[arg(long, value_name = "FILE")]
    units: Option<PathBuf>,
    /// The time to compare at, which says which stages of ramps are in force. Without it: now.
    #[arg(long)]
    now: Option<Moment>,
    /// Lay the new source's buckets out anew, as compiling it without `--base` would, instead of on those of the old policy.
    #[arg(long)]
    no_base: bool,
    /// The folder of packages that model versions are pinned to.
    #[arg(long, value_name = "FOLDER")]
    packages: Option<PathBuf>,
    /// Exit with 3 when something changes.
    #[arg(long)]
    exit_code: bool,
    /// The signatures of both are demanded, and of the new one everything else.
    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) fn run(args: &DiffArgs, json: bool) -> Result<(), Failure> {
    let gate = args.trust.gate(SourcesRefused::ByFlag)?;
    let packages = policy::packages(args.packages.as_deref(), &gate)?;
    let old = policy::open(&args.old, &policy::How::tool(&packages), &gate.signatures())?;
    let how = policy::How { base: (!args.no_base).then_some(&old), ..policy::How::tool(&packages) };
    let new = policy::open(&args.new, &how, &gate)?;
    let now = args.now.unwrap_or_else(Moment::now);
    let changes = diff(&old, &new, now.0);
    let moved: Option<UnitsDiff> = match &args.units {
        Some(path) => Some(diff_units(&old, &new, units::read(path, &[&old, &new])?, now.0)),
        None => None,
    };
    let differs = !changes.is_empty() || moved.as_ref().is_some_and(|moved| moved.moved > 0);
    if json {
        output::print_json(&serde_json::json!({ "changed": differs, "policy": changes, "units": moved }))?;
    } else {
        let mut text = changes.to_string();
        if let Some(moved) = &moved {
            text.push_str(&format!("\n{moved}"));
        }
        output::print(&text)?;
    }
    if args.exit_code && differs { Err(Failure::answered(CHANGED)) } else { Ok(()) }
}
