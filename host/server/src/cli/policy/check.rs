use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use lockgate_policy::{CompileOptions, Diagnostic, Policy, Severity, compile, lint};

use super::report::render;
use crate::failure::Failure;
use crate::{files, output, policy};

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The policy source, YAML or JSON.
    source: PathBuf,
    /// Also check it against the packages in this folder: that each version is there and fits its routes.
    #[arg(long, value_name = "FOLDER")]
    packages: Option<PathBuf>,
    /// Fail when there are warnings.
    #[arg(long)]
    deny_warnings: bool,
}

pub(crate) fn run(args: &CheckArgs, json: bool) -> Result<(), Failure> {
    let text = files::read_text(&args.source)?;
    let packages = match &args.packages {
        Some(folder) => Some(policy::package_refs(&policy::open_packages(folder)?)),
        None => None,
    };
    let checked = policy::check_source(&args.source, &text);
    let (policy, diagnostics) = match checked {
        Ok(checked) => {
            let lists = policy::read_lists(&args.source, &checked)?;
            let options = CompileOptions {
                packages: packages.as_deref().unwrap_or_default(),
                lists: &lists,
                stand_ins: packages.is_none(),
                ..CompileOptions::default()
            };
            // What only compiling finds: an expression that is too large, a package that does not fit.
            let errors = compile(&checked, &options).err();
            let mut diagnostics: Vec<Diagnostic> = errors.iter().flatten().cloned().collect();
            diagnostics.extend(lint(&checked));
            diagnostics.sort();
            (Some(checked), diagnostics)
        }
        Err(errors) => (None, errors.into_iter().cloned().collect()),
    };
    conclude(args, json, text, policy.as_ref(), &diagnostics)
}

fn conclude(
    args: &CheckArgs,
    json: bool,
    text: String,
    policy: Option<&Policy>,
    diagnostics: &[Diagnostic],
) -> Result<(), Failure> {
    let file = args.source.display().to_string();
    let warnings = diagnostics.iter().filter(|one| one.severity == Severity::Warning).count();
    let errors = diagnostics.len() - warnings;
    let ok = errors == 0 && (warnings == 0 || !args.deny_warnings);
    if json {
        output::print_json(&serde_json::json!({
            "ok": ok,
            "errors": errors,
            "warnings": warnings,
            "routes": policy.map(|policy| policy.routes.len()),
            "variants": policy.map(variants),
            "diagnostics": diagnostics,
        }))?;
    } else if !diagnostics.is_empty() {
        let texts = BTreeMap::from([(file.clone(), text)]);
        output::note(&format!("{}\n", render(diagnostics, &texts)));
    }
    let counts = match (errors, warnings) {
        (0, 0) => "nothing wrong".to_owned(),
        (0, warnings) => count(warnings, "warning"),
        (errors, 0) => count(errors, "error"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    };
    if !ok {
        let failure = Failure::new(format!("{file}: {counts}"));
        return Err(if errors == 0 {
            failure.hint("`--deny-warnings` makes warnings fail")
        } else {
            failure
        });
    }
    match policy {
        Some(policy) if !json => output::print(&format!(
            "{file}: {}, {}, {counts}",
            count(policy.routes.len(), "route"),
            count(variants(policy), "variant")
        )),
        _ => Ok(()),
    }
}

/// A number of things, `1 route`, `2 routes`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn variants(policy: &Policy) -> usize {
    policy.routes.values().map(|route| route.variants.len()).sum()
}
