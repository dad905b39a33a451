//! Installing with demands: what is refused, under which code, and that the old stays.

use lockgate_package::signing::{PrivateKey, Signed, TrustedKey, TrustedKeys};
use lockgate_runtime::{
    Accepted, Content, Contents, Demands, Digest, ExpectedParent, InstallError, Installed, Runtime, Trust,
};

use crate::support::{self, MODELS, POLICY, World, package};

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_seed(&[number; 32])
}

fn sign(bytes: &[u8], number: u8) -> Vec<u8> {
    Signed::read(bytes).unwrap().sign(&key(number)).unwrap()
}

/// A bundle of this version with its packages, all signed by key 1.
fn contents(version: u32) -> Contents {
    let policy = POLICY.replace("\nversion: 1\n", &format!("\nversion: {version}\n"));
    let world = World::new(&policy, &MODELS);
    let packages = MODELS.iter().zip(&world.packages);
    Contents {
        bundle: Some(Content::new("policy.lgb", sign(&world.bundle, 1))),
        packages: packages.map(|(name, bytes)| Content::new(format!("{name}.lgp"), sign(bytes, 1))).collect(),
        ..Contents::default()
    }
}

fn bundle(contents: &mut Contents) -> &mut Vec<u8> {
    &mut contents.bundle.as_mut().unwrap().bytes
}

/// Trusts key 1 for everything.
fn demands() -> Demands {
    let keys = TrustedKeys::new([TrustedKey::for_everything(key(1).public(), "release")]);
    Demands { keys: Some(keys), sign_packages: true, ..Demands::default() }
}

fn install(
    runtime: &Runtime,
    contents: Contents,
    demands: Demands,
) -> Result<(Installed, Option<Accepted>), InstallError> {
    let mut recorded = None;
    let mut record = |accepted| {
        recorded = Some(accepted);
        Ok(())
    };
    let installed = runtime.install_contents(contents, Some(Trust { demands, record: &mut record }))?;
    Ok((installed, recorded))
}

fn serving(version: u32) -> Runtime {
    let runtime = Runtime::builder(support::core()).settings(support::settings()).build().unwrap();
    install(&runtime, contents(version), demands()).unwrap();
    runtime
}

/// Tries to install on top of version 2, and sees that version 2 still serves after the refusal.
#[track_caller]
fn check(runtime: &Runtime, contents: Contents, demands: Demands, code: &str, text: &str) {
    let error = install(runtime, contents, demands).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(text), "{error}");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
    assert_eq!(runtime.status().bundle.unwrap().id.version, 2);
}

