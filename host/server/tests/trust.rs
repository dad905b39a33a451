//! Keys and signatures, as their users see them. Nothing here needs the core.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const POLICY: &str = "
lockgate: 1
models: { eurusd_lr@1.0.0: }
routes:
  direction:
    variants: { only: { model: eurusd_lr@1.0.0 } }
    default: { serve: only }
";

/// A folder in which commands run.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with `release.pem`, `models.pem`, `policy.lgb` and `lr.lgp`, nothing signed.
    fn prepared() -> Self {
        let folder = Self::new();
        for key in ["release.pem", "models.pem"] {
            folder.succeed(&["keys", "new", "--output", key]);
        }
        folder.package("eurusd_lr", "lr.lgp");
        folder.write("policy.yaml", POLICY);
        folder.succeed(&["policy", "compile", "policy.yaml", "--packages", "."]);
        folder
    }

    fn package(&self, onnx: &str, target: &str) {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/eurusd/models");
        let onnx = models.join(format!("{onnx}.onnx"));
        let named = ["--name", "eurusd_lr", "--version", "1.0.0", "--output", target];
        self.succeed(&[&["package", onnx.to_str().unwrap()], &named[..]].concat());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// Exit code, standard output, standard error.
    fn run(&self, program: &str, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(program).args(arguments).current_dir(self.0.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    fn lockgate(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run(env!("CARGO_BIN_EXE_lockgate"), arguments)
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> String {
        let (code, out, error) = self.lockgate(arguments);
        assert_eq!((code, error.as_str()), (0, ""), "{arguments:?}");
        out
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.succeed(&[&["--json"], arguments].concat())).unwrap()
    }

    /// The error of a command that must fail with 1, and the code in it.
    #[track_caller]
    fn refuse(&self, arguments: &[&str]) -> String {
        let (code, _, error) = self.lockgate(arguments);
        assert_eq!(code, 1, "{arguments:?}: {error}");
        error
    }

    #[track_caller]
    fn sign(&self, key: &str, file: &str) {
        self.succeed(&["keys", "sign", "--key", key, file]);
    }

    fn id(&self, key: &str) -> String {
        self.json(&["keys", "show", key])[0]["key"].as_str().unwrap().to_owned()
    }

    fn digest(&self, file: &str) -> String {
        self.json(&["inspect", file])["digest"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_new_key_is_private_and_overwrites_nothing() {
    let folder = Folder::new();
    let made = folder.json(&["keys", "new", "--output", "release.pem"]);
    assert_eq!((&made["private"], &made["public"]), (&"release.pem".into(), &"release.pub.pem".into()));
    let mode = |name: &str| std::fs::metadata(folder.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("release.pem"), mode("release.pub.pem")), (0o600, 0o644));
    let id = made["key"].as_str().unwrap();
    assert_eq!((folder.id("release.pem").as_str(), folder.id("release.pub.pem").as_str()), (id, id));
    assert_eq!(
        folder.succeed(&["keys", "show", "release.pem", "release.pub.pem"]),
        format!(
            "{id}  private  release.pem\n{id}  public   release                   bundles, packages, lists\n"
        )
    );

    let before = (folder.read("release.pem"), folder.read("release.pub.pem"));
    let error =
        "error: release.pem exists; keys are never overwritten\nhint: give another name with `--output`\n";
    assert_eq!(folder.refuse(&["keys", "new", "-o", "release.pem"]), error);
    // The public key alone is reason enough, and then no private key is left behind.
    std::fs::rename(folder.path("release.pem"), folder.path("kept.pem")).unwrap();
    assert!(folder.refuse(&["keys", "new", "-o", "release.pem"]).contains("release.pub.pem exists"));
    assert!(!folder.path("release.pem").exists());
    assert_eq!((folder.read("kept.pem"), folder.read("release.pub.pem")), before);

    // Without a name: called by its id. Two keys differ.
    let other = folder.json(&["keys", "new"]);
    assert_eq!(other["private"], format!("./{}.pem", other["key"].as_str().unwrap()));
    assert_ne!(other["key"], id);
    assert!(
        folder.refuse(&["keys", "new", "-o", "nowhere/a.pem"]).contains("cannot write nowhere/a.pub.pem: ")
    );
}

#[test]
fn openssl_and_lockgate_read_each_other() {
    let folder = Folder::prepared();
    if Command::new("openssl").arg("version").output().is_err() {
        // The same is checked without openssl, against recorded bytes, in crates/package.
        return;
    }
    let openssl = |arguments: &[&str]| {
        let (code, out, error) = folder.run("openssl", arguments);
        assert_eq!(code, 0, "{arguments:?}: {error}");
        out
    };
    // Ours, read by openssl: the same public key.
    let public = openssl(&["pkey", "-in", "release.pem", "-pubout"]);
    assert_eq!(public.as_bytes(), folder.read("release.pub.pem"));
    // Our signature, checked by openssl.
    folder.sign("release.pem", "policy.lgb");
    let signature = folder.json(&["inspect", "policy.lgb"])["signatures"][0].clone();
    let bytes = |name: &str| hex::decode(signature[name].as_str().unwrap()).unwrap();
    folder.write("statement", bytes("statement"));
    folder.write("signature", bytes("signature"));
    let verify = ["pkeyutl", "-verify", "-pubin", "-inkey", "release.pub.pem", "-rawin", "-in", "statement"];
    let out = openssl(&[&verify[..], &["-sigfile", "signature"]].concat());
    assert!(out.contains("Signature Verified Successfully"), "{out}");

    // Openssl's keys, read by us.
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "theirs.pem"]);
    openssl(&["pkey", "-in", "theirs.pem", "-pubout", "-out", "theirs.pub.pem"]);
    assert_eq!(folder.id("theirs.pem"), folder.id("theirs.pub.pem"));
    folder.sign("theirs.pem", "lr.lgp");
    assert!(folder.succeed(&["keys", "verify", "lr.lgp", "--trust", "theirs.pub.pem"]).contains("good"));
    // Keys that cannot sign are named for what they are.
    openssl(&["genpkey", "-algorithm", "rsa", "-out", "rsa.pem"]);
    let error = folder.refuse(&["keys", "sign", "--key", "rsa.pem", "lr.lgp"]);
    assert!(
        error.starts_with("error: rsa.pem: a private key cannot be read: ") && error.contains("Ed25519"),
        "{error}"
    );
    openssl(&["pkey", "-in", "theirs.pem", "-aes128", "-passout", "pass:x", "-out", "locked.pem"]);
    let error = folder.refuse(&["keys", "sign", "--key", "locked.pem", "lr.lgp"]);
    assert!(
        error.contains("found `-----BEGIN ENCRYPTED PRIVATE KEY-----`; decrypt it with `openssl pkey"),
        "{error}"
    );
}

#[test]
fn signing_keeps_the_content_and_can_be_repeated() {
    let folder = Folder::prepared();
    let (digest, unsigned) = (folder.digest("policy.lgb"), folder.read("policy.lgb"));
    let id = folder.id("release.pem");
    let out = folder.succeed(&["keys", "sign", "--key", "release.pem", "policy.lgb", "lr.lgp"]);
    assert!(
        out.starts_with(&format!("policy.lgb: policy bundle sha256:{digest}, signed by {id}\nlr.lgp: ")),
        "{out}"
    );
    assert_eq!(folder.digest("policy.lgb"), digest);
    let signed = folder.read("policy.lgb");
    assert_eq!(signed[..200], unsigned[..200]);
    let again = folder.succeed(&["keys", "sign", "--key", "release.pem", "policy.lgb"]);
    assert!(again.ends_with(", unchanged\n"), "{again}");
    assert_eq!(folder.read("policy.lgb"), signed);
    let text = folder.succeed(&["inspect", "policy.lgb"]);
    assert!(text.contains(&format!("\nsigned by         {id} ed25519: not checked\n")), "{text}");
    // Compiling again neither fails nor takes the signature away.
    let out = folder.succeed(&["policy", "compile", "policy.yaml", "--packages", "."]);
    assert!(out.ends_with(", unchanged\n"), "{out}");
    assert_eq!(folder.read("policy.lgb"), signed);

    // Two keys at once, in either order, give the same bytes as one after the other.
    folder.write("a.lgb", &unsigned);
    folder.write("b.lgb", &signed);
    folder.succeed(&["keys", "sign", "--key", "models.pem", "--key", "release.pem", "a.lgb"]);
    folder.sign("models.pem", "b.lgb");
    assert_eq!(folder.read("a.lgb"), folder.read("b.lgb"));

    // What the file was, it stays: its permissions, and the link to it.
    std::fs::set_permissions(folder.path("lr.lgp"), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("lr.lgp", folder.path("link.lgp")).unwrap();
    folder.sign("models.pem", "link.lgp");
    assert!(std::fs::symlink_metadata(folder.path("link.lgp")).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(folder.path("lr.lgp")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(folder.json(&["inspect", "lr.lgp"])["signatures"].as_array().unwrap().len(), 2);

    // One bad file among several, and none is touched.
    let before = folder.read("b.lgb");
    folder.write("bad.lgp", b"LOCKGATE");
    folder.succeed(&["keys", "new", "-o", "third.pem"]);
    let error = folder.refuse(&["keys", "sign", "--key", "third.pem", "b.lgb", "bad.lgp"]);
    assert_eq!(
        error,
        "error: bad.lgp: the envelope is truncated or has bytes behind its end: 8 bytes are there\n"
    );
    assert_eq!(folder.read("b.lgb"), before);
    let error = folder.refuse(&["keys", "sign", "--key", "release.pub.pem", "b.lgb"]);
    assert!(error.contains("expected a private key (`-----BEGIN PRIVATE KEY-----`)"), "{error}");
}

#[test]
fn verifying_says_who_signed_and_which_demand_is_not_met() {
    let folder = Folder::prepared();
    let (release, models) = (folder.id("release.pem"), folder.id("models.pem"));
    let digest = folder.digest("policy.lgb");
    let short = &digest[..12];
    let verify = |arguments: &[&str]| folder.refuse(&[&["keys", "verify", "policy.lgb"], arguments].concat());
    let trust = ["--trust", "release.pub.pem"];
    assert_eq!(
        verify(&trust),
        format!(
            "error[unsigned]: policy.lgb: the policy bundle sha256:{short} is not signed; \
             expected a signature by {release} (release)\nhint: sign it with `lockgate keys sign --key KEY FILE`\n"
        )
    );
    folder.sign("models.pem", "policy.lgb");
    assert_eq!(
        verify(&trust),
        format!(
            "error[unknown_key]: policy.lgb: the policy bundle sha256:{short} is signed by {models}, which is not trusted; \
             expected a signature by {release} (release)\n\
             hint: have it signed by a trusted key; or, if that key is to be trusted, add its public key to the trusted keys\n"
        )
    );
    folder.sign("release.pem", "policy.lgb");
    let accepted = folder.succeed(&[&["keys", "verify", "policy.lgb"], &trust[..]].concat());
    let mut lines =
        [format!("  {release} (release) ed25519: good\n"), format!("  {models} ed25519: unknown key\n")];
    lines.sort();
    assert_eq!(
        accepted,
        format!("policy.lgb: accepted, policy bundle version 1, sha256:{digest}\n{}", lines.concat())
    );

    folder.write(
        "trust.toml",
        "[[keys]]\nfile = \"models.pub.pem\"\nname = \"model team\"\nsigns = [\"packages\"]\n",
    );
    let error = verify(&["--trust", "trust.toml"]);
    assert!(
        error.starts_with(&format!(
            "error[key_not_allowed]: policy.lgb: the policy bundle sha256:{short} is signed by {models} (model team), \
             which may not sign it; expected a signature by a trusted key, and none is trusted for this\n"
        )),
        "{error}"
    );

    let mut spoilt = folder.read("policy.lgb");
    *spoilt.last_mut().unwrap() ^= 1;
    folder.write("spoilt.lgb", &spoilt);
    let all = ["--trust", "release.pub.pem", "--trust", "models.pub.pem"];
    let error = folder.refuse(&[&["keys", "verify", "spoilt.lgb"], &all[..]].concat());
    assert!(error.starts_with("error[bad_signature]: spoilt.lgb: "), "{error}");
    assert!(
        error.contains("that does not verify: it was made for something else, or was changed\nhint: "),
        "{error}"
    );

    // Versions, parents, pins.
    assert_eq!(
        verify(&["--min-version", "2"]),
        "error[below_min_version]: policy.lgb: the policy bundle has version 1, expected 2 or higher\n\
         hint: compile it under a higher version; a rollback, too, is old content under a higher version\n"
    );
    let other = "0".repeat(64);
    assert_eq!(
        verify(&["--pin", &other]),
        format!(
            "error[wrong_pin]: policy.lgb: the policy bundle is sha256:{digest}, pinned is sha256:{other}\n\
             hint: give the pinned file, or change the pin\n"
        )
    );
    folder.succeed(&["keys", "verify", "policy.lgb", "--pin", &format!("sha256:{digest}")]);
    assert!(
        verify(&["--parent", &other])
            .starts_with("error[wrong_parent]: policy.lgb: the policy bundle version 1 replaces none")
    );
    folder.succeed(&[
        "policy",
        "compile",
        "policy.yaml",
        "--packages",
        ".",
        "--parent",
        "policy.lgb",
        "-o",
        "2.lgb",
    ]);
    folder.succeed(&["keys", "verify", "2.lgb", "--parent", "policy.lgb", "--min-version", "2"]);
    folder.succeed(&["keys", "verify", "2.lgb", "--parent", &digest]);

    // A package whose digest is not the one that the bundle pins.
    folder.succeed(&["keys", "verify", "policy.lgb", "lr.lgp", "--min-version", "1"]);
    folder.package("eurusd_mlp", "other.lgp");
    let error = verify(&["other.lgp", "--min-version", "1"]);
    assert!(error.starts_with("error[wrong_pin]: other.lgp: the model package is sha256:"), "{error}");
    assert!(error.contains(", policy.lgb pins eurusd_lr@1.0.0 to sha256:"), "{error}");

    // For programs.
    let (code, out, error) =
        folder.lockgate(&["--json", "keys", "verify", "policy.lgb", "lr.lgp", trust[0], trust[1]]);
    let (out, error): (Value, Value) =
        (serde_json::from_str(&out).unwrap(), serde_json::from_str(&error).unwrap());
    assert_eq!((code, &error["code"]), (1, &"unsigned".into()));
    assert_eq!((&out[0]["accepted"], &out[1]["accepted"]), (&true.into(), &false.into()));
    assert_eq!((&out[0]["version"], &out[1]["code"]), (&1.into(), &"unsigned".into()));
    let verdicts: Vec<&str> =
        out[0]["signatures"].as_array().unwrap().iter().map(|one| one["verdict"].as_str().unwrap()).collect();
    assert!(verdicts.contains(&"good") && verdicts.contains(&"unknown_key"), "{out}");

    // Nothing demanded, or something that makes no sense, is wrong usage.
    for arguments in [&[][..], &["lr.lgp", "--pin", &digest]] {
        let (code, _, error) = folder.lockgate(&[&["keys", "verify", "policy.lgb"], arguments].concat());
        assert_eq!(code, 2, "{error}");
    }
    assert_eq!(folder.lockgate(&["keys", "verify", "lr.lgp", "--min-version", "1"]).0, 2);
}

#[test]
fn keys_rotate_without_a_gap() {
    let folder = Folder::prepared();
    std::fs::create_dir(folder.path("trusted")).unwrap();
    let trust = |key: &str| {
        std::fs::copy(folder.path(&format!("{key}.pub.pem")), folder.path(&format!("trusted/{key}.pub.pem")))
            .unwrap();
    };
    let accepts = |file: &str| folder.lockgate(&["keys", "verify", file, "--trust", "trusted"]).0 == 0;
    let versions = ["1.lgb", "2.lgb", "3.lgb"];
    for version in versions {
        let number = &version[..1];
        folder.succeed(&[
            "policy",
            "compile",
            "policy.yaml",
            "--packages",
            ".",
            "--bundle-version",
            number,
            "-o",
            version,
        ]);
    }
    // `release` is the old key, `models` the new one.
    folder.sign("release.pem", "1.lgb");
    folder.succeed(&["keys", "sign", "--key", "release.pem", "--key", "models.pem", "2.lgb"]);
    folder.sign("models.pem", "3.lgb");
    trust("release");
    assert_eq!(versions.map(accepts), [true, true, false], "before");
    trust("models");
    assert_eq!(versions.map(accepts), [true, true, true], "both keys are trusted");
    std::fs::remove_file(folder.path("trusted/release.pub.pem")).unwrap();
    assert_eq!(versions.map(accepts), [false, true, true], "the old key is revoked");
    std::fs::remove_file(folder.path("trusted/models.pub.pem")).unwrap();
    let error = folder.refuse(&["keys", "verify", "3.lgb", "--trust", "trusted"]);
    assert!(error.starts_with("error: trusted: no key is trusted: there is no file *.pem\n"), "{error}");
    // A private key has no business among the trusted ones.
    std::fs::copy(folder.path("release.pem"), folder.path("trusted/release.pem")).unwrap();
    let error = folder.refuse(&["keys", "verify", "3.lgb", "--trust", "trusted"]);
    assert!(error.contains("trusted/release.pem: expected a public key"), "{error}");
}

#[test]
fn tampered_files_are_never_accepted() {
    let folder = Folder::prepared();
    folder.sign("release.pem", "policy.lgb");
    let good = folder.read("policy.lgb");
    let content = usize::try_from(u64::from_le_bytes(good[24..32].try_into().unwrap())).unwrap();
    // One byte in each region: preamble, header, sections, and in the trailer digest, key and signature.
    let places =
        [0, 8, 12, 16, 24, 40, 70, content / 2, content - 1, content + 12, content + 60, good.len() - 1];
    for at in places {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        folder.write("bad.lgb", &bad);
        let error = folder.refuse(&["keys", "verify", "bad.lgb", "--trust", "release.pub.pem"]);
        assert!(
            error.starts_with("error[") && error.contains(": bad.lgb: ") && error.contains("\nhint: "),
            "{at}: {error}"
        );
    }
    for bytes in [&[][..], b"x", &good[..content], &good[..good.len() - 1], &[&good[..], b"x"].concat()] {
        folder.write("bad.lgb", bytes);
        let error = folder.refuse(&["keys", "verify", "bad.lgb", "--trust", "release.pub.pem"]);
        assert!(error.starts_with("error[malformed]: bad.lgb: "), "{error}");
    }
}

/// Commands that load a bundle, each with what it needs besides.
const LOADING: [&[&str]; 8] = [
    &["decide", "FILE", "--route", "direction"],
    &["policy", "explain", "FILE", "--route", "direction"],
    &["policy", "test", "FILE", "--cases", "cases.yaml"],
    &["policy", "diff", "policy.lgb", "FILE"],
    &["policy", "diff", "FILE", "policy.lgb"],
    &["policy", "simulate", "FILE", "--route", "direction", "--users", "3"],
    &["policy", "simulate", "FILE", "--route", "direction", "--users", "3", "--approve", "1"],
    &["policy", "source", "FILE"],
];

fn loading<'a>(command: &[&'a str], file: &'a str, demands: &[&'a str]) -> Vec<&'a str> {
    let words = command.iter().map(|word| if *word == "FILE" { file } else { word });
    words.chain(demands.iter().copied()).collect()
}

#[test]
fn commands_that_load_bundles_refuse_what_is_not_trusted() {
    let folder = Folder::prepared();
    let (release, models) = (folder.id("release.pem"), folder.id("models.pem"));
    folder.write(
        "cases.yaml",
        "cases: [{ name: a, context: { route: direction }, expect: { variant: only } }]\n",
    );
    for (version, parent) in [("2", "policy.lgb"), ("3", "2.lgb")] {
        let target = format!("{version}.lgb");
        let options = ["--packages", ".", "--bundle-version", version, "--parent", parent, "-o", &target];
        folder.succeed(&[&["policy", "compile", "policy.yaml"], &options[..]].concat());
    }
    folder.write("unsigned.lgb", folder.read("2.lgb"));
    for (file, key) in [("policy.lgb", "release.pem"), ("2.lgb", "release.pem"), ("3.lgb", "models.pem")] {
        folder.sign(key, file);
    }
    let good = folder.read("2.lgb");
    let content = usize::try_from(u64::from_le_bytes(good[24..32].try_into().unwrap())).unwrap();
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    folder.write("content.lgb", flip(content / 2));
    folder.write("signature.lgb", flip(good.len() - 1));
    let digest = |file: &str| folder.digest(file);
    let state = |version: u64, digest: &str| {
        format!("{{\"lockgate_trust_state\": 1, \"version\": {version}, \"digest\": \"{digest}\"}}")
    };
    folder.write("older.json", state(1, &digest("policy.lgb")));
    folder.write("newer.json", state(9, &"7".repeat(64)));
    folder.write("other.json", state(2, &"7".repeat(64)));
    folder.write("broken.json", "{}");
    let (two, other) = (digest("2.lgb"), "0".repeat(64));
    let short = &two[..12];

    // What is demanded, of which file, the code, and a part of the message; the old bundle of a difference needs signatures alone.
    let release_only = &["--trust", "release.pub.pem"][..];
    let signatures: &[(&[&str], &str, &str, String)] = &[
        (
            release_only,
            "unsigned.lgb",
            "unsigned",
            format!(
                "the policy bundle sha256:{short} is not signed; expected a signature by {release} (release)"
            ),
        ),
        (
            release_only,
            "3.lgb",
            "unknown_key",
            format!(
                "is signed by {models}, which is not trusted; expected a signature by {release} (release)"
            ),
        ),
        (
            release_only,
            "signature.lgb",
            "bad_signature",
            format!(
                "the policy bundle sha256:{short} has a signature by the trusted key {release} (release) that does not verify"
            ),
        ),
        (release_only, "content.lgb", "malformed", "the policy bundle is damaged".to_owned()),
        (
            release_only,
            "policy.yaml",
            "unsigned",
            "expected a compiled bundle, because `trust` is set".to_owned(),
        ),
    ];
    let versions: &[(&[&str], &str, &str, String)] = &[
        (
            &["--min-version", "3"],
            "2.lgb",
            "below_min_version",
            "has version 2, expected 3 or higher".to_owned(),
        ),
        (
            &["--trust-state", "newer.json"],
            "2.lgb",
            "older_version",
            "which is older than version 9 (sha256:777777777777), which was accepted before".to_owned(),
        ),
        (
            &["--trust-state", "other.json"],
            "2.lgb",
            "version_conflict",
            format!("has version 2 but is sha256:{short}, accepted as version 2 was sha256:777777777777"),
        ),
        (
            &["--trust-state", "broken.json"],
            "2.lgb",
            "trust_state",
            "broken.json: this is no trust state: ".to_owned(),
        ),
        (
            &["--trust-state", "older.json", "--require-parent", "true"],
            "3.lgb",
            "wrong_parent",
            format!(
                "version 3 replaces sha256:{two}, expected it to replace sha256:{}",
                digest("policy.lgb")
            ),
        ),
        (
            &["--pin", &other],
            "2.lgb",
            "wrong_pin",
            format!("the policy bundle is sha256:{two}, pinned is sha256:{other}"),
        ),
        (
            &["--pin", &two],
            "policy.yaml",
            "not_compiled",
            "expected a compiled bundle, because `pin` is set".to_owned(),
        ),
    ];
    for command in LOADING {
        let is_old = command.get(2) == Some(&"FILE") && command[1] == "diff";
        let demands = if is_old { [].iter() } else { versions.iter() };
        for (demand, file, code, text) in signatures.iter().chain(demands) {
            if command[1] == "source" && *file == "policy.yaml" {
                // It takes bundles alone, whatever is demanded.
                assert!(
                    folder
                        .refuse(&loading(command, file, demand))
                        .starts_with("error[malformed]: policy.yaml: ")
                );
                continue;
            }
            let error = folder.refuse(&loading(command, file, demand));
            let named = if *code == "trust_state" { String::new() } else { format!("{file}: ") };
            assert!(
                error.starts_with(&format!("error[{code}]: {named}")),
                "{command:?} {demand:?} {file}: {error}"
            );
            assert!(
                error.contains(text) && error.contains("\nhint: "),
                "{command:?} {demand:?} {file}: {error}"
            );
        }
        // All demands at once, met.
        let met = ["--trust", "release.pub.pem", "--trust-state", "older.json", "--min-version", "1"];
        folder.succeed(&loading(command, "2.lgb", &met));
        if !command.contains(&"diff") {
            folder.succeed(&loading(command, "2.lgb", &["--pin", &two, "--require-parent", "true"]));
        }
    }
    assert_eq!(
        folder.read("older.json"),
        state(1, &digest("policy.lgb")).into_bytes(),
        "looking is not accepting"
    );

    // A key that is removed was good a moment ago.
    std::fs::create_dir(folder.path("trusted")).unwrap();
    for key in ["release.pub.pem", "models.pub.pem"] {
        std::fs::copy(folder.path(key), folder.path(&format!("trusted/{key}"))).unwrap();
    }
    let trusted = ["--trust", "trusted"];
    folder.succeed(&loading(LOADING[0], "2.lgb", &trusted));
    std::fs::remove_file(folder.path("trusted/release.pub.pem")).unwrap();
    let error = folder.refuse(&loading(LOADING[0], "2.lgb", &trusted));
    assert!(error.starts_with("error[unknown_key]: 2.lgb: "), "{error}");
    folder.write("trusted/trust.toml", "[[keys]]\nfile = \"models.pub.pem\"\nsigns = [\"packages\"]\n");
    let error = folder.refuse(&loading(LOADING[0], "3.lgb", &trusted));
    assert!(error.starts_with("error[key_not_allowed]: 3.lgb: "), "{error}");
}

#[test]
fn demands_on_commands_come_from_the_environment_and_the_file_too() {
    let folder = Folder::prepared();
    folder.sign("models.pem", "policy.lgb");
    let decide = LOADING[0];
    let run = |command: &[&str], variable: Option<(&str, &str)>| {
        let output = Command::new(env!("CARGO_BIN_EXE_lockgate"))
            .args(command)
            .envs(variable)
            .current_dir(folder.0.path())
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let refused = |(code, error): (i32, String), expected: &str| {
        assert_eq!(code, 1, "{error}");
        assert!(error.starts_with(&format!("error[{expected}]: ")), "{error}");
    };
    let release = Some(("LOCKGATE_TRUST", "release.pub.pem"));
    let models = Some(("LOCKGATE_TRUST", "models.pub.pem"));
    refused(run(&loading(decide, "policy.lgb", &[]), release), "unknown_key");
    assert_eq!(run(&loading(decide, "policy.lgb", &[]), models), (0, String::new()));
    // A flag is stronger than the environment, and the environment than the file.
    assert_eq!(
        run(&loading(decide, "policy.lgb", &["--trust", "models.pub.pem"]), release),
        (0, String::new())
    );
    folder.write("demands.toml", "trust = \"release.pub.pem\"\n");
    refused(run(&loading(decide, "policy.lgb", &["--config", "demands.toml"]), None), "unknown_key");
    refused(
        run(&loading(decide, "policy.lgb", &[]), Some(("LOCKGATE_CONFIG", "demands.toml"))),
        "unknown_key",
    );
    folder.write("lockgate.toml", "trust = \"release.pub.pem\"\n");
    refused(run(&loading(decide, "policy.lgb", &[]), None), "unknown_key");
    assert_eq!(run(&loading(decide, "policy.lgb", &[]), models), (0, String::new()));
    // A server would refuse a source, and so does `decide`; whoever works on one is let be, unless a flag says otherwise.
    let source = ["--packages", "."];
    refused(run(&loading(decide, "policy.yaml", &[]), None), "unsigned");
    assert_eq!(run(&loading(LOADING[1], "policy.yaml", &[]), None), (0, String::new()));
    refused(run(&loading(LOADING[1], "policy.yaml", &["--trust", "release.pub.pem"]), None), "unsigned");
    // The packages that it is compiled with are what others made.
    refused(run(&loading(LOADING[1], "policy.yaml", &source), None), "unsigned");
    let bundle = Some(("LOCKGATE_REQUIRE_SIGNATURES", "bundle"));
    assert_eq!(run(&loading(LOADING[1], "policy.yaml", &source), bundle), (0, String::new()));
    // What was meant as a demand and is none is worth a word.
    let (code, note) =
        run(&loading(LOADING[1], "policy.yaml", &[]), Some(("LOCKGATE_TRSUT", "release.pub.pem")));
    let expected =
        "warning: the environment variable LOCKGATE_TRSUT is not used; did you mean LOCKGATE_TRUST?\n";
    assert_eq!((code, note.as_str()), (0, expected));
    std::fs::remove_file(folder.path("lockgate.toml")).unwrap();
}

#[test]
fn commands_that_load_packages_refuse_what_is_not_trusted() {
    let folder = Folder::prepared();
    let (release, models) = (folder.id("release.pem"), folder.id("models.pem"));
    folder.write("rows.json", format!("[{:?}]", [0.001; 17]));
    folder.write("bare.lgp", folder.read("lr.lgp"));
    folder.sign("release.pem", "lr.lgp");
    let good = folder.read("lr.lgp");
    let content = usize::try_from(u64::from_le_bytes(good[24..32].try_into().unwrap())).unwrap();
    for (name, at) in [("content.lgp", content / 2), ("signature.lgp", good.len() - 1)] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        folder.write(name, bytes);
    }
    let predict = |file: &str, demands: &[&str]| {
        let error = folder.refuse(&[&["predict", file, "--input", "rows.json"], demands].concat());
        assert!(error.contains("\nhint: "), "{error}");
        error.lines().next().unwrap().to_owned()
    };
    let digest = folder.digest("lr.lgp");
    let (short, other) = (&digest[..12], "0".repeat(64));
    let trust = ["--trust", "release.pub.pem"];
    assert_eq!(
        predict("bare.lgp", &trust),
        format!(
            "error[unsigned]: bare.lgp: the model package sha256:{short} is not signed; expected a signature by {release} (release)"
        )
    );
    assert_eq!(
        predict("lr.lgp", &["--trust", "models.pub.pem"]),
        format!(
            "error[unknown_key]: lr.lgp: the model package sha256:{short} is signed by {release}, which is not trusted; expected a signature by {models} (models)"
        )
    );
    assert!(
        predict("signature.lgp", &trust)
            .starts_with("error[bad_signature]: signature.lgp: the model package sha256:")
    );
    assert!(
        predict("content.lgp", &trust)
            .starts_with("error[malformed]: content.lgp: the model package is damaged")
    );
    assert_eq!(
        predict("lr.lgp", &["--pin", &other]),
        format!("error[wrong_pin]: lr.lgp: the model package is sha256:{digest}, pinned is sha256:{other}")
    );
    // A bundle's signature is worth nothing on a package.
    folder.sign("release.pem", "policy.lgb");
    assert!(predict("policy.lgb", &trust).starts_with("error[malformed]: policy.lgb: "));

    // Compiling pins packages, and whoever signs the bundle vouches for them.
    let compile = |more: &[&str]| {
        folder.refuse(
            &[&["policy", "compile", "policy.yaml", "-o", "new.lgb", "--trust", "release.pub.pem"], more]
                .concat(),
        )
    };
    std::fs::create_dir(folder.path("packages")).unwrap();
    std::fs::rename(folder.path("bare.lgp"), folder.path("packages/lr.lgp")).unwrap();
    assert!(compile(&["--packages", "packages"]).starts_with("error[unsigned]: packages/lr.lgp: "));
    folder.sign("models.pem", "packages/lr.lgp");
    assert!(compile(&["--packages", "packages"]).starts_with("error[unknown_key]: packages/lr.lgp: "));
    folder.sign("release.pem", "packages/lr.lgp");
    folder.succeed(&["policy", "compile", "policy.yaml", "-o", "old.lgb", "--packages", "packages"]);
    for named in ["--parent", "--base"] {
        let error = compile(&["--packages", "packages", named, "old.lgb"]);
        assert!(error.starts_with("error[unsigned]: old.lgb: "), "{error}");
    }
    folder.sign("release.pem", "old.lgb");
    let trusted = ["--packages", "packages", "--parent", "old.lgb", "--trust", "release.pub.pem"];
    folder.succeed(&[&["policy", "compile", "policy.yaml", "-o", "new.lgb"], &trusted[..]].concat());
}
