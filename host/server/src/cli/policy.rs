use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lockgate_package::AlignedBytes;
use lockgate_policy::{Bundle, CompileOptions, Diagnostics, Policy, compile};

use super::decide::{ContextArgs, trace};
use crate::failure::Failure;
use crate::files::{self, BUNDLE_EXTENSION, Written};
use crate::{output, policy};

#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check a policy source and say everything that is wrong with it.
    Check(CheckArgs),
    /// Compile a policy source to a bundle.
    Compile(CompileArgs),
    /// Say step by step why a request is served by which version.
    Explain(ExplainArgs),
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The policy source, YAML or JSON.
    source: PathBuf,
    /// Also check it against the packages in this folder: that each version is there and fits its routes.
    #[arg(long, value_name = "FOLDER")]
    packages: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct CompileArgs {
    /// The policy source, YAML or JSON.
    source: PathBuf,
    /// Where the bundle goes. Without it: the source's name with the ending `.lgb`. A file that exists with other content is
    /// never overwritten.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The folder of packages that model versions are pinned to.
    #[arg(long, value_name = "FOLDER")]
    packages: Option<PathBuf>,
    /// The bundle's version. Without it: the source's `version`, else one more than the parent's, else 1.
    #[arg(long, value_name = "NUMBER")]
    bundle_version: Option<u64>,
    /// The bundle that the new one replaces.
    #[arg(long, value_name = "BUNDLE")]
    parent: Option<PathBuf>,
    /// The bundle whose bucket intervals are changed as little as the new shares allow. It is also the parent unless another is
    /// named.
    #[arg(long, value_name = "BUNDLE")]
    base: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// A compiled bundle, or a policy source.
    policy: PathBuf,
    #[command(flatten)]
    context: ContextArgs,
}

pub(crate) fn run(command: PolicyCommand, json: bool) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check(args) => check(&args, json),
        PolicyCommand::Compile(args) => compile_file(&args, json),
        PolicyCommand::Explain(args) => {
            let trace = trace(&args.policy, &args.context)?;
            if json { output::print_json(&trace) } else { output::print(&trace.to_string()) }
        }
    }
}

fn check(args: &CheckArgs, json: bool) -> Result<(), Failure> {
    let text = files::read_text(&args.source)?;
    let packages = match &args.packages {
        Some(folder) => Some(policy::open_packages(folder)?),
        None => None,
    };
    let result = policy::check_source(&args.source, &text).and_then(|checked| {
        if let Some(packages) = &packages {
            let packages = policy::package_refs(packages);
            compile(&checked, &CompileOptions { packages: &packages, ..CompileOptions::default() })?;
        }
        Ok(checked)
    });
    match result {
        Ok(checked) if json => output::print_json(&serde_json::json!({
            "ok": true,
            "routes": checked.routes.len(),
            "variants": variants(&checked),
            "diagnostics": [],
        })),
        Ok(checked) => output::print(&format!(
            "{}: {} routes, {} variants, nothing wrong",
            args.source.display(),
            checked.routes.len(),
            variants(&checked)
        )),
        Err(diagnostics) => {
            if json {
                output::print_json(&serde_json::json!({ "ok": false, "diagnostics": diagnostics }))?;
            }
            Err(policy::failure(diagnostics))
        }
    }
}

fn variants(policy: &Policy) -> usize {
    policy.routes.values().map(|route| route.variants.len()).sum()
}

fn compile_file(args: &CompileArgs, json: bool) -> Result<(), Failure> {
    let text = files::read_text(&args.source)?;
    let checked = policy::check_source(&args.source, &text).map_err(policy::failure)?;
    let packages = match &args.packages {
        Some(folder) => policy::open_packages(folder)?,
        None => Vec::new(),
    };
    let packages = policy::package_refs(&packages);
    let open = |path: &Option<PathBuf>| path.as_deref().map(policy::open_bundle).transpose();
    let (parent, base) = (open(&args.parent)?, open(&args.base)?);
    let options = CompileOptions {
        version: args.bundle_version,
        parent: parent.as_ref().or(base.as_ref()),
        base: base.as_ref(),
        packages: &packages,
    };
    let spinner = output::spinner(format!("compiling {}", args.source.display()));
    let compiled: Result<Vec<u8>, Diagnostics> = compile(&checked, &options);
    spinner.finish_and_clear();
    let bytes = compiled.map_err(policy::failure)?;
    let bundle = Bundle::load(AlignedBytes::copy_of(&bytes))
        .map_err(|error| Failure::new(format!("the bundle that was made cannot be read back: {error}")))?;
    let path =
        args.output.clone().unwrap_or_else(|| Path::new(&args.source).with_extension(BUNDLE_EXTENSION));
    let written = files::write_immutable(&path, &bytes)?;
    if json {
        return output::print_json(&serde_json::json!({
            "file": path.display().to_string(),
            "new": written == Written::New,
            "version": bundle.version(),
            "digest": bundle.digest(),
            "parent": bundle.parent(),
            "routes": bundle.route_count(),
            "bytes": bytes.len(),
        }));
    }
    let unchanged = if written == Written::Unchanged { ", unchanged" } else { "" };
    output::print(&format!(
        "{}: version {}, {} routes, {} bytes, sha256:{}{unchanged}",
        path.display(),
        bundle.version(),
        bundle.route_count(),
        bytes.len(),
        bundle.digest()
    ))
}
