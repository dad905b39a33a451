//! Whom a loader trusts: keys from files, the demands that settings make, and the file that remembers what was accepted.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use lockgate_package::signing::{
    Accepted, Demands, ExpectedParent, PublicKey, Signed, TrustError, TrustedKey, TrustedKeys,
};
use lockgate_package::{Digest, Kind};
use lockgate_policy::Bundle;
use serde::{Deserialize, Serialize};

use crate::config::{RequiredSignatures, Settings};
use crate::failure::Failure;
use crate::files;

/// The file in a folder of keys that says which of them count, and for what.
const TRUST_FILE: &str = "trust.toml";
/// Larger than any file of ours; whoever names a device or a model by mistake is told so.
const LARGEST_FILE: u64 = 1 << 20;

/// What the settings demand of what is loaded. Files are read anew for each load, so that keys can change while a server runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustSettings {
    keys: Option<PathBuf>,
    sign_packages: bool,
    pin: Option<Digest>,
    min_version: Option<u64>,
    require_parent: bool,
    state: Option<TrustState>,
}

impl TrustSettings {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            keys: settings.trust.clone(),
            sign_packages: settings.require_signatures == RequiredSignatures::All,
            pin: settings.pin,
            min_version: settings.min_version,
            require_parent: settings.require_parent,
            state: settings.trust_state.clone().map(TrustState::new),
        }
    }

    /// The settings that make demands that a policy source cannot meet.
    fn need_a_bundle(&self) -> impl Iterator<Item = &'static str> {
        let demanding = [
            ("trust", self.keys.is_some()),
            ("pin", self.pin.is_some()),
            ("min_version", self.min_version.is_some()),
            ("require_parent", self.require_parent),
            ("trust_state", self.state.is_some()),
        ];
        demanding.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name)
    }

    /// What is demanded now. Policy sources are refused for the settings that `counts` names.
    pub(crate) fn gate(&self, counts: impl Fn(&str) -> bool) -> Result<Gate, Failure> {
        let refuses_sources = self.need_a_bundle().find(|setting| counts(setting));
        Ok(Gate { demands: self.demands()?, refuses_sources, package: None })
    }

    fn demands(&self) -> Result<Demands, Failure> {
        Ok(Demands {
            keys: self.keys.as_deref().map(read_keys).transpose()?,
            sign_packages: self.keys.is_some() && self.sign_packages,
            pin: self.pin,
            min_version: self.min_version,
            newest: match &self.state {
                Some(state) => state.read()?,
                None => None,
            },
            parent: if self.require_parent { ExpectedParent::Newest } else { ExpectedParent::Any },
        })
    }

    /// Remembers a bundle, if that was asked for.
    pub(crate) fn record(&self, accepted: Accepted) -> Result<(), String> {
        self.state
            .as_ref()
            .map_or(Ok(()), |state| state.write(accepted).map_err(|failure| failure.to_string()))
    }
}

/// What one load demands of its files. The default lets everything through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    demands: Demands,
    /// The setting because of which a policy source is refused.
    refuses_sources: Option<&'static str>,
    /// The only package that may pass.
    package: Option<Digest>,
}

impl Gate {
    /// For a package that no bundle vouches for: one of these keys must have signed it, and it must be the pinned one.
    pub(crate) fn for_package(keys: Option<&Path>, pin: Option<Digest>) -> Result<Self, Failure> {
        let demands =
            Demands { keys: keys.map(read_keys).transpose()?, sign_packages: true, ..Demands::default() };
        Ok(Self { demands, refuses_sources: None, package: pin })
    }

    /// The demands that every bundle must meet, whatever replaces it.
    pub(crate) fn signatures(&self) -> Self {
        let Demands { keys, sign_packages, .. } = self.demands.clone();
        Self {
            demands: Demands { keys, sign_packages, ..Demands::default() },
            refuses_sources: self.refuses_sources,
            package: None,
        }
    }

    pub(crate) fn into_demands(self) -> Demands {
        self.demands
    }

    /// Checks the bytes of a bundle's or package's file before anything in them is believed.
    pub(crate) fn admit(&self, path: &Path, bytes: &[u8], kind: Kind) -> Result<(), Failure> {
        self.demands.check_bytes(bytes, kind).map_err(|error| untrusted(path, &error))?;
        let Some(expected) = self.package.filter(|_| kind == Kind::Package) else { return Ok(()) };
        let found = Signed::read(bytes).map_err(|error| untrusted(path, &error.into()))?.digest();
        if found == expected {
            return Ok(());
        }
        Err(untrusted(path, &TrustError::WrongPin { what: kind.name(), found, expected }))
    }

