use std::path::{Path, PathBuf};

use clap::Args;
use lockgate_policy::{CompileOptions, compile};

use super::check::count;
use crate::failure::Failure;
use crate::files::{self, BUNDLE_EXTENSION, Written};
use crate::trust::Gate;
use crate::{output, policy};

#[derive(Args)]
pub(crate) struct CompileArgs {
    /// The policy source, YAML or JSON.
    source: PathBuf,
    /// Where the bundle goes. Without it: the source's name with the ending `.lgb`. A file that exists with other content is
    /// never overwritten. Lists of units that the policy names as files go into the folder `objects` beside it.
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
    /// Leave the policy's source out of the bundle. `policy source` and the words of `policy diff` need it; deciding does not.
    #[arg(long)]
    no_source: bool,
    /// Demand that the packages, the parent and the base are signed by one of these keys: a public key, a trust file, or a folder
    /// with either. Whoever signs the bundle vouches for the packages that it pins.
    #[arg(long, value_name = "PATH")]
    trust: Option<PathBuf>,
}

pub(crate) fn run(args: &CompileArgs, json: bool) -> Result<(), Failure> {
    let (checked, lists) = policy::read_source(&args.source, files::read(&args.source)?)?;
    let gate = Gate::for_package(args.trust.as_deref(), None)?;
    let packages = policy::packages(args.packages.as_deref(), &gate)?;
    let open =
        |path: &Option<PathBuf>| path.as_deref().map(|path| policy::open_bundle(path, &gate)).transpose();
    let (parent, base) = (open(&args.parent)?, open(&args.base)?);
    let options = CompileOptions {
        version: args.bundle_version,
        parent: parent.as_ref().or(base.as_ref()),
        base: base.as_ref(),
        packages: &packages,
        lists: &lists,
        source: !args.no_source,
        ..CompileOptions::default()
    };
    let spinner = output::spinner(format!("compiling {}", args.source.display()));
    let compiled = compile(&checked, &options);
    spinner.finish_and_clear();
    let compiled = compiled.map_err(policy::failure)?;
    let bundle = policy::load_compiled(&compiled)?;
    let path =
        args.output.clone().unwrap_or_else(|| Path::new(&args.source).with_extension(BUNDLE_EXTENSION));
    // A bundle without its lists would be of no use, so they come first.
    let mut objects = Vec::with_capacity(compiled.objects.len());
    for object in &compiled.objects {
        let file = policy::object_path(&path, &object.digest);
        objects.push((files::write_object(&file, &object.bytes)?, object));
    }
    let written = files::write_immutable(&path, &compiled.bundle)?;
    if json {
        let objects: Vec<_> = objects
            .iter()
            .map(|(written, object)| {
                serde_json::json!({
                    "digest": object.digest,
                    "bytes": object.bytes.len(),
                    "new": *written == Written::New,
                })
            })
            .collect();
        return output::print_json(&serde_json::json!({
            "file": path.display().to_string(),
            "new": written == Written::New,
            "version": bundle.version(),
            "digest": bundle.digest(),
            "parent": bundle.parent(),
            "routes": bundle.route_count(),
            "bytes": compiled.bundle.len(),
            "objects": objects,
        }));
    }
    let unchanged = if written == Written::Unchanged { ", unchanged" } else { "" };
    let mut text = format!(
        "{}: version {}, {}, {} bytes, sha256:{}{unchanged}",
        path.display(),
        bundle.version(),
        count(bundle.route_count(), "route"),
        compiled.bundle.len(),
        bundle.digest()
    );
    if !objects.is_empty() {
        let new = objects.iter().filter(|(written, _)| *written == Written::New);
        let (new, bytes) =
            new.fold((0, 0), |(new, bytes), (_, object)| (new + 1, bytes + object.bytes.len()));
        let folder = path.with_file_name("objects");
        text.push_str(&format!(
            "\n{}: {} of unit lists, {new} new, {bytes} bytes",
            folder.display(),
            count(objects.len(), "object")
        ));
    }
    output::print(&text)
}
