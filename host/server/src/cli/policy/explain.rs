use std::path::PathBuf;

use clap::Args;

use crate::cli::decide::{ContextArgs, trace};
use crate::failure::Failure;
use crate::output;

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// A compiled bundle, or a policy source, which needs no packages for this.
    policy: PathBuf,
    #[command(flatten)]
    context: ContextArgs,
}

pub(crate) fn run(args: &ExplainArgs, json: bool) -> Result<(), Failure> {
    let trace = trace(&args.policy, &args.context, true)?;
    if json { output::print_json(&trace) } else { output::print(&trace.to_string()) }
}
