use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lockgate_package::signing::{
    ALGORITHM, Accepted, Demands, ExpectedParent, PrivateKey, PublicKey, Signed, TrustError, TrustedKeys,
    Verdict,
};
use lockgate_package::{AlignedBytes, Digest, Envelope, Kind, Package};
use lockgate_policy::Bundle;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::{files, output, policy, trust};

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key: a private key that signs, and its public key, which loaders trust.
    New(NewArgs),
    /// Show keys: private, public, trust files, folders of public keys.
    Show(ShowArgs),
    /// Sign bundles, packages and unit lists. Their content and its digest stay as they are.
    Sign(SignArgs),
    /// Check who has signed files, and whether that and their versions meet what is demanded.
    Verify(VerifyArgs),
}

#[derive(Args)]
pub(crate) struct NewArgs {
    /// Where the private key goes: a file, or a folder in which it is called `<key id>.pem`. The public key goes beside it, to
    /// `*.pub.pem`. Nothing is ever overwritten.
    #[arg(short, long, value_name = "PATH", default_value = ".")]
    output: PathBuf,
}

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// A private or public key, a trust file, or a folder of public keys.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct SignArgs {
    /// The private key. May be repeated.
    #[arg(short, long = "key", required = true, value_name = "KEY")]
    keys: Vec<PathBuf>,
    /// What is signed.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// What is checked.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Demand a signature by one of these keys: a public key, a trust file, or a folder of either. May be repeated.
    #[arg(long, value_name = "PATH")]
    trust: Vec<PathBuf>,
    /// Demand that the file is this very one, by the digest of its content.
    #[arg(long, value_name = "DIGEST")]
    pin: Option<Digest>,
    /// Demand that bundles have this version or a higher one.
    #[arg(long, value_name = "NUMBER")]
    min_version: Option<u64>,
    /// Demand that bundles replace this one: a digest, or the file of the bundle.
    #[arg(long, value_name = "DIGEST|FILE")]
    parent: Option<String>,
}

pub(crate) fn run(command: &KeysCommand, json: bool) -> Result<(), Failure> {
    match command {
        KeysCommand::New(args) => new(args, json),
        KeysCommand::Show(args) => show(args, json),
        KeysCommand::Sign(args) => sign(args, json),
        KeysCommand::Verify(args) => verify(args, json),
    }
}

fn new(args: &NewArgs, json: bool) -> Result<(), Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| Failure::new(format!("the system gives no random bytes: {error}")))?;
    let key = PrivateKey::from_seed(&seed);
    let id = key.public().id();
    let private =
        if args.output.is_dir() { args.output.join(format!("{id}.pem")) } else { args.output.clone() };
    let public = public_path(&private)?;
    for path in [&private, &public] {
        if path.exists() {
            return Err(Failure::new(format!("{} exists; keys are never overwritten", path.display()))
                .hint("give another name with `--output`"));
        }
    }
    let pem = |problem: &dyn std::fmt::Display| Failure::new(format!("the key cannot be written: {problem}"));
    let private_pem = key.to_pem().map_err(|error| pem(&error))?;
    let public_pem = key.public().to_pem().map_err(|error| pem(&error))?;
    files::write_new_public(&public, public_pem.as_bytes())?;
    files::write_new_private(&private, private_pem.as_bytes())?;
    if json {
        return output::print_json(&json!({
            "key": id,
            "algorithm": ALGORITHM,
            "private": private.display().to_string(),
            "public": public.display().to_string(),
        }));
    }
    output::print(&format!(
        "key      {id}\nprivate  {} (signs; keep it secret)\npublic   {} (for whoever loads)",
        private.display(),
        public.display()
    ))
}

/// `release.pem` → `release.pub.pem`.
fn public_path(private: &Path) -> Result<PathBuf, Failure> {
    let name = private
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Failure::usage(format!("{} is no name for a key file", private.display())))?;
    Ok(private.with_file_name(format!("{}.pub.pem", name.strip_suffix(".pem").unwrap_or(name))))
}

