//! What is released, in `target/dist`: archives, `manifest.json` with the identities of the core and the SHA-256 of every file, and `SHA256SUMS`.
//!
//! Names hold version and platform and nothing else; archives hold no times and no owners. [`verify`] holds a folder to its manifest, reading
//! everything again: it is what a release is checked by, here and after a download.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::archive::{Entry, pack, unpack};
use crate::setup::{cargo, output, root, run, say, target};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const MANIFEST: &str = "manifest.json";
const SUMS: &str = "SHA256SUMS";

/// `manifest.json` of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    /// The version of this format.
    lockgate_release: u32,
    version: String,
    /// `release`, or `quick`: made to see that everything is there, and not to be released.
    build: String,
    /// The modules of the core, which every artifact carries.
    core: Core,
    artifacts: Vec<Artifact>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Core {
    abi: String,
    wit: String,
    modules: Vec<Module>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Module {
    name: String,
    file: String,
    component: String,
    identity: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Artifact {
    file: String,
    what: String,
    bytes: usize,
    sha256: String,
    contents: Vec<Content>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    path: String,
    bytes: usize,
    sha256: String,
}

/// How to build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DistOptions {
    /// The program as tests use it.
    pub(crate) quick: bool,
}

/// Where a release is put together.
pub(crate) fn directory() -> PathBuf {
    target().join("dist")
}

/// Builds everything and writes it into [`directory`], then checks it as [`verify`] does.
pub(crate) fn dist(options: DistOptions) -> Result<()> {
    crate::core::build(crate::core::BuildOptions { fault: false })?;
    crate::shells::build()?;
    let program = program(options)?;
    write(options, &program)?;
    verify(&directory())
}

/// The program with core and shells inside.
fn program(options: DistOptions) -> Result<PathBuf> {
    say(if options.quick {
        "the program, as tests use it"
    } else {
        "the program; this takes many minutes, once"
    });
    let mut command = cargo();
    command.args(["build", "--package", "lockgate-server", "--bin", "lockgate"]);
    command
        .env("LOCKGATE_CORE_DIR", crate::core::directory())
        .env("LOCKGATE_SHELLS_DIR", crate::shells::directory());
    if !options.quick {
        command.args(["--release", "--locked", "--config", "profile.release.strip=\"symbols\""]);
        command
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", crate::core::remapped_paths()?.join("\u{1f}"));
    }
    run(&mut command)?;
    Ok(target().join(if options.quick { "debug/lockgate" } else { "release/lockgate" }))
}

fn write(options: DistOptions, program: &Path) -> Result<()> {
    let folder = directory();
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder)?;
    say("the artifacts");
    let core = read_core()?;
    let triple = platform()?;
    let named = |name: &str| format!("{name}-{VERSION}");
    let inside = |name: &str, files: Vec<Entry>| -> Vec<Entry> {
        let top = named(name);
        files.into_iter().map(|file| Entry { path: format!("{top}/{}", file.path), ..file }).collect()
    };
    let common = || -> Result<Vec<Entry>> { Ok(vec![file(&root().join("LICENSE"), "LICENSE")?]) };

    let mut artifacts = Vec::new();
    let mut put = |name: String, what: &str, bytes: &[u8]| -> Result<()> {
        std::fs::write(folder.join(&name), bytes)?;
        artifacts.push(describe(&name, what, bytes)?);
        Ok(())
    };

    let mut files = common()?;
    files.push(Entry::program("lockgate", read(program)?));
    files.push(file(&root().join("README.md"), "README.md")?);
    files.push(file(&root().join("CHANGELOG.md"), "CHANGELOG.md")?);
    let archive = pack(inside("lockgate", files))?;
    put(format!("{}-{triple}.tar.gz", named("lockgate")), "the program `lockgate`", &archive)?;

    let mut files = common()?;
    for module in &core.modules {
        for name in [&module.file, &module.component] {
            files.push(file(&crate::core::directory().join(name), name)?);
        }
    }
    files.push(file(&crate::core::directory().join(MANIFEST), MANIFEST)?);
    for name in wit_files()? {
        files.push(file(&root().join("wit").join(&name), &format!("wit/{name}"))?);
    }
    put(
        format!("{}.tar.gz", named("lockgate-core")),
        "the core: modules, components and their WIT",
        &pack(inside("lockgate-core", files))?,
    )?;

    let mut files = common()?;
    // The folders that `wrangler.toml` speaks of.
    for (source, folder) in
        [(crate::worker::Source::Fetched, "dist"), (crate::worker::Source::Baked, "dist-baked")]
    {
        for name in source.files() {
            files.push(file(&source.directory().join(name), &format!("{folder}/{name}"))?);
        }
    }
    for name in ["wrangler.toml", "wrangler.baked.toml", "push.mjs"] {
        files.push(file(&root().join("edge/cloudflare").join(name), name)?);
    }
    put(
        format!("{}.tar.gz", named("lockgate-cloudflare")),
        "the Cloudflare Worker: for a policy that it fetches, with the tabular core, and for one that is baked",
        &pack(inside("lockgate-cloudflare", files))?,
    )?;

    let mut files = common()?;
    for name in ["lockgate.wasm", "composed.wasm"] {
        files.push(file(&crate::spin::directory().join(name), name)?);
    }
    let about = format!("core/{}", lockgate_compose::ABOUT);
    files.push(file(&crate::spin::directory().join(lockgate_compose::ABOUT), &about)?);
    for (from, to) in [("policy", "policy"), ("inference-tabular", "inference")] {
        let from = crate::core::directory().join(format!("{from}.component.wasm"));
        files.push(file(&from, &format!("core/{to}.component.wasm"))?);
    }
    let manifest = std::fs::read_to_string(root().join("edge/spin/spin.toml"))?;
    files.push(Entry::new("spin.toml", released_spin_toml(&manifest)));
    put(
        format!("{}.tar.gz", named("lockgate-spin")),
        "the Spin application with the tabular core, nothing baked",
        &pack(inside("lockgate-spin", files))?,
    )?;

    let npm = npm_package()?;
    put(format!("{}.tgz", named("lockgate-npm")), "the npm package `lockgate`", &npm)?;

    let build = if options.quick { "quick" } else { "release" };
    let manifest = Manifest {
        lockgate_release: 1,
        version: VERSION.to_owned(),
        build: build.to_owned(),
        core,
        artifacts,
    };
    std::fs::write(folder.join(MANIFEST), serde_json::to_string_pretty(&manifest)? + "\n")?;
    std::fs::write(folder.join(SUMS), sums(&folder, &manifest)?)?;
    for artifact in &manifest.artifacts {
        say(&format!("    {}: {:.1} KB", artifact.file, artifact.bytes as f64 / 1000.0));
    }
    Ok(())
}

