//! `lockgate bake`: a folder that a shell can serve from. What the modules in it answer is tested in `host/bake`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use lockgate_core::{BakedManifest, BakedModules};
use serde_json::Value;

use crate::harness::{POLICY, core, lockgate, packages};

struct Folder(tempfile::TempDir);

impl Folder {
    /// A folder with the policy.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::write(folder.path("policy.yaml"), POLICY).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Bakes into `out`.
    fn bake(&self, arguments: &[&str]) -> Output {
        let core = core(false);
        let out = self.text("out");
        lockgate(&[&["bake", "--core", core.to_str().unwrap(), "--out", &out], arguments].concat())
    }

    /// Bakes policy and packages into `out`.
    fn bake_all(&self, bundle: &str, arguments: &[&str]) -> Output {
        let bundle = self.text(bundle);
        self.bake(&[&["--bundle", &bundle, "--package", packages()], arguments].concat())
    }

    /// What lies in `out`.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.path("out")).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read(entry.path()).unwrap())
            })
            .collect()
    }
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The code of an error, and its sentence.
#[track_caller]
fn refused(output: &Output) -> (String, String) {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    (error["code"].as_str().unwrap_or_default().to_owned(), error["error"].as_str().unwrap().to_owned())
}

#[test]
fn a_folder_holds_what_its_manifest_says_and_is_the_same_each_time() {
    let folder = Folder::new();
    let said = done(&folder.bake_all("policy.yaml", &[]));
    assert!(said.contains("policy.wasm: ") && said.contains("inference.wasm: "), "{said}");
    assert!(said.contains("  0  eurusd_gb@1.1.0, sha256:"), "{said}");
    let files = folder.files();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "about.component.wasm",
            "catalog.json",
            "inference.component.wasm",
            "inference.wasm",
            "manifest.json",
            "policy.component.wasm",
            "policy.wasm"
        ]
    );
    let BakedModules { manifest, policy, inference } = BakedModules::from_dir(&folder.path("out")).unwrap();
    assert_eq!((&policy, &inference), (&files["policy.wasm"], &files["inference.wasm"]));
    assert_eq!(manifest.bundle.as_ref().unwrap().version, 1);
    assert_eq!(manifest.packages.len(), 4);
    let listed: Vec<&str> = manifest.files().collect();
    assert_eq!(listed.len() + 1, names.len(), "{listed:?}");
    let catalog: Value = serde_json::from_slice(&files["catalog.json"]).unwrap();
    assert_eq!(catalog["routes"].as_array().unwrap().len(), 2);

    // The same again, and from a compiled bundle with packages one by one in another order.
    done(&folder.bake_all("policy.yaml", &[]));
    assert!(folder.files() == files);
    let source = folder.text("policy.yaml");
    done(&lockgate(&["policy", "compile", &source, "--packages", packages()]));
    let mut each: Vec<String> = std::fs::read_dir(packages())
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    each.sort();
    each.reverse();
    each.push(each[0].clone());
    let bundle = folder.text("policy.lgb");
    let mut arguments = vec!["--bundle", &bundle];
    each.iter().for_each(|package| arguments.extend(["--package", package]));
    done(&folder.bake(&arguments));
    assert!(folder.files() == files);

    // What was baked before goes: now the policy alone, of which the shell is told what it has to load.
    let json = folder.bake(&["--json", "--bundle", &bundle]);
    assert!(String::from_utf8_lossy(&json.stderr).contains("the shell has to load"));
    let json: Value = serde_json::from_str(&done(&json)).unwrap();
    assert_eq!(json["unbaked"].as_array().unwrap().len(), 4);
    assert_eq!(json["manifest"]["packages"].as_array().unwrap().len(), 0);
    let now = folder.files();
    assert_eq!(now["policy.wasm"], files["policy.wasm"]);
    assert_ne!(now["inference.wasm"], files["inference.wasm"]);
}