fn read_private(path: &Path) -> Result<PrivateKey, Failure> {
    let text = Zeroizing::new(trust::read_text(path)?);
    PrivateKey::from_pem(&text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

fn show(args: &ShowArgs, json: bool) -> Result<(), Failure> {
    let mut values = Vec::new();
    let mut lines = Vec::new();
    for path in &args.files {
        for (holds, key, name, kinds) in keys_of(path)? {
            let signs: Vec<_> = kinds.iter().map(|kind| trust::plural(*kind)).collect();
            lines.push(
                format!("{}  {holds:<7}  {name:<24}  {}", key.id(), signs.join(", ")).trim_end().to_owned(),
            );
            values.push(json!({
                "file": path.display().to_string(),
                "key": key.id(),
                "algorithm": ALGORITHM,
                "holds": holds,
                "name": name,
                "signs": signs,
                "raw": hex::encode(key.as_bytes()),
                "pem": key.to_pem().map_err(|error| Failure::new(error.to_string()))?,
            }));
        }
    }
    if json { output::print_json(&values) } else { output::print(&lines.join("\n")) }
}

type Shown = (&'static str, PublicKey, String, Vec<Kind>);

fn keys_of(path: &Path) -> Result<Vec<Shown>, Failure> {
    let is_single = path.is_file() && path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("toml"));
    if is_single && trust::read_text(path).is_ok_and(|text| text.contains("-----BEGIN PRIVATE KEY-----")) {
        let key = read_private(path)?;
        return Ok(vec![("private", key.public(), path.display().to_string(), Vec::new())]);
    }
    let keys = trust::read_keys(path)?;
    Ok(keys.iter().map(|key| ("public", key.key.clone(), key.name.clone(), key.kinds.clone())).collect())
}

fn sign(args: &SignArgs, json: bool) -> Result<(), Failure> {
    let keys: Vec<PrivateKey> = args.keys.iter().map(|path| read_private(path)).collect::<Result<_, _>>()?;
    let ids: Vec<String> = keys.iter().map(|key| key.public().id().to_string()).collect();
    // All are read before any is written, so that a mistake among them changes nothing.
    let mut signed_files = Vec::new();
    for path in &args.files {
        let at = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
        let before = files::read(path)?;
        let mut bytes = before.clone();
        for key in &keys {
            bytes = Signed::read(&bytes).and_then(|signed| signed.sign(key)).map_err(|error| at(&error))?;
        }
        let signed = Signed::read(&bytes).map_err(|error| at(&error))?;
        let (kind, digest) = (signed.kind(), signed.digest());
        let is_new = bytes != before;
        signed_files.push((path, bytes, kind, digest, is_new));
    }
    let mut values = Vec::new();
    let mut lines = Vec::new();
    for (path, bytes, kind, digest, is_new) in &signed_files {
        if *is_new {
            files::replace(path, bytes)?;
        }
        let unchanged = if *is_new { "" } else { ", unchanged" };
        lines.push(format!(
            "{}: {} sha256:{digest}, signed by {}{unchanged}",
            path.display(),
            kind.name(),
            ids.join(", ")
        ));
        values.push(json!({
            "file": path.display().to_string(),
            "kind": kind.name(),
            "digest": digest,
            "keys": ids,
            "changed": is_new,
        }));
    }
    if json { output::print_json(&values) } else { output::print(&lines.join("\n")) }
}

/// What a file says about itself, and its bytes.
struct File<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
    kind: Kind,
    digest: Digest,
}

fn verify(args: &VerifyArgs, json: bool) -> Result<(), Failure> {
    let demands = demands(args)?;
    let mut read = Vec::new();
    for path in &args.files {
        let bytes = files::read(path)?;
        let signed = Signed::read(&bytes).map_err(|error| trust::untrusted(path, &error.into()))?;
        let (kind, digest) = (signed.kind(), signed.digest());
        read.push(File { path, bytes, kind, digest });
    }
    if args.pin.is_some() && read.len() != 1 {
        return Err(Failure::usage("`--pin` is the digest of one file").hint("verify the files one by one"));
    }
    let of_bundles = args.min_version.is_some() || args.parent.is_some();
    if of_bundles && read.iter().all(|file| file.kind != Kind::Bundle) {
        return Err(Failure::usage(
            "`--min-version` and `--parent` are about bundles, and none of the files is one",
        ));
    }
    let pins = pins(&read)?;
    let nobody = TrustedKeys::default();
    let keys = demands.keys.as_ref().unwrap_or(&nobody);
    let mut text = String::new();
    let mut values = Vec::new();
    let mut refused: Vec<Failure> = Vec::new();
    for file in &read {
        let about = describe(file)?;
        let result = check(file, &about, &demands, &pins);
        let state = if result.is_ok() { "accepted" } else { "refused" };
        let _ = writeln!(text, "{}: {state}, {}, sha256:{}", file.path.display(), about.text, file.digest);
        let mut value = json!({
            "file": file.path.display().to_string(),
            "kind": file.kind.name(),
            "digest": file.digest,
            "accepted": result.is_ok(),
            "signatures": signatures(&file.bytes, keys, |line| {
                let _ = writeln!(text, "  {line}");
            })?,
        });
        if let Some(Accepted { version, .. }) = about.version {
            value["version"] = version.into();
            value["parent"] = json!(about.parent);
        }
        if let Err(failure) = result {
            value["error"] = failure.message().into();
            value["code"] = failure.code_text().into();
            refused.push(failure);
        }
        values.push(value);
    }
    if json {
        output::print_json(&values)?;
    } else {
        output::print(&text)?;
    }
    let mut refused = refused.into_iter();
    let Some(first) = refused.next() else { return Ok(()) };
    let messages: Vec<String> = refused.map(|failure| failure.message().to_owned()).collect();
    if messages.is_empty() {
        return Err(first);
    }
    // Program and person get the first file's code; the lines name the others.
    let failure = Failure::new(format!("{}\n{}", first.message(), messages.join("\n")));
    Err(match first.code_text() {
        Some(code) => failure.code(code),
        None => failure,
    })
}

fn demands(args: &VerifyArgs) -> Result<Demands, Failure> {
    let has_demand =
        !args.trust.is_empty() || args.pin.is_some() || args.min_version.is_some() || args.parent.is_some();
    if !has_demand {
        return Err(Failure::usage("nothing is demanded, so nothing can be verified")
            .hint("pass `--trust PATH`, `--pin DIGEST`, `--min-version NUMBER` or `--parent DIGEST|FILE`; `lockgate inspect` shows signatures"));
    }
    let mut keys = TrustedKeys::default();
    for path in &args.trust {
        trust::add_keys(&mut keys, path)?;
    }
    let parent = match &args.parent {
        None => ExpectedParent::Any,
        Some(text) => ExpectedParent::Exactly(match text.parse() {
            Ok(digest) => digest,
            Err(_) => {
                let path = Path::new(text);
                let bytes = files::read(path)?;
                let signed = Signed::read(&bytes).map_err(|error| trust::untrusted(path, &error.into()))?;
                signed.digest()
            }
        }),
    };
    Ok(Demands {
        keys: (!args.trust.is_empty()).then_some(keys),
        sign_packages: true,
        pin: args.pin,
        min_version: args.min_version,
        newest: None,
        parent,
    })
}

/// What people and checks need to know of a file.
struct About {
    text: String,
    version: Option<Accepted>,
    parent: Option<Digest>,
    /// `model@version` of a package.
    model: Option<String>,
}

fn describe(file: &File<'_>) -> Result<About, Failure> {
    let at = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", file.path.display()));
    let bytes = || AlignedBytes::copy_of(&file.bytes);
    let none = About { text: file.kind.name().to_owned(), version: None, parent: None, model: None };
    Ok(match file.kind {
        Kind::Bundle => {
            let header = Bundle::header(&file.bytes).map_err(|error| at(&error))?;
            About {
                text: format!("policy bundle version {}", header.version),
                version: Some(Accepted { version: header.version, digest: header.digest }),
                parent: header.parent,
                ..none
            }
        }
        Kind::Package => {
            let package = Package::open(bytes()).map_err(|error| at(&error))?;
            let name = format!("{}@{}", package.manifest().model, package.manifest().version);
            About { text: format!("model package {name}"), model: Some(name), ..none }
        }
        Kind::UnitList => {
            Envelope::open(bytes(), Kind::UnitList, (u16::MAX, u16::MAX)).map_err(|error| at(&error))?;
            none
        }
    })
}

/// Which package each `model@version` is pinned to by the bundles among the files.
type Pins = Vec<(String, Digest, PathBuf)>;

fn pins(read: &[File<'_>]) -> Result<Pins, Failure> {
    let mut pins = Vec::new();
    // Only packages can be wrongly pinned; without one the unit lists of a bundle need not be at hand.
    if read.iter().all(|file| file.kind != Kind::Package) {
        return Ok(pins);
    }
    for file in read.iter().filter(|file| file.kind == Kind::Bundle) {
        let bundle = policy::load_bundle(file.path, &file.bytes)?;
        let pinned = bundle
            .models()
            .map(|model| (format!("{}@{}", model.name, model.version), model.digest, file.path.to_owned()));
        pins.extend(pinned);
    }
    Ok(pins)
}

fn check(file: &File<'_>, about: &About, demands: &Demands, pins: &Pins) -> Result<(), Failure> {
    let refuse = |error: TrustError| trust::untrusted(file.path, &error);
    let signed = Signed::read(&file.bytes).map_err(|error| refuse(error.into()))?;
    if let Some(keys) = &demands.keys {
        keys.require(&signed).map_err(refuse)?;
    }
    if let Some(expected) = demands.pin.filter(|pin| *pin != file.digest) {
        return Err(refuse(TrustError::WrongPin { what: file.kind.name(), found: file.digest, expected }));
    }
    if let Some(version) = about.version {
        demands.check_version(version, about.parent).map_err(refuse)?;
    }
    let wrong =
        pins.iter().find(|(name, digest, _)| Some(name) == about.model.as_ref() && *digest != file.digest);
    match wrong {
        None => Ok(()),
        Some((name, digest, bundle)) => Err(Failure::new(format!(
            "{}: the model package is sha256:{}, {} pins {name} to sha256:{digest}",
            file.path.display(),
            file.digest,
            bundle.display()
        ))
        .code("wrong_pin")
        .hint("give the package that the bundle pins, or compile the policy again with this one")),
    }
}

/// The signatures of a file as JSON, and each as a line. Without trusted keys nobody can say what they are worth.
pub(crate) fn signatures(
    bytes: &[u8],
    keys: &TrustedKeys,
    mut line: impl FnMut(String),
) -> Result<Value, Failure> {
    let signed = Signed::read(bytes).map_err(|error| Failure::new(error.to_string()))?;
    let judgements = keys.judge(&signed);
    let mut values = Vec::new();
    for (signature, judgement) in signed.signatures().iter().zip(&judgements) {
        let verdict = match judgement.verdict {
            Verdict::Good => "good",
            Verdict::Bad => "does not verify",
            Verdict::NotAllowed => "may not sign this",
            Verdict::UnknownKey if keys.is_empty() => "not checked",
            Verdict::UnknownKey => "unknown key",
            Verdict::UnknownAlgorithm => "unknown algorithm",
            _ => "unknown",
        };
        let name = if judgement.name.is_empty() { String::new() } else { format!(" ({})", judgement.name) };
        line(format!("{}{name} {}: {verdict}", signature.key, signature.algorithm));
        let mut value = json!({
            "key": signature.key,
            "algorithm": signature.algorithm,
            "signature": hex::encode(&signature.signature),
            "statement": hex::encode(signed.statement()),
        });
        if !keys.is_empty() {
            value["name"] = judgement.name.into();
            value["verdict"] = judgement.verdict.code().into();
        }
        values.push(value);
    }
    if values.is_empty() {
        line("no signature".to_owned());
    }
    Ok(values.into())
}
