use std::path::{Path, PathBuf};

use clap::Args;
use lockgate_package::import::{ImportError, ImportOptions, ManifestSource, import};
use lockgate_package::{AlignedBytes, Package};

use crate::failure::Failure;
use crate::files::{self, PACKAGE_EXTENSION, Written};
use crate::output;

#[derive(Args)]
pub(crate) struct PackageArgs {
    /// The model, an ONNX file.
    model: PathBuf,
    /// Where the package goes: a file, or a folder in which it is called `<model>-<version>.lgp`. A file that exists with other
    /// content is never overwritten.
    #[arg(short, long, value_name = "PATH", default_value = ".")]
    output: PathBuf,
    /// What people say about the model: a YAML, JSON or TOML file.
    #[arg(short, long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The model's name. Without it: the manifest's, else the ONNX file's name.
    #[arg(long)]
    name: Option<String>,
    /// The model's semantic version. Without it: the manifest's, else 0.1.0.
    #[arg(long, value_name = "SEMVER")]
    version: Option<String>,
}

pub(crate) fn run(args: &PackageArgs, json: bool) -> Result<(), Failure> {
    let mut source = match &args.manifest {
        Some(path) => read_manifest(path)?,
        None => ManifestSource::default(),
    };
    // What stands on the command line was meant for this run.
    source.model = args.name.clone().or(source.model);
    source.version = args.version.clone().or(source.version);
    let options = ImportOptions {
        model: args.model.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned),
        version: Some("0.1.0".to_owned()),
        ..ImportOptions::default()
    };
    let onnx = files::read(&args.model)?;
    let spinner = output::spinner(format!("packaging {}", args.model.display()));
    let imported = import(&onnx, &source, &options);
    spinner.finish_and_clear();
    let bytes = imported.map_err(|error| failure(&args.model, &error))?;
    let package = Package::open(AlignedBytes::copy_of(&bytes))
        .map_err(|error| Failure::new(format!("the package that was made cannot be read back: {error}")))?;
    let manifest = package.manifest();
    let path = if args.output.is_dir() {
        args.output.join(format!("{}-{}.{PACKAGE_EXTENSION}", manifest.model, manifest.version))
    } else {
        args.output.clone()
    };
    let written = files::write_immutable(&path, &bytes)?;
    if json {
        return output::print_json(&serde_json::json!({
            "file": path.display().to_string(),
            "new": written == Written::New,
            "model": manifest.model,
            "version": manifest.version,
            "engine": manifest.engine,
            "digest": package.digest(),
            "bytes": bytes.len(),
        }));
    }
    let unchanged = if written == Written::Unchanged { ", unchanged" } else { "" };
    output::print(&format!(
        "{}: {}@{}, {} engine, {} bytes, sha256:{}{unchanged}",
        path.display(),
        manifest.model,
        manifest.version,
        manifest.engine.name(),
        bytes.len(),
        package.digest()
    ))
}

fn failure(model: &Path, error: &ImportError) -> Failure {
    // The importer's texts end in their hint; errors of this program show it on a line of its own.
    let text = error.to_string();
    match text.rsplit_once("; hint: ") {
        Some((message, hint)) if !text.contains('\n') => {
            Failure::new(format!("{}: {message}", model.display())).hint(hint)
        }
        _ => Failure::new(format!("{}: {text}", model.display())),
    }
}

/// Reads a manifest source by the ending of its name; YAML unless it says otherwise.
fn read_manifest(path: &Path) -> Result<ManifestSource, Failure> {
    let text = files::read_text(path)?;
    let name = path.display().to_string();
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        return toml::from_str(&text)
            .map_err(|error| Failure::new(format!("{name}: {}", error.to_string().trim_end())));
    }
    let node = lockgate_policy::read(&name, &text).map_err(crate::policy::failure)?;
    let json = node.to_json().map_err(|(position, number)| {
        Failure::new(format!(
            "{name}:{}:{}: `{number}` is not a finite number",
            position.line, position.column
        ))
    })?;
    serde_json::from_str(&json).map_err(|error| {
        // Line and column would be those of the JSON in between.
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        Failure::new(format!("{name}: {message}"))
    })
}