    /// Checks a bundle that nothing checks later: its bytes, its version and its parent.
    pub(crate) fn admit_bundle(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        self.admit(path, bytes, Kind::Bundle)?;
        let header =
            Bundle::header(bytes).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let found = Accepted { version: header.version, digest: header.digest };
        self.demands.check_version(found, header.parent).map_err(|error| untrusted(path, &error))
    }

    /// Refuses a policy source where a demand needs a bundle.
    pub(crate) fn admit_source(&self, path: &Path) -> Result<(), Failure> {
        let Some(setting) = self.refuses_sources else { return Ok(()) };
        let code = if setting == "trust" { "unsigned" } else { "not_compiled" };
        Err(Failure::new(format!(
            "{}: expected a compiled bundle, because `{setting}` is set; this is no bundle, and what is compiled on loading cannot be signed",
            path.display()
        ))
        .code(code)
        .hint("`lockgate policy compile` makes a bundle, `lockgate keys sign` signs it"))
    }
}

/// How a file is refused that is not trusted.
pub(crate) fn untrusted(path: &Path, error: &TrustError) -> Failure {
    Failure::new(format!("{}: {error}", path.display())).code(error.code()).hint(error.hint())
}

/// The newest bundle ever accepted, in a file that outlives the process.
#[derive(Debug, Clone)]
pub(crate) struct TrustState {
    file: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    /// The format of this file.
    lockgate_trust_state: u32,
    version: u64,
    digest: Digest,
}

const STATE_FORMAT: u32 = 1;

impl TrustState {
    fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// The newest bundle; `None` while nothing was accepted, when the file is not there.
    fn read(&self) -> Result<Option<Accepted>, Failure> {
        let file = self.file.display();
        // A damaged file must not pass for an empty one: older bundles would be accepted again.
        let damaged = |problem: String| {
            Failure::new(format!("{file}: this is no trust state: {problem}"))
                .code("trust_state")
                .hint("restore the file; or, if every older bundle may be accepted again, remove it")
        };
        let text = match read_small(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::new(format!("cannot read the trust state {file}: {error}"))
                    .code("trust_state")
                    .hint("without it, older bundles could not be told from newer ones"));
            }
        };
        let remembered: Remembered =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if remembered.lockgate_trust_state != STATE_FORMAT {
            let format = remembered.lockgate_trust_state;
            return Err(damaged(format!("it has format {format}, this program reads format {STATE_FORMAT}")));
        }
        Ok(Some(Accepted { version: remembered.version, digest: remembered.digest }))
    }

    fn write(&self, accepted: Accepted) -> Result<(), Failure> {
        // Somebody else may share the file; what they accepted is not forgotten either.
        if let Some(newest) = self.read()?.filter(|newest| newest.version > accepted.version) {
            return Err(Failure::new(format!(
                "{} says meanwhile that version {} was accepted",
                self.file.display(),
                newest.version
            )));
        }
        let remembered = Remembered {
            lockgate_trust_state: STATE_FORMAT,
            version: accepted.version,
            digest: accepted.digest,
        };
        let mut text = serde_json::to_string_pretty(&remembered)
            .map_err(|error| Failure::new(format!("cannot write the trust state: {error}")))?;
        text.push('\n');
        files::replace(&self.file, text.as_bytes())
    }
}

/// What a trust file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    #[serde(default)]
    keys: Vec<TrustEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustEntry {
    /// The file of the public key, relative to the trust file.
    file: PathBuf,
    /// What people call it; without it, the file's name.
    name: Option<String>,
    /// What it may sign; without it, everything.
    signs: Option<Vec<Signs>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Signs {
    Bundles,
    Packages,
    Lists,
}

impl From<Signs> for Kind {
    fn from(signs: Signs) -> Self {
        match signs {
            Signs::Bundles => Self::Bundle,
            Signs::Packages => Self::Package,
            Signs::Lists => Self::UnitList,
        }
    }
}

/// What a kind is called in a trust file.
pub(crate) fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Bundle => "bundles",
        Kind::Package => "packages",
        Kind::UnitList => "lists",
    }
}

