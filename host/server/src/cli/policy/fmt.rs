use std::path::PathBuf;

use clap::Args;
use lockgate_policy::format_source;

use super::check::count;
use crate::failure::Failure;
use crate::{files, output, policy};

#[derive(Args)]
pub(crate) struct FmtArgs {
    /// Policy sources or case files, YAML or JSON.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write nothing; fail when a file is laid out otherwise.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &FmtArgs, json: bool) -> Result<(), Failure> {
    // Nothing is written unless every file can be laid out.
    let mut layouts = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let text = files::read_text(file)?;
        let layout = format_source(&file.display().to_string(), &text).map_err(policy::failure)?;
        layouts.push((file, text, layout));
    }
    let mut changed = Vec::new();
    for (file, text, layout) in &layouts {
        if text == layout {
            continue;
        }
        if !args.check {
            files::replace(file, layout.as_bytes())?;
        }
        // Ends of lines count too.
        let pairs = text.split('\n').zip(layout.split('\n')).zip(1..);
        let line = pairs.skip_while(|((old, new), _)| old == new).map(|(_, line)| line).next();
        changed.push((
            file.display().to_string(),
            line.unwrap_or_else(|| text.lines().count().min(layout.lines().count()) + 1),
        ));
    }
    if json {
        let files: Vec<_> =
            changed.iter().map(|(file, line)| serde_json::json!({ "file": file, "line": line })).collect();
        output::print_json(
            &serde_json::json!({ "files": layouts.len(), "changed": files, "written": !args.check }),
        )?;
    } else {
        for (file, line) in &changed {
            let what = if args.check { "is laid out otherwise from line" } else { "laid out, from line" };
            output::print(&format!("{file}: {what} {line} on"))?;
        }
        if changed.is_empty() {
            output::print(&format!("{}, nothing to do", count(layouts.len(), "file")))?;
        }
    }
    if args.check && !changed.is_empty() {
        let failure = Failure::new(format!("{} to lay out", count(changed.len(), "file")));
        return Err(failure.hint("run `lockgate policy fmt` without `--check`"));
    }
    Ok(())
}