/// The application's `spin.toml` for whoever has its files and compiles nothing.
fn released_spin_toml(own: &str) -> String {
    let mut text = String::new();
    let mut in_build = false;
    for line in own.lines() {
        if line.starts_with('[') {
            in_build = line == "[component.lockgate.build]";
        }
        if in_build {
            continue;
        }
        text.push_str(if line.starts_with("source = ") { "source = \"lockgate.wasm\"" } else { line });
        text.push('\n');
    }
    text
}

/// Packs the npm package as `npm publish` would.
fn npm_package() -> Result<Vec<u8>> {
    let package = crate::js::assemble()?;
    let stage = target().join("npm");
    std::fs::remove_dir_all(&stage).ok();
    std::fs::create_dir_all(&stage)?;
    let said = output(
        Command::new("npm")
            .args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
            .arg(&stage)
            .arg(package),
    )?;
    read(&stage.join(said.trim()))
}

/// Holds a folder to its manifest: every file is there, is what it was and is named; every module of the core in every artifact has the identity
/// that was released; and the program of this platform, when it is there, carries the same core.
pub(crate) fn verify(folder: &Path) -> Result<()> {
    say(&format!("checking {}", folder.display()));
    let text = read(&folder.join(MANIFEST))?;
    let manifest: Manifest = serde_json::from_slice(&text).context("the manifest makes no sense")?;
    ensure!(manifest.lockgate_release == 1, "the manifest has a format that this program does not know");
    ensure!(
        String::from_utf8_lossy(&read(&folder.join(SUMS))?) == sums(folder, &manifest)?,
        "{SUMS} does not say what the files are"
    );
    let named: BTreeSet<&str> =
        manifest.artifacts.iter().map(|artifact| artifact.file.as_str()).chain([MANIFEST, SUMS]).collect();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        ensure!(
            name.to_str().is_some_and(|name| named.contains(name)),
            "{} is not in the manifest",
            name.display()
        );
    }
    let identities: BTreeMap<&str, &str> =
        manifest.core.modules.iter().map(|module| (module.identity.as_str(), module.name.as_str())).collect();
    for artifact in &manifest.artifacts {
        let bytes = read(&folder.join(&artifact.file))?;
        let found =
            describe(&artifact.file, &artifact.what, &bytes).with_context(|| artifact.file.clone())?;
        ensure!(found == *artifact, "{} is not what the manifest says", artifact.file);
        let mut carried = BTreeSet::new();
        for entry in unpack(&bytes)? {
            let Some(identity) = core_identity(&entry)? else { continue };
            let name = identities.get(identity.as_str());
            let name = name.with_context(|| {
                format!("{}: {} is no module of this release's core", artifact.file, entry.path)
            })?;
            carried.insert(*name);
        }
        let expected =
            if artifact.file.starts_with("lockgate-core-") || artifact.file.starts_with("lockgate-npm-") {
                manifest.core.modules.len()
            } else if artifact.file.starts_with("lockgate-cloudflare-") {
                2
            } else {
                0
            };
        ensure!(
            carried.len() == expected,
            "{} carries {} modules of the core, not {expected}",
            artifact.file,
            carried.len()
        );
    }
    let program = format!("lockgate-{}-{}.tar.gz", manifest.version, platform()?);
    match manifest.artifacts.iter().find(|artifact| artifact.file == program) {
        Some(artifact) => verify_program(&read(&folder.join(&artifact.file))?, &manifest)?,
        None => say("    no program for this platform to check"),
    }
    say(&format!("    {} artifacts are what the manifest says", manifest.artifacts.len()));
    Ok(())
}