/// The keys that a path stands for: a public key (PEM), a trust file (TOML), or a folder with a trust file or with public keys.
pub(crate) fn read_keys(path: &Path) -> Result<TrustedKeys, Failure> {
    let mut keys = TrustedKeys::default();
    add_keys(&mut keys, path)?;
    Ok(keys)
}

/// Adds the keys that a path stands for.
pub(crate) fn add_keys(keys: &mut TrustedKeys, path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        let file = path.join(TRUST_FILE);
        if file.exists() { add_trust_file(keys, &file) } else { add_folder(keys, path) }
    } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        add_trust_file(keys, path)
    } else {
        add(keys, path, read_public_key(path)?, None, Kind::ALL.to_vec())
    }
}

fn add_folder(keys: &mut TrustedKeys, folder: &Path) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(format!("cannot read the keys in {}: {error}", folder.display()))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "pem") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::new(format!("{}: no key is trusted: there is no file *.pem", folder.display()))
            .hint("put public keys there, as `lockgate keys new` writes them to *.pub.pem"));
    }
    for file in files {
        add(keys, &file, read_public_key(&file)?, None, Kind::ALL.to_vec())?;
    }
    Ok(())
}

fn add_trust_file(keys: &mut TrustedKeys, file: &Path) -> Result<(), Failure> {
    let text = read_text(file)?;
    let parsed: TrustFile = toml::from_str(&text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| 1 + text.bytes().take(span.start).filter(|b| *b == b'\n').count());
        Failure::new(format!("{}:{line}: {}", file.display(), error.message().trim_end()))
            .hint("a trust file is a list of `[[keys]]`, each with `file`, and `name` and `signs` if wanted")
    })?;
    if parsed.keys.is_empty() {
        return Err(Failure::new(format!("{}: no key is trusted: it has no `[[keys]]`", file.display())));
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    for entry in parsed.keys {
        let path = folder.join(&entry.file);
        let kinds = entry
            .signs
            .map_or_else(|| Kind::ALL.to_vec(), |signs| signs.into_iter().map(Kind::from).collect());
        add(keys, &path, read_public_key(&path)?, entry.name, kinds)?;
    }
    Ok(())
}

/// A key that is there twice is a mistake: of two lists of what it may sign, only one could count.
fn add(
    keys: &mut TrustedKeys,
    file: &Path,
    key: PublicKey,
    name: Option<String>,
    kinds: Vec<Kind>,
) -> Result<(), Failure> {
    let id = key.id();
    let name = name.unwrap_or_else(|| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.strip_suffix(".pem").unwrap_or(name);
        name.strip_suffix(".pub").unwrap_or(name).to_owned()
    });
    match keys.get(id).map(|have| have.name.clone()) {
        Some(have) => {
            Err(Failure::new(format!("{}: the key {id} is trusted already, as `{have}`", file.display())))
        }
        None => {
            keys.add(TrustedKey { key, name, kinds });
            Ok(())
        }
    }
}

/// Reads a public key.
pub(crate) fn read_public_key(file: &Path) -> Result<PublicKey, Failure> {
    let text = read_text(file)?;
    PublicKey::from_pem(&text).map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}

/// Reads a file that cannot be large.
pub(crate) fn read_text(file: &Path) -> Result<String, Failure> {
    read_small(file).map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))
}

