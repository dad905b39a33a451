use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use lockgate_policy::{CompileOptions, Diagnostic, PackageRef, Policy, Severity, compile, lint_with};

use super::report::render;
use crate::failure::Failure;
use crate::trust::Gate;
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
        Some(folder) => Some(policy::package_refs(&policy::open_packages(folder, &Gate::default())?)),
        None => None,
    };
    let mut texts = BTreeMap::from([(args.source.display().to_string(), text)]);
    let (policy, diagnostics) = examine(&args.source, packages.as_deref(), &mut texts);
    conclude(args, json, &texts, policy.as_ref(), &diagnostics)
}

/// The policy, when it can be used, and everything that is wrong with it or with the lists of units that it names. Adds the texts of these
/// lists to `texts`, where they are needed to show what is wrong.
fn examine(
    source: &Path,
    packages: Option<&[PackageRef]>,
    texts: &mut BTreeMap<String, String>,
) -> (Option<Policy>, Vec<Diagnostic>) {
    let file = source.display().to_string();
    let parsed = match lockgate_policy::parse(&file, texts.get(&file).map_or("", String::as_str)) {
        Ok(parsed) => parsed,
        Err(errors) => return (None, errors.into_iter().cloned().collect()),
    };
    let (mut lists, mut diagnostics) = (BTreeMap::new(), Vec::new());
    for list in parsed.list_files() {
        let path = policy::list_path(source, list.name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                diagnostics.push(parsed.unreadable(&list, &error.to_string()));
                continue;
            }
        };
        let shown = path.display().to_string();
        match lockgate_policy::parse_list(&shown, &bytes) {
            Ok(units) => {
                lists.insert(list.name.to_owned(), units);
            }
            Err(errors) => {
                diagnostics.extend(errors.into_iter().cloned());
                texts.insert(shown, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    let sound = diagnostics.is_empty();
    let policy = match lockgate_policy::check(&parsed) {
        Ok(policy) if sound => {
            let options = CompileOptions {
                packages: packages.unwrap_or_default(),
                lists: &lists,
                stand_ins: packages.is_none(),
                ..CompileOptions::default()
            };
            // What only compiling finds: an expression that is too large, a package that does not fit.
            let errors = compile(&policy, &options).err();
            diagnostics.extend(errors.iter().flatten().cloned());
            diagnostics.extend(lint_with(&policy, &lists));
            Some(policy)
        }
        Ok(policy) => Some(policy),
        Err(errors) => {
            diagnostics.extend(errors.into_iter().cloned());
            None
        }
    };
    // The source first, then its lists.
    diagnostics
        .sort_by(|one, other| (one.file != file).cmp(&(other.file != file)).then_with(|| one.cmp(other)));
    (policy, diagnostics)
}

fn conclude(
    args: &CheckArgs,
    json: bool,
    texts: &BTreeMap<String, String>,
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
        output::note(&format!("{}\n", render(diagnostics, texts)));
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
