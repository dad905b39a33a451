use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use lockgate_bake::{BakeError, Baked, Options, bake};
use lockgate_core::{BakedManifest, BakedModule, MANIFEST};
use lockgate_package::{Digest, Engine, Kind};
use lockgate_policy::{Compiled, Placement};
use lockgate_runtime::{Content, Contents};

use super::settings::{SourcesRefused, TrustArgs};
use crate::failure::Failure;
use crate::policy::PackageFile;
use crate::trust::Gate;
use crate::{files, output, policy};

#[derive(Args)]
pub(crate) struct BakeArgs {
    /// The policy: a compiled bundle, or a source, which is compiled with the packages. Without it, only packages are baked.
    #[arg(long, visible_alias = "policy", value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// A package, or a folder of packages. May be repeated. Without any, only the policy is baked, and packages are for the shell to
    /// load.
    #[arg(long = "package", visible_alias = "packages", value_name = "PATH")]
    packages: Vec<PathBuf>,
    /// The folder that the baked modules go to. It is made when missing; what was baked into it before is replaced.
    #[arg(short, long, value_name = "FOLDER")]
    out: PathBuf,
    /// The flavour of the inference module. Without it: the smallest that runs the packages.
    #[arg(long, value_enum)]
    flavour: Option<Flavour>,
    /// The versions that run in the baked module, by the placement that the policy gives them. May be repeated.
    #[arg(long = "placement", value_enum, value_name = "PLACEMENT", default_values = ["edge"])]
    placements: Vec<Where>,
    /// The folder of the core modules. Without it: the core built into this program.
    #[arg(long, env = "LOCKGATE_CORE", value_name = "FOLDER")]
    core: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Flavour {
    /// Trees, linear models, scalers, small perceptrons.
    Tabular,
    /// Everything that can be packaged, recurrent networks too; much larger.
    Graph,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// In the core, wherever that runs.
    Edge,
    /// On a server node.
    Host,
}

pub(crate) fn run(args: &BakeArgs, json: bool) -> Result<(), Failure> {
    if args.bundle.is_none() && args.packages.is_empty() {
        return Err(Failure::usage(BakeError::Nothing.to_string())
            .hint("name a policy with `--bundle`, packages with `--package`, or both"));
    }
    let core = crate::core::load(args.core.as_deref())?;
    let gate = args.trust.gate(SourcesRefused::AsServed)?;
    let folder = Folder::new(&args.out)?;
    let contents = contents(args, &gate)?;
    let options = Options {
        flavour: args.flavour.map(|flavour| match flavour {
            Flavour::Tabular => Engine::Tabular,
            Flavour::Graph => Engine::Graph,
        }),
        placements: args
            .placements
            .iter()
            .map(|placement| match placement {
                Where::Edge => Placement::Edge,
                Where::Host => Placement::Host,
            })
            .collect(),
    };
    let spinner = output::spinner("baking".to_owned());
    let baked = bake(&core, contents, &gate.into_demands(), &options);
    spinner.finish_and_clear();
    let baked = baked.map_err(|error| failure(&error))?;
    folder.write(&baked)?;
    report(args, &baked, json)
}

/// Files, each admitted before anything in it is believed.
fn contents(args: &BakeArgs, gate: &Gate) -> Result<Contents, Failure> {
    let packages = packages(&args.packages, gate)?;
    let (bundle, lists) = match &args.bundle {
        Some(path) => bundle(path, gate, &packages).map(|(bundle, lists)| (Some(bundle), lists))?,
        None => (None, Vec::new()),
    };
    let named = |file: PackageFile| Content::new(file.path.display().to_string(), file.bytes);
    Ok(Contents { bundle, lists, packages: packages.into_iter().map(named).collect(), baked: None })
}

/// The packages of all paths; one that is named twice counts once.
fn packages(paths: &[PathBuf], gate: &Gate) -> Result<Vec<PackageFile>, Failure> {
    let mut all: Vec<PackageFile> = Vec::new();
    for path in paths {
        let found = if path.is_dir() {
            let found = policy::open_packages(path, gate)?;
            if found.is_empty() {
                return Err(Failure::new(format!("{}: there is no package in this folder", path.display()))
                    .hint("`lockgate package` makes packages, files that end in `.lgp`"));
            }
            found
        } else {
            vec![policy::open_package(path, gate)?]
        };
        for file in found {
            if all.iter().all(|have| have.package.digest() != file.package.digest()) {
                all.push(file);
            }
        }
    }
    Ok(all)
}

fn bundle(path: &Path, gate: &Gate, packages: &[PackageFile]) -> Result<(Content, Vec<Content>), Failure> {
    let name = path.display().to_string();
    let bytes = files::read(path)?;
    if bytes.starts_with(files::MAGIC) {
        gate.admit(path, &bytes, Kind::Bundle)?;
        let objects = policy::read_objects(path, &bytes)?.into_iter();
        let lists = objects.map(|(file, bytes)| Content::new(file.display().to_string(), bytes)).collect();
        return Ok((Content::new(name, bytes), lists));
    }
    gate.admit_source(path)?;
    let (source, lists) = policy::read_source(path, bytes)?;
    let refs = policy::package_refs(packages);
    let how = policy::How { version: None, packages: &refs, base: None, stand_ins: false };
    let Compiled { bundle, objects, .. } = policy::compile_source(&source, &lists, &how)?;
    let list =
        |object: lockgate_policy::Object| Content::new(format!("sha256:{}", object.digest), object.bytes);
    Ok((Content::new(name, bundle), objects.into_iter().map(list).collect()))
}

fn failure(error: &BakeError) -> Failure {
    let failure = Failure::new(error.to_string()).code(error.code());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The folder that baked modules go to.
struct Folder<'a> {
    path: &'a Path,
    /// The files of what was baked into it before.
    before: Vec<String>,
}

impl<'a> Folder<'a> {
    /// Refuses a folder whose manifest is another's, such as that of the core itself.
    fn new(path: &'a Path) -> Result<Self, Failure> {
        let manifest = path.join(MANIFEST);
        if !manifest.exists() {
            return Ok(Self { path, before: Vec::new() });
        }
        let taken = |problem: String| {
            Failure::new(format!("{} holds something else than baked modules: {problem}", path.display()))
                .code("folder_taken")
                .hint("name another folder with `--out`, or remove this one")
        };
        let manifest = BakedManifest::from_json(&files::read(&manifest)?)
            .map_err(|problem| taken(format!("{}: {problem}", manifest.display())))?;
        Ok(Self { path, before: manifest.files().map(str::to_owned).collect() })
    }

