use std::path::PathBuf;

use clap::Args;
use lockgate_policy::verify_source;

use crate::failure::Failure;
use crate::{files, output, policy};

#[derive(Args)]
pub(crate) struct SourceArgs {
    /// A compiled bundle.
    bundle: PathBuf,
    /// Compile the source again and compare it with the bundle, section by section, before it is shown.
    #[arg(long)]
    verify: bool,
    /// Where the source goes, instead of the standard output. A file that exists with other content is never overwritten.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &SourceArgs, json: bool) -> Result<(), Failure> {
    let bundle = policy::open_bundle(&args.bundle)?;
    let file = args.bundle.display();
    let source = bundle.source().ok_or_else(|| {
        Failure::new(format!("{file} carries no source")).hint("it was compiled with `--no-source`")
    })?;
    if args.verify {
        verify_source(&bundle)
            .map_err(|error| Failure::new(format!("{file}: {error}")).code("source_mismatch"))?;
        output::note(&format!("{file}: the source compiles to this bundle"));
    }
    // Written as one line; people read it laid out.
    let text = lockgate_policy::format_source("source.json", source).map_err(policy::failure)?;
    if let Some(path) = &args.output {
        files::write_immutable(path, text.as_bytes())?;
    }
    match (&args.output, json) {
        (None, false) => output::print(&text),
        (Some(path), false) => output::print(&format!("{}: {} bytes", path.display(), text.len())),
        (_, true) => {
            let value: serde_json::Value = serde_json::from_str(source)
                .map_err(|error| Failure::new(format!("{file}: the source is no JSON: {error}")))?;
            output::print_json(&serde_json::json!({ "verified": args.verify, "source": value }))
        }
    }
}
