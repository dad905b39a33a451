use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};
use lockgate_shells::{Shell, ShellError};

use crate::failure::Failure;
use crate::output;

#[derive(Args)]
pub(crate) struct InitArgs {
    /// Where the project will run.
    #[arg(value_enum)]
    platform: Platform,
    /// The project's folder. It is made when missing; no file that is there is changed.
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// What the Worker or the application is called where it is deployed. Without it: the folder's name, as far as it can be one.
    #[arg(long)]
    name: Option<String>,
    /// The folder of the core modules. Without it: the core built into this program.
    #[arg(long, env = "LOCKGATE_CORE", value_name = "FOLDER")]
    core: Option<PathBuf>,
    /// The folder of the built shells. Without it: those built into this program.
    #[arg(long, env = "LOCKGATE_SHELLS", value_name = "FOLDER")]
    shells: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Platform {
    /// A Worker, deployed with wrangler.
    Cloudflare,
    /// A Spin application.
    Spin,
    /// A server of one's own: `lockgate serve`.
    Host,
}

/// A file of a project: its path there, and its bytes.
type File = (&'static str, &'static [u8]);

macro_rules! template {
    ($path:literal) => {
        include_bytes!(concat!("../../templates/", $path))
    };
}

macro_rules! model {
    ($name:literal) => {
        include_bytes!(concat!("../../../../examples/eurusd/models/", $name))
    };
}

const COMMON: [File; 7] = [
    ("policy.yaml", template!("common/policy.yaml")),
    ("policy.test.yaml", template!("common/policy.test.yaml")),
    ("request.json", template!("common/request.json")),
    ("models/eurusd_lr.onnx", model!("eurusd_lr.onnx")),
    ("models/eurusd_lr.manifest.yaml", model!("eurusd_lr.manifest.yaml")),
    ("models/eurusd_gb.onnx", model!("eurusd_gb.onnx")),
    ("models/eurusd_gb.manifest.yaml", model!("eurusd_gb.manifest.yaml")),
];

const CLOUDFLARE: [File; 5] = [
    ("README.md", template!("cloudflare/README.md")),
    ("wrangler.toml", template!("cloudflare/wrangler.toml")),
    ("package.json", template!("cloudflare/package.json")),
    ("build.sh", template!("cloudflare/build.sh")),
    (".gitignore", template!("cloudflare/gitignore")),
];

const SPIN: [File; 3] = [
    ("README.md", template!("spin/README.md")),
    ("build.sh", template!("spin/build.sh")),
    (".gitignore", template!("spin/gitignore")),
];

const HOST: [File; 4] = [
    ("README.md", template!("host/README.md")),
    ("lockgate.toml", template!("host/lockgate.toml")),
    ("build.sh", template!("host/build.sh")),
    (".gitignore", template!("host/gitignore")),
];

impl Platform {
    fn files(self) -> &'static [File] {
        match self {
            Self::Cloudflare => &CLOUDFLARE,
            Self::Spin => &SPIN,
            Self::Host => &HOST,
        }
    }

    /// The shell that the project carries, and the folder for its files.
    fn shell(self) -> Option<(Shell, &'static str)> {
        match self {
            Self::Cloudflare => Some((Shell::Cloudflare, "worker")),
            Self::Spin => Some((Shell::Spin, "")),
            Self::Host => None,
        }
    }

    /// The folder for the baked core.
    fn baked(self) -> Option<&'static str> {
        match self {
            Self::Cloudflare => Some("worker"),
            Self::Spin => Some("core"),
            Self::Host => None,
        }
    }

    /// What to do next, in the project's folder.
    fn next(self) -> &'static str {
        match self {
            Self::Cloudflare => "npm install && npx wrangler dev",
            Self::Spin => "spin up --build",
            Self::Host => "lockgate serve",
        }
    }
}

/// The longest name that both platforms take.
const LONGEST_NAME: usize = 54;

/// What a deployment is called in the templates.
const TEMPLATE_NAME: &str = "name = \"lockgate\"";

/// The application's own `spin.toml`, whose variables are all settings there are, for a project that compiles nothing.
fn spin_toml() -> String {
    let own = include_str!("../../../../edge/spin/spin.toml");
    let lines = own.lines().map(|line| match line.split_once(" = ") {
        Some(("source", _)) => "source = \"lockgate.wasm\"",
        Some(("command", _)) => "command = \"sh build.sh\"",
        Some(("watch", _)) => "watch = [\"policy.yaml\", \"models/*\"]",
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Makes the whole project beside its place first, so that a failure leaves nothing there.
pub(crate) fn run(args: &InitArgs, json: bool) -> Result<(), Failure> {
    let name = name_of(args)?;
    must_be_a_folder(&args.folder)?;
    let stage = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("cannot make a temporary folder: {error}")))?;
    let mut files: Vec<(String, Vec<u8>)> = COMMON
        .iter()
        .chain(args.platform.files())
        .map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()))
        .collect();
    if args.platform == Platform::Spin {
        files.push(("spin.toml".to_owned(), spin_toml().into_bytes()));
    }
    for (_, bytes) in files.iter_mut().filter(|(path, _)| path.ends_with(".toml")) {
        let text = String::from_utf8_lossy(bytes);
        *bytes = text.replacen(TEMPLATE_NAME, &format!("name = \"{name}\""), 1).into_bytes();
    }
    if let Some((shell, folder)) = args.platform.shell() {
        let parts = shell.files(args.shells.as_deref()).map_err(|error| no_shell(&error))?;
        files.extend(parts.into_iter().map(|(name, bytes)| (join(folder, &name), bytes)));
    }
    refuse_to_overwrite(&args.folder, files.iter().map(|(path, _)| path.as_str()))?;
    for (path, bytes) in &files {
        write(&stage.path().join(path), bytes)?;
    }
    build(args, stage.path())?;

    let made = list(stage.path(), "")?;
    refuse_to_overwrite(&args.folder, made.iter().map(String::as_str))?;
    std::fs::create_dir_all(&args.folder)
        .map_err(|error| no_folder(&args.folder, &error).hint("name a folder that you may write to"))?;
    for path in &made {
        let bytes = crate::files::read(&stage.path().join(path))?;
        write(&args.folder.join(path), &bytes)?;
    }
    let folder = args.folder.display().to_string();
    if json {
        return output::print_json(
            &serde_json::json!({ "folder": folder, "files": made, "next": args.platform.next() }),
        );
    }
    let enter = if folder == "." { String::new() } else { format!("cd {folder} && ") };
    output::print(&format!(
        "{folder}: {} files; README.md says what they are\nnext: {enter}{}",
        made.len(),
        args.platform.next()
    ))
}

