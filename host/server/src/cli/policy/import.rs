use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use lockgate_policy::{Algorithm, Extent, Field, ImportOptions, Imported, Models, System, import};

use super::check::count;
use crate::failure::Failure;
use crate::{files, output, policy};

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The flags: a flag file of flagd; what an Unleash server answers to `/api/client/features`, or an administrator's
    /// export; what a GrowthBook server answers to SDKs. JSON or YAML.
    file: PathBuf,
    /// The system that the flags are of.
    #[arg(long, value_name = "SYSTEM", value_parser = PossibleValuesParser::new(System::ALL.map(System::name)))]
    from: String,
    /// Where the policy source goes. Without it, it is printed. A file that exists with other content is never overwritten.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The model version of every variant that `--map` says nothing about.
    #[arg(long, value_name = "MODEL@VERSION")]
    model: Option<String>,
    /// A mapping, JSON or YAML, from flags or from flags and variants to model versions: `checkout: rank@1.0.0`,
    /// `checkout.canary: rank@1.1.0` or `checkout: { canary: rank@1.1.0 }`.
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// The hash that made the assignments: `flagd`, `flagd-utf8`, `flagd-cbor`, `flagd-legacy`, `flagd-legacy-utf8`; `unleash`,
    /// `unleash-utf8`; `growthbook`. Without it, that of the newest SDK for JavaScript.
    #[arg(long, value_name = "NAME")]
    hash: Option<String>,
    /// An attribute of the other system that is a field here, such as `accountId=tenant`. Users, and for Unleash sessions, are
    /// found without it.
    #[arg(long = "field", value_name = "ATTRIBUTE=FIELD", value_parser = field)]
    fields: Vec<(String, Field)>,
    /// Write nothing and fail unless every assignment is kept.
    #[arg(long)]
    strict: bool,
}

fn field(text: &str) -> Result<(String, Field), String> {
    let names = Field::ALL.map(Field::name).join(", ");
    let (attribute, name) =
        text.rsplit_once('=').ok_or_else(|| format!("expected ATTRIBUTE=FIELD, FIELD one of {names}"))?;
    let field = Field::ALL.into_iter().find(|field| field.name() == name);
    let field = field.ok_or_else(|| format!("`{name}` is no field; expected one of {names}"))?;
    Ok((attribute.to_owned(), field))
}

pub(crate) fn run(args: &ImportArgs, json: bool) -> Result<(), Failure> {
    let system = System::from_name(&args.from)
        .ok_or_else(|| Failure::usage(format!("`{}` is no system", args.from)))?;
    let mut models = Models::default();
    if let Some(model) = &args.model {
        models = models.otherwise(model).map_err(|problem| Failure::usage(format!("--model: {problem}")))?;
    }
    if let Some(file) = &args.map {
        models =
            models.read(&file.display().to_string(), &files::read_text(file)?).map_err(policy::failure)?;
    }
    let hash = args.hash.as_deref().map(|name| hash(system, name)).transpose()?;
    let options = ImportOptions { models, hash, fields: args.fields.iter().cloned().collect() };
    let text = files::read_text(&args.file)?;
    let imported =
        import(system, &args.file.display().to_string(), &text, &options).map_err(policy::failure)?;
    let moved = imported.losses.iter().filter(|loss| loss.extent != Extent::Name).count();
    if args.strict && moved > 0 {
        list(&imported);
        let failure = Failure::new(format!("{} not kept, and nothing was written", count(moved, "thing")));
        return Err(failure.hint("change the flags, or leave `--strict` out"));
    }
    match &args.output {
        Some(path) => {
            files::write_immutable(path, imported.source.as_bytes())?;
        }
        None if !json => output::print_document(imported.source.trim_end())?,
        None => {}
    }
    if json {
        let losses: Vec<_> = imported
            .losses
            .iter()
            .map(|loss| {
                serde_json::json!({
                    "flag": loss.flag,
                    "path": loss.path,
                    "extent": loss.extent.name(),
                    "reason": loss.reason,
                    "advice": loss.advice,
                })
            })
            .collect();
        return output::print_json(&serde_json::json!({
            "file": args.output.as_ref().map(|path| path.display().to_string()),
            "source": args.output.is_none().then_some(&imported.source),
            "routes": imported.routes,
            "losses": losses,
        }));
    }
    list(&imported);
    if let Some(path) = &args.output {
        let lost = if imported.losses.is_empty() {
            "everything kept".to_owned()
        } else {
            format!("{} to read above", count(imported.losses.len(), "note"))
        };
        output::print(&format!("{}: {}, {lost}", path.display(), count(imported.routes.len(), "route")))?;
    }
    Ok(())
}

/// What is not kept, where it does not mix with the policy.
fn list(imported: &Imported) {
    for loss in &imported.losses {
        let what = match loss.extent {
            Extent::Flag => "left out",
            Extent::Part => "not wholly kept",
            _ => "to do",
        };
        output::note(&format!(
            "{what}: {} at {}\n  {}\n  {}",
            loss.flag, loss.path, loss.reason, loss.advice
        ));
    }
}

fn hash(system: System, name: &str) -> Result<Algorithm, Failure> {
    system.hashes().iter().copied().find(|hash| hash.name() == name).ok_or_else(|| {
        let known: Vec<&str> = system.hashes().iter().map(|hash| hash.name()).collect();
        Failure::usage(format!(
            "--hash: {} never had the hash `{name}`; expected one of {}",
            system.name(),
            known.join(", ")
        ))
    })
}