#[test]
fn what_is_not_trusted_is_refused_and_the_old_stays() {
    let runtime = serving(2);
    let id = key(1).public().id();
    let trusted = format!("expected a signature by {id} (release)");

    let mut unsigned = contents(3);
    *bundle(&mut unsigned) = Signed::read(bundle(&mut unsigned)).unwrap().strip().unwrap();
    check(&runtime, unsigned, demands(), "unsigned", "policy.lgb: the policy bundle sha256:");
    let mut unsigned = contents(3);
    unsigned.packages[1].bytes = package(MODELS[1]);
    check(
        &runtime,
        unsigned.clone(),
        demands(),
        "unsigned",
        &format!("{}.lgp: the model package", MODELS[1]),
    );
    check(&runtime, unsigned, demands(), "unsigned", &trusted);

    let mut stranger = contents(3);
    let bare = Signed::read(bundle(&mut stranger)).unwrap().strip().unwrap();
    *bundle(&mut stranger) = sign(&bare, 2);
    let text = format!("is signed by {}, which is not trusted; {trusted}", key(2).public().id());
    check(&runtime, stranger, demands(), "unknown_key", &text);

    let mut spoilt = contents(3);
    *bundle(&mut spoilt).last_mut().unwrap() ^= 1;
    check(&runtime, spoilt, demands(), "bad_signature", &format!("by the trusted key {id} (release)"));
    let mut damaged = contents(3);
    let middle = bundle(&mut damaged).len() / 2;
    bundle(&mut damaged)[middle] ^= 1;
    check(&runtime, damaged, demands(), "malformed", "policy.lgb: the policy bundle is damaged");

    check(&runtime, contents(1), demands(), "older_version", "which is older than version 2");
    let other = POLICY
        .replace("\nversion: 1\n", "\nversion: 2\n")
        .replace("stable: 50, canary: 50", "stable: 60, canary: 40");
    let mut conflict = contents(2);
    *bundle(&mut conflict) = sign(&World::new(&other, &MODELS).bundle, 1);
    check(&runtime, conflict, demands(), "version_conflict", "accepted as version 2 was sha256:");
    let remembered = Accepted { version: 9, digest: Digest([9; 32]) };
    let later = Demands { newest: Some(remembered), ..demands() };
    check(&runtime, contents(3), later, "older_version", "older than version 9 (sha256:090909090909)");
    let minimum = Demands { min_version: Some(4), ..demands() };
    check(&runtime, contents(3), minimum, "below_min_version", "expected 4 or higher");

    let chain = Demands { parent: ExpectedParent::Newest, ..demands() };
    let text = "version 3 replaces none, expected it to replace sha256:";
    check(&runtime, contents(3), chain, "wrong_parent", text);
    let pin = Demands { pin: Some(Digest([7; 32])), ..Demands::default() };
    check(&runtime, contents(3), pin.clone(), "wrong_pin", "pinned is sha256:0707070707");
    let text = "there is no policy bundle";
    check(&runtime, Contents { bundle: None, ..contents(3) }, pin, "no_bundle", text);

    let mut swapped = contents(3);
    let onnx = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/eurusd/models/eurusd_mlp.onnx");
    let source = serde_json::from_str(r#"{"model": "eurusd_lr", "version": "1.0.0"}"#).unwrap();
    let options = lockgate_package::import::ImportOptions::default();
    let other = lockgate_package::import::import(&std::fs::read(onnx).unwrap(), &source, &options).unwrap();
    swapped.packages[0].bytes = sign(&other, 1);
    let text = "eurusd_lr@1.0.0.lgp is ";
    check(&runtime, swapped, demands(), "wrong_pin", text);
}

#[test]
fn what_is_trusted_is_installed_and_remembered() {
    let runtime = Runtime::builder(support::core()).settings(support::settings()).build().unwrap();
    let (installed, recorded) = install(&runtime, contents(2), demands()).unwrap();
    let id = installed.bundle.unwrap();
    let accepted = Accepted { version: 2, digest: id.digest };
    assert_eq!(recorded, Some(accepted));
    // The same again is fine; what is remembered already is not written again.
    let remembering = Demands { newest: Some(accepted), ..demands() };
    assert_eq!(install(&runtime, contents(2), remembering).unwrap().1, None);
    // Packages need no signature of their own where the signed bundle's word is enough.
    let mut bare = contents(3);
    for (package, name) in bare.packages.iter_mut().zip(MODELS) {
        package.bytes = support::package(name);
    }
    let bundles = Demands { sign_packages: false, ..demands() };
    assert_eq!(install(&runtime, bare.clone(), bundles.clone()).unwrap().0.bundle.unwrap().version, 3);
    // Without a bundle nobody vouches for them.
    let error = install(&runtime, Contents { bundle: None, ..bare }, bundles).unwrap_err();
    assert_eq!(error.code(), "unsigned");
}

#[test]
fn what_cannot_be_remembered_is_not_installed() {
    let runtime = serving(2);
    let mut record = |_| Err("no space left".to_owned());
    let trust = Trust { demands: demands(), record: &mut record };
    let error = runtime.install_contents(contents(3), Some(trust)).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (
            "not_recorded",
            "policy.lgb is not installed, because a restart would forget that its version was accepted: no space left"
        )
    );
    assert_eq!(runtime.status().bundle.unwrap().id.version, 2);
    // Nor does anything else of it linger: version 3 can still be installed.
    install(&runtime, contents(3), demands()).unwrap();
}