/// Starts a project with the released program, which shows that it carries core and shells.
fn verify_program(archive: &[u8], manifest: &Manifest) -> Result<()> {
    let stage = target().join("verify");
    std::fs::remove_dir_all(&stage).ok();
    std::fs::create_dir_all(&stage)?;
    let entries = unpack(archive)?;
    let program = entries
        .into_iter()
        .find(|entry| entry.path.ends_with("/lockgate"))
        .context("the archive has no program")?;
    ensure!(program.executable, "the program cannot be executed");
    let path = stage.join("lockgate");
    std::fs::write(&path, program.bytes)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let version = output(Command::new(&path).arg("--version"))?;
    ensure!(
        version.trim() == format!("lockgate {}", manifest.version),
        "the program says it is `{}`",
        version.trim()
    );
    for platform in ["cloudflare", "spin", "host"] {
        let project = stage.join(platform);
        output(
            Command::new(&path)
                .args(["init", platform])
                .arg(&project)
                .env_remove("LOCKGATE_CORE")
                .env_remove("LOCKGATE_SHELLS"),
        )?;
    }
    let baked: serde_json::Value =
        serde_json::from_slice(&read(&stage.join("cloudflare/worker").join(MANIFEST))?)?;
    for (role, name) in [("policy", "policy"), ("inference", "inference-tabular")] {
        let expected = manifest
            .core
            .modules
            .iter()
            .find(|module| module.name == name)
            .map(|module| module.identity.as_str());
        let found =
            baked.get(role).and_then(|module| module.get("identity")).and_then(serde_json::Value::as_str);
        ensure!(
            found.is_some() && found == expected,
            "the program carries the core {found:?} as {role}, the release {expected:?}"
        );
    }
    std::fs::remove_dir_all(&stage).ok();
    Ok(())
}

/// The identity of a file that is a module of the core, checked; `None` for other files.
fn core_identity(entry: &Entry) -> Result<Option<String>> {
    if !entry.path.ends_with(".wasm") || !entry.bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Ok(None);
    }
    let Some((identity, recorded)) = crate::component::identity(&entry.bytes)? else { return Ok(None) };
    ensure!(identity == recorded, "{} is damaged: its identity is not the one that it records", entry.path);
    Ok(Some(hex::encode(identity)))
}

fn read_core() -> Result<Core> {
    let path = crate::core::directory().join(MANIFEST);
    serde_json::from_slice(&read(&path)?).with_context(|| format!("{} makes no sense", path.display()))
}

fn describe(name: &str, what: &str, bytes: &[u8]) -> Result<Artifact> {
    let content =
        |entry: Entry| Content { bytes: entry.bytes.len(), sha256: sha256(&entry.bytes), path: entry.path };
    let mut contents: Vec<Content> = unpack(bytes)?.into_iter().map(content).collect();
    contents.sort_by(|a, b| a.path.cmp(&b.path));
    if contents.is_empty() {
        bail!("{name} holds nothing");
    }
    Ok(Artifact {
        file: name.to_owned(),
        what: what.to_owned(),
        bytes: bytes.len(),
        sha256: sha256(bytes),
        contents,
    })
}

