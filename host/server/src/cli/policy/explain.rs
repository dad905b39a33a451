use std::path::PathBuf;

use clap::Args;

use crate::cli::decide::{ContextArgs, trace};
use crate::cli::settings::{SourcesRefused, TrustArgs};
use crate::failure::Failure;
use crate::{output, policy};

#[derive(Args)]
#[command(mut_arg("route", |route| route.required(true)))]
pub(crate) struct ExplainArgs {
    /// A compiled bundle, or a policy source, which needs no packages for this.
    policy: PathBuf,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    trust: TrustArgs,
}

pub(crate) fn run(args: &ExplainArgs, json: bool) -> Result<(), Failure> {
    let gate = args.trust.gate(SourcesRefused::ByFlag)?;
    let packages = args.context.packages(&gate)?;
    let bundle = policy::open(&args.policy, &policy::How::tool(&packages), &gate)?;
    let trace = trace(&args.policy, &bundle, &args.context)?;
    if json { output::print_json(&trace) } else { output::print(&trace.to_string()) }
}