#[test]
fn what_cannot_be_baked_is_refused_and_nothing_is_written() {
    let folder = Folder::new();
    assert_eq!(folder.bake(&[]).status.code(), Some(2), "neither a policy nor a package");
    let source = folder.text("policy.yaml");
    let check = |output: &Output, code: &str, words: &str| {
        let (found, text) = refused(output);
        assert_eq!(found, code, "{text}");
        assert!(text.contains(words), "{text}");
        assert!(!folder.path("out").exists());
    };
    // A source that pins nothing needs every package.
    let package = |name: &str| Path::new(packages()).join(name).to_str().unwrap().to_owned();
    let lr = package("eurusd_lr-1.0.0.lgp");
    check(&folder.bake(&["--json", "--bundle", &source, "--package", &lr]), "", "eurusd_gb@1.1.0");
    done(&lockgate(&["policy", "compile", &source, "--packages", packages()]));
    let bundle = folder.text("policy.lgb");
    let missing = folder.bake(&["--json", "--bundle", &bundle, "--package", &lr]);
    check(&missing, "missing_package", "histogram_binary@0.1.0");

    // The settings of trust hold as they do for `serve`.
    done(&lockgate(&["keys", "new", "--output", &folder.text("release.pem")]));
    let key = folder.text("release.pub.pem");
    let trust = ["--json", "--trust", &key, "--require-signatures", "bundle"];
    check(&folder.bake_all("policy.lgb", &["--json", "--trust", &key]), "unsigned", ".lgp: ");
    check(&folder.bake_all("policy.yaml", &trust), "unsigned", "`trust` is set");
    check(&folder.bake_all("policy.lgb", &trust), "unsigned", "policy.lgb: ");
    check(
        &folder.bake_all("policy.lgb", &["--json", "--min-version", "2"]),
        "below_min_version",
        "policy.lgb",
    );
    let zero = "0".repeat(64);
    check(&folder.bake_all("policy.lgb", &["--json", "--pin", &zero]), "wrong_pin", "policy.lgb");
    done(&lockgate(&["keys", "sign", "--key", &folder.text("release.pem"), &bundle]));
    done(&folder.bake_all("policy.lgb", &trust));
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("out")).unwrap();
    for manifest in ["{}", "{ \"modules\": [] }", "no json", "{ \"lockgate_baked\": 2 }"] {
        std::fs::write(folder.path("out/manifest.json"), manifest).unwrap();
        let (code, text) = refused(&folder.bake_all("policy.yaml", &["--json"]));
        assert_eq!(code, "folder_taken");
        assert!(text.contains("holds something else than baked modules"), "{text}");
        assert_eq!(folder.files().len(), 1);
    }
}

#[test]
fn damaged_folders_are_noticed() {
    let folder = Folder::new();
    done(&folder.bake_all("policy.yaml", &[]));
    let out = folder.path("out");
    let check = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>, code: &str, words: &str| {
        let path = out.join(file);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, change(good.clone())).unwrap();
        let error = BakedModules::from_dir(&out).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(file) && error.to_string().contains(words), "{error}");
        std::fs::write(&path, good).unwrap();
    };
    for (file, at) in [("policy.wasm", 100), ("policy.wasm", 50_000), ("inference.wasm", 200_000)] {
        let flip = |mut bytes: Vec<u8>| {
            bytes[at] ^= 1;
            bytes
        };
        check(file, &flip, "image_mismatch", "damaged or another file");
    }
    check("inference.wasm", &|bytes| bytes[..1000].to_vec(), "image_mismatch", "damaged");
    let edit = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from), "{text}");
            text.replacen(from, to, 1).into_bytes()
        }
    };
    let json = "malformed_manifest";
    check("manifest.json", &|bytes| bytes[..100].to_vec(), json, "is no manifest");
    check("manifest.json", &edit("\"lockgate_baked\": 1", "\"lockgate_baked\": 2"), json, "format 2");
    check("manifest.json", &edit("\"lockgate_baked\": 1,", ""), json, "no `lockgate_baked`");
    check("manifest.json", &edit("\"policy.wasm\"", "\"../policy.wasm\""), json, "not the name of a file");
    check("manifest.json", &edit("\"handle\": 1", "\"handle\": 2"), json, "package 1 has handle 2");
    check("manifest.json", &edit("\"flavour\": \"tabular\",", ""), json, "no `flavour`");
    BakedModules::from_dir(&out).unwrap();

    let other = BakedManifest::from_dir(&out).unwrap().inference.identity.to_string();
    let manifest = std::fs::read_to_string(out.join("manifest.json")).unwrap();
    let identity = BakedManifest::from_dir(&out).unwrap().policy.identity.to_string();
    std::fs::write(out.join("manifest.json"), manifest.replace(&identity, &other)).unwrap();
    let error = BakedModules::from_dir(&out).unwrap_err();
    assert_eq!(error.code(), "identity_mismatch", "{error}");
    std::fs::remove_file(out.join("inference.wasm")).unwrap();
    std::fs::write(out.join("manifest.json"), manifest).unwrap();
    assert_eq!(BakedModules::from_dir(&out).unwrap_err().code(), "unreadable_file");
}