    /// Writes the files, and the manifest last: whoever reads while this goes on finds digests that do not fit rather than a mixture
    /// that looks whole.
    fn write(&self, baked: &Baked) -> Result<(), Failure> {
        let Baked { policy, inference, manifest, catalog, about, .. } = baked;
        let at = self.path.join(MANIFEST);
        files::create_folder_of(&at)?;
        for (entry, image) in [(&manifest.policy, policy), (&manifest.inference, inference)] {
            self.write_file(Some(&entry.file), Some(&image.module))?;
            self.write_file(entry.component.as_ref(), image.component.as_ref())?;
        }
        self.write_file(Some(&manifest.catalog.file), Some(catalog))?;
        self.write_file(manifest.about.as_ref().map(|entry| &entry.file), about.as_ref())?;
        for stale in self.before.iter().filter(|file| manifest.files().all(|kept| kept != **file)) {
            let stale = self.path.join(stale);
            match std::fs::remove_file(&stale) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Failure::new(format!("cannot remove {}: {error}", stale.display())));
                }
                _ => {}
            }
        }
        let mut text = serde_json::to_string_pretty(manifest)
            .map_err(|error| Failure::new(format!("cannot write the manifest: {error}")))?;
        text.push('\n');
        files::replace(&at, text.as_bytes())
    }

    fn write_file(&self, file: Option<&String>, bytes: Option<&Vec<u8>>) -> Result<(), Failure> {
        match (file, bytes) {
            (Some(file), Some(bytes)) => files::replace(&self.path.join(file), bytes),
            _ => Ok(()),
        }
    }
}

fn report(args: &BakeArgs, baked: &Baked, json: bool) -> Result<(), Failure> {
    let Baked { manifest, unused, unbaked, .. } = baked;
    if !unbaked.is_empty() {
        output::note(&format!(
            "note: no packages were given, so the shell has to load {}; `--package` bakes them",
            unbaked.join(", ")
        ));
    }
    if !unused.is_empty() {
        output::note(&format!(
            "note: left out, because the policy does not run it here: {}",
            unused.join(", ")
        ));
    }
    if json {
        return output::print_json(&serde_json::json!({
            "folder": args.out.display().to_string(),
            "manifest": manifest,
            "unused": unused,
            "unbaked": unbaked,
        }));
    }
    let mut lines = Vec::new();
    let mut module = |entry: &BakedModule, holds: &str| {
        lines.push(format!(
            "{}: {} bytes, {} gzipped, {holds}, from the core {}",
            args.out.join(&entry.file).display(),
            entry.bytes,
            entry.gzip_bytes,
            entry.identity.short()
        ));
    };
    let bundle = manifest.bundle.as_ref().map_or("plain".to_owned(), |bundle| {
        let lists = match bundle.lists.len() {
            0 => String::new(),
            1 => " and its unit list".to_owned(),
            count => format!(" and its {count} unit lists"),
        };
        format!("with the bundle of version {}, sha256:{}{lists}", bundle.version, bundle.digest)
    });
    module(&manifest.policy, &bundle);
    let packages = match manifest.packages.len() {
        0 => "plain".to_owned(),
        1 => "with 1 package".to_owned(),
        count => format!("with {count} packages"),
    };
    module(&manifest.inference, &packages);
    for package in &manifest.packages {
        let digest: &Digest = &package.digest;
        lines.push(format!("  {}  {}@{}, sha256:{digest}", package.handle, package.model, package.version));
    }
    output::print(&lines.join("\n"))
}