/// What `sha256sum --check` reads.
fn sums(folder: &Path, manifest: &Manifest) -> Result<String> {
    let files = manifest.artifacts.iter().map(|artifact| artifact.file.as_str()).chain([MANIFEST]);
    files.map(|file| Ok(format!("{}  {file}\n", sha256(&read(&folder.join(file))?)))).collect()
}

fn platform() -> Result<String> {
    let about = output(Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say for which platform it compiles")?.to_owned())
}

fn wit_files() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("wit"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".wit") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn file(path: &Path, name: &str) -> Result<Entry> {
    Ok(Entry::new(name, read(path)?))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module of a core, with its identity in it.
    fn module(content: &[u8]) -> (Vec<u8>, String) {
        use wasm_encoder::{CustomSection, Module};
        let mut module = Module::new();
        module.section(&CustomSection { name: "content".into(), data: content.into() });
        let plain = module.finish();
        let identity = Sha256::digest(&plain);
        let mut module = Module::new();
        module.section(&CustomSection { name: "content".into(), data: content.into() });
        module.section(&CustomSection { name: "lockgate-identity".into(), data: identity.as_slice().into() });
        (module.finish(), hex::encode(identity))
    }

    fn release(folder: &Path, change: impl FnOnce(&mut Vec<Entry>)) {
        let mut entries = Vec::new();
        let mut modules = Vec::new();
        for name in ["policy", "inference-tabular"] {
            let (bytes, identity) = module(name.as_bytes());
            let (file, component) = (format!("{name}.wasm"), format!("{name}.component.wasm"));
            entries.push(Entry::new(file.clone(), bytes));
            modules.push(Module { name: name.to_owned(), file, component, identity });
        }
        change(&mut entries);
        let name = "lockgate-core-0.0.0.tar.gz";
        let bytes = pack(entries).unwrap();
        std::fs::write(folder.join(name), &bytes).unwrap();
        let manifest = Manifest {
            lockgate_release: 1,
            version: "0.0.0".to_owned(),
            build: "quick".to_owned(),
            core: Core { abi: "1.0".to_owned(), wit: String::new(), modules },
            artifacts: vec![describe(name, "", &bytes).unwrap()],
        };
        std::fs::write(folder.join(MANIFEST), serde_json::to_string(&manifest).unwrap()).unwrap();
        std::fs::write(folder.join(SUMS), sums(folder, &manifest).unwrap()).unwrap();
    }

    fn problem(folder: &Path) -> String {
        format!("{:#}", verify(folder).unwrap_err())
    }

    #[test]
    fn the_released_application_compiles_nothing() {
        let own = include_str!("../../edge/spin/spin.toml");
        let released = released_spin_toml(own);
        assert!(own.contains("cargo build") && !released.contains("cargo"), "{released}");
        assert!(
            released.contains("\nsource = \"lockgate.wasm\"\n")
                && released.contains("[component.lockgate.variables]")
        );
        assert!(released.contains("core/about.component.wasm"), "{released}");
    }

    #[test]
    fn what_is_not_as_released_is_noticed() {
        let home = std::env::temp_dir().join(format!("lockgate-dist-{}", std::process::id()));
        let fresh = |change: &dyn Fn(&mut Vec<Entry>)| {
            std::fs::remove_dir_all(&home).ok();
            std::fs::create_dir_all(&home).unwrap();
            release(&home, change);
        };
        fresh(&|_| {});
        verify(&home).unwrap();
        std::fs::write(home.join("more"), "").unwrap();
        assert!(problem(&home).contains("more is not in the manifest"));
        std::fs::remove_file(home.join("more")).unwrap();

        let archive = home.join("lockgate-core-0.0.0.tar.gz");
        let mut bytes = std::fs::read(&archive).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&archive, bytes).unwrap();
        assert!(problem(&home).contains("SHA256SUMS does not say"), "{}", problem(&home));

        fresh(&|entries| *entries[0].bytes.get_mut(20).unwrap() ^= 1);
        assert!(problem(&home).contains("policy.wasm is damaged"), "{}", problem(&home));
        fresh(&|entries| entries[0].bytes = module(b"another").0);
        assert!(problem(&home).contains("is no module of this release's core"), "{}", problem(&home));
        fresh(&|entries| drop(entries.pop()));
        assert!(problem(&home).contains("carries 1 modules of the core, not 2"), "{}", problem(&home));
        std::fs::remove_dir_all(&home).ok();
    }
}