fn read_small(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(std::io::Error::other("it is far too large to be a key, a trust file or a trust state"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use lockgate_package::signing::PrivateKey;

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        fn key(&self, name: &str, number: u8) -> String {
            let key = PrivateKey::from_seed(&[number; 32]).public();
            self.write(name, &key.to_pem().unwrap());
            key.id().to_string()
        }

        /// Names and purposes of the keys, or the error without the folder's name.
        fn read(&self, name: &str) -> Result<Vec<(String, Vec<&'static str>)>, String> {
            let keys = read_keys(&self.0.path().join(name)).map_err(|failure| {
                failure.to_string().replace(&format!("{}/", self.0.path().display()), "")
            })?;
            Ok(keys
                .iter()
                .map(|key| (key.name.clone(), key.kinds.iter().map(|kind| plural(*kind)).collect()))
                .collect())
        }
    }

    #[test]
    fn keys_come_from_a_file_a_folder_or_a_trust_file() {
        let folder = Folder::new();
        folder.key("b.pub.pem", 1);
        folder.key("a.pem", 2);
        folder.write("README.md", "not a key");
        let everything = || vec!["bundles", "packages", "lists"];
        assert_eq!(folder.read("b.pub.pem").unwrap(), [("b".to_owned(), everything())]);
        assert_eq!(
            folder.read(".").unwrap(),
            [("a".to_owned(), everything()), ("b".to_owned(), everything())]
        );
        let text = "[[keys]]\nfile = \"a.pem\"\nname = \"models\"\nsigns = [\"packages\"]\n[[keys]]\nfile = \"b.pub.pem\"\n";
        folder.write("trust.toml", text);
        let expected = [("models".to_owned(), vec!["packages"]), ("b".to_owned(), everything())];
        assert_eq!(folder.read("trust.toml").unwrap(), expected);
        assert_eq!(folder.read(".").unwrap(), expected, "a trust file speaks for its folder");
    }

    #[test]
    fn what_is_no_key_is_refused_by_file_and_line() {
        let folder = Folder::new();
        let check = |name: &str, expected: &str| assert_eq!(folder.read(name).unwrap_err(), expected);
        std::fs::create_dir(folder.0.path().join("empty")).unwrap();
        check(
            "empty",
            "empty: no key is trusted: there is no file *.pem\n\
             hint: put public keys there, as `lockgate keys new` writes them to *.pub.pem",
        );
        check("none.pem", "cannot read none.pem: No such file or directory (os error 2)");
        let secret = PrivateKey::from_seed(&[1; 32]).to_pem().unwrap();
        folder.write("secret.pem", &secret);
        check(
            "secret.pem",
            "secret.pem: expected a public key (`-----BEGIN PUBLIC KEY-----`), found `-----BEGIN PRIVATE KEY-----`; \
             write its public key with `openssl pkey -in FILE -pubout`",
        );
        let id = folder.key("a.pem", 1);
        let hint =
            "hint: a trust file is a list of `[[keys]]`, each with `file`, and `name` and `signs` if wanted";
        for (text, expected) in [
            (
                "[[keys]]\nfile = \"a.pem\"\n[[keys]]\nfile = \"a.pem\"\n",
                format!("a.pem: the key {id} is trusted already, as `a`"),
            ),
            (
                "[[keys]]\nfiel = \"a.pem\"\n",
                format!(
                    "trust.toml:2: unknown field `fiel`, expected one of `file`, `name`, `signs`\n{hint}"
                ),
            ),
            (
                "[[keys]]\nfile = \"a.pem\"\nsigns = [\"everything\"]\n",
                format!(
                    "trust.toml:3: unknown variant `everything`, expected one of `bundles`, `packages`, `lists`\n{hint}"
                ),
            ),
            ("keys = []\n", "trust.toml: no key is trusted: it has no `[[keys]]`".to_owned()),
        ] {
            folder.write("trust.toml", text);
            check("trust.toml", &expected);
        }
    }

    #[test]
    fn the_state_outlives_the_process_and_never_falls() {
        let folder = Folder::new();
        let state = || TrustState::new(folder.0.path().join("state.json"));
        let bundle = |version| Accepted { version, digest: Digest([7; 32]) };
        assert_eq!(state().read().unwrap(), None);
        state().write(bundle(3)).unwrap();
        assert_eq!(state().read().unwrap(), Some(bundle(3)));
        state().write(bundle(4)).unwrap();
        let error = state().write(bundle(3)).unwrap_err();
        assert!(
            error.message().ends_with("state.json says meanwhile that version 4 was accepted"),
            "{error}"
        );
        assert_eq!(state().read().unwrap(), Some(bundle(4)));
        assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 1, "no temporary file stays");

        let good = std::fs::read_to_string(folder.0.path().join("state.json")).unwrap();
        for text in [
            "",
            "{}",
            "null",
            &good[..good.len() / 2],
            &good.replace(": 1,", ": 2,"),
            &good.replace('4', "-4"),
        ] {
            folder.write("state.json", text);
            let error = state().read().unwrap_err();
            assert_eq!(error.code_text(), Some("trust_state"), "{text}");
            assert!(error.message().contains("state.json: this is no trust state: "), "{error}");
            assert!(state().write(bundle(5)).is_err(), "a damaged file is not overwritten");
        }
    }
}