/// The name of the deployment: two projects under one name would replace each other.
fn name_of(args: &InitArgs) -> Result<String, Failure> {
    if let Some(name) = &args.name {
        if is_name(name) {
            return Ok(name.clone());
        }
        let failure = Failure::new(format!("`{name}` cannot be the name of a deployment"));
        return Err(failure.hint(format!(
            "take a letter, then letters, digits and single dashes, all in lower case, {LONGEST_NAME} characters at most"
        )));
    }
    let folder = std::path::absolute(&args.folder).unwrap_or_else(|_| args.folder.clone());
    // `..` and `/` have no name of their own.
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    Ok(if is_name(&name) { name } else { "lockgate".to_owned() })
}

fn is_name(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.split('-').all(is_word)
}

/// Neither the folder nor one around it may be something else.
fn must_be_a_folder(folder: &Path) -> Result<(), Failure> {
    let other = folder.ancestors().find(|path| path.symlink_metadata().is_ok() && !path.is_dir());
    match other {
        Some(other) => Err(no_folder(folder, &format!("{} is no folder", other.display()))),
        None => Ok(()),
    }
}

fn no_folder(folder: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("cannot make the folder {}: {why}", folder.display()))
}

/// What `build.sh` does, with this program.
fn build(args: &InitArgs, stage: &Path) -> Result<(), Failure> {
    crate::files::create_folder_of(&stage.join("packages/any"))?;
    for (path, _) in COMMON.iter().filter(|(path, _)| path.ends_with(".onnx")) {
        let manifest = path.replace(".onnx", ".manifest.yaml");
        this_program(args, stage, &["package", path, "--manifest", &manifest, "--output", "packages"])?;
    }
    match args.platform.baked() {
        Some(folder) => this_program(
            args,
            stage,
            &["bake", "--policy", "policy.yaml", "--package", "packages", "--out", folder],
        ),
        None => this_program(args, stage, &["policy", "check", "policy.yaml"]),
    }
}

fn this_program(args: &InitArgs, stage: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::new(format!("cannot start this program again: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
    command.args(arguments).current_dir(stage);
    // The project is a new one, whatever the settings around it demand.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LOCKGATE_")) {
        command.env_remove(name);
    }
    if let Some(core) = &args.core {
        let core = std::path::absolute(core).map_err(cannot)?;
        command.env("LOCKGATE_CORE", core);
    }
    let output = command.output().map_err(cannot)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().strip_prefix("error: ").unwrap_or(said.trim());
    Err(Failure::new(format!("the project cannot be built: {said}")))
}

fn no_shell(error: &ShellError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error {
        ShellError::NotCarried(_) => failure
            .hint("take a released program, or run `cargo xtask shells` and pass `--shells target/shells`"),
        _ => failure.hint("`--shells` takes the folder that `cargo xtask shells` writes"),
    }
}

fn refuse_to_overwrite<'a>(folder: &Path, files: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let mut there: Vec<&str> = files.filter_map(|path| in_the_way(folder, path)).collect();
    there.dedup();
    if there.is_empty() {
        return Ok(());
    }
    let message = format!("{} holds {} already; nothing was written", folder.display(), there.join(", "));
    Err(Failure::new(message).hint("name another folder, or move these files away"))
}

/// The file where one of ours, or a folder of ours, belongs.
fn in_the_way<'a>(folder: &Path, path: &'a str) -> Option<&'a str> {
    let folders = path.match_indices('/').filter_map(|(end, _)| path.get(..end));
    let is_file = |path: &&str| folder.join(path).symlink_metadata().is_ok() && !folder.join(path).is_dir();
    folders.into_iter().find(is_file).or_else(|| folder.join(path).symlink_metadata().is_ok().then_some(path))
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Every file below a folder, as paths from there, sorted.
fn list(folder: &Path, below: &str) -> Result<Vec<String>, Failure> {
    let at = folder.join(below);
    let cannot = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", at.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&at).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let path = join(below, &entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            files.extend(list(folder, &path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Writes a new file; one that is there stays as it is.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    crate::files::create_folder_of(path)?;
    let script = path.extension().is_some_and(|extension| extension == "sh");
    let mode = if script { 0o755 } else { 0o644 };
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(cannot)?;
    file.write_all(bytes).map_err(cannot)?;
    // Whoever has a strict umask still wants to run the script.
    if script {
        let permissions = file.metadata().map_err(cannot)?.permissions();
        file.set_permissions(std::fs::Permissions::from_mode(permissions.mode() | 0o100)).map_err(cannot)?;
    }
    Ok(())
}
