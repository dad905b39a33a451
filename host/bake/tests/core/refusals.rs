//! What is not baked, and what is said about it.

use lockgate_bake::{BakeError, Options, bake};
use lockgate_package::signing::{PrivateKey, Signed, TrustedKey, TrustedKeys};
use lockgate_policy::Placement;
use lockgate_runtime::{Contents, Demands};

use crate::guest::{bake_all, contents};
use crate::support::{self, MODELS, POLICY, World, package};

fn world() -> World {
    World::new(POLICY, &MODELS)
}

/// The error's code, and that its sentence contains these words.
fn check(contents: Contents, demands: &Demands, code: &str, words: &[&str]) {
    let error = bake(&support::core(), contents, demands, &Options::default()).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn what_is_missing_damaged_or_misplaced_is_named() {
    let nothing = Demands::default();
    check(Contents::default(), &nothing, "nothing_to_bake", &["neither a policy nor a package"]);

    let mut without = contents(world());
    without.packages.remove(1);
    check(without, &nothing, "missing_package", &["eurusd_gb@1.1.0, package "]);

    let mut other = contents(world());
    other.packages[0].bytes = package("eurusd_rf_b@1.0.0");
    check(other, &nothing, "missing_package", &["eurusd_lr@1.0.0"]);

    let mut damaged = contents(world());
    let half = damaged.packages[2].bytes.len() / 2;
    damaged.packages[2].bytes[half] ^= 1;
    check(damaged, &nothing, "unusable_package", &["number 3", "damaged"]);

    let mut cut = contents(world());
    cut.bundle.as_mut().unwrap().bytes.truncate(1000);
    check(cut, &nothing, "unusable_bundle", &[]);

    // A package where the bundle belongs, and the reverse.
    let swapped = Contents::unnamed(Some(package("eurusd_lr@1.0.0")), vec![]);
    check(swapped, &nothing, "unusable_bundle", &[]);
    check(Contents::unnamed(None, vec![world().bundle]), &nothing, "unusable_package", &["number 1"]);
}

#[test]
fn what_a_loader_demands_is_demanded_of_what_is_baked() {
    let key = |number: u8| PrivateKey::from_seed(&[number; 32]);
    let sign = |bytes: &[u8], number| Signed::read(bytes).unwrap().sign(&key(number)).unwrap();
    let keys = || TrustedKeys::new([TrustedKey::for_everything(key(1).public(), "release")]);
    let signed = |number| {
        let World { bundle, packages } = world();
        Contents::unnamed(Some(sign(&bundle, number)), packages)
    };
    let demands = Demands { keys: Some(keys()), ..Demands::default() };
    bake(&support::core(), signed(1), &demands, &Options::default()).unwrap();
    check(contents(world()), &demands, "unsigned", &["the bundle"]);
    check(signed(2), &demands, "unknown_key", &["the bundle"]);
    let all = Demands { sign_packages: true, ..demands };
    check(signed(1), &all, "unsigned", &["number 1"]);
    check(
        contents(world()),
        &Demands { min_version: Some(2), ..Demands::default() },
        "below_min_version",
        &["1", "2"],
    );

    // Signatures are outside of what a digest covers, and outside of what is baked.
    let World { bundle, packages } = world();
    let bare = bake_all(&support::core(), Contents::unnamed(Some(bundle), packages)).unwrap();
    let signed = bake_all(&support::core(), signed(1)).unwrap();
    assert_eq!(signed.manifest.bundle, bare.manifest.bundle);
}

#[test]
fn placements_say_which_packages_are_baked() {
    let policy = POLICY.replace("  eurusd_gb@1.1.0:\n", "  eurusd_gb@1.1.0: { placement: host }\n");
    let world = || World::new(&policy, &MODELS);
    let names = |placements: &[Placement]| {
        let options = Options { placements: placements.to_vec(), ..Options::default() };
        let baked = bake(&support::core(), contents(world()), &Demands::default(), &options).unwrap();
        let held: Vec<_> = baked.manifest.packages.into_iter().map(|held| held.model).collect();
        (held.join(" "), baked.unused.join(" "), baked.unbaked.len())
    };
    let owned = |held: &str, unused: &str| (held.to_owned(), unused.to_owned(), 0);
    assert_eq!(names(&[Placement::Edge]), owned("eurusd_lr eurusd_rf_a", "eurusd_gb@1.1.0"));
    let everything = names(&[Placement::Edge, Placement::Host]);
    assert_eq!(everything, owned("eurusd_gb eurusd_lr eurusd_rf_a", ""));

    // The policy alone, for a shell that fetches packages: it is told which.
    let alone = bake_all(&support::core(), Contents::unnamed(Some(world().bundle), vec![])).unwrap();
    assert_eq!(alone.unbaked, ["eurusd_lr@1.0.0", "eurusd_rf_a@1.0.0"]);
    assert!(alone.manifest.packages.is_empty());
    assert_eq!(alone.inference.module, support::core().tabular.bytes());
}

#[test]
fn every_error_has_a_code_and_says_what_to_do_where_that_is_known() {
    let error = BakeError::NoRoom { name: "m@1.0.0".to_owned(), bytes: 200 << 20, limit: 128 << 20 };
    assert_eq!(
        error.to_string(),
        "m@1.0.0 of 209715200 bytes does not fit into what is left of the module's memory of 134217728 bytes"
    );
    assert_eq!(
        (error.code(), error.hint()),
        ("limit_exceeded", Some("bake fewer packages into one module, or a smaller model"))
    );
    assert!(BakeError::Nothing.hint().is_some());
}
